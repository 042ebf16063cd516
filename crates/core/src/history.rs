//! The views of the log: which releases there are, what is live, what each relation was when.
//!
//! A view is a pure fold over the log's entries. It is kept on a [`Shelf`], an ordered map that the
//! ledger's backend updates in the same transaction as the append, so that reading it costs the same
//! at ten releases and at a hundred thousand. What is on the shelf can always be thrown away and
//! folded again.

use crate::event::Event;
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::BlobRef;
use crate::plan::PlanId;
use crate::release::{Operation, Release, Stage, Verdict, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// The version of what is kept on the shelf. When it changes, the views are folded again.
pub const VERSION: u32 = 2;

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

/// What is live in an environment, and what is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The live release.
    pub release: ReleaseId,
    /// Since when.
    pub since: Timestamp,
    /// The engine's mark of production when it was last looked at; empty if nobody has looked since
    /// it became live.
    pub mark: String,
    /// How many drifts were recorded since it became live.
    pub drifts: u32,
    /// The place of the live state in the undo stack.
    pub cursor: u64,
    /// The highest place in the undo stack.
    pub top: u64,
    /// What a rollback took away, while nothing has been done since.
    pub taken: Option<ReleaseId>,
}

/// An operation that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The release that it makes.
    pub release: ReleaseId,
    /// Its plan, once there is one: its id, its blob, and the log's place where it stands.
    pub plan: Option<(PlanId, BlobRef, u64)>,
}

/// A release's moments in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Moments {
    published: Option<u64>,
    retired: Option<u64>,
    job: u64,
}

const RELEASE: u8 = b'r';
const MOMENTS: u8 = b't';
const BY_ENV: u8 = b'e';
const LIVE: u8 = b'l';
const OPEN: u8 = b'o';
const STACK: u8 = b's';
const NAMES: u8 = b'n';
const MAP: u8 = b'm';
const KEPT: u8 = b'k';
const PINS: u8 = b'p';

fn key(table: u8, env: &str) -> Vec<u8> {
    let mut key = vec![table];
    key.extend_from_slice(env.as_bytes());
    key.push(0);
    key
}

fn numbered(mut key: Vec<u8>, n: u64) -> Vec<u8> {
    key.extend_from_slice(&n.to_be_bytes());
    key
}

fn release_key(table: u8, id: ReleaseId) -> Vec<u8> {
    numbered(vec![table], id.0)
}

