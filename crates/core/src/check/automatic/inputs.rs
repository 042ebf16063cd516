//! The raw data itself. What is built from it may follow it in everything, and be as wrong: a load
//! that was cut off half-way explains half the revenue.

use super::super::bounds::{ENOUGH, Scale, departure, limits};
use super::super::{Finding, Outcome, Severity, sql};
use super::volume::LOST;
use super::{Comparison, figure, times};
use crate::ident::{RelationName, ReleaseId};
use std::collections::BTreeMap;

/// How many rows an input had in good releases, the newest first.
type Counts = Vec<(ReleaseId, u64)>;

pub(super) fn findings(of: &Comparison<'_>) -> Vec<Finding> {
    let mut inputs: BTreeMap<&RelationName, (u64, Counts)> = BTreeMap::new();
    for (name, now) in of.now {
        let past = of.past.get(name).map_or(&[][..], Vec::as_slice);
        for (input, rows) in &now.inputs {
            let counts: Counts = past
                .iter()
                .filter_map(|past| Some((past.release, *past.profile.inputs.get(input)?)))
                .collect();
            let known = inputs.entry(input).or_insert_with(|| (*rows, Vec::new()));
            if counts.len() > known.1.len() {
                known.1 = counts;
            }
        }
    }
    let built = |name: &RelationName| of.now.contains_key(name);
    let raw = inputs.into_iter().filter(|(name, _)| !built(name));
    raw.filter_map(|(name, (now, past))| look(name, now, &past))
        .collect()
}

fn look(name: &RelationName, now: u64, past: &Counts) -> Option<Finding> {
    let (last, before) = *past.first()?;
    if past.len() < ENOUGH || before == 0 {
        return None;
    }
    let observed = format!("{} rows", figure(now as f64));
    let finding = |outcome, severity, observed, expected| {
        Some(Finding {
            check: "inputs".to_owned(),
            relation: Some(name.clone()),
            column: None,
            outcome,
            severity,
            observed,
            expected,
            examples: None,
            sql: (outcome == Outcome::Fail).then(|| sql::figures(name, None, false)),
        })
    };
    let expected = "about as many rows as before, or as many more as on other nights".to_owned();
    let steps: Vec<f64> = past
        .windows(2)
        .filter_map(|pair| match pair {
            [(_, newer), (_, older)] => {
                departure(*older as f64, *newer as f64, Scale::NONE).map(f64::abs)
            }
            _ => None,
        })
        .collect();
    let never_shrank = past.windows(2).all(|pair| match pair {
        [(_, newer), (_, older)] => newer >= older,
        _ => true,
    });
    // Half a row stands for none: nothing is infinitely less than something.
    let far = departure(before as f64, (now as f64).max(0.5), Scale::NONE)?;
    let by_chance = now.abs_diff(before) as f64 <= 3.0 * (before as f64).sqrt() + 5.0;
    let limits = limits(&steps, 1.0 / (before as f64).sqrt());
    let severity = if far < -limits.gross && !by_chance {
        Severity::High
    } else if (far > limits.gross && !by_chance) || (far < -LOST && never_shrank && past.len() >= 3)
    {
        // More may be a backfill: a person knows.
        Severity::Medium
    } else {
        return finding(Outcome::Pass, Severity::Low, observed, expected);
    };
    let observed = format!(
        "{observed}: {} the {} of {last}",
        times(now as f64 / before as f64),
        figure(before as f64)
    );
    finding(Outcome::Fail, severity, observed, expected)
}
