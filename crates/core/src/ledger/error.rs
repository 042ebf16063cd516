//! What can go wrong with a ledger, and what to do about it.

use super::{hash::Hash, lease::Lease};

/// A ledger operation that was not done. Nothing of it was written, unless a variant says so.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else appended first.
    #[error(
        "the log moved on: it was expected to end at entry {expected} and ends at entry {actual}; \
         read the new entries and decide again"
    )]
    HeadMoved {
        /// Where the caller thought the log ended.
        expected: u64,
        /// Where it ends.
        actual: u64,
    },
    /// The caller's lease is no longer its own, so it must not act any more.
    #[error(
        "the lease on `{env}` was lost{}; stop, and look at `unship status` before starting again",
        match by { Some(lease) => format!(" to {}", lease.holder), None => String::new() }
    )]
    Fenced {
        /// The environment.
        env: String,
        /// The lease that stands now; `None` if it was released.
        by: Option<Box<Lease>>,
    },
    /// Another holder has the lease.
    #[error("`{}` is in use by {}; wait until it has finished", .0.env, .0.holder)]
    Held(Box<Lease>),
    /// Another process is writing, and did not finish in time.
    #[error(
        "{place} is busy: another process has been writing to it for more than {seconds} s; try again"
    )]
    Busy {
        /// The ledger's file or address.
        place: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// An entry is not what was appended.
    #[error("entry {seq} of the log is corrupt: {what}; run `unship audit verify`")]
    Corrupt {
        /// Its place.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A shared log is not the one that this machine has seen.
    #[error(
        "the shared log no longer holds entry {seq}, which this machine has seen: it was cut short \
         or rewritten, or the database was restored from a backup"
    )]
    Diverged {
        /// The last entry that was seen.
        seq: u64,
    },
    /// The store itself is damaged.
    #[error("the ledger {place} is damaged: {what}")]
    Damaged {
        /// The ledger's file or address.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something else is where the ledger should be.
    #[error("{place} is not an unship ledger; nothing in it was touched")]
    NotALedger {
        /// The file or address.
        place: String,
    },
    /// A newer unship wrote it.
    #[error(
        "{place} has format {found}, and this unship knows formats up to {known}; \
         use the newer unship that wrote it"
    )]
    Newer {
        /// The ledger's file or address.
        place: String,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// There is none.
    #[error("there is no ledger at {place}, or it is empty")]
    NotFound {
        /// The file or address.
        place: String,
    },
    /// No room left.
    #[error("the disk is full at {place}; nothing was recorded; free some space and try again")]
    DiskFull {
        /// The ledger's file or address.
        place: String,
    },
    /// It may be read, not written.
    #[error("{place} cannot be written: {why}")]
    ReadOnly {
        /// The ledger's file or address.
        place: String,
        /// Why not.
        why: String,
    },
    /// The operating system refused.
    #[error("{place}: {source}")]
    Io {
        /// The file.
        place: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// The store's driver answered with something that has no better name here.
    #[error("{place}: {source}")]
    Store {
        /// The ledger's file or address.
        place: String,
        /// Its answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An event that could not be read back exactly as it was given.
    #[error("this event cannot be logged: {why}")]
    BadEvent {
        /// What is wrong with it.
        why: String,
    },
    /// No blob has this hash.
    #[error("the log has no blob {hash}")]
    BlobMissing {
        /// The blob's hash.
        hash: Hash,
    },
    /// A blob is stored, and is not what was put.
    #[error("blob {hash} is corrupt: {what}; restore the ledger from a backup")]
    BlobCorrupt {
        /// The blob's hash.
        hash: Hash,
        /// What is wrong with it.
        what: String,
    },
    /// Too large to be kept in a ledger.
    #[error("a blob of {size} bytes is too large for the log, which takes up to {limit}")]
    BlobTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest size in bytes.
        limit: u64,
    },
    /// A derived view could not take an entry in.
    #[error("view `{view}` could not be brought up to date: {what}")]
    View {
        /// The view.
        view: &'static str,
        /// What it said.
        what: String,
    },
    /// A head statement's project has a line break or another control character in it.
    #[error("{name:?} cannot be a project's name: it has control characters in it")]
    BadProject {
        /// The name.
        name: String,
    },
}
