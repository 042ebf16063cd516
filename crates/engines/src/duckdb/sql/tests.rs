//! Catalog and fingerprints against a real DuckDB.

use super::catalog::{Depth, observe};
use super::fingerprint::fingerprints;
use crate::duckdb::worker::testing::{open, run, worker};
use crate::duckdb::worker::{Open, Worker};
use std::collections::BTreeMap;
use std::path::Path;
use unship_core::ident::RelationName;
use unship_core::relation::{Difference, Fingerprint, RelationKind, RelationState};

/// A database with something of everything.
pub const EVERYTHING: &[&str] = &[
    "CREATE SCHEMA shop.shop",
    "CREATE SCHEMA marts",
    "CREATE TYPE mood AS ENUM ('ok', 'it''s')",
    "CREATE TYPE shop.marts.pair AS STRUCT(a INTEGER, b VARCHAR[])",
    "CREATE SEQUENCE seq START 5 INCREMENT BY 2",
    "CREATE SEQUENCE marts.down START 10 INCREMENT BY -1 MINVALUE -100 MAXVALUE 100 CYCLE",
    "CREATE TABLE marts.parent (id INTEGER PRIMARY KEY, n VARCHAR COLLATE nocase NOT NULL, \
     u VARCHAR NOT NULL UNIQUE, m mood, d DECIMAL(10,2) DEFAULT 1.5, CHECK (id > 0))",
    "CREATE TABLE marts.child (id INTEGER DEFAULT nextval('seq'), pid INTEGER REFERENCES \
     marts.parent(id), \"generated always\" INTEGER GENERATED ALWAYS AS (pid * 2), \
     t VARCHAR DEFAULT 'a,(REFERENCES b', s STRUCT(a INTEGER, b VARCHAR))",
    "CREATE TABLE marts.\"we\"\"ird. t\" (\"a\"\"b\" INTEGER CHECK (\"a\"\"b\" > 1), \
     \"select\" INTEGER)",
    "CREATE TABLE shop.shop.up (k INTEGER PRIMARY KEY)",
    "USE shop.shop",
    "CREATE TABLE shop.shop.down (k INTEGER, FOREIGN KEY (k) REFERENCES up(k))",
    "USE shop.main",
    "INSERT INTO marts.parent VALUES (1, 'x', 'u', 'ok', 2), (2, 'y', 'v', 'it''s', NULL)",
    "INSERT INTO marts.child (pid, s) VALUES (1, {a: 1, b: 'x'}), (2, NULL), (NULL, NULL)",
    "INSERT INTO marts.\"we\"\"ird. t\" VALUES (2, 3), (4, NULL)",
    "INSERT INTO shop.shop.up VALUES (1), (2)",
    "INSERT INTO shop.shop.down VALUES (1), (1)",
    "CREATE UNIQUE INDEX by_n ON marts.parent (n, (d + 1))",
    "CREATE INDEX by_pid ON marts.child (pid)",
    "CREATE MACRO plus(a, b := 5) AS a + b",
    "CREATE MACRO over(a) AS a, (a, b) AS plus(a, b)",
    "CREATE MACRO marts.find(x) AS TABLE SELECT * FROM shop.marts.parent WHERE id = x",
    "CREATE VIEW v1 AS SELECT *, plus(id) AS p FROM shop.marts.parent",
    "CREATE VIEW marts.v2 (a, b) AS WITH v1 AS (SELECT id FROM main.v1) SELECT v1.id, c.pid \
     FROM v1 JOIN marts.child AS c ON v1.id = c.pid",
    "CREATE VIEW a_first AS SELECT * FROM shop.marts.v2",
    "COMMENT ON TABLE marts.parent IS 'it''s a table'",
    "COMMENT ON COLUMN marts.parent.n IS 'a column'",
    "COMMENT ON VIEW v1 IS 'a view'",
    "COMMENT ON COLUMN v1.id IS 'a view''s column'",
    "COMMENT ON INDEX marts.by_n IS 'an index'",
    "COMMENT ON SEQUENCE seq IS 'a sequence'",
    "COMMENT ON TYPE mood IS 'a type'",
    "COMMENT ON MACRO plus IS 'a macro'",
    "COMMENT ON MACRO TABLE marts.find IS 'a table macro'",
];

