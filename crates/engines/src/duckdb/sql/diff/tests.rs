//! Diffs of real files.

use super::{Change, DiffError, RelationDiff, diff};
use crate::duckdb::worker::testing::{open, run, worker};
use crate::duckdb::worker::{Open, Worker};
use proptest::prelude::*;
use std::collections::BTreeMap;
use unship_core::ident::RelationName;
use unship_core::value::Value;

/// Two files of the same name, made by these statements, attached as `old` and `new`.
fn two(directory: &std::path::Path, old: &[&str], new: &[&str]) -> Worker {
    let mut opening = Open {
        memory_limit: Some("500MB".to_owned()),
        ..Open::default()
    };
    for (alias, statements) in [("old", old), ("new", new)] {
        let folder = directory.join(alias);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("shop.duckdb");
        let mut maker = open(&path);
        run(&mut maker, statements);
        maker.shutdown().unwrap();
        opening = opening.with(path, alias);
    }
    let mut worker = worker();
    worker.open(&opening).unwrap();
    worker
}

fn compare(worker: &mut Worker, key: Option<&[&str]>) -> RelationDiff {
    let key: Option<Vec<String>> = key.map(|key| key.iter().map(ToString::to_string).collect());
    let of = |alias: &str| RelationName::new(alias, "main", "t");
    diff(worker, &of("old"), &of("new"), key.as_deref(), 2).unwrap()
}

const OLD: &[&str] = &[
    "CREATE TABLE t (id INTEGER, n VARCHAR COLLATE nocase, f DOUBLE, gone INTEGER, num INTEGER NOT NULL)",
    "INSERT INTO t VALUES (1, 'a', 0.0, 1, 1), (2, 'b', 1.0, 1, 2), (3, 'c', 1.0, 1, 3), \
     (NULL, 'n', NULL, 1, 4)",
];

const NEW: &[&str] = &[
    "CREATE TABLE t (ID INTEGER, f DOUBLE, n VARCHAR COLLATE nocase, num BIGINT, fresh DATE)",
    "INSERT INTO t VALUES (1, '-0.0', 'A', 1, NULL), (2, 1.0, 'b', 2, NULL), \
     (4, 1.0, 'd', 3, '2020-01-01'), (NULL, 7.0, 'n', 4, NULL)",
];

#[test]
fn rows_are_matched_by_key_and_every_column_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = two(directory.path(), OLD, NEW);
    let answer = compare(&mut worker, Some(&["id"]));
    assert_eq!(answer.key, Some(vec!["ID".to_owned()]));
    assert_eq!(
        (
            answer.added,
            answer.removed,
            answer.changed,
            answer.unchanged
        ),
        (1, 1, 2, 1)
    );
    assert_eq!(
        answer.columns,
        BTreeMap::from([("f".to_owned(), 2), ("n".to_owned(), 1)])
    );
    let schema = &answer.schema;
    assert_eq!(schema.added[0].name, "fresh");
    assert_eq!(schema.removed[0].name, "gone");
    assert_eq!(
        (
            schema.retyped[0].old.as_str(),
            schema.retyped[0].new.as_str()
        ),
        ("INTEGER", "BIGINT")
    );
    assert_eq!(schema.nullability[0].name, "num");
    assert!(schema.definition.is_some());
    let of = |change| {
        answer
            .examples
            .iter()
            .filter(move |e| e.change == change)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Change::Added)[0].key, [("ID".to_owned(), Value::Int(4))]);
    assert_eq!(
        of(Change::Added)[0].new[4].1,
        Value::Text("2020-01-01".to_owned())
    );
    assert_eq!(
        of(Change::Removed)[0].old[3],
        ("gone".to_owned(), Value::Int(1))
    );
    let changed = of(Change::Changed);
    assert_eq!(changed[0].key[0].1, Value::Null);
    assert_eq!(
        (&changed[1].old[1].1, &changed[1].new[2].1),
        (&Value::Text("a".into()), &Value::Text("A".into()))
    );
}

#[test]
fn a_key_that_is_not_one_is_said_and_whole_rows_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let old = ["CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (1, 'a'), (2, 'b')) v(k, x)"];
    let new = ["CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (2, 'c')) v(k, x)"];
    let mut worker = two(directory.path(), &old, &new);
    let answer = compare(&mut worker, Some(&["k"]));
    assert_eq!(answer.key, None);
    assert_eq!(
        answer.key_refused.as_deref(),
        Some("1 values of (k) stand more than once in the old table")
    );
    assert_eq!(
        (
            answer.added,
            answer.removed,
            answer.changed,
            answer.unchanged
        ),
        (1, 1, 0, 2)
    );
    assert_eq!(answer.examples[0].new[1].1, Value::Text("c".to_owned()));
    assert_eq!(answer.examples[1].old[1].1, Value::Text("a".to_owned()));
    let answer = compare(&mut worker, Some(&["nothing"]));
    assert!(answer.key_refused.unwrap().contains("nothing"));
}

#[test]
fn only_tables_have_rows_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let statements = ["CREATE VIEW t AS SELECT 1 AS a"];
    let mut worker = two(directory.path(), &statements, &statements);
    let of = |alias: &str| RelationName::new(alias, "main", "t");
    let error = diff(&mut worker, &of("old"), &of("new"), None, 1).unwrap_err();
    assert!(matches!(error, DiffError::NotATable { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn counts_are_those_of_a_plain_comparison(
        old in prop::collection::btree_map(0_i32..20, prop::option::of(0_i32..3), 0..20),
        new in prop::collection::btree_map(0_i32..20, prop::option::of(0_i32..3), 0..20),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let make = |rows: &BTreeMap<i32, Option<i32>>| -> Vec<String> {
            let mut list = vec!["CREATE TABLE t (k INTEGER, v INTEGER)".to_owned()];
            list.extend(rows.iter().map(|(k, v)| {
                let v = v.map_or("NULL".to_owned(), |v| v.to_string());
                format!("INSERT INTO t VALUES ({k}, {v})")
            }));
            list
        };
        let (a, b) = (make(&old), make(&new));
        let a: Vec<&str> = a.iter().map(String::as_str).collect();
        let b: Vec<&str> = b.iter().map(String::as_str).collect();
        let mut worker = two(directory.path(), &a, &b);
        let answer = compare(&mut worker, Some(&["k"]));
        let added = new.keys().filter(|k| !old.contains_key(k)).count() as u64;
        let removed = old.keys().filter(|k| !new.contains_key(k)).count() as u64;
        let changed = old.iter().filter(|(k, v)| new.get(k).is_some_and(|n| n != *v)).count() as u64;
        let same = old.iter().filter(|(k, v)| new.get(k) == Some(v)).count() as u64;
        prop_assert_eq!((answer.added, answer.removed, answer.changed, answer.unchanged), (added, removed, changed, same));
        let wholes = compare(&mut worker, None);
        prop_assert_eq!((wholes.added, wholes.removed, wholes.unchanged), (added + changed, removed + changed, same));
    }
}
