//! Rows that change places, against a server, with the server itself as the oracle.

use super::exchange::Exchange;
use super::survey::Found;
use super::*;
use crate::postgres::testing::Database;
use postgres::Client;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Instant;
use unship_core::ident::ReleaseId;
use unship_core::relation::{RelationKind, RelationState};
use unship_core::release::{Version, VersionId};
use unship_core::rows::{Pair, Reconciling, Rows};

const QUIET: &(dyn Fn(&str, u64, u64) + Sync) = &|_, _, _| {};

fn version(release: u64) -> Version {
    Version {
        id: VersionId {
            release: ReleaseId(release),
            drift: 0,
        },
        owned: true,
        state: Some(RelationState {
            kind: RelationKind::Table,
            columns: Vec::new(),
            definition: String::new(),
            dependents: Vec::new(),
            rows: None,
            fingerprint: None,
            storage: None,
        }),
    }
}

/// `s.t` is of release 2, and the version of release 1 is retained.
struct Rig {
    _database: Database,
    client: Client,
    next: u64,
}

impl Rig {
    fn new(setup: &str) -> Option<Self> {
        let database = Database::new()?;
        let mut client = database.client();
        client
            .batch_execute("CREATE SCHEMA s; CREATE SCHEMA unship_r1_s;")
            .unwrap();
        client
            .batch_execute(crate::postgres::retained::TABLE)
            .unwrap();
        for tables in [held::TABLES, RECONCILED] {
            client.batch_execute(tables).unwrap();
        }
        client.batch_execute(setup).unwrap();
        client
            .batch_execute(
                "INSERT INTO unship.retained (release, drift, schema, name, relation)
                 VALUES (1, 0, 's', 't', 'unship_r1_s.t'::regclass)",
            )
            .unwrap();
        Some(Self {
            _database: database,
            client,
            next: 3,
        })
    }

    fn sql(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap();
    }

    fn yes(&mut self, ask: &str) -> bool {
        let row = self
            .client
            .query_one(&format!("SELECT {ask}"), &[])
            .unwrap();
        row.get(0)
    }

    fn name() -> RelationName {
        RelationName::new("d", "s", "t")
    }

    fn survey(&mut self, rows: Rows) -> Result<(RowsSurvey, Exchange), EngineError> {
        let request = RowsRequest {
            release: ReleaseId(self.next),
            live: ReleaseId(2),
            reconciling: Reconciling {
                at: None,
                rows,
                reason: Some("it's bad".to_owned()),
            },
            relations: [(
                Self::name(),
                Pair {
                    now: version(2),
                    then: version(1),
                },
            )]
            .into(),
            points: Vec::new(),
            who: "ana".to_owned(),
        };
        self.next += 1;
        let survey = survey(&mut self.client, &request, QUIET)?;
        let found: Found = serde_json::from_value(survey.engine.clone()).unwrap();
        let exchange = found.exchanges[&Self::name()].clone();
        Ok((survey, exchange))
    }

    fn chosen(&mut self, predicate: &str) -> Result<(RowsSurvey, Exchange), EngineError> {
        self.survey(Rows::Where(predicate.to_owned()))
    }

    fn run(&mut self, exchange: &Exchange) -> Result<(), EngineError> {
        run(&mut self.client, std::slice::from_ref(exchange), &[], QUIET)
    }

    /// Puts back what gave way last.
    fn undo(&mut self) {
        let kept = list(&mut self.client).unwrap().pop().unwrap();
        let exchange = put_back(&mut self.client, &kept, ReleaseId(self.next), 0).unwrap();
        self.next += 1;
        self.run(&exchange).unwrap();
    }

    /// Whether two queries give the same rows, each as often.
    fn same(&mut self, one: &str, other: &str) -> bool {
        self.yes(&format!(
            "NOT EXISTS (({one}) EXCEPT ALL ({other})) AND NOT EXISTS (({other}) EXCEPT ALL ({one}))"
        ))
    }
}

const PLAIN: &str = "
    CREATE TABLE s.t (id bigint PRIMARY KEY, day date, value numeric);
    CREATE TABLE unship_r1_s.t (id bigint, day date, value numeric);
    INSERT INTO s.t VALUES (1, '2026-11-19', 10), (2, '2026-11-20', 99), (4, '2026-11-20', 99);
    INSERT INTO unship_r1_s.t VALUES (1, '2026-11-19', 7), (2, '2026-11-20', 20), (3, '2026-11-20', 30);";

