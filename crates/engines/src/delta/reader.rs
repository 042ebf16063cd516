//! Versions of a table, put together from its log by `deltalake-core`: its protocol, its metadata and
//! its files, as JSON in the form of the log's own actions.
//!
//! Paths are given as they stand in the log, still encoded. A file is removed from a table by naming
//! it exactly as it was added, so that what is read is never encoded anew.

use super::bucket;
use super::dir::Dir;
use super::log;
use super::threads::run;
use deltalake_core::DeltaTableError;
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::json::writer::{LineDelimited, WriterBuilder};
use deltalake_core::kernel::Snapshot;
use deltalake_core::logstore::LogStoreRef;
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use unship_core::engine::{EngineError, ErrorKind};

/// How many files the versions that are remembered have in all. One look at a table is asked for
/// several times in each operation.
const REMEMBERED: usize = 200_000;

/// The columns of a scan that are read.
const COLUMNS: [&str; 6] = [
    "path",
    "size",
    "modificationTime",
    "stats",
    "deletionVector",
    "fileConstantValues",
];

/// A version of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// What readers and writers must be able to do.
    pub protocol: Value,
    /// Identity, schema, partitioning, properties.
    pub metadata: Value,
    /// The files that hold its rows.
    pub files: Vec<File>,
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// The members of its `add` action, but for `dataChange`.
    pub add: Map<String, Value>,
}

impl Version {
    /// The table's identity.
    pub fn id(&self) -> &str {
        self.metadata["id"].as_str().unwrap_or_default()
    }
}

impl File {
    /// Its path as it stands in the log.
    pub fn raw_path(&self) -> &str {
        self.add.get("path").and_then(Value::as_str).unwrap_or("")
    }

    /// Its path, decoded.
    pub fn path(&self) -> String {
        percent_decode_str(self.raw_path())
            .decode_utf8_lossy()
            .into_owned()
    }

    /// Its size in bytes.
    pub fn size(&self) -> i64 {
        self.add.get("size").and_then(Value::as_i64).unwrap_or(0)
    }

    /// Which of its rows are deleted, if any are.
    pub fn deletion_vector(&self) -> Option<&Value> {
        self.add.get("deletionVector")
    }

    /// Its deletion vector's identity (protocol, "Derived Fields"): with the path it tells one file of
    /// a version from another.
    pub fn vector_id(&self) -> Option<String> {
        let vector = self.deletion_vector()?;
        let text = |key: &str| vector[key].as_str().unwrap_or_default();
        let id = format!("{}{}", text("storageType"), text("pathOrInlineDv"));
        Some(match vector["offset"].as_i64() {
            Some(offset) => format!("{id}@{offset}"),
            None => id,
        })
    }

    /// How many rows it holds, without the deleted ones; `None` where its writer did not count.
    pub fn rows(&self) -> Option<u64> {
        let stats: Value = serde_json::from_str(self.add.get("stats")?.as_str()?).ok()?;
        let gone = match self.deletion_vector() {
            Some(vector) => vector["cardinality"].as_u64()?,
            None => 0,
        };
        stats["numRecords"].as_u64()?.checked_sub(gone)
    }
}

/// A directory, the number of a version, and what tells the commit from another of that number.
type Key = (String, u64, String);

/// Reads versions, and remembers the ones that it read last.
#[derive(Default, Clone)]
pub struct Reader {
    last: BTreeMap<Key, Arc<Version>>,
    /// The same, the one that was read last at the end.
    order: VecDeque<Key>,
    /// How many files they have in all.
    files: usize,
}

impl Reader {
    /// A version of the table in a directory. `what` names the table for a person.
    pub fn version(
        &mut self,
        what: &str,
        table: &Dir,
        number: u64,
    ) -> Result<Arc<Version>, EngineError> {
        let key = (table.to_string(), number, log::stamp(table, number));
        if let Some(version) = self.last.get(&key) {
            return Ok(Arc::clone(version));
        }
        let doing = format!("read version {number} of {what}");
        let store = table.logs()?;
        let read = run(&doing, read(store, number))?;
        let version = Arc::new(read.map_err(|e| failed(table, &doing, e))?);
        self.remember(key, Arc::clone(&version));
        Ok(version)
    }

