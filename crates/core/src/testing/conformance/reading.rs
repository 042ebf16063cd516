//! What checks read: measures and queries, of production, of a build, and of what is retained.

use super::{Make, Story, told, value};
use crate::check::{Answer, Detail, RelationProfile, Values};
use crate::engine::{EngineError, Place};
use crate::ident::{RelationName, ReleaseId};
use crate::testing::Table;
use crate::value::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const NEXT: ReleaseId = ReleaseId(3);

/// The same, with a build under way in which `orders` is one row of value 7.
fn building(make: Make<'_>) -> Story {
    let mut story = told(make);
    let orders = story.name(0, "orders");
    let build = story.world.session(|s| {
        s.engine.freeze().unwrap();
        let begun = s
            .engine
            .begin_build(NEXT, ReleaseId(2), true, &|_, _, _| {});
        begun.unwrap()
    });
    let harness = &story.world.harness;
    harness.job_writes(&build, &value(orders, 7)).unwrap();
    story
}

fn measure(story: &mut Story, place: Place, name: &RelationName) -> RelationProfile {
    let asked = BTreeMap::from([
        (name.clone(), Detail::Columns),
        (story.name(0, "nowhere"), Detail::Columns),
    ]);
    let found = story
        .world
        .session(|s| s.engine.profile(place, &asked, &|_, _, _| {}));
    let mut found = found.unwrap();
    assert_eq!(found.len(), 1, "what is not there is left out: {found:?}");
    found.remove(name).unwrap()
}

fn same(profile: &RelationProfile, table: &Table) {
    assert_eq!(profile.rows, table.rows.len() as u64);
    let names: Vec<_> = profile.columns.iter().map(|c| &c.name).collect();
    assert_eq!(names, table.columns.iter().collect::<Vec<_>>());
    for (i, column) in profile.columns.iter().enumerate() {
        let cells: Vec<i64> = table.rows.iter().map(|row| row[i]).collect();
        let Some(Values::Numbers { min, max, sum, .. }) = column.values else {
            panic!("{column:?}");
        };
        let (least, most) = (cells.iter().min().unwrap(), cells.iter().max().unwrap());
        let all = cells.iter().sum::<i64>();
        assert_eq!((min, max, sum), (*least as f64, *most as f64, all as f64));
        assert_eq!(column.nulls, 0);
    }
}

pub(super) fn measured(make: Make<'_>) {
    let mut story = building(make);
    let [_, r1, r2] = story.at.clone();
    let (orders, customers) = (story.name(0, "orders"), story.name(1, "customers"));
    let live = measure(&mut story, Place::Live, &orders);
    same(&live, r2.get(&orders).unwrap());
    let retained = measure(&mut story, Place::Point(ReleaseId(1)), &orders);
    same(&retained, r1.get(&orders).unwrap());
    let built = measure(&mut story, Place::Build(NEXT), &orders);
    same(&built, &Table::new(&["id", "value"], [vec![1, 7]]));
    // What the job did not build is in its build as it is in production.
    let other = measure(&mut story, Place::Build(NEXT), &customers);
    same(&other, r2.get(&customers).unwrap());
    let rows = BTreeMap::from([(orders.clone(), Detail::Rows)]);
    let counted = story
        .world
        .session(|s| s.engine.profile(Place::Live, &rows, &|_, _, _| {}))
        .unwrap();
    assert_eq!(counted[&orders].rows, live.rows);
    assert!(counted[&orders].columns.is_empty());
    story.is(&r2);
}

fn ask(story: &mut Story, place: Place, sql: &str) -> Result<Answer, EngineError> {
    story
        .world
        .session(|s| s.engine.query(place, sql, 2, Duration::from_secs(60)))
}

pub(super) fn queried(make: Make<'_>) {
    let mut story = building(make);
    let [_, r1, r2] = story.at.clone();
    let orders = story.name(0, "orders");
    let total = |table: &Table| -> i64 { table.rows.iter().map(|row| row[1]).sum() };
    for (place, expected) in [
        (Place::Live, total(r2.get(&orders).unwrap())),
        (Place::Point(ReleaseId(1)), total(r1.get(&orders).unwrap())),
        (Place::Build(NEXT), 7),
    ] {
        let at = story
            .world
            .session(|s| s.engine.address(place, &orders))
            .unwrap();
        for from in [at.as_str(), "orders"] {
            let sql = format!("SELECT CAST(sum(value) AS BIGINT) AS total FROM {from};");
            let answer = ask(&mut story, place, &sql).unwrap();
            assert_eq!(answer.columns, ["total"], "{place:?}");
            assert_eq!(
                answer.rows,
                [[Value::Int(expected.into())]],
                "{place:?} {from}"
            );
        }
    }
    let at = story
        .world
        .session(|s| s.engine.address(Place::Live, &orders))
        .unwrap();
    let many = ask(&mut story, Place::Live, &format!("SELECT id FROM {at}")).unwrap();
    assert_eq!(
        (many.rows.len(), many.truncated),
        (2, true),
        "three rows, and two asked for"
    );
    for writes in [
        format!("DELETE FROM {at}"),
        format!("SELECT 1; DELETE FROM {at}"),
        format!("SELECT 1) AS x; COMMIT; DELETE FROM {at}; SELECT * FROM (SELECT 1"),
        "SELECT nowhere".to_owned(),
    ] {
        let refused = ask(&mut story, Place::Live, &writes);
        assert!(refused.is_err(), "{writes}: {refused:?}");
    }
    story.is(&r2);
    let still = ask(&mut story, Place::Live, &format!("SELECT id FROM {at}"));
    assert!(
        still.is_ok(),
        "a refused query is no obstacle to the next: {still:?}"
    );
}
