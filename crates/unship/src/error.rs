//! Errors at the command's edge: what happened, what production is, what to do next, and the exit
//! code. Nowhere else does an error become text for a person.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use unship_core::engine::{EngineError, ErrorKind, FREE_SPACE};
use unship_core::execute::{ExecuteError, chain};
use unship_core::ledger::LedgerError;
use unship_core::log::LogError;
use unship_core::operate::OperateError;
use unship_core::plan::PlanError;

/// Exit codes. They are documented in the book and do not change their meaning.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Wrong usage; nothing was done.
    pub const USAGE: u8 = 2;
    /// Something failed. Production is as it was, unless the message says otherwise.
    pub const FAILED: u8 = 70;
    /// Somebody else is at work here, or has the database open.
    pub const BUSY: u8 = 71;
    /// An operation was interrupted or is stuck: `unship resume`.
    pub const UNFINISHED: u8 = 72;
    /// Refused, because something would be lost or the world moved.
    pub const REFUSED: u8 = 73;
    /// A proof failed: production, a restore point or the log is not what was recorded.
    pub const NOT_PROVED: u8 = 74;
    /// There was nothing to do.
    pub const NOTHING: u8 = 75;
    /// Checks failed: a release was held, or is bad.
    pub const CHECKS: u8 = 76;
    /// The code is in quarantine: it built a release that was rolled back.
    pub const QUARANTINED: u8 = 77;
    /// Held by the policy: an approval is missing, or the time is outside of its window.
    pub const HELD: u8 = 78;
}

/// An error as a person reads it.
#[derive(Debug)]
pub struct CliError {
    /// What happened.
    pub message: String,
    /// What production is, where that can be doubted.
    pub production: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// The exit code.
    pub code: u8,
    /// Whether somebody else was faster, and nothing was changed: a new plan may succeed.
    pub conflict: bool,
}

/// What every command returns: its exit code.
pub type CliResult<T = u8> = Result<T, CliError>;

impl CliError {
    /// An error after which production is as it was.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            production: None,
            hint: None,
            code,
            conflict: false,
        }
    }

    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(exit::FAILED, message)
    }

    /// The person asked for something that does not exist or cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what production is.
    #[must_use]
    pub fn production(mut self, text: impl Into<String>) -> Self {
        self.production = Some(text.into());
        self
    }

    /// Says what production is and what to do next, unless the error does so itself. `hint` is there
    /// where something is unfinished.
    #[must_use]
    pub fn standing(mut self, production: String, hint: Option<&str>) -> Self {
        self.production.get_or_insert(production);
        self.hint = match (self.hint, hint) {
            (Some(own), Some(_)) if own == FREE_SPACE => {
                Some(format!("{FREE_SPACE} and run `unship resume`"))
            }
            (Some(own), None) => Some(with_gc(own)),
            (own, hint) => own.or(hint.map(str::to_owned)),
        };
        self
    }

    /// The text for standard error.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for (label, line) in [("production", &self.production), ("hint", &self.hint)] {
            if let Some(line) = line {
                let _ = writeln!(text, "  {label}: {line}");
            }
        }
        text
    }

    /// The same for `--json`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": "unship.error/1",
            "error": self.message,
            "production": self.production,
            "hint": self.hint,
            "exit_code": self.code,
        })
    }
}

/// An error of the file system, with what was being done to which file: on its own it names neither.
pub fn io_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |error| {
        let e = CliError::failed(format!("cannot {doing} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => e.hint(FREE_SPACE),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                e.hint("run unship as the user who may write there")
            }
            _ => e,
        }
    }
}

/// An error of the system that is about no file.
pub fn system_error(doing: &str) -> impl FnOnce(io::Error) -> CliError {
    move |error| CliError::failed(format!("cannot {doing}: {error}"))
}

/// The directory that unship was started in.
pub fn current_dir() -> CliResult<PathBuf> {
    std::env::current_dir().map_err(|e| {
        system_error("tell the current directory")(e)
            .hint("it may have been removed: change to one that is there")
    })
}

/// While something is unfinished, `gc` refuses; else it is what makes room.
fn with_gc(hint: String) -> String {
    if hint == FREE_SPACE {
        format!("{hint}; `unship gc` drops restore points that the retention does not ask for")
    } else {
        hint
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let code = match error.kind {
            ErrorKind::Busy | ErrorKind::Conflict => exit::BUSY,
            ErrorKind::Refused => exit::REFUSED,
            ErrorKind::Corrupt => exit::NOT_PROVED,
            _ => exit::FAILED,
        };
        let mut e = Self::new(code, chain(&error));
        e.conflict = error.kind == ErrorKind::Conflict;
        e.hint = error.hint;
        e
    }
}

