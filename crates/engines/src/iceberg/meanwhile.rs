//! What others set of a table's properties while it was being moved.
//!
//! A commit says which snapshot, schema, spec and sort order it expects, and the protocol has no
//! words for which properties. What others set between the look that a commit was planned from and
//! the commit is therefore told by the look that follows it.

use super::name::RELEASED;
use super::rest::{Commit, LoadTable, Properties, Update};
use std::collections::BTreeSet;
use unship_core::ident::RelationName;

/// What a table's properties are to be after a commit, if nobody else sets any.
#[derive(Debug)]
pub struct Expected {
    uuid: String,
    properties: Properties,
    /// Those that the commit itself sets or removes.
    own: BTreeSet<String>,
    /// The metadata file that it was planned from.
    from: Option<String>,
}

impl Expected {
    /// Of a table as it was seen before a commit; `latest` says that unship changed nothing of it
    /// since.
    pub fn of(before: &LoadTable, commit: &Commit, latest: bool) -> Self {
        let mut properties = before.metadata.properties.clone();
        let mut own = BTreeSet::new();
        for update in &commit.updates {
            match update {
                Update::SetProperties { updates } => {
                    own.extend(updates.keys().cloned());
                    properties.extend(updates.clone());
                }
                Update::RemoveProperties { removals } => {
                    own.extend(removals.iter().cloned());
                    properties.retain(|key, _| !removals.contains(key));
                }
                _ => {}
            }
        }
        own.remove(RELEASED);
        Self {
            uuid: before.metadata.table_uuid.clone(),
            properties,
            own,
            from: before.metadata_location.clone().filter(|_| latest),
        }
    }

    /// What a person should know of it, by the table as it was found afterwards.
    pub fn told(&self, name: &RelationName, after: &LoadTable) -> Vec<String> {
        let now = &after.metadata;
        if now.table_uuid != self.uuid {
            return Vec::new();
        }
        let mut out = Vec::new();
        let keys = self.properties.keys().chain(now.properties.keys());
        let keys: BTreeSet<_> = keys
            .filter(|key| *key != RELEASED)
            .filter(|key| self.properties.get(*key) != now.properties.get(*key))
            .map(String::as_str)
            .collect();
        if !keys.is_empty() {
            out.push(format!(
                "somebody set properties of {name} while it was being moved, and they stay as they \
                 are: {}",
                listed(keys)
            ));
        }
        let before = now.previous.as_ref().zip(self.from.as_ref());
        if let Some((before, _)) = before.filter(|(before, from)| before != from)
            && !self.own.is_empty()
        {
            out.push(format!(
                "somebody committed to {name} right before its properties were set: if they set \
                 {}, that was overwritten; {before} says what it was",
                listed(self.own.iter().map(String::as_str))
            ));
        }
        out
    }
}

fn listed<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    keys.into_iter().collect::<Vec<_>>().join(", ")
}
