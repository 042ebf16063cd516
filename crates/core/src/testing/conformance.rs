//! What every engine must do. One suite, run over each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is a test, and says which engine broke which promise"
)]

mod reading;
mod rows;

use super::faulty::{Fault, Side};
use super::world::{Harness, Script, World};
use super::{Contents, Table, Write};
use crate::engine::{Carry, Depth, Level, Place, PublishRequest, Retention, holds};
use crate::execute::ExecuteError;
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::{Head, verify::Blobs, verify_chain};
use crate::operate::{Ask, OperateError, Resumed};
use crate::release::{Stage, Verdict, Version, VersionId};
use std::collections::{BTreeMap, BTreeSet};

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

/// A name, and what is played; it panics when the engine does not do it.
type Case = (&'static str, fn(Make<'_>));

/// Every case of the suite but [`survives_crashes`].
const CASES: &[Case] = &[
    ("publish and roll back", publish_and_roll_back),
    ("part of it", part_of_it),
    ("undo and redo are a stack", undo_and_redo_are_a_stack),
    ("what others wrote stays", what_others_wrote_stays),
    ("what others wrote to ours is set aside", set_aside),
    (
        "a failed job leaves production",
        a_failed_job_leaves_production,
    ),
    ("a failed job in place is undone", in_place),
    ("points are readable", points_are_readable),
    ("tampering is found", tampering_is_found),
    ("a plan for another moment is refused", moved_world),
    ("writers are frozen during a run", writers_are_frozen),
    ("a plan is the same each time", plans_are_pure),
    ("views show what is live", views_follow),
    ("only what was planned is published", a_straggler_is_noticed),
    ("what lies packed comes back", packed_points_come_back),
    ("a lost point is refused", lost_point),
    ("versions are compared row by row", versions_are_compared),
    ("relations are measured where they lie", reading::measured),
    ("a query reads a place and writes nothing", reading::queried),
    (ROWS, rows::come_back),
    (
        "rows are chosen by one expression",
        rows::only_chosen_by_one_expression,
    ),
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

fn publish_and_roll_back(make: Make<'_>) {
    let mut story = told(make);
    let [r0, r1, r2] = story.at.clone();
    story.proved();
    let default = Ask::Rollback {
        to: None,
        select: None,
    };
    story.world.back(&default, false).unwrap();
    story.is(&r1);
    story.proved();
    let bad = story.world.ledger.history(|h| h.release(ReleaseId(2)));
    assert_eq!(bad.unwrap().unwrap().verdict, Verdict::Bad);
    story.world.back_to(ReleaseId(2)).unwrap();
    story.is(&r2);
    story.world.back_to(ReleaseId(0)).unwrap();
    story.is(&r0);
    let again = story.world.back_to(ReleaseId(0));
    assert!(matches!(again, Err(OperateError::Wish(_))), "{again:?}");
    story.world.back_to(ReleaseId(1)).unwrap();
    story.is(&r1);
    story.proved();
}

fn part_of_it(make: Make<'_>) {
    let mut story = told(make);
    let [_, r1, mut expected] = story.at.clone();
    let (orders, gone, new) = (
        story.name(0, "orders"),
        story.name(0, "gone"),
        story.name(1, "new"),
    );
    let ask = select(1, &[orders.clone(), gone.clone(), new.clone()]);
    story.world.back(&ask, false).unwrap();
    for name in [&orders, &gone] {
        expected.insert(name.clone(), r1.get(name).unwrap().clone());
    }
    expected.remove(&new);
    story.is(&expected);
    story.proved();
    story.world.back(&Ask::Undo, false).unwrap();
    let r2 = story.at[2].clone();
    story.is(&r2);
    story.world.back(&Ask::Redo, false).unwrap();
    story.is(&expected);
    let nothing = story.world.back(&select(1, &[orders]), false);
    assert!(matches!(nothing, Err(OperateError::Wish(_))), "{nothing:?}");
}

fn undo_and_redo_are_a_stack(make: Make<'_>) {
    let mut story = told(make);
    let [r0, r1, r2] = story.at.clone();
    story.world.back_to(ReleaseId(1)).unwrap();
    // Nothing was undone: redo brings back what the rollback took away, and can itself be undone.
    story.world.back(&Ask::Redo, false).unwrap();
    story.is(&r2);
    for state in [&r1, &r2, &r1, &r0] {
        story.world.back(&Ask::Undo, false).unwrap();
        story.is(state);
    }
    let end = story.world.back(&Ask::Undo, false);
    assert!(matches!(end, Err(OperateError::NoUndo)), "{end:?}");
    for state in [&r1, &r2, &r1, &r2] {
        story.world.back(&Ask::Redo, false).unwrap();
        story.is(state);
    }
    let end = story.world.back(&Ask::Redo, false);
    assert!(matches!(end, Err(OperateError::NoRedo)), "{end:?}");
    story.proved();
}

fn what_others_wrote_stays(make: Make<'_>) {
    let mut story = told(make);
    let [_, mut r1, mut r2] = story.at.clone();
    let raw = story.name(0, "raw");
    let theirs = [
        Write::Insert(raw, vec![vec![2, 0], vec![3, 0]]),
        value(story.name(1, "report"), 7),
    ];
    for write in &theirs {
        story.world.harness.others_write(write).unwrap();
        write.apply(&mut r1);
        write.apply(&mut r2);
    }
    story.world.back_to(ReleaseId(1)).unwrap();
    story.is(&r1);
    story.proved();
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&r2);
}

