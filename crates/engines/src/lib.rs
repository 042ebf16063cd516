//! Engines: one folder each.

pub mod duckdb;
