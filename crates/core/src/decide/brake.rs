//! What keeps a rollback from being automatic, whatever the rules say.

use super::calendar::{CalendarError, Closed};
use super::facts::{Back, Facts};
use super::policy::Policy;
use crate::check::Severity;
use serde::{Deserialize, Serialize};

/// Which brake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrakeKind {
    /// The environment is not protected.
    NotProtected,
    /// Only warnings failed.
    OnlyWarnings,
    /// There is no way back.
    NoWayBack,
    /// A step of the way back cannot be taken back itself.
    Irreversible,
    /// Rows that others wrote would be set aside.
    OthersRows,
    /// There were too many automatic rollbacks lately.
    Breaker,
    /// A freeze is on, or no window is open.
    Closed,
}

/// A brake that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// Which.
    pub kind: BrakeKind,
    /// Why it is on, a sentence.
    pub why: String,
    /// What would release it, a sentence.
    pub released_by: String,
}

/// The brakes that are on.
pub(super) fn on(policy: &Policy, facts: &Facts) -> Result<Vec<Brake>, CalendarError> {
    let mut out = Vec::new();
    let mut brake = |kind, why: String, released_by: String| {
        out.push(Brake {
            kind,
            why,
            released_by,
        });
    };
    let environment = &facts.environment;
    if !policy.protects(environment) {
        brake(
            BrakeKind::NotProtected,
            format!(
                "nothing happens by itself in `{environment}`, which the policy does not protect"
            ),
            format!(
                "`protected = [\"{environment}\"]` in the policy would let rules act by themselves"
            ),
        );
    }
    if facts.failed.iter().all(|f| f.severity == Severity::Low) {
        brake(
            BrakeKind::OnlyWarnings,
            "warnings alone never roll back".to_owned(),
            "a failed check of medium severity or more would let rules act".to_owned(),
        );
    }
    match &facts.back {
        Back::None { why } => brake(
            BrakeKind::NoWayBack,
            format!("there is no way back: {why}"),
            "a good release with a restore point would give a way back".to_owned(),
        ),
        Back::Planned {
            irreversible,
            others,
            ..
        } => {
            if let Some(first) = irreversible.first() {
                let more = match irreversible.len() {
                    1 => String::new(),
                    n => format!(" (and {} more)", n - 1),
                };
                brake(
                    BrakeKind::Irreversible,
                    format!("the way back is not reversible itself: {first}{more}"),
                    "a plan without irreversible steps would be carried out by itself".to_owned(),
                );
            }
            if !others.is_empty() {
                let names: Vec<_> = others.keys().map(ToString::to_string).collect();
                brake(
                    BrakeKind::OthersRows,
                    format!(
                        "others wrote to {}, and a rollback would set that aside",
                        names.join(", ")
                    ),
                    "`unship rollback --others set-aside`, by a person, goes back all the same"
                        .to_owned(),
                );
            }
        }
    }
    if facts.automatic >= policy.automatic_per_day {
        brake(
            BrakeKind::Breaker,
            format!(
                "the circuit breaker is open: {} automatic rollbacks in 24 hours, and the policy allows {}",
                facts.automatic, policy.automatic_per_day
            ),
            "it closes as 24 hours pass, or with a larger `automatic_per_day`".to_owned(),
        );
    }
    if let Some(closed) = policy.calendar().closed(environment, facts.now)? {
        let released_by = match &closed {
            Closed::Freeze { .. } => "the end of the freeze, or `--break-glass` with a reason",
            Closed::Window { .. } => "the next window, or `--break-glass` with a reason",
        };
        brake(
            BrakeKind::Closed,
            closed.to_string(),
            released_by.to_owned(),
        );
    }
    Ok(out)
}
