//! Engines: one folder each.

pub mod duckdb;
pub mod postgres;
mod quote;
