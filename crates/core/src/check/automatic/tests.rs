//! Histories of a table, and what is found in the next release of it.

use super::super::profile::{ColumnProfile, Values};
use super::*;
use crate::pipeline::dbt::manifest::Manifest;
use proptest::prelude::*;

fn name() -> RelationName {
    RelationName::new("shop", "marts", "orders")
}

fn raw() -> RelationName {
    RelationName::new("shop", "raw", "orders")
}

/// A table of orders that a day's worth of raw rows made.
fn orders(rows: u64, revenue: f64, inputs: u64) -> RelationProfile {
    let column = |name: &str, nulls, distinct, values| ColumnProfile {
        name: name.to_owned(),
        data_type: String::new(),
        nullable: true,
        nulls,
        distinct: Some(distinct),
        values,
    };
    RelationProfile {
        rows,
        columns: vec![
            column(
                "order_id",
                0,
                rows,
                Some(Values::Numbers {
                    min: 1.0,
                    max: rows as f64 * 1000.0,
                    sum: rows as f64 * rows as f64,
                    mean: rows as f64,
                    whole: true,
                }),
            ),
            column(
                "revenue",
                0,
                rows / 3,
                Some(Values::Numbers {
                    min: 0.0,
                    max: 90.0,
                    sum: revenue,
                    mean: revenue / rows as f64,
                    whole: false,
                }),
            ),
            column(
                "day",
                0,
                1 + inputs / 100,
                Some(Values::Moments {
                    first: "2026-01-01".to_owned(),
                    last: format!("2026-{:02}-01", 1 + (inputs / 1000).min(11)),
                }),
            ),
        ],
        inputs: [(raw(), inputs)].into(),
        ..RelationProfile::default()
    }
}

fn past(profiles: Vec<RelationProfile>) -> Vec<Past> {
    let count = profiles.len();
    let nights = profiles.into_iter().enumerate();
    let mut all: Vec<Past> = nights
        .map(|(i, profile)| Past {
            release: ReleaseId(i as u64 + 1),
            at: Timestamp::from_second(86_400 * i as i64).unwrap(),
            profile,
        })
        .collect();
    assert_eq!(all.len(), count);
    all.reverse();
    all
}

fn found(history: Vec<RelationProfile>, now: RelationProfile) -> Vec<Finding> {
    let at = Timestamp::from_second(86_400 * history.len() as i64).unwrap();
    let (changes, before, built) = Default::default();
    findings(&Comparison {
        now: &[(name(), now)].into(),
        past: &[(name(), past(history))].into(),
        at,
        changes: &changes,
        before: &before,
        built: &built,
        lineage: Some(&Lineage::new(manifest())),
        lineage_before: None,
    })
}

/// That of a project with lineage is enough here: what a table is made from is in its profile.
fn manifest() -> Manifest {
    let text = r#"{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"}}"#;
    Manifest::parse(text.as_bytes()).unwrap()
}

fn failed(found: &[Finding]) -> Vec<(&str, Severity)> {
    let failed = found.iter().filter(|f| f.outcome == Outcome::Fail);
    failed.map(|f| (f.check.as_str(), f.severity)).collect()
}

/// `days` releases of a shop that grows by a hundred orders a night.
fn nightly(days: u64) -> Vec<RelationProfile> {
    (1..=days)
        .map(|day| {
            let rows = 2000 + 100 * day;
            orders(rows, rows as f64 * 20.0, rows)
        })
        .collect()
}

#[test]
fn a_join_that_doubles_the_revenue_is_found_with_two_earlier_releases() {
    let found = found(nightly(2), orders(2300, 2300.0 * 40.0, 2300));
    assert_eq!(failed(&found), [("sum", Severity::Critical)]);
    let sum = found.iter().find(|f| f.check == "sum").unwrap();
    assert_eq!(sum.observed, "a sum of 92,000: 2.1 times the 44,000 of R2");
    assert_eq!(
        sum.expected,
        "what it is made from grew by at most +4.5 %; its own rows do not explain it either"
    );
}

