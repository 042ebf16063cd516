//! What every engine must do. One suite, run over each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is a test, and says which engine broke which promise"
)]

mod crashes;
mod jobs;
mod moves;
mod points;
mod reading;
mod rows;
mod stages;

pub use crashes::survives_crashes;

use super::world::{Harness, Script, World};
use super::{Contents, Table, Write};
use crate::engine::Place;
use crate::ident::{RelationName, ReleaseId};
use crate::operate::Ask;
use std::collections::BTreeSet;

/// Makes a fresh, empty warehouse and ways to it.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Harness>;

/// Runs the whole suite. An engine that cannot restore chosen relations here (no worker, say) is
/// not conforming; give the harness one that can.
pub fn conforms(make: Make<'_>) {
    for case in CASES {
        play(case, make);
    }
    survives_crashes(make, 1);
}

/// Plays one case, unless the engine answers it otherwise by design.
#[expect(
    clippy::print_stdout,
    reason = "it names the case that fails or is left out"
)]
fn play((name, case): &Case, make: Make<'_>) {
    let without = make().without();
    if let Some((_, reason)) = without.iter().find(|(left_out, _)| left_out == name) {
        println!("conformance: {name}: left out: {reason}");
        return;
    }
    println!("conformance: {name}");
    case(make);
}

/// The case that an engine leaves out that brings back whole relations only.
const ROWS: &str = "rows of an older version come back";

/// A name, and what is played; it panics when the engine does not do it.
type Case = (&'static str, fn(Make<'_>));

/// Every case of the suite but [`survives_crashes`].
const CASES: &[Case] = &[
    ("publish and roll back", moves::publish_and_roll_back),
    ("part of it", moves::part_of_it),
    (
        "undo and redo are a stack",
        moves::undo_and_redo_are_a_stack,
    ),
    ("what others wrote stays", moves::what_others_wrote_stays),
    ("what others wrote to ours is set aside", moves::set_aside),
    (
        "a failed job leaves production",
        jobs::a_failed_job_leaves_production,
    ),
    ("a failed job in place is undone", jobs::in_place),
    ("points are readable", points::points_are_readable),
    ("tampering is found", points::tampering_is_found),
    ("a plan for another moment is refused", jobs::moved_world),
    ("writers are frozen during a run", jobs::writers_are_frozen),
    ("a plan is the same each time", jobs::plans_are_pure),
    ("views show what is live", moves::views_follow),
    (
        "only what was planned is published",
        jobs::a_straggler_is_noticed,
    ),
    (
        "what lies packed comes back",
        points::packed_points_come_back,
    ),
    ("a lost point is refused", points::lost_point),
    (
        "versions are compared row by row",
        moves::versions_are_compared,
    ),
    ("relations are measured where they lie", reading::measured),
    ("a query reads a place and writes nothing", reading::queried),
    (ROWS, rows::come_back),
    (
        "rows are chosen by one expression",
        rows::only_chosen_by_one_expression,
    ),
    ("stages are one operation", stages::are_one_operation),
];

/// A test for each case, named as it is; one that none is left out; and a sample of
/// [`survives_crashes`], which `make test-all` makes the whole of it. The function given gets what to
/// play and calls it with each way to make a warehouse that the engine has.
#[macro_export]
macro_rules! conformance_tests {
    ($with:path) => {
        $crate::conformance_tests! { $with:
            publish_and_roll_back
            part_of_it
            undo_and_redo_are_a_stack
            what_others_wrote_stays
            what_others_wrote_to_ours_is_set_aside
            a_failed_job_leaves_production
            a_failed_job_in_place_is_undone
            points_are_readable
            tampering_is_found
            a_plan_for_another_moment_is_refused
            writers_are_frozen_during_a_run
            a_plan_is_the_same_each_time
            views_show_what_is_live
            only_what_was_planned_is_published
            what_lies_packed_comes_back
            a_lost_point_is_refused
            versions_are_compared_row_by_row
            relations_are_measured_where_they_lie
            a_query_reads_a_place_and_writes_nothing
            rows_of_an_older_version_come_back
            rows_are_chosen_by_one_expression
            stages_are_one_operation
        }
    };
    ($with:path: $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $with(&|make| $crate::testing::conformance::play_named(stringify!($test), make));
            }
        )*

        #[test]
        fn every_case_is_played() {
            let names = $crate::testing::conformance::test_names();
            assert_eq!(names, [$(stringify!($test)),*]);
        }

        #[test]
        fn a_crash_anywhere_is_resumed() {
            let every = std::env::var("UNSHIP_CRASH_EVERY");
            let every = every.map_or(150, |text| text.parse().unwrap());
            $with(&|make| $crate::testing::conformance::survives_crashes(make, every));
        }
    };
}

