//! An estate of two engines that could not differ more: files that are renamed, whose relations prove
//! nothing, and a database that moves relations, each of which proves what it is.

use super::iceberg::{self, Jobs};
use super::{duckdb, postgres, snowflake};
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, OperateError};
use unship_core::testing::conformance::{Make, play_named, survives_crashes, test_names};
use unship_core::testing::pair::Pair;
use unship_core::testing::world::{Harness, Script, World};
use unship_core::testing::{Table, Write};

const WITHOUT: &[(&str, &str)] = &[
    (
        "a failed job in place is undone",
        "a job in place is refused: PostgreSQL has no copy of a database that costs nothing",
    ),
    (
        "what lies packed comes back",
        "the test keeps releases by name, and what a release left as it was in a member is retained \
         there under the name of a later one",
    ),
    (
        "a query reads a place and writes nothing",
        "a query says by the addresses in it which member it asks, and some of the case have none",
    ),
];

/// The same, where the database is what the suite's others write to.
const OTHERS: &[(&str, &str)] = &[
    WITHOUT[0],
    WITHOUT[1],
    WITHOUT[2],
    (
        "writers are frozen during a run",
        "nobody is kept out of PostgreSQL: what others write is found under the lock, or stays",
    ),
];

#[test]
fn releases_of_a_file_and_a_database_go_back_and_forth() {
    let Some(database) = postgres::database() else {
        return;
    };
    let file = duckdb::one_file();
    let make = || Box::new(Pair::new(file(), database(), WITHOUT)) as Box<dyn Harness>;
    play_named("publish_and_roll_back", &make);
}

/// A lake on whose branches jobs build, and a database that is made from it.
#[test]
fn releases_of_a_lake_and_a_database_go_back_and_forth() {
    let Some(database) = postgres::database() else {
        return;
    };
    let lake = || iceberg::lake(Jobs::OnBranches);
    let make = || Box::new(Pair::new(lake(), database(), &[])) as Box<dyn Harness>;
    play_named("publish_and_roll_back", &make);
}

/// Jobs that work on production itself in both.
#[test]
#[ignore = "takes long: a part of `make test-all`"]
fn releases_of_a_lake_and_a_file_go_back_and_forth() {
    let file = duckdb::one_file();
    let lake = || iceberg::lake(Jobs::InPlace);
    let make = || Box::new(Pair::new(lake(), file(), &[])) as Box<dyn Harness>;
    play_named("publish_and_roll_back", &make);
    play_named("undo_and_redo_are_a_stack", &make);
}

/// A file and what was made of it in Snowflake, or of Snowflake in a file: on the stand-in.
#[test]
#[ignore = "takes minutes; `make test-all` plays it"]
fn releases_of_a_file_and_of_snowflake_go_back_and_forth() {
    let Some(schemas) = snowflake::schemas() else {
        return;
    };
    let file = duckdb::one_file();
    let read = || Box::new(Pair::new(file(), schemas(), WITHOUT)) as Box<dyn Harness>;
    play_named("publish_and_roll_back", &read);
    play_named("undo_and_redo_are_a_stack", &read);
    play_named("what_others_wrote_to_ours_is_set_aside", &read);
    let reads = || Box::new(Pair::new(schemas(), file(), WITHOUT)) as Box<dyn Harness>;
    play_named("publish_and_roll_back", &reads);
}

/// A job writes its number into a table of each member.
fn night(world: &mut World, n: i64) {
    let table = Table::new(&["id", "value"], [vec![1, n]]);
    let names = [(0, "orders"), (1, "revenue")];
    let writes = names.map(|(at, name)| {
        let name = world.harness.relation(at, name);
        Write::Replace(name, table.clone())
    });
    world.run(&Script::good(writes)).unwrap();
}

/// A lake changes last when all goes back. That somebody committed to it is found before the first of
/// them changes, though the commit itself would be refused: by then there would be no way back.
#[test]
fn a_commit_to_a_lake_stops_all_before_the_first_of_them_changes() {
    let Some(database) = postgres::database() else {
        return;
    };
    let pair = Pair::new(iceberg::lake(Jobs::OnBranches), database(), &[]);
    let mut world = World::new(Box::new(pair)).unwrap();
    night(&mut world, 1);
    night(&mut world, 2);
    let before = world.production();
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = world.session(|s| s.plan(&ask)).unwrap();
    let orders = world.harness.relation(0, "orders");
    let theirs = Write::Insert(orders.clone(), vec![vec![7, 7]]);
    world.harness.others_write(&theirs).unwrap();
    let refused = world.session(|s| s.apply(plan, true)).unwrap_err();
    assert!(
        matches!(refused, OperateError::TakenBack { conflict: true, .. }),
        "{refused:?}"
    );
    let revenue = world.harness.relation(1, "revenue");
    assert_eq!(world.production()[&revenue], before[&revenue]);
    world.back(&ask, true).unwrap();
    let value = |name| world.production()[name].rows[0][1];
    assert_eq!((value(&orders), value(&revenue)), (1, 1));
}

/// Every case, and a crash at some of all boundaries: in memory it is every one.
#[test]
#[ignore = "takes minutes: a part of `make test-all`"]
fn an_estate_of_two_engines_conforms() {
    let Some(database) = postgres::database() else {
        return;
    };
    let file = duckdb::one_file();
    let whole = |make: Make<'_>| {
        for case in test_names() {
            play_named(&case, make);
        }
        survives_crashes(make, 25);
    };
    whole(&|| Box::new(Pair::new(file(), database(), WITHOUT)));
    whole(&|| Box::new(Pair::new(database(), file(), OTHERS)));
}
