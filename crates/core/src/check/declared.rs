//! Checks that a project writes down, as far as the warehouse answers them.

use super::{Answer, Examples, Finding, Outcome, Severity};
use crate::engine::{Engine, EngineError, ErrorKind, Place};
use crate::ident::RelationName;
use crate::operate::Checks;
use crate::operate::unknown;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

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
        ceiling: Duration,
    },
    /// The number of models that the project has.
    Models {
        /// At least so many.
        least: usize,
    },
}

/// What is known of a release without asking the warehouse.
pub(crate) struct Known {
    /// The relations that it holds.
    pub names: BTreeSet<RelationName>,
    /// How many models its project has, where it has a manifest.
    pub models: Option<usize>,
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
) -> Finding {
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
            tolerance,
        } => reconcile(&mut at, check, (left, right), *tolerance),
        Ask::Acceptance { sql } => acceptance(&mut at, check, sql),
        Ask::Sample { sql, ceiling } => sample(&mut at, check, (sql, *ceiling)),
        Ask::Models { least } => Ok(models(check, *least, known.models)),
    };
    found.unwrap_or_else(|error| Finding {
        severity: check.severity,
        ..unknown(&check.name, None, &error)
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
    /// Puts the relations that a query names in braces, as `{marts.orders}`, where they are at this
    /// place. A schema by its own name would be production's, also while a release is looked at
    /// that is not.
    fn placed(&mut self, sql: &str) -> Result<String, EngineError> {
        let mut out = String::new();
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((schema, name, after)) = named(after) else {
                out.push('{');
                rest = after;
                continue;
            };
            let mut all = self.names.iter();
            let found = all.find(|n| n.schema == schema && n.name == name);
            let found = found.ok_or_else(|| {
                let text = format!("there is no {schema}.{name} in this release");
                EngineError::new(ErrorKind::Missing, text)
            })?;
            out.push_str(&self.engine.address(self.place, found)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn ask(&mut self, sql: &str, limit: u64) -> Result<Answer, EngineError> {
        let sql = self.placed(sql)?;
        self.engine.query(self.place, &sql, limit, self.how.timeout)
    }
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
    tolerance: Tolerance,
) -> Result<Finding, EngineError> {
    let (a, b) = (at.ask(left, 1)?, at.ask(right, 1)?);
    let expected = match (tolerance.absolute, tolerance.relative) {
        (0.0, 0.0) => "the same".to_owned(),
        (absolute, 0.0) => format!("the same, to {absolute}"),
        (0.0, relative) => format!("the same, to {} %", relative * 100.0),
        (absolute, relative) => format!("the same, to {absolute} or {} %", relative * 100.0),
    };
    // Texts, such as checksums, are compared as they are.
    let (good, observed) = match (figure(&a), figure(&b)) {
        (Some((x, left)), Some((y, right))) => {
            (tolerance.allows(x, y), format!("{left} and {right}"))
        }
        _ => (a.rows == b.rows, format!("{} and {}", words(&a), words(&b))),
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

fn sample(
    at: &mut Asked<'_>,
    check: &Check,
    (sql, ceiling): (&str, Duration),
) -> Result<Finding, EngineError> {
    let answer = at.ask(sql, at.how.examples)?;
    let good = answer.took <= ceiling;
    Ok(Finding {
        sql: (!good).then(|| sql.to_owned()),
        ..finding(
            check,
            good,
            format!("answered in {:.1?}", answer.took),
            format!("at most {ceiling:?}"),
        )
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
}
