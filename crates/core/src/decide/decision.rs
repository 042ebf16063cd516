//! The decision: policy and facts in, what to do out.

use super::brake::{self, Brake, BrakeKind};
use super::calendar::CalendarError;
use super::facts::{Back, Facts, Failed};
use super::period::Period;
use super::policy::{Action, Need, Policy, Rule};
use super::strategy::{self, Comparison};
use crate::check::Severity;
use crate::ident::ReleaseId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is to be done about a release, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What.
    pub action: Action,
    /// What the rule says; weaker is what is done where a brake is on.
    pub rule_action: Action,
    /// The rule that fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The worst severity that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Why, in sentences.
    pub because: Vec<String>,
    /// What keeps it from being automatic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brakes: Vec<Brake>,
    /// What would change it, in sentences.
    pub would_change: Vec<String>,
    /// Whose approval what a person does about it needs: a rollback, or where it is only watched, the
    /// fix. `None` is nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Need>,
    /// When it happens by itself, for `roll_back_within`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The release that it would go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<ReleaseId>,
    /// The strategies, compared.
    pub compared: Comparison,
}

impl Decision {
    /// Whether what was built and is not production yet must not become it.
    pub fn holds_back(&self) -> bool {
        self.rule_action >= Action::Propose
    }
}

/// What the rules say, before any brake.
struct Fired<'a> {
    action: Action,
    within: Option<Period>,
    rule: Option<&'a Rule>,
    failed: &'a Failed,
}

impl<'a> Fired<'a> {
    fn of(policy: &'a Policy, facts: &Facts, failed: &'a Failed) -> Self {
        let rule = policy.rule_for(failed, facts);
        // What nobody thought of is for a person, except that a warning is only a warning.
        let action = match rule {
            Some(rule) => rule.action,
            None if failed.severity == Severity::Low => Action::Watch,
            None => Action::Propose,
        };
        Self {
            action,
            within: rule.and_then(|rule| rule.within),
            rule,
            failed,
        }
    }

    /// What makes one stronger than another: the action, the shorter time, the severity.
    fn strength(&self) -> impl Ord {
        (
            self.action,
            std::cmp::Reverse(self.within),
            self.failed.severity,
        )
    }
}

/// Decides. The strongest action that any failed check calls for counts; then brakes may take from
/// it that it is automatic, never more.
///
/// # Errors
/// For a policy whose windows or freezes [`Policy::check`] would have refused.
pub fn decide(policy: &Policy, facts: &Facts) -> Result<Decision, CalendarError> {
    let fired = facts
        .failed
        .iter()
        .map(|failed| Fired::of(policy, facts, failed))
        .reduce(|best, other| {
            // Of equals the first found is named.
            if other.strength() > best.strength() {
                other
            } else {
                best
            }
        });
    let back_to = match &facts.back {
        Back::Planned { to, .. } => Some(*to),
        Back::None { .. } => None,
    };
    let Some(fired) = fired else {
        return Ok(nothing(facts, back_to));
    };
    let mut because = vec![called_for(&fired)];
    if facts.failed.len() > 1 {
        because.push(format!(
            "{} checks failed, and this is the strongest answer to any of them",
            facts.failed.len()
        ));
    }
    let brakes = match fired.action.is_automatic() {
        true => brake::on(policy, facts)?,
        false => Vec::new(),
    };
    let action = match brakes.as_slice() {
        [] => fired.action,
        [only] if only.kind == BrakeKind::OnlyWarnings => Action::Watch,
        _ if facts.failed.iter().all(|f| f.severity == Severity::Low) => Action::Watch,
        _ => Action::Propose,
    };
    because.extend(brakes.iter().map(|brake| brake.why.clone()));
    let deadline = match (action, fired.within) {
        (Action::RollBackWithin, Some(within)) => {
            let at = facts.now.checked_add(within.duration());
            Some(at.unwrap_or(Timestamp::MAX))
        }
        _ => None,
    };
    let approvals = match policy.protects(&facts.environment) {
        false => None,
        true => match fired.rule.and_then(|rule| rule.approvals.clone()) {
            None if action != fired.action => policy.approvals.clone(),
            need => need,
        },
    };
    Ok(Decision {
        action,
        rule_action: fired.action,
        rule: fired.rule.map(|rule| rule.name.clone()),
        severity: facts.failed.iter().map(|f| f.severity).max(),
        would_change: would_change(&fired, &brakes, approvals.as_ref(), deadline),
        because,
        brakes,
        approvals,
        deadline,
        back_to,
        compared: strategy::compare(facts),
    })
}

fn nothing(facts: &Facts, back_to: Option<ReleaseId>) -> Decision {
    let mut because = vec!["no check failed".to_owned()];
    if facts.unknown > 0 {
        because.push(format!(
            "{} could not tell, which is no failure and no pass",
            crate::operate::count(facts.unknown, "check")
        ));
    }
    Decision {
        action: Action::Nothing,
        rule_action: Action::Nothing,
        rule: None,
        severity: None,
        because,
        brakes: Vec::new(),
        would_change: vec!["a failed check would".to_owned()],
        approvals: None,
        deadline: None,
        back_to,
        compared: strategy::compare(facts),
    }
}

fn called_for(fired: &Fired<'_>) -> String {
    let failed = fired.failed.words();
    let what = match (fired.action, fired.within) {
        (Action::RollBackWithin, Some(within)) => {
            format!("roll back within {within}, unless somebody decides before")
        }
        (action, _) => action.words().to_owned(),
    };
    match fired.rule {
        Some(rule) => format!("{failed} failed, and the rule `{}` says: {what}", rule.name),
        None => format!("{failed} failed, and no rule is about it: {what}"),
    }
}

fn would_change(
    fired: &Fired<'_>,
    brakes: &[Brake],
    approvals: Option<&Need>,
    deadline: Option<Timestamp>,
) -> Vec<String> {
    let mut out: Vec<_> = brakes.iter().map(|b| b.released_by.clone()).collect();
    if fired.action == Action::Watch {
        out.push("`unship rollback` goes back all the same, if a person decides so".to_owned());
    } else if deadline.is_some() {
        let by = approvals.map_or("a person".to_owned(), ToString::to_string);
        out.push(format!(
            "{by} and `unship rollback` go back before the time is up"
        ));
    } else if let Some(need) = approvals {
        out.push(format!("{need} and `unship rollback` go back"));
    } else if !fired.action.is_automatic() || !brakes.is_empty() {
        out.push("`unship rollback` goes back, if a person decides so".to_owned());
    }
    match fired.rule {
        Some(rule) => out.push(format!("another action in the rule `{}` would", rule.name)),
        None => out.push(format!(
            "a rule about `{}` or severity {} would",
            fired.failed.check, fired.failed.severity
        )),
    }
    out
}
