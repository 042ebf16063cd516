//! Checks that a project writes down, as far as the warehouse answers them.

use super::bounds::{ENOUGH, median};
use super::{Answer, Examples, Finding, Outcome, Severity};
use crate::engine::{Engine, EngineError, ErrorKind, Place};
use crate::ident::RelationName;
use crate::operate::Checks;
use crate::operate::{count, unknown};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// As many rows as somebody who waits for an answer looks at.
const LOOKED_AT: u64 = 10_000;

/// A slow answer is asked for so many times more: the machine may have been busy.
const AGAIN: usize = 2;

/// Nobody notices less than this.
const NOTICED: Duration = Duration::from_millis(100);

/// A check that somebody wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its name, which is its id.
    pub name: String,
    /// How bad it is if it fails.
    pub severity: Severity,
    /// What it asks.
    pub ask: Ask,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Two figures that must be equal, or nearly so.
    Reconcile {
        /// A query of one figure.
        left: String,
        /// A query of the other.
        right: String,
        /// Who answers the latter, where it is not the same warehouse.
        elsewhere: Option<Elsewhere>,
        /// How much they may differ.
        tolerance: Tolerance,
    },
    /// A query that gives the rows that are wrong.
    Acceptance {
        /// The query.
        sql: String,
    },
    /// A query that somebody waits for.
    Sample {
        /// The query.
        sql: String,
        /// How long it may take.
        ceiling: Option<Duration>,
        /// How many times as long it may take as in the median of earlier good releases.
        regression: Option<f64>,
    },
    /// The number of models that the project has.
    Models {
        /// At least so many.
        least: usize,
    },
}

/// What another environment answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What was asked, in words: `R5 of staging`.
    pub by: String,
    /// The answer.
    pub answer: Answer,
}

/// Asks another warehouse a query.
type Question = dyn Fn(&str) -> Result<Told, EngineError> + Send + Sync;

/// Another warehouse that can be asked, by the name of its environment. It is not asked before a
/// check needs it.
#[derive(Clone)]
pub struct Elsewhere {
    name: String,
    question: Arc<Question>,
}

impl Elsewhere {
    /// An environment, and how it is asked.
    pub fn new(
        name: impl Into<String>,
        question: impl Fn(&str) -> Result<Told, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            question: Arc::new(question),
        }
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Elsewhere").field(&self.name).finish()
    }
}

impl PartialEq for Elsewhere {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What is known of a release without asking the warehouse.
pub(crate) struct Known {
    /// The relations that it holds.
    pub names: BTreeSet<RelationName>,
    /// How many models its project has, where it has a manifest.
    pub models: Option<usize>,
    /// How long each sample query took in earlier good releases, by the check's name.
    pub took: BTreeMap<String, Vec<Duration>>,
}

/// What came of a check.
pub(crate) struct Came {
    /// The finding.
    pub finding: Finding,
    /// How long a sample query took, which later releases are compared with.
    pub took: Option<Duration>,
}

impl From<Finding> for Came {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            took: None,
        }
    }
}

/// How much two figures may differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// By this much.
    pub absolute: f64,
    /// Or by this part of the larger of the two.
    pub relative: f64,
}

impl Tolerance {
    fn allows(self, left: f64, right: f64) -> bool {
        let apart = (left - right).abs();
        apart <= self.absolute || apart <= self.relative * left.abs().max(right.abs())
    }
}

/// Runs a check at a place.
pub(crate) fn run(
    engine: &mut dyn Engine,
    place: Place,
    check: &Check,
    how: &Checks,
    known: &Known,
) -> Came {
    let mut at = Asked {
        engine,
        place,
        how,
        names: &known.names,
    };
    let found = match &check.ask {
        Ask::Reconcile {
            left,
            right,
            elsewhere,
            tolerance,
        } => reconcile(
            &mut at,
            check,
            (left, right),
            elsewhere.as_ref(),
            *tolerance,
        )
        .map(Came::from),
        Ask::Acceptance { sql } => acceptance(&mut at, check, sql).map(Came::from),
        Ask::Sample {
            sql,
            ceiling,
            regression,
        } => {
            let before = known.took.get(&check.name).map_or(&[][..], Vec::as_slice);
            let allowed = Allowed {
                ceiling: *ceiling,
                regression: *regression,
                before,
            };
            sample(&mut at, check, sql, &allowed)
        }
        Ask::Models { least } => Ok(models(check, *least, known.models).into()),
    };
    found.unwrap_or_else(|error| {
        Came::from(Finding {
            severity: check.severity,
            ..unknown(&check.name, None, &error)
        })
    })
}

