//! Proof that the log is what was appended.
//!
//! A change to any entry breaks the chain at that entry or the next. What a chain cannot show by
//! itself is that its newest entries were cut off, or that all of it was made anew; for that, keep
//! a [`super::HeadStatement`] somewhere else.

use super::{
    backend::Backend,
    entry::{Head, StoredEntry},
    error::LedgerError,
    hash::{BlobRef, Hash},
};
use serde_json::Value;
use std::{collections::HashSet, fmt};

/// How many entries are read at once.
const BATCH: usize = 1000;

/// How far from its place a displaced entry is looked for. Only the wording depends on it.
const NEIGHBOURHOOD: u64 = 10_000;

/// Whether the blobs that entries name are read too. That takes as long as reading all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// Read every blob once and compare it with its hash.
    Check,
    /// Look at entries only.
    Skip,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// The last entry that is proved to follow from the known good head.
    pub good: Head,
    /// How many entries were proved.
    pub entries: u64,
    /// The first entry that is not what was appended; what follows it is not proved.
    pub broken: Option<Break>,
    /// How many blobs were read and found good.
    pub blobs: u64,
    /// Blobs that a proved entry names and that are missing or corrupt.
    pub bad_blobs: Vec<BadBlob>,
}

impl ChainReport {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.broken.is_none() && self.bad_blobs.is_empty()
    }
}

/// Where the chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The entry's place.
    pub seq: u64,
    /// What happened to it.
    pub how: Tampering,
}

/// What happened to an entry, as far as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tampering {
    /// Its contents do not have the hash that it carries.
    Edited,
    /// Another entry, with a right hash of its own, stands in its place.
    Replaced,
    /// It is gone, and so are all up to the one before `next`; `None` if nothing follows.
    Removed {
        /// The first entry after the gap, by the place it was appended at.
        next: Option<u64>,
    },
    /// It stands in the place of one that is further on.
    Reordered {
        /// The place that it was appended at.
        appended_at: u64,
    },
    /// It was never appended: the entry that follows it was appended at this place.
    Inserted,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq;
        match self.how {
            Tampering::Edited => write!(
                f,
                "entry {seq} was edited: its contents do not have the hash it carries"
            ),
            Tampering::Replaced => write!(
                f,
                "entry {seq} was replaced: the chain does not pass through it"
            ),
            Tampering::Removed { next: None } => {
                write!(f, "entry {seq} and all after it were removed")
            }
            Tampering::Removed { next: Some(next) } if next == seq + 1 => {
                write!(f, "entry {seq} was removed")
            }
            Tampering::Removed { next: Some(next) } => {
                write!(f, "entries {seq} to {} were removed", next - 1)
            }
            Tampering::Reordered { appended_at } => write!(
                f,
                "the order was changed: at place {seq} stands the entry appended as {appended_at}"
            ),
            Tampering::Inserted => write!(f, "entry {seq} was inserted: it was never appended"),
        }
    }
}

/// A blob that cannot be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBlob {
    /// The first entry that names it.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// What is wrong with it, in words.
    pub what: String,
}

/// Proves the log from `since` (a head known to be good, or [`Head::genesis`]) to entry `up_to`,
/// or to its end.
///
/// # Errors
/// Whatever keeps the store from being read at all. What is wrong with the log is in the report.
pub fn verify_chain(
    backend: &dyn Backend,
    since: &Head,
    up_to: Option<u64>,
    blobs: Blobs,
) -> Result<ChainReport, LedgerError> {
    let mut report = ChainReport {
        good: *since,
        entries: 0,
        broken: None,
        blobs: 0,
        bad_blobs: Vec::new(),
    };
    if since.seq > 0 {
        let there = backend.read_stored(since.seq, 1)?;
        report.broken = match there.first() {
            Some(e) if e.seq == since.seq && !e.is_intact() => Some(Tampering::Edited),
            Some(e) if e.seq == since.seq && e.hash == since.hash.as_bytes() => None,
            Some(e) if e.seq == since.seq => Some(Tampering::Replaced),
            other => Some(Tampering::Removed {
                next: other.map(|e| e.seq),
            }),
        }
        .map(|how| Break {
            seq: since.seq,
            how,
        });
    }
    let mut seen = HashSet::new();
    let wanted = |seq: u64| up_to.is_none_or(|last| seq <= last);
    'log: while report.broken.is_none() && wanted(report.good.seq + 1) {
        let batch = backend.read_stored(report.good.seq + 1, BATCH)?;
        for entry in &batch {
            let seq = report.good.seq + 1;
            if !wanted(seq) {
                break 'log;
            }
            let follows = entry.seq == seq && entry.prev == report.good.hash.as_bytes();
            let Some(checked) = follows.then(|| entry.check().ok()).flatten() else {
                report.broken = Some(explain(backend, &report.good, entry)?);
                break 'log;
            };
            report.good = checked.head();
            report.entries += 1;
            if blobs == Blobs::Check {
                named_blobs(&checked.event, &mut |blob| {
                    if seen.insert(blob.0) {
                        check_blob(backend, seq, blob.0, &mut report)
                    } else {
                        Ok(())
                    }
                })?;
            }
        }
        if batch.len() < BATCH {
            if let Some(last) = up_to
                && report.good.seq < last
            {
                report.broken = Some(Break {
                    seq: report.good.seq + 1,
                    how: Tampering::Removed { next: None },
                });
            }
            break;
        }
    }
    Ok(report)
}

