//! What others added stays in production when a release goes back: no row of theirs is lost, and none
//! is there twice. That Spark reads the statements as they are meant is shown by Spark, in the slow
//! tests of `unship` itself.

use super::server::{Manner, Server};
use super::spark::{Play, Spark};
use super::suite::{Jobs, Lake, id, name};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use unship_core::engine::ErrorKind;
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, Done, OperateError};
use unship_core::others::Others;
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Row, Table, Write};

struct Story {
    world: World,
    server: Server,
    spark: Spark,
}

fn row(n: i64) -> Row {
    vec![n, n]
}

fn told(manner: Manner) -> Story {
    let mut lake = Lake::new(manner, Jobs::InPlace);
    let spark = Spark::of(&mut lake);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    let table = Table::new(&["id", "value"], [row(1)]);
    let write = Write::Replace(name("orders"), table);
    world.run(&Script::good([write])).unwrap();
    Story {
        world,
        server,
        spark,
    }
}

/// `R1` of one row, a bad `R2` that adds one, and others who append twice, with compaction between.
fn with_others(manner: Manner) -> Story {
    let mut story = told(manner);
    story.job(66);
    story.others(&[7, 7]);
    story.compacts();
    story.others(&[8]);
    story
}

fn back(to: u64) -> Ask {
    Ask::Rollback {
        to: Some(ReleaseId(to)),
        select: None,
    }
}

impl Story {
    fn job(&mut self, number: i64) {
        let write = Write::Insert(name("orders"), vec![row(number)]);
        self.world.run(&Script::good([write])).unwrap();
    }

    fn others(&self, numbers: &[i64]) {
        let rows = numbers.iter().copied().map(row).collect();
        let write = Write::Insert(name("orders"), rows);
        self.world.harness.others_write(&write).unwrap();
    }

    fn compacts(&self) {
        let orders = self.world.production()[&name("orders")].clone();
        let catalog = &mut self.server.state().catalog;
        catalog.write(&id(&name("orders")), "replace", &orders);
    }

    fn orders(&self) -> Vec<i64> {
        let rows = self.world.production()[&name("orders")].rows.clone();
        rows.into_iter().map(|row| row[0]).collect()
    }

    fn metadata(&self) -> Value {
        let state = self.server.state();
        state.catalog.table(&id(&name("orders"))).unwrap().clone()
    }

    fn keep(&mut self, ask: &Ask) -> Result<Done, OperateError> {
        self.world.session(|s| {
            let plan = s.plan_with(ask, Others::Keep)?;
            s.apply(plan, false)
        })
    }

    /// What was done holds what the ledger says, and no branch is left.
    fn proved(&mut self, done: &Done) {
        let proof = self.world.session(|s| s.verify(done.release)).unwrap();
        assert!(proof.differences.is_empty(), "{:?}", proof.differences);
        self.no_branch();
    }

    fn no_branch(&self) {
        let metadata = self.metadata();
        let refs: BTreeSet<_> = metadata["refs"].as_object().unwrap().keys().collect();
        assert!(refs.iter().all(|r| !r.contains("rows")), "{refs:?}");
    }
}

/// One moment takes production from the bad release to the good one with others' rows; undo and redo
/// go on from there, with what others add meanwhile.
#[test]
fn what_others_added_stays_through_rollback_undo_and_redo() {
    let mut story = with_others(Manner::default());
    // One that was killed left its branch.
    story
        .server
        .state()
        .catalog
        .edit(&id(&name("orders")), |m| {
            m["refs"]["unship_rows_left"] = m["refs"]["main"].clone();
        });
    let before = story.server.state().asked.len();
    let done = story.keep(&back(1)).unwrap();
    assert_eq!(story.orders(), [1, 7, 7, 8]);
    let told = &done.plan.impact.replayed[&name("orders")];
    assert!(told.contains("3 rows put into the older version"), "{told}");
    assert!(done.plan.impact.set_aside.is_empty());
    story.proved(&done);
    let asked = story.server.state().asked[before..].to_vec();
    let moves = |body: &Value| body.to_string().contains("\"ref-name\":\"main\"");
    let production = asked.iter().filter(|(_, body)| moves(body)).count();
    assert_eq!(production, 1, "production is moved once");

    story.others(&[9]);
    let undone = story.keep(&Ask::Undo).unwrap();
    assert_eq!(story.orders(), [1, 7, 7, 8, 9, 66], "none of them twice");
    story.proved(&undone);
    story.others(&[10]);
    let again = story.keep(&Ask::Redo).unwrap();
    assert_eq!(story.orders(), [1, 7, 7, 8, 9, 10]);
    story.proved(&again);
    // Further back they stay, too, although the version that they were added to is unship's own.
    story.job(67);
    let first = story.keep(&back(1)).unwrap();
    assert_eq!(story.orders(), [1, 7, 7, 8, 9, 10]);
    story.proved(&first);
}