/// What takes a release back at once has to be beyond doubt.
#[test]
fn a_sum_is_corrupt_only_where_nothing_else_can_be_meant() {
    let worst = |history: Vec<RelationProfile>, now: RelationProfile| {
        let found = found(history, now);
        let sums = found
            .iter()
            .filter(|f| f.check == "sum" && f.outcome == Outcome::Fail);
        sums.map(|f| f.severity).max()
    };
    let now = |times: f64| orders(2300, 2300.0 * 20.0 * times, 2300);
    assert_eq!(worst(nightly(2), now(2.0)), Some(Severity::Critical));
    assert_eq!(worst(nightly(2), now(0.5)), Some(Severity::Critical));
    assert_eq!(worst(nightly(2), now(1.6)), Some(Severity::High));
    assert_eq!(worst(nightly(2), now(1.2)), None);

    // Twice the rows are another matter: a filter that was dropped, or a week that was loaded late.
    let rows = orders(4600, 4600.0 * 20.0, 2300);
    assert_eq!(worst(nightly(2), rows), Some(Severity::High));

    // It never stood still.
    let mut swings = nightly(2);
    swings[0] = orders(2100, 2100.0 * 28.0, 2100);
    assert_eq!(worst(swings, now(2.0)), Some(Severity::High));

    // Three orders say nothing of an average.
    let few = |n: u64, each: f64| orders(n, n as f64 * each, 2300);
    assert_ne!(
        worst(vec![few(3, 20.0), few(3, 20.0)], few(3, 40.0)),
        Some(Severity::Critical)
    );

    // A code of three values, numbered anew.
    let coded = |mut profile: RelationProfile| {
        profile.columns[1].distinct = Some(3);
        if let Some(Values::Numbers { whole, .. }) = &mut profile.columns[1].values {
            *whole = true;
        }
        profile
    };
    let history = nightly(2).into_iter().map(coded).collect();
    assert_eq!(worst(history, coded(now(2.0))), Some(Severity::High));
}

#[test]
fn rows_that_are_lost_are_worse_than_rows_that_came() {
    let rows = |history: Vec<RelationProfile>, now: RelationProfile| {
        let found = found(history, now);
        failed(&found)
            .into_iter()
            .find(|f| f.0 == "rows")
            .map(|f| f.1)
    };
    let half = || orders(1200, 1200.0 * 20.0, 2500);
    assert_eq!(rows(nightly(4), half()), Some(Severity::Critical));
    assert_eq!(rows(nightly(2), half()), Some(Severity::High), "too early");
    let mut shrank = nightly(4);
    shrank.swap(0, 1);
    assert_eq!(rows(shrank, half()), Some(Severity::High), "it may");

    let mut twice = orders(5000, 5000.0 * 20.0, 2500);
    twice.columns[0].distinct = Some(2500);
    assert_eq!(rows(nightly(4), twice.clone()), Some(Severity::High));
    assert_eq!(rows(nightly(6), twice), Some(Severity::Critical));
    let more = orders(5600, 5600.0 * 20.0, 2700);
    assert_eq!(rows(nightly(6), more), Some(Severity::High), "more things");
}

#[test]
fn what_nothing_is_known_of_is_told_and_holds_nothing_until_its_ways_are_known() {
    let doubled = |days| {
        let mut history = nightly(days);
        let mut now = orders(2700, 2700.0 * 60.0, 2700);
        let all = history.iter_mut().chain([&mut now]);
        all.for_each(|profile| profile.inputs.clear());
        let found = found(history, now);
        found.iter().find(|f| f.check == "sum").map(|f| f.severity)
    };
    assert_eq!(doubled(2), Some(Severity::Medium));
    assert_eq!(doubled(6), Some(Severity::High));
}

#[test]
fn rows_that_fan_out_are_found() {
    let found = found(nightly(5), orders(5000, 5000.0 * 20.0, 2600));
    assert!(
        failed(&found).contains(&("rows", Severity::High)),
        "{found:?}"
    );
}

#[test]
fn growth_that_the_raw_data_explains_is_no_news() {
    let backfilled = orders(9000, 9000.0 * 20.0, 9000);
    let found = found(nightly(5), backfilled);
    // It is for a person to say whether the raw data may grow so much.
    assert_eq!(failed(&found), [("inputs", Severity::Medium)]);
}

#[test]
fn a_load_that_was_cut_off_explains_the_rest_and_is_found_itself() {
    let found = found(nightly(5), orders(1400, 1400.0 * 20.0, 1400));
    assert!(
        failed(&found).contains(&("inputs", Severity::High)),
        "{found:?}"
    );
}

/// A night in which somebody joins another table, so that nearly every row stands twice, each with a
/// key of its own; and one in which a second shop's orders come in.
#[test]
fn a_new_input_does_not_explain_that_the_same_things_are_there_twice() {
    let keyed = |rows: u64, ids: u64, joined: bool| {
        let inputs = if joined { 2300 } else { rows };
        let mut profile = orders(rows, rows as f64 * 20.0, inputs);
        profile.columns[0].distinct = Some(ids);
        let made_up = ColumnProfile {
            name: "made_up".to_owned(),
            distinct: Some(rows),
            ..profile.columns[0].clone()
        };
        profile.columns.push(made_up);
        if joined {
            let other = RelationName::new("shop", "raw", "payments");
            profile.inputs.insert(other, 9000);
        }
        profile
    };
    let history = || [2100, 2200].map(|n| keyed(n, n, false)).into();
    let twice = found(history(), keyed(4600, 2300, true));
    assert!(
        failed(&twice).contains(&("rows", Severity::High)),
        "{twice:?}"
    );
    let more = found(history(), keyed(4600, 4600, true));
    assert!(!failed(&more).iter().any(|f| f.0 == "rows"), "{more:?}");
}

