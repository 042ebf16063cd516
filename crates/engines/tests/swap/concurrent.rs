//! Publishing and going back while others read and write, and how long a thousand relations take.

use crate::db::{Db, publish, quoted, restore, schemas, staging};
use postgres::IsolationLevel;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use unship_engines::postgres::swap::{Event, Name, run};

/// Eight readers: some join three tables in opposite orders and compare what release each is of; a
/// view outside of the release joins them too; and some look at one after the other in one
/// repeatable-read transaction. Two writers write to a table beside them what they read by the view.
fn rounds(rounds: u32) {
    let Some(mut db) = Db::new() else { return };
    let names: Vec<Name> = ["a", "b", "c"].map(|n| Name::new("m", n)).into();
    db.sql("CREATE SCHEMA m; CREATE TABLE m.log (release int, at timestamptz DEFAULT now())");
    schemas(&mut db, &names, &[0, 1]);
    for name in &names {
        db.sql(&format!(
            "CREATE TABLE {} AS SELECT i AS id, 0 AS release FROM generate_series(1, 500) i",
            quoted(name)
        ));
        db.sql(&format!(
            "CREATE TABLE {} AS SELECT i AS id, 1 AS release FROM generate_series(1, 500) i",
            quoted(&staging(name))
        ));
    }
    db.sql("CREATE VIEW m.every AS SELECT a.release AS a, b.release AS b, c.release AS c FROM m.a JOIN m.b USING (id) JOIN m.c USING (id)");
    let stop = AtomicBool::new(false);
    let (asked, longest) = (AtomicU64::new(0), AtomicU64::new(0));
    let queries = [
        "SELECT count(*) FROM m.a JOIN m.b USING (id) JOIN m.c USING (id) WHERE a.release <> b.release OR b.release <> c.release",
        "SELECT count(*) FROM m.c JOIN m.b USING (id) JOIN m.a USING (id) WHERE a.release <> b.release OR b.release <> c.release",
        "SELECT count(*) FROM m.every WHERE a <> b OR b <> c",
        "INSERT INTO m.log (release) SELECT max(abs(a - b)) FROM m.every RETURNING release::bigint",
    ];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (mut client, stop) = (db.connect(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut transaction = client
                        .build_transaction()
                        .isolation_level(IsolationLevel::RepeatableRead)
                        .start()
                        .unwrap();
                    let seen = ["a", "b", "c"].map(|name| -> i32 {
                        let query = format!("SELECT max(release) FROM m.{name}");
                        let row = transaction.query_one(&query, &[]);
                        row.unwrap_or_else(|e| panic!("{query}: {e:?}")).get(0)
                    });
                    transaction.commit().unwrap();
                    assert_eq!(seen, [seen[0]; 3], "a mixture in one transaction");
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        for i in [0, 1, 2, 0, 1, 2, 3, 3] {
            let (mut client, stop, asked, longest) = (db.connect(), &stop, &asked, &longest);
            let query = queries[i];
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let mixed: i64 = client
                        .query_one(query, &[])
                        .unwrap_or_else(|e| panic!("{query}: {e:?}"))
                        .get(0);
                    assert_eq!(mixed, 0, "a mixture of releases: {query}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    let took = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
                    longest.fetch_max(took, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.swap(publish(&names, 0));
            for _ in 0..rounds / 2 {
                db.swap(restore(&names, 1, 0));
                assert_eq!(db.one("SELECT max(a) FROM m.every"), "0");
                db.swap(restore(&names, 0, 1));
                assert_eq!(db.one("SELECT max(a) FROM m.every"), "1");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    println!(
        "{rounds} moves beside {} queries; the longest took {} ms",
        asked.into_inner(),
        longest.into_inner() / 1000
    );
}

#[test]
fn readers_and_writers_notice_nothing() {
    rounds(20);
}

#[test]
#[ignore = "takes a minute or two"]
fn readers_and_writers_notice_nothing_two_hundred_times() {
    rounds(200);
}

#[test]
#[ignore = "measures; takes a minute"]
fn a_thousand_relations() {
    let Some(mut db) = Db::new() else { return };
    let names: Vec<Name> = (0..1000).map(|i| Name::new("m", format!("t{i}"))).collect();
    db.sql("CREATE SCHEMA m");
    schemas(&mut db, &names, &[0, 1]);
    for some in names.chunks(100) {
        let mut all = String::new();
        for name in some {
            all += &format!(
                "CREATE TABLE {} (id int PRIMARY KEY, v text); GRANT SELECT ON {} TO PUBLIC;",
                quoted(name),
                quoted(name)
            );
            all += &format!(
                "CREATE TABLE {} AS SELECT 1 AS id, 'x' AS v;",
                quoted(&staging(name))
            );
        }
        db.sql(&all);
    }
    for (what, request) in [
        ("publish", publish(&names, 0)),
        ("go back", restore(&names, 1, 0)),
        ("go forward", restore(&names, 0, 1)),
    ] {
        let at = Instant::now();
        let plan = db.plan(&request).unwrap();
        let planned = at.elapsed();
        let at = Instant::now();
        let last = Cell::new(at);
        run(&mut db.client, &plan, &[], &|event| {
            if matches!(event, Event::Committing(_)) {
                last.set(Instant::now());
            }
        })
        .unwrap();
        println!(
            "{what}: survey and plan {planned:?}, run {:?}, its last batch {:?}; {} statements before, {} in it",
            at.elapsed(),
            last.get().elapsed(),
            plan.prepare.len(),
            plan.statements.len()
        );
    }
}
