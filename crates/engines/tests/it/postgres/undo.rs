//! The undo log against copies: whatever happens to a table, it can go back to each moment that a
//! copy was taken of, and is then that copy, or the log says why not.

use super::{Database, server};
use postgres::{Client, IsolationLevel};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeSet;
use unship_core::engine::EngineError;
use unship_core::ident::ReleaseId;
use unship_engines::postgres::swap::Name;
use unship_engines::postgres::undo::{self, Known, Position, Scope, Target};

mod histories;
mod holes;
mod keys;
mod trimming;

/// A table with an undo log.
struct Logged {
    database: Database,
    name: Name,
    releases: u64,
}

/// What a table held at a moment.
#[derive(Debug, Clone)]
struct Copy {
    position: Position,
    rows: Vec<String>,
}

impl Logged {
    fn new(server: &str, name: &str, make: &str) -> Self {
        let database = Database::new(server);
        database.client().batch_execute(make).unwrap();
        let logged = Self {
            database,
            name: Name::new("s", name),
            releases: 0,
        };
        logged.ensure();
        logged
    }

    fn ensure(&self) -> Vec<String> {
        let wanted = BTreeSet::from([(self.name.schema.clone(), self.name.name.clone())]);
        undo::ensure(&mut self.database.client(), &wanted).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.database.client().batch_execute(sql).unwrap();
    }

    fn known(&self) -> Known {
        let wanted = BTreeSet::from([self.name.clone()]);
        let mut known = undo::known(&mut self.database.client(), &wanted).unwrap();
        known.pop().unwrap()
    }

    /// Rows and position of one moment.
    fn copy(&self) -> Copy {
        self.try_copy().unwrap()
    }

    /// None while somebody keeps all others out.
    fn try_copy(&self) -> Option<Copy> {
        let mut client = self.database.client();
        client.batch_execute("SET lock_timeout = '50ms'").unwrap();
        let mut transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .unwrap();
        let rows = rows(&mut transaction, &self.name)?;
        let positions = undo::positions(&mut transaction).unwrap();
        let position = positions.into_values().next().unwrap();
        Some(Copy { position, rows })
    }

    fn back(&mut self, to: &Position, scope: Scope) -> Result<String, EngineError> {
        self.releases += 1;
        let known = self.known();
        let release = ReleaseId(self.releases);
        let stands = match scope.is_all() {
            true => to.at.clone(),
            false => format!("@{release}"),
        };
        let target = Target {
            table: &known,
            moment: known.moment(to).unwrap(),
            scope,
            stands: stands.clone(),
            take_all: true,
            expected: None,
        };
        let statements = undo::statements(&[target], release);
        undo::run(&mut self.database.client(), &statements, &[], &|_, _, _| {})?;
        Ok(stands)
    }

    /// Goes back, and must be what it was.
    fn is_again(&mut self, copy: &Copy) {
        self.back(&copy.position, Scope::default()).unwrap();
        let now = self.copy();
        assert_eq!(now.rows, copy.rows);
        assert_eq!(now.position, copy.position);
    }
}

fn rows(client: &mut impl postgres::GenericClient, name: &Name) -> Option<Vec<String>> {
    let sql = format!(
        "SELECT t::text FROM {}.\"{}\" t ORDER BY t::text COLLATE \"C\"",
        name.schema, name.name
    );
    let rows = client.query(&sql, &[]).ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}

#[test]
fn a_table_goes_back_and_forth() {
    let Some(server) = server() else { return };
    let make = "CREATE TABLE s.orders (id int PRIMARY KEY, what text, n numeric);
                INSERT INTO s.orders VALUES (1, 'a', 1.0), (2, 'b', NULL)";
    let mut logged = Logged::new(&server, "orders", make);
    let first = logged.copy();
    logged.execute(
        "UPDATE s.orders SET n = 1.00 WHERE id = 1; INSERT INTO s.orders VALUES (3, NULL, 3)",
    );
    let second = logged.copy();
    logged.execute("TRUNCATE s.orders; INSERT INTO s.orders VALUES (2, 'other', 1)");
    let third = logged.copy();
    assert!(first.rows != second.rows && second.rows != third.rows);
    for copy in [&first, &third, &second, &first, &third] {
        logged.is_again(copy);
    }
}