#[test]
fn before_there_is_enough_history_nothing_passes() {
    for history in [nightly(0), nightly(1)] {
        let found = found(history, orders(4200, 99.0, 2200));
        let compared = found.iter().filter(|f| f.outcome == Outcome::Pass);
        assert_eq!(compared.count(), 0, "{found:?}");
        assert!(found.iter().any(|f| f.outcome == Outcome::Unknown));
    }
}

#[test]
fn an_emptied_table_needs_no_statistics() {
    let found = found(nightly(1), orders(0, 0.0, 2200));
    assert_eq!(failed(&found), [("emptied", Severity::Critical)]);
}

#[test]
fn a_part_of_the_rows_that_is_missing_is_found_where_none_ever_was() {
    let found = found(nightly(6), orders(2450, 2450.0 * 20.0, 2700));
    assert_eq!(failed(&found), [("rows", Severity::Medium)]);
}

#[test]
fn values_that_are_gone_are_found() {
    let mut now = orders(2700, 2700.0 * 20.0, 2700);
    now.columns[1].nulls = 900;
    assert_eq!(failed(&found(nightly(6), now)), [("nulls", Severity::High)]);
}

#[test]
fn a_shift_of_all_times_is_found_by_the_first_one() {
    let mut now = orders(2700, 2700.0 * 20.0, 2700);
    now.columns[2].values = Some(Values::Moments {
        first: "2025-12-31".to_owned(),
        last: "2026-03-01".to_owned(),
    });
    let history: Vec<_> = [1000, 2000, 2600]
        .map(|n| orders(n, n as f64 * 20.0, n))
        .into();
    assert_eq!(
        failed(&found(history, now)),
        [("earliest", Severity::Medium)]
    );
}

#[test]
fn a_table_that_always_swings_may_swing() {
    let swings = [1000, 2100, 950, 2000, 1050, 2050];
    let history = swings
        .map(|rows| orders(rows, rows as f64 * 20.0, 50_000))
        .into();
    let now = orders(1000, 1000.0 * 20.0, 50_000);
    let found = found(history, now);
    let rows = failed(&found)
        .into_iter()
        .filter(|(check, _)| *check == "rows");
    assert_eq!(rows.count(), 0, "{found:?}");
}

#[test]
fn a_slow_model_is_found_when_it_matters() {
    let timed = |rows: u64, seconds| RelationProfile {
        seconds: Some(seconds),
        ..orders(rows, rows as f64 * 20.0, rows)
    };
    let history = |seconds: [f64; 4]| -> Vec<_> {
        let rows = [2100, 2200, 2300, 2400];
        rows.into_iter()
            .zip(seconds)
            .map(|(r, s)| timed(r, s))
            .collect()
    };
    let speed = |seconds, now| {
        let found = found(history(seconds), timed(2500, now));
        failed(&found).first().map(|(_, severity)| *severity)
    };
    assert_eq!(speed([2.0; 4], 3.5), None, "a second more is nothing");
    assert_eq!(speed([100.0; 4], 120.0), None, "a fifth more is nothing");
    assert_eq!(speed([20.0; 4], 40.0), Some(Severity::Low));
    assert_eq!(speed([100.0; 4], 300.0), Some(Severity::Medium));
    let twice = [100.0, 100.0, 100.0, 300.0];
    assert_eq!(speed(twice, 300.0), Some(Severity::Critical), "it lasts");
}

proptest! {
    /// Whatever the night brings, up to eight times of it: a table that follows its inputs is good.
    #[test]
    fn a_table_that_follows_its_inputs_never_fails(
        grows in proptest::collection::vec(1.0_f64..8.0, 3..12)
    ) {
        let mut rows = 500.0;
        let mut all: Vec<RelationProfile> = grows.iter().map(|ratio| {
            rows *= ratio;
            let n = rows as u64;
            let mut profile = orders(n, n as f64 * 20.0, n);
            // A night without new rows is one in which the newest row is no newer.
            profile.columns.retain(|column| column.name != "day");
            profile
        }).collect();
        let now = all.pop().unwrap();
        let found = found(all, now);
        // That the raw data itself grew so much is another matter.
        let failed: Vec<_> = failed(&found).into_iter().filter(|f| f.0 != "inputs").collect();
        prop_assert_eq!(failed, vec![]);
    }

    /// Odd figures are no obstacle, and nothing fails by statistics while it is unknown what is
    /// usual.
    #[test]
    fn no_profile_makes_it_panic(
        rows in proptest::collection::vec(0_u64..10_000, 0..6), sum in -1e12_f64..1e12, now in 0_u64..10_000
    ) {
        let history = rows.iter().map(|n| orders(*n, sum, n / 2)).collect();
        let found = found(history, orders(now, -sum, now / 3));
        let early = rows.len() < 2;
        let statistics = failed(&found).iter().any(|(check, _)| *check != "emptied");
        prop_assert!(!early || !statistics);
    }
}