#[test]
fn keys_hold_triggers_are_silent_and_it_is_written_down() {
    let Some(mut rig) = Rig::new(PLAIN) else {
        return;
    };
    rig.sql(
        "CREATE TABLE s.lines (t bigint REFERENCES s.t);
         INSERT INTO s.lines VALUES (1), (2);
         CREATE FUNCTION s.no() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN RAISE EXCEPTION ''it fired''; END';
         CREATE TRIGGER no BEFORE INSERT OR DELETE ON s.t FOR EACH ROW EXECUTE FUNCTION s.no();
         ALTER TABLE s.t ENABLE ALWAYS TRIGGER no",
    );
    let day = Rows::Value {
        column: "day".to_owned(),
        value: "2026-11-20".to_owned(),
    };
    let (found, exchange) = rig.survey(day).unwrap();
    let slice = &found.slices[&Rig::name()];
    assert_eq!((slice.out, slice.back, slice.same), (2, 2, false));
    // A row that others refer to goes and comes again in one statement.
    rig.run(&exchange).unwrap();
    assert!(rig.yes("array_agg(id || ':' || value ORDER BY id) = '{1:10,2:20,3:30}' FROM s.t"));
    assert!(rig.yes("tgenabled = 'A' FROM pg_trigger WHERE tgname = 'no'"));
    assert!(rig.yes(
        "(rows_out, rows_back, why, who, from_release) = (2, 2, 'it''s bad', 'ana', 1) \
         AND undone_by IS NULL FROM unship.reconciled"
    ));
    assert!(
        rig.yes("count(*) = 2 FROM unship.rows_r3_0"),
        "what went out is kept"
    );

    rig.undo();
    assert!(rig.yes("array_agg(id || ':' || value ORDER BY id) = '{1:10,2:99,4:99}' FROM s.t"));
    assert!(rig.yes("undone_by = 4 FROM unship.reconciled"));
    assert!(
        rig.yes("to_regclass('unship.rows_r3_0') IS NULL"),
        "they are production again"
    );

    // A row that others refer to and that the older version does not have.
    rig.sql("INSERT INTO s.lines VALUES (4)");
    let (_, exchange) = rig.chosen("id = 4").unwrap();
    let error = rig.run(&exchange).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.message.contains("lines"), "{error}");
    assert!(rig.yes("array_agg(id || ':' || value ORDER BY id) = '{1:10,2:99,4:99}' FROM s.t"));
    // A key that would stand twice.
    rig.sql("DELETE FROM s.lines; INSERT INTO unship_r1_s.t VALUES (1, '2026-11-20', 0)");
    let (_, exchange) = rig.chosen("day = date '2026-11-20'").unwrap();
    assert_eq!(rig.run(&exchange).unwrap_err().kind, ErrorKind::Refused);
    assert!(rig.yes("count(*) = 3 FROM s.t"));
}

#[test]
fn what_would_lose_or_do_more_is_refused() {
    let Some(mut rig) = Rig::new(PLAIN) else {
        return;
    };
    let refused = |rig: &mut Rig, what: &str| {
        let error = rig.chosen("id = 2").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(error.message.contains(what), "{error}");
    };
    rig.sql("CREATE TABLE s.lines (t bigint REFERENCES s.t ON DELETE CASCADE)");
    refused(&mut rig, "s.lines");
    rig.sql("DROP TABLE s.lines; CREATE RULE r AS ON DELETE TO s.t DO INSTEAD NOTHING");
    refused(&mut rig, "the rule r");
    rig.sql("DROP RULE r ON s.t; ALTER TABLE s.t ALTER value TYPE text");
    refused(&mut rig, "value");
    rig.sql("ALTER TABLE s.t DROP value, ADD must text NOT NULL DEFAULT upper('x')");
    refused(&mut rig, "must");
    // What others write to the chosen rows between plan and act is not thrown away.
    rig.sql("ALTER TABLE s.t DROP must, ADD value numeric");
    let (_, exchange) = rig.chosen("id = 2").unwrap();
    rig.sql("UPDATE s.t SET value = 5 WHERE id = 2");
    let error = rig.run(&exchange).unwrap_err();
    assert!(error.message.contains("others wrote"), "{error}");
    assert!(rig.yes("value = 5 FROM s.t WHERE id = 2"));
    // The time of the session, and what depends on it, chooses other rows tomorrow.
    for predicate in ["day < current_date", "day < now()", "pg_sleep(9) IS NULL"] {
        let error = rig.chosen(predicate).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{predicate}: {error}");
    }
}

