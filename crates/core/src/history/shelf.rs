//! What the views are kept on: an ordered map that a ledger's backend provides.

/// An ordered map of bytes to bytes.
pub trait Shelf {
    /// The value at a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError>;
    /// The last key below `below` that begins with `prefix`, and its value.
    fn last_below(&self, prefix: &[u8], below: &[u8]) -> Result<Option<Pair>, ShelfError>;
    /// Keys that begin with `prefix` and are at or above `from`, ascending, at most `limit`.
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, ShelfError>;
    /// Keys that begin with `prefix` and are below `below`, descending, at most `limit`.
    fn scan_back(&self, prefix: &[u8], below: &[u8], limit: usize)
    -> Result<Vec<Pair>, ShelfError>;
}

/// A shelf that can be written.
pub trait ShelfMut: Shelf {
    /// Sets a key's value.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), ShelfError>;
    /// Removes a key.
    fn delete(&mut self, key: &[u8]) -> Result<(), ShelfError>;
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Why a view cannot be read or folded.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The store under it failed.
    #[error("the views of the ledger cannot be read or written")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is on the shelf is not what the fold put there.
    #[error(
        "the views of the ledger are damaged ({what}); `unship fsck` rebuilds them from the log"
    )]
    Damaged {
        /// Where.
        what: String,
    },
    /// The log tells a story that cannot be.
    #[error("entry {seq} of the ledger does not follow from what is before it: {what}")]
    Story {
        /// The entry.
        seq: u64,
        /// What is wrong.
        what: String,
    },
}
