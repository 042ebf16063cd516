//! The views of the log: which releases there are, what is live, what each relation was when.
//!
//! A view is a pure fold over the log's entries. It is kept on a [`Shelf`], an ordered map that the
//! ledger's backend updates in the same transaction as the append, so that reading it costs the same
//! at ten releases and at a hundred thousand. What is on the shelf can always be thrown away and
//! folded again.

mod decided;
mod fold;
mod keys;
mod shelf;
mod staged;
mod told;

pub use decided::{BrokenGlass, Decided};
pub use fold::fold;
pub use shelf::{Pair, Shelf, ShelfError, ShelfMut};
pub use staged::{Ended, Staging};

use crate::check::Tally;
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::BlobRef;
use crate::plan::PlanId;
use crate::release::{Release, Stage, Verdict, Version, VersionId};
use jiff::Timestamp;
use keys::{
    BY_ENV, CHECKED, KEPT, LIVE, MAP, MOMENTS, NAMES, OPEN, PINS, PROFILES, RELEASE, STACK, key,
    number_at_end, numbered, read, relation_key, release_key,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};
use std::collections::BTreeMap;

/// The version of what is kept on the shelf. When it changes, the views are folded again.
pub const VERSION: u32 = 3;

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

/// What checks found of a release when they last looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// When that was.
    pub at: Timestamp,
    /// The findings.
    pub findings: BlobRef,
    /// How many of each sort.
    pub tally: Tally,
    /// How long each sample query took, in microseconds, by the check's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answered: BTreeMap<String, u64>,
}

/// Where a relation's profile is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiled {
    /// The release that changed the relation.
    pub release: ReleaseId,
    /// When it was measured.
    pub at: Timestamp,
    /// What was measured of all that this release changed.
    pub profiles: BlobRef,
}

/// A release's moments in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Moments {
    published: Option<u64>,
    retired: Option<u64>,
    job: u64,
}

/// What was built for a release that never was live, and where in the log that stands.
#[derive(Serialize, Deserialize)]
struct Kept {
    at: u64,
    changes: BTreeMap<RelationName, Version>,
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

    /// What checks found of a release when they last looked.
    pub fn checked(&self, id: ReleaseId) -> Result<Option<Checked>, ShelfError> {
        self.load(&release_key(CHECKED, id), "what checks found")
    }

    /// Where the profiles of a relation are as good releases before `before` left it, the newest
    /// first, at most `limit`. A good release is one that was production and that nothing is known
    /// against.
    pub fn good_profiles(
        &self,
        env: &str,
        name: &RelationName,
        before: ReleaseId,
        limit: usize,
    ) -> Result<Vec<Profiled>, ShelfError> {
        let prefix = relation_key(PROFILES, env, name);
        let mut below = numbered(prefix.clone(), u64::MAX);
        let mut good = Vec::new();
        loop {
            let page = self.0.scan_back(&prefix, &below, 2 * limit.max(1))?;
            let Some((last, _)) = page.last() else {
                return Ok(good);
            };
            below.clone_from(last);
            for (_, value) in &page {
                let profiled: Profiled = read(value, "where a profile is")?;
                let release = self.release(profiled.release)?;
                let is_good = release
                    .is_some_and(|r| r.stage == Stage::Published && r.verdict == Verdict::Good);
                if is_good && profiled.release < before {
                    good.push(profiled);
                }
                if good.len() == limit {
                    return Ok(good);
                }
            }
        }
    }

    /// The versions that production has, or had when the release was last live, or that were built
    /// and kept though the release never was live. `None` if nothing is known of it.
    pub fn map(
        &self,
        id: ReleaseId,
    ) -> Result<Option<BTreeMap<RelationName, Version>>, ShelfError> {
        self.map_of(id)
    }

    /// The same, of each version as much as is asked for.
    fn map_of<V: DeserializeOwned + From<Version>>(
        &self,
        id: ReleaseId,
    ) -> Result<Option<BTreeMap<RelationName, V>>, ShelfError> {
        let Some(release) = self.release(id)? else {
            return Ok(None);
        };
        let moments = self.moments(id)?;
        if moments.published.is_some() {
            return Ok(Some(
                self.map_before(&release.env, moments.retired.unwrap_or(u64::MAX))?,
            ));
        }
        let Some(kept) = self.kept(id)? else {
            return Ok(None);
        };
        let mut map = self.map_before(&release.env, kept.at)?;
        map.extend(kept.changes.into_iter().map(|(name, v)| (name, v.into())));
        Ok(Some(map))
    }

    /// One relation of [`History::map`].
    pub fn version(
        &self,
        id: ReleaseId,
        name: &RelationName,
    ) -> Result<Option<Version>, ShelfError> {
        let Some(release) = self.release(id)? else {
            return Ok(None);
        };
        let moments = self.moments(id)?;
        if moments.published.is_some() {
            return self.version_before(&release.env, name, moments.retired.unwrap_or(u64::MAX));
        }
        let Some(mut kept) = self.kept(id)? else {
            return Ok(None);
        };
        match kept.changes.remove(name) {
            Some(version) => Ok(Some(version)),
            None => self.version_before(&release.env, name, kept.at),
        }
    }

    /// The relations that are there in [`History::map`], each as which version, without their states:
    /// what many releases hold is asked for at once.
    pub fn versions(
        &self,
        id: ReleaseId,
    ) -> Result<Option<BTreeMap<RelationName, VersionId>>, ShelfError> {
        let map = self.map_of::<Held>(id)?;
        Ok(map.map(|map| {
            let there = map.into_iter().filter(|(_, held)| held.state.is_some());
            there.map(|(name, held)| (name, held.id)).collect()
        }))
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

    fn map_before<V: DeserializeOwned>(
        &self,
        env: &str,
        seq: u64,
    ) -> Result<BTreeMap<RelationName, V>, ShelfError> {
        let prefix = key(NAMES, env);
        let mut map = BTreeMap::new();
        for (_, value) in self.0.scan(&prefix, &prefix, usize::MAX)? {
            let name: RelationName = read(&value, "a relation's name")?;
            if let Some(version) = self.version_before(env, &name, seq)? {
                map.insert(name, version);
            }
        }
        Ok(map)
    }

    fn version_before<V: DeserializeOwned>(
        &self,
        env: &str,
        name: &RelationName,
        seq: u64,
    ) -> Result<Option<V>, ShelfError> {
        let versions = relation_key(MAP, env, name);
        let below = numbered(versions.clone(), seq);
        match self.0.last_below(&versions, &below)? {
            Some((_, value)) => Ok(Some(read(&value, "a version")?)),
            None => Ok(None),
        }
    }

    fn kept(&self, id: ReleaseId) -> Result<Option<Kept>, ShelfError> {
        self.load(&release_key(KEPT, id), "a build that was kept")
    }
}

/// As much of a version as says which one it is and whether the relation is there in it.
#[derive(Deserialize)]
struct Held {
    id: VersionId,
    state: Option<IgnoredAny>,
}

impl From<Version> for Held {
    fn from(version: Version) -> Self {
        Self {
            id: version.id,
            state: version.state.map(|_| IgnoredAny),
        }
    }
}
