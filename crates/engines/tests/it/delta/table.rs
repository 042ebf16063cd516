//! A table as another writer makes it: its log by the protocol, its rows as JSON where parquet would
//! be. The engine never reads a row, and this never asks the engine.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use unship_core::testing::Table;

/// The log of one table.
pub struct Log(pub PathBuf);

/// The files of a version and its metadata.
pub struct Version {
    pub metadata: Value,
    pub protocol: Value,
    pub files: BTreeMap<(String, String), Value>,
}

fn vector(action: &Value) -> String {
    match &action["deletionVector"] {
        Value::Null => String::new(),
        vector => format!("{}{}", vector["storageType"], vector["pathOrInlineDv"]),
    }
}

impl Log {
    pub fn commit_file(&self, version: u64) -> PathBuf {
        self.0
            .join("_delta_log")
            .join(format!("{version:020}.json"))
    }

    pub fn latest(&self) -> Option<u64> {
        (0..).take_while(|v| self.commit_file(*v).is_file()).last()
    }

    pub fn actions(&self, version: u64) -> Vec<Value> {
        let text = fs::read_to_string(self.commit_file(version)).unwrap();
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    /// Replays the log.
    pub fn at(&self, version: u64) -> Version {
        let mut out = Version {
            metadata: Value::Null,
            protocol: Value::Null,
            files: BTreeMap::new(),
        };
        for action in (0..=version).flat_map(|v| self.actions(v)) {
            let key = |file: &Value| (file["path"].as_str().unwrap().to_owned(), vector(file));
            for (name, value) in action.as_object().unwrap() {
                match name.as_str() {
                    "metaData" => out.metadata = value.clone(),
                    "protocol" => out.protocol = value.clone(),
                    "add" => drop(out.files.insert(key(value), value.clone())),
                    "remove" => {
                        let gone = out.files.remove(&key(value));
                        assert!(gone.is_some(), "{value} names a file that is not there");
                    }
                    _ => {}
                }
            }
        }
        out
    }

    /// Reads a version as a reader does.
    pub fn read(&self, version: u64) -> Table {
        let version = self.at(version);
        let schema: Value =
            serde_json::from_str(version.metadata["schemaString"].as_str().unwrap()).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        let columns: Vec<_> = fields.iter().map(|f| f["name"].as_str().unwrap()).collect();
        let rows = version.files.values().flat_map(|file| {
            let text = fs::read_to_string(self.0.join(file["path"].as_str().unwrap())).unwrap();
            let rows: Vec<Vec<i64>> = serde_json::from_str(&text).unwrap();
            rows
        });
        Table::new(&columns, rows.collect::<Vec<_>>())
    }

    /// Whether unship took all rows out of it, which stands for renaming where nothing can be renamed.
    pub fn is_aside(&self) -> bool {
        let latest = self.latest().unwrap();
        self.actions(latest)[0]["commitInfo"]["unship"]["aside"] == "yes"
    }

    /// Adds a commit.
    pub fn commit(&self, operation: &str, actions: &[Value]) {
        let version = self.latest().map_or(0, |v| v + 1);
        let info = json!({"commitInfo": {"timestamp": 1_700_000_000_000_u64 + version,
            "operation": operation, "engineInfo": "somebody/1"}});
        let mut lines = vec![info.to_string()];
        lines.extend(actions.iter().map(Value::to_string));
        fs::create_dir_all(self.0.join("_delta_log")).unwrap();
        fs::write(self.commit_file(version), lines.join("\n")).unwrap();
    }

    /// Writes a file with these rows, and gives its `add` action.
    pub fn file(&self, rows: &[Vec<i64>]) -> Value {
        fs::create_dir_all(&self.0).unwrap();
        let text = json!(rows).to_string();
        // As Spark writes it; other writers would encode this name.
        let path = format!("part-é-{}.parquet", uuid());
        fs::write(self.0.join(&path), &text).unwrap();
        let stats = json!({"numRecords": rows.len()}).to_string();
        json!({"path": path, "partitionValues": {}, "size": text.len(),
            "modificationTime": 1_700_000_000_000_u64, "dataChange": true, "stats": stats})
    }

    /// `remove` actions for every file that is there now.
    pub fn removals(&self) -> Vec<Value> {
        let Some(latest) = self.latest() else {
            return Vec::new();
        };
        let files = self.at(latest).files.into_values();
        files
            .map(|mut file| {
                file.as_object_mut().unwrap().remove("stats");
                file["deletionTimestamp"] = 1.into();
                json!({ "remove": file })
            })
            .collect()
    }

    /// Writes rows and columns in place of those that are there.
    pub fn replace(&self, table: &Table) {
        let metadata = metadata(&table.columns);
        let mut actions = Vec::new();
        match self.latest() {
            None => actions.push(json!({"protocol": {"minReaderVersion": 1,
                "minWriterVersion": 2}})),
            Some(latest) => {
                let now = self.at(latest).metadata;
                if now["schemaString"] != metadata["schemaString"] {
                    let mut changed = now;
                    changed["schemaString"] = metadata["schemaString"].clone();
                    actions.push(json!({ "metaData": changed }));
                }
            }
        }
        if self.latest().is_none() {
            actions.push(json!({ "metaData": metadata }));
        }
        actions.extend(self.removals());
        actions.push(json!({ "add": self.file(&table.rows) }));
        self.commit("WRITE", &actions);
    }

    pub fn append(&self, rows: &[Vec<i64>]) {
        self.commit("WRITE", &[json!({ "add": self.file(rows) })]);
    }

    /// Stores the same rows in one file: what compaction does.
    pub fn optimize(&self) {
        let rows = self.read(self.latest().unwrap()).rows;
        let mut actions = self.removals();
        actions.push(json!({ "add": self.file(&rows) }));
        for action in &mut actions {
            for (_, file) in action.as_object_mut().unwrap() {
                file["dataChange"] = false.into();
            }
        }
        self.commit("OPTIMIZE", &actions);
    }

    /// Deletes the files that the newest version does not need.
    pub fn vacuum(&self) {
        let needed = self.at(self.latest().unwrap()).files;
        let needed: Vec<_> = needed.into_keys().map(|(path, _)| path).collect();
        for entry in fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_file() && !needed.contains(&name) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

fn metadata(columns: &[String]) -> Value {
    let fields = columns
        .iter()
        .map(|name| json!({"name": name, "type": "long", "nullable": true, "metadata": {}}));
    let schema = json!({"type": "struct", "fields": fields.collect::<Vec<_>>()});
    json!({"id": uuid(), "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(), "partitionColumns": [], "configuration": {},
        "createdTime": 1_700_000_000_000_u64})
}

/// A name that nothing else has.
pub fn uuid() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("00000000-0000-4000-8000-{next:012x}")
}

/// Whether a directory holds a table.
pub fn is_table(dir: &Path) -> bool {
    dir.join("_delta_log").is_dir()
}
