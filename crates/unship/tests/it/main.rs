//! The real binary, with real dbt and real DuckDB.

mod support;

mod reading;
mod restore;
mod story;
