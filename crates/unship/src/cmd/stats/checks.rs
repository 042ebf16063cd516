//! Checks that never fire, and checks that fire too often, with what would keep them quiet.

use crate::aftermath;
use crate::declared::Check;
use crate::error::CliResult;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::check::{Finding, Outcome};
use unship_core::log::Ledger;
use unship_core::operate::count;
use unship_core::release::{Stage, Verdict};

/// So many of the newest releases are looked at for what their checks found.
const CHECKED: usize = 500;

/// A check that was carried out at least so often and never failed is said never to fire.
const OFTEN: usize = 20;

/// A check that failed at least so often, mostly in releases that are thought good all the same,
/// cries wolf.
const WOLF: usize = 3;

/// What is said of checks.
pub(super) struct Checks {
    /// Those that never fire.
    pub never: Vec<String>,
    /// Those that fire too often.
    pub too_often: Vec<Advice>,
}

/// A check that cries wolf, and what would have kept it quiet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Advice {
    pub check: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    pub failed: usize,
    pub in_good: usize,
    pub proposal: String,
}

impl Advice {
    /// The check, and what it looks at.
    pub fn words(&self) -> String {
        match &self.relation {
            Some(relation) => format!("{} of {relation}", self.check),
            None => self.check.clone(),
        }
    }
}

/// What a check did with one relation, or with none.
#[derive(Debug, Default, Clone, PartialEq)]
struct Fired {
    failed: usize,
    /// What was observed where the release is thought good all the same.
    in_good: Vec<String>,
}

#[derive(Debug, Default)]
struct All {
    looked: BTreeMap<String, usize>,
    failed: BTreeSet<String>,
    fired: BTreeMap<(String, Option<String>), Fired>,
}

/// Looks at the newest releases.
pub(super) fn of(ledger: &Ledger, env: &str, declared: &[Check]) -> CliResult<Checks> {
    let mut all = All::default();
    for release in ledger.history(|h| h.releases(env, None, CHECKED))? {
        let (_, findings) = aftermath::findings_of(ledger, release.id)?;
        let good = release.verdict == Verdict::Good && release.stage == Stage::Published;
        all.add(&findings, good);
    }
    Ok(all.judged(declared))
}

impl All {
    fn add(&mut self, findings: &[Finding], good: bool) {
        let known: Vec<&Finding> = findings
            .iter()
            .filter(|f| f.outcome != Outcome::Unknown)
            .collect();
        let checks: BTreeSet<&str> = known.iter().map(|f| f.check.as_str()).collect();
        for check in checks {
            *self.looked.entry(check.to_owned()).or_default() += 1;
        }
        // However many columns of a relation fail, the check failed once.
        let mut failed: BTreeMap<(String, Option<String>), &Finding> = BTreeMap::new();
        for finding in known.iter().filter(|f| f.outcome == Outcome::Fail) {
            let relation = finding.relation.as_ref();
            let relation = relation.map(|name| format!("{}.{}", name.schema, name.name));
            failed
                .entry((finding.check.clone(), relation))
                .or_insert(finding);
        }
        for (key, finding) in failed {
            self.failed.insert(key.0.clone());
            let fired = self.fired.entry(key).or_default();
            fired.failed += 1;
            if good {
                fired.in_good.push(finding.observed.clone());
            }
        }
    }

    fn judged(self, declared: &[Check]) -> Checks {
        let quiet = |(check, looked): &(&String, &usize)| {
            **looked >= OFTEN && !self.failed.contains(*check)
        };
        let never = self.looked.iter().filter(quiet);
        Checks {
            never: never.map(|(check, _)| check.clone()).collect(),
            too_often: self
                .fired
                .iter()
                .filter(|(_, fired)| fired.failed >= WOLF && fired.in_good.len() * 2 > fired.failed)
                .map(|((check, relation), fired)| Advice {
                    check: check.clone(),
                    relation: relation.clone(),
                    failed: fired.failed,
                    in_good: fired.in_good.len(),
                    proposal: proposal(check, declared, &fired.in_good),
                })
                .collect(),
        }
    }
}

/// What would have kept a check quiet in releases that are thought good: where it has a threshold,
/// one that lets through what was seen there.
fn proposal(check: &str, declared: &[Check], seen: &[String]) -> String {
    let kind = declared.iter().find(|c| c.name() == check);
    let most = |of: fn(&str) -> Option<f64>| {
        let all = seen.iter().filter_map(|text| of(text));
        all.reduce(f64::max)
    };
    let told = "a lower `severity`".to_owned();
    match kind {
        Some(Check::Reconcile(_)) => most(apart).map_or(told, |gap| {
            format!("`tolerance = {gap}` is the most by which they differed there")
        }),
        Some(Check::Sample(_)) => most(seconds).map_or(told, |slowest| {
            let above = (slowest * 10.0).ceil() / 10.0;
            format!("`ceiling = \"{above}s\"` is above the slowest answer there")
        }),
        Some(_) => told,
        None if check.starts_with("dbt:") => match most(rows_that_fail) {
            Some(rows) => format!(
                "`error_if: \">{rows}\"` in the test's configuration lets through the {} that failed there",
                count(rows as usize, "row")
            ),
            None => "`severity: warn` in its configuration".to_owned(),
        },
        None => format!(
            "a rule with `checks = [\"{check}\"]` and `action = \"watch\"`, before the others, is never \
             acted on"
        ),
    }
}

