//! Branches on which an engine writes rows that unship does not: no reader looks at them, and what
//! lies there becomes production by a commit that names it.

use super::act::{Hands, key};
use super::name;
use super::rest::{Commit, Doing, Reference, Requirement, TableMetadata, Update};
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;

/// What their names begin with.
const PREFIX: &str = "unship_rows_";

/// Whether a branch is one of these.
pub fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What removes a branch.
pub fn removal(branch: &str) -> Update {
    Update::RemoveSnapshotRef {
        ref_name: branch.to_owned(),
    }
}

/// One of them.
#[derive(Debug)]
pub struct Branch<'a> {
    relation: &'a RelationName,
    uuid: String,
    /// Its name, which no other has.
    pub name: String,
}

impl<'a> Branch<'a> {
    /// One of a table, that is not there yet.
    pub fn new(relation: &'a RelationName, metadata: &TableMetadata) -> Self {
        let tail: String = key(&relation.to_string()).chars().rev().take(12).collect();
        Self {
            relation,
            uuid: metadata.table_uuid.clone(),
            name: format!("{PREFIX}{tail}"),
        }
    }

    /// Makes it, and removes those that were left before.
    pub fn begin(
        &self,
        hands: &Hands<'_>,
        metadata: &TableMetadata,
        at: i64,
    ) -> Result<(), EngineError> {
        let base = Reference {
            snapshot_id: at,
            r#type: "branch".to_owned(),
            max_ref_age_ms: None,
            max_snapshot_age_ms: None,
            min_snapshots_to_keep: None,
        };
        let left = metadata.refs.keys().filter(|name| is_own(name));
        let mut updates: Vec<_> = left.map(|name| removal(name)).collect();
        updates.push(Update::point(&self.name, &base));
        self.commit(hands, updates, "make a branch of")
    }

    /// Takes it away.
    pub fn remove(&self, hands: &Hands<'_>) -> Result<(), EngineError> {
        self.commit(hands, vec![removal(&self.name)], "remove a branch of")
    }

    fn commit(
        &self,
        hands: &Hands<'_>,
        updates: Vec<Update>,
        what: &str,
    ) -> Result<(), EngineError> {
        let Some(identifier) = name::identifier(self.relation) else {
            return Ok(());
        };
        let commit = Commit {
            identifier,
            requirements: vec![Requirement::AssertTableUuid {
                uuid: self.uuid.clone(),
            }],
            updates,
        };
        let sent = hands.client.commit(&commit, &key(&self.name));
        sent.doing(&format!("{what} {}", self.relation))
    }
}
