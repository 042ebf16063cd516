//! The ledger: one append-only, hash-chained log per project, and everything that is kept with it.
//!
//! - [`entry`]: what an entry is, and how it is hashed onto the one before it;
//! - [`backend`]: what any store of a ledger must be able to do;
//! - [`lease`]: who may run in an environment, and what fences off the one who lost that right;
//! - [`packed`]: how large values are stored;
//! - [`sqlite`]: the embedded backend, one file;
//! - [`store`]: a file of one's own, or a shared log with a replica at hand;
//! - [`seal`]: entries that become durable together with what they tell of;
//! - [`verify`]: proof that nothing in the log was changed;
//! - [`statement`]: the log's head as text that outside tools can sign.
//!
//! Event payloads are typed elsewhere. Here an event is any JSON object with a `"type"`.

pub mod backend;
pub mod entry;
pub mod error;
pub mod hash;
pub mod lease;
pub mod packed;
pub mod seal;
pub mod sqlite;
pub mod statement;
pub mod store;
pub mod verify;

pub use backend::Backend;
pub use entry::{Draft, Entry, Head, StoredEntry};
pub use error::LedgerError;
pub use hash::{BlobRef, Hash};
pub use lease::{Fence, Holder, Lease, LeaseState};
pub use seal::{Seal, Sealed};
pub use sqlite::{SqliteLedger, View};
pub use statement::HeadStatement;
pub use store::Store;
pub use verify::{ChainReport, verify_chain};

#[cfg(test)]
mod tests;
