//! One table's part of going back, and of taking that back.

use super::action::{ABSENT, subject};
use super::name::{self, KEPT, RELEASED};
use super::rest::{Commit, Identifier, Properties, Reference, Requirement, TableMetadata, Update};
use super::state::{self, TableState};
use std::collections::BTreeMap;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::plan::Fact;

/// The branch that readers see.
pub const MAIN: &str = "main";

/// A table's way from what it is to what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    id: Identifier,
    uuid: String,
    main: Option<Reference>,
    to: Option<i64>,
    numbers: Numbers,
    /// The tag that keeps what it is now.
    pub tag: Option<String>,
    /// The tag or branch that has kept what it is to be.
    proof: Option<(String, i64)>,
    /// What changes, but for the mark.
    pub updates: Vec<Update>,
    undo: Vec<Update>,
    mark: Option<String>,
    /// What it says of rows that were brought over, before and after; `None`, that stays.
    kept: Option<(Option<String>, String)>,
}

/// Which schema, spec and sort order count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    schema: i64,
    spec: i64,
    sort: i64,
}

/// What brings a table to where it was. `live` is the release that it is now; `proof` the tag that
/// points to the snapshot that is wanted.
pub fn to(
    id: &Identifier,
    now: &TableMetadata,
    wanted: &TableState,
    live: ReleaseId,
    proof: Option<&str>,
) -> Moved {
    let current = state::current(now);
    let main = now.refs.get(MAIN).cloned().or_else(|| {
        // A table of format version 1 may know its snapshot and no branch.
        current.map(|snapshot_id| Reference {
            snapshot_id,
            r#type: "branch".to_owned(),
            max_ref_age_ms: None,
            max_snapshot_age_ms: None,
            min_snapshots_to_keep: None,
        })
    });
    let tag = current.map(|_| name::tag(live, |name| now.refs.contains_key(name)));
    let mut updates = Vec::new();
    let mut undo = Vec::new();
    if let (Some(tag), Some(current)) = (&tag, current) {
        updates.push(Update::point(tag, &Reference::tag(current)));
    }
    if current != wanted.snapshot {
        updates.push(point(main.as_ref(), wanted.snapshot));
        undo.push(point(main.as_ref(), current));
    }
    let numbers = Numbers {
        schema: now.current_schema_id,
        spec: now.default_spec_id,
        sort: now.default_sort_order_id,
    };
    numbered(now, wanted, &mut updates, &mut undo);
    properties(&now.properties, &wanted.properties, &mut updates);
    properties(&wanted.properties, &now.properties, &mut undo);
    Moved {
        id: id.clone(),
        uuid: now.table_uuid.clone(),
        main,
        to: wanted.snapshot,
        numbers,
        tag,
        proof: proof.map(str::to_owned).zip(wanted.snapshot),
        updates,
        undo,
        mark: now.properties.get(RELEASED).cloned(),
        kept: None,
    }
}

/// What makes production of what rows of others were brought over to, on a branch: the version that
/// comes back, with them. `says` is what the table says of them afterwards.
pub fn with_others(
    id: &Identifier,
    now: &TableMetadata,
    wanted: &TableState,
    live: ReleaseId,
    (branch, says): (&str, &str),
) -> Moved {
    let mut moved = to(id, now, wanted, live, Some(branch));
    let before = now.properties.get(KEPT).cloned();
    moved.kept = Some((before, says.to_owned()));
    moved
}

/// What makes production of what a job built on a branch: `main` goes where the branch is, which is
/// what was checked and nothing later, and the branch goes away.
pub fn onto(
    id: &Identifier,
    now: &TableMetadata,
    checked: &TableState,
    live: ReleaseId,
    branch: &str,
) -> Moved {
    let mut moved = to(id, now, checked, live, Some(branch));
    moved.updates.push(Update::RemoveSnapshotRef {
        ref_name: branch.to_owned(),
    });
    let there = now.refs.get(branch);
    moved
        .undo
        .extend(there.map(|there| Update::point(branch, there)));
    moved
}

