//! DuckDB: one file, or several that are attached together.
//!
//! Restore points and blue-green builds work on the file, without DuckDB; what needs SQL runs in
//! the user's own DuckDB, in a process of its own.

mod assemble;
mod carry_out;
mod doctor;
mod engine;
mod facts;
pub mod file;
pub mod header;
mod keep;
pub mod layout;
pub mod lock;
mod observe;
pub mod plan;
mod query;
mod retained;
mod rows;
mod sessions;
pub mod sql;
pub mod store;
#[cfg(test)]
mod tests;
pub mod worker;

pub use engine::{DuckDb, Settings};
