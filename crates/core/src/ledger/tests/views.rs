use super::*;
use crate::ledger::sqlite::ViewDifference;
use rusqlite::{Transaction, params};

/// Which release last set each relation, and to what.
struct History {
    version: u32,
}

impl View for History {
    fn name(&self) -> &'static str {
        "history"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tables(&self) -> &'static [&'static str] {
        &["relation_history", "of_an_older_version"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE relation_history (
             env TEXT NOT NULL, relation TEXT NOT NULL, release INTEGER NOT NULL, state TEXT,
             PRIMARY KEY (env, relation, release)
         ) STRICT, WITHOUT ROWID"
    }

    fn apply(&self, tx: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
        if entry.event_type() != "release_recorded" {
            return Ok(());
        }
        for (relation, state) in entry.event["relations"].as_object().into_iter().flatten() {
            let state = (!state.is_null()).then(|| state.to_string());
            tx.prepare_cached("INSERT INTO relation_history VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![
                    entry.env,
                    relation,
                    entry.event["release"].as_i64(),
                    state
                ])?;
        }
        Ok(())
    }
}

fn views(version: u32) -> Vec<Box<dyn View>> {
    vec![Box::new(History { version })]
}

fn release(n: u64) -> Value {
    let gone = if n.is_multiple_of(5) {
        Value::Null
    } else {
        json!({"rows": n})
    };
    json!({"type": "release_recorded", "release": n, "relations": {"orders": {"rows": n}, "customers": gone}})
}

fn rows(ledger: &SqliteLedger) -> Vec<(String, i64, Option<String>)> {
    ledger
        .query(|conn| {
            conn.prepare("SELECT relation, release, state FROM relation_history")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })
        .unwrap()
}

#[test]
fn a_view_is_never_behind_the_log() {
    let scratch = Scratch::new();
    let mut ledger = SqliteLedger::open(&scratch.path(), views(1)).unwrap();
    for n in 1..=7 {
        append(&mut ledger, [release(n), json!({"type": "pinned"})]);
        assert_eq!(rows(&ledger).len() as u64, 2 * n);
    }
    assert_eq!(rows(&ledger)[4], ("customers".into(), 5, None));
    assert_eq!(ledger.check_views().unwrap(), []);

    // A program without the view appends; a reader that may not write comes first.
    append(&mut scratch.open(), [release(8)]);
    let reader = SqliteLedger::open_read_only(&scratch.path(), views(1)).unwrap();
    assert_eq!(rows(&reader).len(), 16);
    assert_eq!(reader.check_views().unwrap(), []);
    assert_eq!(rows(&ledger).len(), 16);
    append(&mut ledger, [release(9)]);
    assert_eq!(rows(&ledger).len(), 18);
}

#[test]
fn a_view_whose_definition_changed_is_made_again() {
    let scratch = Scratch::new();
    append(
        &mut SqliteLedger::open(&scratch.path(), views(1)).unwrap(),
        (1..=1200).map(release),
    );
    Connection::open(scratch.path())
        .unwrap()
        .execute_batch("CREATE TABLE of_an_older_version (x); DELETE FROM relation_history")
        .unwrap();
    let newer = SqliteLedger::open(&scratch.path(), views(2)).unwrap();
    assert_eq!(rows(&newer).len(), 2400);
    assert_eq!(newer.check_views().unwrap(), []);
    // And by an older program again: each sees its own.
    assert_eq!(
        rows(&SqliteLedger::open(&scratch.path(), views(1)).unwrap()).len(),
        2400
    );
}

#[test]
fn a_view_that_does_not_match_the_log_is_named_and_can_be_made_again() {
    let scratch = Scratch::new();
    let mut ledger = SqliteLedger::open(&scratch.path(), views(1)).unwrap();
    append(&mut ledger, (1..=9).map(release));
    let difference = |missing, extra| ViewDifference {
        view: "history",
        table: "relation_history",
        missing,
        extra,
    };
    for (sql, expected) in [
        (
            "DELETE FROM relation_history WHERE release = 3",
            difference(2, 0),
        ),
        (
            "INSERT INTO relation_history VALUES ('dev', 'x', 1, NULL)",
            difference(0, 1),
        ),
        (
            "UPDATE relation_history SET state = '{}' WHERE release = 4",
            difference(2, 2),
        ),
        ("DROP TABLE relation_history", difference(18, 0)),
    ] {
        Connection::open(scratch.path())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        assert_eq!(ledger.check_views().unwrap(), [expected], "{sql}");
        ledger.rebuild_views().unwrap();
        assert_eq!(ledger.check_views().unwrap(), [], "{sql}");
    }
}

#[test]
fn an_entry_that_a_view_cannot_take_is_not_appended() {
    let scratch = Scratch::new();
    let mut ledger = SqliteLedger::open(&scratch.path(), views(1)).unwrap();
    append(&mut ledger, [release(1)]);
    let head = ledger.head().unwrap();
    let answer = ledger.append(&head, &[draft("anna", release(1))], None);
    assert!(matches!(
        answer,
        Err(LedgerError::View {
            view: "history",
            ..
        })
    ));
    assert_eq!(ledger.head().unwrap(), head);
    assert_eq!(rows(&ledger).len(), 2);
}

#[test]
fn what_a_query_writes_is_not_kept() {
    let scratch = Scratch::new();
    let mut ledger = SqliteLedger::open(&scratch.path(), views(1)).unwrap();
    append(&mut ledger, [release(1)]);
    let changed = ledger
        .query(|conn| conn.execute("DELETE FROM relation_history", []))
        .unwrap();
    assert_eq!((changed, rows(&ledger).len()), (2, 2));
}

/// A view with a table that is the ledger's own.
struct Greedy;

impl View for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }
    fn version(&self) -> u32 {
        1
    }
    fn tables(&self) -> &'static [&'static str] {
        &["entries"]
    }
    fn schema(&self) -> &'static str {
        "CREATE TABLE entries (x)"
    }
    fn apply(&self, _: &Transaction<'_>, _: &Entry) -> rusqlite::Result<()> {
        Ok(())
    }
}

#[test]
fn no_view_drops_the_log() {
    let scratch = Scratch::new();
    append(&mut scratch.open(), numbered(2));
    let ledger = SqliteLedger::open(&scratch.path(), vec![Box::new(Greedy)]).unwrap();
    assert!(matches!(
        ledger.query(|_| Ok(())),
        Err(LedgerError::View { .. })
    ));
    assert_eq!(whole_report(&ledger).entries, 2);
}