/// A catalog that commits one table at a time does it as well.
#[test]
fn a_catalog_without_the_transaction_endpoint_keeps_them_too() {
    let mut story = with_others(Manner {
        lacks: vec!["transactions/commit"],
        ..Manner::default()
    });
    let done = story.keep(&back(1)).unwrap();
    assert_eq!(story.orders(), [1, 7, 7, 8]);
    story.proved(&done);
}

/// A job worked on top of what others had added: it is told from the job's, and stays.
#[test]
fn what_others_added_between_two_releases_is_told_from_what_jobs_did() {
    let mut story = told(Manner::default());
    story.job(66);
    story.others(&[7]);
    story.job(67);
    let plan = story.world.session(|s| s.plan(&back(1))).unwrap();
    let told = &plan.impact.set_aside[&name("orders")];
    assert!(told.contains("1 row added (by tests)"), "{told}");
    story.others(&[8]);
    let done = story.keep(&back(1)).unwrap();
    assert_eq!(story.orders(), [1, 7, 8]);
    story.proved(&done);

    // After a job that did not only add rows nobody can tell which of theirs are left.
    story.others(&[9]);
    let table = Table::new(&["id", "value"], [row(9), row(70)]);
    let write = Write::Replace(name("orders"), table);
    story.world.run(&Script::good([write])).unwrap();
    story.others(&[10]);
    let error = story.keep(&back(1)).unwrap_err().to_string();
    assert!(error.contains("a job changed rows of it"), "{error}");
    // Once the history is expired, nobody can tell anything.
    story
        .server
        .state()
        .catalog
        .edit(&id(&name("orders")), |m| {
            let named = m["refs"].as_object().unwrap().values();
            let named: BTreeSet<_> = named.map(|r| r["snapshot-id"].as_i64()).collect();
            let all = m["snapshots"].as_array_mut().unwrap();
            all.retain(|s| named.contains(&s["snapshot-id"].as_i64()));
        });
    let error = story.keep(&back(1)).unwrap_err().to_string();
    assert!(
        error.contains("it cannot be told which rows are theirs"),
        "{error}"
    );
}

/// Whatever the engine does wrong, production stays what it was, and it is said.
#[test]
fn an_engine_that_does_it_wrong_changes_nothing() {
    let mut story = with_others(Manner::default());
    let before = story.orders();
    for (play, says) in [
        (
            Play::TooMany,
            "got 2 rows (append) where others had added 1",
        ),
        (Play::TooFew, "got 0 rows (append) where others had added 1"),
        (Play::DiesHalfWay, "the session died"),
        (Play::Nothing, "fewer commits than the 2"),
        (
            Play::OnceMore,
            "got 0 rows (append) where others had added 1",
        ),
        (Play::LosesItsBranch, "was removed while it was written to"),
    ] {
        story.spark.plays(play);
        let error = story.keep(&back(1)).unwrap_err();
        let said = unship_core::execute::chain(&error);
        assert!(said.contains(says), "{play:?}: {said}");
        assert_eq!(story.orders(), before, "{play:?}");
        story.no_branch();
    }
    // Others are faster: that is planned anew, and then theirs is there as well.
    story.spark.plays(Play::OthersAppend(9));
    let error = story.keep(&back(1)).unwrap_err();
    let conflict = matches!(&error, OperateError::Engine(e) if e.kind == ErrorKind::Conflict);
    assert!(conflict, "{error:?}");
    story.no_branch();
    story.spark.plays(Play::Well);
    story.keep(&back(1)).unwrap();
    assert_eq!(story.orders(), [1, 7, 7, 8, 9]);
}

/// A table that goes with the release that made it cannot hold on to them: they are counted.
#[test]
fn what_others_added_to_a_table_that_goes_is_counted() {
    let mut story = told(Manner::default());
    let table = Table::new(&["id", "value"], [row(5)]);
    let write = Write::Replace(name("more"), table);
    story.world.run(&Script::good([write])).unwrap();
    let write = Write::Insert(name("more"), vec![row(6), row(7)]);
    story.world.harness.others_write(&write).unwrap();
    let plan = story.world.session(|s| s.plan(&back(1))).unwrap();
    let told = &plan.impact.set_aside[&name("more")];
    assert!(told.contains("2 rows added (by tests)"), "{told}");
    let error = story.keep(&back(1)).unwrap_err();
    assert!(
        error.to_string().contains("the table itself goes"),
        "{error}"
    );
}

