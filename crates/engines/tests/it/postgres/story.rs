//! What hangs on production's relations, through releases and back.

use super::{Database, SCHEMA};
use tempfile::TempDir;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::{SqliteLedger, Store};
use unship_core::log::Ledger;
use unship_core::operate::{Ask, OperateError};
use unship_core::release::VersionId;
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Row, Table, Write};
use unship_engines::postgres::address::Address;
use unship_engines::postgres::connect::Connector;
use unship_engines::postgres::ledger::PostgresLedger;

/// A database, and a world in it whose ledger is beside it or in it.
pub(super) fn world(sealed: bool) -> Option<(World, Sql)> {
    let server = super::server()?;
    let database = Database::new(&server);
    let dir = TempDir::new().unwrap();
    let sql = Sql(database.text(), dir);
    let mut world = World::new(Box::new(database)).unwrap();
    if sealed {
        let connector = Connector::new(Address::parse(&sql.0).unwrap()).unwrap();
        let shared = PostgresLedger::create(connector).unwrap();
        let replica =
            SqliteLedger::create(&sql.1.path().join("ledger.db"), Ledger::views()).unwrap();
        let store = Store::shared(Box::new(shared), replica).unwrap();
        world.ledger = Ledger::new(store, "prod", "anna");
    }
    Some((world, sql))
}

/// Somebody with a prompt, and where the ledger's replica is.
pub(super) struct Sql(pub(super) String, TempDir);

impl Sql {
    pub(super) fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    fn try_run(&self, sql: &str) -> Result<(), String> {
        let mut client = postgres::Client::connect(&self.0, postgres::NoTls).unwrap();
        let sent = client.batch_execute(sql);
        sent.map_err(|e| {
            e.as_db_error()
                .map_or(e.to_string(), |e| e.message().to_owned())
        })
    }

    pub(super) fn yes(&self, ask: &str) -> bool {
        let mut client = postgres::Client::connect(&self.0, postgres::NoTls).unwrap();
        client
            .query_one(&format!("SELECT {ask}"), &[])
            .unwrap()
            .get(0)
    }
}

fn table(world: &World, name: &str, rows: &[Row]) -> Write {
    let name = world.harness.relation(0, name);
    Write::Replace(name, Table::new(&["id", "value"], rows.iter().cloned()))
}

pub(super) fn build(world: &mut World, rows: &[Row]) {
    let script = Script::good([table(world, "orders", rows)]);
    assert!(world.run(&script).unwrap().published);
}

fn version(world: &mut World, name: &RelationName) -> VersionId {
    world.session(|s| s.see_drift().unwrap().1)[name].id
}

pub(super) fn proved(world: &mut World) {
    let live = world.live().unwrap();
    assert_eq!(live.drifts, 0, "nobody else wrote to {}", live.release);
    let proof = world.session(|s| s.verify(live.release)).unwrap();
    assert!(proof.differences.is_empty(), "{proof:?}");
}

/// Production's keys and comments are put on what a job built as it is moved. That is our own doing.
#[test]
fn what_a_release_takes_over_is_no_drift() {
    for sealed in [false, true] {
        let Some((mut world, sql)) = world(sealed) else {
            return;
        };
        let orders = world.harness.relation(0, "orders");
        build(&mut world, &[vec![1, 1]]);
        sql.run(
            "ALTER TABLE s.orders ADD PRIMARY KEY (id);
             CREATE INDEX orders_value ON s.orders (value);
             COMMENT ON TABLE s.orders IS 'what was ordered'",
        );
        build(&mut world, &[vec![1, 1], vec![2, 2]]);
        let r2 = VersionId {
            release: ReleaseId(2),
            drift: 0,
        };
        assert!(
            sql.try_run("INSERT INTO s.orders VALUES (2, 9)").is_err(),
            "the key is there"
        );
        assert_eq!(version(&mut world, &orders), r2);
        proved(&mut world);
        world.back_to(ReleaseId(1)).unwrap();
        let r1 = version(&mut world, &orders);
        assert_eq!((r1.release, r1.drift), (ReleaseId(1), 1), "with the key");
        proved(&mut world);
        // The key was others' work, and a person says that it may be set aside with R1.
        world.back(&Ask::Undo, true).unwrap();
        assert_eq!(version(&mut world, &orders), r2);
        proved(&mut world);
        // What others do is still theirs.
        sql.run("COMMENT ON TABLE s.orders IS 'mine'");
        assert_eq!(version(&mut world, &orders).drift, 1);
    }
}

