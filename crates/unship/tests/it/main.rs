//! The real binary, with real dbt and real DuckDB.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops where something is wrong, and says what it did"
)]

mod rig;
mod support;

mod acting;
mod adapter_fixtures;
mod checks;
mod crash;
mod dbt_cloud;
mod dbt_package;
mod decisions;
mod declared;
#[cfg(feature = "delta")]
mod delta;
mod disk_full;
mod estate;
mod files;
mod hazards;
mod jobs;
mod kills;
mod lake;
mod lake_duckdb;
mod lease;
mod loaders;
mod meanwhile;
mod no_duckdb;
mod postgres;
mod projects;
mod readers;
mod reading;
mod replay;
mod restore;
mod rows;
mod settings;
mod snowflake;
mod spark;
mod spark_dbt;
mod spark_evolution;
mod spark_fixtures;
mod spark_keep;
mod stages;
mod story;
mod tell;
mod three_engines;
mod undo_log;
