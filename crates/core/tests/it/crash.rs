//! Every boundary of every operation, before and after its effect: whatever dies there, `resume`
//! leaves production as the old release or the new one, and the ledger says which.

use std::collections::BTreeSet;
use unship_core::execute::ExecuteError;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::{Head, verify::Blobs, verify_chain};
use unship_core::operate::{Ask, Keep, OperateError};
use unship_core::release::{Operation, Stage};
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::memory::Restoring;
use unship_core::testing::world::{Script, World, memory};
use unship_core::testing::{Contents, Table, Write};

type Begin = fn(Restoring) -> World;
type Operate = fn(&mut World) -> Result<(), OperateError>;

fn main_table(name: &str) -> RelationName {
    RelationName::new("main", "s", name)
}

fn other_table(name: &str) -> RelationName {
    RelationName::new("other", "s", name)
}

fn replace(name: RelationName, value: i64) -> Write {
    Write::Replace(name, Table::new(&["id", "value"], [vec![1, value]]))
}

/// What the bad release's job does: another value, another schema, a relation less and one more.
fn second() -> Vec<Write> {
    vec![
        replace(main_table("orders"), 2),
        Write::Replace(
            other_table("customers"),
            Table::new(&["id"], [vec![1], vec![2]]),
        ),
        Write::Drop(main_table("old")),
        replace(other_table("new"), 2),
    ]
}

/// Raw data that nobody's job built, and a first release in both databases.
fn world_at_r1(restoring: Restoring) -> World {
    let warehouse = memory(restoring);
    warehouse
        .others_write(&replace(main_table("raw"), 0))
        .unwrap();
    let mut world = World::new(Box::new(warehouse)).unwrap();
    world
        .run(&Script::good([
            replace(main_table("orders"), 1),
            replace(main_table("old"), 1),
            replace(other_table("customers"), 1),
        ]))
        .unwrap();
    world
}

fn world_at_r2(restoring: Restoring) -> World {
    let mut world = world_at_r1(restoring);
    world.run(&Script::good(second())).unwrap();
    // Raw rows that arrived after the bad release: nothing may take them along.
    world
        .harness
        .others_write(&Write::Insert(main_table("raw"), vec![vec![2, 0]]))
        .unwrap();
    world
}

fn world_undone(restoring: Restoring) -> World {
    let mut world = world_at_r2(restoring);
    world.back(&Ask::Undo, false).unwrap();
    world
}

fn world_rolled_back(restoring: Restoring) -> World {
    let mut world = world_at_r2(restoring);
    world.back_to(ReleaseId(1)).unwrap();
    world
}

fn some_of_it() -> Ask {
    Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: Some((
            "orders".to_owned(),
            BTreeSet::from([main_table("orders"), other_table("new")]),
        )),
    }
}

/// Every operation, and the state that it starts in.
const OPERATIONS: &[(&str, Begin, Operate)] = &[
    (
        "first run",
        |r| World::new(Box::new(memory(r))).unwrap(),
        |w| w.run(&Script::good(second())).map(drop),
    ),
    ("run", world_at_r1, |w| {
        w.run(&Script::good(second())).map(drop)
    }),
    ("failing run", world_at_r1, |w| {
        w.run(&Script::good(second()).failing()).map(drop)
    }),
    ("run in place", world_at_r1, |w| {
        w.run(&Script::good(second()).in_place()).map(drop)
    }),
    ("failing run in place", world_at_r1, |w| {
        w.run(&Script::good(second()).in_place().failing())
            .map(drop)
    }),
    ("rollback", world_at_r2, |w| {
        w.back_to(ReleaseId(1)).map(drop)
    }),
    ("partial rollback", world_at_r2, |w| {
        w.back(&some_of_it(), false).map(drop)
    }),
    ("undo", world_at_r2, |w| w.back(&Ask::Undo, false).map(drop)),
    ("redo", world_undone, |w| {
        w.back(&Ask::Redo, false).map(drop)
    }),
    ("redo of what was rolled back", world_rolled_back, |w| {
        w.back(&Ask::Redo, false).map(drop)
    }),
    ("verify", world_at_r2, |w| {
        w.session(|s| s.verify(ReleaseId(2))).map(drop)
    }),
    ("housekeeping", world_rolled_back, |w| {
        let keep = Keep {
            last: 0,
            within: jiff::SignedDuration::ZERO,
        };
        w.session(|s| s.housekeep(&keep)).map(drop)
    }),
];

/// What production may be after a fault: the old state, the new one, and, where a job works on
/// production itself, whatever it had written by then.
fn allowed(old: &Contents, new: &Contents, name: &str) -> Vec<Contents> {
    let mut allowed = vec![old.clone(), new.clone()];
    if name.contains("in place") {
        let mut step = old.clone();
        for write in second() {
            write.apply(&mut step);
            allowed.push(step.clone());
        }
    }
    allowed
}

fn settle(world: &mut World, at: &str) {
    match world.resume(None) {
        Ok(_)
        | Err(
            OperateError::NothingToResume
            | OperateError::TakenBack { .. }
            | OperateError::Execute(ExecuteError::Moved { .. }),
        ) => {}
        Err(error) => panic!("{at}: {error}"),
    }
}

