//! How long a relation takes to build.
//!
//! Half as long again is noticed from a minute on, and only where the time before was steady: a
//! model that takes two seconds takes three when its neighbour is busy, and nobody should be called
//! for that. Growth that the inputs explain is no slowness of the model. It becomes critical, as
//! the decision matrix has it, only when it lasts: this release and the one before.

use super::super::bounds::median;
use super::super::{Finding, Outcome, Severity};
use super::Measured;

/// Half as long again.
const SLOWER: f64 = 1.5;

/// So many seconds more are worth a word.
const NOTICED: f64 = 10.0;

/// So many seconds more can keep a night's run from ending in time.
const MATTERS: f64 = 60.0;

/// How many earlier releases there must be.
const ENOUGH: usize = 3;

pub(super) fn findings(one: &Measured<'_>) -> Option<Finding> {
    let now = one.now.seconds?;
    let past: Vec<f64> = one
        .past
        .iter()
        .map_while(|past| past.profile.seconds)
        .collect();
    if past.len() < ENOUGH {
        return None;
    }
    let usual = median(&past)?;
    let explained = one.scale().high;
    let slow = |seconds: f64, than: f64| seconds > SLOWER * than * explained;
    let observed = format!("built in {now:.1} s");
    if !slow(now, usual) || now - usual < NOTICED {
        return Some(one.pass("speed", observed));
    }
    let (last, older) = past.split_first()?;
    let lasts = median(older).is_some_and(|before| slow(*last, before) && slow(now, before));
    let severity = match (lasts, now - usual >= MATTERS) {
        (true, true) => Severity::Critical,
        (false, true) => Severity::Medium,
        (_, false) => Severity::Low,
    };
    Some(one.finding(
        "speed",
        None,
        (Outcome::Fail, severity),
        observed,
        format!("about {usual:.1} s, as in the last good releases"),
    ))
}
