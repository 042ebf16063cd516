//! Rollbacks that go stage by stage: on a warehouse in memory, with others at work, and with a process
//! that dies anywhere.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::history::{Ended, Staging};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::{Head, verify::Blobs, verify_chain};
use unship_core::operate::{Ask, Checks, OperateError};
use unship_core::others::Others;
use unship_core::release::Verdict;
use unship_core::stages::Ties;
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::memory::Restoring;
use unship_core::testing::world::{Script, World, memory};
use unship_core::testing::{Contents, Table, Write};

fn name(index: usize) -> RelationName {
    let database = if index.is_multiple_of(2) {
        "main"
    } else {
        "other"
    };
    RelationName::new(database, "s", format!("t{index}"))
}

fn table(rows: i64, value: i64) -> Table {
    Table::new(&["id", "value"], (0..rows).map(|id| vec![id, value]))
}

fn replace(index: usize, rows: i64, value: i64) -> Write {
    Write::Replace(name(index), table(rows, value))
}

/// R1 is good; R2 wrote all four tables anew, dropped one and made another. `t0` is read by `t1`, which
/// is read by `t2`.
fn world(restoring: Restoring) -> World {
    let warehouse = memory(restoring);
    let raw = RelationName::new("main", "s", "raw");
    warehouse
        .others_write(&Write::Replace(raw, table(3, 0)))
        .unwrap();
    let mut world = World::new(Box::new(warehouse)).unwrap();
    let first = (0..5).map(|i| replace(i, 5 - i as i64, 1));
    world.run(&Script::good(first)).unwrap();
    let mut second: Vec<Write> = (0..4).map(|i| replace(i, 5 - i as i64, 2)).collect();
    second.push(Write::Drop(name(4)));
    second.push(replace(5, 9, 2));
    world.run(&Script::good(second)).unwrap();
    world
}

fn ties() -> Ties {
    Ties {
        readers: BTreeMap::from([
            (name(0), BTreeSet::from([name(1)])),
            (name(1), BTreeSet::from([name(2)])),
        ]),
        together: Vec::new(),
    }
}

fn back() -> Ask {
    Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    }
}

/// Plans and begins, and goes on as far as it comes.
fn in_stages(world: &mut World, checks: Option<&Checks>) -> Result<Staging, OperateError> {
    world.session(|s| {
        let plan = s.plan_in_stages(&back(), Others::Ask, &ties())?;
        s.begin_stages(&plan, Others::Ask)?;
        s.go_on_in_stages(checks)
    })
}

/// What `unship resume` does.
fn go_on(world: &mut World) -> Result<Staging, OperateError> {
    world.fuse.disarm();
    world.session(|s| {
        s.finish_stage(None)?;
        s.go_on_in_stages(None)
    })
}

fn others_add(world: &World, index: usize) {
    let write = Write::Insert(name(index), vec![vec![99, 99]]);
    world.harness.others_write(&write).unwrap();
}

#[test]
fn it_goes_to_the_same_state_as_all_at_once_and_is_undone_and_redone_as_one() {
    for restoring in [Restoring::Clones, Restoring::Moves] {
        let mut at_once = world(restoring);
        at_once.back_to(ReleaseId(1)).unwrap();
        let mut world = world(restoring);
        let bad = world.production();
        let checks = Checks::default();
        let staging = in_stages(&mut world, Some(&checks)).unwrap();
        assert_eq!(staging.ended, Some(Ended::Done), "{:?}", staging.surprises);
        assert_eq!(staging.back.len(), 6);
        assert_eq!(world.production(), at_once.production());

        let release = |world: &World, id| {
            let found = world.ledger.history(|h| h.release(ReleaseId(id))).unwrap();
            found.unwrap()
        };
        assert_eq!(release(&world, 2).verdict, Verdict::Bad);
        assert_eq!(release(&world, 8).origin, ReleaseId(1));
        let next = world.session(|s| s.newest_good_before(ReleaseId(8)));
        assert_eq!(
            next.unwrap(),
            ReleaseId(0),
            "no stage is a state to go back to"
        );

        let good = world.production();
        world.back(&Ask::Undo, false).unwrap();
        assert_eq!(world.production(), bad, "all stages at once");
        assert_eq!(release(&world, 2).verdict, Verdict::Good);
        world.back(&Ask::Redo, false).unwrap();
        assert_eq!(world.production(), good);
        world.back(&Ask::Undo, false).unwrap();
        world.back(&Ask::Undo, false).unwrap();
        assert_eq!(
            world.session(|s| s.live()).unwrap().cursor,
            1,
            "the stages are one place of the stack"
        );
    }
}

