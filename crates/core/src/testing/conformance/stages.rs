//! Back stage by stage, and as one operation afterwards.

use super::{Make, told};
use crate::history::Ended;
use crate::ident::ReleaseId;
use crate::operate::{Ask, Checks};
use crate::others::Others;
use crate::stages::Ties;
use std::collections::{BTreeMap, BTreeSet};

pub fn are_one_operation(make: Make<'_>) {
    let mut story = told(make);
    let [_, r1, r2] = story.at.clone();
    let (orders, customers) = (story.name(0, "orders"), story.name(1, "customers"));
    let ties = Ties {
        readers: BTreeMap::from([(customers.clone(), BTreeSet::from([orders.clone()]))]),
        together: Vec::new(),
    };
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = story
        .world
        .session(|s| s.plan_in_stages(&ask, Others::Ask, &ties))
        .unwrap();
    let stage = |name| plan.stages.iter().position(|s| s.relations.contains(name));
    assert!(stage(&orders) < stage(&customers), "its reader goes first");
    assert_eq!(plan.stages.len(), plan.result.len());
    story.is(&r2);

    let checks = Checks::default();
    let staging = story
        .world
        .session(|s| {
            s.begin_stages(&plan, Others::Ask)?;
            s.go_on_in_stages(Some(&checks))
        })
        .unwrap();
    assert_eq!(staging.ended, Some(Ended::Done), "{:?}", staging.surprises);
    story.is(&r1);
    story.proved();
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&r2);
    story.proved();
    story.world.back(&Ask::Redo, false).unwrap();
    story.is(&r1);
    story.proved();
}
