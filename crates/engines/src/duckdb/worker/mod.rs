//! SQL in the user's own DuckDB, in a process of its own.
//!
//! A DuckDB linked into unship would be the wrong version for somebody's file, and would take
//! POSIX locks that our own file handling could drop. So SQL goes over pipes to a worker: the
//! Python that already holds `duckdb` for the job, or unship itself re-executed where it was built
//! with the `linked` or `bundled` feature.

#[cfg(feature = "linked")]
mod bundled;
mod cells;
mod client;
mod error;
mod open;
pub mod protocol;
mod python;
#[cfg(test)]
mod tests;

#[cfg(feature = "linked")]
pub use bundled::{serve, start_bundled};
pub use cells::Rows;
pub use client::{Canceller, Worker};
pub use error::{StartError, WorkerError};
pub use open::{Attach, Open};
pub use python::{Found, find_python};

#[cfg(test)]
pub(crate) mod testing;
