//! Engines: one folder each.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod duckdb;
pub mod http;
pub mod iceberg;
pub mod postgres;
pub mod quote;
pub mod snowflake;
