//! What the world does between a crash and `resume`, and steps that fail after others have worked.

use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{Carry, Engine, PublishRequest};
use unship_core::event::Event;
use unship_core::execute::{
    Assume, Attempt, ExecuteError, Outcome, RecordError, Recorder, execute,
};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::journal::{Journal, Status};
use unship_core::operate::{Ask, Keep, OperateError};
use unship_core::plan::{FORMAT, Impact, Plan};
use unship_core::release::{Operation, Stage};
use unship_core::testing::faulty::{Fault, Faulty, FaultyRecorder, Fuse, Side};
use unship_core::testing::memory::{Restoring, Warehouse};
use unship_core::testing::world::{Script, World, memory};
use unship_core::testing::{Contents, Table, Write};

fn name(database: &str, name: &str) -> RelationName {
    RelationName::new(database, "s", name)
}

fn value(database: &str, table: &str, value: i64) -> Write {
    Write::Replace(
        name(database, table),
        Table::new(&["id", "value"], [vec![1, value]]),
    )
}

fn job(n: i64) -> Script {
    Script::good([value("main", "orders", n), value("other", "customers", n)])
}

/// Raw tables in both databases, and `R1`.
fn world() -> World {
    let warehouse = memory(Restoring::Clones);
    for database in ["main", "other"] {
        warehouse.others_write(&value(database, "raw", 0)).unwrap();
    }
    let mut world = World::new(Box::new(warehouse)).unwrap();
    world.run(&job(1)).unwrap();
    world
}

/// A run of `R2` that ends at the n-th boundary of a kind.
fn broken_at(kind: &str, nth: usize, side: Side, fault: Fault) -> World {
    let mut found = 0;
    for n in 1.. {
        let mut world = world();
        let (_, blown) = world.broken(n, side, fault, |w| w.run(&job(2)).map(drop));
        if blown.unwrap().starts_with(kind) {
            found += 1;
            if found == nth {
                return world;
            }
        }
    }
    unreachable!()
}

/// What the ledger says of production.
fn recorded_rows(world: &mut World) -> Vec<(RelationName, Option<u64>)> {
    let (_, map) = world.session(|s| s.see_drift()).unwrap();
    map.into_iter()
        .filter_map(|(name, v)| Some((name, v.state?.rows)))
        .collect()
}

fn rows(contents: &Contents) -> Vec<(RelationName, Option<u64>)> {
    contents
        .iter()
        .map(|(name, table)| (name.clone(), Some(table.rows.len() as u64)))
        .collect()
}

#[test]
fn what_others_write_between_a_crash_and_resume_is_neither_lost_nor_overlooked() {
    let mut reference = world();
    let old = reference.production();
    reference.run(&job(2)).unwrap();
    let new = reference.production();
    for database in ["main", "other"] {
        for n in 1.. {
            let mut world = world();
            let run = |w: &mut World| w.run(&job(2)).map(drop);
            let (_, blown) = world.broken(n, Side::After, Fault::Crash, run);
            let Some(at) = blown else { break };
            let at = format!("{at}, {database}");
            let write = Write::Insert(name(database, "raw"), vec![vec![7, 7]]);
            world.harness.others_write(&write).unwrap();
            let resumed = world.resume(None);
            let production = world.production();
            let theirs = production.get(&name(database, "raw")).unwrap();
            assert!(theirs.rows.contains(&vec![7, 7]), "{at}: their row is lost");
            if let Err(OperateError::Execute(ExecuteError::Stuck { .. })) = resumed {
                continue;
            }
            let [old, new] = [&old, &new].map(|state| {
                let mut state = state.clone();
                write.apply(&mut state);
                state
            });
            assert!(production == old || production == new, "{at}: {resumed:?}");
            assert_eq!(recorded_rows(&mut world), rows(&production), "{at}");
        }
    }
}

#[test]
fn housekeeping_waits_until_an_interrupted_operation_is_finished() {
    let mut world = broken_at("apply", 1, Side::After, Fault::Crash);
    let keep = Keep {
        last: 0,
        within: jiff::SignedDuration::ZERO,
    };
    let refused = world.session(|s| s.housekeep(&keep));
    assert!(matches!(
        refused,
        Err(OperateError::Unfinished {
            release: ReleaseId(2)
        })
    ));
    world.resume(None).unwrap();
    world.session(|s| s.housekeep(&keep)).unwrap();
    world.back(&Ask::Undo, false).unwrap();
}

#[test]
fn what_a_publish_that_was_taken_back_had_built_can_be_looked_at() {
    let world = broken_at("apply", 2, Side::Before, Fault::Error);
    let release = world
        .ledger
        .history(|h| h.release(ReleaseId(2)))
        .unwrap()
        .unwrap();
    assert_eq!((release.stage, release.changed), (Stage::Abandoned, 2));
    let map = world
        .ledger
        .history(|h| h.map(ReleaseId(2)))
        .unwrap()
        .unwrap();
    let customers = map.get(&name("other", "customers")).unwrap();
    assert_eq!(customers.id.release, ReleaseId(2));
    let kept = world
        .harness
        .read(unship_core::engine::Place::Point(ReleaseId(2)));
    assert_eq!(kept.get(&name("main", "orders")).unwrap().rows, [[1, 2]]);
}

