//! Going back and forth.

use super::{Make, Story, select, told, value};
use crate::engine::Place;
use crate::ident::ReleaseId;
use crate::operate::{Ask, OperateError};
use crate::release::Verdict;
use crate::testing::world::{Script, World};
use crate::testing::{Contents, Write};

pub fn publish_and_roll_back(make: Make<'_>) {
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

pub fn part_of_it(make: Make<'_>) {
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

pub fn undo_and_redo_are_a_stack(make: Make<'_>) {
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

pub fn what_others_wrote_stays(make: Make<'_>) {
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

pub fn set_aside(make: Make<'_>) {
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

/// A job's view and a stranger's one, over a table that is replaced and brought back.
pub fn views_follow(make: Make<'_>) {
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

pub fn versions_are_compared(make: Make<'_>) {
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
