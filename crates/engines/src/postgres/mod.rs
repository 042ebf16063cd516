//! PostgreSQL: relations are moved between schemas in one transaction, and everything that hangs on
//! them goes along or is named.

pub mod address;
pub mod connect;
mod error;
pub mod ledger;
pub mod quote;
pub mod swap;
mod tls;

#[cfg(test)]
mod testing;
