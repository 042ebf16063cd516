//! What a table or view is, as the ledger remembers it.
//!
//! A snapshot never changes, so that its number stands for a table's rows. The definition is
//! everything else that a commit can bring back, a line each, as JSON that can be read again.

use super::name;
use super::rest::{Properties, Snapshot, TableMetadata, ViewContent, ViewMetadata};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::relation::{Column, Fingerprint, RelationKind, RelationState};

/// The method of a fingerprint that is a snapshot's number.
pub const METHOD: &str = "iceberg snapshot 1";

/// What a table is, as far as it can be brought back.
#[derive(Debug, Clone, PartialEq)]
pub struct TableState {
    /// Its identity.
    pub uuid: String,
    /// The snapshot of `main`.
    pub snapshot: Option<i64>,
    /// Its schema, without a number.
    pub schema: Value,
    /// Its partition spec, without a number.
    pub spec: Value,
    /// Its sort order, without a number.
    pub sort: Value,
    /// Its properties, but for unship's own.
    pub properties: Properties,
}

/// Metadata that does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata names {0} that it does not hold")]
pub struct Broken(&'static str);

/// The schema, spec or sort order with this number, without it.
fn numbered(all: &[Value], key: &str, number: i64) -> Option<Value> {
    let found = all
        .iter()
        .find(|one| one.get(key).and_then(Value::as_i64) == Some(number))?;
    Some(without_number(found, key))
}

/// The same schema, spec or sort order, whatever its number is.
pub fn without_number(of: &Value, key: &str) -> Value {
    let mut out = of.clone();
    if let Some(map) = out.as_object_mut() {
        map.remove(key);
        // That there are none is said in two ways.
        let none = |v: &Value| v.as_array().is_some_and(Vec::is_empty);
        if map.get("identifier-field-ids").is_some_and(none) {
            map.remove("identifier-field-ids");
        }
    }
    out
}

/// The number of an equal schema, spec or sort order.
pub fn number_of(all: &[Value], key: &str, wanted: &Value) -> Option<i64> {
    let found = all.iter().find(|one| without_number(one, key) == *wanted)?;
    found.get(key)?.as_i64()
}

/// A number that none of these has yet.
pub fn free_number(all: &[Value], key: &str) -> i64 {
    let numbers = all.iter().filter_map(|one| one.get(key)?.as_i64());
    numbers.max().map_or(0, |max| max.saturating_add(1))
}

/// The snapshot that `main` points to.
pub fn current(of: &TableMetadata) -> Option<i64> {
    let main = of.refs.get("main").map(|main| main.snapshot_id);
    main.or(of.current_snapshot_id.filter(|id| *id >= 0))
}

impl TableState {
    /// Reads it from metadata.
    pub fn of(metadata: &TableMetadata) -> Result<Self, Broken> {
        let mut properties = metadata.properties.clone();
        properties.retain(|key, _| !name::is_mark(key));
        Ok(Self {
            uuid: metadata.table_uuid.clone(),
            snapshot: current(metadata),
            schema: numbered(&metadata.schemas, "schema-id", metadata.current_schema_id)
                .ok_or(Broken("a schema"))?,
            spec: numbered(
                &metadata.partition_specs,
                "spec-id",
                metadata.default_spec_id,
            )
            .ok_or(Broken("a partition spec"))?,
            sort: numbered(
                &metadata.sort_orders,
                "order-id",
                metadata.default_sort_order_id,
            )
            .ok_or(Broken("a sort order"))?,
            properties,
        })
    }

    /// Reads it from what the ledger remembers; `None` if it is of no Iceberg table.
    pub fn read(state: &RelationState) -> Option<Self> {
        let (uuid, snapshot) = state.storage.as_deref()?.split_once(' ')?;
        let mut lines = BTreeMap::new();
        for line in state.definition.lines() {
            let (word, text) = line.split_once(' ')?;
            let value: Value = serde_json::from_str(text).ok()?;
            lines.insert(word, value);
        }
        Some(Self {
            uuid: uuid.to_owned(),
            snapshot: match snapshot {
                "none" => None,
                number => Some(number.parse().ok()?),
            },
            schema: lines.remove("schema")?,
            spec: lines.remove("partition-spec")?,
            sort: lines.remove("sort-order")?,
            properties: serde_json::from_value(lines.remove("properties")?).ok()?,
        })
    }
}

/// JSON in the one order that it is always written in: keys sorted, no blanks, and numbers as they
/// are. RFC 8785 would write a number of 64 bits as a float, and lose its end.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let parts = sorted.into_iter().map(|(key, value)| {
                let key = Value::from(key.as_str());
                format!("{key}:{}", canonical(value))
            });
            format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
        }
        Value::Array(all) => {
            let parts = all.iter().map(canonical);
            format!("[{}]", parts.collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

fn line(word: &str, value: &Value) -> String {
    format!("{word} {}", canonical(value))
}

/// A table as it would be if `main` were where another branch is.
pub fn on_branch(metadata: &TableMetadata, branch: &str) -> Option<TableMetadata> {
    let head = metadata.refs.get(branch).filter(|r| r.r#type == "branch")?;
    let mut there = metadata.clone();
    there.refs.insert("main".to_owned(), head.clone());
    Some(there)
}

/// Whether a branch goes on from what `main` shows: from that very snapshot, or from one with the
/// same rows that was compacted since.
pub fn goes_on_from_main(metadata: &TableMetadata, head: i64) -> bool {
    let Some(main) = current(metadata) else {
        return true;
    };
    let brought = content(metadata, Some(main));
    let parents: BTreeMap<_, _> = metadata
        .snapshots
        .iter()
        .map(|s| (s.snapshot_id, s.parent_snapshot_id))
        .collect();
    let mut at = Some(head);
    for _ in 0..=metadata.snapshots.len() {
        if at == Some(main) || at == brought {
            return true;
        }
        at = at.and_then(|id| parents.get(&id).copied().flatten());
    }
    false
}

/// What the ledger remembers of a table.
pub fn of_table(metadata: &TableMetadata) -> Result<RelationState, Broken> {
    let state = TableState::of(metadata)?;
    let snapshot = state
        .snapshot
        .map_or("none".to_owned(), |id| id.to_string());
    let rows = rows(metadata, state.snapshot);
    let content = content(metadata, state.snapshot);
    let content = content.map_or("none".to_owned(), |id| id.to_string());
    let definition = [
        line("schema", &state.schema),
        line("partition-spec", &state.spec),
        line("sort-order", &state.sort),
        line("properties", &json!(state.properties)),
    ];
    Ok(RelationState {
        kind: RelationKind::Table,
        columns: columns(&state.schema),
        definition: definition.join("\n"),
        dependents: Vec::new(),
        rows,
        fingerprint: Some(Fingerprint {
            method: METHOD.to_owned(),
            rows: rows.unwrap_or(0),
            whole: format!("{} {content}", state.uuid),
            columns: BTreeMap::new(),
        }),
        storage: Some(format!("{} {snapshot}", state.uuid)),
    })
}

/// Whether a snapshot only stores the same rows otherwise (table specification, "Snapshots":
/// `replace` is compaction).
pub fn is_maintenance(snapshot: &Snapshot) -> bool {
    snapshot.summary.get("operation").map(String::as_str) == Some("replace")
}

/// The snapshot that brought the rows that are there: compaction since then did not change them.
fn content(metadata: &TableMetadata, mut at: Option<i64>) -> Option<i64> {
    let by_id: BTreeMap<_, _> = metadata
        .snapshots
        .iter()
        .map(|s| (s.snapshot_id, s))
        .collect();
    // A chain without an end is no chain.
    for _ in 0..=metadata.snapshots.len() {
        let snapshot = at.and_then(|id| by_id.get(&id));
        match snapshot.filter(|s| is_maintenance(s)) {
            Some(snapshot) if snapshot.parent_snapshot_id.is_some() => {
                at = snapshot.parent_snapshot_id;
            }
            _ => return at,
        }
    }
    at
}

/// Whether the snapshots that are listed tell which one brought the rows that are there. A catalog
/// that lists only what references name may leave out what was compacted.
pub fn tells_content(metadata: &TableMetadata) -> bool {
    let at = content(metadata, current(metadata));
    at.is_none_or(|id| metadata.snapshots.iter().any(|s| s.snapshot_id == id))
}

/// Drops the snapshots that no reference names, but those from `main` to the one that brought its
/// rows.
pub fn forget_history(metadata: &mut TableMetadata) {
    let mut needed: BTreeSet<_> = metadata.refs.values().map(|r| r.snapshot_id).collect();
    let mut at = current(metadata);
    let last = content(metadata, at);
    // A chain without an end is no chain.
    for _ in 0..=metadata.snapshots.len() {
        let Some(id) = at else { break };
        needed.insert(id);
        let snapshot = metadata.snapshots.iter().find(|s| s.snapshot_id == id);
        at = snapshot
            .and_then(|s| s.parent_snapshot_id)
            .filter(|_| Some(id) != last);
    }
    metadata
        .snapshots
        .retain(|s| needed.contains(&s.snapshot_id));
}

/// The number of rows, where a snapshot's summary says it exactly: files that delete rows may name
/// one twice.
fn rows(metadata: &TableMetadata, at: Option<i64>) -> Option<u64> {
    let Some(id) = at else { return Some(0) };
    let snapshot = metadata.snapshots.iter().find(|s| s.snapshot_id == id)?;
    let number = |key: &str| snapshot.summary.get(key)?.parse::<u64>().ok();
    let deletes = number("total-delete-files").unwrap_or(0);
    number("total-records").filter(|_| deletes == 0)
}

/// A schema's columns. A nested type is written as JSON.
fn columns(schema: &Value) -> Vec<Column> {
    let fields = schema.get("fields").and_then(Value::as_array);
    let column = |field: &Value| {
        let data_type = field.get("type").unwrap_or(&Value::Null);
        Some(Column {
            name: field.get("name")?.as_str()?.to_owned(),
            data_type: match data_type {
                Value::String(name) => name.clone(),
                nested => canonical(nested),
            },
            nullable: !field
                .get("required")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        })
    };
    fields.into_iter().flatten().filter_map(column).collect()
}

/// What of a version of a view is its own, and not its number's or its writer's.
const VERSION: [&str; 3] = ["default-catalog", "default-namespace", "representations"];

/// What a view says.
pub fn view_content(metadata: &ViewMetadata) -> Result<ViewContent, Broken> {
    let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_i64);
    let version = metadata
        .versions
        .iter()
        .find(|v| number(v, "version-id") == Some(metadata.current_version_id))
        .ok_or(Broken("a version"))?;
    let schema = number(version, "schema-id").unwrap_or(0);
    Ok(ViewContent {
        schema: numbered(&metadata.schemas, "schema-id", schema).ok_or(Broken("a schema"))?,
        version: meaning(version),
        properties: metadata.properties.clone(),
    })
}

/// What a version of a view means, whatever its number.
pub fn meaning(version: &Value) -> Value {
    let own = VERSION
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), version.get(key)?.clone())));
    Value::Object(own.filter(|(_, value)| !value.is_null()).collect())
}

