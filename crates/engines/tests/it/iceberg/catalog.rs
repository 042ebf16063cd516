//! A catalog in memory: the tables, views and commits of the REST protocol, as its specification
//! says them. It writes no files; a snapshot's rows stand in its summary.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::testing::{Row, Table};

/// A namespace and a name.
pub type Id = (Vec<String>, String);

/// Why a request is refused: a status, the exception's name and what it says.
pub type Refusal = (u16, &'static str, String);

/// Everything that a catalog and its storage hold.
#[derive(Debug, Default)]
pub struct Catalog {
    pub namespaces: BTreeSet<Vec<String>>,
    /// Where the metadata of each table lies.
    pub tables: BTreeMap<Id, String>,
    /// Metadata files, by location. What was dropped is still there.
    pub files: BTreeMap<String, Value>,
    pub views: BTreeMap<Id, Value>,
    counter: i64,
}

fn refuse<T>(status: u16, kind: &'static str, said: impl Into<String>) -> Result<T, Refusal> {
    Err((status, kind, said.into()))
}

fn missing<T>(id: &Id) -> Result<T, Refusal> {
    refuse(404, "NoSuchTableException", format!("there is no {id:?}"))
}

/// The entry with a number.
fn numbered<'a>(all: &'a Value, key: &str, number: i64) -> Option<&'a Value> {
    all.as_array()?.iter().find(|one| one[key] == number)
}

fn push(metadata: &mut Value, list: &str, one: Value) {
    metadata[list].as_array_mut().unwrap().push(one);
}

impl Catalog {
    fn next(&mut self) -> i64 {
        self.counter += 1;
        self.counter
    }

    /// A table's metadata.
    pub fn table(&self, id: &Id) -> Option<&Value> {
        self.files.get(self.tables.get(id)?)
    }

    /// What a snapshot was made from.
    pub fn parent(&self, id: &Id, snapshot: i64) -> i64 {
        let of = numbered(
            &self.table(id).unwrap()["snapshots"],
            "snapshot-id",
            snapshot,
        );
        of.unwrap()["parent-snapshot-id"].as_i64().unwrap()
    }

    fn store(&mut self, id: &Id, mut metadata: Value) {
        let number = self.next();
        if let Some(last) = self.tables.get(id) {
            metadata["metadata-log"] = json!([{"metadata-file": last, "timestamp-ms": number}]);
        }
        let location = format!("memory://{}/{number}.metadata.json", id.1);
        self.files.insert(location.clone(), metadata);
        self.tables.insert(id.clone(), location);
    }

    /// Changes one table as a writer does that knows nothing of unship.
    pub fn edit(&mut self, id: &Id, change: impl FnOnce(&mut Value)) {
        let mut metadata = self.table(id).unwrap().clone();
        change(&mut metadata);
        self.store(id, metadata);
    }

    fn create(&mut self, id: &Id) {
        let uuid = format!("uuid-{}", self.next());
        self.namespaces.insert(id.0.clone());
        let metadata = json!({
            "format-version": 2, "table-uuid": uuid, "location": format!("memory://{}", id.1),
            "schemas": [], "current-schema-id": -1,
            "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0,
            "properties": {}, "current-snapshot-id": null, "snapshots": [], "refs": {},
        });
        self.store(id, metadata);
    }

    /// Writes a table's rows and columns, as `CREATE OR REPLACE` does.
    pub fn replace(&mut self, id: &Id, table: &Table) {
        if !self.tables.contains_key(id) {
            self.create(id);
        }
        let fields =
            table.columns.iter().zip(1..).map(
                |(name, id)| json!({"id": id, "name": name, "type": "long", "required": false}),
            );
        let fields: Vec<_> = fields.collect();
        let snapshot = self.next();
        self.edit(id, |m| {
            let schemas = m["schemas"].as_array().unwrap();
            let same = schemas.iter().find(|s| s["fields"] == json!(fields));
            let number = match same {
                Some(same) => same["schema-id"].as_i64().unwrap(),
                None => {
                    let number = i64::try_from(schemas.len()).unwrap();
                    let schema = json!({"type": "struct", "schema-id": number, "fields": fields});
                    push(m, "schemas", schema);
                    number
                }
            };
            m["current-schema-id"] = number.into();
            add_snapshot(m, snapshot, "overwrite", table, "main");
        });
    }