/// The names of the cases, as names of tests.
pub fn test_names() -> Vec<String> {
    CASES
        .iter()
        .map(|(name, _)| name.replace(' ', "_"))
        .collect()
}

/// Plays the case of this [test name](test_names).
pub fn play_named(test: &str, make: Make<'_>) {
    let at = test_names().iter().position(|name| name == test).unwrap();
    play(&CASES[at], make);
}

struct Story {
    world: World,
    at: [Contents; 3],
}

impl Story {
    fn name(&self, database: usize, name: &str) -> RelationName {
        self.world.harness.relation(database, name)
    }

    fn is(&self, expected: &Contents) {
        assert_eq!(&self.world.production(), expected);
    }

    /// What lies at a place is of this state: all of it, or as much as the engine keeps there.
    fn holds(&self, place: Place, expected: &Contents) {
        let harness = &self.world.harness;
        let held = harness.read(place);
        if harness.whole() {
            assert_eq!(&held, expected, "{place:?}");
        }
        for (name, table) in &held {
            assert_eq!(Some(table), expected.get(name), "{name} at {place:?}");
        }
    }

    fn proved(&mut self) {
        let live = self.world.live().unwrap().release;
        let proof = self.world.session(|s| s.verify(live)).unwrap();
        assert!(proof.differences.is_empty(), "{proof:?}");
    }
}

fn value(name: RelationName, value: i64) -> Write {
    Write::Replace(name, Table::new(&["id", "value"], [vec![1, value]]))
}

fn first(harness: &dyn Harness) -> Vec<Write> {
    vec![
        value(harness.relation(0, "orders"), 1),
        value(harness.relation(0, "gone"), 1),
        value(harness.relation(1, "customers"), 1),
    ]
}

/// Other rows, another schema, a relation less, a relation more.
fn second(harness: &dyn Harness) -> Vec<Write> {
    let mut all = vec![
        Write::Insert(harness.relation(0, "orders"), vec![vec![2, 2], vec![2, 2]]),
        Write::Replace(
            harness.relation(1, "customers"),
            Table::new(&["id", "value", "extra"], [vec![1, 2, 3]]),
        ),
        value(harness.relation(1, "new"), 2),
    ];
    if harness.whole() {
        all.push(Write::Drop(harness.relation(0, "gone")));
    }
    all
}

/// `R0` raw data only, `R1` a first build, `R2` a second one.
fn told(make: Make<'_>) -> Story {
    let harness = make();
    harness
        .others_write(&value(harness.relation(0, "raw"), 0))
        .unwrap();
    let (one, two) = (first(&*harness), second(&*harness));
    let mut world = World::new(harness).unwrap();
    let r0 = world.production();
    world.run(&Script::good(one)).unwrap();
    let r1 = world.production();
    world.run(&Script::good(two)).unwrap();
    let r2 = world.production();
    assert_eq!(world.live().unwrap().release, ReleaseId(2));
    assert!(r0 != r1 && r1 != r2, "the jobs' writes reached production");
    Story {
        world,
        at: [r0, r1, r2],
    }
}

fn select(to: u64, names: &[RelationName]) -> Ask {
    Ask::Rollback {
        to: Some(ReleaseId(to)),
        select: Some((
            "chosen".to_owned(),
            names.iter().cloned().collect::<BTreeSet<_>>(),
        )),
    }
}