/// What helps where the ledger's file is no ledger any more.
const LEDGER_GONE: &str = "put a backup of it back. Without one, keep the file and move `.unship` \
                           away: the whole files under `points` in it stay readable by DuckDB, and \
                           the next `unship run` begins a new history";

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        let (code, hint) = match &error {
            LedgerError::Held { .. } => (
                exit::BUSY,
                Some("wait until it has ended; `unship status` shows what it does"),
            ),
            LedgerError::Fenced { .. } => (
                exit::UNFINISHED,
                Some(
                    "another unship took over while this one was not answering; `unship status` shows what it does",
                ),
            ),
            LedgerError::Corrupt { .. } => (
                exit::NOT_PROVED,
                Some("keep the file as it is; `unship audit verify` says what is wrong with it"),
            ),
            LedgerError::Diverged { .. } => (exit::NOT_PROVED, None),
            LedgerError::Damaged { .. }
            | LedgerError::NotALedger { .. }
            | LedgerError::NotFound { .. } => (exit::NOT_PROVED, Some(LEDGER_GONE)),
            LedgerError::ReadOnly { .. } | LedgerError::Io { .. } => (
                exit::FAILED,
                Some("run unship as the user who may write to `.unship`"),
            ),
            LedgerError::DiskFull { .. } => (
                exit::FAILED,
                Some(
                    "free some space there; `unship status` says whether anything is to be resumed",
                ),
            ),
            _ => (exit::FAILED, None),
        };
        let mut e = Self::new(code, chain(&error));
        e.hint = hint.map(str::to_owned);
        if let LedgerError::Store { source, .. } = &error
            && let Some(engine) = source.downcast_ref::<EngineError>()
        {
            e.hint.clone_from(&engine.hint);
        }
        e
    }
}

impl From<LogError> for CliError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Ledger(error) => error.into(),
            error => Self::new(exit::NOT_PROVED, chain(&error))
                .hint("`unship fsck` checks the ledger and rebuilds its views"),
        }
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        let hint = match error {
            PlanError::NotAPlan(_) => "`unship plan --output <FILE>` writes one",
            PlanError::Newer(_) => {
                "use the unship that made it, or make a new one with `unship plan`"
            }
        };
        Self::new(exit::REFUSED, chain(&error)).hint(hint)
    }
}

impl From<OperateError> for CliError {
    fn from(error: OperateError) -> Self {
        let text = error.to_string();
        match error {
            OperateError::Engine(error) => error.into(),
            OperateError::Log(error) => error.into(),
            OperateError::Plan(error) => error.into(),
            OperateError::Execute(error) => error.into(),
            OperateError::Wish(_) => Self::new(exit::NOTHING, text),
            OperateError::NothingLive(_) => Self::new(exit::NOTHING, text)
                .hint("`unship run -- <command>` guards a job and makes the first release"),
            OperateError::Unfinished { .. } => Self::new(exit::UNFINISHED, text)
                .hint("`unship status` shows where it stopped; `unship resume` finishes it"),
            OperateError::InStages { .. } => Self::new(exit::UNFINISHED, text).hint(
                "`unship status` shows where it stands; `unship resume` goes on with it, `unship \
                 undo` takes its stages back",
            ),
            OperateError::NotInStages => Self::usage(text),
            OperateError::NotAsPlanned(_) => {
                Self::new(exit::REFUSED, text).hint("make a new plan with `unship plan --staged`")
            }
            OperateError::NothingToResume | OperateError::NoUndo => Self::new(exit::NOTHING, text),
            OperateError::NoRedo => Self::new(exit::NOTHING, text)
                .hint("redo goes forward again after an undo or a rollback"),
            OperateError::NoSuchRelease(_) | OperateError::NeverLive(_) => {
                Self::usage(text).hint("`unship log` lists the releases")
            }
            OperateError::NotRetained(_) => Self::new(exit::NOTHING, text)
                .hint("`unship log` says which releases are kept; `keep` in unship.toml, how many"),
            OperateError::NothingThen(_) => Self::new(exit::NOTHING, text)
                .hint("`unship log` lists the releases with their times"),
            OperateError::NoTarget(_) => Self::new(exit::NOTHING, text)
                .hint("name a release with `--to`; `unship log` lists them"),
            OperateError::OthersWrote(relations) => {
                let list: Vec<_> = relations
                    .iter()
                    .map(|(name, what)| format!("{name} ({what})"))
                    .collect();
                Self::new(exit::REFUSED, format!("{text}: {}", list.join(", ")))
                    .production("nothing was changed")
                    .hint(
                        "`--others keep` puts what they added into the version that comes back; \
                         `--others set-aside` goes on without: it stays in the retained version, and \
                         nowhere else",
                    )
            }
            OperateError::CannotKeep(_) => Self::new(exit::REFUSED, text)
                .production("nothing was changed")
                .hint(
                    "`--others set-aside` goes on without: what they wrote stays in the retained \
                     version; or leave these relations out with `--select` and `--exclude`",
                ),
            OperateError::Conflict { .. } => Self::new(exit::REFUSED, text)
                .production("as others left it; what the job built is kept to be looked at")
                .hint("run the job again: it goes on from what they left"),
            OperateError::StalePlan { .. } => Self::new(exit::REFUSED, text)
                .production("nothing was changed")
                .hint("make a new plan with `unship plan`"),
            OperateError::TakenBack { hint, conflict, .. } => {
                let mut e = Self::failed(text).production("as it was before");
                e.hint = hint.map(with_gc);
                e.conflict = conflict;
                e
            }
            OperateError::NotProved { .. } => Self::new(exit::NOT_PROVED, text)
                .hint("`unship diff` shows the rows; `unship undo` takes the operation back"),
            OperateError::Job(_) => {
                Self::failed(text).production("as it was before: the job did not run")
            }
        }
    }
}