/// What the ledger remembers of a view.
pub fn of_view(metadata: &ViewMetadata) -> Result<RelationState, Broken> {
    let content = view_content(metadata)?;
    let definition = [
        line("view-version", &content.version),
        line("schema", &content.schema),
        line("properties", &json!(content.properties)),
    ];
    Ok(RelationState {
        kind: RelationKind::View,
        columns: columns(&content.schema),
        definition: definition.join("\n"),
        dependents: Vec::new(),
        rows: None,
        fingerprint: None,
        storage: None,
    })
}

/// A view as the ledger remembers it; `None` if it is of no Iceberg view.
pub fn read_view(state: &RelationState) -> Option<ViewContent> {
    let mut lines = BTreeMap::new();
    for line in state.definition.lines() {
        let (word, text) = line.split_once(' ')?;
        lines.insert(word, serde_json::from_str::<Value>(text).ok()?);
    }
    Some(ViewContent {
        schema: lines.remove("schema")?,
        version: lines.remove("view-version")?,
        properties: serde_json::from_value(lines.remove("properties")?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unship_core::relation::Difference;

    type Change = fn(&mut Value);

    /// A table's metadata as a catalog answers it.
    fn metadata(change: impl FnOnce(&mut Value)) -> TableMetadata {
        let mut all = json!({
            "format-version": 2, "table-uuid": "u1", "last-updated-ms": 1,
            "schemas": [
                {"type": "struct", "schema-id": 0, "identifier-field-ids": [], "fields": [
                    {"id": 1, "name": "id", "type": "long", "required": true}]},
                {"type": "struct", "schema-id": 1, "fields": [
                    {"id": 1, "name": "id", "type": "long", "required": true},
                    {"id": 2, "name": "tags", "required": false, "type":
                        {"type": "list", "element-id": 3, "element": "string",
                         "element-required": false}}]},
            ],
            "current-schema-id": 1,
            "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0,
            "properties": {"owner": "anna", "unship.release": "R3 abc"},
            "current-snapshot-id": 20,
            "snapshots": [
                {"snapshot-id": 10, "timestamp-ms": 1, "manifest-list": "s3://x/10.avro",
                 "summary": {"operation": "append", "total-records": "7"}},
                {"snapshot-id": 20, "parent-snapshot-id": 10, "timestamp-ms": 2,
                 "summary": {"operation": "append", "total-records": "9",
                             "total-delete-files": "0"}},
            ],
            "refs": {"main": {"snapshot-id": 20, "type": "branch"}},
        });
        change(&mut all);
        serde_json::from_value(all).unwrap()
    }

    fn state(change: impl FnOnce(&mut Value)) -> RelationState {
        of_table(&metadata(change)).unwrap()
    }

    #[test]
    fn a_table_is_remembered_with_all_that_can_be_brought_back() {
        let text = serde_json::to_string_pretty(&state(|_| ())).unwrap();
        insta::assert_snapshot!(text);
        let metadata = metadata(|_| ());
        let read = TableState::read(&of_table(&metadata).unwrap()).unwrap();
        assert_eq!(read, TableState::of(&metadata).unwrap());
    }

    #[test]
    fn a_number_of_64_bits_keeps_its_end() {
        let big = json!({"b": 7_660_525_776_946_379_502_i64, "a": [u64::MAX, "\u{1}"]});
        let text = canonical(&big);
        assert_eq!(
            text,
            r#"{"a":[18446744073709551615,"\u0001"],"b":7660525776946379502}"#
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), big);
    }

    #[test]
    fn numbers_and_marks_are_no_difference_and_everything_else_is_one() {
        let then = state(|_| ());
        let same: [Change; 4] = [
            |m| m["properties"]["unship.release"] = "R4 def".into(),
            |m| m["refs"]["unship_r3"] = json!({"snapshot-id": 20, "type": "tag"}),
            |m| {
                m["schemas"][1]["schema-id"] = 8.into();
                m["schemas"][1]["identifier-field-ids"] = json!([]);
                m["current-schema-id"] = 8.into();
            },
            |m| {
                // Compaction.
                let list = m["snapshots"].as_array_mut().unwrap();
                list.push(
                    json!({"snapshot-id": 30, "parent-snapshot-id": 20, "timestamp-ms": 3,
                    "summary": {"operation": "replace", "total-records": "9"}}),
                );
                m["refs"]["main"]["snapshot-id"] = 30.into();
            },
        ];
        for change in same {
            assert_eq!(then.difference(&state(change)), Difference::None);
        }
        let other: [(Difference, Change); 6] = [
            (Difference::Rows, |m| {
                m["refs"]["main"]["snapshot-id"] = 10.into()
            }),
            (Difference::Rows, |m| m["table-uuid"] = "u2".into()),
            (Difference::Schema, |m| m["current-schema-id"] = 0.into()),
            (Difference::Schema, |m| {
                m["properties"]["owner"] = "bert".into()
            }),
            (Difference::Schema, |m| {
                m["partition-specs"][0]["fields"] = json!([{"source-id": 1, "field-id": 1000,
                    "name": "p", "transform": "identity"}]);
            }),
            (Difference::Schema, |m| {
                m["sort-orders"][0]["fields"] = json!([{"source-id": 1, "transform": "identity",
                    "direction": "asc", "null-order": "nulls-last"}]);
            }),
        ];
        for (difference, change) in other {
            assert_eq!(then.difference(&state(change)), difference);
        }
    }

    #[test]
    fn rows_are_counted_only_where_no_file_deletes_any() {
        assert_eq!(state(|_| ()).rows, Some(9));
        let deletes =
            |m: &mut Value| m["snapshots"][1]["summary"]["total-delete-files"] = "1".into();
        assert_eq!(state(deletes).rows, None);
        let empty = |m: &mut Value| {
            m["refs"] = json!({});
            m["current-snapshot-id"] = (-1).into();
        };
        assert_eq!(state(empty).rows, Some(0));
        assert_eq!(state(empty).storage.as_deref(), Some("u1 none"));
    }

    /// A chain of compactions that leads to itself ends.
    #[test]
    fn a_loop_of_snapshots_ends() {
        state(|m| {
            m["snapshots"] = json!([{"snapshot-id": 20, "parent-snapshot-id": 20,
                "timestamp-ms": 1, "summary": {"operation": "replace"}}]);
        });
    }

    #[test]
    fn metadata_that_lacks_what_it_names_is_broken() {
        let broken = of_table(&metadata(|m| m["current-schema-id"] = 9.into()));
        assert_eq!(
            broken.unwrap_err().to_string(),
            "the metadata names a schema that it does not hold"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_ledger_holds_is_read_or_refused(definition in ".*", storage in ".*") {
            let state = RelationState { definition, storage: Some(storage), ..state(|_| ()) };
            TableState::read(&state);
            read_view(&state);
        }

        #[test]
        fn any_property_comes_back(key in ".*", value in ".*") {
            prop_assume!(!name::is_mark(&key));
            let metadata = metadata(|m| {
                m["properties"] = json!({});
                m["properties"][&key] = value.clone().into();
            });
            let read = TableState::read(&of_table(&metadata).unwrap()).unwrap();
            prop_assert_eq!(read.properties.get(&key), Some(&value));
        }
    }
}
