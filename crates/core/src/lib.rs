//! The meaning of unship: no terminal, no HTTP, no engine driver.
//!
//! A warehouse is a set of relations, and each relation has versions. A release is a map from
//! relation to version. Production is a pointer to a release.

pub mod approve;
pub mod check;
pub mod decide;
pub mod diff;
pub mod engine;
pub mod estate;
pub mod event;
pub mod execute;
pub mod fault;
pub mod history;
pub mod ident;
pub mod incident;
pub mod journal;
pub mod ledger;
pub mod lineage;
pub mod log;
pub mod notice;
pub mod operate;
pub mod others;
pub mod pipeline;
pub mod plan;
pub mod quarantine;
pub mod relation;
pub mod release;
pub mod restore;
pub mod rows;
pub mod stages;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod value;
