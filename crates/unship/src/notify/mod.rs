//! Telling people: routes, messages, and an outbox in the ledger.
//!
//! What is to be told is written down first and sent afterwards, by this command or the next, so
//! that no rollback waits for a mail server and nobody is told twice after a crash.

mod channel;
pub mod compose;
pub mod config;
pub mod escalate;
pub mod live;
pub mod outbox;

pub use channel::{SendError, send};