fn models(check: &Check, least: usize, there: Option<usize>) -> Finding {
    let expected = format!("at least {least} models");
    match there {
        Some(n) => finding(check, n >= least, format!("{n} models"), expected),
        None => Finding {
            outcome: Outcome::Unknown,
            ..finding(
                check,
                false,
                "no manifest to count them in".to_owned(),
                expected,
            )
        },
    }
}

/// A place that is asked.
struct Asked<'a> {
    engine: &'a mut dyn Engine,
    place: Place,
    how: &'a Checks,
    names: &'a BTreeSet<RelationName>,
}

fn finding(check: &Check, good: bool, observed: String, expected: String) -> Finding {
    Finding {
        check: check.name.clone(),
        relation: None,
        column: None,
        outcome: if good { Outcome::Pass } else { Outcome::Fail },
        severity: check.severity,
        observed,
        expected,
        examples: None,
        sql: None,
    }
}

impl Asked<'_> {
    fn ask(&mut self, sql: &str, limit: u64) -> Result<Answer, EngineError> {
        let sql = placed(self.engine, self.place, self.names, sql)?;
        self.engine.query(self.place, &sql, limit, self.how.timeout)
    }
}

/// Puts the relations that a query names in braces, as `{marts.orders}`, where they are at a place.
/// A schema by its own name would be production's, also while a release is looked at that is not.
///
/// # Errors
/// When a relation is not among these, or the engine cannot say where it is.
pub fn placed(
    engine: &mut dyn Engine,
    place: Place,
    names: &BTreeSet<RelationName>,
    sql: &str,
) -> Result<String, EngineError> {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((schema, name, after)) = named(after) else {
            out.push('{');
            rest = after;
            continue;
        };
        let mut all = names.iter();
        let found = all.find(|n| n.schema == schema && n.name == name);
        let found = found.ok_or_else(|| {
            let text = format!("there is no {schema}.{name} in this release");
            EngineError::new(ErrorKind::Missing, text)
        })?;
        out.push_str(&engine.address(place, found)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// `schema.name}` and what follows.
fn named(after: &str) -> Option<(&str, &str, &str)> {
    let (name, after) = after.split_once('}')?;
    let (schema, relation) = name.split_once('.')?;
    let plain = |part: &str| !part.is_empty() && !part.contains(['{', '"', '\'', ',', ':']);
    (plain(schema) && plain(relation)).then_some((schema, relation, after))
}

fn figure(answer: &Answer) -> Option<(f64, String)> {
    let [row] = answer.rows.as_slice() else {
        return None;
    };
    let [cell] = row.as_slice() else { return None };
    let number = match cell {
        Value::Int(i) => *i as f64,
        Value::Float(x) => *x,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    };
    Some((number, cell.to_string()))
}

fn reconcile(
    at: &mut Asked<'_>,
    check: &Check,
    (left, right): (&str, &str),
    elsewhere: Option<&Elsewhere>,
    tolerance: Tolerance,
) -> Result<Finding, EngineError> {
    let a = at.ask(left, 1)?;
    let (b, by) = match elsewhere {
        None => (at.ask(right, 1)?, String::new()),
        Some(other) => {
            let told = (other.question)(right)?;
            (told.answer, format!(" in {}", told.by))
        }
    };
    let expected = match (tolerance.absolute, tolerance.relative) {
        (0.0, 0.0) => "the same".to_owned(),
        (absolute, 0.0) => format!("the same, to {absolute}"),
        (0.0, relative) => format!("the same, to {} %", relative * 100.0),
        (absolute, relative) => format!("the same, to {absolute} or {} %", relative * 100.0),
    };
    // Texts, such as checksums, are compared as they are.
    let (good, observed) = match (figure(&a), figure(&b)) {
        (Some((x, left)), Some((y, right))) => {
            (tolerance.allows(x, y), format!("{left} and {right}{by}"))
        }
        _ => (
            a.rows == b.rows,
            format!("{} and {}{by}", words(&a), words(&b)),
        ),
    };
    Ok(Finding {
        sql: (!good).then(|| format!("{left};\n{right}")),
        ..finding(check, good, observed, expected)
    })
}

fn words(answer: &Answer) -> String {
    let cells = answer.rows.first().into_iter().flatten();
    let texts: Vec<String> = cells.map(ToString::to_string).collect();
    match texts.is_empty() {
        true => "no row".to_owned(),
        false => texts.join(", "),
    }
}

fn acceptance(at: &mut Asked<'_>, check: &Check, sql: &str) -> Result<Finding, EngineError> {
    let answer = at.ask(sql, at.how.examples)?;
    let observed = match (answer.rows.len(), answer.truncated) {
        (n, true) => format!("more than {n} rows"),
        (1, false) => "1 row".to_owned(),
        (n, false) => format!("{n} rows"),
    };
    let good = answer.rows.is_empty();
    Ok(Finding {
        examples: (!good).then_some(Examples {
            columns: answer.columns,
            rows: answer.rows,
        }),
        sql: (!good).then(|| sql.to_owned()),
        ..finding(check, good, observed, "no row".to_owned())
    })
}

/// How long an answer may take.
struct Allowed<'a> {
    ceiling: Option<Duration>,
    regression: Option<f64>,
    /// In earlier good releases.
    before: &'a [Duration],
}

impl Allowed<'_> {
    /// The median of earlier times, where there are enough.
    fn usual(&self) -> Option<Duration> {
        let seconds: Vec<f64> = self.before.iter().map(Duration::as_secs_f64).collect();
        let usual = median(&seconds).filter(|_| seconds.len() >= ENOUGH)?;
        Duration::try_from_secs_f64(usual).ok()
    }

    /// Whether it took too long; `None` where that cannot be told yet.
    fn breached(&self, took: Duration) -> Option<bool> {
        if self.ceiling.is_some_and(|ceiling| took > ceiling) {
            return Some(true);
        }
        let Some(times) = self.regression else {
            return Some(false);
        };
        let usual = self.usual()?;
        let more = took.saturating_sub(usual);
        Some(took.as_secs_f64() > times * usual.as_secs_f64() && more > NOTICED)
    }

    fn words(&self) -> String {
        let ceiling = self.ceiling.map(|ceiling| format!("at most {ceiling:?}"));
        let regression = self.regression.map(|times| match self.usual() {
            Some(usual) => format!(
                "at most {times} times the {usual:.1?} of {}",
                count(self.before.len(), "good release")
            ),
            None => format!(
                "at most {times} times what it took in good releases, of which {ENOUGH} are the least"
            ),
        });
        let all: Vec<String> = [ceiling, regression].into_iter().flatten().collect();
        all.join(", and ")
    }
}