/// The numbers of a sentence; thousands may be set apart.
fn numbers(text: &str) -> Vec<f64> {
    text.split(|c: char| !(c.is_ascii_digit() || ".,-".contains(c)))
        .filter_map(|word| word.trim_matches(['.', ',']).replace(',', "").parse().ok())
        .collect()
}

/// `12 and 15`: by how much they differ.
fn apart(text: &str) -> Option<f64> {
    match numbers(text).as_slice() {
        [a, b, ..] => Some((a - b).abs()),
        _ => None,
    }
}

/// `3 rows fail`
fn rows_that_fail(text: &str) -> Option<f64> {
    let words = text.ends_with("fail") || text.ends_with("fails");
    numbers(text).first().copied().filter(|_| words)
}

/// `answered in 812.3ms`
fn seconds(text: &str) -> Option<f64> {
    let word = text.rsplit(' ').next()?;
    let unit = word.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = word.split_at(unit);
    let number: f64 = number.parse().ok()?;
    match unit {
        "s" => Some(number),
        "ms" => Some(number / 1e3),
        "µs" => Some(number / 1e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unship_core::check::Severity;
    use unship_core::ident::RelationName;

    fn finding(check: &str, outcome: Outcome, observed: &str) -> Finding {
        Finding {
            check: check.to_owned(),
            relation: Some(RelationName::new("shop", "marts", "orders")),
            column: None,
            outcome,
            severity: Severity::High,
            observed: observed.to_owned(),
            expected: String::new(),
            examples: None,
            sql: None,
        }
    }

    fn advised(check: &str, declared: &str, seen: [&str; 3]) -> String {
        #[derive(serde::Deserialize)]
        struct Text {
            check: Vec<Check>,
        }
        let declared = match declared {
            "" => Vec::new(),
            text => {
                let text = format!("[[check]]\nname = \"{check}\"\n{text}");
                toml::from_str::<Text>(&text).unwrap().check
            }
        };
        let mut all = All::default();
        for observed in seen {
            all.add(&[finding(check, Outcome::Fail, observed)], true);
        }
        // What a bad release showed is no measure.
        all.add(&[finding(check, Outcome::Fail, "99,999 rows fail")], false);
        let checks = all.judged(&declared);
        let [advice] = checks.too_often.as_slice() else {
            panic!("{:?}", checks.too_often);
        };
        assert_eq!((advice.failed, advice.in_good), (4, 3));
        assert_eq!(advice.words(), format!("{check} of marts.orders"));
        advice.proposal.clone()
    }

    #[test]
    fn what_cries_wolf_is_told_the_threshold_that_would_have_kept_it_quiet() {
        let dbt = advised(
            "dbt:not_null",
            "",
            ["1,204 rows fail", "1 row fails", "980 rows fail"],
        );
        assert!(dbt.starts_with("`error_if: \">1204\"`"), "{dbt}");
        let reconcile = "kind = \"reconcile\"\nleft = \"\"\nright = \"\"";
        let gap = advised("same", reconcile, ["12 and 15", "9 and 8.5", "-1 and 3"]);
        assert!(gap.starts_with("`tolerance = 4`"), "{gap}");
        let sample = "kind = \"sample\"\nsql = \"\"\nceiling = \"1s\"";
        let slow = [
            "answered in 1.2s",
            "answered in 1345.0ms",
            "answered in 1.1s",
        ];
        let slow = advised("board", sample, slow);
        assert!(slow.starts_with("`ceiling = \"1.4s\"`"), "{slow}");
        let rows = advised("rows", "", ["12 rows", "13 rows", "14 rows"]);
        assert!(rows.contains("checks = [\"rows\"]"), "{rows}");
    }

    #[test]
    fn a_check_is_quiet_only_if_it_was_carried_out() {
        let mut all = All::default();
        for n in 0..OFTEN {
            let outcome = if n == 0 {
                Outcome::Unknown
            } else {
                Outcome::Pass
            };
            all.add(
                &[
                    finding("rows", Outcome::Pass, ""),
                    finding("sum", outcome, ""),
                ],
                true,
            );
        }
        assert_eq!(all.judged(&[]).never, ["rows"]);
    }
}
