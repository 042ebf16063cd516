//! The embedded backend: one SQLite file.
//!
//! Write-ahead log and `synchronous=FULL`: an append that was acknowledged survives a power loss
//! at the price of one sync, and readers never wait for a writer. What only has to be there when
//! something later is ([`Backend::append_soon`], blobs, leases) is committed with
//! `synchronous=NORMAL`, without a sync: the log is written front to back, so that the next sync
//! makes it durable too. A write-ahead log needs shared memory, so a ledger must not lie on a
//! network file system; a team shares a PostgreSQL ledger.

mod blobs;
mod errors;
mod leases;
mod open;
mod schema;
mod views;

pub use views::{View, ViewDifference};

use super::{
    backend::Backend,
    entry::{Draft, Entry, Head, StoredEntry, link},
    error::LedgerError,
    hash::Hash,
    lease::{Fence, Holder, Lease},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::{borrow::Cow, path::PathBuf, time::Duration};

/// How long a write waits for another process's write.
const BUSY: Duration = Duration::from_secs(10);

/// A ledger in a SQLite file.
pub struct SqliteLedger {
    conn: Connection,
    path: PathBuf,
    views: Vec<Box<dyn View>>,
    read_only: bool,
}

/// When a commit must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// When it returns.
    Now,
    /// When the next one that is durable returns. A crash of the process loses nothing.
    WithNext,
}

impl SqliteLedger {
    /// A transaction that holds the write lock from its beginning, so that what it reads is what
    /// it writes upon.
    fn write(&self, durable: Durable) -> Result<Transaction<'_>, LedgerError> {
        if self.read_only {
            return Err(LedgerError::ReadOnly {
                place: self.place(),
                why: "it was opened for reading only".to_owned(),
            });
        }
        let level = match durable {
            Durable::Now => "FULL",
            Durable::WithNext => "NORMAL",
        };
        self.conn
            .pragma_update(None, "synchronous", level)
            .and_then(|()| Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate))
            .map_err(|e| self.error(e))
    }

    fn append_as(
        &mut self,
        durable: Durable,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        let tx = self.write(durable)?;
        if let Some(fence) = fence {
            leases::check(self, &tx, &fence.env, fence.number)?;
        }
        let actual = head(&tx)
            .map_err(|e| self.error(e))?
            .ok_or_else(|| self.damaged("its last entry has no hash"))?;
        if actual != *expected {
            return Err(LedgerError::HeadMoved {
                expected: expected.seq,
                actual: actual.seq,
            });
        }
        let linked = link(&actual, drafts)?;
        for entry in &linked {
            insert(&tx, entry).map_err(|e| self.error(e))?;
        }
        views::advance(self, &tx, &self.views)?;
        tx.commit().map_err(|e| self.error(e))?;
        linked.iter().map(StoredEntry::check).collect()
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn error(&self, source: rusqlite::Error) -> LedgerError {
        errors::explain(&self.path, source)
    }
}

impl Backend for SqliteLedger {
    fn head(&self) -> Result<Head, LedgerError> {
        head(&self.conn)
            .map_err(|e| self.error(e))?
            .ok_or_else(|| self.damaged("its last entry has no hash"))
    }

    fn append(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.append_as(Durable::Now, expected, drafts, fence)
    }

    fn append_soon(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.append_as(Durable::WithNext, expected, drafts, fence)
    }

    fn read_stored(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, LedgerError> {
        read_stored(&self.conn, from, limit).map_err(|e| self.error(e))
    }

    fn put_blob(&mut self, bytes: &[u8], kind: &str) -> Result<Hash, LedgerError> {
        blobs::put(self, bytes, kind)
    }

    fn get_blob(&self, hash: &Hash) -> Result<Vec<u8>, LedgerError> {
        blobs::get(self, hash)
    }

    fn take_lease(
        &mut self,
        env: &str,
        holder: &Holder,
        ttl: Duration,
    ) -> Result<Lease, LedgerError> {
        leases::take(self, env, holder, ttl)
    }

    fn renew_lease(&mut self, lease: &Lease, ttl: Duration) -> Result<Lease, LedgerError> {
        leases::renew(self, lease, ttl)
    }

    fn release_lease(&mut self, lease: &Lease) -> Result<(), LedgerError> {
        leases::release(self, lease)
    }

    fn lease(&self, env: &str) -> Result<Option<Lease>, LedgerError> {
        leases::standing(self, &self.conn, env)
    }
}

impl SqliteLedger {
    /// Takes in entries of another store of the same log, as they are there. Those that are here
    /// already are passed over.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] for one that does not follow, or whatever keeps the file from being
    /// written.
    pub fn replicate(&mut self, entries: &[StoredEntry]) -> Result<(), LedgerError> {
        if entries.is_empty() {
            return Ok(());
        }
        // A replica can be had again.
        let tx = self.write(Durable::WithNext)?;
        let mut at = head(&tx)
            .map_err(|e| self.error(e))?
            .ok_or_else(|| self.damaged("its last entry has no hash"))?;
        let known = at.seq;
        for stored in entries.iter().filter(|e| e.seq > known) {
            let entry = stored.check()?;
            if entry.seq != at.seq + 1 || entry.prev != at.hash {
                return Err(LedgerError::Corrupt {
                    seq: entry.seq,
                    what: "it does not follow the entry before it".to_owned(),
                });
            }
            insert(&tx, stored).map_err(|e| self.error(e))?;
            at = entry.head();
        }
        views::advance(self, &tx, &self.views)?;
        tx.commit().map_err(|e| self.error(e))
    }