#[test]
fn redo_right_after_it_brings_all_of_it_back() {
    let mut world = world(Restoring::Moves);
    let bad = world.production();
    in_stages(&mut world, None).unwrap();
    world.back(&Ask::Redo, false).unwrap();
    assert_eq!(world.production(), bad);
}

#[test]
fn a_plan_in_stages_says_them_and_cannot_be_carried_out_at_once() {
    let mut world = world(Restoring::Clones);
    let plan = world
        .session(|s| s.plan_in_stages(&back(), Others::Ask, &ties()))
        .unwrap();
    let told: Vec<_> = plan
        .stages
        .iter()
        .map(|s| (s.relations.first().unwrap().name.clone(), s.rows))
        .collect();
    let expected = [
        ("t4", 1),
        ("t3", 2),
        ("t2", 3),
        ("t1", 4),
        ("t0", 5),
        ("t5", 9),
    ];
    assert_eq!(told, expected.map(|(n, rows)| (n.to_owned(), rows)));
    assert!(plan.steps.is_empty());
    let refused = world.session(|s| s.apply(plan, false));
    assert!(matches!(refused, Err(OperateError::NotInStages)));
}

/// The world once the process died right after the `n`-th stage had become production.
fn died_after(n: usize) -> World {
    let dead = |at| {
        let mut world = world(Restoring::Clones);
        let (_, blown) = world.broken(at, Side::After, Fault::Crash, |w| in_stages(w, None));
        let staging = world.session(|s| s.staging()).unwrap();
        let back = staging.as_ref().map_or(0, |staging| staging.back.len());
        (world, staging, back >= n || blown.is_none())
    };
    let (mut before, mut after) = (0, 400);
    while before + 1 < after {
        let middle = (before + after) / 2;
        match dead(middle).2 {
            true => after = middle,
            false => before = middle,
        }
    }
    let (world, staging, _) = dead(after);
    let staging = staging.unwrap();
    assert_eq!(staging.back.len(), n);
    assert!(staging.unseen().is_some());
    world
}

#[test]
fn what_others_write_to_what_is_still_to_go_holds_it_and_both_ways_on_are_open() {
    let mut world = died_after(2);
    others_add(&world, 2);
    let staging = go_on(&mut world).unwrap();
    assert_eq!(staging.held, Some(2), "it is noticed at the first look");
    assert!(
        staging.surprises[&2][0].contains("main.s.t2 does not go in this stage and moved"),
        "{:?}",
        staging.surprises
    );
    let staging = go_on(&mut world).unwrap();
    assert_eq!(staging.held, Some(3), "and not taken along for all that");
    assert_eq!(staging.back.len(), 2);
    assert!(!staging.held_is_back());
    assert!(
        staging.surprises[&3][0].contains("main.s.t2 (it was R2 and is R4+1)"),
        "{:?}",
        staging.surprises
    );
    // Nothing else is begun meanwhile.
    for refused in [
        world.run(&Script::good([replace(1, 1, 7)])).map(drop),
        world.back_to(ReleaseId(1)).map(drop),
        world.back(&Ask::Redo, false).map(drop),
    ] {
        assert!(
            matches!(refused, Err(OperateError::InStages { .. })),
            "{refused:?}"
        );
    }
    let again = go_on(&mut world).unwrap();
    assert_eq!(again.held, Some(3), "it still is not as planned");

    let before = world.production();
    world.back(&Ask::Undo, false).unwrap();
    let after = world.production();
    assert_eq!(after[&name(3)], table(2, 2), "taken back");
    assert!(!after.contains_key(&name(4)));
    assert_eq!(after[&name(2)], before[&name(2)], "theirs stays");
    world.run(&Script::good([replace(1, 1, 7)])).unwrap();
}

#[test]
fn what_is_not_what_was_recorded_holds_it_and_a_person_may_take_it_as_it_is() {
    let mut world = died_after(2);
    // Into the very relation that came back with the second stage.
    others_add(&world, 3);
    let staging = go_on(&mut world).unwrap();
    assert_eq!(staging.held, Some(2));
    assert!(staging.held_is_back());
    assert!(
        staging.surprises[&2][0].contains("other.s.t3 has 3 rows, recorded were 2"),
        "{:?}",
        staging.surprises
    );
    let staging = go_on(&mut world).unwrap();
    assert_eq!(staging.ended, Some(Ended::Done));
    assert_eq!(staging.back.len(), 6);
    assert_eq!(
        staging.surprises.len(),
        1,
        "what was accepted is remembered"
    );
    let production = world.production();
    assert_eq!(production[&name(3)].rows.len(), 3);
    assert_eq!(production[&name(0)], table(5, 1));
}

