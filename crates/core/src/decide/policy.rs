//! The policy: the decision matrix as data. What a team does not write is as the default says.

use super::calendar::{Calendar, CalendarError, Span};
use super::facts::{Facts, Failed};
use super::period::Period;
use crate::check::Severity;
use crate::lineage::{Selector, SelectorError, glob};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is to be done, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing failed.
    Nothing,
    /// Watch, and fix forward.
    Watch,
    /// Propose a rollback; a person decides.
    Propose,
    /// Roll back when the time is up, unless somebody decided before.
    RollBackWithin,
    /// Roll back at once.
    RollBackNow,
}

impl Action {
    /// Whether unship acts without being asked, sooner or later.
    pub fn is_automatic(self) -> bool {
        self >= Self::RollBackWithin
    }

    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing is to be done",
            Self::Watch => "watch, and fix forward",
            Self::Propose => "propose a rollback; a person decides",
            Self::RollBackWithin => "roll back when the time is up, unless somebody decides before",
            Self::RollBackNow => "roll back now",
        }
    }
}

/// Approvals that are needed: how many, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// How many different people.
    pub count: u32,
    /// The role that each of them has; anybody whose key is allowed where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} approval{plural}", self.count)?;
        match &self.role {
            Some(role) => write!(f, " by the role `{role}`"),
            None => Ok(()),
        }
    }
}

/// One rule. All that it names must hold; what it does not name does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, which decisions refer to.
    pub name: String,
    /// The severities of the failed check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<Severity>,
    /// The environments, with wildcards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
    /// The failed checks' ids, with wildcards (`dbt:not_null_*`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// The relations, in dbt's selector syntax (`tag:finance`, `marts.*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// The release has been production for at most so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_for_at_most: Option<Period>,
    /// The release has been production for at least so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_for_at_least: Option<Period>,
    /// At least so many relations read what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_dependents: Option<usize>,
    /// At least so many exposures (dashboards, exports) read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_exposures: Option<usize>,
    /// Somebody of these answers for what is touched, with wildcards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// What is done then.
    pub action: Action,
    /// For `roll_back_within`: how long people have to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Period>,
    /// Whose approval a rollback before that, or at all, needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Need>,
}

impl Rule {
    /// A rule about severities only.
    fn of(name: &str, severity: Severity, action: Action) -> Self {
        Self {
            name: name.to_owned(),
            severity: vec![severity],
            environments: Vec::new(),
            checks: Vec::new(),
            select: None,
            live_for_at_most: None,
            live_for_at_least: None,
            min_dependents: None,
            min_exposures: None,
            owners: Vec::new(),
            action,
            within: None,
            approvals: None,
        }
    }

    /// Whether it is about this failed check, in these circumstances.
    pub(super) fn fits(&self, failed: &Failed, facts: &Facts) -> bool {
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|p| glob::matches(text, p))
        };
        let live = facts.live_for();
        let selected = |select: &String| {
            let picked = facts.selected.get(select);
            let relation = failed.relation.as_ref();
            picked.zip(relation).is_some_and(|(p, r)| p.contains(r))
        };
        let mut owners = facts.owners.iter();
        (self.severity.is_empty() || self.severity.contains(&failed.severity))
            && any(&self.environments, &facts.environment)
            && any(&self.checks, &failed.check)
            && self.select.as_ref().is_none_or(selected)
            && (self.live_for_at_most).is_none_or(|most| live.is_none_or(|l| l <= most.duration()))
            && (self.live_for_at_least)
                .is_none_or(|least| live.is_some_and(|l| l >= least.duration()))
            && (self.min_dependents).is_none_or(|least| facts.dependents >= least)
            && (self.min_exposures).is_none_or(|least| facts.exposures >= least)
            && (self.owners.is_empty() || owners.any(|owner| any(&self.owners, owner)))
    }
}

/// What a team agreed on. The default protects no environment, so that nothing happens by itself
/// and no approval is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The environments where unship acts by itself and asks for approvals.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub protected: BTreeSet<String>,
    /// The circuit breaker: at most so many automatic rollbacks in 24 hours and one environment.
    pub automatic_per_day: u32,
    /// What a plan needs in a protected environment where no rule says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Need>,
    /// The rules; the first that fits a failed check is the one that counts for it. Written rules
    /// stand in the place of all the default ones.
    #[serde(rename = "rule", skip_serializing_if = "are_default")]
    pub rules: Vec<Rule>,
    /// Maintenance windows: where an environment has some, plans are carried out in them only.
    #[serde(rename = "window", skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Span>,
    /// Freezes: nothing is carried out while one is on.
    #[serde(rename = "freeze", skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Span>,
}