fn set_aside(make: Make<'_>) {
    let mut story = told(make);
    let [_, r1, mut r2] = story.at.clone();
    let write = Write::Insert(story.name(0, "orders"), vec![vec![9, 9]]);
    story.world.harness.others_write(&write).unwrap();
    write.apply(&mut r2);
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    match story.world.back(&ask, false) {
        Err(OperateError::OthersWrote(names)) => {
            let orders = story.name(0, "orders");
            assert_eq!(names.into_keys().collect::<Vec<_>>(), [orders]);
        }
        other => panic!("it must be refused: {other:?}"),
    }
    story.is(&r2);
    story.world.back(&ask, true).unwrap();
    story.is(&r1);
    story.holds(Place::Point(ReleaseId(2)), &r2);
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&r2);
}

fn a_failed_job_leaves_production(make: Make<'_>) {
    let mut story = told(make);
    let r2 = story.at[2].clone();
    let writes = [
        value(story.name(0, "orders"), 66),
        value(story.name(1, "half"), 66),
    ];
    let mut built = r2.clone();
    for write in &writes {
        write.apply(&mut built);
    }
    let ran = story.world.run(&Script::good(writes).failing()).unwrap();
    assert!(!ran.published);
    story.is(&r2);
    story.proved();
    story.holds(Place::Point(ran.release), &built);
    let kept = story.world.harness.read(Place::Point(ran.release));
    assert!(
        kept.contains_key(&story.name(1, "half")),
        "it can be looked at"
    );
    let never = story.world.back_to(ran.release);
    assert!(
        matches!(never, Err(OperateError::NeverLive(_))),
        "{never:?}"
    );
    // A job that did nothing at all is a release too, and is no obstacle.
    story.world.run(&Script::default()).unwrap();
    story.is(&r2);
    story.world.back(&Ask::Undo, false).unwrap();
    story.world.back(&Ask::Undo, false).unwrap();
    let r1 = story.at[1].clone();
    story.is(&r1);
}

fn in_place(make: Make<'_>) {
    let mut story = told(make);
    let r2 = story.at[2].clone();
    let writes = [
        value(story.name(0, "orders"), 66),
        Write::Drop(story.name(1, "customers")),
    ];
    let script = Script::good(writes).in_place().failing();
    let ran = story.world.run(&script).unwrap();
    assert!(ran.published && story.world.production() != r2);
    let release = story.world.ledger.history(|h| h.release(ran.release));
    assert_eq!(release.unwrap().unwrap().verdict, Verdict::Bad);
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&r2);
    story.proved();
}

fn points_are_readable(make: Make<'_>) {
    let mut story = told(make);
    let [r0, r1, _] = story.at.clone();
    for (release, expected) in [(ReleaseId(0), &r0), (ReleaseId(1), &r1)] {
        let place = Place::Point(release);
        story.holds(place, expected);
        let seen = story.world.session(|s| {
            s.engine.prove_point(release).unwrap();
            s.engine
                .observe(place, &Depth::AllRows, &|_, _, _| {})
                .unwrap()
        });
        let held = story.world.harness.read(place);
        assert_eq!(
            seen.keys().collect::<Vec<_>>(),
            held.keys().collect::<Vec<_>>()
        );
        let map = story.world.ledger.history(|h| h.map(release));
        let map = map.unwrap().unwrap();
        for (name, now) in &seen {
            let then = map.get(name).and_then(|v| v.state.as_ref()).unwrap();
            assert_eq!(
                then.difference(now),
                crate::relation::Difference::None,
                "{name} in {release}"
            );
        }
    }
}