/// The file `shop.duckdb` in `directory`, with everything in it.
pub fn shop(directory: &Path) -> std::path::PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.join("shop.duckdb");
    let mut worker = open(&path);
    run(&mut worker, EVERYTHING);
    worker.shutdown().unwrap();
    path
}

fn seen(worker: &mut Worker, depth: Depth) -> BTreeMap<RelationName, RelationState> {
    let database = worker.database().to_owned();
    observe(worker, &database, depth).unwrap()
}

fn named(schema: &str, name: &str) -> RelationName {
    RelationName::new("shop", schema, name)
}

#[test]
fn everything_is_observed_and_the_same_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = shop(directory.path());
    let first = seen(&mut open(&path), Depth::Fingerprints);
    let mut second = open(&path);
    assert_eq!(seen(&mut second, Depth::Fingerprints), first);
    run(&mut second, &["SELECT nextval('seq')"]);
    let text: Vec<String> = first
        .iter()
        .map(|(name, state)| format!("-- {} {name}\n{}", state.kind.word(), state.definition))
        .collect();
    // How DuckDB prints a view's query changes with its version; our part of the text does not.
    let mut filters = insta::Settings::clone_current();
    filters.add_filter(r"(?m)^(CREATE VIEW .*?) AS .*$", "$1 AS <query>");
    filters.add_filter(r"(?m) TABLE SELECT .*$", " TABLE <query>");
    filters.bind(|| insta::assert_snapshot!("everything", text.join("\n")));
    let drawn = seen(&mut second, Depth::Definitions);
    assert_eq!(
        drawn[&named("main", "seq")].definition,
        first[&named("main", "seq")].definition
    );
    let of = |schema: &str, name: &str| -> Vec<String> {
        first[&named(schema, name)]
            .dependents
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        of("marts", "parent"),
        ["shop.main.v1", "shop.marts.child", "shop.marts.find"]
    );
    assert_eq!(of("main", "v1"), ["shop.marts.v2"]);
    assert_eq!(of("marts", "v2"), ["shop.main.a_first"]);
    assert_eq!(of("main", "plus"), ["shop.main.over", "shop.main.v1"]);
    assert_eq!(of("main", "seq"), ["shop.marts.child"]);
    let parent = &first[&named("marts", "parent")];
    assert_eq!(parent.rows, Some(2));
    assert_eq!(parent.kind, RelationKind::Table);
    assert!(parent.storage.is_some());
    assert_eq!(first[&named("main", "v1")].fingerprint, None);
}

#[test]
fn storage_says_which_table_was_rewritten_and_nothing_before_it_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = open(&directory.path().join("s.duckdb"));
    run(
        &mut worker,
        &[
            "CREATE TABLE a AS SELECT range AS x FROM range(300000)",
            "CREATE TABLE b AS SELECT range AS x FROM range(1000)",
            "CHECKPOINT",
        ],
    );
    let name = |name: &str| RelationName::new("s", "main", name);
    let first = seen(&mut worker, Depth::Storage);
    run(&mut worker, &["INSERT INTO b VALUES (1)"]);
    let second = seen(&mut worker, Depth::Storage);
    assert_eq!(second[&name("a")].storage, first[&name("a")].storage);
    assert_eq!(second[&name("b")].storage, None);
    assert_eq!(second[&name("b")].rows, Some(1001));
    run(&mut worker, &["CHECKPOINT"]);
    let third = seen(&mut worker, Depth::Storage);
    assert!(third[&name("b")].storage.is_some());
    assert_ne!(third[&name("b")].storage, first[&name("b")].storage);
    run(&mut worker, &["UPDATE a SET x = -1 WHERE x = 7"]);
    let fourth = seen(&mut worker, Depth::Storage);
    assert_eq!(fourth[&name("a")].storage, None);
}