/// Whoever did not write the default rules is not to find them written later.
fn are_default(rules: &[Rule]) -> bool {
    *rules == Policy::default().rules
}

/// A policy that says nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Two rules of one name.
    #[error("two rules are called `{0}`; a decision names its rule")]
    Twice(String),
    /// `within` where there is no time to wait.
    #[error("the rule `{0}` has `within`, which only the action `roll_back_within` has")]
    NoWait(String),
    /// `roll_back_within` without a time.
    #[error("the rule `{0}` rolls back within a time that it does not say: add `within = \"1h\"`")]
    NoTime(String),
    /// A rule that does nothing.
    #[error("the rule `{0}` has the action `nothing`; the weakest is `watch`")]
    Nothing(String),
    /// An approval by nobody.
    #[error("{0} asks for 0 approvals; leave `approvals` out instead")]
    Nobody(String),
    /// A selection that cannot be read.
    #[error("the rule `{rule}`: {source}")]
    Select {
        /// The rule.
        rule: String,
        /// What is wrong.
        source: Box<SelectorError>,
    },
    /// A window or a freeze.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
}

impl Default for Policy {
    fn default() -> Self {
        let lead = Need {
            count: 1,
            role: Some("lead".to_owned()),
        };
        let anybody = Need {
            count: 1,
            role: None,
        };
        let rule = Rule::of;
        Self {
            protected: BTreeSet::new(),
            automatic_per_day: 3,
            approvals: None,
            rules: vec![
                rule("critical", Severity::Critical, Action::RollBackNow),
                Rule {
                    within: Some(Period::from_secs(3_600)),
                    approvals: Some(lead),
                    ..rule("high", Severity::High, Action::RollBackWithin)
                },
                Rule {
                    approvals: Some(anybody.clone()),
                    ..rule("medium", Severity::Medium, Action::Propose)
                },
                Rule {
                    approvals: Some(anybody),
                    ..rule("low", Severity::Low, Action::Watch)
                },
            ],
            windows: Vec::new(),
            freezes: Vec::new(),
        }
    }
}

impl Policy {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn check(&self) -> Result<(), PolicyError> {
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            let name = || rule.name.clone();
            if !names.insert(&rule.name) {
                return Err(PolicyError::Twice(name()));
            }
            match (rule.action, rule.within) {
                (Action::RollBackWithin, None) => return Err(PolicyError::NoTime(name())),
                (Action::RollBackWithin, Some(_)) | (_, None) => {}
                (_, Some(_)) => return Err(PolicyError::NoWait(name())),
            }
            if rule.action == Action::Nothing {
                return Err(PolicyError::Nothing(name()));
            }
            if rule.approvals.as_ref().is_some_and(|need| need.count == 0) {
                return Err(PolicyError::Nobody(format!("the rule `{}`", rule.name)));
            }
            if let Some(select) = &rule.select {
                Selector::parse(&[select], &[]).map_err(|source| PolicyError::Select {
                    rule: name(),
                    source: Box::new(source),
                })?;
            }
        }
        if self.approvals.as_ref().is_some_and(|need| need.count == 0) {
            return Err(PolicyError::Nobody("the policy".to_owned()));
        }
        for span in self.windows.iter().chain(&self.freezes) {
            span.check()?;
        }
        Ok(())
    }

    /// Whether an environment is protected.
    pub fn protects(&self, environment: &str) -> bool {
        self.protected.contains(environment)
    }

    /// Windows and freezes.
    pub fn calendar(&self) -> Calendar<'_> {
        Calendar {
            windows: &self.windows,
            freezes: &self.freezes,
        }
    }

    /// The selections that its rules make; [`Facts::selected`] has what each picks.
    pub fn selections(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.select.as_deref())
    }

    /// The first rule that fits a failed check.
    pub(super) fn rule_for(&self, failed: &Failed, facts: &Facts) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(failed, facts))
    }
}