/// A foreign key leaves a version that is retained, and comes back with it.
#[test]
fn a_foreign_key_comes_back_with_its_table() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    sql.run("CREATE TABLE s.raw (id bigint PRIMARY KEY); INSERT INTO s.raw VALUES (1), (2)");
    build(&mut world, &[vec![1, 1]]);
    sql.run("ALTER TABLE s.orders ADD CONSTRAINT of_raw FOREIGN KEY (id) REFERENCES s.raw (id)");
    build(&mut world, &[vec![2, 2]]);
    let guarded = "EXISTS (SELECT FROM pg_constraint WHERE conname = 'of_raw' AND convalidated
                   AND conrelid = 's.orders'::regclass)";
    assert!(sql.yes(guarded));
    sql.run("ALTER TABLE s.orders DROP CONSTRAINT of_raw");
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    world.back(&ask, true).unwrap();
    assert!(sql.yes(guarded), "as it was in R1");
    proved(&mut world);
}

/// What is retained cannot be written to by who could, and who was given access keeps it.
#[test]
fn what_is_retained_is_read_only_and_access_given_meanwhile_stays() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    let unique = sql.0.rsplit('_').take(2).collect::<Vec<_>>().join("_");
    let (writer, reader) = (format!("unship_w_{unique}"), format!("unship_a_{unique}"));
    let may = |role: &str, right: &str, at: &str| {
        sql.yes(&format!(
            "has_table_privilege('{role}', '{at}.orders', '{right}')"
        ))
    };
    build(&mut world, &[vec![1, 1]]);
    sql.run(&format!(
        "CREATE ROLE {writer}; CREATE ROLE {reader};
         GRANT SELECT, INSERT, UPDATE (value) ON s.orders TO {writer}"
    ));
    build(&mut world, &[vec![2, 2]]);
    assert!(may(&writer, "INSERT", SCHEMA), "it is carried");
    assert!(may(&writer, "SELECT", "unship_r1_s"));
    assert!(!may(&writer, "INSERT", "unship_r1_s"));
    let column = "has_column_privilege";
    let update = |at: &str| {
        sql.yes(&format!(
            "{column}('{writer}', '{at}.orders', 'value', 'UPDATE')"
        ))
    };
    assert!(update(SCHEMA) && !update("unship_r1_s"));
    sql.run(&format!("GRANT SELECT ON s.orders TO {reader}"));
    world.back_to(ReleaseId(1)).unwrap();
    assert!(
        may(&writer, "INSERT", SCHEMA) && update(SCHEMA),
        "given back"
    );
    assert!(may(&reader, "SELECT", SCHEMA), "given meanwhile");
    assert!(!may(&writer, "INSERT", "unship_r2_s"));
    // Before R1 there was none: all that is known is what was taken away.
    world.back_to(ReleaseId(0)).unwrap();
    assert!(!may(&writer, "INSERT", "unship_r1_s"));
    world.back_to(ReleaseId(1)).unwrap();
    assert!(may(&writer, "INSERT", SCHEMA) && update(SCHEMA));
    proved(&mut world);
    sql.run(&format!(
        "DROP OWNED BY {writer}, {reader}; DROP ROLE {writer}, {reader}"
    ));
}

#[test]
fn the_first_release_of_a_schema_makes_it() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    sql.run("DROP SCHEMA s");
    let orders = table(&world, "orders", &[vec![1, 1]]);
    world.run(&Script::good([orders])).unwrap();
    assert!(sql.yes("EXISTS (SELECT FROM s.orders)"));
}