fn tampering_is_found(make: Make<'_>) {
    let mut story = told(make);
    let (orders, customers, new) = (
        story.name(0, "orders"),
        story.name(1, "customers"),
        story.name(1, "new"),
    );
    for write in [
        value(orders.clone(), 5),
        Write::Drop(customers.clone()),
        Write::Replace(new.clone(), Table::new(&["other"], [vec![2]])),
    ] {
        story.world.harness.others_write(&write).unwrap();
    }
    let proof = story.world.session(|s| s.verify(ReleaseId(2))).unwrap();
    let found: BTreeSet<_> = proof.differences.into_keys().collect();
    assert_eq!(found, BTreeSet::from([orders, customers, new]));
}

fn moved_world(make: Make<'_>) {
    let mut story = told(make);
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = story.world.session(|s| s.plan(&ask)).unwrap();
    // Where relations are moved one by one, only those that move must be as they were.
    let written = match story.world.harness.whole() {
        true => story.name(0, "raw"),
        false => story.name(0, "orders"),
    };
    let write = Write::Insert(written, vec![vec![4, 4]]);
    story.world.harness.others_write(&write).unwrap();
    let mut expected = story.at[2].clone();
    write.apply(&mut expected);
    let refused = story.world.session(|s| s.apply(plan, false));
    assert!(
        matches!(
            refused,
            Err(OperateError::Execute(ExecuteError::Moved { .. })
                | OperateError::TakenBack { .. }
                | OperateError::OthersWrote(_))
        ),
        "{refused:?}"
    );
    story.is(&expected);
    let again = story.world.session(|s| s.plan(&ask)).unwrap();
    story.world.session(|s| s.apply(again, true)).unwrap();
    let mut expected = story.at[1].clone();
    if story.world.harness.whole() {
        write.apply(&mut expected);
    }
    story.is(&expected);
}

fn writers_are_frozen(make: Make<'_>) {
    let story = told(make);
    let write = Write::Insert(story.name(0, "raw"), vec![vec![8, 8]]);
    let harness = &story.world.harness;
    let mut engine = harness.engine();
    engine.freeze().unwrap();
    assert!(harness.others_write(&write).is_err(), "it was not frozen");
    drop(engine);
    harness.others_write(&write).unwrap();
}

fn plans_are_pure(make: Make<'_>) {
    let mut story = told(make);
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let ids = [(); 2].map(|()| {
        let plan = story.world.session(|s| s.plan(&ask)).unwrap();
        plan.id().unwrap()
    });
    assert_eq!(ids[0], ids[1]);
}

/// A job's view and a stranger's one, over a table that is replaced and brought back.
fn views_follow(make: Make<'_>) {
    let harness = make();
    let carries = harness.engine().capabilities().carries;
    if !carries.iter().any(|what| what == "views") {
        return;
    }
    let name = |name| harness.relation(0, name);
    let (orders, refunds, report, theirs) = (
        name("orders"),
        name("refunds"),
        name("report"),
        name("theirs"),
    );
    let mut world = World::new(harness).unwrap();
    let first = Script::good([value(orders.clone(), 1), value(refunds.clone(), 10)]);
    let first = first.viewing(report.clone(), orders.clone());
    world.run(&first).unwrap();
    world.harness.make_view(None, &theirs, &orders).unwrap();
    let r1 = world.production();
    assert_eq!(r1.get(&theirs), r1.get(&orders));
    let second = Script::good([value(orders.clone(), 2)]);
    let second = second.viewing(report.clone(), refunds.clone());
    world.run(&second).unwrap();
    let r2 = world.production();
    assert_eq!(r2.get(&report), r2.get(&refunds));
    assert_eq!(r2.get(&theirs), r2.get(&orders), "a stranger's view");

    let mut story = Story {
        world,
        at: [Contents::new(), r1.clone(), r2.clone()],
    };
    story.world.back_to(ReleaseId(1)).unwrap();
    story.is(&r1);
    story.proved();
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&r2);
    story
        .world
        .back(&select(1, std::slice::from_ref(&orders)), false)
        .unwrap();
    let mut partly = r2.clone();
    for shows_orders in [&orders, &theirs] {
        partly.insert(shows_orders.clone(), r1.get(shows_orders).unwrap().clone());
    }
    story.is(&partly);
    story.proved();
    story
        .world
        .back(&select(1, std::slice::from_ref(&report)), false)
        .unwrap();
    story.is(&r1);
    story.proved();
}

