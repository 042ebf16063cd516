//! Table-level restore on a real DuckDB.

use super::super::catalog::{Depth, observe};
use super::super::tests::shop;
use super::{RestoreError, apply, plan};
use crate::duckdb::worker::testing::{open, run, worker};
use crate::duckdb::worker::{Open, Worker};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use unship_core::ident::RelationName;
use unship_core::relation::{RelationKind, RelationState};

fn named(schema: &str, name: &str) -> RelationName {
    RelationName::new("shop", schema, name)
}

fn set(names: &[(&str, &str)]) -> BTreeSet<RelationName> {
    names
        .iter()
        .map(|(schema, name)| named(schema, name))
        .collect()
}

type States = BTreeMap<RelationName, RelationState>;

/// Without what a restore does not promise: where rows are stored.
fn seen(worker: &mut Worker) -> States {
    let mut states = observe(worker, "shop", Depth::Fingerprints).unwrap();
    states.values_mut().for_each(|state| state.storage = None);
    states
}

/// The old file, and a copy of the same name that is open for writing with the old one attached.
fn pair(directory: &Path) -> Worker {
    let old = shop(&directory.join("old"));
    let live = directory.join("live").join("shop.duckdb");
    std::fs::create_dir_all(live.parent().unwrap()).unwrap();
    std::fs::copy(&old, &live).unwrap();
    let mut worker = worker();
    worker
        .open(&Open::writable(&live).with(&old, "unship_source"))
        .unwrap();
    worker
}

#[test]
fn everything_that_a_bad_release_broke_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = pair(directory.path());
    let before = seen(&mut worker);
    run(
        &mut worker,
        &[
            "DROP VIEW a_first",
            "DROP VIEW marts.v2",
            "DROP VIEW v1",
            "DROP TABLE marts.child",
            "DROP TABLE marts.parent",
            "CREATE TABLE v1 AS SELECT 1 AS now_a_table",
            "CREATE VIEW marts.parent AS SELECT 2 AS now_a_view",
            "CREATE TABLE added AS SELECT 3 AS x",
            "DROP MACRO plus",
            "CREATE MACRO plus(a, b := 6) AS a * b",
            "DROP MACRO over",
            "DROP MACRO TABLE marts.find",
            "DROP SEQUENCE seq",
            "DROP TYPE mood",
            "DROP SEQUENCE marts.down",
            "INSERT INTO shop.shop.down VALUES (2)",
            "DELETE FROM marts.\"we\"\"ird. t\"",
        ],
    );
    let bring: BTreeSet<RelationName> = before.keys().cloned().collect();
    let planned = plan(
        &mut worker,
        "unship_source",
        &bring,
        &set(&[("main", "added")]),
    )
    .unwrap();
    let restored = apply(&mut worker, &planned).unwrap();
    assert_eq!(restored.broken, []);
    assert_eq!(seen(&mut worker), before);
    let tables = before
        .values()
        .filter(|state| state.kind == RelationKind::Table)
        .count();
    assert_eq!(restored.proved.len(), tables);
    // It stands in the file, and the next number is not one that was drawn before.
    worker.close().unwrap();
    let live = directory.path().join("live").join("shop.duckdb");
    let mut again = open(&live);
    assert_eq!(seen(&mut again), before);
    let drawn = again
        .texts("SELECT CAST(nextval('seq') AS VARCHAR)", &[])
        .unwrap();
    assert_eq!(drawn, vec![vec![Some("11".to_owned())]]);
}

