//! What unship asks of a DuckDB, in SQL, through a worker.

pub mod quote;