/// What holds a table that was made aside and has got its name to what was checked.
pub fn held(id: &Identifier, now: &TableMetadata, checked: &TableState, live: ReleaseId) -> Moved {
    let mut moved = to(id, now, checked, live, None);
    // Nothing gives way.
    moved.tag = None;
    moved.updates.clear();
    moved
}

/// Points `main` somewhere, with the retention that it has.
fn point(main: Option<&Reference>, to: Option<i64>) -> Update {
    match to {
        Some(snapshot_id) => Update::point(
            MAIN,
            &Reference {
                snapshot_id,
                r#type: "branch".to_owned(),
                max_ref_age_ms: main.and_then(|m| m.max_ref_age_ms),
                max_snapshot_age_ms: main.and_then(|m| m.max_snapshot_age_ms),
                min_snapshots_to_keep: main.and_then(|m| m.min_snapshots_to_keep),
            },
        ),
        None => Update::RemoveSnapshotRef {
            ref_name: MAIN.to_owned(),
        },
    }
}

/// The schema, spec and sort order that are wanted: those that the table still has by their number,
/// others anew.
fn numbered(
    now: &TableMetadata,
    wanted: &TableState,
    updates: &mut Vec<Update>,
    undo: &mut Vec<Update>,
) {
    let parts: [Part<'_>; 3] = [
        (
            (&now.schemas, "schema-id", now.current_schema_id),
            &wanted.schema,
            |schema| Update::AddSchema { schema },
            |schema_id| Update::SetCurrentSchema { schema_id },
        ),
        (
            (&now.partition_specs, "spec-id", now.default_spec_id),
            &wanted.spec,
            |spec| Update::AddSpec { spec },
            |spec_id| Update::SetDefaultSpec { spec_id },
        ),
        (
            (&now.sort_orders, "order-id", now.default_sort_order_id),
            &wanted.sort,
            |sort_order| Update::AddSortOrder { sort_order },
            |sort_order_id| Update::SetDefaultSortOrder { sort_order_id },
        ),
    ];
    for ((all, key, current), wanted, add, set) in parts {
        let found = state::number_of(all, key, wanted);
        if found == Some(current) {
            continue;
        }
        if found.is_none() {
            let mut new = wanted.clone();
            if let Some(map) = new.as_object_mut() {
                map.insert(key.to_owned(), state::free_number(all, key).into());
            }
            updates.push(add(new));
        }
        updates.push(set(found.unwrap_or(LAST_ADDED)));
        undo.push(set(current));
    }
}

/// A table's numbered things of one sort, by which key they are numbered and which one counts now;
/// the one that is wanted; and how one is added and made to count.
type Part<'a> = (
    (&'a [serde_json::Value], &'static str, i64),
    &'a serde_json::Value,
    fn(serde_json::Value) -> Update,
    fn(i64) -> Update,
);

/// The number by which the protocol means what the same commit has just added.
const LAST_ADDED: i64 = -1;

/// What makes properties be as wanted. unship's own are none of them.
pub fn properties(now: &Properties, wanted: &Properties, updates: &mut Vec<Update>) {
    let set: BTreeMap<_, _> = wanted
        .iter()
        .filter(|(key, value)| !name::is_mark(key) && now.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !set.is_empty() {
        updates.push(Update::SetProperties { updates: set });
    }
    let removals: Vec<_> = now
        .keys()
        .filter(|key| !name::is_mark(key) && !wanted.contains_key(*key))
        .cloned()
        .collect();
    if !removals.is_empty() {
        updates.push(Update::RemoveProperties { removals });
    }
}

/// What the tables of one commit bear afterwards, and nothing else ever does: the release, and a
/// digest of all that is changed.
pub fn token<'a>(
    release: ReleaseId,
    of: impl Iterator<Item = &'a Moved>,
) -> Result<String, EngineError> {
    let commits: Vec<_> = of.map(|moved| moved.forth("")).collect();
    let bytes = serde_json::to_vec(&commits)
        .map_err(|e| EngineError::new(ErrorKind::Io, "a commit cannot be written").because(e))?;
    let digest = blake3::hash(&bytes).to_hex();
    Ok(format!("{release} {}", digest.get(..16).unwrap_or(&digest)))
}

