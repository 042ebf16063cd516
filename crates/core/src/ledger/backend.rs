//! What any store of a ledger must be able to do.

use super::{
    entry::{Draft, Entry, Head, StoredEntry},
    error::LedgerError,
    hash::Hash,
    lease::{Fence, Holder, Lease},
};
use std::time::Duration;

/// A ledger's store.
///
/// A backend needs only compare-and-set appends, reads, content-addressed blobs, and one fenced
/// lease per environment. Whatever it acknowledges must survive a crash, and unless said otherwise a
/// power loss. Linking
/// and hashing are the same for all ([`super::entry::link`]), so that one [`super::verify_chain`]
/// proves all.
pub trait Backend: Send {
    /// Where the log ends now.
    ///
    /// # Errors
    /// Whatever keeps the store from being read.
    fn head(&self) -> Result<Head, LedgerError>;

    /// Appends all drafts, or none, if the log still ends at `expected` and `fence` still stands.
    ///
    /// No fence is needed for what any person may record at any time (an approval, a pin).
    ///
    /// # Errors
    /// [`LedgerError::Fenced`], [`LedgerError::HeadMoved`], [`LedgerError::BadEvent`], or whatever
    /// keeps the store from being written.
    fn append(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError>;

    /// The same for what only has to be there when something later is: it survives a crash of the
    /// process, and a power loss as soon as anything that was appended after it does. Nothing may be
    /// done in the world on its strength before that.
    ///
    /// # Errors
    /// As for [`Backend::append`].
    fn append_soon(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.append(expected, drafts, fence)
    }

    /// Up to `limit` entries from place `from` on, in order, exactly as they are stored. Only
    /// [`super::verify_chain`] wants entries that nobody has checked; use [`Backend::read`].
    ///
    /// # Errors
    /// Whatever keeps the store from being read.
    fn read_stored(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, LedgerError>;

    /// Up to `limit` entries from place `from` (1 is the first) on, in order.
    ///
    /// Every entry is checked against its hash and against the entry before it in the answer.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] with the first entry that is missing or not what was appended.
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Entry>, LedgerError> {
        check_run(from.max(1), &self.read_stored(from.max(1), limit)?)
    }

    /// Keeps `bytes`, once, under their hash. `kind` says what they are (`"manifest"`), so that
    /// they can be stored as the difference from an earlier blob of that kind. It survives a power
    /// loss as soon as an entry that was appended after it does: only entries refer to blobs.
    ///
    /// # Errors
    /// [`LedgerError::BlobTooLarge`], or whatever keeps the store from being written.
    fn put_blob(&mut self, bytes: &[u8], kind: &str) -> Result<Hash, LedgerError>;

    /// The bytes with this hash.
    ///
    /// # Errors
    /// [`LedgerError::BlobMissing`], or [`LedgerError::BlobCorrupt`] if what is stored does not
    /// have this hash.
    fn get_blob(&self, hash: &Hash) -> Result<Vec<u8>, LedgerError>;

    /// Tries once to take the lease on `env` for `ttl`: it must be free, expired, or held by a
    /// process that is provably dead. Waiting is the caller's.
    ///
    /// # Errors
    /// [`LedgerError::Held`] with the lease that stands in the way.
    fn take_lease(
        &mut self,
        env: &str,
        holder: &Holder,
        ttl: Duration,
    ) -> Result<Lease, LedgerError>;

    /// Lets a lease run for `ttl` from now. One that has expired and that nobody else has taken
    /// can still be renewed.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if it is no longer the caller's: it must stop.
    fn renew_lease(&mut self, lease: &Lease, ttl: Duration) -> Result<Lease, LedgerError>;

    /// Gives a lease back. Giving back one that was lost already changes nothing.
    ///
    /// # Errors
    /// Whatever keeps the store from being written.
    fn release_lease(&mut self, lease: &Lease) -> Result<(), LedgerError>;

    /// The lease on `env` that was taken and not given back, expired or not.
    ///
    /// # Errors
    /// Whatever keeps the store from being read.
    fn lease(&self, env: &str) -> Result<Option<Lease>, LedgerError>;
}

/// Believes a run of entries that must begin at place `from`.
pub(super) fn check_run(from: u64, run: &[StoredEntry]) -> Result<Vec<Entry>, LedgerError> {
    let mut entries: Vec<Entry> = Vec::with_capacity(run.len());
    for (stored, seq) in run.iter().zip(from..) {
        if stored.seq != seq {
            return Err(LedgerError::Corrupt {
                seq,
                what: "it is missing".to_owned(),
            });
        }
        let entry = stored.check()?;
        if entries.last().is_some_and(|last| last.hash != entry.prev) {
            return Err(LedgerError::Corrupt {
                seq,
                what: "it does not follow the entry before it".to_owned(),
            });
        }
        entries.push(entry);
    }
    Ok(entries)
}
