//! What it costs to measure a relation for the automatic checks: all of it in one scan, against the
//! same figures as a query each, against counting rows, and against one query that reads every cell.
//!
//! `BENCH_CHECK_ROWS` is the number of rows, 10,000,000 unless it says otherwise.

use crate::measure::{Outcome, World, median, timed};
use crate::report::Row;
use postgres::{Client, NoTls};
use std::collections::BTreeMap;
use unship_core::check::Detail;
use unship_core::engine::{Engine, Place};
use unship_core::ident::RelationName;
use unship_engines::duckdb::layout::DbFile;
use unship_engines::duckdb::worker::{Open, Worker, find_python};
use unship_engines::duckdb::{DuckDb, Settings};
use unship_engines::postgres::{Postgres, address::Address, build::Wanted, connect::Connector};

const ROWS: u64 = 10_000_000;
const ROUNDS: usize = 3;

/// The columns: how many of a sort, the sort, and what is in row `i`, in SQL of both engines.
const COLUMNS: [(usize, &str, &str); 5] = [
    (6, "BIGINT", "(i * 7919 + {n}) % 1000003"),
    (4, "DECIMAL(12, 2)", "(i % 100000) * 1.01"),
    (4, "DOUBLE PRECISION", "i / 3.0"),
    (
        2,
        "TIMESTAMP",
        "TIMESTAMP '2026-01-01' + (i % 1000000) * INTERVAL '1 second'",
    ),
    (4, "VARCHAR", "concat('value ', i % 5003)"),
];

/// Each column's name, sort and content.
fn columns() -> Vec<(String, &'static str, String)> {
    let sorts = COLUMNS.iter().flat_map(|(count, sort, value)| {
        (0..*count).map(move |n| (*sort, value.replace("{n}", &n.to_string())))
    });
    sorts
        .enumerate()
        .map(|(n, (sort, value))| (format!("c{n}"), sort, value))
        .collect()
}

fn select() -> String {
    let list: Vec<_> = columns()
        .iter()
        .map(|(name, sort, value)| format!("CAST({value} AS {sort}) AS {name}"))
        .collect();
    list.join(", ")
}

/// One query for each figure.
fn one_by_one(distinct: Option<&str>) -> Vec<String> {
    let mut all = vec!["SELECT count(*) FROM t".to_owned()];
    for (name, sort, _) in columns() {
        let mut asked = vec![format!("count({name})")];
        asked.extend(distinct.map(|function| format!("{function}({name})")));
        if sort != "VARCHAR" {
            asked.push(format!("min({name})"));
            asked.push(format!("max({name})"));
        }
        if !["VARCHAR", "TIMESTAMP"].contains(&sort) {
            asked.push(format!("sum({name})"));
        }
        all.extend(asked.iter().map(|figure| format!("SELECT {figure} FROM t")));
    }
    all
}

/// One query that reads every cell.
fn full_scan() -> String {
    let list: Vec<_> = columns()
        .iter()
        .map(|(name, ..)| format!("max({name})"))
        .collect();
    format!("SELECT {} FROM t", list.join(", "))
}

/// Measures DuckDB, and PostgreSQL where UNSHIP_TEST_POSTGRES names a server.
pub fn measure(world: &World) -> Outcome<Vec<Row>> {
    let rows = match std::env::var("BENCH_CHECK_ROWS") {
        Ok(text) => text.parse()?,
        Err(_) => ROWS,
    };
    let mut all = duckdb(world, rows)?;
    if let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") {
        all.extend(postgres(&server, rows)?);
    }
    Ok(all)
}

fn often(mut work: impl FnMut() -> Outcome) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(timed(&mut work)?.0);
    }
    Ok(median(&times))
}

fn compared(engine: &str, rows: u64, ours: f64, [each, count, scan]: [f64; 3]) -> Vec<Row> {
    let name = format!("measure {rows} rows of 20 columns, {engine}");
    let row = |other: &str, took| Row::alone(&name, "s", ours).beside(other, took);
    vec![
        row("a query for each figure", each),
        row("count(*)", count),
        row("one full scan", scan).within(3.0),
    ]
}

fn profiled(engine: &mut dyn Engine, name: &RelationName, rows: u64) -> Outcome<f64> {
    let asked = BTreeMap::from([(name.clone(), Detail::Columns)]);
    often(|| {
        let found = engine.profile(Place::Live, &asked, &|_, _, _| {})?;
        match found.get(name) {
            Some(profile) if profile.rows == rows && profile.columns.len() == 20 => Ok(()),
            other => Err(format!("not what was to be measured: {other:?}").into()),
        }
    })
}

fn duckdb(world: &World, rows: u64) -> Outcome<Vec<Row>> {
    let dir = world.fresh("checks")?;
    let path = dir.join("wide.duckdb");
    let mut worker: Worker = find_python(None, Some(&world.python))?.worker;
    worker.open(&Open::writable(&path))?;
    let sql = format!(
        "CREATE TABLE t AS SELECT {} FROM range({rows}) r(i)",
        select()
    );
    worker.execute(&sql, &[])?;
    worker.close()?;
    worker.open(&Open::read_only(&path))?;
    let mut ask = |all: &[String]| {
        often(|| {
            for sql in all {
                worker.query(sql, &[], 1)?;
            }
            Ok(())
        })
    };
    let others = [
        ask(&one_by_one(Some("approx_count_distinct")))?,
        ask(&["SELECT count(*) FROM t".to_owned()])?,
        ask(&[full_scan()])?,
    ];
    drop(worker);
    let mut engine = DuckDb::new(Settings {
        files: vec![DbFile {
            catalog: "wide".to_owned(),
            path,
        }],
        python: Some(world.python.clone()),
        ..Settings::default()
    });
    let name = RelationName::new("wide", "main", "t");
    let ours = profiled(&mut engine, &name, rows)?;
    Ok(compared("DuckDB", rows, ours, others))
}

fn postgres(server: &str, rows: u64) -> Outcome<Vec<Row>> {
    let mut client = Client::connect(server, NoTls)?;
    client
        .batch_execute("DROP SCHEMA IF EXISTS bench_checks CASCADE; CREATE SCHEMA bench_checks")?;
    client.batch_execute(&format!(
        "SET search_path = bench_checks; CREATE TABLE t AS SELECT {} FROM generate_series(0::int8, {rows} - 1) r(i)",
        select()
    ))?;
    // It runs in no transaction, and several statements at once are one.
    client.batch_execute("VACUUM ANALYZE t")?;
    let mut ask = |all: &[String]| {
        often(|| {
            for sql in all {
                client.query(sql, &[]).map(drop)?;
            }
            Ok(())
        })
    };
    let others = [
        ask(&one_by_one(None))?,
        ask(&["SELECT count(*) FROM t".to_owned()])?,
        ask(&[full_scan()])?,
    ];
    let connector = Connector::new(Address::parse(server)?)?;
    let name = RelationName::new(connector.database(), "bench_checks", "t");
    let mut engine = Postgres::new(connector, Default::default(), Wanted::default());
    let ours = profiled(&mut engine, &name, rows)?;
    drop(engine);
    client.batch_execute("DROP SCHEMA bench_checks CASCADE")?;
    Ok(compared("PostgreSQL", rows, ours, others))
}