    /// Adds a snapshot on `main`, with these rows.
    pub fn write(&mut self, id: &Id, operation: &str, table: &Table) {
        self.write_on(id, "main", operation, table);
    }

    /// Adds a snapshot on a branch, which begins where `main` is.
    pub fn write_on(&mut self, id: &Id, branch: &str, operation: &str, table: &Table) {
        let snapshot = self.next();
        self.edit(id, |m| add_snapshot(m, snapshot, operation, table, branch));
    }

    pub fn drop_namespace(&mut self, parts: &Vec<String>) -> Result<(), Refusal> {
        let lies = |id: &Id| id.0 == *parts;
        if self.tables.keys().any(lies) || self.views.keys().any(lies) {
            return refuse(409, "NamespaceNotEmptyException", "it is not empty");
        }
        match self.namespaces.remove(parts) {
            true => Ok(()),
            false => refuse(404, "NoSuchNamespaceException", "no such namespace"),
        }
    }

    pub fn drop_table(&mut self, id: &Id) -> Result<(), Refusal> {
        match self.tables.remove(id) {
            Some(_) => Ok(()),
            None => missing(id),
        }
    }

    pub fn rename(&mut self, from: &Id, to: &Id) -> Result<(), Refusal> {
        if self.tables.contains_key(to) {
            return refuse(409, "AlreadyExistsException", "the name is taken");
        }
        if !self.namespaces.contains(&to.0) {
            return refuse(404, "NoSuchNamespaceException", "no such namespace");
        }
        let Some(location) = self.tables.remove(from) else {
            return missing(from);
        };
        self.tables.insert(to.clone(), location);
        Ok(())
    }

    pub fn register(&mut self, id: &Id, location: &str) -> Result<(), Refusal> {
        if self.tables.contains_key(id) {
            return refuse(409, "AlreadyExistsException", "the name is taken");
        }
        if !self.files.contains_key(location) {
            return refuse(400, "BadRequestException", "no such metadata file");
        }
        self.tables.insert(id.clone(), location.to_owned());
        Ok(())
    }

    /// All commits or none of them.
    pub fn commit(&mut self, commits: &[Value]) -> Result<(), Refusal> {
        let mut done = Vec::new();
        for commit in commits {
            let id = id_of(&commit["identifier"]);
            let Some(metadata) = self.table(&id) else {
                return missing(&id);
            };
            let mut metadata = metadata.clone();
            for requirement in commit["requirements"].as_array().unwrap() {
                if !holds(&metadata, requirement) {
                    let text = format!("{id:?}: requirement failed: {requirement}");
                    return refuse(409, "CommitFailedException", text);
                }
            }
            for update in commit["updates"].as_array().unwrap() {
                apply(&mut metadata, update)?;
            }
            done.push((id, metadata));
        }
        for (id, metadata) in done {
            self.store(&id, metadata);
        }
        Ok(())
    }

    pub fn create_view(&mut self, id: &Id, body: &Value) -> Result<(), Refusal> {
        if self.views.contains_key(id) || self.tables.contains_key(id) {
            return refuse(409, "AlreadyExistsException", "the name is taken");
        }
        let uuid = format!("view-{}", self.next());
        let mut schema = body["schema"].clone();
        schema["schema-id"] = 0.into();
        let view = json!({
            "view-uuid": uuid, "format-version": 1, "location": "memory://view",
            "current-version-id": body["view-version"]["version-id"],
            "versions": [body["view-version"]], "schemas": [schema],
            "properties": body["properties"],
        });
        self.views.insert(id.clone(), view);
        Ok(())
    }

