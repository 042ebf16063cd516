//! Moves between schemas, on a real PostgreSQL. `UNSHIP_TEST_POSTGRES` says where one is.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

mod carry;
mod concurrent;
mod db;
mod real;
mod refusals;
