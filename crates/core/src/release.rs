//! Releases: maps from relation to version, and what is known of how each came about.

use crate::ident::ReleaseId;
use crate::ledger::BlobRef;
use crate::relation::RelationState;
use crate::rows::Reconciling;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One version of a relation: the release that built it, and, where others wrote to it afterwards,
/// how many times that had been noticed. Written `R12`, or `R12+1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId {
    /// The release that built it.
    pub release: ReleaseId,
    /// Zero for what the release built; n for the n-th drift seen after it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drift: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.release)?;
        if self.drift > 0 {
            write!(f, "+{}", self.drift)?;
        }
        Ok(())
    }
}

/// A relation's place in a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Which version.
    pub id: VersionId,
    /// Whether a guarded job built it (or removed it). What nobody's job built belongs to others:
    /// going back leaves it as it is.
    pub owned: bool,
    /// What was observed; `None` says that the relation is not there in this release.
    pub state: Option<RelationState>,
}

/// What made a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Operation {
    /// unship saw this warehouse for the first time.
    Adopt,
    /// A guarded job.
    Run {
        /// Whether the job built beside production and was then published.
        aside: bool,
        /// The release whose command this is, where it was run again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replays: Option<ReleaseId>,
    },
    /// Back to an older release, wholly or partly.
    Rollback {
        /// Which one.
        to: ReleaseId,
        /// The lineage selector, for a part of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        select: Option<String>,
        /// The rows that come back, where it is not whole relations.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<Box<Reconciling>>,
        /// Which stage of a rollback in stages this is, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<StageOf>,
    },
    /// Tables that are written where they stand, back to a moment between releases, or without what
    /// one writer wrote.
    Moment {
        /// The newest release of that moment, or the one since which the writer wrote.
        to: ReleaseId,
        /// The moment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// The role or the application whose changes alone are taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writer: Option<String>,
        /// The lineage selector, for a part of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        select: Option<String>,
    },
    /// The last operation was taken back.
    Undo {
        /// The release whose state came back.
        to: ReleaseId,
    },
    /// An operation that had been taken back was done again.
    Redo {
        /// The release whose state came back.
        to: ReleaseId,
    },
}

/// A release's place in a rollback that goes stage by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageOf {
    /// The release that the first of them was to make: the name of all of it.
    pub first: ReleaseId,
    /// Which stage, from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
}

impl StageOf {
    /// Whether more are to come: then this is no state that anybody wants to go back to.
    pub fn is_between(&self) -> bool {
        self.number < self.of
    }
}

impl fmt::Display for StageOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} of {}", self.number, self.of)
    }
}

impl Operation {
    /// Which stage of a rollback in stages this is, if it is one.
    pub fn stage(&self) -> Option<StageOf> {
        match self {
            Self::Rollback { stage, .. } => *stage,
            _ => None,
        }
    }

    /// The verb a person reads.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Adopt => "adopt",
            Self::Run { replays: None, .. } => "run",
            Self::Run { .. } => "replay",
            Self::Rollback { .. } | Self::Moment { .. } => "rollback",
            Self::Undo { .. } => "undo",
            Self::Redo { .. } => "redo",
        }
    }

    /// The release whose state this brings back, if it brings one back.
    pub fn target(&self) -> Option<ReleaseId> {
        match self {
            Self::Adopt | Self::Run { .. } => None,
            Self::Rollback { to, .. }
            | Self::Moment { to, .. }
            | Self::Undo { to }
            | Self::Redo { to } => Some(*to),
        }
    }

    /// Whose changes alone this takes back, if not everybody's.
    pub fn writer(&self) -> Option<&str> {
        match self {
            Self::Moment { writer, .. } => writer.as_deref(),
            _ => None,
        }
    }

    /// What a person reads of where this goes back to.
    pub fn whereto(&self) -> String {
        let Self::Moment {
            to,
            at,
            writer,
            select,
        } = self
        else {
            return self.target().map_or_else(String::new, |to| to.to_string());
        };
        let mut out = at.map_or_else(|| to.to_string(), |at| at.to_string());
        if let Some(writer) = writer {
            out.push_str(&format!(", only what {writer} wrote"));
        }
        if let Some(select) = select {
            out.push_str(&format!(", of {select}"));
        }
        out
    }
}

/// The state of the code that a job ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The commit.
    pub commit: String,
    /// The branch, unless detached.
    pub branch: Option<String>,
    /// The commit's author.
    pub author: String,
    /// The commit's first line.
    pub subject: String,
    /// Whether tracked files differed from the commit.
    pub dirty: bool,
    /// BLAKE3 of that difference, where there was one.
    pub diff: Option<String>,
    /// Where in the repository the job ran, seen from its root; empty for the root itself, `None`
    /// where an older unship wrote the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

/// The job that a release ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The command as given.
    pub command: Vec<String>,
    /// Where its program was found: whoever comes later may have another search path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The directory it ran in.
    pub directory: String,
    /// What kind of pipeline it was recognised as.
    pub pipeline: Option<String>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Its exit code; `None` if a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// How long it ran, in milliseconds.
    pub milliseconds: u64,
    /// What it printed.
    pub log: Option<BlobRef>,
    /// What the pipeline left (manifest, run results, …), by name.
    #[serde(default)]
    pub artefacts: BTreeMap<String, BlobRef>,
    /// Versions that matter, by package.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
    /// What went wrong, by the pipeline's own account, each a sentence.
    #[serde(default)]
    pub failures: Vec<String>,
}

/// Where a release is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its job or its steps are under way, or were interrupted.
    Open,
    /// It is, or was, production.
    Published,
    /// It never became production.
    Abandoned,
}

/// What is thought of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is known against it.
    Good,
    /// Its job failed, a check failed, or it was rolled back.
    Bad,
}

/// The head of a release: everything but its map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub id: ReleaseId,
    /// Its environment.
    pub env: String,
    /// What made it.
    pub operation: Operation,
    /// What was live when it was opened; `None` for the first.
    pub parent: Option<ReleaseId>,
    /// The run, adoption or partial rollback whose state this is: itself, unless it brought a whole
    /// older state back.
    pub origin: ReleaseId,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it became production, or was abandoned.
    pub closed: Option<Timestamp>,
    /// Who did it.
    pub actor: String,
    /// Where it is in its life.
    pub stage: Stage,
    /// What is thought of it.
    pub verdict: Verdict,
    /// Why it was abandoned or is thought bad.
    pub reason: Option<String>,
    /// The job, if it ran one.
    pub job: Option<Job>,
    /// How the job ended.
    pub end: Option<JobEnd>,
    /// The code that the job ran.
    pub code: Option<Code>,
    /// How many relations changed with it.
    pub changed: usize,
    /// Whether its point may not be dropped.
    pub pinned: bool,
    /// How many statements unship sent for it, the job's own not counted; `None` where the warehouse
    /// does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements: Option<u64>,
}