/// A table that is loaded anew twice takes the blocks again that it had at first.
#[test]
fn the_same_place_with_other_rows_in_it_is_no_proof() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = open(&directory.path().join("s.duckdb"));
    let load = |worker: &mut Worker, seed: u32| {
        let table = format!(
            "CREATE OR REPLACE TABLE a AS \
             SELECT range AS id, md5(((range + {seed}) % 1000)::VARCHAR) AS x FROM range(1000)"
        );
        run(worker, &[&table, "CHECKPOINT"]);
    };
    let name = RelationName::new("s", "main", "a");
    let mut states = Vec::new();
    for seed in 0..6 {
        load(&mut worker, seed);
        states.push(seen(&mut worker, Depth::Storage)[&name].clone());
    }
    let places: Vec<_> = states.iter().map(|state| &state.storage).collect();
    assert!(places.iter().all(|place| place.is_some()));
    for (n, place) in places.iter().enumerate() {
        assert!(
            !places[..n].contains(place),
            "load {n} looks like an older one"
        );
    }
}

#[test]
fn deleted_rows_are_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = open(&directory.path().join("s.duckdb"));
    run(
        &mut worker,
        &[
            "CREATE TABLE a AS SELECT range AS x FROM range(1000)",
            "CHECKPOINT",
        ],
    );
    let name = RelationName::new("s", "main", "a");
    let first = seen(&mut worker, Depth::Storage)[&name].clone();
    run(&mut worker, &["DELETE FROM a WHERE x = 7", "CHECKPOINT"]);
    let second = seen(&mut worker, Depth::Storage)[&name].clone();
    assert_eq!(first.difference(&second), Difference::Rows);
}

fn print_of(worker: &mut Worker, column_type: &str, values: &[&str]) -> Fingerprint {
    let rows: Vec<String> = values
        .iter()
        .map(|value| format!("({value}::{column_type})"))
        .collect();
    run(
        worker,
        &[
            &format!("CREATE OR REPLACE TABLE t (x {column_type})"),
            &format!("INSERT INTO t VALUES {}", rows.join(", ")),
        ],
    );
    let name = RelationName::new("memory", "main", "t");
    fingerprints(worker, std::slice::from_ref(&name))
        .unwrap()
        .remove(&name)
        .unwrap()
}

#[test]
fn different_values_of_every_type_have_different_fingerprints() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("BOOLEAN", &["NULL", "true", "false"]),
        ("VARCHAR", &["NULL", "'NULL'", "''", "'a'", "'A'"]),
        ("VARCHAR COLLATE nocase", &["'a'", "'A'"]),
        (
            "DOUBLE",
            &["NULL", "0.0", "'-0.0'", "'nan'", "'inf'", "'-inf'"],
        ),
        ("FLOAT", &["0.0", "'-0.0'", "0.1"]),
        ("DECIMAL(38,2)", &["1.10", "1.11"]),
        (
            "HUGEINT",
            &["170141183460469231731687303715884105727", "-1"],
        ),
        (
            "UHUGEINT",
            &["340282366920938463463374607431768211455", "1"],
        ),
        (
            "INTEGER[]",
            &[
                "NULL",
                "[]",
                "[NULL]",
                "[1]",
                "[1, NULL]",
                "[1, 2]",
                "[2, 1]",
            ],
        ),
        (
            "VARCHAR[]",
            &["['a, b']", "['a', 'b']", "['NULL']", "[NULL]"],
        ),
        ("INTEGER[2]", &["NULL", "[1, 2]", "[2, 1]", "[NULL, NULL]"]),
        ("DOUBLE[]", &["[0.0]", "['-0.0'::DOUBLE]"]),
        (
            "STRUCT(a INTEGER, b INTEGER)",
            &["NULL", "{a: 1, b: 2}", "{a: 2, b: 1}", "{a: NULL, b: NULL}"],
        ),
        (
            "MAP(VARCHAR, INTEGER)",
            &["NULL", "MAP {}", "MAP {'a': 1}", "MAP {'a': NULL}"],
        ),
        (
            "UNION(n INTEGER, m INTEGER)",
            &["NULL", "union_value(n := 1)", "union_value(m := 1)"],
        ),
        ("ENUM ('a', 'b')", &["NULL", "'a'", "'b'"]),
        ("JSON", &["NULL", "'null'", "'{}'", "'[]'"]),
        ("BLOB", &["NULL", "''", "'\\x00'", "'\\x00\\x00'"]),
        ("UUID", &["NULL", "'00000000-0000-0000-0000-000000000001'"]),
        (
            "INTERVAL",
            &["NULL", "'1 month'", "'30 days'", "'720 hours'"],
        ),
        ("BIT", &["'1'", "'01'", "'0001'"]),
        ("DATE", &["NULL", "'infinity'", "'2020-01-01'"]),
        ("TIMETZ", &["'12:00:00+00'", "'13:00:00+01'"]),
        (
            "TIMESTAMPTZ",
            &[
                "NULL",
                "'2020-01-01 00:00:00+00'",
                "'2020-01-01 00:00:01+00'",
            ],
        ),
        (
            "TIMESTAMP_NS",
            &["NULL", "'2020-01-01 00:00:00.000000001'", "'2020-01-01'"],
        ),
    ];
    for (column_type, values) in cases {
        let (plain, _) = column_type
            .split_once(" COLLATE")
            .unwrap_or((column_type, ""));
        let mut prints = Vec::new();
        for value in *values {
            let print = if plain == *column_type {
                print_of(&mut worker, column_type, &[value])
            } else {
                run(
                    &mut worker,
                    &[
                        &format!("CREATE OR REPLACE TABLE t (x {column_type})"),
                        &format!("INSERT INTO t VALUES ({value})"),
                    ],
                );
                let name = RelationName::new("memory", "main", "t");
                fingerprints(&mut worker, std::slice::from_ref(&name))
                    .unwrap()
                    .remove(&name)
                    .unwrap()
            };
            assert_eq!(print.rows, 1);
            if let Some(other) = prints
                .iter()
                .position(|other: &Fingerprint| other.whole == print.whole)
            {
                panic!(
                    "{column_type}: {value} has the fingerprint of {}",
                    values[other]
                );
            }
            prints.push(print);
        }
    }
}

