//! What others wrote to a relation since it was published, and what becomes of it when an older
//! version takes the relation's place.

use crate::relation::RelationState;
use serde::{Deserialize, Serialize};

/// What a person says is to become of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// Nothing was said: where others wrote to what is replaced, it is not replaced.
    #[default]
    Ask,
    /// What they added is put into the older version; what cannot be is a reason not to begin.
    Keep,
    /// It stays in the retained version, and is named.
    SetAside,
    /// It is given up: it goes when the retained version goes, and nobody is told of it again.
    Drop,
}

/// What others wrote to one relation since it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Rows that were not there.
    pub added: u64,
    /// Rows that were there, and are changed or gone.
    pub lost: u64,
    /// Who wrote, where the server can tell.
    pub writers: Vec<String>,
    /// How what they added is put into the version that is wanted, or why it cannot be.
    pub keep: Result<Replay, String>,
}

/// How rows that others added are put into an older version.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// How many will be in it.
    pub rows: u64,
    /// Those that are not put into it, because another row has their key there, each in words; the
    /// older version's row stays. At most a few are named.
    pub conflicts: Vec<String>,
    /// How many there are in all.
    pub conflicting: u64,
    /// What the relation will be; `None` where only the steps that are planned can say it.
    pub after: Option<RelationState>,
    /// The engine's own part.
    pub engine: serde_json::Value,
}

impl Written {
    /// What others did, in words.
    pub fn words(&self) -> String {
        let rows = |n: u64| crate::operate::count(usize::try_from(n).unwrap_or(usize::MAX), "row");
        let mut parts = Vec::new();
        if self.added > 0 {
            parts.push(format!("{} added", rows(self.added)));
        }
        if self.lost > 0 {
            parts.push(format!("{} changed or deleted", rows(self.lost)));
        }
        if parts.is_empty() {
            parts.push("no row added, changed or deleted".to_owned());
        }
        let who = match self.writers.as_slice() {
            [] => "writer unknown".to_owned(),
            some => format!("by {}", some.join(", ")),
        };
        format!("{} ({who})", parts.join(" and "))
    }
}

impl Replay {
    /// What becomes of them, in words.
    pub fn words(&self) -> String {
        let rows = |n: u64| crate::operate::count(usize::try_from(n).unwrap_or(usize::MAX), "row");
        let mut text = format!("{} put into the older version", rows(self.rows));
        if self.conflicting > 0 {
            text = format!(
                "{text}; {} in conflict with it, which stay in the retained version only: {}",
                rows(self.conflicting),
                self.conflicts.join("; ")
            );
        }
        text
    }
}
