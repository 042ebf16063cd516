//! The text that is signed.

use crate::plan::PlanId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The namespace of the signatures: one made for something else proves nothing here.
pub const NAMESPACE: &str = "unship-approval";

/// A path that plans may take without an approval of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// What a plan may change, in dbt's selector syntax.
    pub select: String,
    /// How many relations it may change or reach through lineage, at most.
    pub relations: usize,
}

/// What is approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// Exactly one plan.
    Plan {
        /// Its id.
        plan: PlanId,
    },
    /// Every plan that keeps to a path.
    Path {
        /// The path.
        #[serde(flatten)]
        path: Path,
    },
}

/// That somebody approves something, in one environment of one project, until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The project: the hash of the first entry of its log, which no other project has.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// What.
    pub subject: Subject,
    /// Who, as `allowed_signers` names people.
    pub signer: String,
    /// Until when.
    pub expires: Timestamp,
}

/// A part of a statement that could pretend to be another line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be signed: it has control characters in it, or is empty")]
pub struct BadStatement(pub String);

impl Statement {
    /// The text that is signed: lines, each ended by a line feed.
    ///
    /// # Errors
    /// For a part with a line feed or another control character in it.
    pub fn text(&self) -> Result<String, BadStatement> {
        let plan;
        let relations;
        let (title, subject): (&str, Vec<(&str, &str)>) = match &self.subject {
            Subject::Plan { plan: id } => {
                plan = id.to_string();
                ("unship approval v1", vec![("plan", &plan)])
            }
            Subject::Path { path } => {
                relations = path.relations.to_string();
                (
                    "unship approved path v1",
                    vec![("select", &path.select), ("relations", &relations)],
                )
            }
        };
        let expires = self.expires.to_string();
        let mut lines = vec![
            ("project", self.project.as_str()),
            ("environment", &self.environment),
        ];
        lines.extend(subject);
        lines.extend([("signer", self.signer.as_str()), ("expires", &expires)]);
        let mut text = format!("{title}\n");
        for (name, value) in lines {
            if value.is_empty() || value.chars().any(char::is_control) {
                return Err(BadStatement(value.to_owned()));
            }
            text.push_str(&format!("{name}: {value}\n"));
        }
        Ok(text)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan { plan } => write!(f, "plan {}", plan.short()),
            Self::Path { path } => write!(
                f,
                "any plan within `{}` that reaches at most {}",
                path.select,
                crate::operate::count(path.relations, "relation")
            ),
        }
    }
}
