//! Jobs that fail, and what is done while one works.

use super::{Make, told, value};
use crate::engine::{Carry, Depth, Place, PublishRequest, holds};
use crate::execute::ExecuteError;
use crate::ident::ReleaseId;
use crate::operate::{Ask, OperateError};
use crate::release::{Verdict, Version, VersionId};
use crate::testing::Write;
use crate::testing::world::Script;
use std::collections::{BTreeMap, BTreeSet};

pub fn a_failed_job_leaves_production(make: Make<'_>) {
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

pub fn in_place(make: Make<'_>) {
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

pub fn moved_world(make: Make<'_>) {
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

pub fn writers_are_frozen(make: Make<'_>) {
    let story = told(make);
    let write = Write::Insert(story.name(0, "raw"), vec![vec![8, 8]]);
    let harness = &story.world.harness;
    let mut engine = harness.engine();
    engine.freeze().unwrap();
    assert!(harness.others_write(&write).is_err(), "it was not frozen");
    drop(engine);
    harness.others_write(&write).unwrap();
}

pub fn plans_are_pure(make: Make<'_>) {
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

/// Something that a job left running writes once more, after what was built was looked at.
pub fn a_straggler_is_noticed(make: Make<'_>) {
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
    // What is prepared hurts nobody. It is the first change of production that must not go wrong.
    let first = steps.iter().position(|s| s.production).unwrap();
    for step in &steps[..first] {
        assert_eq!(holds(&mut *engine, &step.guard).unwrap(), Ok(()));
        engine.apply(step, None, &|_, _, _| {}).unwrap();
    }
    let guards = &steps[first].guard;
    assert_eq!(
        holds(&mut *engine, guards).unwrap(),
        Ok(()),
        "it can be done"
    );
    let late = harness.job_writes(&build, &value(orders, 66));
    assert!(
        late.is_err() || holds(&mut *engine, guards).unwrap().is_err(),
        "something else than what was looked at would be published"
    );
}
