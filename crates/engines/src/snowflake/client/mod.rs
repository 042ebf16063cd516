//! A client of Snowflake's SQL API v2
//! (<https://docs.snowflake.com/en/developer-guide/sql-api/index>).
//!
//! A statement is sent with an id of its own. Where no answer came back it is sent again with the
//! same id and `retry=true`, which Snowflake answers with the outcome of the first if that one
//! arrived, so that nothing runs twice
//! (<https://docs.snowflake.com/en/developer-guide/sql-api/submitting-requests>).

mod account;
mod auth;
mod cell;
mod error;
mod http;
mod rows;
mod statement;
mod wire;

pub use account::{Settings, host};
pub use auth::{Credentials, KeyError, PrivateKey, Secret};
pub use cell::{Column, Type};
pub use error::ClientError;
pub use rows::Rows;
pub use statement::{Client, Pace, Statement};

#[cfg(test)]
pub(super) mod double;
#[cfg(test)]
mod tests;