#[test]
fn what_stays_and_moves_holds_it() {
    let mut world = died_after(3);
    // t0 has not gone back yet, and is no part of the stage that was just done.
    others_add(&world, 0);
    let staging = go_on(&mut world).unwrap();
    assert_eq!(staging.held, Some(3));
    assert!(
        staging.surprises[&3][0].contains("main.s.t0 does not go in this stage and moved"),
        "{:?}",
        staging.surprises
    );
}

#[test]
fn what_fails_before_anything_is_back_leaves_nothing_behind() {
    let mut world = world(Restoring::Clones);
    let bad = world.production();
    let plan = world
        .session(|s| s.plan_in_stages(&back(), Others::Ask, &ties()))
        .unwrap();
    world
        .session(|s| s.begin_stages(&plan, Others::Ask))
        .unwrap();
    let undo = world.back(&Ask::Undo, false);
    assert!(
        matches!(undo, Err(OperateError::InStages { .. })),
        "undo takes back what came before it only once it is given up: {undo:?}"
    );
    others_add(&world, 4 - 1);
    others_add(&world, 5);
    let write = replace(4, 1, 8);
    world.harness.others_write(&write).unwrap();
    let failed = world.session(|s| s.go_on_in_stages(None));
    assert!(
        matches!(
            failed,
            Err(OperateError::OthersWrote(_) | OperateError::NotAsPlanned(_))
        ),
        "{failed:?}"
    );
    assert!(world.session(|s| s.staging()).unwrap().is_none());
    assert_ne!(world.production(), bad);
    assert_eq!(world.production()[&name(0)], table(5, 2));
    world.run(&Script::good([replace(1, 1, 7)])).unwrap();
}

#[test]
fn one_that_was_not_begun_is_given_up() {
    let mut world = world(Restoring::Clones);
    let plan = world
        .session(|s| s.plan_in_stages(&back(), Others::Ask, &ties()))
        .unwrap();
    world
        .session(|s| s.begin_stages(&plan, Others::Ask))
        .unwrap();
    assert!(world.session(|s| s.give_up_stages()).unwrap());
    assert!(!world.session(|s| s.give_up_stages()).unwrap());
    world.back_to(ReleaseId(1)).unwrap();
}

/// Production as it may be between stages: every beginning of the order.
fn allowed(bad: &Contents, good: &Contents, order: &[RelationName]) -> Vec<Contents> {
    let mut now = bad.clone();
    let mut all = vec![now.clone()];
    for name in order {
        match good.get(name) {
            Some(table) => drop(now.insert(name.clone(), table.clone())),
            None => drop(now.remove(name)),
        }
        all.push(now.clone());
    }
    all
}

/// At every `step`-th boundary.
fn dies(restoring: Restoring, fault: Fault, side: Side, step: usize) {
    let mut reference = world(restoring);
    let bad = reference.production();
    let plan = reference
        .session(|s| s.plan_in_stages(&back(), Others::Ask, &ties()))
        .unwrap();
    let order: Vec<_> = plan
        .stages
        .iter()
        .flat_map(|s| s.relations.iter().cloned())
        .collect();
    in_stages(&mut reference, None).unwrap();
    let good = reference.production();
    let between = allowed(&bad, &good, &order);
    for n in (1..).step_by(step) {
        let mut world = world(restoring);
        let (answer, blown) = world.broken(n, side, fault, |w| in_stages(w, None));
        let Some(at) = blown else {
            assert_eq!(answer.unwrap().ended, Some(Ended::Done));
            assert!(n > 40, "too few boundaries: {n}");
            return;
        };
        let at = format!("{fault:?} {side:?} {at}");
        world.fuse.disarm();
        let begun = world.session(|s| s.staging()).unwrap();
        if begun.is_none() {
            let live = world.live().unwrap().release;
            let ended = live == ReleaseId(8) && world.production() == good;
            assert!(ended || world.production() == bad, "{at}");
            continue;
        }
        if n % 2 == 0 {
            world
                .session(|s| {
                    s.finish_stage(None)?;
                    if s.give_up_stages()? {
                        return Ok(());
                    }
                    // It may have come to its end meanwhile: then this takes all of it back.
                    let plan = s.plan(&Ask::Undo)?;
                    s.apply(plan, false).map(drop)
                })
                .unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(world.production(), bad, "{at}");
        } else {
            assert!(between.contains(&world.production()) || fault == Fault::Crash);
            let mut staging = go_on(&mut world).unwrap_or_else(|e| panic!("{at}: {e}"));
            if staging.held.is_some() {
                assert!(between.contains(&world.production()), "{at}: a mixture");
                staging = go_on(&mut world).unwrap();
            }
            assert_eq!(staging.ended, Some(Ended::Done), "{at}: {staging:?}");
            assert_eq!(world.production(), good, "{at}");
            world.back(&Ask::Undo, false).unwrap();
            assert_eq!(world.production(), bad, "{at}");
        }
        let chain =
            verify_chain(world.ledger.store(), &Head::genesis(), None, Blobs::Check).unwrap();
        assert!(chain.is_good(), "{at}: {chain:?}");
        assert_eq!(world.ledger.store().check_views().unwrap(), [], "{at}");
        let live = world.live().unwrap();
        let proof = world.session(|s| s.verify(live.release)).unwrap();
        assert!(proof.differences.is_empty(), "{at}: {proof:?}");
    }
}