    /// Takes over what another one remembers.
    pub fn learn(&mut self, other: Self) {
        for key in other.order {
            if let Some(version) = other
                .last
                .get(&key)
                .filter(|_| !self.last.contains_key(&key))
            {
                self.remember(key, Arc::clone(version));
            }
        }
    }

    fn remember(&mut self, key: Key, version: Arc<Version>) {
        self.files += version.files.len();
        self.order.push_back(key.clone());
        self.last.insert(key, version);
        while self.files > REMEMBERED && self.order.len() > 1 {
            let oldest = self.order.pop_front();
            if let Some(oldest) = oldest.and_then(|key| self.last.remove(&key)) {
                self.files -= oldest.files.len();
            }
        }
    }
}

fn failed(table: &Dir, doing: &str, error: DeltaTableError) -> EngineError {
    if let Dir::Store(_) = table
        && let Some(told) = bucket::told(&format!("could not {doing}"), &error)
    {
        return told;
    }
    let text = error.to_string();
    let kind = match &error {
        DeltaTableError::InvalidVersion(_) | DeltaTableError::NotATable(_) => ErrorKind::Missing,
        _ if text.contains("nsupported") => ErrorKind::Unsupported,
        _ => ErrorKind::Corrupt,
    };
    let error = EngineError::new(kind, format!("could not {doing}")).because(error);
    match kind {
        ErrorKind::Unsupported => {
            error.hint("leave the table out: `namespaces` in unship.toml names what is guarded")
        }
        _ => error,
    }
}

async fn read(store: LogStoreRef, number: u64) -> Result<Version, DeltaTableError> {
    let snapshot = Snapshot::try_new(store.as_ref(), Some(number)).await?;
    let json = |e| DeltaTableError::SerializeLogJson { json_err: e };
    let mut version = Version {
        number: snapshot.version(),
        protocol: without_nulls(serde_json::to_value(snapshot.protocol()).map_err(json)?),
        metadata: without_nulls(serde_json::to_value(snapshot.metadata()).map_err(json)?),
        files: Vec::new(),
    };
    let mut batches = snapshot.files(store.as_ref(), None);
    while let Some(batch) = batches.next().await {
        for row in rows(&batch?)? {
            version.files.push(file(row));
        }
    }
    Ok(version)
}

/// The rows of a scan as JSON. Nulls are written: a partition may have one as its value.
fn rows(batch: &RecordBatch) -> Result<Vec<Value>, DeltaTableError> {
    let schema = batch.schema();
    let columns = COLUMNS.iter().filter_map(|name| schema.index_of(name).ok());
    let batch = batch.project(&columns.collect::<Vec<_>>())?;
    let mut text = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(&mut text);
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line)
                .map_err(|e| DeltaTableError::SerializeLogJson { json_err: e })
        })
        .collect()
}

/// A scanned file in the form of its `add` action.
fn file(mut row: Value) -> File {
    let mut add = Map::new();
    for key in ["path", "size", "modificationTime", "stats"] {
        add.insert(key.to_owned(), row[key].take());
    }
    let mut rest = row["fileConstantValues"].take();
    let partition = match rest["partitionValues"].take() {
        Value::Null => json!({}),
        values => values,
    };
    for key in [
        "tags",
        "baseRowId",
        "defaultRowCommitVersion",
        "clusteringProvider",
    ] {
        add.insert(key.to_owned(), rest[key].take());
    }
    let vector = row["deletionVector"].take();
    if vector["storageType"].is_string() {
        add.insert("deletionVector".to_owned(), without_nulls(vector));
    }
    add.retain(|_, value| !value.is_null());
    // The one place where a null says something.
    add.insert("partitionValues".to_owned(), partition);
    File { add }
}

/// A value without the members that are null: an action of a log leaves them out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let left = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(left.map(|(k, v)| (k, without_nulls(v))).collect())
        }
        other => other,
    }
}
