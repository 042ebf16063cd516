//! Incidents: what went wrong, who saw to it, and what was learnt.
//!
//! An incident is about one release, and its story is in the log already; what is recorded here is
//! only what no other entry says: that it was opened, what people noted, and how it was closed.

mod timeline;

pub use timeline::{Line, timeline};

use crate::check::{Finding, Outcome, Severity};
use crate::event::Event;
use crate::ident::ReleaseId;
use crate::ledger::BlobRef;
use crate::release::{Operation, Release, Stage, Verdict};
use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An incident's number, written `I3`. Numbers grow by one per ledger and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId(pub u64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.0)
    }
}

/// Text that is not an incident's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an incident: incidents are written I1, I2, …")]
pub struct NotAnIncident(pub String);

impl FromStr for IncidentId {
    type Err = NotAnIncident;

    fn from_str(text: &str) -> Result<Self, NotAnIncident> {
        let wrong = || NotAnIncident(text.to_owned());
        let digits = text.strip_prefix(['I', 'i']).ok_or_else(wrong)?;
        match digits.parse() {
            Ok(n) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(n)),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for IncidentId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IncidentId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What opened an incident, as it is counted in the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The job failed.
    Job,
    /// Checks failed.
    Checks,
    /// A person went back, or marked the release bad.
    Person,
}

impl Cause {
    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Job => "the job failed",
            Self::Checks => "checks failed",
            Self::Person => "a person decided",
        }
    }
}

/// What is known when an incident is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in a sentence.
    pub summary: String,
    /// What opened it.
    pub cause: Cause,
    /// Whether the release was production.
    pub reached_production: bool,
    /// What checks found: a JSON list of findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<BlobRef>,
    /// The rollback that opened it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<ReleaseId>,
}

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
}

/// Something that was broken open and must be looked at before the incident is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Why it must be looked at.
    pub because: String,
    /// What the review came to, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_to: Option<String>,
    /// Who reviewed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Stamp>,
}

/// One thing that somebody will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionItem {
    /// What.
    pub what: String,
    /// Who.
    pub owner: String,
    /// Until when.
    pub due: Date,
}

/// What follows from an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUp {
    /// These things, at least one.
    Items(Vec<ActionItem>),
    /// Nothing, for this reason.
    NoneBecause(String),
}

/// How an incident was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// What was at the root of it.
    pub root_cause: String,
    /// What will keep it from happening again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prevention: Option<String>,
    /// What follows.
    pub follow_up: FollowUp,
}

/// An incident, as its entries tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// Its environment.
    pub env: String,
    /// The release that it is about.
    pub release: ReleaseId,
    /// Who opened it, and when.
    pub opened: Stamp,
    /// What was known then.
    pub opening: Opening,
    /// Who sees to it, and since when.
    #[serde(default)]
    pub acknowledged: Option<Stamp>,
    /// The operations that went back from it, or brought it back.
    #[serde(default)]
    pub operations: Vec<ReleaseId>,
    /// Since when production has been without it; `None` while it is production. What never was
    /// production is without it from the beginning.
    #[serde(default)]
    pub restored: Option<Timestamp>,
    /// What must be, or was, reviewed.
    #[serde(default)]
    pub reviews: Vec<Review>,
    /// Who closed it, and when.
    #[serde(default)]
    pub closed: Option<Stamp>,
    /// How.
    #[serde(default)]
    pub closing: Option<Closing>,
}

/// Why an incident cannot be closed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotClosed {
    /// It is closed.
    #[error("{0} is closed already")]
    Already(IncidentId),
    /// Nobody says why it happened.
    #[error("an incident is closed with its root cause, and none is given")]
    NoRootCause,
    /// Nothing follows, and nobody says why.
    #[error("an incident is closed with at least one action item, or the reason why there is none")]
    NoFollowUp,
    /// An item without a text or an owner.
    #[error("an action item needs what is to be done and who does it")]
    EmptyItem,
    /// Something was broken open.
    #[error("{incident} cannot be closed without a review: {because}")]
    NoReview {
        /// Which.
        incident: IncidentId,
        /// Why.
        because: String,
    },
}

