//! What is so at the moment of a decision.

use crate::check::{Finding, Outcome, Severity};
use crate::ident::{RelationName, ReleaseId};
use crate::release::Code;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its id.
    pub check: String,
    /// The relation that it looked at, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<RelationName>,
    /// How bad it is.
    pub severity: Severity,
}

impl Failed {
    /// The failed ones of what checks found.
    pub fn of(findings: &[Finding]) -> Vec<Self> {
        findings
            .iter()
            .filter(|finding| finding.outcome == Outcome::Fail)
            .map(|finding| Self {
                check: finding.check.clone(),
                relation: finding.relation.clone(),
                severity: finding.severity,
            })
            .collect()
    }

    /// `unique_key of shop.core.orders (critical)`.
    pub fn words(&self) -> String {
        match &self.relation {
            Some(relation) => format!("{} of {relation} ({})", self.check, self.severity),
            None => format!("{} ({})", self.check, self.severity),
        }
    }
}

/// The way back to the release before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Back {
    /// A plan could be made.
    Planned {
        /// The release that it goes back to.
        to: ReleaseId,
        /// How many relations it changes.
        relations: usize,
        /// What it cannot bring back.
        irreversible: Vec<String>,
        /// Rows that others wrote to what it replaces, by relation: a rollback would set them
        /// aside.
        others: BTreeMap<RelationName, String>,
        /// About how long it takes by what it does, in milliseconds.
        expected: u64,
    },
    /// None can be made, or none was.
    None {
        /// Why.
        why: String,
    },
}

/// How long things took before, in milliseconds, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Rollbacks, from the first step until they were production.
    pub rollbacks: Vec<u64>,
    /// Jobs that ended well.
    pub jobs: Vec<u64>,
}

/// Everything that a decision depends on, beside the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The environment.
    pub environment: String,
    /// The release that is decided on.
    pub release: Option<ReleaseId>,
    /// When it is decided.
    pub now: Timestamp,
    /// When the release became production; `None` if it has not.
    pub published: Option<Timestamp>,
    /// What failed.
    pub failed: Vec<Failed>,
    /// How many checks could not tell.
    pub unknown: usize,
    /// What each selection of the policy's rules picks, of the relations that failed.
    #[serde(default)]
    pub selected: BTreeMap<String, BTreeSet<RelationName>>,
    /// How many relations read what failed, directly or through others.
    pub dependents: usize,
    /// How many exposures do.
    pub exposures: usize,
    /// Who answers for all that.
    pub owners: BTreeSet<String>,
    /// The way back.
    pub back: Back,
    /// How many automatic rollbacks there were in the last 24 hours.
    pub automatic: u32,
    /// How long things took before.
    #[serde(default)]
    pub measured: Measured,
    /// The code of the release.
    #[serde(default)]
    pub code: Option<Code>,
    /// The code of the release that the way back leads to.
    #[serde(default)]
    pub code_before: Option<Code>,
}

impl Facts {
    /// How long the release has been production.
    pub fn live_for(&self) -> Option<SignedDuration> {
        self.published.map(|at| self.now.duration_since(at))
    }
}
