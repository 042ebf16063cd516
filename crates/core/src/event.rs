//! The ledger's vocabulary. Everything that unship remembers is one of these.

use crate::approve::Statement;
use crate::check::Tally;
use crate::decide::Decision;
use crate::ident::{RelationName, ReleaseId};
use crate::incident::{Closing, IncidentId, Opening};
use crate::ledger::BlobRef;
use crate::notice::Notice;
use crate::others::Others;
use crate::plan::PlanId;
use crate::release::{Code, Job, JobEnd, Operation, Verdict, Version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One thing that happened, in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A release number was taken, and work began.
    ReleaseOpened {
        /// Its number.
        release: ReleaseId,
        /// What it does.
        operation: Operation,
        /// What is live.
        parent: Option<ReleaseId>,
        /// The job, for a run.
        job: Option<Job>,
        /// The code, for a run.
        code: Option<Code>,
    },
    /// Others wrote to production since the live release; this is what it holds now.
    DriftSeen {
        /// The live release.
        release: ReleaseId,
        /// The relations that differ.
        changes: BTreeMap<RelationName, Version>,
        /// The engine's mark of production as seen.
        mark: String,
        /// Where the rows of unchanged relations are stored now, if not where they were.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        moved: BTreeMap<RelationName, Option<String>>,
    },
    /// The first look at production after a release moved what it brings: the same versions with
    /// the same rows, defined as they are now. What production had on the old relations (keys,
    /// indexes, comments) was put on the new ones as they were moved.
    ReleaseSettled {
        /// The live release.
        release: ReleaseId,
        /// The relations that are defined otherwise than they were built.
        versions: BTreeMap<RelationName, Version>,
    },
    /// A restore point was taken and proved readable.
    PointTaken {
        /// Whose state it holds.
        release: ReleaseId,
        /// Where it is.
        location: String,
    },
    /// The job of a release ended.
    JobEnded {
        /// The release.
        release: ReleaseId,
        /// How.
        end: JobEnd,
    },
    /// A release was looked at by checks.
    Checked {
        /// Which.
        release: ReleaseId,
        /// What they found: a JSON list of [findings](crate::check::Finding).
        findings: BlobRef,
        /// How many of each sort.
        tally: Tally,
        /// What was measured for it: a JSON map from relation to
        /// [profile](crate::check::RelationProfile). `None` where nothing was measured that later
        /// releases are to be compared with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profiles: Option<BlobRef>,
        /// The relations in it: those that the release changed.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        profiled: BTreeSet<RelationName>,
        /// How long each sample query took, in microseconds, by the check's name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        answered: BTreeMap<String, u64>,
    },
    /// A plan was made, and its steps are about to be carried out.
    PlanMade {
        /// The release that it makes.
        release: ReleaseId,
        /// The plan's id.
        plan: PlanId,
        /// The plan itself.
        blob: BlobRef,
    },
    /// A step is about to touch the world.
    StepStarted(StepRef),
    /// A step's expectation holds.
    StepSucceeded(StepRef),
    /// A step did not happen.
    StepFailed {
        /// Which.
        #[serde(flatten)]
        step: StepRef,
        /// Why.
        error: String,
    },
    /// A step is about to be taken back.
    UndoStarted(StepRef),
    /// A step was taken back.
    UndoFinished(StepRef),
    /// A step could not be taken back.
    UndoFailed {
        /// Which.
        #[serde(flatten)]
        step: StepRef,
        /// Why.
        error: String,
    },
    /// A release became production.
    ReleasePublished {
        /// Which.
        release: ReleaseId,
        /// What it changed against what was live.
        changes: BTreeMap<RelationName, Version>,
        /// The engine's mark of production right afterwards.
        mark: String,
        /// Where the rows of unchanged relations are stored now, if not where they were.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        moved: BTreeMap<RelationName, Option<String>>,
    },
    /// A release will never become production.
    ReleaseAbandoned {
        /// Which.
        release: ReleaseId,
        /// Why.
        reason: String,
        /// What had been built, where it was kept to be looked at: the changes against what is live.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        kept: BTreeMap<RelationName, Version>,
    },
    /// A release is thought good or bad.
    ReleaseMarked {
        /// Which.
        release: ReleaseId,
        /// What is thought.
        verdict: Verdict,
        /// Why.
        reason: String,
    },
    /// A release's point is kept whatever the retention says.
    Pinned {
        /// Which.
        release: ReleaseId,
        /// Why.
        reason: Option<String>,
    },
    /// A pin was taken away.
    Unpinned {
        /// Which.
        release: ReleaseId,
    },
    /// Live was compared with what a release recorded.
    Verified {
        /// Which.
        release: ReleaseId,
        /// How many relations were compared.
        relations: usize,
        /// The ones that differ, with how.
        differences: BTreeMap<RelationName, String>,
    },
    /// It was decided what to do about a release.
    Decided {
        /// Which.
        release: ReleaseId,
        /// What, and why.
        decision: Box<Decision>,
    },
    /// A rollback is about to begin that nobody asked for: a rule did.
    RolledBackByPolicy {
        /// The release that is left.
        release: ReleaseId,
        /// The rule.
        rule: String,
    },
    /// Somebody wants to carry out a plan that needs approvals.
    ApprovalAsked {
        /// The plan's id.
        plan: PlanId,
        /// The plan itself.
        blob: BlobRef,
        /// By what name the asker would sign, as far as that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signer: Option<String>,
    },
    /// Somebody signed a plan, or a path for plans.
    Approved {
        /// What was signed.
        statement: Statement,
        /// The signature, as OpenSSH writes it.
        signature: String,
    },
    /// Somebody went on without what the policy asks for.
    BreakGlass {
        /// The release that is made so.
        release: ReleaseId,
        /// The plan that is carried out.
        plan: PlanId,
        /// Why.
        reason: String,
        /// What was passed over, each a sentence.
        passed: Vec<String>,
    },
    /// The code of a release that was rolled back must not run again as it is.
    Quarantined {
        /// The commit.
        commit: String,
        /// The release that it built.
        release: ReleaseId,
        /// The release that took it back.
        by: ReleaseId,
        /// What it is blamed for.
        blamed: BTreeSet<RelationName>,
    },
    /// A commit may run again.
    QuarantineLifted {
        /// The commit.
        commit: String,
        /// Why.
        reason: String,
    },
    /// Something went wrong, and somebody must see to it.
    /// Its number is the next one, and a second one of the same release is none: two people may
    /// come to the same thought at once.
    IncidentOpened {
        /// The release that it is about.
        release: ReleaseId,
        /// What is known.
        opening: Box<Opening>,
    },
    /// Somebody wrote down what they saw or did.
    IncidentNoted {
        /// Which.
        incident: IncidentId,
        /// What.
        note: String,
    },
    /// Somebody sees to it.
    IncidentAcknowledged {
        /// Which.
        incident: IncidentId,
    },
    /// Something was broken open, so that the incident cannot be closed without a review.
    ReviewAsked {
        /// Which.
        incident: IncidentId,
        /// Why.
        because: String,
    },
    /// All that had been broken open was reviewed.
    IncidentReviewed {
        /// Which.
        incident: IncidentId,
        /// What the review came to.
        review: String,
    },
    /// An incident is over.
    IncidentClosed {
        /// Which.
        incident: IncidentId,
        /// How.
        closing: Box<Closing>,
    },
    /// People are to be told something.
    NoticeQueued {
        /// What, and over which route.
        notice: Box<Notice>,
    },
    /// A notice is about to be sent.
    NoticeSending {
        /// Its key.
        key: String,
    },
    /// The receiver took a notice.
    NoticeSent {
        /// Its key.
        key: String,
        /// How often it was tried in all.
        attempts: u32,
    },
    /// A notice could not be sent.
    NoticeFailed {
        /// Its key.
        key: String,
        /// How often it was tried in all.
        attempts: u32,
        /// Why.
        error: String,
        /// Whether it is not tried any more.
        given_up: bool,
    },
    /// A rollback that goes stage by stage was begun. Until it has ended nothing else is begun here.
    StagesBegun {
        /// The release that its first stage is to make: the name of all of it.
        first: ReleaseId,
        /// What was live.
        from: ReleaseId,
        /// The plan that derives all stages, and that was approved if anything was.
        plan: PlanId,
        /// The plan itself.
        blob: BlobRef,
        /// How many stages it has.
        of: u32,
        /// What becomes of what others wrote.
        others: Others,
    },
    /// A stage is about to begin.
    StageBegun {
        /// Which.
        number: u32,
        /// What it will be compared with: the JSON of a [`Before`](crate::operate::Before).
        before: BlobRef,
    },
    /// A stage was looked at, or did not come about.
    StageChecked {
        /// Which.
        number: u32,
        /// The release that it made; `None` if it made none.
        release: Option<ReleaseId>,
        /// What is not as it should be, each a sentence. If there is anything, the rollback is held.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        surprises: Vec<String>,
    },
    /// A person goes on with a rollback that was held.
    StagesResumed {
        /// The stage at which it was.
        number: u32,
    },
    /// How many statements unship sent for a release, in a warehouse that counts them: each of them
    /// may cost something. An operation that was resumed has several entries.
    StatementsCounted {
        /// Which.
        release: ReleaseId,
        /// How many.
        statements: u64,
    },
    /// Points were packed or dropped.
    HousekeepingDone {
        /// Packed ones.
        packed: Vec<ReleaseId>,
        /// Dropped ones; their state cannot be restored any more.
        dropped: Vec<ReleaseId>,
        /// Bytes given back.
        freed: u64,
    },
}