/// Whoever is cut off while a table goes back leaves it as it was, or back, and knows which.
#[test]
fn a_way_back_that_is_cut_off_is_whole_or_not_there() {
    let Some(server) = server() else { return };
    let make = "CREATE TABLE s.big (id int PRIMARY KEY, what text);
                INSERT INTO s.big SELECT i, 'first' FROM generate_series(1, 20000) i";
    let mut logged = Logged::new(&server, "big", make);
    let first = logged.copy();
    logged.execute("UPDATE s.big SET what = 'second'; DELETE FROM s.big WHERE id % 5 = 0");
    let second = logged.copy();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%unship_back_%'";
    let (mut cut, mut done) = (0, 0);
    for round in 0..8_u64 {
        let to = if logged.copy().rows == first.rows {
            &second
        } else {
            &first
        };
        let mut killer = logged.database.client();
        let back = std::thread::scope(|scope| {
            let back = scope.spawn(|| logged.back(&to.position, Scope::default()));
            std::thread::sleep(std::time::Duration::from_millis(40 + 60 * (round % 4)));
            killer.execute(others, &[]).unwrap();
            back.join().unwrap()
        });
        let now = logged.copy();
        let is_back = now.rows == to.rows;
        assert!(
            is_back || now.rows == first.rows || now.rows == second.rows,
            "a mixture"
        );
        let stands = if now.rows == first.rows {
            &first
        } else {
            &second
        };
        assert_eq!(
            now.position, stands.position,
            "the log does not say what it is"
        );
        match back {
            Ok(_) => done += 1,
            Err(error) => {
                cut += 1;
                let happened = undo::happened(&mut logged.database.client(), &error);
                assert_eq!(happened.unwrap(), is_back, "{error:?}");
            }
        }
    }
    println!("{cut} cut off, {done} done");
}

/// Without the rights for an event trigger a table can be dropped. That is noticed, and a table that
/// was made anew has a log of its own.
#[test]
fn a_dropped_table_is_noticed_where_it_cannot_be_kept() {
    let Some(server) = server() else { return };
    let database = Database::new(&server);
    let owner = format!("owner_of_{}", database.name);
    database.admin(&format!(
        "CREATE ROLE {owner}; GRANT CREATE ON DATABASE {} TO {owner}",
        database.name
    ));
    let mut client = database.client();
    client
        .batch_execute(&format!(
            "GRANT ALL ON SCHEMA s TO {owner}; SET ROLE {owner}; CREATE TABLE s.t (n int)"
        ))
        .unwrap();
    let wanted = BTreeSet::from([("s".to_owned(), "t".to_owned())]);
    let name = BTreeSet::from([Name::new("s", "t")]);
    assert!(undo::ensure(&mut client, &wanted).unwrap().is_empty());
    let first = undo::known(&mut client, &name).unwrap().pop().unwrap();
    client
        .batch_execute("INSERT INTO s.t VALUES (1); DROP TABLE s.t; CREATE TABLE s.t (n int)")
        .unwrap();
    let notes = undo::ensure(&mut client, &wanted).unwrap();
    assert_eq!(
        notes,
        ["s.t cannot go back to before now where it stands: it was dropped"]
    );
    let second = undo::known(&mut client, &name).unwrap().pop().unwrap();
    assert_ne!(first.relation, second.relation);
    assert!(second.out_of_reach(&first.position).is_some());
    drop(client);
    let Database { name, .. } = &database;
    database.admin(&format!("DROP DATABASE {name} WITH (FORCE)"));
    database.admin(&format!("DROP ROLE {owner}"));
    database.admin(&format!("CREATE DATABASE {name}"));
}

/// A table that is written where it stands keeps its log when an event trigger can be had: it cannot
/// be dropped, whatever the way.
#[test]
fn a_logged_table_is_not_dropped() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(
        &server,
        "t",
        "CREATE TABLE s.t (n int); INSERT INTO s.t VALUES (1)",
    );
    let first = logged.copy();
    let mut client = logged.database.client();
    for way in [
        "DROP TABLE s.t",
        "DROP SCHEMA s CASCADE",
        "DROP TABLE s.t CASCADE; CREATE TABLE s.t AS SELECT 1 AS n",
    ] {
        let error = client.batch_execute(way).unwrap_err();
        let words = error.as_db_error().unwrap().message().to_owned();
        assert_eq!(
            words,
            "s.t has an undo log, which cannot bring a dropped table back"
        );
    }
    client
        .batch_execute("CREATE TABLE s.other (n int); DROP TABLE s.other; DELETE FROM s.t")
        .unwrap();
    logged.is_again(&first);
}

