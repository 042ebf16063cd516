//! Approvals: a person's signature under a plan's id, or under a path that plans may take without
//! being asked about one by one.
//!
//! What is signed is a [`Statement`], a few lines of text, always the same bytes for the same
//! meaning. The signatures are SSH signatures; whoever calls [`gate`] says how they are proved, and
//! `ssh-keygen -Y verify` can prove the same ones.

mod gate;
mod statement;

pub use gate::{Counted, Gate, Proof, Question, Refusal, gate, judge};
pub use statement::{BadStatement, NAMESPACE, Path, Statement, Subject};

use crate::plan::PlanId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An approval as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What was signed.
    pub statement: Statement,
    /// The signature, as OpenSSH writes it.
    pub signature: String,
    /// Who put it into the log (`user@host`).
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// The environment whose log entry it is.
    pub env: String,
}

/// That a plan is to be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The plan.
    pub plan: PlanId,
    /// The plan itself.
    pub blob: crate::ledger::BlobRef,
    /// Who asked (`user@host`).
    pub actor: String,
    /// By what name the asker would sign, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The environment.
    pub env: String,
}

#[cfg(test)]
mod tests;