/// Events, in memory.
#[derive(Default)]
struct Events(Vec<Event>);

impl Recorder for Events {
    fn record(&mut self, event: Event) -> Result<(), RecordError> {
        self.0.push(event);
        Ok(())
    }
}

/// Two databases built for `R1`, and the plan that publishes them.
fn planned() -> (Warehouse, Plan) {
    let warehouse = memory(Restoring::Clones);
    let mut engine = warehouse.engine();
    engine
        .begin_build(ReleaseId(1), ReleaseId(0), true, &|_, _, _| {})
        .unwrap();
    for write in job(1).writes {
        warehouse.job_writes(ReleaseId(1), &write).unwrap();
    }
    let survey = engine.survey(ReleaseId(1), &BTreeSet::new()).unwrap();
    let request = PublishRequest {
        release: ReleaseId(1),
        live: ReleaseId(0),
        live_map: BTreeMap::new(),
        changes: BTreeMap::new(),
        carry: Carry::default(),
    };
    let steps = engine.plan_publish(&survey, &request).unwrap();
    let plan = Plan {
        format: FORMAT,
        env: "prod".to_owned(),
        release: ReleaseId(1),
        operation: Operation::Run {
            aside: true,
            replays: None,
        },
        from: ReleaseId(0),
        method: steps.method,
        steps: steps.steps,
        stages: Vec::new(),
        impact: Impact::default(),
        irreversible: Vec::new(),
        notes: Vec::new(),
        needs: Vec::new(),
        result: Default::default(),
        moved: Default::default(),
    };
    (warehouse, plan)
}

fn carry_out(
    warehouse: &Warehouse,
    plan: &Plan,
    events: &mut Events,
    recorder: &Fuse,
    engine: &Fuse,
) -> Result<Outcome, ExecuteError> {
    carry_out_assuming(None, warehouse, plan, events, recorder, engine)
}

fn carry_out_assuming(
    assume: Option<Assume>,
    warehouse: &Warehouse,
    plan: &Plan,
    events: &mut Events,
    recorder: &Fuse,
    engine: &Fuse,
) -> Result<Outcome, ExecuteError> {
    let id = plan.id().unwrap();
    let journal = Journal::fold(&id, &events.0).unwrap();
    let mut recorder = FaultyRecorder {
        recorder: events,
        fuse: recorder.clone(),
    };
    let mut engine = Faulty::new(Box::new(warehouse.engine()), engine.clone());
    let attempt = Attempt {
        plan,
        id,
        journal,
        assume,
        closing: &[],
    };
    execute(&mut engine, &mut recorder, &(), attempt)
}

#[test]
fn an_event_that_was_kept_although_the_recorder_says_no_is_no_problem() {
    let quiet = Fuse::default();
    for side in [Side::Before, Side::After] {
        for n in 1..=4 {
            let (warehouse, plan) = planned();
            let mut events = Events::default();
            let fuse = Fuse::default();
            fuse.arm(n, side, Fault::Error);
            let broken = carry_out(&warehouse, &plan, &mut events, &fuse, &quiet);
            assert!(matches!(broken, Err(ExecuteError::Record(_))), "{broken:?}");
            let done = carry_out(&warehouse, &plan, &mut events, &quiet, &quiet);
            assert!(matches!(done, Ok(Outcome::Done { .. })), "{done:?}");
            let production = warehouse.contents(unship_core::engine::Place::Live);
            assert_eq!(production.len(), 2);
            let journal = Journal::fold(&plan.id().unwrap(), &events.0).unwrap();
            assert_eq!(journal.status(1), Status::Succeeded);
            assert_eq!(journal.status(2), Status::Succeeded);
        }
    }
}

#[test]
fn a_swapped_database_that_others_wrote_to_is_not_swapped_back_over_their_rows() {
    let (warehouse, plan) = planned();
    let (mut events, quiet) = (Events::default(), Fuse::default());
    let fuse = Fuse::default();
    // The third event is the start of the second step.
    fuse.arm(3, Side::Before, Fault::Crash);
    carry_out(&warehouse, &plan, &mut events, &fuse, &quiet).unwrap_err();
    let theirs = value("main", "theirs", 7);
    warehouse.others_write(&theirs).unwrap();
    // And the second database moved, so that the plan cannot go on.
    warehouse.others_write(&value("other", "raw", 7)).unwrap();
    let stuck = carry_out(&warehouse, &plan, &mut events, &quiet, &quiet);
    assert!(
        matches!(stuck, Err(ExecuteError::Stuck { step: 1, .. })),
        "{stuck:?}"
    );
    let production = || warehouse.contents(unship_core::engine::Place::Live);
    assert!(production().contains_key(theirs.relation()));

    // A person has put it right by hand, and says that the step is not to be taken back any more.
    let person = Some(Assume::Untouched);
    let done = carry_out_assuming(person, &warehouse, &plan, &mut events, &quiet, &quiet);
    assert!(matches!(done, Ok(Outcome::TakenBack { .. })), "{done:?}");
    assert!(production().contains_key(theirs.relation()));
    let journal = Journal::fold(&plan.id().unwrap(), &events.0).unwrap();
    assert_eq!(journal.status(1), Status::Undone);
}

