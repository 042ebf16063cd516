//! Engines: one folder each.
//! Engines.

pub mod duckdb;
