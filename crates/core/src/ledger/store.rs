//! Where a ledger is kept: in a file of one's own, or shared with a replica at hand.
//!
//! A shared ledger's entries are replicated into a file beside the project. Views are folded there,
//! so that reading is as fast as with a file of one's own, whatever the shared store is; and a
//! shared log that was cut short or rewritten is noticed by everybody who has seen it before.

use super::{
    backend::Backend,
    entry::{Draft, Entry, Head, StoredEntry, link},
    error::LedgerError,
    hash::Hash,
    lease::{Fence, Holder, Lease},
    seal::{Seal, Sealed},
    sqlite::{SqliteLedger, ViewDifference},
};
use rusqlite::Connection;
use std::time::Duration;

/// How many entries are replicated at once.
const BATCH: usize = 1000;

/// A ledger's store.
pub struct Store {
    /// The ledger itself, or the replica of a shared one.
    file: SqliteLedger,
    shared: Option<Box<dyn Backend>>,
}

impl From<SqliteLedger> for Store {
    fn from(file: SqliteLedger) -> Self {
        Self { file, shared: None }
    }
}

impl Store {
    /// A shared ledger, with `replica` brought up to date.
    ///
    /// # Errors
    /// [`LedgerError::Diverged`] if the replica holds what the shared ledger does not, or what keeps
    /// either from being read or written.
    pub fn shared(shared: Box<dyn Backend>, replica: SqliteLedger) -> Result<Self, LedgerError> {
        let mut store = Self {
            file: replica,
            shared: Some(shared),
        };
        store.replicate()?;
        Ok(store)
    }

    /// Reads the views, as [`SqliteLedger::query`].
    ///
    /// # Errors
    /// As there.
    pub fn query<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        self.file.query(read)
    }

    /// Compares the views with the log, as [`SqliteLedger::check_views`].
    ///
    /// # Errors
    /// As there.
    pub fn check_views(&self) -> Result<Vec<ViewDifference>, LedgerError> {
        self.file.check_views()
    }

    /// Makes the views again, as [`SqliteLedger::rebuild_views`].
    ///
    /// # Errors
    /// As there.
    pub fn rebuild_views(&mut self) -> Result<(), LedgerError> {
        self.file.rebuild_views()
    }

    /// Entries for the warehouse's own transaction; `None` if the ledger does not lie there.
    ///
    /// # Errors
    /// [`LedgerError::BadEvent`], or whatever keeps the log's end from being read.
    pub fn seal(
        &self,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Option<Seal>, LedgerError> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let expected = shared.head()?;
        Ok(Some(Seal {
            expected,
            fence: fence.cloned(),
            entries: link(&expected, drafts)?,
        }))
    }

    /// What became of a seal; where it was written, the views know of it afterwards.
    ///
    /// # Errors
    /// Whatever keeps the log from being read.
    pub fn sealed(&mut self, seal: &Seal) -> Result<Sealed, LedgerError> {
        let Some(shared) = &self.shared else {
            return Ok(Sealed::Open);
        };
        let after = shared.read_stored(seal.expected.seq + 1, 1)?;
        match (after.first(), seal.entries.first()) {
            (None, _) => Ok(Sealed::Open),
            (Some(there), Some(ours)) if there.hash == ours.hash => {
                self.replicate()?;
                Ok(Sealed::Written)
            }
            _ => Ok(Sealed::Overtaken),
        }
    }

    fn replicate(&mut self) -> Result<(), LedgerError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        // The last one known is read again: it must still be what it was.
        let known = self.file.head()?;
        let mut from = known.seq.max(1);
        loop {
            let batch = shared.read_stored(from, BATCH)?;
            let is_known = |e: &StoredEntry| e.seq == known.seq && e.hash == known.hash.as_bytes();
            if from == known.seq && !batch.first().is_some_and(is_known) {
                return Err(LedgerError::Diverged { seq: known.seq });
            }
            self.file.replicate(&batch)?;
            match batch.last() {
                Some(last) if batch.len() == BATCH => from = last.seq + 1,
                _ => return Ok(()),
            }
        }
    }

    fn log(&self) -> &dyn Backend {
        self.shared.as_deref().unwrap_or(&self.file)
    }

    fn log_mut(&mut self) -> &mut dyn Backend {
        match &mut self.shared {
            Some(shared) => shared.as_mut(),
            None => &mut self.file,
        }
    }
}

impl Backend for Store {
    fn head(&self) -> Result<Head, LedgerError> {
        self.log().head()
    }

    fn append(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        let entries = self.log_mut().append(expected, drafts, fence)?;
        self.replicate()?;
        Ok(entries)
    }

    fn append_soon(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        let entries = self.log_mut().append_soon(expected, drafts, fence)?;
        self.replicate()?;
        Ok(entries)
    }

    fn read_stored(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, LedgerError> {
        self.log().read_stored(from, limit)
    }

    fn put_blob(&mut self, bytes: &[u8], kind: &str) -> Result<Hash, LedgerError> {
        self.log_mut().put_blob(bytes, kind)
    }

    fn get_blob(&self, hash: &Hash) -> Result<Vec<u8>, LedgerError> {
        self.log().get_blob(hash)
    }

    fn take_lease(
        &mut self,
        env: &str,
        holder: &Holder,
        ttl: Duration,
    ) -> Result<Lease, LedgerError> {
        let lease = self.log_mut().take_lease(env, holder, ttl)?;
        // What the holder before did counts from now on.
        self.replicate()?;
        Ok(lease)
    }

    fn renew_lease(&mut self, lease: &Lease, ttl: Duration) -> Result<Lease, LedgerError> {
        self.log_mut().renew_lease(lease, ttl)
    }

    fn release_lease(&mut self, lease: &Lease) -> Result<(), LedgerError> {
        self.log_mut().release_lease(lease)
    }

    fn lease(&self, env: &str) -> Result<Option<Lease>, LedgerError> {
        self.log().lease(env)
    }
}
