//! An estate of two engines that could not differ more: files that are renamed, whose relations prove
//! nothing, and a database that moves relations, each of which proves what it is.

use super::{duckdb, postgres};
use unship_core::testing::conformance::{Make, play_named, survives_crashes, test_names};
use unship_core::testing::pair::Pair;

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
];

/// The same, where the database is what the suite's others write to.
const OTHERS: &[(&str, &str)] = &[
    WITHOUT[0],
    WITHOUT[1],
    (
        "writers are frozen during a run",
        "nobody is kept out of PostgreSQL: what others write is found under the lock, or stays",
    ),
];

/// Plays it on a file that a database is made from, and on a database that a file is made from.
fn play(first: &dyn Fn(Make<'_>), second: &dyn Fn(Make<'_>)) {
    let Some(database) = postgres::database() else {
        return;
    };
    let file = duckdb::one_file();
    first(&|| Box::new(Pair::new(file(), database(), WITHOUT)));
    second(&|| Box::new(Pair::new(database(), file(), OTHERS)));
}

#[test]
fn releases_of_two_engines_go_back_and_forth() {
    play(&|make| play_named("publish_and_roll_back", make), &|make| {
        play_named("what_others_wrote_stays", make)
    });
}

/// Every case, and a crash at some of all boundaries: in memory it is every one.
#[test]
#[ignore = "takes minutes: a part of `make test-all`"]
fn an_estate_of_two_engines_conforms() {
    let whole = |make: Make<'_>| {
        for case in test_names() {
            play_named(&case, make);
        }
        survives_crashes(make, 25);
    };
    play(&whole, &whole);
}
