//! Versions of a table, put together from its log by `deltalake-core`: its protocol, its metadata and
//! its files, as JSON in the form of the log's own actions.
//!
//! Paths are given as they stand in the log, still encoded. A file is removed from a table by naming
//! it exactly as it was added, so that what is read is never encoded anew.

use super::log;
use deltalake_core::DeltaTableError;
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::json::writer::{LineDelimited, WriterBuilder};
use deltalake_core::kernel::Snapshot;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_for};
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use unship_core::engine::{EngineError, ErrorKind};
use url::Url;

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
type Key = (PathBuf, u64, String);

/// Reads versions, and remembers the ones that it read last.
#[derive(Default)]
pub struct Reader {
    runtime: Option<Runtime>,
    last: BTreeMap<Key, Arc<Version>>,
    /// The same, the one that was read last at the end.
    order: VecDeque<Key>,
    /// How many files they have in all.
    files: usize,
}

impl Reader {
    /// Runs what the library does on threads of its own.
    pub fn run<T, F>(&mut self, what: &str, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let runtime = match &mut self.runtime {
            Some(runtime) => runtime,
            none => {
                let made = Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .map_err(|e| {
                        let text = "cannot start the threads that read tables";
                        EngineError::new(ErrorKind::Io, text).because(e)
                    })?;
                none.insert(made)
            }
        };
        // A log that the library cannot stand must not take us down with it.
        let task = runtime.spawn(work);
        runtime.block_on(task).map_err(|e| {
            EngineError::new(ErrorKind::Corrupt, format!("could not {what}")).because(e)
        })
    }

    /// A version of the table in a directory. `what` names the table for a person.
    pub fn version(
        &mut self,
        what: &str,
        table: &Path,
        number: u64,
    ) -> Result<Arc<Version>, EngineError> {
        let key = (table.to_owned(), number, log::stamp(table, number));
        if let Some(version) = self.last.get(&key) {
            return Ok(Arc::clone(version));
        }
        let doing = format!("read version {number} of {what}");
        let url = url(table)?;
        let read = self.run(&doing, read(url, number))?;
        let version = Arc::new(read.map_err(|e| failed(&doing, e))?);
        self.remember(key, Arc::clone(&version));
        Ok(version)
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

/// A directory as the library wants it.
pub fn url(table: &Path) -> Result<Url, EngineError> {
    Url::from_directory_path(table).map_err(|()| {
        let text = format!("{} is no absolute path", table.display());
        EngineError::new(ErrorKind::Unsupported, text)
    })
}

/// The library's own way to a table.
pub fn store(url: &Url) -> Result<LogStoreRef, DeltaTableError> {
    logstore_for(url, StorageConfig::default())
}

fn failed(doing: &str, error: DeltaTableError) -> EngineError {
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

async fn read(url: Url, number: u64) -> Result<Version, DeltaTableError> {
    let store = store(&url)?;
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
