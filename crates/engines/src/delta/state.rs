//! What a table is, as the ledger remembers it.
//!
//! Files never change, so that their names stand for a table's rows. The definition is everything
//! else that a version brings back, a line each, as JSON.

use super::dir::Dir;
use super::files;
use super::log;
use super::reader::{Reader, Version};
use crate::iceberg::canonical;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use unship_core::engine::EngineError;
use unship_core::relation::{Column, Fingerprint, RelationKind, RelationState};

/// The method of a fingerprint that is a digest of files.
pub const METHOD: &str = "delta files 1";

/// What a commit of unship's bears after which the table is no part of production.
pub const ASIDE: &str = "aside";

/// How many commits that change no row are passed over to find the one that did. Behind more of them
/// their own files count.
const MAINTENANCE: usize = 100;

/// A table as it is now.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its directory below the root.
    pub path: String,
    /// Its identity.
    pub id: String,
    /// Its newest version.
    pub version: u64,
    /// What the ledger remembers of that.
    pub state: RelationState,
    /// Whether unship emptied it, so that it is no part of production though it lies there.
    pub aside: bool,
    /// Whether its writers agree by another service on who commits.
    pub agreed_on_elsewhere: bool,
}

/// What the ledger remembers of a version of the table in a directory.
pub fn of(
    reader: &mut Reader,
    what: &str,
    table: &Dir,
    version: &Version,
) -> Result<RelationState, EngineError> {
    let held = digest(version);
    let content = content(reader, what, table, version)?.unwrap_or_else(|| held.clone());
    let rows = version
        .files
        .iter()
        .map(super::reader::File::rows)
        .sum::<Option<u64>>();
    let schema = schema(version);
    let metadata = &version.metadata;
    let member = |key: &str| metadata.get(key).cloned().unwrap_or(Value::Null);
    let definition = [
        ("schema", &schema),
        ("partitioned by", &member("partitionColumns")),
        ("properties", &member("configuration")),
        ("name", &member("name")),
        ("description", &member("description")),
    ];
    let definition = definition
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(word, value)| format!("{word} {}", canonical(value)));
    Ok(RelationState {
        kind: RelationKind::Table,
        columns: columns(&schema),
        definition: definition.collect::<Vec<_>>().join("\n"),
        dependents: Vec::new(),
        rows,
        fingerprint: Some(Fingerprint {
            method: METHOD.to_owned(),
            rows: rows.unwrap_or(0),
            whole: content,
            columns: BTreeMap::new(),
        }),
        storage: Some(held),
    })
}

/// The table's identity and BLAKE3 of its files: paths, sizes and which of their rows are deleted.
/// What their writers counted in them is no part of it: a checkpoint may leave that out.
pub fn digest(version: &Version) -> String {
    let mut all: Vec<_> = version
        .files
        .iter()
        .map(|file| (files::key(file), file.size()))
        .collect();
    all.sort();
    let hash = blake3::hash(json!(all).to_string().as_bytes());
    format!("{} {}", version.id(), hash.to_hex())
}

/// What the rows of a version are told by where that is not its own files: compaction stores the same
/// rows otherwise, and a version that unship brought back has the rows that it had.
fn content(
    reader: &mut Reader,
    what: &str,
    table: &Dir,
    version: &Version,
) -> Result<Option<String>, EngineError> {
    let mut at = version.number;
    let mut stored_anew = false;
    for _ in 0..MAINTENANCE {
        let Some(actions) = log::commit(table, at)? else {
            return Ok(None);
        };
        if let Some(content) = log::own(&actions, "content") {
            return Ok(Some(content.to_owned()));
        }
        let files: Vec<_> = actions.iter().filter_map(file_action).collect();
        let changes_rows = |file: &&Value| file["dataChange"].as_bool() != Some(false);
        if files.iter().any(changes_rows) || at == 0 {
            break;
        }
        stored_anew |= !files.is_empty();
        at -= 1;
    }
    if !stored_anew {
        return Ok(None);
    }
    // What lies before may have been cleaned up; then the files that are there count.
    let before = match log::Log::read(table)? {
        Some(log) if log.reaches(at) => reader.version(what, table, at)?,
        _ => return Ok(None),
    };
    Ok(Some(digest(&before)))
}

/// Whether a table is no part of production: unship emptied it where nothing can be renamed, and
/// nobody has written to it since.
pub fn set_aside(table: &Dir, version: &Version) -> Result<bool, EngineError> {
    if !version.files.is_empty() {
        return Ok(false);
    }
    let first = version.number.saturating_sub(MAINTENANCE as u64);
    for at in (first..=version.number).rev() {
        let Some(actions) = log::commit(table, at)? else {
            return Ok(false);
        };
        if log::own(&actions, "release").is_some() {
            return Ok(log::own(&actions, ASIDE).is_some());
        }
        if actions.iter().any(|action| file_action(action).is_some()) {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The file that an action adds or removes.
fn file_action(action: &Value) -> Option<&Value> {
    action.get("add").or_else(|| action.get("remove"))
}

/// The schema of a version, as JSON.
fn schema(version: &Version) -> Value {
    let text = version.metadata["schemaString"].as_str().unwrap_or("");
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// A schema's columns. A nested type is written as JSON.
fn columns(schema: &Value) -> Vec<Column> {
    let fields = schema.get("fields").and_then(Value::as_array);
    let column = |field: &Value| {
        Some(Column {
            name: field.get("name")?.as_str()?.to_owned(),
            data_type: match field.get("type").unwrap_or(&Value::Null) {
                Value::String(name) => name.clone(),
                nested => canonical(nested),
            },
            nullable: field
                .get("nullable")
                .and_then(Value::as_bool)
                .unwrap_or(true),
        })
    };
    fields.into_iter().flatten().filter_map(column).collect()
}