impl Event {
    /// The release whose story this is part of, where it names one. A story is told from what was
    /// done and decided; what others wrote, and pins, are not part of it.
    pub fn story_of(&self) -> Option<ReleaseId> {
        match self {
            Self::ReleaseOpened { release, .. }
            | Self::PointTaken { release, .. }
            | Self::JobEnded { release, .. }
            | Self::PlanMade { release, .. }
            | Self::ReleasePublished { release, .. }
            | Self::ReleaseAbandoned { release, .. }
            | Self::ReleaseMarked { release, .. }
            | Self::Checked { release, .. }
            | Self::Decided { release, .. }
            | Self::RolledBackByPolicy { release, .. }
            | Self::BreakGlass { release, .. }
            | Self::Quarantined { release, .. }
            | Self::Verified { release, .. } => Some(*release),
            Self::StageChecked { release, .. } => *release,
            Self::DriftSeen { .. }
            | Self::ReleaseSettled { .. }
            | Self::StepStarted(_)
            | Self::StepSucceeded(_)
            | Self::StepFailed { .. }
            | Self::UndoStarted(_)
            | Self::UndoFinished(_)
            | Self::UndoFailed { .. }
            | Self::Pinned { .. }
            | Self::Unpinned { .. }
            | Self::ApprovalAsked { .. }
            | Self::Approved { .. }
            | Self::QuarantineLifted { .. }
            | Self::IncidentOpened { .. }
            | Self::IncidentNoted { .. }
            | Self::IncidentAcknowledged { .. }
            | Self::ReviewAsked { .. }
            | Self::IncidentReviewed { .. }
            | Self::IncidentClosed { .. }
            | Self::NoticeQueued { .. }
            | Self::NoticeSending { .. }
            | Self::NoticeSent { .. }
            | Self::NoticeFailed { .. }
            | Self::StagesBegun { .. }
            | Self::StageBegun { .. }
            | Self::StagesResumed { .. }
            | Self::StatementsCounted { .. }
            | Self::HousekeepingDone { .. } => None,
        }
    }

    /// The plan that a step belongs to.
    pub fn step_of(&self) -> Option<&PlanId> {
        match self {
            Self::StepStarted(step)
            | Self::StepSucceeded(step)
            | Self::UndoStarted(step)
            | Self::UndoFinished(step)
            | Self::StepFailed { step, .. }
            | Self::UndoFailed { step, .. } => Some(&step.plan),
            _ => None,
        }
    }
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRef {
    /// The plan.
    pub plan: PlanId,
    /// The step's number.
    pub step: u32,
}