    pub fn commit_view(&mut self, id: &Id, body: &Value) -> Result<(), Refusal> {
        let Some(view) = self.views.get(id) else {
            return missing(id);
        };
        let mut view = view.clone();
        for requirement in body["requirements"].as_array().unwrap() {
            if requirement["uuid"] != view["view-uuid"] {
                return refuse(409, "CommitFailedException", "another view");
            }
        }
        for update in body["updates"].as_array().unwrap() {
            let last =
                |list: &str, key: &str| view[list].as_array().unwrap().last().unwrap()[key].clone();
            match update["action"].as_str().unwrap() {
                "add-schema" => push(&mut view, "schemas", update["schema"].clone()),
                "add-view-version" => {
                    let mut version = update["view-version"].clone();
                    if version["schema-id"] == -1 {
                        version["schema-id"] = last("schemas", "schema-id");
                    }
                    push(&mut view, "versions", version);
                }
                "set-current-view-version" => {
                    let number = match update["view-version-id"].as_i64().unwrap() {
                        -1 => last("versions", "version-id"),
                        number => number.into(),
                    };
                    view["current-version-id"] = number;
                }
                _ => set_properties(&mut view, update)?,
            }
        }
        self.views.insert(id.clone(), view);
        Ok(())
    }
}

/// `{"namespace": …, "name": …}`.
pub fn id_of(identifier: &Value) -> Id {
    let namespace = identifier["namespace"].as_array().unwrap();
    let parts = namespace.iter().map(|p| p.as_str().unwrap().to_owned());
    (
        parts.collect(),
        identifier["name"].as_str().unwrap().to_owned(),
    )
}

fn add_snapshot(m: &mut Value, number: i64, operation: &str, table: &Table, branch: &str) {
    // Real ones do not fit a double.
    let id = 7_000_000_000_000_000_000 + number;
    let rows = serde_json::to_string(&table.rows).unwrap();
    let from = match m["refs"][branch].is_null() {
        true => "main",
        false => branch,
    };
    let parent = m["refs"][from]["snapshot-id"].clone();
    let before = match parent.as_i64() {
        Some(_) => rows_at(m, &parent).len(),
        None => 0,
    };
    let added = match operation {
        "append" => table.rows.len() - before,
        "overwrite" => table.rows.len(),
        _ => 1,
    };
    let mut snapshot = json!({
        "snapshot-id": id, "sequence-number": number, "timestamp-ms": 1_700_000_000_000_i64 + number,
        "manifest-list": format!("memory://{number}.avro"), "schema-id": m["current-schema-id"],
        "summary": {
            "operation": operation, "total-records": table.rows.len().to_string(), "rows": rows,
            "total-delete-files": "0", "added-records": added.to_string(), "engine-name": "tests",
        },
    });
    if !parent.is_null() {
        snapshot["parent-snapshot-id"] = parent;
    }
    push(m, "snapshots", snapshot);
    if branch == "main" {
        m["current-snapshot-id"] = id.into();
    }
    m["refs"][branch] = json!({"snapshot-id": id, "type": "branch"});
}

fn holds(m: &Value, requirement: &Value) -> bool {
    match requirement["type"].as_str().unwrap() {
        "assert-table-uuid" => requirement["uuid"] == m["table-uuid"],
        "assert-ref-snapshot-id" => {
            let name = requirement["ref"].as_str().unwrap();
            m["refs"][name]["snapshot-id"] == requirement["snapshot-id"]
        }
        "assert-current-schema-id" => requirement["current-schema-id"] == m["current-schema-id"],
        "assert-default-spec-id" => requirement["default-spec-id"] == m["default-spec-id"],
        "assert-default-sort-order-id" => {
            requirement["default-sort-order-id"] == m["default-sort-order-id"]
        }
        other => panic!("a requirement that nobody knows: {other}"),
    }
}