/// Something that a job left running writes once more, after what was built was looked at.
fn a_straggler_is_noticed(make: Make<'_>) {
    let story = told(make);
    let harness = &story.world.harness;
    let mut engine = harness.engine();
    engine.freeze().unwrap();
    let next = ReleaseId(3);
    let build = engine
        .begin_build(next, ReleaseId(2), true, &|_, _, _| {})
        .unwrap();
    let orders = story.name(0, "orders");
    harness
        .job_writes(&build, &value(orders.clone(), 3))
        .unwrap();
    engine.freeze().unwrap();
    let mut version = |place, release| {
        let seen = engine.observe(place, &Depth::Catalog, &|_, _, _| {});
        let version = Version {
            id: VersionId { release, drift: 0 },
            owned: true,
            state: seen.unwrap().remove(&orders),
        };
        BTreeMap::from([(orders.clone(), version)])
    };
    let request = PublishRequest {
        release: next,
        live: ReleaseId(2),
        live_map: version(Place::Live, ReleaseId(2)),
        changes: version(Place::Build(next), next),
        carry: Carry::default(),
    };
    let survey = engine
        .survey(next, &BTreeSet::from([orders.clone()]))
        .unwrap();
    let steps = engine.plan_publish(&survey, &request).unwrap().steps;
    let guards: Vec<_> = steps.iter().flat_map(|s| s.guard.clone()).collect();
    assert!(
        holds(&mut *engine, &guards).unwrap().is_ok(),
        "it can be done"
    );
    let late = harness.job_writes(&build, &value(orders, 66));
    assert!(
        late.is_err() || holds(&mut *engine, &guards).unwrap().is_err(),
        "something else than what was looked at would be published"
    );
}

fn packed_points_come_back(make: Make<'_>) {
    let mut story = told(make);
    let [r0, r1, r2] = story.at.clone();
    story
        .world
        .run(&Script::good([value(story.name(0, "orders"), 3)]))
        .unwrap();
    let r3 = story.world.production();
    let keep = |ids: &[u64]| Retention {
        keep: ids.iter().copied().map(ReleaseId).collect(),
        plain: BTreeSet::new(),
    };
    let packed = keep(&[0, 1, 2]);
    let done = story
        .world
        .session(|s| s.engine.housekeep(&packed, &|_, _, _| {}))
        .unwrap();
    assert!(done.dropped.is_empty(), "{done:?}");
    story.is(&r3);
    for (release, expected) in [(0, &r0), (1, &r1), (2, &r2)] {
        story.holds(Place::Point(ReleaseId(release)), expected);
    }
    let customers = story.name(1, "customers");
    let part = select(1, std::slice::from_ref(&customers));
    story.world.back(&part, false).unwrap();
    let mut expected = r3.clone();
    expected.insert(customers.clone(), r1.get(&customers).unwrap().clone());
    story.is(&expected);
    story.world.back_to(ReleaseId(1)).unwrap();
    story.is(&r1);
    story.proved();
    let live = story.world.live().unwrap().release;
    let found = story
        .world
        .session(|s| s.engine.fsck(&|_, _, _| {}))
        .unwrap();
    let bad: Vec<_> = found.iter().filter(|d| d.level == Level::Error).collect();
    assert!(bad.is_empty(), "{bad:?}");

    // What nobody keeps is gone, and what is kept is not.
    let only = keep(&[2]);
    let done = story
        .world
        .session(|s| s.engine.housekeep(&only, &|_, _, _| {}))
        .unwrap();
    let dropped = match story.world.harness.whole() {
        true => ReleaseId(0),
        false => ReleaseId(3),
    };
    assert!(done.dropped.contains(&dropped), "{done:?}");
    assert_eq!(story.world.live().unwrap().release, live);
    let points = story.world.session(|s| s.engine.points()).unwrap();
    let left: Vec<_> = points.iter().map(|p| p.release).collect();
    assert_eq!(left, [ReleaseId(2)]);
    let gone = story.world.back_to(ReleaseId(3));
    assert!(gone.is_err(), "nothing holds it any more: {gone:?}");
    story.is(&r1);
    story.world.back_to(ReleaseId(2)).unwrap();
    story.is(&r2);
    story.proved();
}

fn lost_point(make: Make<'_>) {
    let mut story = told(make);
    let [_, _, r2] = story.at.clone();
    story.world.harness.lose_point(ReleaseId(1));
    let proof = story.world.session(|s| s.engine.prove_point(ReleaseId(1)));
    assert!(proof.is_err());
    for ask in [
        Ask::Undo,
        Ask::Rollback {
            to: None,
            select: None,
        },
        select(1, &[story.name(0, "orders")]),
    ] {
        let refused = story.world.back(&ask, false);
        assert!(refused.is_err(), "{ask:?}: {refused:?}");
        story.is(&r2);
    }
    story.proved();
    // Nothing hangs, and work goes on.
    let writes = [value(story.name(0, "orders"), 3)];
    story.world.run(&Script::good(writes)).unwrap();
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&r2);
}

