//! How many rows there are.

use super::super::bounds::{ENOUGH, departure, limits};
use super::super::{Finding, Outcome, Severity};
use super::{Measured, figure, times};

/// A table that never lost rows, over so many good releases, does not lose this part of them.
const NEVER_SHRANK: usize = 3;
pub(super) const LOST: f64 = 0.05;

pub(super) fn findings(one: &Measured<'_>) -> Option<Finding> {
    let now = one.now.rows;
    let Some(last) = one.last() else {
        return Some(one.too_early("rows"));
    };
    let before = last.profile.rows;
    let always_had_rows = one.past.iter().all(|past| past.profile.rows > 0);
    if now == 0 && always_had_rows {
        return Some(one.finding(
            "emptied",
            None,
            (Outcome::Fail, Severity::Critical),
            "no rows".to_owned(),
            format!("{} rows, as in {}", figure(before as f64), last.release),
        ));
    }
    if one.past.len() < ENOUGH {
        return Some(one.too_early("rows"));
    }
    let observed = format!("{} rows", figure(now as f64));
    let scale = one.scale();
    let rows = |profile: &super::RelationProfile| (profile.rows > 0).then_some(profile.rows as f64);
    let Some(far) = departure(before as f64, now as f64, scale) else {
        return Some(one.pass("rows", observed));
    };
    let limits = limits(&one.earlier(rows), one.slack());
    // Of a handful of rows a few more are a large part, and chance.
    let edge = before as f64 * if far > 0.0 { scale.high } else { scale.low };
    let by_chance = (now as f64 - edge).abs() <= 3.0 * edge.sqrt() + 5.0;
    let several = before.saturating_sub(now) > 1;
    let lost = (far < -LOST && several && never_shrank(one)).then_some(Severity::Medium);
    let out = one.severity(far, limits).filter(|_| !by_chance);
    let Some(severity) = out.or(lost) else {
        return Some(one.pass("rows", observed));
    };
    let ratio = now as f64 / before as f64;
    Some(one.finding(
        "rows",
        None,
        (Outcome::Fail, severity),
        format!(
            "{observed}: {} the {} of {}",
            times(ratio),
            figure(before as f64),
            last.release
        ),
        one.because(scale),
    ))
}

fn never_shrank(one: &Measured<'_>) -> bool {
    one.past.len() >= NEVER_SHRANK
        && one.past.windows(2).all(|pair| match pair {
            [newer, older] => newer.profile.rows >= older.profile.rows,
            _ => true,
        })
}