#[test]
fn columns_fit_by_name() {
    let Some(mut rig) = Rig::new(
        "CREATE TABLE s.t (added int DEFAULT 7, id bigint GENERATED ALWAYS AS IDENTITY, name text,
                           twice bigint GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE unship_r1_s.t (id int, name varchar(9), gone text,
                           twice bigint GENERATED ALWAYS AS (id * 2) STORED);
         INSERT INTO s.t (name) VALUES ('bad'), ('stays');
         INSERT INTO unship_r1_s.t (id, name, gone) VALUES (1, 'good', 'x'), (1, NULL, 'y')",
    ) else {
        return;
    };
    let (found, exchange) = rig.chosen("id = 1").unwrap();
    let notes = found.slices[&Rig::name()].notes.join("\n");
    assert!(notes.contains("R1 has no column added: it is 7"), "{notes}");
    assert!(notes.contains("no column gone"), "{notes}");
    rig.run(&exchange).unwrap();
    assert!(rig.same(
        "SELECT added, id, name, twice FROM s.t",
        "VALUES (7, 1::bigint, 'good', 2::bigint), (7, 1, NULL, 2), (7, 2, 'stays', 4)"
    ));
    rig.undo();
    assert!(rig.same(
        "SELECT added, id, name FROM s.t",
        "VALUES (7, 1::bigint, 'bad'), (7, 2, 'stays')"
    ));
}

#[test]
fn a_partition_is_named() {
    let Some(mut rig) = Rig::new(
        "CREATE TABLE s.t (id int, day date) PARTITION BY RANGE (day);
         CREATE TABLE s.t_19 PARTITION OF s.t FOR VALUES FROM ('2026-11-19') TO ('2026-11-20');
         CREATE TABLE s.t_20 PARTITION OF s.t FOR VALUES FROM ('2026-11-20') TO ('2026-11-21');
         CREATE TABLE unship_r1_s.t (id int, day date);
         INSERT INTO s.t VALUES (1, '2026-11-19'), (2, '2026-11-20');
         INSERT INTO unship_r1_s.t VALUES (8, '2026-11-19'), (9, '2026-11-20')",
    ) else {
        return;
    };
    let (_, exchange) = rig.survey(Rows::Partition("t_20".to_owned())).unwrap();
    rig.run(&exchange).unwrap();
    assert!(rig.yes("array_agg(id ORDER BY id) = '{1,9}' FROM s.t"));
    assert!(rig.yes("id = 9 FROM s.t_20"));
    rig.undo();
    assert!(rig.yes("array_agg(id ORDER BY id) = '{1,2}' FROM s.t"));
    let error = rig.survey(Rows::Partition("t_21".to_owned())).unwrap_err();
    assert!(error.message.contains("no partition t_21"), "{error}");
}

#[derive(Debug, Clone)]
struct Row(Option<i32>, Option<i32>, &'static str);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let cell = || prop::option::of(0..4);
    let text = prop::sample::select(vec!["NULL", "''", "'a'", "'it''s'", "'ä\"'"]);
    let row = (cell(), cell(), text).prop_map(|(a, b, c)| Row(a, b, c));
    prop::collection::vec(row, 0..12)
}

