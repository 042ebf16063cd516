//! Some rows of an older version, and the rest as it is.

use super::{Make, Story, told};
use crate::ident::{RelationName, ReleaseId};
use crate::operate::{Ask, OperateError};
use crate::release::{Operation, VersionId};
use crate::restore::WishError;
use crate::rows::{Reconciling, Rows};
use crate::testing::world::Script;
use crate::testing::{Contents, Table, Write};
use std::collections::BTreeSet;

/// Back to a release with the rows of one table that a predicate chooses.
pub fn ask(to: u64, name: &RelationName, predicate: &str) -> Ask {
    Ask::Rows {
        to: Some(ReleaseId(to)),
        select: ("orders".to_owned(), BTreeSet::from([name.clone()])),
        reconciling: Reconciling {
            rows: Rows::Where(predicate.to_owned()),
            at: None,
            reason: Some("a bad load".to_owned()),
        },
    }
}

/// `R3` writes other values into every row of `orders`.
fn third(story: &mut Story) -> (RelationName, Contents) {
    let name = story.name(0, "orders");
    let table = Table::new(&["id", "value"], [vec![1, 5], vec![2, 5], vec![3, 5]]);
    let script = Script::good([Write::Replace(name.clone(), table)]);
    story.world.run(&script).unwrap();
    (name, story.world.production())
}

fn orders(of: &Contents, name: &RelationName, rows: &[[i64; 2]]) -> Contents {
    let mut all = of.clone();
    let rows = rows.iter().map(|row| row.to_vec());
    all.insert(name.clone(), Table::new(&["id", "value"], rows));
    all
}

pub fn come_back(make: Make<'_>) {
    let mut story = told(make);
    let (name, bad) = third(&mut story);

    let chosen = ask(2, &name, "id < 3");
    let plan = story.world.session(|s| s.plan(&chosen)).unwrap();
    let again = story.world.session(|s| s.plan(&chosen)).unwrap();
    assert_eq!(plan.id().unwrap(), again.id().unwrap(), "planned twice");
    let change = &plan.impact.rows[&name];
    assert_eq!((change.out, change.back), (2, 3));
    assert_eq!(plan.impact.changes[&name].rows_then, Some(4));
    story.world.session(|s| s.apply(plan, false)).unwrap();
    let mixed = orders(&bad, &name, &[[1, 1], [2, 2], [2, 2], [3, 5]]);
    story.is(&mixed);
    story.proved();
    let (live, map) = story.world.session(|s| s.see_drift()).unwrap();
    let made_here = VersionId {
        release: live,
        drift: 0,
    };
    assert_eq!(map[&name].id, made_here, "a version of its own");
    let head = story.world.ledger.history(|h| h.release(live)).unwrap();
    assert!(matches!(
        head.unwrap().operation,
        Operation::Rollback { rows: Some(_), .. }
    ));

    let same = story.world.back(&chosen, false);
    assert!(
        matches!(same, Err(OperateError::Wish(WishError::SameRows(_)))),
        "{same:?}"
    );
    story.world.back(&Ask::Undo, false).unwrap();
    story.is(&bad);
    story.proved();
    story.world.back(&Ask::Redo, false).unwrap();
    story.is(&mixed);
    story.proved();
    // Rows that are in one version only go, or come.
    story.world.back(&ask(1, &name, "id > 1"), false).unwrap();
    story.is(&orders(&bad, &name, &[[1, 1]]));
    story.proved();
    story.world.back(&ask(2, &name, "id = 2"), false).unwrap();
    story.is(&orders(&bad, &name, &[[1, 1], [2, 2], [2, 2]]));
    story.proved();
}

pub fn only_chosen_by_one_expression(make: Make<'_>) {
    let mut story = told(make);
    let (name, bad) = third(&mut story);
    let table = format!("{}.{}", name.schema, name.name);
    for predicate in [
        "true) OR (true",
        "true] || [false",
        "id = 1; DROP TABLE orders",
        &format!("id = 1); DELETE FROM {table}; SELECT (1 = 1"),
        "true /*",
        "id",
        "id = 1, id = 2",
        "SELECT true",
        &format!("id IN (SELECT id FROM {table})"),
        &format!("EXISTS (SELECT 1 FROM {table})"),
        "random() < 0.5",
        "count(*) > 0",
        "row_number() OVER () = 1",
        "nowhere = 1",
        "",
    ] {
        let planned = story.world.session(|s| s.plan(&ask(1, &name, predicate)));
        assert!(
            matches!(planned, Err(OperateError::Engine(_))),
            "{predicate}: {planned:?}"
        );
    }
    story.is(&bad);
}