/// At some boundaries, of all kinds; the long form is at all of them.
#[test]
fn a_crash_is_resumed_or_taken_back() {
    dies(Restoring::Clones, Fault::Crash, Side::After, 13);
    dies(Restoring::Moves, Fault::Crash, Side::Before, 17);
}

#[test]
fn an_error_holds_it_or_is_overcome() {
    dies(Restoring::Clones, Fault::Error, Side::After, 19);
}

#[test]
#[ignore = "takes minutes: a part of `make test-all`"]
fn a_crash_or_an_error_anywhere_is_resumed_or_taken_back() {
    for restoring in [Restoring::Clones, Restoring::Moves] {
        for side in [Side::Before, Side::After] {
            dies(restoring, Fault::Crash, side, 1);
            dies(restoring, Fault::Error, side, 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the tables and wherever it dies, it ends where a rollback at once ends, and an undo
    /// of it where it began.
    #[test]
    fn any_rollback_in_stages_ends_where_one_at_once_does(
        first in prop::collection::vec(prop::option::of(0..4_i64), 6),
        second in prop::collection::vec(prop::option::of(0..4_i64), 6),
        edges in prop::collection::vec((0..6_usize, 0..6_usize), 0..8),
        bound in prop::option::of((0..6_usize, 0..6_usize)),
        at in 1..150_u64,
    ) {
        let make = || {
            let mut world = World::new(Box::new(memory(Restoring::Clones))).unwrap();
            let writes = first.iter().enumerate();
            let writes = writes.filter_map(|(i, rows)| Some(replace(i, (*rows)?, 1)));
            world.run(&Script::good(writes)).unwrap();
            let there = |i: usize| first[i].is_some();
            let writes = second.iter().enumerate().filter_map(|(i, rows)| match rows {
                Some(rows) => Some(replace(i, *rows, 2)),
                None => there(i).then(|| Write::Drop(name(i))),
            });
            world.run(&Script::good(writes)).unwrap();
            world
        };
        let mut ties = Ties::default();
        for (a, b) in edges.iter().filter(|(a, b)| a != b) {
            ties.readers.entry(name(*a)).or_default().insert(name(*b));
        }
        ties.together.extend(bound.map(|(a, b)| ([name(a), name(b)].into(), "bound".to_owned())));
        let mut at_once = make();
        let bad = at_once.production();
        if at_once.back_to(ReleaseId(1)).is_err() {
            return Ok(());
        }
        let mut world = make();
        world.fuse.arm(at, Side::After, Fault::Crash);
        let done = world.session(|s| {
            let plan = s.plan_in_stages(&back(), Others::Ask, &ties)?;
            s.begin_stages(&plan, Others::Ask)?;
            s.go_on_in_stages(None)
        });
        world.fuse.disarm();
        if done.is_err() {
            if world.session(|s| s.staging()).unwrap().is_none() {
                prop_assert_eq!(world.production(), bad);
                return Ok(());
            }
            let staging = go_on(&mut world).unwrap();
            prop_assert_eq!(staging.ended, Some(Ended::Done));
        }
        prop_assert_eq!(world.production(), at_once.production());
        world.back(&Ask::Undo, false).unwrap();
        prop_assert_eq!(world.production(), bad);
    }
}
