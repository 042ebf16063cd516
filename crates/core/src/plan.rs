//! Plans: exactly what will be done, as data, before anything is done.

use crate::ident::{RelationName, ReleaseId};
use crate::release::{Operation, Version, VersionId};
use crate::stages::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The version of the plan format. A plan of a newer one than [`IN_STAGES`] is refused.
pub const FORMAT: u32 = 1;

/// The version of a plan in stages, which has no steps of its own: who knows nothing of stages must
/// not carry it out.
pub const IN_STAGES: u32 = 2;

/// Something observable, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What is looked at, in the engine's own words (`file /data/shop.duckdb`).
    pub subject: String,
    /// What it is, as the engine prints it.
    pub is: String,
}

impl Fact {
    /// Puts the two together.
    pub fn new(subject: impl Into<String>, is: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            is: is.into(),
        }
    }
}

/// An engine's own action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Which one.
    pub kind: String,
    /// Its arguments.
    pub args: serde_json::Value,
}

/// One thing to do. What must be true before it is its guard; what is true after it, its
/// expectation. Undoing a step swaps the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number in the plan, from 1.
    pub id: u32,
    /// The steps that must have succeeded before it.
    pub after: Vec<u32>,
    /// The engine that carries it out.
    pub engine: String,
    /// The relations that it touches; empty means all of the database.
    pub relations: Vec<RelationName>,
    /// What to do.
    pub action: Action,
    /// The statements that will be run, where there are any, as they will be run.
    pub statements: Vec<String>,
    /// What must hold before.
    pub guard: Vec<Fact>,
    /// What holds after.
    pub expect: Vec<Fact>,
    /// How to take it back, where that is possible.
    pub undo: Option<Action>,
    /// Whether production changes in this step.
    pub production: bool,
    /// A sentence for a person.
    pub explain: String,
}

/// What a plan does to one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationImpact {
    /// The live version, if it is there now.
    pub from: Option<VersionId>,
    /// The version it will have, if it will be there.
    pub to: Option<VersionId>,
    /// Rows now, if counted.
    pub rows_now: Option<u64>,
    /// Rows afterwards, if counted.
    pub rows_then: Option<u64>,
    /// Columns that appear (+) or vanish (-), or change type (~).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// What a plan does to some rows of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsImpact {
    /// The version that they come from.
    pub from: VersionId,
    /// How many go out of production; they are retained.
    pub out: u64,
    /// How many come in.
    pub back: u64,
}

/// What a plan touches, and what it leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// The relations that change.
    pub changes: BTreeMap<RelationName, RelationImpact>,
    /// How many relations stay as they are.
    pub untouched: usize,
    /// Rows or schema that others wrote since the live release, outside of what this plan changes;
    /// they stay.
    pub kept: BTreeMap<RelationName, String>,
    /// Relations that should go back and cannot: others wrote to them where they stand, and no older
    /// copy is kept. They stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stay: BTreeMap<RelationName, String>,
    /// The same, inside of what this plan changes; they are put into the version that comes back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replayed: BTreeMap<RelationName, String>,
    /// The same, inside of what this plan changes; they are set aside with the retained version.
    pub set_aside: BTreeMap<RelationName, String>,
    /// Relations of which only some rows change, with how many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<RelationName, RowsImpact>,
    /// Relations that read a changed one and are not part of the plan.
    pub stale: Vec<RelationName>,
    /// Bytes that are copied or written; a rename is none.
    pub bytes: u64,
}

/// What will be done, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT`], or [`IN_STAGES`].
    pub format: u32,
    /// The environment.
    pub env: String,
    /// The release that it makes.
    pub release: ReleaseId,
    /// The operation that it carries out.
    pub operation: Operation,
    /// The release that is live now.
    pub from: ReleaseId,
    /// How it is done and why so.
    pub method: String,
    /// The steps, in order. A plan in stages has none: those of a stage are made of what is there
    /// when its turn comes, and change what this plan says or nothing.
    pub steps: Vec<Step>,
    /// The stages, in order, where it is not carried out at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// What it touches.
    pub impact: Impact,
    /// What it cannot bring back.
    pub irreversible: Vec<String>,
    /// What else a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What must be there.
    pub needs: Vec<String>,
    /// Where a run found the rows of relations that it left as they were, if not where they had
    /// been stored before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moved: BTreeMap<RelationName, Option<String>>,
    /// What the release changes against the one that is live: the versions afterwards.
    pub result: BTreeMap<RelationName, Version>,
}

/// A plan's id: BLAKE3 over its canonical JSON (RFC 8785), in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PlanId {
    /// Of a plan's [canonical](Plan::canonical) JSON.
    pub fn of(canonical: &[u8]) -> Self {
        Self(blake3::hash(canonical).to_hex().to_string())
    }

    /// Enough of it for a person: the first twelve digits.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Text that is not a plan this version can carry out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not JSON, or not a plan.
    #[error("this is not a plan")]
    NotAPlan(#[from] serde_json::Error),
    /// Of a newer unship.
    #[error("this plan has format {0}, and this unship reads formats up to {IN_STAGES}")]
    Newer(u32),
}

impl Plan {
    /// The canonical JSON that the id is taken of.
    pub fn canonical(&self) -> Result<Vec<u8>, PlanError> {
        Ok(serde_json_canonicalizer::to_vec(self)?)
    }

    /// About how long it takes, judged by what it does and not by this machine: a move of a
    /// relation takes a millisecond or less, and slow disks write 200 MB/s.
    pub fn expected(&self) -> Duration {
        const STEP: Duration = Duration::from_millis(50);
        const MOVE: Duration = Duration::from_millis(1);
        const BYTES_A_MILLISECOND: u64 = 200_000;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        STEP.saturating_mul(count(self.steps.len()))
            .saturating_add(MOVE.saturating_mul(count(self.impact.changes.len())))
            .saturating_add(Duration::from_millis(
                self.impact.bytes / BYTES_A_MILLISECOND,
            ))
    }

    /// The plan's id.
    pub fn id(&self) -> Result<PlanId, PlanError> {
        Ok(PlanId::of(&self.canonical()?))
    }

    /// Reads a plan.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let Probe { format } = serde_json::from_slice(bytes)?;
        if format > IN_STAGES {
            return Err(PlanError::Newer(format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}
