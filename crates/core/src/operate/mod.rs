//! Operations: run, roll back, undo, redo, resume, verify. Each goes through the same stages:
//! observe, record, check, plan, execute, verify.

mod artefacts;
mod back;
mod check;
mod keep;
mod look;
mod measure;
mod moment;
mod publish;
mod resume;
mod run;
mod stages;
mod verdicts;
mod verify;

pub use back::{Ask, Done};
pub use check::Checks;
pub(crate) use check::unknown;
pub use keep::Keep;
pub use resume::Resumed;
pub use run::{JobResult, Ran, RunRequest};
pub use stages::Before;
pub use verify::Proof;

use crate::engine::{Engine, EngineError};
use crate::execute::{ExecuteError, Watch};
use crate::history::Live;
use crate::ident::{RelationName, ReleaseId};
use crate::log::{Ledger, LogError};
use crate::plan::PlanError;
use crate::restore::WishError;
use std::collections::BTreeMap;

/// An environment at work: its warehouse, its ledger, and who watches. Whoever changes anything
/// through it holds the environment's lease.
pub struct Session<'a> {
    /// The warehouse.
    pub engine: &'a mut dyn Engine,
    /// The ledger.
    pub ledger: &'a mut Ledger,
    /// Who is told.
    pub watch: &'a dyn Watch,
}

/// Why an operation ended without doing what was asked. Each says what production is.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The ledger.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Execution stopped in the middle.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// There is nothing to plan.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// A plan that cannot be read or written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No job was guarded here yet.
    #[error("nothing has been released in `{0}` yet")]
    NothingLive(String),
    /// An earlier operation did not end.
    #[error("{release} is not finished: it was interrupted")]
    Unfinished {
        /// The release that it makes.
        release: ReleaseId,
    },
    /// A rollback that goes stage by stage is held, or was interrupted between two stages.
    #[error("the rollback in stages that {first} began is {}", words)]
    InStages {
        /// Its name: the release of its first stage.
        first: ReleaseId,
        /// Where it stands.
        words: String,
    },
    /// A plan in stages where one is carried out at once, or the other way round.
    #[error(
        "only a rollback of whole relations to a release can go in stages, and only as planned"
    )]
    NotInStages,
    /// A stage would not do what was planned and approved.
    #[error("not as planned: {}", names(.0))]
    NotAsPlanned(BTreeMap<RelationName, String>),
    /// There is none to finish.
    #[error("nothing was interrupted: there is nothing to resume")]
    NothingToResume,
    /// There is no such release, or none in this environment.
    #[error("there is no {0} in this environment")]
    NoSuchRelease(ReleaseId),
    /// That release was never production.
    #[error("{0} never was production")]
    NeverLive(ReleaseId),
    /// What that release held is not retained, so that it cannot be looked at.
    #[error("what {0} held is not retained any more")]
    NotRetained(ReleaseId),
    /// Nothing is known of that time.
    #[error("nothing had been released yet at {0}")]
    NothingThen(jiff::Timestamp),
    /// No good release is older than the live one.
    #[error("there is no good release before {0}")]
    NoTarget(ReleaseId),
    /// Nothing was done yet that could be undone.
    #[error("there is nothing to undo")]
    NoUndo,
    /// Nothing was undone or rolled back.
    #[error("there is nothing to redo")]
    NoRedo,
    /// Others wrote to what would be replaced.
    #[error("others wrote to {} that would be replaced", count(.0.len(), "relation"))]
    OthersWrote(BTreeMap<RelationName, String>),
    /// What others wrote is to be kept, and cannot be.
    #[error("what others wrote cannot be kept: {}", names(.0))]
    CannotKeep(BTreeMap<RelationName, String>),
    /// Others wrote to what a job built, while it ran.
    #[error("{release} was not published: others wrote to {} while the job ran", names(.conflicts))]
    Conflict {
        /// The release.
        release: ReleaseId,
        /// What they wrote to.
        conflicts: BTreeMap<RelationName, String>,
    },
    /// A plan was made for another moment.
    #[error(
        "this plan was made to make {next} from {then}; now {now} is live and the next release is \
         {upcoming}"
    )]
    StalePlan {
        /// What was live.
        then: ReleaseId,
        /// The release it would have made.
        next: ReleaseId,
        /// What is live.
        now: ReleaseId,
        /// The release that would be made now.
        upcoming: ReleaseId,
    },
    /// A step failed and everything was taken back.
    #[error("{release} was not made: {error}")]
    TakenBack {
        /// The release that was not made.
        release: ReleaseId,
        /// What failed.
        error: String,
        /// What to do about it.
        hint: Option<String>,
        /// Whether somebody else was faster, so that a new plan may succeed.
        conflict: bool,
    },
    /// What was restored is not what was recorded.
    #[error("{release} does not hold what was recorded: {}", names(.differences))]
    NotProved {
        /// The release.
        release: ReleaseId,
        /// The relations that differ, with how.
        differences: BTreeMap<RelationName, String>,
    },
    /// What the caller wanted to happen in between failed.
    #[error("{0}")]
    Job(String),
}

/// `3 relations`, `1 relation`.
pub fn count(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

fn names(map: &BTreeMap<RelationName, String>) -> String {
    map.iter()
        .map(|(name, what)| format!("{name} ({what})"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Session<'_> {
    /// What is live, or an error if nothing is.
    pub fn live(&self) -> Result<Live, OperateError> {
        let env = self.ledger.env();
        self.ledger
            .history(|h| h.live(env))?
            .ok_or_else(|| OperateError::NothingLive(env.to_owned()))
    }

    /// Refuses while an earlier operation is not finished, or a rollback in stages has not ended.
    fn nothing_open(&self) -> Result<(), OperateError> {
        self.nothing_under_way()?;
        match self.staging()? {
            Some(staging) => Err(OperateError::InStages {
                first: staging.first,
                words: staging.words(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses while an earlier operation is in the middle of its work.
    fn nothing_under_way(&self) -> Result<(), OperateError> {
        let env = self.ledger.env();
        match self.ledger.history(|h| h.open(env))? {
            Some(open) => Err(OperateError::Unfinished {
                release: open.release,
            }),
            None => Ok(()),
        }
    }
}
