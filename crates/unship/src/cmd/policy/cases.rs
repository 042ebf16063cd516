//! Cases that a team writes beside its policy: what is so, and what is expected to be decided.

use jiff::{Timestamp, Zoned};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::check::Severity;
use unship_core::decide::{
    Action, Back, CalendarError, Decision, Facts, Failed, Measured, Need, Period, Policy, decide,
};
use unship_core::ident::{RelationName, ReleaseId};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One case. What it does not say is harmless: no irreversible step, nothing written by others, no
/// automatic rollback so far, no freeze.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    environment: String,
    #[serde(default)]
    failed: Vec<CaseFailed>,
    /// When it is decided. Without it windows and freezes do not matter.
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    live_for: Option<Period>,
    #[serde(default)]
    dependents: usize,
    #[serde(default)]
    exposures: usize,
    #[serde(default)]
    owners: BTreeSet<String>,
    #[serde(default)]
    irreversible: Vec<String>,
    #[serde(default)]
    written_by_others: Vec<String>,
    #[serde(default)]
    no_way_back: bool,
    #[serde(default)]
    automatic_today: u32,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFailed {
    check: String,
    severity: Severity,
    /// `relation`, `schema.relation` or `database.schema.relation`.
    #[serde(default)]
    relation: Option<String>,
    /// The selections of the policy's rules that pick the relation, which a case has no lineage to
    /// find out by.
    #[serde(default)]
    selected_by: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    action: Action,
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    approvals: Option<ExpectNeed>,
}

/// Approvals that are expected; a count of 0 says that none are needed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectNeed {
    count: u32,
    #[serde(default)]
    role: Option<String>,
}

/// What became of a case.
pub struct Checked {
    /// What was decided otherwise than expected, each a sentence.
    pub wrong: Vec<String>,
    /// The decision.
    pub decision: Decision,
}

/// Reads a file's cases.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
    for case in &file.case {
        case.moment()?;
    }
    Ok(file.case)
}

impl Case {
    /// Decides, and compares.
    pub fn check(&self, policy: &Policy) -> Result<Checked, CalendarError> {
        let mut policy = policy.clone();
        if self.at.is_none() {
            policy.windows.clear();
            policy.freezes.clear();
        }
        let decision = decide(&policy, &self.facts())?;
        let mut wrong = Vec::new();
        let mut differs = |what: &str, expected: String, got: String| {
            if expected != got {
                wrong.push(format!("the {what} is {got}, and {expected} was expected"));
            }
        };
        let expect = &self.expect;
        differs("action", name(expect.action), name(decision.action));
        if let Some(rule) = &expect.rule {
            let got = decision.rule.as_ref();
            differs("rule", quoted(rule), got.map_or("none".to_owned(), quoted));
        }
        if let Some(expected) = &expect.approvals {
            let need = Need {
                count: expected.count,
                role: expected.role.clone(),
            };
            let got = decision.approvals.clone().unwrap_or(Need {
                count: 0,
                role: None,
            });
            differs("approval needed", need.to_string(), got.to_string());
        }
        Ok(Checked { wrong, decision })
    }

    fn moment(&self) -> Result<Timestamp, String> {
        let Some(text) = &self.at else {
            return Ok(Timestamp::UNIX_EPOCH);
        };
        let zoned = text.parse::<Zoned>().map(|zoned| zoned.timestamp());
        zoned.or_else(|_| text.parse()).map_err(|_| {
            format!(
                "the case {:?}: at = {text:?} is not a time; write it like \
                 2026-12-24T03:00[Europe/Berlin] or 2026-12-24T02:00Z",
                self.name
            )
        })
    }