/// Says what is wrong with `entry`, the first that does not follow from `good`.
///
/// The kinds are told apart by what a genuine entry cannot help carrying: its hash covers the
/// place it was appended at, and the hash of the entry that was before it.
fn explain(backend: &dyn Backend, good: &Head, entry: &StoredEntry) -> Result<Break, LedgerError> {
    let seq = good.seq + 1;
    let here = |how| Ok(Break { seq, how });
    if entry.seq != seq {
        return here(Tampering::Removed {
            next: Some(entry.seq),
        });
    }
    let next = backend.read_stored(seq + 1, 1)?;
    let next = next.first();
    if entry.is_intact() {
        // It was appended at this place, or made to look so. If the next entry follows it, the one
        // before it is the stranger.
        return match next {
            Some(next) if next.is_intact() && next.prev == entry.hash && good.seq > 0 => {
                Ok(Break {
                    seq: good.seq,
                    how: Tampering::Replaced,
                })
            }
            _ => here(Tampering::Replaced),
        };
    }
    let is_from =
        |entry: &StoredEntry, seq: u64| entry.hash_at(seq).as_bytes().as_slice() == entry.hash;
    if good.seq > 0 && is_from(entry, good.seq) {
        // It belongs where the last good one stands, which must have been put there, well linked.
        return Ok(Break {
            seq: good.seq,
            how: Tampering::Inserted,
        });
    }
    if next.is_some_and(|next| is_from(next, seq)) {
        // The next one belongs here. Was this one put before it, or did the two change places?
        return match is_from(entry, seq + 1) {
            true => here(Tampering::Reordered {
                appended_at: seq + 1,
            }),
            false => here(Tampering::Inserted),
        };
    }
    match (seq + 1..=seq.saturating_add(NEIGHBOURHOOD)).find(|from| is_from(entry, *from)) {
        Some(from) if stands_later(backend, seq, &entry.prev)? => {
            here(Tampering::Reordered { appended_at: from })
        }
        Some(from) => here(Tampering::Removed { next: Some(from) }),
        None => here(Tampering::Edited),
    }
}

/// Whether an entry with this hash is still in the log, after place `seq`.
fn stands_later(backend: &dyn Backend, seq: u64, hash: &[u8]) -> Result<bool, LedgerError> {
    let mut from = seq + 1;
    loop {
        let batch = backend.read_stored(from, BATCH)?;
        if batch.iter().any(|entry| entry.hash == hash) {
            return Ok(true);
        }
        match batch.last() {
            Some(last) if batch.len() == BATCH => from = last.seq + 1,
            _ => return Ok(false),
        }
    }
}

fn check_blob(
    backend: &dyn Backend,
    seq: u64,
    hash: Hash,
    report: &mut ChainReport,
) -> Result<(), LedgerError> {
    match backend.get_blob(&hash) {
        Ok(_) => report.blobs += 1,
        Err(e @ (LedgerError::BlobMissing { .. } | LedgerError::BlobCorrupt { .. })) => {
            report.bad_blobs.push(BadBlob {
                seq,
                hash,
                what: e.to_string(),
            });
        }
        Err(other) => return Err(other),
    }
    Ok(())
}

/// Every string of the event that is a [`BlobRef`].
fn named_blobs(
    value: &Value,
    found: &mut impl FnMut(BlobRef) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    match value {
        Value::String(text) => text.parse().map_or(Ok(()), found),
        Value::Array(items) => items.iter().try_for_each(|item| named_blobs(item, found)),
        Value::Object(map) => map.values().try_for_each(|item| named_blobs(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
