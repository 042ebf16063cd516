//! Two warehouses that are released together: one plan, one rollback, and at no moment a consumer
//! that is ahead of its source.

use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{Build, Engine, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::{Ask, Keep, OperateError, Resumed};
use unship_core::plan::Plan;
use unship_core::testing::conformance::conforms;
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::memory::{Restoring, Warehouse};
use unship_core::testing::pair::Pair;
use unship_core::testing::world::{Harness, Script, World};
use unship_core::testing::{Contents, Table, Write};

const WITHOUT: &[(&str, &str)] = &[
    (
        "a query reads a place and writes nothing",
        "a warehouse in memory knows no SQL",
    ),
    (
        "what lies packed comes back",
        "the test keeps releases by name, and what a release left as it was in a member is retained \
         there under the name of a later one",
    ),
];

/// A warehouse with one database.
struct One {
    warehouse: Warehouse,
    database: &'static str,
}

impl Harness for One {
    fn engine(&self) -> Box<dyn Engine> {
        Box::new(self.warehouse.engine())
    }

    fn relation(&self, _: usize, name: &str) -> RelationName {
        RelationName::new(self.database, "s", name)
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        let written = self.warehouse.job_writes(build.release, write);
        written.map_err(|e| e.to_string())
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        self.warehouse
            .others_write(write)
            .map_err(|e| e.to_string())
    }

    fn make_view(
        &self,
        _: Option<&Build>,
        view: &RelationName,
        _: &RelationName,
    ) -> Result<(), String> {
        Err(format!("{view}: a warehouse in memory has no views"))
    }

    fn lose_point(&self, release: ReleaseId) {
        self.warehouse.lose_point(release);
    }

    fn read(&self, place: Place) -> Contents {
        self.warehouse.contents(place)
    }
}

pub fn pair(restoring: Restoring) -> Box<Pair> {
    let one = |database: &'static str| {
        Box::new(One {
            warehouse: Warehouse::new(&[database], restoring),
            database,
        })
    };
    // By their names, marts would come after `zoo`.
    Box::new(Pair::new(one("zoo"), one("main"), WITHOUT))
}

mod suite {
    use super::{Restoring, pair};