    fn damaged(&self, what: &str) -> LedgerError {
        LedgerError::Damaged {
            place: self.place(),
            what: what.to_owned(),
        }
    }
}

/// The log's end; `None` if the last entry's hash is not 32 bytes long.
fn head(conn: &Connection) -> rusqlite::Result<Option<Head>> {
    let last = conn
        .prepare_cached("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    Ok(match last {
        None => Some(Head::genesis()),
        Some((seq, hash)) => match (u64::try_from(seq), hash.try_into()) {
            (Ok(seq), Ok(hash)) => Some(Head {
                seq,
                hash: Hash::from_bytes(hash),
            }),
            _ => None,
        },
    })
}

fn insert(tx: &Transaction<'_>, entry: &StoredEntry) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO entries (seq, prev, hash, at, actor, env, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        sql_int(entry.seq),
        entry.prev,
        entry.hash,
        entry.at,
        entry.actor,
        entry.env,
        entry.event
    ])?;
    Ok(())
}

fn read_stored(conn: &Connection, from: u64, limit: usize) -> rusqlite::Result<Vec<StoredEntry>> {
    conn.prepare_cached(
        "SELECT seq, prev, hash, at, actor, env, event FROM entries
         WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
    )?
    .query_map(
        params![
            sql_int(from.max(1)),
            i64::try_from(limit).unwrap_or(i64::MAX)
        ],
        stored,
    )?
    .collect()
}

/// Text that is not UTF-8 was not written here. Replacing its bad bytes could give the very text
/// that was, so such an entry is read without its hash, and fails.
fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    let mut is_text = true;
    let mut text = |i| -> rusqlite::Result<String> {
        let value = row.get_ref(i)?;
        let text = String::from_utf8_lossy(value.as_bytes()?);
        is_text &= matches!(text, Cow::Borrowed(_));
        Ok(text.into_owned())
    };
    let (at, actor, env, event) = (text(3)?, text(4)?, text(5)?, text(6)?);
    Ok(StoredEntry {
        seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
        prev: row.get(1)?,
        hash: if is_text { row.get(2)? } else { Vec::new() },
        at,
        actor,
        env,
        event,
    })
}

/// SQLite's integers are signed; no log gets that long.
fn sql_int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a power loss takes can only be tried by a power loss; what SQLite was told to sync can
    /// be asked.
    #[test]
    fn only_what_is_acknowledged_as_durable_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let mut ledger = SqliteLedger::create(&path, Vec::new()).unwrap();
        let draft = Draft {
            at: jiff::Timestamp::now(),
            actor: "anna".to_owned(),
            env: "prod".to_owned(),
            event: json!({"type": "noted"}),
        };
        let level = |ledger: &SqliteLedger| -> i64 {
            let ask = "PRAGMA synchronous";
            ledger.conn.query_row(ask, [], |row| row.get(0)).unwrap()
        };
        let (normal, full) = (1, 2);
        let head = ledger.head().unwrap();
        ledger
            .append_soon(&head, std::slice::from_ref(&draft), None)
            .unwrap();
        assert_eq!(level(&ledger), normal);
        // Another process sees it at once.
        let other = SqliteLedger::open(&path, Vec::new()).unwrap();
        assert_eq!(other.read(1, 9).unwrap().len(), 1);
        ledger.put_blob(b"bytes", "plan").unwrap();
        let head = ledger.head().unwrap();
        ledger
            .append(&head, std::slice::from_ref(&draft), None)
            .unwrap();
        assert_eq!(level(&ledger), full);
        assert_eq!(other.read(1, 9).unwrap().len(), 2);
    }
}