/// The mark counts transactions, and unship's own are among them.
#[test]
fn our_own_transactions_are_nobody_elses_writes() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    build(&mut world, &[vec![1, 1]]);
    let touched = |world: &mut World| {
        let mark = world.live().unwrap().mark;
        world.session(|s| s.engine.touched(&mark).unwrap())
    };
    sql.run("CREATE TABLE public.elsewhere (id int)");
    assert!(!touched(&mut world));
    sql.run("ALTER TABLE s.orders ADD COLUMN more int");
    assert!(touched(&mut world));
}

/// A materialised view that nobody releases holds rows of the tables that it was made over.
#[test]
fn a_materialised_view_of_others_follows_there_and_back() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    build(&mut world, &[vec![1, 1]]);
    sql.run(
        "CREATE SCHEMA bi;
         CREATE MATERIALIZED VIEW bi.total AS SELECT sum(value)::bigint AS total FROM s.orders;
         CREATE UNIQUE INDEX total_total ON bi.total (total);
         CREATE VIEW bi.shown AS SELECT total FROM bi.total",
    );
    let shows = |total: i64| {
        assert!(
            sql.yes(&format!("total = {total} FROM bi.shown")),
            "{total}"
        );
        assert!(sql.yes("to_regclass('bi.total_total') IS NOT NULL"));
    };
    build(&mut world, &[vec![1, 20]]);
    shows(20);
    assert!(sql.yes("total = 1 FROM unship_r1_bi.total"), "retained");
    proved(&mut world);
    world.back_to(ReleaseId(1)).unwrap();
    shows(1);
    world.back(&Ask::Undo, false).unwrap();
    shows(20);
    proved(&mut world);
    assert!(sql.yes("NOT EXISTS (SELECT FROM pg_namespace WHERE nspname LIKE 'unship_build%')"));
}

/// Going back builds such a view anew where it is younger than what comes back. Wherever that is
/// interrupted, what is half-way is neither in the way of the next attempt nor taken for its own.
#[test]
fn a_view_that_is_built_anew_on_the_way_back_survives_a_fault_at_every_boundary() {
    for (side, fault) in [(Side::After, Fault::Crash), (Side::Before, Fault::Error)] {
        let Some((mut world, sql)) = world(true) else {
            return;
        };
        build(&mut world, &[vec![1, 1]]);
        build(&mut world, &[vec![1, 20]]);
        sql.run(
            "CREATE SCHEMA bi;
             CREATE MATERIALIZED VIEW bi.total AS SELECT sum(value)::bigint AS total FROM s.orders",
        );
        // Before version 15 each look waits for the counters that tell a write.
        let old = sql.yes("current_setting('server_version_num')::int < 150000");
        for n in (1..).step_by(if old { 9 } else { 1 }) {
            // Of a release that never was: as a process leaves it that had no time to tidy up.
            sql.run(
                "CREATE SCHEMA unship_build_bi;
                 CREATE MATERIALIZED VIEW unship_build_bi.total AS SELECT 99::bigint AS total",
            );
            let back = |world: &mut World| world.back_to(ReleaseId(1)).map(drop);
            let (answer, blown) = world.broken(n, side, fault, back);
            if let Err(error) = &answer {
                assert!(blown.is_some(), "{n} {side:?} {fault:?}: {error}");
            }
            match world.resume(None) {
                Ok(_) | Err(OperateError::NothingToResume) => {}
                Err(error) => panic!("{n} {side:?} {fault:?}: {error}"),
            }
            let live = world.live().unwrap().release;
            let value = if sql.yes("value = 1 FROM s.orders") {
                1
            } else {
                20
            };
            assert!(
                sql.yes(&format!("total = {value} FROM bi.total")),
                "{n} {side:?} {fault:?}: {live}"
            );
            if blown.is_none() {
                break;
            }
            if value == 1 {
                world.back(&Ask::Undo, false).unwrap();
                // As young as before.
                sql.run(
                    "DROP MATERIALIZED VIEW bi.total;
                     CREATE MATERIALIZED VIEW bi.total AS
                         SELECT sum(value)::bigint AS total FROM s.orders",
                );
            }
            sql.run("DROP SCHEMA IF EXISTS unship_build_bi CASCADE");
        }
        assert!(sql.yes("value = 1 FROM s.orders"));
        proved(&mut world);
    }
}