/// Who has a child row with a foreign key that acts, an unrelated trigger and an identity column.
#[test]
fn foreign_keys_hold_and_triggers_of_others_do_not_fire_again() {
    let Some(server) = server() else { return };
    let make = "CREATE TABLE s.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, up int REFERENCES s.t);
         CREATE TABLE s.child (of int REFERENCES s.t ON DELETE CASCADE, n int);
         CREATE TABLE s.mails (what text);
         CREATE FUNCTION s.mail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO s.mails VALUES (TG_OP); NEW.what := NEW.what || '!'; RETURN NEW; END $$;
         CREATE TRIGGER mail BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.mail();
         INSERT INTO s.t (what) VALUES ('a'), ('b'), ('c'); INSERT INTO s.child VALUES (1, 1), (3, 3)";
    let mut logged = Logged::new(&server, "t", make);
    let first = logged.copy();
    let count = |logged: &Logged, of: &str| -> i64 {
        let row = logged
            .database
            .client()
            .query_one(&format!("SELECT count(*) FROM s.{of}"), &[]);
        row.unwrap().get(0)
    };
    logged.execute("UPDATE s.t SET what = 'x'; INSERT INTO s.t (what, up) VALUES ('new', 3)");
    let second = logged.copy();
    let mails = count(&logged, "mails");
    logged.is_again(&first);
    assert_eq!(count(&logged, "mails"), mails, "a side effect came twice");
    assert_eq!(count(&logged, "child"), 2, "a row of others went along");
    logged.is_again(&second);
    // Now somebody refers to a row that would go.
    logged.execute("INSERT INTO s.child VALUES (4, 4)");
    let error = logged.back(&first.position, Scope::default()).unwrap_err();
    assert!(
        error
            .message
            .contains("rows of s.child refer to rows of s.t that would go"),
        "{error}"
    );
    assert_eq!(logged.copy().rows, second.rows);
    assert_eq!(count(&logged, "child"), 3);
    // Triggers fire again afterwards, and identity goes on.
    logged.execute("INSERT INTO s.t (what) VALUES ('d')");
    assert_eq!(count(&logged, "mails"), mails + 1);
}

/// Only some rows: the rest stays, and what is taken back can be had again.
#[test]
fn a_slice_goes_back() {
    let Some(server) = server() else { return };
    let make = "CREATE TABLE s.t (id int PRIMARY KEY, day date, n int);
                INSERT INTO s.t SELECT i, date '2026-11-01' + i % 3, 1 FROM generate_series(1, 30) i";
    let mut logged = Logged::new(&server, "t", make);
    let first = logged.copy();
    logged.execute("UPDATE s.t SET n = 2; DELETE FROM s.t WHERE id = 3");
    let second = logged.copy();
    let day = Scope {
        rows: Some("day = '2026-11-01'".to_owned()),
        ..Scope::default()
    };
    logged.back(&first.position, day).unwrap();
    let mixed = logged.copy();
    let ask = "SELECT string_agg(DISTINCT concat(day, ' ', n), ', ') || count(*) FROM s.t";
    let row = logged.database.client().query_one(ask, &[]).unwrap();
    assert_eq!(
        row.get::<_, String>(0),
        "2026-11-01 1, 2026-11-02 2, 2026-11-03 230"
    );
    assert_eq!(mixed.position.at, "@R1");
    for copy in [&second, &mixed, &first, &mixed, &second] {
        logged.is_again(copy);
    }
}

/// What is older than it is kept for goes, and cannot be gone back to; the rest can.
#[test]
fn the_retention_trims_whole_transactions() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", "CREATE TABLE s.t (n int)");
    let first = logged.copy();
    logged.execute("INSERT INTO s.t SELECT generate_series(1, 100)");
    // A position that was taken while something older ran elsewhere in the server is not said to be
    // newer than what is dropped.
    let alone =
        "SELECT pg_snapshot_xmin(pg_current_snapshot()) > max(xid) FROM unship_undo.changes";
    let pause = std::time::Duration::from_millis(100);
    assert!((0..300).any(|_| {
        let row = logged.database.client().query_one(alone, &[]).unwrap();
        row.get::<_, bool>(0) || {
            std::thread::sleep(pause);
            false
        }
    }));
    let second = logged.copy();
    logged.execute(
        "UPDATE unship_undo.changes SET at = at - interval '2 days'; DELETE FROM s.t WHERE n < 50",
    );
    let third = logged.copy();
    let day = jiff::SignedDuration::from_hours(24);
    // What runs elsewhere in the server, and is older, holds it up.
    let trimmed = || undo::trim(&mut logged.database.client(), day).unwrap() > 0;
    assert!((0..300).any(|_| trimmed() || {
        std::thread::sleep(pause);
        false
    }));
    let why = logged.known().out_of_reach(&first.position);
    assert_eq!(
        why.as_deref(),
        Some("has an undo log whose older changes the retention has dropped")
    );
    for copy in [&second, &third, &second] {
        assert_eq!(logged.known().out_of_reach(&copy.position), None);
        logged.is_again(copy);
    }
    undo::remove(&mut logged.database.client(), &BTreeSet::new(), false).unwrap();
    logged.execute("UPDATE unship_undo.guards SET ended = ended - interval '2 days'");
    undo::trim(&mut logged.database.client(), day).unwrap();
    let left = "SELECT count(*) FROM unship_undo.changes";
    assert_eq!(
        logged
            .database
            .client()
            .query_one(left, &[])
            .unwrap()
            .get::<_, i64>(0),
        0
    );
}