impl From<ExecuteError> for CliError {
    fn from(error: ExecuteError) -> Self {
        let text = error.to_string();
        match error {
            ExecuteError::Moved { .. } => Self {
                conflict: true,
                ..Self::new(exit::REFUSED, text)
                    .production("nothing was changed")
                    .hint("look at what changed with `unship status`, and make a new plan")
            },
            ExecuteError::Stuck { explain, .. } => {
                Self::new(exit::UNFINISHED, format!("{text} (it was to {explain})"))
                    .production("in between; nothing more is done until a person has looked")
                    .hint("`unship resume --assume applied` or `--assume untouched` goes on")
            }
            ExecuteError::HalfWay { ref error, .. } => {
                Self::new(exit::UNFINISHED, format!("{text}: {}", chain(error)))
                    .production("refuses to open until this has been finished")
                    .hint("mend the cause and run `unship resume`")
            }
            ExecuteError::InDoubt { error, .. } => {
                let e = Self::new(exit::UNFINISHED, text)
                    .production("in doubt: readers are served, before this step or after it");
                let again = "run `unship resume` when it answers: it looks what became of the step";
                e.hint(error.hint.unwrap_or_else(|| again.to_owned()))
            }
            ExecuteError::NotTakenBack { ref error, .. } => {
                Self::new(exit::UNFINISHED, format!("{text}: {}", chain(error)))
                    .production("in between; some steps are done and one could not be taken back")
                    .hint("mend the cause and run `unship resume`")
            }
            ExecuteError::OnlyForward { hint, conflict, .. } => {
                let mut e = Self::new(exit::UNFINISHED, text)
                    .production("in between: `unship status` shows which steps are done");
                let ends = "`unship resume` tries once more; if others still are in the way, it ends \
                            the release where it is, between two members, and the next plan sees \
                            what they did";
                e.hint = hint.or(conflict.then(|| ends.to_owned()));
                e
            }
            ExecuteError::Engine(error) => error.into(),
            ExecuteError::Record(_) => Self::new(exit::UNFINISHED, chain(&error))
                .production("as `unship status` says; the last step is in doubt")
                .hint("mend the ledger's disk and run `unship resume`"),
            ExecuteError::Impossible(_) => Self::new(exit::NOT_PROVED, text).hint(
                "keep the ledger as it is; `unship audit verify` says whether it was changed",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_when_the_disk_is_full_depends_on_what_is_unfinished() {
        let full =
            || CliError::from(EngineError::new(ErrorKind::DiskFull, "full").hint(FREE_SPACE));
        let hint = |open| full().standing("R1 is live".to_owned(), open).hint.unwrap();
        let open = hint(Some("mend the cause and run `unship resume`"));
        assert_eq!(open, "free some space and run `unship resume`");
        assert!(hint(None).contains("`unship gc`"), "{}", hint(None));
        let back = OperateError::TakenBack {
            release: "R2".parse().unwrap(),
            error: "full".to_owned(),
            hint: Some(FREE_SPACE.to_owned()),
            conflict: false,
        };
        let hint = CliError::from(back).hint.unwrap();
        assert!(
            hint.contains("`unship gc`") && !hint.contains("resume"),
            "{hint}"
        );
    }
}