fn set_properties(m: &mut Value, update: &Value) -> Result<(), Refusal> {
    let properties: &mut Map<_, _> = m["properties"].as_object_mut().unwrap();
    match update["action"].as_str().unwrap() {
        "set-properties" => {
            properties.extend(update["updates"].as_object().unwrap().clone());
        }
        "remove-properties" => {
            for key in update["removals"].as_array().unwrap() {
                properties.remove(key.as_str().unwrap());
            }
        }
        other => return refuse(400, "BadRequestException", format!("no update: {other}")),
    }
    Ok(())
}

/// Sets which one counts: its number, or -1 for the last one added.
fn count(m: &mut Value, which: &str, list: &str, key: &str, number: &Value) -> Result<(), Refusal> {
    let number = match number.as_i64().unwrap() {
        -1 => m[list].as_array().unwrap().last().unwrap()[key]
            .as_i64()
            .unwrap(),
        number => number,
    };
    if numbered(&m[list], key, number).is_none() {
        return refuse(400, "BadRequestException", format!("no {key} {number}"));
    }
    m[which] = number.into();
    Ok(())
}

fn apply(m: &mut Value, update: &Value) -> Result<(), Refusal> {
    match update["action"].as_str().unwrap() {
        "add-schema" => push(m, "schemas", update["schema"].clone()),
        "add-spec" => push(m, "partition-specs", update["spec"].clone()),
        "add-sort-order" => push(m, "sort-orders", update["sort-order"].clone()),
        "set-current-schema" => {
            count(
                m,
                "current-schema-id",
                "schemas",
                "schema-id",
                &update["schema-id"],
            )?;
        }
        "set-default-spec" => {
            count(
                m,
                "default-spec-id",
                "partition-specs",
                "spec-id",
                &update["spec-id"],
            )?;
        }
        "set-default-sort-order" => {
            let number = &update["sort-order-id"];
            count(
                m,
                "default-sort-order-id",
                "sort-orders",
                "order-id",
                number,
            )?;
        }
        "set-snapshot-ref" => {
            let id = &update["snapshot-id"];
            if numbered(&m["snapshots"], "snapshot-id", id.as_i64().unwrap()).is_none() {
                return refuse(400, "BadRequestException", format!("no snapshot {id}"));
            }
            let name = update["ref-name"].as_str().unwrap();
            if name == "main" {
                m["current-snapshot-id"] = id.clone();
            }
            let mut to = update.clone();
            for key in ["action", "ref-name"] {
                to.as_object_mut().unwrap().remove(key);
            }
            m["refs"][name] = to;
        }
        "remove-snapshot-ref" => {
            let name = update["ref-name"].as_str().unwrap();
            if name == "main" {
                m["current-snapshot-id"] = Value::Null;
            }
            m["refs"].as_object_mut().unwrap().remove(name);
        }
        _ => set_properties(m, update)?,
    }
    Ok(())
}

/// A table as a reader finds it at a snapshot, `main` if none is named: with the columns that the
/// table has now, or those of the snapshot.
pub fn read(m: &Value, at: Option<i64>) -> Table {
    let main = m["refs"]["main"]["snapshot-id"].as_i64();
    let snapshot = at.or(main);
    let snapshot = snapshot.map(|id| numbered(&m["snapshots"], "snapshot-id", id).unwrap());
    let schema = match (at, snapshot) {
        (Some(_), Some(snapshot)) => snapshot["schema-id"].as_i64().unwrap(),
        _ => m["current-schema-id"].as_i64().unwrap(),
    };
    let schema = numbered(&m["schemas"], "schema-id", schema).unwrap();
    let columns = schema["fields"].as_array().unwrap().iter();
    let columns: Vec<_> = columns.map(|f| f["name"].as_str().unwrap()).collect();
    let rows = snapshot.map_or(Vec::new(), |snapshot| rows_at(m, &snapshot["snapshot-id"]));
    Table::new(&columns, rows)
}

/// The rows of a snapshot.
fn rows_at(m: &Value, snapshot: &Value) -> Vec<Row> {
    let snapshot = numbered(&m["snapshots"], "snapshot-id", snapshot.as_i64().unwrap());
    serde_json::from_str(snapshot.unwrap()["summary"]["rows"].as_str().unwrap()).unwrap()
}
