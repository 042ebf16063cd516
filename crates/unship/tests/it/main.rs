//! The real binary, with real dbt and real DuckDB.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test says so by panicking"
)]

mod rig;
mod support;

mod crash;
mod disk_full;
mod kills;
mod lease;
mod readers;
mod reading;
mod restore;
mod story;
