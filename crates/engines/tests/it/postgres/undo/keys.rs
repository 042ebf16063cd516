//! Tables of which only the keys of rows that came are written down.

use super::*;

const MAKE: &str = "CREATE TABLE s.t (id int PRIMARY KEY, n numeric, what text);
    INSERT INTO s.t SELECT i, i, 'first' FROM generate_series(1, 20) i";

fn count(logged: &Logged, sql: &str) -> i64 {
    let row = logged.database.client().query_one(sql, &[]).unwrap();
    row.get(0)
}

/// What came is not written down a second time, and what came and went in between is nothing.
#[test]
fn rows_that_come_leave_their_keys() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", MAKE);
    let first = logged.copy();
    logged.execute(
        "INSERT INTO s.t SELECT i, 1.0, 'second' FROM generate_series(21, 40) i;
         UPDATE s.t SET n = 1.00 WHERE id > 30;
         UPDATE s.t SET id = id + 100 WHERE id IN (1, 40);
         BEGIN; DELETE FROM s.t WHERE id = 5; INSERT INTO s.t VALUES (5, 5, 'first'); COMMIT;
         INSERT INTO s.t VALUES (50); DELETE FROM s.t WHERE id = 50; INSERT INTO s.t VALUES (50, 2)",
    );
    let second = logged.copy();
    let guard = logged.known().guard;
    assert!(logged.known().brief);
    assert_eq!(
        count(
            &logged,
            &format!("SELECT count(*) FROM unship_undo.rows_{guard}")
        ),
        10 + 2 + 1 + 1,
        "only what went"
    );
    for copy in [&first, &second, &first, &second] {
        logged.is_again(copy);
    }
}

/// Loads that are larger than what is held in memory at a time.
#[test]
fn large_loads_are_written_down_in_parts() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", "CREATE TABLE s.t (id int PRIMARY KEY)");
    let first = logged.copy();
    logged.execute("INSERT INTO s.t SELECT generate_series(1, 300000)");
    let guard = logged.known().guard;
    let keys = format!(
        "SELECT count(DISTINCT u) FROM unship_undo.keys_{guard} k CROSS JOIN unnest(k.c1) u"
    );
    assert_eq!(count(&logged, &keys), 300_000);
    let come = "SELECT sum(come)::bigint FROM unship_undo.changes WHERE op = 'insert'";
    assert_eq!(count(&logged, come), 300_000);
    logged.is_again(&first);
}

/// A function that changes the table in the midst of a statement that changes it: which of its rows
/// went first is not known, and not guessed.
#[test]
fn statements_in_the_midst_of_each_other_are_not_guessed() {
    let Some(server) = server() else { return };
    let again = "CREATE FUNCTION s.again(int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        UPDATE s.t SET what = 'amidst' WHERE id = $1; RETURN 'after'; END $$";
    let mut logged = Logged::new(&server, "t", &format!("{MAKE}; {again}"));
    let first = logged.copy();
    logged.execute("UPDATE s.t SET what = s.again(id - 1) WHERE id IN (1, 2)");
    let error = logged.back(&first.position, Scope::default()).unwrap_err();
    assert_eq!(
        error.message,
        "could not go back where the rows are: 1 of the rows of s.t were changed twice by statements in the midst of each other, so that \
         the undo log cannot tell what they were"
    );
    // Of statements after each other it is, in one transaction too.
    let second = logged.copy();
    logged.execute(
        "BEGIN; UPDATE s.t SET n = n + 1; UPDATE s.t SET n = n + 1;
         INSERT INTO s.t VALUES (1), (99) ON CONFLICT (id) DO UPDATE SET what = 'upsert'; COMMIT;
         DO $$ BEGIN UPDATE s.t SET n = 0; DELETE FROM s.t WHERE id = 4; END $$",
    );
    logged.is_again(&second);
}

