//! Whether a plan has the approvals that it needs, and why one that is there does not count.

use super::{Approval, Path, Request, Subject};
use crate::decide::Need;
use crate::ident::RelationName;
use crate::plan::PlanId;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a signature proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// That the signer signed this very text, with a key that is allowed now.
    Good,
    /// Nothing: it is not a signature of this text.
    Altered,
    /// That somebody signed it whose key is not the signer's, or not any more.
    UnknownKey,
}

/// Why an approval does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It approves another plan.
    #[error(
        "it approves plan {}, and this is plan {}: a plan that was altered or made anew is another plan",
        .approved.short(), .plan.short()
    )]
    OtherPlan {
        /// What was approved.
        approved: PlanId,
        /// What is to be carried out.
        plan: PlanId,
    },
    /// It is for another environment.
    #[error("it is for the environment `{approved}`, and this is `{environment}`")]
    OtherEnvironment {
        /// What was approved.
        approved: String,
        /// What is meant.
        environment: String,
    },
    /// It is for another project.
    #[error("it is for another project, whose log begins otherwise")]
    OtherProject,
    /// Its time is over.
    #[error("it expired at {0}")]
    Expired(Timestamp),
    /// Whoever asked for it gave it.
    #[error("{0} asked for this plan, and nobody approves their own")]
    OwnRequest(String),
    /// It cannot be told whether whoever asked for it gave it.
    #[error(
        "the plan was asked for from the shared account {0}, by nobody known: nobody's approval can \
         be told from their own"
    )]
    Nobody(String),
    /// The signature does not fit what is said to be signed.
    #[error("its signature is not of this text: it was altered after it was signed")]
    Altered,
    /// The key is not the signer's.
    #[error("it was signed with a key that is not among the allowed ones of {0}")]
    UnknownKey(String),
    /// The signer lacks the role.
    #[error("{signer} does not have the role `{role}`")]
    WrongRole {
        /// The signer.
        signer: String,
        /// The role.
        role: String,
    },
    /// The plan changes what is not on the path.
    #[error("the plan changes {0}, which the approved path `{1}` does not select")]
    OffPath(RelationName, String),
    /// The plan reaches too far.
    #[error("the plan reaches {reaches} relations, and the approved path allows {allowed}")]
    TooWide {
        /// How many it changes or reaches.
        reaches: usize,
        /// How many are allowed.
        allowed: usize,
    },
}

/// A plan, and what its approvals are held against.
#[derive(Debug)]
pub struct Question<'a> {
    /// The plan.
    pub plan: &'a PlanId,
    /// The project.
    pub project: &'a str,
    /// The environment.
    pub environment: &'a str,
    /// Who asked for the plan.
    pub request: &'a Request,
    /// What the plan changes.
    pub changes: &'a BTreeSet<RelationName>,
    /// How many relations the plan changes or reaches through lineage.
    pub reaches: usize,
    /// What the selection of each approved path picks.
    pub selected: &'a BTreeMap<String, BTreeSet<RelationName>>,
    /// The roles, and who has them.
    pub roles: &'a BTreeMap<String, BTreeSet<String>>,
    /// Accounts (`user@host`) that several people use: they say nothing about who somebody is.
    pub shared: &'a BTreeSet<String>,
    /// The moment.
    pub now: Timestamp,
}

/// An approval that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Who gave it.
    pub signer: String,
    /// To what.
    pub subject: Subject,
    /// Until when.
    pub expires: Timestamp,
}

/// What became of all the approvals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// One for each person whose approval counts.
    pub counted: Vec<Counted>,
    /// The others: who gave each, and why it does not count.
    pub refused: Vec<(String, Refusal)>,
    /// How many are missing.
    pub missing: u32,
}

/// Whether one approval counts for a plan.
///
/// # Errors
/// With the first reason why it does not.
pub fn judge(
    approval: &Approval,
    role: Option<&str>,
    question: &Question<'_>,
    prove: &dyn Fn(&Approval) -> Proof,
) -> Result<(), Refusal> {
    let statement = &approval.statement;
    let signer = &statement.signer;
    if statement.project != question.project {
        return Err(Refusal::OtherProject);
    }
    if statement.environment != question.environment || approval.env != question.environment {
        return Err(Refusal::OtherEnvironment {
            approved: statement.environment.clone(),
            environment: question.environment.to_owned(),
        });
    }
    match &statement.subject {
        Subject::Plan { plan } if plan != question.plan => {
            return Err(Refusal::OtherPlan {
                approved: plan.clone(),
                plan: question.plan.clone(),
            });
        }
        Subject::Plan { .. } => {}
        Subject::Path { path } => on_path(path, question)?,
    }
    if statement.expires <= question.now {
        return Err(Refusal::Expired(statement.expires));
    }
    let request = question.request;
    if request.signer.as_ref() == Some(signer) {
        return Err(Refusal::OwnRequest(signer.clone()));
    }
    let shared = question.shared.contains(&request.actor);
    if shared && request.signer.is_none() {
        return Err(Refusal::Nobody(request.actor.clone()));
    }
    if !shared && request.actor == approval.actor {
        return Err(Refusal::OwnRequest(approval.actor.clone()));
    }
    if let Some(role) = role
        && !question.roles.get(role).is_some_and(|r| r.contains(signer))
    {
        return Err(Refusal::WrongRole {
            signer: signer.clone(),
            role: role.to_owned(),
        });
    }
    match prove(approval) {
        Proof::Good => Ok(()),
        Proof::Altered => Err(Refusal::Altered),
        Proof::UnknownKey => Err(Refusal::UnknownKey(signer.clone())),
    }
}

fn on_path(path: &Path, question: &Question<'_>) -> Result<(), Refusal> {
    let none = BTreeSet::new();
    let picked = question.selected.get(&path.select).unwrap_or(&none);
    if let Some(off) = question.changes.iter().find(|name| !picked.contains(*name)) {
        return Err(Refusal::OffPath(off.clone(), path.select.clone()));
    }
    if question.reaches > path.relations {
        return Err(Refusal::TooWide {
            reaches: question.reaches,
            allowed: path.relations,
        });
    }
    Ok(())
}

/// Counts the approvals of different people.
pub fn gate(
    need: &Need,
    approvals: &[Approval],
    question: &Question<'_>,
    prove: &dyn Fn(&Approval) -> Proof,
) -> Gate {
    let mut gate = Gate::default();
    let mut people = BTreeSet::new();
    for approval in approvals {
        let statement = &approval.statement;
        match judge(approval, need.role.as_deref(), question, prove) {
            Ok(()) if people.insert(statement.signer.clone()) => gate.counted.push(Counted {
                signer: statement.signer.clone(),
                subject: statement.subject.clone(),
                expires: statement.expires,
            }),
            Ok(()) => {}
            Err(why) => gate.refused.push((statement.signer.clone(), why)),
        }
    }
    let counted = u32::try_from(gate.counted.len()).unwrap_or(u32::MAX);
    gate.missing = need.count.saturating_sub(counted);
    gate
}
