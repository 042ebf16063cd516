//! Engines: one folder each.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

#[cfg(feature = "delta")]
pub mod delta;
pub mod duckdb;
pub mod http;
pub mod iceberg;
pub mod postgres;
pub mod quote;
pub mod snowflake;