/// A trigger of others that changes the table again: its rows are written down whole.
#[test]
fn triggers_that_change_the_table_again_go_back() {
    let Some(server) = server() else { return };
    let again = "CREATE FUNCTION s.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE s.t SET what = what || '!' WHERE id = NEW.id; RETURN NULL; END $$;
        CREATE TRIGGER again AFTER INSERT OR UPDATE OF n ON s.t FOR EACH ROW EXECUTE FUNCTION s.again()";
    let mut logged = Logged::new(&server, "t", &format!("{MAKE}; {again}"));
    assert!(!logged.known().brief);
    let first = logged.copy();
    logged.execute("UPDATE s.t SET n = n * 2 WHERE id < 9; INSERT INTO s.t VALUES (30, 1, 'x')");
    let second = logged.copy();
    for copy in [&first, &second, &first] {
        logged.is_again(copy);
    }
}

/// Without the key rows could be there twice.
#[test]
fn a_key_that_was_dropped_ends_the_log() {
    let Some(server) = server() else { return };
    let logged = Logged::new(&server, "t", MAKE);
    let first = logged.copy();
    logged.execute(
        "ALTER TABLE s.t DROP CONSTRAINT t_pkey; INSERT INTO s.t VALUES (1, 1, 'twice');
         DELETE FROM s.t WHERE what = 'twice'; ALTER TABLE s.t ADD PRIMARY KEY (id)",
    );
    let why = "its primary key was dropped or made anew";
    assert_eq!(
        logged.known().out_of_reach(&first.position),
        Some(format!("has an undo log with a hole: {why}"))
    );
    assert_eq!(
        logged.ensure(),
        [format!(
            "s.t cannot go back to before now where it stands: {why}"
        )]
    );
    // Written anew, it is the same.
    logged.execute("REINDEX TABLE s.t");
    logged.execute("VACUUM FULL s.t");
    assert!(logged.ensure().is_empty());
}

/// One writer's changes go; what another built on them is refused with that one's name.
#[test]
fn a_writer_on_a_writer() {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", MAKE);
    let first = logged.copy();
    let writer = |name: &str| Scope {
        writer: Some(name.to_owned()),
        ..Scope::default()
    };
    logged.execute(
        "SET application_name = 'one'; UPDATE s.t SET n = -1 WHERE id <= 3; DELETE FROM s.t WHERE id = 4;
         INSERT INTO s.t VALUES (21), (22);
         SET application_name = 'other'; UPDATE s.t SET n = -2 WHERE id = 5; INSERT INTO s.t VALUES (4)",
    );
    let second = logged.copy();
    let error = logged.back(&first.position, writer("one")).unwrap_err();
    assert_eq!(
        error.message,
        "could not go back where the rows are: 1 of the rows of s.t that would go back were changed again since, by postgres (other)"
    );
    logged.back(&first.position, writer("other")).unwrap();
    logged.back(&first.position, writer("one")).unwrap();
    assert_eq!(logged.copy().rows, first.rows);
    logged.is_again(&second);
}

/// What releases do to a table says whether its log is worth it.
#[test]
fn what_the_log_costs_is_said() {
    let Some(server) = server() else { return };
    let logged = Logged::new(&server, "t", MAKE);
    let guard = logged.known().guard;
    let worth = || undo::worth::of(&mut logged.database.client(), guard).unwrap();
    logged.execute("ANALYZE s.t; UPDATE s.t SET n = 0");
    assert_eq!(worth(), None, "no release did that");
    for (release, rows) in [(1, 1), (2, 8), (3, 4)] {
        logged.execute(&format!(
            "SET unship.release = 'R{release}'; UPDATE s.t SET n = n + 1 WHERE id <= {rows}"
        ));
    }
    let middle = worth().unwrap();
    assert_eq!((middle.releases, middle.changed, middle.rows), (3, 4, 20));
    assert!(middle.cost < 0.2 && !middle.is_copied_cheaper());
    for _ in 0..5 {
        logged.execute("SET unship.release = 'R4'; UPDATE s.t SET n = n + 1");
    }
    for release in 5..7 {
        logged.execute(&format!(
            "SET unship.release = 'R{release}'; UPDATE s.t SET n = n + 1; UPDATE s.t SET n = n + 1"
        ));
    }
    assert!(worth().unwrap().is_copied_cheaper());
}
