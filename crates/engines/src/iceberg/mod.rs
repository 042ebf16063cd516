//! Apache Iceberg tables behind a REST catalog: references are moved, and no data.

mod act;
mod action;
mod branch;
mod bring;
mod build;
mod commit;
mod doctor;
mod engine;
mod foreign;
mod keep;
pub mod kept;
mod look;
mod meanwhile;
mod name;
mod plan;
mod point;
pub mod rest;
mod rows;
mod sight;
mod state;
mod survey;
mod tags;

pub use engine::{Iceberg, Settings};
pub use name::parts as namespace;
#[cfg(feature = "delta")]
pub(crate) use name::schema;
pub use rows::Sql;
#[cfg(feature = "delta")]
pub(crate) use state::canonical;
