//! Restore points: readable, damaged, packed, lost.

use super::{Make, select, told, value};
use crate::engine::{Depth, Level, Place, Retention};
use crate::ident::ReleaseId;
use crate::operate::Ask;
use crate::testing::world::Script;
use crate::testing::{Table, Write};
use std::collections::BTreeSet;

pub fn points_are_readable(make: Make<'_>) {
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

pub fn tampering_is_found(make: Make<'_>) {
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

pub fn packed_points_come_back(make: Make<'_>) {
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
    let mut left: Vec<_> = points.iter().map(|p| p.release).collect();
    left.dedup();
    assert_eq!(left, [ReleaseId(2)]);
    let gone = story.world.back_to(ReleaseId(3));
    assert!(gone.is_err(), "nothing holds it any more: {gone:?}");
    story.is(&r1);
    story.world.back_to(ReleaseId(2)).unwrap();
    story.is(&r2);
    story.proved();
}

pub fn lost_point(make: Make<'_>) {
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
