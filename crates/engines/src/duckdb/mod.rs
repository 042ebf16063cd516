//! DuckDB: one file, or several that are attached together.
//!
//! Restore points and blue-green builds work on the file, without DuckDB; what needs SQL runs in
//! the user's own DuckDB, in a process of its own.

pub mod file;
pub mod layout;
pub mod lock;
pub mod plan;
//! DuckDB: its files are handled as files, without a DuckDB library.

pub mod header;
pub mod store;
//! DuckDB: the embedded default engine.

pub mod sql;
pub mod worker;