impl Moved {
    /// The table.
    pub fn id(&self) -> &Identifier {
        &self.id
    }

    /// The branch that it comes from, and where that is.
    pub fn branch(&self) -> Option<(&str, i64)> {
        let proof = self.proof.as_ref().map(|(name, at)| (name.as_str(), *at));
        proof.filter(|(name, _)| name::is_branch(name))
    }

    /// The mark that it bears before.
    pub fn before(&self) -> String {
        self.mark.clone().unwrap_or_else(|| NONE.to_owned())
    }

    /// Where `main` is, which the commit names and the catalog holds it to.
    pub fn relies(&self) -> Fact {
        let at = self.main.as_ref().map(|main| main.snapshot_id.to_string());
        Fact::new(
            subject::head(&self.id, MAIN),
            at.unwrap_or_else(|| ABSENT.to_owned()),
        )
    }

    /// The commit that brings it back.
    pub fn forth(&self, token: &str) -> Commit {
        let mut requirements = self.required(self.main.as_ref().map(|m| m.snapshot_id));
        requirements.extend([
            Requirement::AssertCurrentSchemaId {
                current_schema_id: self.numbers.schema,
            },
            Requirement::AssertDefaultSpecId {
                default_spec_id: self.numbers.spec,
            },
            Requirement::AssertDefaultSortOrderId {
                default_sort_order_id: self.numbers.sort,
            },
        ]);
        // It is new: of two commits that make it only one can happen.
        requirements.extend(self.tag.iter().map(|tag| Requirement::AssertRefSnapshotId {
            r#ref: tag.clone(),
            snapshot_id: None,
        }));
        requirements.extend(self.proof.iter().map(|(tag, snapshot)| {
            Requirement::AssertRefSnapshotId {
                r#ref: tag.clone(),
                snapshot_id: Some(*snapshot),
            }
        }));
        let mut updates = self.updates.clone();
        let says = self.kept.iter().map(|(_, says)| property(KEPT, says));
        updates.extend(says);
        updates.push(marked(token));
        self.commit(requirements, updates)
    }

    /// The commit that takes that back.
    pub fn back(&self) -> Commit {
        let mut requirements = self.required(self.to);
        requirements.extend(self.numbers_after());
        let mut updates = self.undo.clone();
        updates.extend(self.kept.iter().map(|(before, _)| match before {
            Some(before) => property(KEPT, before),
            None => Update::RemoveProperties {
                removals: vec![KEPT.to_owned()],
            },
        }));
        updates.push(match &self.mark {
            Some(mark) => marked(mark),
            None => Update::RemoveProperties {
                removals: vec![RELEASED.to_owned()],
            },
        });
        self.commit(requirements, updates)
    }

    /// Which schema, spec and sort order count afterwards, unless it is one that is added: the catalog
    /// gives that its number.
    fn numbers_after(&self) -> Vec<Requirement> {
        let (mut schema, mut spec, mut sort) =
            (self.numbers.schema, self.numbers.spec, self.numbers.sort);
        for update in &self.updates {
            match update {
                Update::SetCurrentSchema { schema_id } => schema = *schema_id,
                Update::SetDefaultSpec { spec_id } => spec = *spec_id,
                Update::SetDefaultSortOrder { sort_order_id } => sort = *sort_order_id,
                _ => {}
            }
        }
        let mut out = Vec::new();
        if schema != LAST_ADDED {
            out.push(Requirement::AssertCurrentSchemaId {
                current_schema_id: schema,
            });
        }
        if spec != LAST_ADDED {
            out.push(Requirement::AssertDefaultSpecId {
                default_spec_id: spec,
            });
        }
        if sort != LAST_ADDED {
            out.push(Requirement::AssertDefaultSortOrderId {
                default_sort_order_id: sort,
            });
        }
        out
    }

    fn required(&self, main: Option<i64>) -> Vec<Requirement> {
        vec![
            Requirement::AssertTableUuid {
                uuid: self.uuid.clone(),
            },
            Requirement::AssertRefSnapshotId {
                r#ref: MAIN.to_owned(),
                snapshot_id: main,
            },
        ]
    }

