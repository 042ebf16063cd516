//! What is in the columns: `NULL`s, different values, ranges, means and sums.

use super::super::bounds::{ENOUGH, Scale, departure, limits};
use super::super::profile::{ColumnProfile, RelationProfile, Values};
use super::super::{Finding, Outcome, Severity};
use super::{Measured, figure, times};

/// A column that lost this part of its values lost data.
const LOST_VALUES: f64 = 0.2;

/// A column of whole numbers with fewer different values may be a code, whose sum means little.
const A_CODE: u64 = 32;

pub(super) fn findings(one: &Measured<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    for (check, look) in CHECKS {
        let mut compared = 0;
        let mut failed = Vec::new();
        for column in &one.now.columns {
            let column = Column { one, now: column };
            if let Some(found) = look(&column) {
                compared += 1;
                failed.extend(found);
            }
        }
        if failed.is_empty() {
            all.extend(match (compared, one.past.len() < ENOUGH) {
                (0, true) => Some(one.too_early(check)),
                (0, false) => None,
                (n, _) => Some(one.pass(check, format!("{n} columns compared"))),
            });
        }
        all.extend(failed);
    }
    // A sum that is out of bounds says all that its mean could.
    let sums: Vec<Option<String>> = all
        .iter()
        .filter(|f| f.check == "sum" && f.outcome == Outcome::Fail)
        .map(|f| f.column.clone())
        .collect();
    all.retain(|f| f.check != "mean" || f.column.is_none() || !sums.contains(&f.column));
    all
}

/// `None` if there is nothing to compare; otherwise what is wrong, if anything is.
type Look = fn(&Column<'_>) -> Option<Option<Finding>>;

const CHECKS: [(&str, Look); 5] = [
    ("nulls", nulls),
    ("distinct", distinct),
    ("range", range),
    ("sum", sum),
    ("mean", mean),
];

struct Column<'a> {
    one: &'a Measured<'a>,
    now: &'a ColumnProfile,
}

impl Column<'_> {
    fn in_past<'p>(&self, profile: &'p RelationProfile) -> Option<&'p ColumnProfile> {
        let column = profile.column(&self.now.name)?;
        (profile.rows > 0).then_some(column)
    }

    /// How the column was in good releases, the newest first; `None` where too few have it.
    fn past(&self) -> Option<Vec<(&RelationProfile, &ColumnProfile)>> {
        let known = self.one.known(|profile| self.in_past(profile).map(drop));
        let past: Vec<_> = self
            .one
            .past
            .iter()
            .take(known)
            .filter_map(|past| Some((&past.profile, self.in_past(&past.profile)?)))
            .collect();
        (past.len() >= ENOUGH && self.one.now.rows > 0).then_some(past)
    }

    /// The same of its numbers; not of those that identify something.
    fn numbers(&self) -> Option<(Numbers, Vec<Numbers>)> {
        let now = Numbers::of(self.now)?;
        if now.whole && self.one.is_key(&self.now.name) {
            return None;
        }
        let past: Vec<Numbers> = self
            .past()?
            .into_iter()
            .map_while(|(_, column)| Numbers::of(column))
            .collect();
        (past.len() >= ENOUGH).then_some((now, past))
    }

    fn fail(&self, check: &str, severity: Severity, observed: String, expected: String) -> Finding {
        let failed = (Outcome::Fail, severity);
        self.one
            .finding(check, Some(&self.now.name), failed, observed, expected)
    }

    fn of_last(&self) -> String {
        let last = self.one.last();
        last.map_or_else(String::new, |past| format!(" of {}", past.release))
    }
}

#[derive(Clone, Copy)]
struct Numbers {
    min: f64,
    max: f64,
    mean: f64,
    sum: f64,
    whole: bool,
}

impl Numbers {
    fn of(column: &ColumnProfile) -> Option<Self> {
        match column.values {
            Some(Values::Numbers {
                min,
                max,
                mean,
                sum,
                whole,
            }) => Some(Self {
                min,
                max,
                mean,
                sum,
                whole,
            }),
            _ => None,
        }
    }
}