/// PostgreSQL finds a relation by the newest catalog and its rows by the snapshot. Whoever looks with
/// one that is older than the build has the old version by its name in the retained schema.
#[test]
fn an_older_snapshot_finds_the_new_version_empty_and_the_old_one_by_name() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    build(&mut world, &[vec![1, 1]]);
    let mut reader = postgres::Client::connect(&sql.0, postgres::NoTls).unwrap();
    let mut old = reader
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .start()
        .unwrap();
    old.query_one("SELECT count(*) FROM pg_class", &[]).unwrap();
    build(&mut world, &[vec![1, 20], vec![2, 20]]);
    let mut count = |table: &str| -> i64 {
        let ask = format!("SELECT count(*) FROM {table}");
        old.query_one(&ask, &[]).unwrap().get(0)
    };
    assert_eq!(count("s.orders"), 0);
    assert_eq!(count("unship_r1_s.orders"), 1);
}

/// Default privileges act where a relation is made, which is staging.
#[test]
fn a_new_relation_has_what_is_granted_by_default() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    let reader = format!("suite_reader_{}", std::process::id());
    sql.run(&format!(
        "CREATE ROLE {reader}; GRANT USAGE ON SCHEMA s TO {reader};
         ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO {reader}"
    ));
    build(&mut world, &[vec![1, 1]]);
    assert!(sql.yes(&format!(
        "has_table_privilege('{reader}', 's.orders', 'SELECT')"
    )));
    proved(&mut world);
    sql.run(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}"));
}

/// Others write to a released table where it stands, and no release replaced it since: there is one
/// copy of it, which stays as it is whichever way releases go around it, and is said to.
#[test]
fn what_others_wrote_where_it_stands_stays_on_every_way() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    let (orders, rates) = ("orders", "rates");
    let script = Script::good([
        table(&world, orders, &[vec![1, 1]]),
        table(&world, rates, &[vec![1, 5]]),
    ]);
    assert!(world.run(&script).unwrap().published);
    build(&mut world, &[vec![1, 20]]);
    let name = world.harness.relation(0, rates);
    let stands = |orders: i64, rates: i64| {
        assert!(sql.yes(&format!("value = {orders} FROM s.orders")));
        assert!(sql.yes(&format!("count(*) = {rates} FROM s.rates")));
    };
    sql.run("INSERT INTO s.rates VALUES (2, 6)");

    let done = world.back_to(ReleaseId(1)).unwrap();
    assert!(done.plan.impact.stay.contains_key(&name), "{done:?}");
    assert!(!done.plan.result.contains_key(&name), "{done:?}");
    stands(1, 2);
    proved(&mut world);

    sql.run("INSERT INTO s.rates VALUES (3, 7)");
    world.back(&Ask::Undo, false).unwrap();
    stands(20, 3);
    world.back(&Ask::Redo, false).unwrap();
    stands(1, 3);
    world.back(&Ask::Undo, false).unwrap();

    // A release replaces it: what gave way is what others made of it, and comes back as that.
    let script = Script::good([table(&world, rates, &[vec![9, 9]])]);
    assert!(world.run(&script).unwrap().published);
    stands(20, 1);
    world.back_to(ReleaseId(1)).unwrap();
    stands(1, 3);
    proved(&mut world);

    // Whoever puts another table in its place leaves nothing to go back to.
    build(&mut world, &[vec![1, 30]]);
    sql.run("DROP TABLE s.rates; CREATE TABLE s.rates AS SELECT 1 AS id, 1 AS value");
    let refused = world.back_to(ReleaseId(1)).unwrap_err().to_string();
    assert!(
        refused.contains("others put another in its place"),
        "{refused}"
    );
    stands(30, 1);
}