#[test]
fn a_plan_past_a_step_that_cannot_be_taken_back_only_goes_forward() {
    let quiet = Fuse::default();
    for n in 1.. {
        let (warehouse, mut plan) = planned();
        plan.steps[0].undo = None;
        let (mut events, fuse) = (Events::default(), Fuse::default());
        fuse.arm(n, Side::Before, Fault::Error);
        let broken = carry_out(&warehouse, &plan, &mut events, &quiet, &fuse);
        assert!(
            fuse.blown().is_some(),
            "the second step's failure was not met"
        );
        if !fuse.blown().unwrap().starts_with("apply") || events.0.len() < 4 {
            continue;
        }
        assert!(
            matches!(
                broken,
                Err(ExecuteError::OnlyForward {
                    step: 2,
                    changed: 1,
                    ..
                })
            ),
            "{broken:?}"
        );
        let done = carry_out(&warehouse, &plan, &mut events, &quiet, &quiet);
        assert!(matches!(done, Ok(Outcome::Done { .. })), "{done:?}");
        break;
    }
}

#[test]
fn an_undo_that_reports_an_error_and_happened_is_believed_to_the_eye() {
    for side in [Side::Before, Side::After] {
        let (warehouse, plan) = planned();
        let (mut events, quiet, fuse) = (Events::default(), Fuse::default(), Fuse::default());
        fuse.arm(3, Side::Before, Fault::Crash);
        carry_out(&warehouse, &plan, &mut events, &fuse, &quiet).unwrap_err();
        warehouse.others_write(&value("other", "raw", 7)).unwrap();
        let mut outcome = None;
        for n in 1.. {
            fuse.arm(n, side, Fault::Error);
            let result = carry_out(&warehouse, &plan, &mut events, &quiet, &fuse);
            if fuse.blown().is_some_and(|at| at.starts_with("revert")) {
                outcome = Some(result);
                break;
            }
            assert!(n < 100);
        }
        match (side, outcome.unwrap()) {
            (Side::After, Ok(Outcome::TakenBack { .. })) => {}
            (Side::Before, Err(ExecuteError::NotTakenBack { .. })) => {
                let again = carry_out(&warehouse, &plan, &mut events, &quiet, &quiet);
                assert!(matches!(again, Ok(Outcome::TakenBack { .. })), "{again:?}");
            }
            (_, other) => panic!("{other:?}"),
        }
        let production = warehouse.contents(unship_core::engine::Place::Live);
        assert_eq!(
            production.keys().collect::<Vec<_>>(),
            [&name("other", "raw")]
        );
    }
}

#[test]
fn undo_brings_back_what_others_wrote_to_a_state_that_an_undo_had_brought() {
    let mut world = world();
    world.run(&job(2)).unwrap();
    world.back(&Ask::Undo, false).unwrap();
    let theirs = Write::Insert(name("main", "orders"), vec![vec![9, 9]]);
    world.harness.others_write(&theirs).unwrap();
    let before = world.production();
    world.back(&Ask::Redo, true).unwrap();
    world.back(&Ask::Undo, false).unwrap();
    assert_eq!(world.production(), before);
}

#[test]
fn a_point_of_an_interrupted_job_in_place_is_not_taken_for_a_later_state() {
    let mut found = None;
    for n in 1.. {
        let mut world = world();
        let run = |w: &mut World| w.run(&job(2).in_place()).map(drop);
        let (_, blown) = world.broken(n, Side::After, Fault::Crash, run);
        if blown.unwrap().starts_with("begin build") {
            found = Some(world);
            break;
        }
    }
    let mut world = found.unwrap();
    world.resume(None).unwrap();
    let theirs = Write::Insert(name("other", "customers"), vec![vec![9, 9]]);
    world.harness.others_write(&theirs).unwrap();
    // Only the first database is retired by this, so that R1's point of the other stays what it was.
    let some = Ask::Rollback {
        to: Some(ReleaseId(0)),
        select: Some(("orders".to_owned(), [name("main", "orders")].into())),
    };
    world.back(&some, false).unwrap();
    let wanted = world.production().get(&name("other", "customers")).cloned();
    let pin = Event::Pinned {
        release: ReleaseId(1),
        reason: None,
    };
    world.ledger.append(&[pin]).unwrap();
    world.run(&job(3)).unwrap();
    world.run(&job(4)).unwrap();
    let keep = Keep {
        last: 0,
        within: jiff::SignedDuration::ZERO,
    };
    world.session(|s| s.housekeep(&keep)).unwrap();
    world.back_to(ReleaseId(1)).unwrap();
    let now = world.production().get(&name("other", "customers")).cloned();
    assert_eq!(now, wanted);
}