fn relation_key(table: u8, env: &str, name: &RelationName) -> Vec<u8> {
    let mut key = key(table, env);
    for part in [&name.database, &name.schema, &name.name] {
        // No catalog allows NUL in a name, and hostile JSON may hold one: lengths keep keys apart.
        key.extend_from_slice(&(part.len() as u32).to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key
}

fn number_at_end(key: &[u8]) -> Option<u64> {
    let tail = key.len().checked_sub(8).and_then(|at| key.get(at..))?;
    Some(u64::from_be_bytes(tail.try_into().ok()?))
}

fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ShelfError> {
    serde_json::from_slice(bytes).map_err(|_| ShelfError::Damaged {
        what: what.to_owned(),
    })
}

fn write<T: Serialize>(shelf: &mut dyn ShelfMut, key: &[u8], value: &T) -> Result<(), ShelfError> {
    let bytes = serde_json::to_vec(value).map_err(|e| ShelfError::Store(Box::new(e)))?;
    shelf.put(key, &bytes)
}

/// Reads the views.
pub struct History<'a>(pub &'a dyn Shelf);

impl History<'_> {
    fn load<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<Option<T>, ShelfError> {
        self.0.get(key)?.map(|bytes| read(&bytes, what)).transpose()
    }

    /// A release's head.
    pub fn release(&self, id: ReleaseId) -> Result<Option<Release>, ShelfError> {
        self.load(&release_key(RELEASE, id), "a release")
    }

    /// The number that the next release will have. The first is `R0`.
    pub fn next_id(&self) -> Result<ReleaseId, ShelfError> {
        let last = self.0.last_below(&[RELEASE], &[RELEASE + 1])?;
        Ok(ReleaseId(
            last.and_then(|(key, _)| number_at_end(&key))
                .map_or(0, |n| n + 1),
        ))
    }

    /// Releases of an environment, the newest first, from just below `before`.
    pub fn releases(
        &self,
        env: &str,
        before: Option<ReleaseId>,
        limit: usize,
    ) -> Result<Vec<Release>, ShelfError> {
        let prefix = key(BY_ENV, env);
        let below = match before {
            Some(id) => numbered(prefix.clone(), id.0),
            None => {
                let mut end = prefix.clone();
                end.extend_from_slice(&[0xff; 9]);
                end
            }
        };
        let mut out = Vec::new();
        for (key, _) in self.0.scan_back(&prefix, &below, limit)? {
            let id = number_at_end(&key).ok_or_else(|| ShelfError::Damaged {
                what: "the list of releases".to_owned(),
            })?;
            out.extend(self.release(ReleaseId(id))?);
        }
        Ok(out)
    }

    /// What is live.
    pub fn live(&self, env: &str) -> Result<Option<Live>, ShelfError> {
        self.load(&key(LIVE, env), "what is live")
    }

    /// What is under way.
    pub fn open(&self, env: &str) -> Result<Option<Open>, ShelfError> {
        self.load(&key(OPEN, env), "what is under way")
    }

    /// Releases whose points must stay.
    pub fn pins(&self, env: &str) -> Result<Vec<ReleaseId>, ShelfError> {
        let prefix = key(PINS, env);
        let pairs = self.0.scan(&prefix, &prefix, usize::MAX)?;
        Ok(pairs
            .iter()
            .filter_map(|(key, _)| number_at_end(key))
            .map(ReleaseId)
            .collect())
    }

    /// A state on the undo stack.
    pub fn stacked(&self, env: &str, place: u64) -> Result<Option<ReleaseId>, ShelfError> {
        self.load(&numbered(key(STACK, env), place), "the undo stack")
    }

    /// The versions that production has, or had when the release was last live, or that were built
    /// and kept though the release never was live. `None` if nothing is known of it.
    pub fn map(
        &self,
        id: ReleaseId,
    ) -> Result<Option<BTreeMap<RelationName, Version>>, ShelfError> {
        let Some(release) = self.release(id)? else {
            return Ok(None);
        };
        let moments = self.moments(id)?;
        if moments.published.is_some() {
            return Ok(Some(
                self.map_before(&release.env, moments.retired.unwrap_or(u64::MAX))?,
            ));
        }
        let Some(kept) = self.load::<Kept>(&release_key(KEPT, id), "a build that was kept")? else {
            return Ok(None);
        };
        let mut map = self.map_before(&release.env, kept.at)?;
        map.extend(kept.changes);
        Ok(Some(map))
    }

    /// The versions at the moment when the release became live: what it published, before anybody
    /// else wrote.
    pub fn published_map(
        &self,
        id: ReleaseId,
    ) -> Result<Option<BTreeMap<RelationName, Version>>, ShelfError> {
        let Some(release) = self.release(id)? else {
            return Ok(None);
        };
        match self.moments(id)?.published {
            Some(seq) => Ok(Some(self.map_before(&release.env, seq + 1)?)),
            None => Ok(None),
        }
    }

    fn moments(&self, id: ReleaseId) -> Result<Moments, ShelfError> {
        Ok(self
            .load(&release_key(MOMENTS, id), "a release's moments")?
            .unwrap_or_default())
    }

    /// Where in the log the release's job was opened.
    pub fn opened_at(&self, id: ReleaseId) -> Result<u64, ShelfError> {
        Ok(self.moments(id)?.job)
    }

    fn map_before(
        &self,
        env: &str,
        seq: u64,
    ) -> Result<BTreeMap<RelationName, Version>, ShelfError> {
        let prefix = key(NAMES, env);
        let mut map = BTreeMap::new();
        for (_, value) in self.0.scan(&prefix, &prefix, usize::MAX)? {
            let name: RelationName = read(&value, "a relation's name")?;
            let versions = relation_key(MAP, env, &name);
            let below = numbered(versions.clone(), seq);
            if let Some((_, value)) = self.0.last_below(&versions, &below)? {
                map.insert(name, read(&value, "a version")?);
            }
        }
        Ok(map)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    at: u64,
    changes: BTreeMap<RelationName, Version>,
}

/// Folds one entry of the log into the views.
pub fn fold(
    shelf: &mut dyn ShelfMut,
    seq: u64,
    at: Timestamp,
    actor: &str,
    env: &str,
    event: &Event,
) -> Result<(), ShelfError> {
    Fold {
        shelf,
        seq,
        at,
        env,
    }
    .event(actor, event)
}

struct Fold<'a> {
    shelf: &'a mut dyn ShelfMut,
    seq: u64,
    at: Timestamp,
    env: &'a str,
}