/// Nothing runs for what could not be brought over as it is.
#[test]
fn what_cannot_be_brought_over_is_refused_by_name() {
    let refused = |story: &mut Story, says: &str| {
        let before = story.orders();
        let error = story.keep(&back(1)).unwrap_err();
        assert!(matches!(error, OperateError::CannotKeep(_)), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains("lake.s.orders") && said.contains(says),
            "{said}"
        );
        assert!(story.spark.stage().told.is_empty());
        assert_eq!(story.orders(), before);
    };
    let mut story = told(Manner::default());
    let wider = Table::new(&["id", "region"], [row(1)]);
    let write = Write::Replace(name("orders"), wider);
    story.world.run(&Script::good([write])).unwrap();
    story.others(&[7]);
    refused(&mut story, "its columns are others now");

    let mut story = with_others(Manner::default());
    let rest = Table::new(&["id", "value"], [row(8)]);
    let orders = id(&name("orders"));
    story.server.state().catalog.write(&orders, "delete", &rest);
    refused(&mut story, "they did not only add rows (delete)");

    let mut story = with_others(Manner::default());
    let owner = |m: &mut Value| m["properties"]["owner"] = "bert".into();
    story.server.state().catalog.edit(&orders, owner);
    refused(&mut story, "they changed its columns, partition spec");

    let mut story = with_others(Manner::default());
    let some = Table::new(&["id", "value"], [row(1), row(8)]);
    let server = story.server.clone();
    story
        .world
        .session(|s| {
            s.see_drift()?;
            server.state().catalog.write(&orders, "delete", &some);
            Ok::<_, OperateError>(())
        })
        .unwrap();
    refused(&mut story, "they did not only add rows (delete)");
}

/// Where files delete rows Spark cannot tell what changed: the files that were added are read.
#[test]
fn rows_beside_files_that_delete_come_over_by_their_files() {
    let mut story = told(Manner::default());
    story.job(66);
    story.others(&[7]);
    story.others(&[8]);
    story
        .server
        .state()
        .catalog
        .edit(&id(&name("orders")), |m| {
            for snapshot in m["snapshots"].as_array_mut().unwrap().iter_mut().skip(2) {
                snapshot["summary"]["total-delete-files"] = "1".into();
            }
        });
    story.keep(&back(1)).unwrap();
    assert_eq!(story.orders(), [1, 7, 8]);
    let told = story.spark.stage().told.join("");
    let table = "`lake`.`s`.`orders`";
    assert!(!told.contains("CALL"), "{told}");
    for part in [
        format!("INSERT INTO {table}.`branch_unship_rows_"),
        format!("SELECT `id`, `value` FROM {table} VERSION AS OF "),
        format!("SELECT data_file.file_path FROM {table}.entries VERSION AS OF "),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Job,
    Others,
    Compaction,
    First,
    Undo,
    Redo,
}

fn moves(most: usize) -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        Just(Move::Job),
        Just(Move::Others),
        Just(Move::Others),
        Just(Move::Compaction),
        Just(Move::First),
        Just(Move::Undo),
        Just(Move::Redo),
    ];
    prop::collection::vec(one, 3..most)
}

/// Whoever goes back and forth with `keep` finds every row of others in production, once.
fn none_is_lost_and_none_is_there_twice(all: Vec<Move>) {
    let mut story = told(Manner::default());
    let (mut number, mut theirs) = (1_000, Vec::new());
    for (n, one) in all.into_iter().enumerate() {
        number += 1;
        let asked = match one {
            Move::Job => {
                story.job(-number);
                continue;
            }
            Move::Others => {
                story.others(&[number]);
                theirs.push(number);
                continue;
            }
            Move::Compaction => {
                story.compacts();
                continue;
            }
            Move::First => story.keep(&back(1)),
            // Without its first release the table is not there.
            Move::Undo if story.world.live().unwrap().cursor <= 1 => continue,
            Move::Undo => story.keep(&Ask::Undo),
            Move::Redo => story.keep(&Ask::Redo),
        };
        match asked {
            Ok(done) => story.proved(&done),
            // There is nothing to take back, or production is there already.
            Err(OperateError::NoUndo | OperateError::NoRedo | OperateError::Wish(_)) => {}
            Err(error) => panic!("move {n}: {}", unship_core::execute::chain(&error)),
        }
        let now = story.orders();
        let found: Vec<_> = now.into_iter().filter(|n| *n > 1_000).collect();
        assert_eq!(found, theirs, "after move {n}, {one:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn others_rows_survive_any_way_back_and_forth(all in moves(12)) {
        none_is_lost_and_none_is_there_twice(all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "the same, for minutes"]
    fn others_rows_survive_any_long_way_back_and_forth(all in moves(25)) {
        none_is_lost_and_none_is_there_twice(all);
    }
}
