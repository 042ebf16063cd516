//! Databases that nobody here made: every table is replaced, and brought back.

use crate::db::{Db, load, publish, quoted, restore, schemas, stage, staging};
use std::collections::BTreeSet;
use unship_engines::postgres::swap::{Name, oracle};

fn round_trip(file: &str) {
    let Some(mut db) = Db::new() else { return };
    let Some(()) = load(&db, file) else { return };
    for view in db.relations("m") {
        db.sql(&format!("REFRESH MATERIALIZED VIEW {}", quoted(&view)));
    }
    let tables = db.relations("rp");
    let homes: BTreeSet<String> = db.relations("rpmv").into_iter().map(|n| n.schema).collect();
    let homes: Vec<&str> = homes.iter().map(String::as_str).collect();
    let (dump, rows) = (db.dump(), db.rows());
    let catalog = oracle::catalog(&mut db.client, &homes).unwrap();
    schemas(&mut db, &tables, &[0, 1, 2, 3]);

    stage(&mut db, &tables);
    db.swap(publish(&tables, 0));
    same(&rows, &db.rows(), "published rows");
    let everything: Vec<Name> = back_in(&mut db, 0);
    db.swap(restore(&everything, 1, 0));
    same(&dump, &db.dump(), "schema after going back");
    same(&rows, &db.rows(), "rows after going back");
    let now = oracle::catalog(&mut db.client, &homes).unwrap();
    same(&catalog, &now, "catalog after going back");

    // Other columns: one more, and rows less.
    for table in &tables {
        db.sql(&format!(
            "CREATE TABLE {} AS SELECT *, 1 AS unship_extra, now() AS unship_at FROM {} t",
            quoted(&staging(table)),
            quoted(table)
        ));
    }
    db.swap(publish(&tables, 0));
    assert_eq!(
        db.one(
            "SELECT count(*) FROM information_schema.columns WHERE column_name = 'unship_extra' AND table_schema !~ '^unship'"
        ),
        tables.len().to_string()
    );
    let everything = back_in(&mut db, 0);
    db.swap(restore(&everything, 2, 0));
    same(
        &dump,
        &db.dump(),
        "schema after going back from other columns",
    );
    same(
        &rows,
        &db.rows(),
        "rows after going back from other columns",
    );
    let now = oracle::catalog(&mut db.client, &homes).unwrap();
    same(
        &catalog,
        &now,
        "catalog after going back from other columns",
    );
}

/// What lies retained under a release, but for partitions: they come with their parent.
fn back_in(db: &mut Db, release: u32) -> Vec<Name> {
    let prefix = format!("unship_r{release}_");
    db.client
        .query(
            "SELECT substr(n.nspname::text, length($1) + 1), c.relname::text FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE starts_with(n.nspname::text, $1) AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition",
            &[&prefix],
        )
        .unwrap()
        .iter()
        .map(|r| Name::new(r.get::<_, String>(0), r.get::<_, String>(1)))
        .collect()
}

fn same(before: &[String], after: &[String], what: &str) {
    let different = oracle::difference(before, after);
    assert!(
        before == after,
        "{what}: {} lines differ\n{}",
        different.len(),
        different[..different.len().min(40)].join("\n")
    );
}

#[test]
fn pagila() {
    round_trip("pagila.sql.gz");
}

#[test]
fn chinook() {
    round_trip("chinook.sql.gz");
}

#[test]
fn adventureworks() {
    round_trip("adventureworks.sql.gz");
}
