//! A crash at every boundary.

use super::{Make, ROWS, rows, select, told, value};
use crate::ident::ReleaseId;
use crate::ledger::verify::Blobs;
use crate::ledger::{Head, verify_chain};
use crate::operate::{OperateError, Resumed};
use crate::release::Stage;
use crate::testing::faulty::{Fault, Side};
use crate::testing::world::{Script, World};
use crate::testing::{Contents, Table};
use std::collections::BTreeMap;

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
        story.world.fuse.disarm();
        operate(&mut story.world).unwrap();
        let boundaries = story.world.fuse.passed();
        let (old, new) = (story.at[2].clone(), story.world.production());
        // The two sides do not sample the same boundaries, and each samples one at least.
        let middle = 1 + (every as u64).min(boundaries) / 2;
        for (side, first) in [(Side::Before, 1), (Side::After, middle)] {
            for n in (first..=boundaries).step_by(every) {
                let mut story = told(make);
                let (answer, blown) = story.world.broken(n, side, Fault::Crash, operate);
                let Some(boundary) = blown else {
                    // One that waits for somebody passes some of them more than once.
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
