//! Somebody is faster in one member after another has changed: nothing is planned anew by itself, and
//! what can neither go on nor be taken back ends between the two.

use super::estate::{planned, shown, two_releases};
use unship_core::engine::Place;
use unship_core::event::Event;
use unship_core::ident::ReleaseId;
use unship_core::operate::{OperateError, Resumed};
use unship_core::plan::Plan;
use unship_core::release::Verdict;
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::memory::Restoring;
use unship_core::testing::world::World;
use unship_core::testing::{Table, Write};

/// The plan of a rollback to R1, whose steps of `for_good` cannot be taken back.
fn plan(world: &mut World, for_good: &str) -> Plan {
    let mut plan = planned(world, 1);
    let of = |explain: &str| explain.starts_with(&format!("{for_good}: "));
    for step in plan.steps.iter_mut().filter(|step| of(&step.explain)) {
        step.undo = None;
    }
    plan
}

/// Carries a plan out, and dies right after the marts went back and before the lake did. Gives the
/// boundary; it is looked for from `first` on.
fn dies_between(world: &mut World, plan: &Plan, first: u64) -> u64 {
    for n in first.. {
        let apply = |world: &mut World| world.session(|s| s.apply(plan.clone(), false)).map(drop);
        let (done, blown) = world.broken(n, Side::After, Fault::Crash, apply);
        assert!(done.is_err(), "it came to its end");
        if shown(world) == (2, 1) {
            assert!(blown.is_some());
            return n;
        }
        // It died too early: what is left of it is dropped, and the same is tried again.
        *world = two_releases(Restoring::Clones);
    }
    unreachable!("the marts never went back alone")
}

fn somebody_writes_to_the_lake(world: &World) {
    let raw = Write::Replace(
        world.harness.relation(0, "raw"),
        Table::new(&["id"], [vec![1]]),
    );
    world.harness.others_write(&raw).unwrap();
}

#[test]
fn what_can_neither_go_on_nor_back_ends_between_two_members() {
    let mut world = two_releases(Restoring::Clones);
    let bad = plan(&mut world, "marts");
    dies_between(&mut world, &bad, 1);
    somebody_writes_to_the_lake(&world);

    let resumed = world.resume(None).unwrap();
    let Resumed::InPart { release, left, .. } = resumed else {
        panic!("{resumed:?}");
    };
    assert_eq!(release, ReleaseId(3));
    assert_eq!(left, [world.harness.relation(0, "orders")].into());
    // The consumer lags behind its source, which is what the order is for.
    assert_eq!(shown(&world), (2, 1));
    let live = world.live().unwrap();
    assert_eq!(live.release, ReleaseId(3));
    let release = world.ledger.history(|h| h.release(live.release));
    let release = release.unwrap().unwrap();
    assert_eq!(release.verdict, Verdict::Bad);
    let proof = world.session(|s| s.verify(live.release)).unwrap();
    assert!(proof.differences.is_empty(), "{proof:?}");
    let nothing = world.resume(None).unwrap_err();
    assert!(matches!(nothing, OperateError::NothingToResume));

    // A new plan has only the rest, and what they wrote stays.
    let rest = planned(&mut world, 1);
    let of_lake = |explain: &str| explain.starts_with("lake: ");
    assert!(rest.steps.iter().all(|step| of_lake(&step.explain)));
    world.session(|s| s.apply(rest, false)).unwrap();
    assert_eq!(shown(&world), (1, 1));
    let raw = world.harness.relation(0, "raw");
    assert!(world.harness.read(Place::Live).contains_key(&raw));
    world.back_to(ReleaseId(2)).unwrap();
    assert_eq!(shown(&world), (2, 2));
}

/// Also where it dies once more while it ends.
#[test]
fn ending_between_two_members_survives_a_crash() {
    let mut between = 1;
    // The two sides do not sample the same boundaries.
    for (side, first) in [(Side::Before, 1), (Side::After, 2)] {
        for n in (first..).step_by(2) {
            let mut world = two_releases(Restoring::Clones);
            let bad = plan(&mut world, "marts");
            between = dies_between(&mut world, &bad, between);
            somebody_writes_to_the_lake(&world);
            let resume = |world: &mut World| world.session(|s| s.resume(None, None)).map(drop);
            let (_, blown) = world.broken(n, side, Fault::Crash, resume);
            let again = world.resume(None);
            assert!(
                matches!(
                    again,
                    Ok(Resumed::InPart { .. }) | Err(OperateError::NothingToResume)
                ),
                "{blown:?}: {again:?}"
            );
            assert_eq!(shown(&world), (2, 1), "{blown:?}");
            assert_eq!(world.live().unwrap().release, ReleaseId(3), "{blown:?}");
            if blown.is_none() {
                break;
            }
        }
    }
}

/// Where all can be taken back, it is; and no new plan follows by itself, for readers of the first
/// member saw it go there and back.
#[test]
fn a_conflict_after_a_member_has_moved_asks_for_no_new_plan() {
    let mut world = two_releases(Restoring::Clones);
    let plan = plan(&mut world, "nobody");
    dies_between(&mut world, &plan, 1);
    somebody_writes_to_the_lake(&world);
    let back = world.resume(None).unwrap_err();
    assert!(
        matches!(
            back,
            OperateError::TakenBack {
                conflict: false,
                ..
            }
        ),
        "{back:?}"
    );
    assert_eq!(shown(&world), (2, 2));

    // Before any of them has changed, a new plan may follow at once.
    let mut world = two_releases(Restoring::Clones);
    let plan = planned(&mut world, 1);
    somebody_writes_to_the_lake(&world);
    world.session(|s| s.see_drift()).unwrap();
    let refused = world.session(|s| s.apply(plan, true)).unwrap_err();
    let conflict = match &refused {
        OperateError::TakenBack { conflict, .. } => *conflict,
        OperateError::Execute(error) => error.to_string().contains("the world moved"),
        _ => false,
    };
    assert!(conflict, "{refused:?}");
    assert_eq!(shown(&world), (2, 2));
}

/// A member that was changed in part when somebody was faster goes back to what it was.
#[test]
fn a_member_that_is_half_way_is_taken_back_before_the_end() {
    let mut world = two_releases(Restoring::Clones);
    let mut bad = plan(&mut world, "marts");
    // One more change of the lake, after its first, which finds that somebody was faster.
    let last = bad.steps.last().unwrap().clone();
    let mut more = last.clone();
    more.id += 1;
    more.after = vec![last.id];
    bad.steps.push(more);
    let failed = world.session(|s| s.apply(bad, false)).unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("this can only go on"), "{text}");
    assert_eq!(shown(&world), (1, 1), "the lake is half way");
    let resumed = world.resume(None).unwrap();
    assert!(matches!(resumed, Resumed::InPart { .. }), "{resumed:?}");
    assert_eq!(shown(&world), (2, 1));
    let events = world.ledger.events_from(0, 1000).unwrap();
    let undone = |event: &Event| matches!(event, Event::UndoFinished(at) if at.step == last.id);
    assert!(events.iter().any(|(_, e)| e.as_ref().is_some_and(undone)));
}
