//! Notices: what people are told, before it is sent, and what became of it.
//!
//! A notice is written down before it is sent and marked after, so that nothing is forgotten or
//! told twice when unship dies in between; and so that a rollback waits for nobody's mail server.

use crate::check::Severity;
use crate::ident::ReleaseId;
use crate::incident::IncidentId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// For whom a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Whoever runs the warehouse and can act.
    Operator,
    /// Whoever writes the models.
    Producer,
    /// Whoever reads the tables.
    Consumer,
    /// Whoever decides by the numbers.
    Stakeholder,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// An incident was opened.
    Opened,
    /// Production is being restored.
    Restoring,
    /// Production is without the bad release again.
    Restored,
    /// Somebody sees to it.
    Acknowledged,
    /// Nobody did in time.
    Escalated,
    /// It is over.
    Closed,
    /// Nothing: a trial.
    Test,
}

impl Occasion {
    /// The word for it in a configuration and a key.
    pub fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Restoring => "restoring",
            Self::Restored => "restored",
            Self::Acknowledged => "acknowledged",
            Self::Escalated => "escalated",
            Self::Closed => "closed",
            Self::Test => "test",
        }
    }
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// In a line.
    pub title: String,
    /// What happened.
    pub happened: String,
    /// The tables that it is about, in lineage order, as `schema.name`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Since when.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// What is being done.
    pub doing: String,
    /// How long that takes by earlier ones, in milliseconds.
    #[serde(default)]
    pub expected_milliseconds: Option<u64>,
    /// Which data is missing, old or wrong meanwhile.
    #[serde(default)]
    pub gap: Option<String>,
    /// What the reader can or must do.
    pub todo: String,
}

/// One message for one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What makes it the same notice: a second one of this key is never sent, and receivers that can
    /// are given it.
    pub key: String,
    /// The route, by its name in the configuration.
    pub route: String,
    /// For whom.
    pub audience: Audience,
    /// What it is about.
    pub occasion: Occasion,
    /// How bad it is.
    pub severity: Severity,
    /// The environment.
    pub env: String,
    /// The incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// The release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// What it says.
    pub message: Message,
}

/// Where a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It waits.
    Queued,
    /// It is being sent, or whoever sent it died: then nobody knows whether it arrived.
    Sending,
    /// The receiver took it.
    Sent,
    /// It failed, and will be tried again.
    Failed,
    /// It failed too often.
    GivenUp,
}

impl Delivery {
    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Queued => "waiting",
            Self::Sending => "in doubt",
            Self::Sent => "sent",
            Self::Failed => "will be tried again",
            Self::GivenUp => "given up",
        }
    }
}

/// A notice and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The notice.
    pub notice: Notice,
    /// When it was written down.
    pub queued: Timestamp,
    /// Where it stands.
    pub delivery: Delivery,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried last.
    pub tried: Option<Timestamp>,
    /// Why it failed last.
    pub error: Option<String>,
}

/// After so many tries a notice is given up.
pub const MOST_ATTEMPTS: u32 = 12;

/// How long to wait after so many tries: a minute, twice that, and so on up to an hour.
pub fn patience(attempts: u32) -> SignedDuration {
    let doublings = attempts.saturating_sub(1).min(6);
    SignedDuration::from_mins((1_i64 << doublings).min(60))
}

impl Outgoing {
    /// Whether it is to be tried now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match (self.delivery, self.tried) {
            (Delivery::Queued | Delivery::Sending, _) | (Delivery::Failed, None) => true,
            (Delivery::Failed, Some(tried)) => now.duration_since(tried) >= patience(self.attempts),
            (Delivery::Sent | Delivery::GivenUp, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_and_is_bounded() {
        let minutes: Vec<_> = (0..10).map(|n| patience(n).as_mins()).collect();
        assert_eq!(minutes, [1, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