fn versions_are_compared(make: Make<'_>) {
    let mut story = told(make);
    let orders = story.name(0, "orders");
    let diff = story.world.session(|s| {
        s.engine.diff(
            (Place::Point(ReleaseId(1)), &orders),
            (Place::Live, &orders),
            None,
            10,
            &|_, _, _| {},
        )
    });
    let diff = diff.unwrap();
    let counts = (diff.added, diff.removed, diff.changed, diff.unchanged);
    assert_eq!(counts, (2, 0, 0, 1));
    let missing = story.world.session(|s| {
        s.engine.diff(
            (Place::Point(ReleaseId(7)), &orders),
            (Place::Live, &orders),
            None,
            10,
            &|_, _, _| {},
        )
    });
    assert!(missing.is_err(), "there is no R7: {missing:?}");
}

/// The case that an engine leaves out that brings back whole relations only.
const ROWS: &str = "rows of an older version come back";

type Operate = fn(&mut World) -> Result<(), OperateError>;

/// Each operation, a crash before and after each `every`-th of its boundaries: 1 is all of them,
/// and what an engine has to pass; more is a sample, for one whose sessions take long to start.
pub fn survives_crashes(make: Make<'_>, every: usize) {
    let operations: [(&str, Operate); 4] = [
        ("run", |w| {
            let writes = [
                value(w.harness.relation(0, "orders"), 3),
                value(w.harness.relation(1, "customers"), 3),
            ];
            w.run(&Script::good(writes)).map(drop)
        }),
        ("rollback", |w| w.back_to(ReleaseId(1)).map(drop)),
        ("partial rollback", |w| {
            let names = [
                w.harness.relation(0, "orders"),
                w.harness.relation(1, "new"),
            ];
            w.back(&select(1, &names), false).map(drop)
        }),
        ("rollback of rows", |w| {
            let orders = w.harness.relation(0, "orders");
            w.back(&rows::ask(1, &orders, "id = 2"), false).map(drop)
        }),
    ];
    for (name, operate) in operations {
        let mut story = told(make);
        if name == "run" && !story.world.harness.aside() {
            continue;
        }
        let without = story.world.harness.without();
        if name == "rollback of rows" && without.iter().any(|(case, _)| *case == ROWS) {
            continue;
        }
        operate(&mut story.world).unwrap();
        let (old, new) = (story.at[2].clone(), story.world.production());
        // The two sides do not sample the same boundaries.
        for (side, first) in [(Side::Before, 1), (Side::After, 1 + every as u64 / 2)] {
            for n in (first..).step_by(every) {
                let mut story = told(make);
                let (answer, blown) = story.world.broken(n, side, Fault::Crash, operate);
                let Some(boundary) = blown else {
                    answer.unwrap();
                    break;
                };
                let at = format!("{name}, crash {side:?} {boundary}");
                let resumed = story.world.resume(None);
                let production = story.world.production();
                let live = story.world.live().unwrap().release;
                let expected = match (&resumed, live) {
                    (_, ReleaseId(2)) => &old,
                    (Ok(Resumed::Finished(_)) | Err(OperateError::NothingToResume), _) => &new,
                    (other, _) => panic!("{at}: {other:?}"),
                };
                // The other world's database may have another name.
                assert_eq!(
                    without_database(&production),
                    without_database(expected),
                    "{at}: {resumed:?}"
                );
                story.proved();
                settled(&mut story.world, &at);
            }
        }
    }
}

fn without_database(contents: &Contents) -> BTreeMap<(&str, &str), &Table> {
    let all = contents.iter();
    all.map(|(name, table)| ((name.schema.as_str(), name.name.as_str()), table))
        .collect()
}

fn settled(world: &mut World, at: &str) {
    let again = world.resume(None);
    assert!(
        matches!(again, Err(OperateError::NothingToResume)),
        "{at}: {again:?}"
    );
    let all = world.ledger.history(|h| h.releases("prod", None, 10));
    assert!(all.unwrap().iter().all(|r| r.stage != Stage::Open), "{at}");
    let chain = verify_chain(world.ledger.store(), &Head::genesis(), None, Blobs::Check);
    assert!(chain.unwrap().is_good(), "{at}");
}
