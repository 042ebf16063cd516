//! What findings mean for the release that they are about.

use super::{Finding, Outcome, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is to become of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It may be production.
    Publish,
    /// It is bad: what was built aside is not published, what was built in place is marked.
    Hold {
        /// Why, in a sentence.
        reason: String,
    },
}

/// Rules over a release: a failed finding of at least this severity holds it; `None`, nothing does.
/// Whatever could not be told does not: a new project could publish nothing.
pub fn rule(findings: &[Finding], hold: Option<Severity>) -> Ruling {
    let Some(least) = hold else {
        return Ruling::Publish;
    };
    let bad: Vec<&Finding> = failed(findings)
        .filter(|finding| finding.severity >= least)
        .collect();
    // The first in lineage order among the worst: what comes after may only follow from it.
    let worst = bad.iter().map(|finding| finding.severity).max();
    let Some(first) = bad.iter().find(|finding| Some(finding.severity) == worst) else {
        return Ruling::Publish;
    };
    let more = match bad.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    Ruling::Hold {
        reason: format!("checks failed: {}{more}", one_line(first)),
    }
}

/// The findings that failed.
pub fn failed(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| f.outcome == Outcome::Fail)
}

/// The findings that fail now and did not, or not so badly, before: those that would hold a release.
pub fn worse<'a>(
    before: &[Finding],
    after: &'a [Finding],
    hold: Option<Severity>,
) -> impl Iterator<Item = &'a Finding> {
    let same = |one: &Finding, other: &Finding| {
        (&one.check, &one.relation, &one.column) == (&other.check, &other.relation, &other.column)
    };
    let known = |finding: &Finding| {
        failed(before).any(|then| same(then, finding) && then.severity >= finding.severity)
    };
    let holds = move |finding: &Finding| hold.is_some_and(|least| finding.severity >= least);
    let new: Vec<&Finding> = failed(after).filter(|f| holds(f) && !known(f)).collect();
    new.into_iter()
}

/// A finding in one line: where, what, and what was seen.
pub fn one_line(finding: &Finding) -> String {
    let mut place = String::new();
    if let Some(relation) = &finding.relation {
        place = relation.to_string();
        if let Some(column) = &finding.column {
            place.push('.');
            place.push_str(column);
        }
        place.push_str(": ");
    }
    format!("{place}{} ({})", finding.observed, finding.check)
}

/// How many findings there were of each sort.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Could not be told.
    pub unknown: u64,
    /// Failed, by severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<Severity, u64>,
}

impl Tally {
    /// Counts.
    pub fn of(findings: &[Finding]) -> Self {
        let mut tally = Self::default();
        for finding in findings {
            match finding.outcome {
                Outcome::Pass => tally.passed += 1,
                Outcome::Unknown => tally.unknown += 1,
                Outcome::Fail => *tally.failed.entry(finding.severity).or_default() += 1,
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::RelationName;

    fn finding(name: &str, outcome: Outcome, severity: Severity) -> Finding {
        Finding {
            check: "rows".to_owned(),
            relation: Some(RelationName::new("shop", "marts", name)),
            column: None,
            outcome,
            severity,
            observed: "no rows".to_owned(),
            expected: "some".to_owned(),
            examples: None,
            sql: None,
        }
    }

    #[test]
    fn the_first_of_the_worst_is_the_reason() {
        let found = [
            finding("early", Outcome::Fail, Severity::High),
            finding("a", Outcome::Fail, Severity::Critical),
            finding("b", Outcome::Fail, Severity::Critical),
            finding("c", Outcome::Fail, Severity::Low),
        ];
        let Ruling::Hold { reason } = rule(&found, Some(Severity::High)) else {
            panic!("it must be held");
        };
        assert_eq!(
            reason,
            "checks failed: shop.marts.a: no rows (rows), and 2 more"
        );
        assert_eq!(rule(&found, None), Ruling::Publish);
        assert_eq!(Tally::of(&found).failed[&Severity::Critical], 2);
    }

    #[test]
    fn what_could_not_be_told_holds_nothing() {
        let unknown = [finding("a", Outcome::Unknown, Severity::Critical)];
        assert_eq!(rule(&unknown, Some(Severity::Low)), Ruling::Publish);
    }
}