fn sample(
    at: &mut Asked<'_>,
    check: &Check,
    sql: &str,
    allowed: &Allowed<'_>,
) -> Result<Came, EngineError> {
    let mut took = at.ask(sql, LOOKED_AT)?.took;
    for _ in 0..AGAIN {
        if allowed.breached(took) == Some(true) {
            took = took.min(at.ask(sql, LOOKED_AT)?.took);
        }
    }
    let breached = allowed.breached(took);
    let observed = format!("answered in {took:.1?}");
    let mut finding = finding(check, breached == Some(false), observed, allowed.words());
    match breached {
        Some(true) => finding.sql = Some(sql.to_owned()),
        Some(false) => {}
        None => finding.outcome = Outcome::Unknown,
    }
    Ok(Came {
        finding,
        took: Some(took),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_of_either_sort() {
        let of = |absolute, relative| Tolerance { absolute, relative };
        assert!(of(0.0, 0.0).allows(5.0, 5.0));
        assert!(!of(0.0, 0.0).allows(5.0, 5.01));
        assert!(of(0.1, 0.0).allows(5.0, 5.01));
        assert!(of(0.0, 0.01).allows(-1000.0, -1009.0));
        assert!(!of(0.0, 0.01).allows(-1000.0, 1000.0));
    }

    #[test]
    fn an_answer_is_slow_beside_those_of_good_releases() {
        let ms = Duration::from_millis;
        let before = [ms(200), ms(90), ms(210)];
        let of = |ceiling, regression, before| {
            let allowed = Allowed {
                ceiling,
                regression,
                before,
            };
            move |took| allowed.breached(ms(took))
        };
        let ceiling = of(Some(ms(500)), None, &[]);
        assert_eq!((ceiling(500), ceiling(501)), (Some(false), Some(true)));
        let times = of(None, Some(2.0), &before);
        assert_eq!((times(390), times(410)), (Some(false), Some(true)));
        let quick = [ms(1), ms(2), ms(1)];
        assert_eq!(of(None, Some(2.0), &quick)(90), Some(false), "unnoticed");
        let early = of(Some(ms(500)), Some(2.0), &before[..1]);
        assert_eq!((early(400), early(600)), (None, Some(true)), "too early");
    }
}
