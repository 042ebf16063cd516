//! What an engine is asked to bring about, and how it says that it would do it.

use super::Point;
use crate::ident::{RelationName, ReleaseId};
use crate::plan::{Fact, Step};
use crate::relation::RelationState;
use crate::release::{Version, VersionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a restore shall bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The release that will be made by it.
    pub release: ReleaseId,
    /// What is live now.
    pub live: ReleaseId,
    /// The live versions, what others wrote since included.
    pub live_map: BTreeMap<RelationName, Version>,
    /// Relations to bring, with the wanted version.
    pub bring: BTreeMap<RelationName, Version>,
    /// Relations to remove.
    pub remove: BTreeSet<RelationName>,
    /// Retained states and what each holds.
    pub points: Vec<PointMap>,
    /// Releases whose points must outlive this: what is renamed into place is cloned instead.
    #[serde(default)]
    pub pinned: BTreeSet<ReleaseId>,
    /// Relations into which what others wrote is put again, with the engine's own part of how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keep: BTreeMap<RelationName, serde_json::Value>,
    /// Only what this role or application wrote is taken back, in tables whose changes are written
    /// down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// What jobs build, each after all that it reads, as far as their lineage is known. Told only to
    /// engines that change one relation after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub built_in_order: Vec<RelationName>,
    /// When others wrote to relations that are replaced, the oldest first, since the release gone back
    /// to was live. Told only to engines that [ask for it](super::Engine::wants_spells).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spells: BTreeMap<RelationName, Vec<Spell>>,
}

/// A time in which only others wrote to a relation: after one release was made, and before the job
/// of the next one began, or until now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// What the release had made of it.
    pub from: RelationState,
    /// What it was at the end.
    pub to: RelationState,
}

/// What a publish shall bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The release that was built.
    pub release: ReleaseId,
    /// What is live now.
    pub live: ReleaseId,
    /// The live versions: what gives way is retained under the version that it is.
    pub live_map: BTreeMap<RelationName, Version>,
    /// What the build changes, with the versions afterwards. What else the job left is no part of
    /// the release.
    pub changes: BTreeMap<RelationName, Version>,
    /// What others wrote meanwhile.
    pub carry: Carry,
}

/// What others wrote beside a build, and must be in it before it becomes production.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    /// Relations as they are in production now.
    pub bring: BTreeSet<RelationName>,
    /// Relations that are no longer there.
    pub remove: BTreeSet<RelationName>,
}

/// A point and the versions in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointMap {
    /// The point.
    pub point: Point,
    /// The relations that it holds, each as which version.
    pub map: BTreeMap<RelationName, VersionId>,
}

/// An engine's answer to a restore request or a publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// In order; each names the ones it comes after.
    pub steps: Vec<Step>,
    /// How it is done and why so, a sentence for the plan.
    pub method: String,
    /// What this cannot bring back, each a sentence.
    pub irreversible: Vec<String>,
    /// What else a person should know of it, each a sentence.
    pub notes: Vec<String>,
    /// What must be there for it (free disk, a worker, a lock), each a sentence.
    pub needs: Vec<String>,
    /// Bytes that will be copied or written.
    pub bytes: u64,
    /// Relations that will not be what was asked for, because rows that others wrote to them stay in
    /// them: what they will be.
    pub mixed: BTreeMap<RelationName, RelationState>,
    /// What the changes go by beyond the guards of their steps, and would be refused without. Looking
    /// at it twice is for where another warehouse changes before this one: then it must be found
    /// before anything has changed.
    pub relies: Vec<Fact>,
}
