//! Ways past statement triggers, each by name: closed, or noticed and refused.

use super::*;

const KEYED: &str = "CREATE TABLE s.t (id int PRIMARY KEY, n int);
    INSERT INTO s.t SELECT i, i FROM generate_series(1, 20) i";
const KEYLESS: &str = "CREATE TABLE s.t (id int, n int);
    INSERT INTO s.t SELECT i % 5, i FROM generate_series(1, 20) i";

/// Changes a table in a way, which must be taken back and forth exactly.
fn goes_back(make: &str, change: &str) {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", make);
    let first = logged.copy();
    logged.execute(change);
    let second = logged.copy();
    assert_ne!(first.rows, second.rows);
    for copy in [&first, &second, &first] {
        logged.is_again(copy);
    }
}

/// What replays what others did does not fire ordinary triggers.
#[test]
fn a_session_that_replicates_is_written_down() {
    for make in [KEYED, KEYLESS] {
        goes_back(
            make,
            "SET session_replication_role = replica; UPDATE s.t SET n = 0 WHERE id < 3;
             DELETE FROM s.t WHERE id = 4; INSERT INTO s.t VALUES (90, 1)",
        );
    }
}

#[test]
fn what_is_written_to_a_partition_directly_is_written_down() {
    goes_back(
        "CREATE TABLE s.t (id int, n int, PRIMARY KEY (id, n)) PARTITION BY LIST (n);
         CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES IN (1);
         CREATE TABLE s.t_2 PARTITION OF s.t DEFAULT;
         INSERT INTO s.t SELECT i, i % 3 FROM generate_series(1, 20) i",
        "INSERT INTO s.t_1 VALUES (91, 1); DELETE FROM s.t_1 WHERE id < 5; TRUNCATE s.t_2;
         UPDATE s.t SET n = 2 WHERE id = 91",
    );
}

/// It has no transition tables.
#[test]
fn truncate_is_written_down() {
    for make in [KEYED, KEYLESS] {
        goes_back(make, "TRUNCATE s.t; INSERT INTO s.t VALUES (3, 3)");
    }
}

/// Changes the table's definition, after which it cannot go back to before, and from then on can.
fn ends(change: &str, why: &str) {
    let Some(server) = server() else { return };
    let mut logged = Logged::new(&server, "t", KEYED);
    let first = logged.copy();
    // The log is in nobody's way who alters the table.
    logged.execute(change);
    let found = logged.known().out_of_reach(&first.position).unwrap();
    assert!(found.contains(why), "{found}");
    logged.ensure();
    assert!(logged.known().out_of_reach(&first.position).is_some());
    let anew = logged.copy();
    logged.execute("DELETE FROM s.t");
    logged.is_again(&anew);
}

#[test]
fn a_table_that_is_written_anew_by_alter_is_noticed() {
    ends(
        "ALTER TABLE s.t ALTER n TYPE int USING n * 2",
        "s.t was altered and written anew",
    );
    ends(
        "ALTER TABLE s.t ALTER n TYPE text",
        "the columns of s.t were altered",
    );
    ends(
        "ALTER TABLE s.t ADD more int DEFAULT 7",
        "the columns of s.t were altered",
    );
}

#[test]
fn triggers_that_were_off_are_noticed() {
    ends(
        "ALTER TABLE s.t DISABLE TRIGGER ALL; DELETE FROM s.t WHERE id = 1; ALTER TABLE s.t ENABLE TRIGGER ALL",
        "the triggers of s.t were off for a time, or are",
    );
}

/// A full refresh that drops the table under the superuser's event trigger is refused; one that renames
/// it away leaves another table, which has no log.
#[test]
fn a_table_that_is_replaced_by_renaming_is_another() {
    let Some(server) = server() else { return };
    let logged = Logged::new(&server, "t", KEYED);
    let first = logged.copy();
    let before = logged.known().relation;
    logged.execute(
        "CREATE TABLE s.fresh (LIKE s.t INCLUDING ALL); ALTER TABLE s.t RENAME TO t_old;
         ALTER TABLE s.fresh RENAME TO t",
    );
    logged.ensure();
    let now = logged.known();
    assert_ne!(now.relation, before);
    assert!(now.out_of_reach(&first.position).is_some());
}