impl Incident {
    /// Whether it may be closed so.
    ///
    /// # Errors
    /// What is missing.
    pub fn may_close(&self, closing: &Closing) -> Result<(), NotClosed> {
        let empty = |text: &str| text.trim().is_empty();
        if self.closed.is_some() {
            return Err(NotClosed::Already(self.id));
        }
        if let Some(open) = self.reviews.iter().find(|r| r.done.is_none()) {
            return Err(NotClosed::NoReview {
                incident: self.id,
                because: open.because.clone(),
            });
        }
        if empty(&closing.root_cause) {
            return Err(NotClosed::NoRootCause);
        }
        match &closing.follow_up {
            FollowUp::Items(items) if items.is_empty() => Err(NotClosed::NoFollowUp),
            FollowUp::Items(items) if items.iter().any(|i| empty(&i.what) || empty(&i.owner)) => {
                Err(NotClosed::EmptyItem)
            }
            FollowUp::NoneBecause(why) if empty(why) => Err(NotClosed::NoFollowUp),
            _ => Ok(()),
        }
    }

    /// Where it stands, in a word or two.
    pub fn state(&self) -> &'static str {
        match (&self.closed, &self.restored, &self.acknowledged) {
            (Some(_), ..) => "closed",
            (None, Some(_), _) => "restored",
            (None, None, Some(_)) => "acknowledged",
            (None, None, None) => "open",
        }
    }
}

/// What may open an incident.
#[derive(Debug, Clone, Copy)]
pub struct Trigger<'a> {
    /// The release that is, or seems, bad.
    pub release: &'a Release,
    /// The operation that went back from it, if one did.
    pub rollback: Option<&'a Release>,
    /// What checks found in it.
    pub findings: &'a [Finding],
    /// The same, as it is kept.
    pub kept: Option<BlobRef>,
}

/// The entry that opens an incident, if there is reason for one: a release that was thought bad or
/// failed, or one that somebody went back from. `known` is the incident that the release has
/// already; there is never a second one.
pub fn opened_by(known: Option<&Incident>, trigger: Trigger<'_>) -> Option<Event> {
    let release = trigger.release;
    let back = trigger.rollback.filter(|r| {
        matches!(r.operation, Operation::Rollback { .. }) && r.stage == Stage::Published
    });
    // A rollback marks all that it takes away, and is about the one that it was asked of.
    let only_taken = release
        .reason
        .as_deref()
        .is_some_and(|why| why.starts_with(TAKEN));
    let bad = release.verdict == Verdict::Bad && release.stage != Stage::Open && !only_taken;
    // What only moves production between states that were there before has no defect of its own.
    let made_something = matches!(release.operation, Operation::Run { .. });
    if known.is_some() || !(made_something && bad || back.is_some()) {
        return None;
    }
    let worst = trigger
        .findings
        .iter()
        .filter(|f| f.outcome == Outcome::Fail)
        .map(|f| f.severity)
        .max();
    let reached_production = release.stage == Stage::Published;
    let severity = worst.unwrap_or(match reached_production {
        true => Severity::High,
        false => Severity::Medium,
    });
    let job_failed = release
        .end
        .as_ref()
        .is_some_and(|end| end.exit_code != Some(0));
    let cause = match (worst, job_failed) {
        (Some(_), _) => Cause::Checks,
        (None, true) => Cause::Job,
        (None, false) => Cause::Person,
    };
    Some(Event::IncidentOpened {
        release: release.id,
        opening: Box::new(Opening {
            severity,
            summary: summary(release, back),
            cause,
            reached_production,
            findings: trigger.kept,
            rollback: back.map(|r| r.id),
        }),
    })
}

/// How the reason begins of a release that is bad only because it was rolled back.
const TAKEN: &str = "rolled back by";

fn summary(release: &Release, back: Option<&Release>) -> String {
    let id = release.id;
    let reason = release.reason.as_deref();
    match (back, release.stage) {
        (Some(back), _) => {
            let to = back
                .operation
                .target()
                .map_or_else(String::new, |to| format!(" to {to}"));
            // The reason that a rollback itself leaves says no more than that it happened.
            match reason.filter(|why| !why.starts_with(TAKEN)) {
                Some(why) => format!("{id} was rolled back{to}: {why}"),
                None => format!("{id} was rolled back{to}"),
            }
        }
        (None, Stage::Published) => match reason {
            Some(why) => format!("{id} is production and bad: {why}"),
            None => format!("{id} is production and bad"),
        },
        (None, _) => match reason {
            Some(why) => format!("{id} was not published: {why}"),
            None => format!("{id} was not published"),
        },
    }
}

#[cfg(test)]
mod tests;