/// All that must be true once an interrupted operation is finished.
fn check(world: &mut World, at: &str, old: &Contents, new: &Contents, allowed: &[Contents]) {
    let production = world.production();
    assert!(
        allowed.contains(&production),
        "{at}: a mixture: {production:#?}"
    );
    assert!(
        matches!(world.resume(None), Err(OperateError::NothingToResume)),
        "{at}: there is something left to resume"
    );
    let chain = verify_chain(world.ledger.store(), &Head::genesis(), None, Blobs::Check).unwrap();
    assert!(chain.is_good(), "{at}: {chain:?}");
    assert_eq!(world.ledger.store().check_views().unwrap(), [], "{at}");

    let Ok(live) = world.live() else {
        assert_eq!(
            &production, old,
            "{at}: production changed, and nothing is recorded"
        );
        return;
    };
    let proof = world.session(|s| s.verify(live.release)).unwrap();
    assert!(proof.differences.is_empty(), "{at}: {proof:?}");
    let newest = world
        .ledger
        .history(|h| h.releases("prod", None, 1))
        .unwrap()
        .remove(0);
    if newest.stage == Stage::Abandoned {
        assert_eq!(
            &production, old,
            "{at}: {} is abandoned, and is live",
            newest.id
        );
    }
    if old != new && production == *new {
        assert_eq!(
            live.release, newest.id,
            "{at}: the ledger does not say what is live"
        );
    }
}

/// The world goes on: another run, and all the way back.
fn goes_on(world: &mut World, at: &str) {
    let before = world.production();
    world
        .run(&Script::good([replace(other_table("later"), 9)]))
        .unwrap_or_else(|e| panic!("{at}: {e}"));
    world
        .back(&Ask::Undo, false)
        .unwrap_or_else(|e| panic!("{at}: {e}"));
    assert_eq!(world.production(), before, "{at}");
}

fn matrix(restoring: Restoring, fault: Fault) {
    for (name, make, operate) in OPERATIONS {
        let moves_points = !name.contains("run") && *name != "verify";
        if restoring == Restoring::Moves && !moves_points {
            continue;
        }
        let mut reference = make(restoring);
        let old = reference.production();
        operate(&mut reference).unwrap();
        let new = reference.production();
        let allowed = allowed(&old, &new, name);
        for side in [Side::Before, Side::After] {
            for n in 1.. {
                let mut world = make(restoring);
                let (answer, blown) = world.broken(n, side, fault, operate);
                let Some(boundary) = blown else {
                    answer.unwrap_or_else(|e| panic!("{name}: {e}"));
                    assert!(n > 2, "{name}: too few boundaries");
                    break;
                };
                let at = format!("{name}, {fault:?} {side:?} {boundary}");
                settle(&mut world, &at);
                check(&mut world, &at, &old, &new, &allowed);
                // What came of it is proved equal to one of few states each time.
                if n % GO_ON == 0 {
                    goes_on(&mut world, &at);
                }
            }
        }
    }
}

/// After how many boundaries it is tried that the world goes on.
const GO_ON: u64 = 3;

#[test]
fn a_crash_anywhere_leaves_the_old_release_or_the_new_one() {
    matrix(Restoring::Clones, Fault::Crash);
}

#[test]
fn a_crash_anywhere_is_survived_where_restore_points_are_moved_into_place() {
    matrix(Restoring::Moves, Fault::Crash);
}

#[test]
fn an_error_anywhere_leaves_the_old_release_or_the_new_one() {
    matrix(Restoring::Clones, Fault::Error);
}

#[test]
fn a_crash_during_the_recovery_is_survived_too() {
    for (name, make, operate) in OPERATIONS {
        if !["run", "partial rollback"].contains(name) {
            continue;
        }
        let mut reference = make(Restoring::Moves);
        let old = reference.production();
        operate(&mut reference).unwrap();
        let new = reference.production();
        let boundaries = reference.fuse.passed();
        // One of each kind of boundary would do; every third one meets them all.
        for n in (1..boundaries).step_by(3) {
            for m in 1.. {
                let mut world = make(Restoring::Moves);
                world.broken(n, Side::After, Fault::Crash, operate).0.ok();
                let again = |w: &mut World| w.session(|s| s.resume(None, None)).map(drop);
                let (answer, blown) = world.broken(m, Side::After, Fault::Crash, again);
                let Some(boundary) = blown else {
                    answer.ok();
                    break;
                };
                let at = format!("{name}, crash after boundary {n}, then after {boundary}");
                settle(&mut world, &at);
                check(&mut world, &at, &old, &new, &[old.clone(), new.clone()]);
            }
        }
    }
}

#[test]
fn the_ledger_names_the_interrupted_operation() {
    let mut world = world_at_r2(Restoring::Clones);
    let back = |w: &mut World| w.back_to(ReleaseId(1)).map(drop);
    for n in 1.. {
        let (_, blown) = world.broken(n, Side::After, Fault::Crash, back);
        if blown.is_some_and(|at| at.starts_with("apply")) {
            break;
        }
        let _ = world.resume(None);
        world = world_at_r2(Restoring::Clones);
    }
    let open = world.ledger.history(|h| h.open("prod")).unwrap().unwrap();
    let release = world
        .ledger
        .history(|h| h.release(open.release))
        .unwrap()
        .unwrap();
    assert_eq!(release.stage, Stage::Open);
    assert!(matches!(
        release.operation,
        Operation::Rollback {
            to: ReleaseId(1),
            select: None,
            rows: None,
            stage: None,
        }
    ));
    let refused = world.run(&Script::good(second()));
    assert!(
        matches!(refused, Err(OperateError::Unfinished { release }) if release == open.release)
    );
}
