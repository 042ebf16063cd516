//! What unship asks of a DuckDB, in SQL, through a worker.

mod blocks;
pub mod catalog;
mod definition;
pub mod diff;
pub mod fingerprint;
mod lexer;
mod observe;
pub mod others;
pub mod profile;
pub mod quote;
mod reads;
pub mod restore;
pub mod rows;
mod storage;

#[cfg(test)]
mod tests;