impl Fold<'_> {
    fn history<T>(
        &self,
        ask: impl FnOnce(&History<'_>) -> Result<T, ShelfError>,
    ) -> Result<T, ShelfError> {
        let shelf: &dyn Shelf = self.shelf;
        ask(&History(shelf))
    }

    fn story<T>(&self, what: impl Into<String>) -> Result<T, ShelfError> {
        Err(ShelfError::Story {
            seq: self.seq,
            what: what.into(),
        })
    }

    fn change(
        &mut self,
        id: ReleaseId,
        edit: impl FnOnce(&mut Release),
    ) -> Result<Release, ShelfError> {
        let Some(mut release) = self.history(|h| h.release(id))? else {
            return self.story(format!("there is no {id}"));
        };
        edit(&mut release);
        write(self.shelf, &release_key(RELEASE, id), &release)?;
        Ok(release)
    }

    fn event(&mut self, actor: &str, event: &Event) -> Result<(), ShelfError> {
        match event {
            Event::ReleaseOpened {
                release,
                operation,
                parent,
                job,
                code,
            } => self.opened(actor, *release, operation, *parent, job, code),
            Event::DriftSeen {
                release,
                changes,
                mark,
                moved,
            } => {
                let Some(mut live) = self.history(|h| h.live(self.env))? else {
                    return self.story("drift before anything was live");
                };
                if live.release != *release {
                    return self.story(format!("drift of {release}, and {} is live", live.release));
                }
                live.mark.clone_from(mark);
                if !changes.is_empty() {
                    live.drifts += 1;
                }
                write(self.shelf, &key(LIVE, self.env), &live)?;
                self.versions(changes)?;
                self.moved(moved)
            }
            Event::JobEnded { release, end } => self
                .change(*release, |r| r.end = Some(end.clone()))
                .map(drop),
            Event::PlanMade {
                release,
                plan,
                blob,
            } => {
                let open = Open {
                    release: *release,
                    plan: Some((plan.clone(), *blob, self.seq)),
                };
                write(self.shelf, &key(OPEN, self.env), &open)
            }
            Event::ReleasePublished {
                release,
                changes,
                mark,
                moved,
            } => {
                self.published(*release, changes, mark)?;
                self.moved(moved)
            }
            Event::ReleaseAbandoned {
                release,
                reason,
                kept,
            } => {
                let at = self.at;
                self.change(*release, |r| {
                    r.stage = Stage::Abandoned;
                    r.verdict = Verdict::Bad;
                    r.reason = Some(reason.clone());
                    r.closed = Some(at);
                    r.changed = kept.len();
                })?;
                if !kept.is_empty() {
                    let kept = Kept {
                        at: self.seq,
                        changes: kept.clone(),
                    };
                    write(self.shelf, &release_key(KEPT, *release), &kept)?;
                }
                self.shelf.delete(&key(OPEN, self.env))
            }
            Event::ReleaseMarked {
                release,
                verdict,
                reason,
            } => self
                .change(*release, |r| {
                    r.verdict = *verdict;
                    r.reason = Some(reason.clone());
                })
                .map(drop),
            Event::Pinned { release, .. } => {
                self.change(*release, |r| r.pinned = true)?;
                self.shelf
                    .put(&numbered(key(PINS, self.env), release.0), b"")
            }
            Event::Unpinned { release } => {
                self.change(*release, |r| r.pinned = false)?;
                self.shelf.delete(&numbered(key(PINS, self.env), release.0))
            }
            Event::PointTaken { .. }
            | Event::StepStarted(_)
            | Event::StepSucceeded(_)
            | Event::StepFailed { .. }
            | Event::UndoStarted(_)
            | Event::UndoFinished(_)
            | Event::UndoFailed { .. }
            | Event::Verified { .. }
            | Event::HousekeepingDone { .. } => Ok(()),
        }
    }

    fn opened(
        &mut self,
        actor: &str,
        id: ReleaseId,
        operation: &Operation,
        parent: Option<ReleaseId>,
        job: &Option<crate::release::Job>,
        code: &Option<crate::release::Code>,
    ) -> Result<(), ShelfError> {
        let next = self.history(|h| h.next_id())?;
        if id != next {
            return self.story(format!("{id} was opened, and {next} was to be next"));
        }
        // A whole older state keeps its origin, so that the one before it can be found again.
        let origin = match operation {
            Operation::Rollback {
                select: Some(_), ..
            } => id,
            _ => match operation.target() {
                Some(to) => self.history(|h| h.release(to))?.map_or(id, |r| r.origin),
                None => id,
            },
        };
        let release = Release {
            id,
            env: self.env.to_owned(),
            operation: operation.clone(),
            parent,
            origin,
            opened: self.at,
            closed: None,
            actor: actor.to_owned(),
            stage: Stage::Open,
            verdict: Verdict::Good,
            reason: None,
            job: job.clone(),
            end: None,
            code: code.clone(),
            changed: 0,
            pinned: false,
        };
        write(self.shelf, &release_key(RELEASE, id), &release)?;
        let moments = Moments {
            job: self.seq,
            ..Moments::default()
        };
        write(self.shelf, &release_key(MOMENTS, id), &moments)?;
        self.shelf
            .put(&numbered(key(BY_ENV, self.env), id.0), b"")?;
        write(
            self.shelf,
            &key(OPEN, self.env),
            &Open {
                release: id,
                plan: None,
            },
        )
    }

    fn published(
        &mut self,
        id: ReleaseId,
        changes: &BTreeMap<RelationName, Version>,
        mark: &str,
    ) -> Result<(), ShelfError> {
        let at = self.at;
        let release = self.change(id, |r| {
            r.stage = Stage::Published;
            r.closed = Some(at);
            r.changed = changes.len();
        })?;
        let before = self.history(|h| h.live(self.env))?;
        if let Some(before) = &before {
            let mut moments = self.history(|h| h.moments(before.release))?;
            moments.retired = Some(self.seq);
            write(self.shelf, &release_key(MOMENTS, before.release), &moments)?;
        }
        let mut moments = self.history(|h| h.moments(id))?;
        moments.published = Some(self.seq);
        write(self.shelf, &release_key(MOMENTS, id), &moments)?;
        self.versions(changes)?;

        let (cursor, top) = self.stack(&release.operation, id, before.as_ref())?;
        let taken = match &release.operation {
            Operation::Rollback { .. } => before.as_ref().map(|b| b.release),
            _ => None,
        };
        let live = Live {
            release: id,
            since: self.at,
            mark: mark.to_owned(),
            drifts: 0,
            cursor,
            top,
            taken,
        };
        write(self.shelf, &key(LIVE, self.env), &live)?;
        self.shelf.delete(&key(OPEN, self.env))
    }

    /// Undo and redo move along the stack; everything else cuts it off above and goes on top.
    fn stack(
        &mut self,
        operation: &Operation,
        id: ReleaseId,
        before: Option<&Live>,
    ) -> Result<(u64, u64), ShelfError> {
        let Some(before) = before else {
            write(self.shelf, &numbered(key(STACK, self.env), 0), &id)?;
            return Ok((0, 0));
        };
        let (cursor, top) = match operation {
            Operation::Undo { .. } => match before.cursor.checked_sub(1) {
                Some(down) => (down, before.top),
                None => return self.story("an undo below the first state"),
            },
            Operation::Redo { .. } if before.cursor < before.top => (before.cursor + 1, before.top),
            _ => (before.cursor + 1, before.cursor + 1),
        };
        // The state at this place is the new release's from now on, with what others will write to
        // it; the point of the release that had it before may be gone.
        write(self.shelf, &numbered(key(STACK, self.env), cursor), &id)?;
        Ok((cursor, top))
    }

    fn versions(&mut self, changes: &BTreeMap<RelationName, Version>) -> Result<(), ShelfError> {
        for (name, version) in changes {
            write(self.shelf, &relation_key(NAMES, self.env, name), name)?;
            let at = numbered(relation_key(MAP, self.env, name), self.seq);
            write(self.shelf, &at, version)?;
        }
        Ok(())
    }

    /// The same versions, stored elsewhere. Without it a place that a table once had, and got back
    /// with other rows in it, would look like a table that nobody rewrote.
    fn moved(&mut self, moved: &BTreeMap<RelationName, Option<String>>) -> Result<(), ShelfError> {
        for (name, storage) in moved {
            let versions = relation_key(MAP, self.env, name);
            let below = numbered(versions.clone(), u64::MAX);
            let Some((_, value)) = self.shelf.last_below(&versions, &below)? else {
                return self.story(format!("{name} moved and never was there"));
            };
            let mut version: Version = read(&value, "a version")?;
            if let Some(state) = &mut version.state {
                state.storage.clone_from(storage);
            }
            write(self.shelf, &numbered(versions, self.seq), &version)?;
        }
        Ok(())
    }
}
