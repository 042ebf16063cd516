//! PostgreSQL: relations are moved between schemas in one transaction, and everything that hangs on
//! them goes along or is named.

mod access;
pub mod address;
pub mod build;
mod catalog;
pub mod connect;
mod definition;
mod diff;
mod doctor;
mod engine;
mod error;
mod fingerprint;
mod granted;
pub mod layout;
pub mod ledger;
mod observe;
mod parallel;
pub mod plan;
mod profile;
mod query;
pub mod quote;
mod record;
mod remove;
mod retained;
mod rows;
mod session;
pub mod swap;
mod tls;
pub mod undo;
mod writers;

pub use engine::{Postgres, UndoLog};

#[cfg(test)]
mod inputs;
#[cfg(test)]
mod testing;
