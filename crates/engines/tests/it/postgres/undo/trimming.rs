//! The retention of a log beside those who write to its table.

use super::{Logged, server};
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;
use unship_core::engine::ErrorKind;
use unship_engines::postgres::undo::{self, Scope};

/// Who is in the midst of a transaction when the log is trimmed, and ends it meanwhile, has written
/// down what positions count on that were taken before.
#[test]
fn what_is_committed_while_the_log_is_trimmed_stays() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", "CREATE TABLE s.t (n int)");
    let client = || logged.database.client();
    let (mut early, mut late, mut lock) = (client(), client(), client());
    // The number of a transaction and that of its change are drawn apart.
    early
        .batch_execute("BEGIN; SELECT pg_current_xact_id()")
        .unwrap();
    late.batch_execute("BEGIN; INSERT INTO s.t VALUES (1)")
        .unwrap();
    early
        .batch_execute("INSERT INTO s.t VALUES (2); COMMIT")
        .unwrap();
    let copy = logged.copy();
    assert_eq!(copy.rows, ["(2)"]);
    logged.execute("UPDATE unship_undo.changes SET at = at - interval '2 days'");
    let log = format!("unship_undo.rows_{}", logged.known().guard);
    lock.batch_execute(&format!("BEGIN; SELECT FROM {log} FOR UPDATE"))
        .unwrap();
    let pause = Duration::from_millis(20);
    let mut trimming = logged.database.client();
    let day = jiff::SignedDuration::from_hours(24);
    thread::scope(|scope| {
        // What runs elsewhere in the server, and is older, holds it up.
        scope.spawn(|| {
            let done = (0..1500).any(|_| {
                thread::sleep(pause);
                undo::trim(&mut trimming, day).unwrap() > 0
            });
            assert!(done);
        });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                        AND wait_event_type = 'Lock' AND query LIKE '%trimmed_seq%'";
        let mut looking = logged.database.client();
        assert!((0..1500).any(|_| {
            thread::sleep(pause);
            let row = looking.query_one(waits, &[]).unwrap();
            row.get::<_, i64>(0) > 0
        }));
        late.batch_execute("COMMIT").unwrap();
        lock.batch_execute("COMMIT").unwrap();
    });
    logged.is_again(&copy);
}

/// A name is no pattern.
#[test]
fn a_refusal_names_a_table_with_a_percent_sign() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "5% off", "CREATE TABLE s.\"5% off\" (n int)");
    let first = logged.copy();
    logged.execute(
        "SET application_name = 'loader'; INSERT INTO s.\"5% off\" VALUES (1);
         SET application_name = 'editor'; DELETE FROM s.\"5% off\"",
    );
    let scope = Scope {
        writer: Some("loader".to_owned()),
        ..Scope::default()
    };
    let refused = logged.back(&first.position, scope).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused, "{refused}");
    assert!(
        refused.message.contains("5% off") && refused.message.contains("editor"),
        "{refused}"
    );
    undo::remove(&mut logged.database.client(), &BTreeSet::new(), true).unwrap();
}