    fn with(play: &dyn Fn(unship_core::testing::conformance::Make<'_>)) {
        play(&|| pair(Restoring::Moves));
    }

    unship_core::conformance_tests!(with);
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn an_estate_conforms_and_survives_a_crash_anywhere() {
    conforms(&|| pair(Restoring::Clones));
    conforms(&|| pair(Restoring::Moves));
}

fn job(world: &World, lake: Option<i64>, marts: Option<i64>) -> Script {
    let table = |n| Table::new(&["id", "value"], [vec![1, n]]);
    let lake = lake.map(|n| Write::Replace(world.harness.relation(0, "orders"), table(n)));
    let marts = marts.map(|n| Write::Replace(world.harness.relation(1, "revenue"), table(n)));
    Script::good(lake.into_iter().chain(marts))
}

pub fn run(world: &mut World, n: i64) -> Result<(), OperateError> {
    let script = job(world, Some(n), Some(n));
    world.run(&script).map(drop)
}

/// The release that `orders` in the lake and `revenue` in the marts are of.
pub fn shown(world: &World) -> (i64, i64) {
    let production = world.production();
    let value = |database, name| {
        let table = production.get(&world.harness.relation(database, name));
        table.and_then(|t| t.rows.first()).map_or(0, |row| row[1])
    };
    (value(0, "orders"), value(1, "revenue"))
}

pub fn two_releases(restoring: Restoring) -> World {
    let mut world = World::new(pair(restoring)).unwrap();
    for n in 1..=2 {
        run(&mut world, n).unwrap();
    }
    world
}

type Operate = fn(&mut World) -> Result<(), OperateError>;

/// The world stops at every so many boundaries, and somebody looks.
fn looked_at(restorings: &[Restoring], faults: &[(Fault, Side)], every: usize) {
    let forward: Operate = |world| run(world, 3);
    let back: Operate = |world| world.back_to(ReleaseId(1)).map(drop);
    for restoring in restorings {
        for (operate, allowed) in [
            (forward, [(2, 2), (3, 2), (3, 3)]),
            (back, [(2, 2), (2, 1), (1, 1)]),
        ] {
            let mut seen = BTreeSet::new();
            for (fault, side) in faults {
                for n in (1..).step_by(every) {
                    let mut world = two_releases(*restoring);
                    let (_, blown) = world.broken(n, *side, *fault, operate);
                    let Some(at) = blown else { break };
                    let now = shown(&world);
                    assert!(allowed.contains(&now), "{side:?} {at}: {now:?}");
                    seen.insert(now);
                    let resumed = world.resume(None);
                    let now = shown(&world);
                    let ends = [allowed[0], allowed[2]];
                    assert!(ends.contains(&now), "{side:?} {at}: {now:?} {resumed:?}");
                }
            }
            assert_eq!(
                seen,
                BTreeSet::from(allowed),
                "there is a moment in between"
            );
        }
    }
}

#[test]
fn a_consumer_never_is_ahead_of_its_source() {
    looked_at(&[Restoring::Clones], &[(Fault::Crash, Side::After)], 3);
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn a_consumer_never_is_ahead_of_its_source_wherever_it_stops() {
    let faults = [Fault::Crash, Fault::Error];
    let both = |fault| [(fault, Side::Before), (fault, Side::After)];
    let all: Vec<_> = faults.into_iter().flat_map(both).collect();
    looked_at(&[Restoring::Clones, Restoring::Moves], &all, 1);
}

pub fn planned(world: &mut World, to: u64) -> Plan {
    let ask = Ask::Rollback {
        to: Some(ReleaseId(to)),
        select: None,
    };
    world.session(|s| s.plan(&ask)).unwrap()
}

#[test]
fn all_is_prepared_and_looked_at_before_the_first_member_changes() {
    let mut world = two_releases(Restoring::Clones);
    let plan = planned(&mut world, 1);
    let steps: Vec<_> = (plan.steps.iter())
        .map(|step| (step.production, step.explain.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            (false, "marts: clone point R1 of main"),
            (false, "lake: clone point R1 of zoo"),
            (
                false,
                "look at 2 members once more, before the first of them changes"
            ),
            (
                true,
                "marts: make build R3 of main production, and keep what was there as point R2 of \
                 main"
            ),
            (
                true,
                "lake: make build R3 of zoo production, and keep what was there as point R2 of zoo"
            ),
        ]
    );
    for step in &plan.steps {
        assert!(step.after.iter().all(|before| *before < step.id));
    }
    let note = plan.notes.iter().find(|n| n.starts_with("not atomic"));
    let note = note.unwrap();
    assert!(
        note.contains("marts, then lake (what reads before what it reads)"),
        "{note}"
    );
    assert!(note.contains("marts reads lake (`reads`)"), "{note}");
}

/// Somebody writes to the second member before the first one changed: neither does.
#[test]
fn a_member_that_moved_keeps_the_others_where_they_are() {
    let mut world = two_releases(Restoring::Clones);
    let plan = planned(&mut world, 1);
    let raw = Write::Replace(
        world.harness.relation(0, "raw"),
        Table::new(&["id"], [vec![1]]),
    );
    world.harness.others_write(&raw).unwrap();
    let refused = world.session(|s| s.apply(plan, true));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(shown(&world), (2, 2));
    let again = planned(&mut world, 1);
    world.session(|s| s.apply(again, false)).unwrap();
    assert_eq!(shown(&world), (1, 1));
}

#[test]
fn what_a_release_left_as_it_was_in_a_member_stays_there_untouched() {
    let mut world = two_releases(Restoring::Moves);
    let script = job(&world, None, Some(3));
    world.run(&script).unwrap();
    assert_eq!(shown(&world), (2, 3));
    let script = job(&world, Some(4), None);
    world.run(&script).unwrap();
    assert_eq!(shown(&world), (4, 3));
    let plan = planned(&mut world, 3);
    assert!(
        plan.steps
            .iter()
            .all(|step| step.explain.starts_with("lake: "))
    );
    assert!(plan.notes.iter().all(|n| !n.starts_with("not atomic")));
    world.session(|s| s.apply(plan, false)).unwrap();
    assert_eq!(shown(&world), (2, 3));
    // Under whatever name each member retains it, all of it is there, also after housekeeping.
    let keep = Keep {
        last: 5,
        within: jiff::SignedDuration::ZERO,
    };
    let expected = BTreeMap::from([(1, (1, 1)), (2, (2, 2)), (3, (2, 3)), (4, (4, 3))]);
    for (to, expected) in expected {
        world.session(|s| s.housekeep(&keep)).unwrap();
        world.back_to(ReleaseId(to)).unwrap();
        assert_eq!(shown(&world), expected, "R{to}");
        let live = world.live().unwrap().release;
        let proof = world.session(|s| s.verify(live)).unwrap();
        assert!(proof.differences.is_empty(), "{proof:?}");
    }
}

/// A job on production itself: every member has a restore point before it begins.
#[test]
fn a_bad_job_in_place_goes_back_in_every_member() {
    let mut world = two_releases(Restoring::Clones);
    let bad = job(&world, Some(66), Some(66)).failing().in_place();
    let ran = world.run(&bad).unwrap();
    assert!(ran.published, "it worked on production itself");
    assert_eq!(shown(&world), (66, 66));
    let ask = Ask::Rollback {
        to: None,
        select: None,
    };
    world.back(&ask, false).unwrap();
    assert_eq!(shown(&world), (2, 2));
    world.back(&Ask::Undo, false).unwrap();
    assert_eq!(shown(&world), (66, 66));
    world.back(&Ask::Redo, false).unwrap();
    assert_eq!(shown(&world), (2, 2));

    // And one that is killed is recorded, and goes back as well.
    let script = job(&world, Some(7), Some(7)).in_place();
    for n in 1.. {
        let (_, blown) = world.broken(n, Side::After, Fault::Crash, |w| w.run(&script).map(drop));
        if blown.is_some_and(|at| at.starts_with("job writes")) {
            break;
        }
        let _ = world.resume(None);
        if shown(&world) != (2, 2) {
            world.back_to(ReleaseId(2)).unwrap();
        }
    }
    assert_eq!(shown(&world), (7, 2), "it had written to the first only");
    let resumed = world.resume(None).unwrap();
    assert!(matches!(resumed, Resumed::LeftInPlace { bad: Some(_), .. }));
    world.back(&ask, false).unwrap();
    assert_eq!(shown(&world), (2, 2));
}
