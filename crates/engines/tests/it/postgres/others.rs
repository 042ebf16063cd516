//! What others write to what is rolled back: kept, set aside, or a reason to stop.

use super::story::{Sql, build, proved, world};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, OperateError};
use unship_core::others::Others;
use unship_core::testing::world::World;

const BACK: Ask = Ask::Rollback {
    to: Some(ReleaseId(1)),
    select: None,
};

/// Somebody who writes ids of their own, one after the other, and remembers those that were taken.
struct Loader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<i64>>,
}

impl Loader {
    fn start(sql: &Sql, first: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, seen) = (sql.0.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut client = postgres::Client::connect(&address, postgres::NoTls).unwrap();
            let mut taken = BTreeSet::new();
            let mut id = first;
            while !seen.load(Ordering::Relaxed) {
                // Sometimes a transaction stays open for a while, so that it is older than the swap.
                let mut transaction = client.transaction().unwrap();
                let insert = "INSERT INTO s.orders (id, value) VALUES ($1, 0)";
                let written = transaction.execute(insert, &[&id]);
                if id % 5 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                if written.is_ok() && transaction.commit().is_ok() {
                    taken.insert(id);
                }
                id += 1;
            }
            taken
        });
        Self { stop, thread }
    }

    fn end(self) -> BTreeSet<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ids(sql: &Sql, table: &str) -> Vec<i64> {
    let mut client = postgres::Client::connect(&sql.0, postgres::NoTls).unwrap();
    let rows = client
        .query(
            &format!("SELECT id FROM {table} WHERE id >= 1000 ORDER BY id"),
            &[],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn go(world: &mut World, others: Others) -> Result<(), OperateError> {
    world.session(|s| {
        let plan = s.plan_with(&BACK, others)?;
        s.apply(plan, others == Others::SetAside).map(drop)
    })
}

fn story() -> Option<(World, Sql)> {
    let (mut world, sql) = world(true)?;
    build(&mut world, &[vec![1, 1]]);
    build(&mut world, &[vec![1, 1], vec![2, 2]]);
    Some((world, sql))
}

#[test]
fn not_one_row_of_a_loader_is_lost() {
    for others in [Others::Keep, Others::SetAside] {
        let Some((mut world, sql)) = story() else {
            return;
        };
        sql.run("INSERT INTO s.orders VALUES (1000, 0)");
        let asked = go(&mut world, Others::Ask);
        assert!(
            matches!(asked, Err(OperateError::OthersWrote(_))),
            "{asked:?}"
        );

        let loader = Loader::start(&sql, 1001);
        std::thread::sleep(std::time::Duration::from_millis(100));
        go(&mut world, others).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut taken = loader.end();
        taken.insert(1000);
        let taken: Vec<i64> = taken.into_iter().collect();
        let mut found = ids(&sql, "s.orders");
        if others == Others::SetAside {
            found.extend(ids(&sql, "unship_r2_s.orders"));
            found.sort_unstable();
        }
        assert_eq!(found, taken, "{others:?}: each of them, once");
        assert!(
            sql.yes("count(*) = 0 FROM s.orders WHERE id = 2"),
            "R2's own row went"
        );
    }
}

#[test]
fn what_is_kept_is_counted_and_proved() {
    let Some((mut world, sql)) = story() else {
        return;
    };
    sql.run("INSERT INTO s.orders VALUES (1000, 7), (1000, 7), (1001, 8)");
    let name = world.harness.relation(0, "orders");
    let asked = world.session(|s| s.plan(&BACK)).unwrap();
    let said = &asked.impact.set_aside[&name];
    assert!(said.contains("3 rows added (writer unknown)"), "{said}");
    let plan = world.session(|s| s.plan_with(&BACK, Others::Keep)).unwrap();
    let said = &plan.impact.replayed[&name];
    assert!(said.contains("3 rows put into the older version"), "{said}");
    assert_eq!(plan.impact.changes[&name].rows_then, Some(4));
    world.session(|s| s.apply(plan, false)).unwrap();
    assert_eq!(ids(&sql, "s.orders"), [1000, 1000, 1001]);
    proved(&mut world);
    // They are the release's now, and what is written later is others' again.
    sql.run("INSERT INTO s.orders VALUES (1002, 9)");
    let plan = world.session(|s| s.plan(&Ask::Undo)).unwrap();
    let said = &plan.impact.set_aside[&name];
    assert!(said.contains("1 row added"), "{said}");
    let undo = world.session(|s| s.plan_with(&Ask::Undo, Others::SetAside));
    world.session(|s| s.apply(undo.unwrap(), true)).unwrap();
    assert_eq!(
        ids(&sql, "s.orders"),
        [1000, 1000, 1001],
        "as it was before"
    );
}

#[test]
fn conflicts_are_named_and_changes_are_a_reason_to_stop() {
    let Some((mut world, sql)) = world(true) else {
        return;
    };
    build(&mut world, &[vec![1, 1], vec![1001, 5]]);
    sql.run("ALTER TABLE s.orders ADD PRIMARY KEY (id)");
    build(&mut world, &[vec![2, 2]]);
    let name = world.harness.relation(0, "orders");
    sql.run("INSERT INTO s.orders VALUES (1000, 7), (1001, 8)");
    let plan = world.session(|s| s.plan_with(&BACK, Others::Keep)).unwrap();
    let said = &plan.impact.replayed[&name];
    assert!(said.contains("1 row put into the older version"), "{said}");
    assert!(
        said.contains("in conflict") && said.contains("id 1001"),
        "{said}"
    );
    world.session(|s| s.apply(plan, false)).unwrap();
    assert!(sql.yes("array_agg((id, value) ORDER BY id)::text = '{\"(1,1)\",\"(1000,7)\",\"(1001,5)\"}' FROM s.orders"));
    assert_eq!(
        ids(&sql, "unship_r2_s.orders"),
        [1000, 1001],
        "both are retained"
    );
    proved(&mut world);

    world.back(&Ask::Undo, true).unwrap();
    sql.run("UPDATE s.orders SET value = 3 WHERE id = 2");
    let refused = world.session(|s| s.plan_with(&BACK, Others::Keep));
    let Err(OperateError::CannotKeep(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(why[&name].contains("changed or deleted"), "{why:?}");
    assert!(sql.yes("value = 3 FROM s.orders WHERE id = 2"));
}

/// Between the plan and its last step others change a row that is not theirs: it is not thrown away.
#[test]
fn a_change_after_the_plan_stops_it() {
    let Some((mut world, sql)) = story() else {
        return;
    };
    sql.run("INSERT INTO s.orders VALUES (1000, 7)");
    let plan = world.session(|s| s.plan_with(&BACK, Others::Keep)).unwrap();
    sql.run("UPDATE s.orders SET value = 3 WHERE id = 2");
    let done = world.session(|s| s.apply(plan, false));
    assert!(done.is_err(), "{done:?}");
    assert!(sql.yes("value = 3 FROM s.orders WHERE id = 2"));
    assert_eq!(ids(&sql, "s.orders"), [1000]);
}