#[test]
fn one_table_comes_back_and_everything_else_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = pair(directory.path());
    run(
        &mut worker,
        &[
            "INSERT INTO shop.shop.up VALUES (7)",
            "UPDATE marts.child SET t = 'bad'",
            "SELECT nextval('seq')",
        ],
    );
    let bad = seen(&mut worker);
    let planned = plan(
        &mut worker,
        "unship_source",
        &set(&[("marts", "child")]),
        &BTreeSet::new(),
    )
    .unwrap();
    assert_eq!(
        planned.readers,
        [named("main", "a_first"), named("marts", "v2")]
    );
    apply(&mut worker, &planned).unwrap();
    let after = seen(&mut worker);
    for (name, state) in &after {
        assert_eq!(
            state == &bad[name],
            *name != named("marts", "child"),
            "{name}"
        );
    }
    // Never rewound: 5, 7 and 9 were given to the rows, 11 was drawn above.
    let next = worker
        .texts("SELECT CAST(nextval('seq') AS VARCHAR)", &[])
        .unwrap();
    assert_ne!(next, vec![vec![Some("11".to_owned())]]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name_before_anything_changes() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = pair(directory.path());
    run(
        &mut worker,
        &["CREATE TABLE more (x INTEGER DEFAULT nextval('marts.down'))"],
    );
    let before = seen(&mut worker);
    let bring = set(&[("marts", "parent"), ("main", "nothing"), ("shop", "up")]);
    let error = plan(&mut worker, "unship_source", &bring, &BTreeSet::new()).unwrap_err();
    insta::assert_snapshot!(error.to_string(), @r"
    cannot restore:
      shop.main.nothing: it is not in the restore point
      shop.marts.parent: shop.marts.child refers to it by a foreign key; restore that too
      shop.shop.up: shop.shop.down refers to it by a foreign key; restore that too
    ");
    assert_eq!(seen(&mut worker), before);
}

#[test]
fn a_table_that_refers_to_itself_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("shop.duckdb");
    let tree = "CREATE TABLE tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree(id))";
    {
        let mut maker = open(&old);
        run(
            &mut maker,
            &[
                tree,
                "INSERT INTO tree VALUES (1, NULL)",
                "INSERT INTO tree VALUES (2, 1)",
            ],
        );
        maker.shutdown().unwrap();
    }
    std::fs::create_dir(directory.path().join("live")).unwrap();
    let mut worker = worker();
    worker
        .open(
            &Open::writable(directory.path().join("live/shop.duckdb")).with(&old, "unship_source"),
        )
        .unwrap();
    let error = plan(
        &mut worker,
        "unship_source",
        &set(&[("main", "tree")]),
        &BTreeSet::new(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("shop.main.tree: it refers to itself"),
        "{error}"
    );
}

#[test]
fn a_failure_half_way_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = pair(directory.path());
    // The parent's row that the older child needs is gone, and the parent is not restored.
    run(
        &mut worker,
        &[
            "DELETE FROM marts.child",
            "CHECKPOINT",
            "DELETE FROM marts.parent WHERE id = 2",
        ],
    );
    let before = seen(&mut worker);
    let planned = plan(
        &mut worker,
        "unship_source",
        &set(&[("marts", "child")]),
        &BTreeSet::new(),
    )
    .unwrap();
    let error = apply(&mut worker, &planned).unwrap_err();
    assert!(matches!(error, RestoreError::Statement { .. }), "{error}");
    assert!(error.to_string().contains("foreign key"), "{error}");
    assert_eq!(seen(&mut worker), before);
    assert!(worker.execute("SELECT * FROM v1", &[]).is_ok());
}

#[test]
fn a_view_that_no_longer_binds_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = pair(directory.path());
    run(
        &mut worker,
        &[
            "ALTER TABLE marts.\"we\"\"ird. t\" ADD COLUMN fresh INTEGER",
            "CREATE VIEW reader AS SELECT fresh FROM marts.\"we\"\"ird. t\"",
        ],
    );
    let bring = set(&[("marts", "we\"ird. t")]);
    let planned = plan(&mut worker, "unship_source", &bring, &BTreeSet::new()).unwrap();
    let restored = apply(&mut worker, &planned).unwrap();
    assert_eq!(restored.broken.len(), 1);
    assert_eq!(restored.broken[0].0, named("main", "reader"));
    assert!(
        restored.broken[0].1.contains("fresh"),
        "{}",
        restored.broken[0].1
    );
}

/// DuckDB prints `DECIMAL(12, 2)` of a view that was just made and `DECIMAL(12,2)` of one that it
/// has read from the file.
#[test]
fn a_view_comes_back_although_duckdb_prints_it_otherwise_now() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("shop.duckdb");
    let view = "CREATE VIEW v AS SELECT CAST(x * 2 AS DECIMAL(12,2)) AS \"y\", \
                CAST(NULL AS STRUCT(a INTEGER, \"b c\" DECIMAL(9,1)[])) AS s, 'a,  b' AS t FROM raw";
    {
        let mut maker = open(&old);
        run(
            &mut maker,
            &["CREATE TABLE raw AS SELECT 1 AS x", view, "CHECKPOINT"],
        );
    }
    let live = directory.path().join("live").join("shop.duckdb");
    std::fs::create_dir_all(live.parent().unwrap()).unwrap();
    std::fs::copy(&old, &live).unwrap();
    let mut worker = worker();
    worker
        .open(&Open::writable(&live).with(&old, "unship_source"))
        .unwrap();
    let before = seen(&mut worker);
    run(
        &mut worker,
        &["CREATE OR REPLACE VIEW v AS SELECT 1 AS broken"],
    );
    let bring = set(&[("main", "v")]);
    let planned = plan(&mut worker, "unship_source", &bring, &BTreeSet::new()).unwrap();
    apply(&mut worker, &planned).unwrap();
    worker.close().unwrap();
    worker.open(&Open::read_only(&live)).unwrap();
    assert_eq!(seen(&mut worker), before);
}
