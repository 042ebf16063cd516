//! The tags of tables that come back from their metadata files: a file is older than the newest of
//! them, since each was made by a commit that wrote another.

use super::action::{ABSENT, ALL, Registered};
use super::kept::{Kept, Store};
use super::name::{self, text};
use super::rest::{
    Client, Commit, Doing, Identifier, Reference, Requirement, Snapshots, TableMetadata, Update,
};
use super::state::{self, TableState};
use super::{look, point};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::fault::boundary;

/// How often tags are sent whose answers get lost.
const TRIES: u32 = 3;

/// The tags that restore points count on and that a table lacks, with their snapshots. One of a
/// snapshot that its metadata does not know is of a version that was made after it, and is not
/// missed.
pub fn missing(all: &[Kept], id: &Identifier, metadata: &TableMetadata) -> BTreeMap<String, i64> {
    let known: BTreeSet<_> = metadata.snapshots.iter().map(|s| s.snapshot_id).collect();
    let mut out = BTreeMap::new();
    for (relation, one) in all.iter().flat_map(|kept| &kept.relations) {
        let Some(tag) = &one.tag else { continue };
        if name::identifier(relation).as_ref() != Some(id) || metadata.refs.contains_key(tag) {
            continue;
        }
        let was = TableState::read(&one.state).filter(|was| was.uuid == metadata.table_uuid);
        let snapshot = was.and_then(|was| was.snapshot);
        out.extend(
            snapshot
                .filter(|id| known.contains(id))
                .map(|id| (tag.clone(), id)),
        );
    }
    out
}

/// What a fact says of them.
pub fn fact(missing: &BTreeMap<String, i64>) -> String {
    match missing.is_empty() {
        true => ALL.to_owned(),
        false => {
            let tags: Vec<_> = missing.keys().map(String::as_str).collect();
            format!("without {}", tags.join(", "))
        }
    }
}

/// Makes the missing tags of tables that were registered, each of which is to be what it was.
///
/// # Errors
/// [`ErrorKind::Corrupt`] where a metadata file shows another snapshot than it did,
/// [`ErrorKind::Missing`] where that cannot be read, and [`ErrorKind::Io`] where a tag that was sent
/// is not there.
pub fn again(client: &Client, store: &Store, tables: &[Registered]) -> Result<(), EngineError> {
    let all = store.all()?;
    let lacks = || {
        let seen = look::each(tables, "tables", &|_, _, _| (), |one| {
            client.table(&one.name, Snapshots::All)
        });
        let seen = seen.doing("look at tables that came back")?;
        let mut lacking = Vec::new();
        for (one, table) in tables.iter().zip(seen) {
            let what = text(&one.name);
            let Some(table) = table else { continue };
            let metadata = &table.metadata;
            let main = state::current(metadata).map_or(ABSENT.to_owned(), |id| id.to_string());
            if main != one.main {
                return Err(EngineError::new(
                    ErrorKind::Corrupt,
                    format!(
                        "the metadata file of {what} shows snapshot {main}, and what comes back is \
                         {}",
                        one.main
                    ),
                )
                .hint("`--select` leaves this table out"));
            }
            look::readable(&what, metadata)?;
            let missing = missing(&all, &one.name, metadata);
            if !missing.is_empty() {
                lacking.push((one, missing));
            }
        }
        Ok(lacking)
    };
    let mut lacking = lacks()?;
    let mut tried = 0;
    while !lacking.is_empty() && tried < TRIES {
        tried += 1;
        for (one, missing) in &lacking {
            let updates = missing
                .iter()
                .map(|(tag, snapshot)| Update::point(tag, &Reference::tag(*snapshot)));
            let commit = Commit {
                identifier: one.name.clone(),
                requirements: vec![Requirement::AssertTableUuid {
                    uuid: one.uuid.clone(),
                }],
                updates: updates.collect(),
            };
            let sent = point::send(client, &[commit]);
            boundary("tagged again");
            sent.doing(&format!("tag {} again", text(&one.name)))?;
        }
        // An answer that was lost says nothing of what was done.
        lacking = lacks()?;
    }
    match lacking.first() {
        None => Ok(()),
        Some((one, missing)) => Err(EngineError::new(
            ErrorKind::Io,
            format!("{} came back {}", text(&one.name), fact(missing)),
        )
        .hint("try again when the catalog answers")),
    }
}