    fn commit(&self, requirements: Vec<Requirement>, updates: Vec<Update>) -> Commit {
        Commit {
            identifier: self.id.clone(),
            requirements,
            updates,
        }
    }

    /// What happens to it, for a person.
    pub fn statement(&self, name: &RelationName) -> String {
        let number = |id: Option<i64>| id.map_or("none".to_owned(), |id| id.to_string());
        let from = self.main.as_ref().map(|m| m.snapshot_id);
        let mut text = format!("commit {name}: ");
        text.push_str(&match from == self.to {
            true => format!("snapshot {} stays", number(from)),
            false => format!("snapshot {} -> {}", number(from), number(self.to)),
        });
        for update in &self.updates {
            match update {
                Update::SetCurrentSchema { schema_id } => {
                    text.push_str(&changed("schema", self.numbers.schema, *schema_id));
                }
                Update::SetDefaultSpec { spec_id } => {
                    text.push_str(&changed("partition spec", self.numbers.spec, *spec_id));
                }
                Update::SetDefaultSortOrder { sort_order_id } => {
                    text.push_str(&changed("sort order", self.numbers.sort, *sort_order_id));
                }
                Update::SetProperties { updates } => {
                    text.push_str(&format!(", {} properties set", updates.len()));
                }
                Update::RemoveProperties { removals } => {
                    text.push_str(&format!(", {} properties removed", removals.len()));
                }
                _ => {}
            }
        }
        if let Some(tag) = &self.tag {
            text.push_str(&format!(", tag {tag} keeps what it is now"));
        }
        text
    }
}

/// What a table says that bears no mark.
pub const NONE: &str = "none";

fn marked(token: &str) -> Update {
    property(RELEASED, token)
}

fn property(key: &str, value: &str) -> Update {
    Update::SetProperties {
        updates: BTreeMap::from([(key.to_owned(), value.to_owned())]),
    }
}

fn changed(what: &str, from: i64, to: i64) -> String {
    match to {
        -1 => format!(", {what} {from} -> a new one"),
        to => format!(", {what} {from} -> {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Whoever changes a schema right after a table went back does not lose that where the step is
    /// taken back: it says what it expects in both directions.
    #[test]
    fn taking_back_expects_what_going_back_left() {
        let schema = |id: i64, name: &str| {
            json!({"type": "struct", "schema-id": id, "fields": [
                {"id": 1, "name": name, "type": "long", "required": false}]})
        };
        let metadata = |current: i64, schemas: serde_json::Value| -> TableMetadata {
            serde_json::from_value(json!({
                "format-version": 2, "table-uuid": "u", "schemas": schemas,
                "current-schema-id": current,
                "partition-specs": [{"spec-id": 0, "fields": []}],
                "sort-orders": [{"order-id": 0, "fields": []}],
                "snapshots": [{"snapshot-id": 1}, {"snapshot-id": 2}],
                "refs": {"main": {"snapshot-id": 2, "type": "branch"}},
            }))
            .unwrap()
        };
        let then = metadata(0, json!([schema(0, "a")]));
        let wanted = TableState {
            snapshot: Some(1),
            ..TableState::of(&then).unwrap()
        };
        let id = Identifier {
            namespace: vec!["s".to_owned()],
            name: "orders".to_owned(),
        };
        let expects = |now: &TableMetadata| {
            let back = to(&id, now, &wanted, ReleaseId(2), None).back();
            let all = back.requirements.into_iter();
            all.filter_map(|one| match one {
                Requirement::AssertCurrentSchemaId { current_schema_id } => Some(current_schema_id),
                _ => None,
            })
            .collect::<Vec<_>>()
        };
        let kept = metadata(7, json!([schema(0, "a"), schema(7, "b")]));
        assert_eq!(expects(&kept), [0]);
        let removed = metadata(7, json!([schema(7, "b")]));
        assert_eq!(
            expects(&removed),
            [0; 0],
            "its number is the catalog's to give"
        );
    }
}