fn values(rows: &[Row]) -> String {
    let cell = |cell: Option<i32>| cell.map_or("NULL".to_owned(), |n| n.to_string());
    let one = |Row(a, b, c): &Row| format!("({}, {}, {c})", cell(*a), cell(*b));
    rows.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whatever stands in the two versions, with duplicates and without values: what is chosen is as it
/// was, what is not is as it is, what was computed of it is what a full read finds, and undoing it
/// gives back exactly what was there.
#[test]
fn any_rows_and_any_predicate() {
    let Some(mut rig) = Rig::new(
        "CREATE TABLE s.t (a int, b int, c text); CREATE TABLE unship_r1_s.t (a int, b int, c text)",
    ) else {
        return;
    };
    let predicates = vec![
        "a = 1",
        "a IS NULL",
        "a < b OR c = 'a'",
        "c LIKE '%''%'",
        "NOT (a > 1 AND b IS NOT NULL)",
        "coalesce(length(c), 0) = 0",
        "true",
        "false",
        "a IN (1, 2) -- and nothing else",
    ];
    let case = (rows(), rows(), prop::sample::select(predicates));
    let rig = std::cell::RefCell::new(&mut rig);
    let config = Config {
        cases: 25,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&case, |(now, then, predicate)| {
            let mut rig = rig.borrow_mut();
            rig.sql(
                "TRUNCATE s.t, unship_r1_s.t; DROP TABLE IF EXISTS public.before, public.after",
            );
            for (table, rows) in [("s.t", &now), ("unship_r1_s.t", &then)] {
                if !rows.is_empty() {
                    rig.sql(&format!("INSERT INTO {table} VALUES {}", values(rows)));
                }
            }
            rig.sql(&format!(
                "CREATE TABLE public.before AS TABLE s.t;
                 CREATE TABLE public.after AS
                 SELECT * FROM s.t WHERE (\n{predicate}\n) IS NOT TRUE
                 UNION ALL SELECT * FROM unship_r1_s.t WHERE (\n{predicate}\n)"
            ));
            let (found, exchange) = rig.chosen(predicate).unwrap();
            rig.run(&exchange).unwrap();
            prop_assert!(rig.same("TABLE s.t", "TABLE public.after"));
            let slice = &found.slices[&Rig::name()];
            let (again, _) = rig.chosen("false").unwrap();
            let read = &again.slices[&Rig::name()].after;
            prop_assert_eq!(&slice.after.fingerprint, &read.fingerprint);
            rig.undo();
            prop_assert!(rig.same("TABLE s.t", "TABLE public.before"));
            Ok(())
        })
        .unwrap();
}

/// What it takes, for a slice of a table as large as `UNSHIP_ROWS` says.
#[test]
#[ignore = "takes a minute: make test-all"]
fn the_cost_follows_the_slice() {
    let rows: u64 = std::env::var("UNSHIP_ROWS").map_or(10_000_000, |n| n.parse().unwrap());
    let Some(mut rig) = Rig::new(
        "CREATE TABLE s.t (id bigint, day date, value numeric);
         CREATE TABLE unship_r1_s.t (id bigint, day date, value numeric)",
    ) else {
        return;
    };
    for (table, value) in [("s.t", 2), ("unship_r1_s.t", 1)] {
        rig.sql(&format!(
            "INSERT INTO {table} SELECT i, date '2026-01-01' + (i * 1000::bigint / {rows})::int, i * {value}
               FROM generate_series(0, {rows} - 1) i;
             CREATE INDEX ON {table} (day); ANALYZE {table}"
        ));
    }
    let began = Instant::now();
    rig.yes("sum(hashtextextended(t::text, 0)) IS NOT NULL FROM s.t");
    let one_read = began.elapsed();
    let mut state = version(2);
    let whole = rig.chosen("false").unwrap().0.slices[&Rig::name()]
        .after
        .clone();
    state.state = Some(whole);
    for (share, predicate) in [
        (1_000, "day = date '2026-11-20'"),
        (100, "day BETWEEN date '2026-11-01' AND date '2026-11-10'"),
    ] {
        let began = Instant::now();
        let request = RowsRequest {
            release: ReleaseId(rig.next),
            live: ReleaseId(2),
            reconciling: Reconciling {
                at: None,
                rows: Rows::Where(predicate.to_owned()),
                reason: None,
            },
            relations: [(
                Rig::name(),
                Pair {
                    now: state.clone(),
                    then: version(1),
                },
            )]
            .into(),
            points: Vec::new(),
            who: "ana".to_owned(),
        };
        rig.next += 1;
        let found = survey(&mut rig.client, &request, QUIET).unwrap();
        let planned = began.elapsed();
        let found: Found = serde_json::from_value(found.engine).unwrap();
        let exchange = &found.exchanges[&Rig::name()];
        rig.run(exchange).unwrap();
        let done = began.elapsed();
        rig.undo();
        println!(
            "{} of {rows} rows (1/{share}): planned in {planned:?}, done in {done:?}, undone in {:?}; \
             reading all rows once takes {one_read:?}",
            exchange.out.rows,
            began.elapsed() - done
        );
        assert_eq!(exchange.out.rows, rows / share);
    }
}