fn nulls(column: &Column<'_>) -> Option<Option<Finding>> {
    let share =
        |profile: &RelationProfile, of: &ColumnProfile| of.nulls as f64 / profile.rows as f64;
    let past: Vec<f64> = column
        .past()?
        .into_iter()
        .map(|(profile, of)| share(profile, of))
        .collect();
    let now = share(column.one.now, column.now);
    let usual = super::super::bounds::median(&past)?;
    let highest = past.iter().copied().fold(0.0, f64::max);
    let steps: Vec<f64> = past
        .windows(2)
        .filter_map(|pair| Some((pair.first()? - pair.get(1)?).abs()))
        .collect();
    let largest = steps.iter().copied().fold(0.0, f64::max);
    let floor = if past.len() >= 5 { 0.02 } else { 0.05 };
    let spread = super::super::bounds::deviation(&past).unwrap_or(0.0);
    let odd = f64::max(floor, 4.0 * spread).max(1.2 * largest) + 0.5 * column.one.slack();
    let more = now - highest.max(usual);
    // Where there never was one, a few are news: a key that fails to join.
    let first_ones = highest == 0.0 && past.len() >= 3 && now > 0.005 && column.now.nulls > 10;
    let key = column.one.is_key(&column.now.name) && highest == 0.0 && now > 0.005;
    if more <= odd && !first_ones && !key {
        return Some(None);
    }
    let severity = match more > LOST_VALUES || (key && more > odd) {
        true => Severity::High,
        false => Severity::Medium,
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    Some(Some(column.fail(
        "nulls",
        severity,
        format!("{} of the cells are NULL", percent(now)),
        format!("{}, at most {} before", percent(usual), percent(highest)),
    )))
}

fn distinct(column: &Column<'_>) -> Option<Option<Finding>> {
    let of = |profile: &RelationProfile| {
        let distinct = column.in_past(profile)?.distinct?;
        (distinct > 0).then_some(distinct as f64)
    };
    let now = column.now.distinct? as f64;
    if column.one.known(of) < ENOUGH || column.one.now.rows == 0 {
        return None;
    }
    let before = of(&column.one.last()?.profile)?;
    let scale = with_own_rows(column.one);
    // Both are estimates.
    let mut limits = limits(&column.one.earlier(of), column.one.slack());
    limits.odd = limits.odd.max(0.5);
    let far = departure(before, now.max(0.5), scale)?;
    if far.abs() <= limits.odd || (now - before).abs() < 3.0 {
        return Some(None);
    }
    Some(Some(column.fail(
        "distinct",
        Severity::Medium,
        format!(
            "about {} different values: {} the {}{}",
            figure(now),
            times(now / before),
            figure(before),
            column.of_last()
        ),
        column.one.because(scale),
    )))
}

/// What the inputs explain, and the relation's own rows.
fn with_own_rows(one: &Measured<'_>) -> Scale {
    let before = one.last().map_or(0, |past| past.profile.rows);
    one.scale().with(one.now.rows as f64 / before.max(1) as f64)
}

fn range(column: &Column<'_>) -> Option<Option<Finding>> {
    let (now, past) = column.numbers()?;
    let low = past.iter().map(|n| n.min).fold(f64::INFINITY, f64::min);
    let high = past.iter().map(|n| n.max).fold(f64::NEG_INFINITY, f64::max);
    let was = format!("{} to {}", figure(low), figure(high));
    let is = format!("{} to {}", figure(now.min), figure(now.max));
    if low >= 0.0 && now.min < 0.0 {
        let severity = if past.len() >= 3 {
            Severity::Medium
        } else {
            Severity::Low
        };
        let expected = format!("nothing below zero, as before ({was})");
        return Some(Some(column.fail("range", severity, is, expected)));
    }
    let width = (high - low).max(high.abs()).max(f64::MIN_POSITIVE);
    let scale = with_own_rows(column.one).high;
    let far = now.max > high + 3.0 * width * scale || now.min < low - 3.0 * width * scale;
    Some(far.then(|| column.fail("range", Severity::Low, is, format!("{was}, as before"))))
}

fn mean(column: &Column<'_>) -> Option<Option<Finding>> {
    let (now, past) = column.numbers()?;
    Some(drift(
        column,
        "mean",
        now.mean,
        &past.iter().map(|n| n.mean).collect::<Vec<_>>(),
        column.one.scale(),
        |n| n.mean,
    ))
}

fn sum(column: &Column<'_>) -> Option<Option<Finding>> {
    let (now, past) = column.numbers()?;
    Some(drift(
        column,
        "sum",
        now.sum,
        &past.iter().map(|n| n.sum).collect::<Vec<_>>(),
        column.one.scale(),
        |n| n.sum,
    ))
}

/// A mean or a sum that changed more than the inputs explain. Only where it always had one sign:
/// what is now above and now below zero has no ratio.
fn drift(
    column: &Column<'_>,
    check: &str,
    now: f64,
    past: &[f64],
    scale: Scale,
    of: impl Fn(Numbers) -> f64,
) -> Option<Finding> {
    let before = *past.first()?;
    let one_sign = past.iter().all(|v| *v > 0.0) || past.iter().all(|v| *v < 0.0);
    if !one_sign {
        return None;
    }
    let word = if check == "sum" { "a sum" } else { "a mean" };
    if now * before <= 0.0 {
        return Some(column.fail(
            check,
            Severity::High,
            format!("{word} of {}", figure(now)),
            format!(
                "{}, as in{}",
                figure(before),
                column.of_last().replace(" of", "")
            ),
        ));
    }
    let value = |profile: &RelationProfile| {
        let numbers = Numbers::of(column.in_past(profile)?)?;
        Some(of(numbers))
    };
    let limits = limits(&column.one.earlier(value), column.one.slack());
    let far = departure(before.abs(), now.abs(), scale)?;
    let severity = column.one.severity(far, limits)?;
    let corrupt = check == "sum" && severity == Severity::High && is_corrupt(column, now, before);
    let (severity, because) = match corrupt {
        true => (
            Severity::Critical,
            format!(
                "{}; its own rows do not explain it either",
                column.one.because(scale)
            ),
        ),
        false => (severity, column.one.because(scale)),
    };
    Some(column.fail(
        check,
        severity,
        format!(
            "{word} of {}: {} the {}{}",
            figure(now),
            times(now / before),
            figure(before),
            column.of_last()
        ),
        because,
    ))
}

/// Whether a sum is so far off that the values themselves must be wrong: nearly doubled or halved
/// beyond what the inputs and the relation's own rows explain, where it was steady so far. That is
/// a join that fans out below an aggregate, or another unit; no night does it.
fn is_corrupt(column: &Column<'_>, now: f64, before: f64) -> bool {
    let of = |profile: &RelationProfile| Some(Numbers::of(column.in_past(profile)?)?.sum);
    let a_code = Numbers::of(column.now).is_some_and(|n| n.whole)
        && column.now.distinct.is_none_or(|d| d < A_CODE);
    let scale = with_own_rows(column.one);
    let far = departure(before.abs(), now.abs(), scale);
    !a_code
        && column.one.traced
        && column.one.steady(&column.one.earlier(of))
        && far.is_some_and(|far| far.abs() > column.one.ruin())
}