#[test]
fn order_does_not_matter_and_duplicates_and_swapped_columns_do() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let a = print_of(&mut worker, "INTEGER", &["1", "2", "3"]);
    assert_eq!(print_of(&mut worker, "INTEGER", &["3", "1", "2"]), a);
    assert_ne!(
        print_of(&mut worker, "INTEGER", &["3", "1", "2", "2"]).whole,
        a.whole
    );
    run(&mut worker, &["CREATE TABLE empty (x INTEGER)"]);
    let empty = RelationName::new("memory", "main", "empty");
    let print = &fingerprints(&mut worker, std::slice::from_ref(&empty)).unwrap()[&empty];
    assert_eq!((print.rows, print.whole.as_str()), (0, "0"));
    run(
        &mut worker,
        &[
            "CREATE TABLE s AS SELECT 1 AS a, 2 AS b",
            "CREATE TABLE w AS SELECT 2 AS a, 1 AS b",
        ],
    );
    let names = ["s", "w"].map(|name| RelationName::new("memory", "main", name));
    let prints = fingerprints(&mut worker, &names).unwrap();
    assert_ne!(prints[&names[0]].whole, prints[&names[1]].whole);
}

#[test]
fn a_table_of_a_thousand_columns_has_a_fingerprint() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let columns: Vec<String> = (0..1000).map(|i| format!("\"c {i}\" INTEGER")).collect();
    run(
        &mut worker,
        &[
            &format!("CREATE TABLE wide ({})", columns.join(", ")),
            "INSERT INTO wide (\"c 7\") VALUES (1)",
        ],
    );
    let name = RelationName::new("memory", "main", "wide");
    let print = fingerprints(&mut worker, std::slice::from_ref(&name))
        .unwrap()
        .remove(&name)
        .unwrap();
    assert_eq!((print.rows, print.columns.len()), (1, 1000));
    assert_ne!(print.columns["c 7"], print.columns["c 8"]);
}

#[test]
fn a_fingerprint_does_not_depend_on_the_time_zone() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let mut prints = Vec::new();
    for zone in ["America/New_York", "Asia/Tokyo"] {
        run(&mut worker, &[&format!("SET TimeZone = '{zone}'")]);
        prints.push(print_of(
            &mut worker,
            "TIMESTAMPTZ[]",
            &["['2020-01-01 00:00:00+00']"],
        ));
        let kept = worker
            .texts("SELECT current_setting('TimeZone')", &[])
            .unwrap();
        assert_eq!(kept, vec![vec![Some(zone.to_owned())]]);
    }
    assert_eq!(prints[0], prints[1]);
}
