//! Whether the data goes on in time.

use super::super::bounds::{ENOUGH, median};
use super::super::profile::{RelationProfile, Values};
use super::super::{Finding, Outcome, Severity};
use super::{Measured, Past};

pub(super) fn findings(one: &Measured<'_>) -> Vec<Finding> {
    let moments = one
        .now
        .columns
        .iter()
        .filter(|column| moments(one.now, &column.name).is_some());
    let columns: Vec<&str> = moments.map(|column| column.name.as_str()).collect();
    if columns.is_empty() {
        return Vec::new();
    }
    if one.past.len() < ENOUGH {
        return vec![one.too_early("newest")];
    }
    let failed: Vec<Finding> = columns
        .iter()
        .filter_map(|column| newest(one, column).or_else(|| earliest(one, column)))
        .collect();
    match failed.is_empty() {
        true => vec![one.pass("newest", format!("{} columns compared", columns.len()))],
        false => failed,
    }
}

/// The first and the last moment of a column.
fn moments<'p>(profile: &'p RelationProfile, column: &str) -> Option<(&'p str, &'p str)> {
    match &profile.column(column)?.values {
        Some(Values::Moments { first, last }) => Some((first, last)),
        _ => None,
    }
}

/// The same in good releases, the newest first.
fn past<'p>(one: &Measured<'p>, column: &str) -> Vec<(&'p str, &'p str)> {
    let all = one.past.iter();
    all.map_while(|past: &'p Past| moments(&past.profile, column))
        .collect()
}

/// The newest moment went back, or stood still though it went on each time before.
fn newest(one: &Measured<'_>, column: &str) -> Option<Finding> {
    let (_, now) = moments(one.now, column)?;
    let past = past(one, column);
    let (_, before) = past.first()?;
    let never_back = past.windows(2).all(|pair| match pair {
        [newer, older] => newer.1 >= older.1,
        _ => true,
    });
    let fail = |observed: &str, expected: String| {
        let failed = (Outcome::Fail, Severity::Medium);
        let observed = format!("{observed} {now}");
        Some(one.finding("newest", Some(column), failed, observed, expected))
    };
    // Text of one type in one form: its order is that of time.
    if now < *before && now.len() == before.len() && never_back && past.len() >= ENOUGH {
        return fail("the newest is", format!("not before {before}, as it was"));
    }
    let went_on = past.windows(2).all(|pair| match pair {
        [newer, older] => newer.1 > older.1,
        _ => true,
    });
    if now == *before && past.len() >= 3 && went_on && is_due(one) {
        return fail(
            "the newest still is",
            "newer than that: it went on with every earlier release".to_owned(),
        );
    }
    None
}

/// Whether about as much time has passed as between earlier releases. A nightly job that is run
/// again at noon finds nothing new.
fn is_due(one: &Measured<'_>) -> bool {
    let between = |newer: jiff::Timestamp, older| newer.duration_since(older).as_secs_f64();
    let gaps: Vec<f64> = one
        .past
        .windows(2)
        .filter_map(|pair| Some(between(pair.first()?.at, pair.get(1)?.at)))
        .collect();
    match (median(&gaps), one.last()) {
        (Some(usual), Some(last)) => between(one.at, last.at) >= 0.75 * usual,
        _ => false,
    }
}

/// The earliest moment moved, though it stood still while the newest went on: every time was
/// shifted, or the beginning is gone.
fn earliest(one: &Measured<'_>, column: &str) -> Option<Finding> {
    let (now, _) = moments(one.now, column)?;
    let past = past(one, column);
    let (before, last) = past.first()?;
    let (_, oldest) = past.last()?;
    let stood = past.len() >= ENOUGH && past.iter().all(|(first, _)| first == before);
    if !stood || now == *before || last == oldest {
        return None;
    }
    Some(one.finding(
        "earliest",
        Some(column),
        (Outcome::Fail, Severity::Medium),
        format!("the earliest is {now}"),
        format!("{before}, which stood while the newest went on"),
    ))
}
