//! What an undo log tells: where tables stood, and what changed in them.

use crate::ident::RelationName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a table with an undo log stood at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Where its rows were, as an observation of then would have said.
    pub storage: String,
    /// When it was last changed before, if it was.
    pub last: Option<Timestamp>,
}

/// What is known of tables with an undo log at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments {
    /// The tables whose log reaches it.
    pub relations: BTreeMap<RelationName, Moment>,
    /// The tables whose log does not, with why: a clause after their names.
    pub uncovered: BTreeMap<RelationName, String>,
}

/// A change of one table that its engine wrote down: all that one transaction did to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it was last written in it.
    pub at: Timestamp,
    /// What was done (`insert`, `truncate`); `on` turned the log on, `back` is a rollback, and of
    /// `unseen` the rows are not known.
    pub operations: Vec<String>,
    /// The role that did it.
    pub role: String,
    /// The application, as it calls itself; may be empty.
    pub application: String,
    /// The release whose job did it, where the job's session says so.
    pub release: Option<String>,
    /// Rows that came.
    pub come: u64,
    /// Rows that went; an updated row went and came.
    pub gone: u64,
    /// What else there is to know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
