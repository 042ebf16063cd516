//! An estate of two engines that could not differ more: files that are renamed, whose relations prove
//! nothing, and a database that moves relations, each of which proves what it is.

use super::iceberg::{self, Jobs};
use super::{duckdb, postgres};
use unship_core::testing::conformance::{Make, play_named, survives_crashes, test_names};
use unship_core::testing::pair::Pair;
use unship_core::testing::world::Harness;

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
