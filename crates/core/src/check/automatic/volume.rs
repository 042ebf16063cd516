//! How many rows there are.

use super::super::bounds::{ENOUGH, departure, limits};
use super::super::{Finding, Outcome, Severity};
use super::{LONG, Measured, figure, same_things_more_often, times};

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
    let severity = match severity == Severity::High && is_ruined(one, far, &one.earlier(rows)) {
        true => Severity::Critical,
        false => severity,
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

/// Whether rows were lost, or multiplied, so that the relation is of no use: nearly half of them are
/// gone where none ever were, or there are nearly twice as many of the same things. A table to which
/// each night adds the same things once more looks like that at first, so that the latter takes a
/// long history; where a key is declared, its check says it at once.
fn is_ruined(one: &Measured<'_>, far: f64, earlier: &[f64]) -> bool {
    let Some(last) = one.last().filter(|_| one.traced && !one.keeps_history) else {
        return false;
    };
    let multiplied = || one.past.len() >= LONG && same_things_more_often(&last.profile, one.now);
    far.abs() > one.ruin()
        && one.steady(earlier)
        && if far < 0.0 {
            never_shrank(one)
        } else {
            multiplied()
        }
}

fn never_shrank(one: &Measured<'_>) -> bool {
    one.past.len() >= NEVER_SHRANK
        && one.past.windows(2).all(|pair| match pair {
            [newer, older] => newer.profile.rows >= older.profile.rows,
            _ => true,
        })
}