    fn facts(&self) -> Facts {
        let now = self.moment().unwrap_or(Timestamp::UNIX_EPOCH);
        let mut selected: BTreeMap<String, BTreeSet<RelationName>> = BTreeMap::new();
        let mut failed = Vec::new();
        for case in &self.failed {
            let relation = case.relation.as_deref().map(relation);
            for select in &case.selected_by {
                selected
                    .entry(select.clone())
                    .or_default()
                    .extend(relation.clone());
            }
            failed.push(Failed {
                check: case.check.clone(),
                relation,
                severity: case.severity,
            });
        }
        let others = self.written_by_others.iter();
        let back = match self.no_way_back {
            true => Back::None {
                why: "the case says so".to_owned(),
            },
            false => Back::Planned {
                to: ReleaseId(1),
                relations: failed.len(),
                irreversible: self.irreversible.clone(),
                others: others.map(|o| (relation(o), "rows".to_owned())).collect(),
                expected: 0,
            },
        };
        let live_for = self.live_for.map(Period::duration);
        Facts {
            environment: self.environment.clone(),
            release: Some(ReleaseId(2)),
            now,
            published: live_for.and_then(|live| now.checked_sub(live).ok()),
            failed,
            unknown: 0,
            selected,
            dependents: self.dependents,
            exposures: self.exposures,
            owners: self.owners.clone(),
            back,
            automatic: self.automatic_today,
            measured: Measured::default(),
            code: None,
            code_before: None,
        }
    }
}

fn relation(text: &str) -> RelationName {
    let mut parts = text.rsplitn(3, '.');
    let name = parts.next().unwrap_or_default();
    // No rule looks at what a case leaves out.
    let schema = parts.next().unwrap_or("schema");
    RelationName::new(parts.next().unwrap_or("database"), schema, name)
}

fn name(action: Action) -> String {
    let word = serde_json::to_value(action);
    let word = word.ok().and_then(|w| w.as_str().map(quoted));
    word.unwrap_or_else(|| action.words().to_owned())
}

fn quoted(text: impl AsRef<str>) -> String {
    format!("`{}`", text.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = r#"
        [[case]]
        name = "a key that is none goes back at once"
        environment = "prod"
        failed = [{ check = "unique_key", severity = "critical", relation = "core.orders" }]
        expect = { action = "roll_back_now", rule = "critical", approvals = { count = 0 } }

        [[case]]
        name = "but not at Christmas"
        environment = "prod"
        at = "2026-12-24T03:00[Europe/Berlin]"
        failed = [{ check = "unique_key", severity = "critical" }]
        expect = { action = "propose" }

        [[case]]
        name = "wrong on purpose"
        environment = "prod"
        failed = [{ check = "rows", severity = "high" }]
        expect = { action = "roll_back_now", rule = "critical", approvals = { count = 2 } }
    "#;

    fn policy() -> Policy {
        let text = r#"
            protected = ["prod"]
            [[freeze]]
            name = "holidays"
            begins = "0 0 24 12 *"
            lasts = "3d"
            time_zone = "Europe/Berlin"
        "#;
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_case_says_what_was_decided_otherwise() {
        let cases = parse(CASES).unwrap();
        let wrong: Vec<_> = cases
            .iter()
            .map(|case| case.check(&policy()).unwrap().wrong)
            .collect();
        assert_eq!(wrong[0], [""; 0]);
        assert_eq!(wrong[1], [""; 0]);
        insta::assert_snapshot!(wrong[2].join("\n"), @r"
        the action is `roll_back_within`, and `roll_back_now` was expected
        the rule is `high`, and `critical` was expected
        the approval needed is 1 approval by the role `lead`, and 2 approvals was expected
        ");
    }

    #[test]
    fn a_case_that_cannot_be_read_is_an_error() {
        let with = |line: &str| {
            let text = format!(
                "[[case]]\nname = \"a\"\nenvironment = \"prod\"\nexpect = {{ action = \"watch\" }}\n{line}"
            );
            parse(&text).unwrap_err()
        };
        assert!(with("at = \"tomorrow\"").contains("not a time"));
        assert!(with("sevrity = 1").contains("unknown field"));
    }
}