/// A bad release gives somebody access; people give and revoke some after it. Going back takes the
/// first away and keeps the second, whether the rights are on the table or on a column.
#[test]
fn access_that_a_release_gave_goes_with_it_and_what_people_changed_stays() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    let unique = sql.0.rsplit('_').take(2).collect::<Vec<_>>().join("_");
    let role = |word: &str| format!("unship_{word}_{unique}");
    let [job, bob, intern, late] = ["job", "bob", "intern", "late"].map(role);
    sql.run(&format!(
        "CREATE ROLE {job}; CREATE ROLE {bob}; CREATE ROLE {intern}; CREATE ROLE {late}"
    ));
    let rights = || -> Vec<String> {
        let mut client = postgres::Client::connect(&sql.0, postgres::NoTls).unwrap();
        let ask = "
            SELECT split_part(x.grantee::regrole::text, '_', 2) || ' ' || x.privilege_type
                   || coalesce(' ' || column_name, '')
              FROM (SELECT (aclexplode(relacl)).*, NULL AS column_name, relowner FROM pg_class
                     WHERE oid = 's.orders'::regclass
                    UNION ALL
                    SELECT (aclexplode(attacl)).*, attname, 0 FROM pg_attribute
                     WHERE attrelid = 's.orders'::regclass) x
             WHERE x.grantee <> x.relowner ORDER BY 1";
        let rows = client.query(ask, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    build(&mut world, &[vec![1, 1]]);
    sql.run(&format!(
        "GRANT SELECT, INSERT ON s.orders TO {job}; GRANT SELECT, UPDATE (value) ON s.orders TO {bob}"
    ));
    let first = ["bob SELECT", "bob UPDATE value", "job INSERT", "job SELECT"];
    assert_eq!(rights(), first);

    // The job's own grants, as dbt makes them.
    sql.run(&format!(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT, DELETE ON TABLES TO {intern}"
    ));
    build(&mut world, &[vec![1, 20]]);
    sql.run(&format!(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s REVOKE SELECT, DELETE ON TABLES FROM {intern}"
    ));
    let second = [&first[..], &["intern DELETE", "intern SELECT"]].concat();
    let sorted = |mut all: Vec<&'static str>| {
        all.sort_unstable();
        all
    };
    assert_eq!(rights(), sorted(second.clone()));

    let done = world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(rights(), first, "{:?}", done.plan.notes);
    let said = done.plan.notes.join("\n");
    assert!(
        said.contains("goes with it") && said.contains(&format!("SELECT for {intern}")),
        "{said}"
    );
    world.back(&Ask::Undo, false).unwrap();
    assert_eq!(rights(), sorted(second.clone()));

    // People change it while the bad release is live.
    sql.run(&format!(
        "GRANT SELECT, INSERT, UPDATE (id) ON s.orders TO {late};
         REVOKE INSERT ON s.orders FROM {job}; REVOKE SELECT, UPDATE (value) ON s.orders FROM {bob}"
    ));
    world.back_to(ReleaseId(1)).unwrap();
    let now = ["job SELECT", "late INSERT", "late SELECT", "late UPDATE id"];
    assert_eq!(rights(), now);
    world.back(&Ask::Undo, false).unwrap();
    let forth = [&now[..], &["intern DELETE", "intern SELECT"]].concat();
    assert_eq!(rights(), sorted(forth));
    proved(&mut world);

    // Nobody is there any more who had been given something.
    sql.run(&format!("DROP OWNED BY {intern}; DROP ROLE {intern}"));
    world.back(&Ask::Redo, false).unwrap();
    assert_eq!(rights(), now);
    sql.run(&format!(
        "DROP OWNED BY {job}, {bob}, {late}; DROP ROLE {job}, {bob}, {late}"
    ));
}
