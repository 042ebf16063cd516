//! Carrying out a plan: the only code that changes a warehouse.
//!
//! A step is journaled before it touches anything and after it did. What was interrupted is looked
//! at, never guessed: if the step's expectation holds it happened, if its guard holds it did not,
//! and if neither holds the plan is stuck and a person chooses.

use crate::engine::{self, Engine, EngineError, ErrorKind, Unmet};
use crate::event::{Event, StepRef};
use crate::fault::boundary;
use crate::journal::{Impossible, Journal, Mark, Status};
use crate::ledger::{Seal, Sealed};
use crate::plan::{Plan, PlanId, Step};

mod apart;

pub use apart::{Apart, end_between};

/// Where events go before the world is touched.
pub trait Recorder {
    /// Appends one event. Returning means that it survives a crash of this process; and, unless it
    /// only says that a step succeeded, which can be seen again, a power loss.
    fn record(&mut self, event: Event) -> Result<(), RecordError>;

    /// Events as entries that an engine writes itself, in the transaction that changes production.
    /// `None` where the ledger does not lie in the warehouse.
    fn seal(&mut self, _events: Vec<Event>) -> Result<Option<Seal>, RecordError> {
        Ok(None)
    }

    /// What became of a seal.
    fn sealed(&mut self, _seal: &Seal) -> Result<Sealed, RecordError> {
        Ok(Sealed::Open)
    }
}

/// An event could not be made durable.
#[derive(Debug, thiserror::Error)]
#[error("the ledger did not take the event: {0}")]
pub struct RecordError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What someone watching is told, as it happens.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A phase of the operation begins.
    Phase(&'a str),
    /// A step's status changed.
    Step(&'a Step, Mark),
    /// A long piece of work goes on: what, done, total (bytes or rows).
    Progress(&'a str, u64, u64),
    /// Something worth knowing.
    Note(&'a str),
}

/// A user interface: terminal, JSON stream, log.
pub trait Watch: Sync {
    /// Takes one notice. Must not fail and must not block for long.
    fn notice(&self, notice: Notice<'_>);
}

/// Nobody watches.
impl Watch for () {
    fn notice(&self, _: Notice<'_>) {}
}

/// How a plan ended.
#[derive(Debug)]
pub enum Outcome {
    /// Every step succeeded.
    Done {
        /// Whether the closing events were written with the last step.
        sealed: bool,
    },
    /// A step failed, and all that had been done before was taken back: production is as before.
    TakenBack {
        /// The step that failed.
        step: u32,
        /// Why.
        error: String,
        /// What to do about it.
        hint: Option<String>,
        /// Whether somebody else was faster, so that a new plan may succeed. Where another warehouse had
        /// changed before, its readers saw it go there and back: whether it goes again, a person says.
        conflict: bool,
    },
}

/// What a person says of a step that is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assume {
    /// It happened.
    Applied,
    /// It did not.
    Untouched,
}

/// Why execution stopped in the middle.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The world is not as the plan assumes, and nothing has been changed by it.
    #[error("the world moved since this plan was made: {unmet}")]
    Moved {
        /// The step whose guard does not hold.
        step: u32,
        /// What does not hold.
        unmet: Unmet,
    },
    /// A step is neither applied nor untouched.
    #[error(
        "step {step} is stuck. Applied would mean: {applied}. Untouched would mean: {untouched}"
    )]
    Stuck {
        /// The step.
        step: u32,
        /// What it does.
        explain: String,
        /// What speaks against its having happened.
        applied: Box<Unmet>,
        /// What speaks against its not having happened.
        untouched: Box<Unmet>,
    },
    /// A step stopped in the middle of changing production; resuming goes on with it.
    #[error("step {step} stopped half-way: {error}")]
    HalfWay {
        /// The step.
        step: u32,
        /// Why.
        #[source]
        error: EngineError,
    },
    /// Nobody can tell yet whether a step happened; resuming looks again.
    #[error("step {step} is in doubt: {error}")]
    InDoubt {
        /// The step.
        step: u32,
        /// Why.
        #[source]
        error: EngineError,
    },
    /// A step failed, and so did taking back what had been done before.
    #[error("step {step} could not be taken back: {error}")]
    NotTakenBack {
        /// The step that could not be taken back.
        step: u32,
        /// Why.
        #[source]
        error: EngineError,
    },
    /// A step failed after another had changed production for good.
    #[error(
        "step {step} failed: {error}. Step {changed} has changed production and cannot be taken \
         back, so that this can only go on: `unship resume` tries step {step} again"
    )]
    OnlyForward {
        /// The step that failed.
        step: u32,
        /// The step that cannot be taken back.
        changed: u32,
        /// Why it failed.
        error: String,
        /// What to do about it.
        hint: Option<String>,
        /// Whether somebody else was faster: then trying again will not help either.
        conflict: bool,
    },
    /// The engine could not even be looked at.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The ledger did not take an event; what was being done is in doubt and `resume` will look.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The log tells an impossible story.
    #[error(transparent)]
    Impossible(#[from] Impossible),
}

/// A plan at the point that it has reached.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its id.
    pub id: PlanId,
    /// Where it stopped; empty for one that was not begun.
    pub journal: Journal,
    /// What a person says of the step that is stuck.
    pub assume: Option<Assume>,
    /// What makes its result official: written together with the last step, where engine and ledger
    /// can, and otherwise by the caller when it is done.
    pub closing: &'a [Event],
}

struct Run<'a> {
    engine: &'a mut dyn Engine,
    ledger: &'a mut dyn Recorder,
    watch: &'a dyn Watch,
    plan: &'a Plan,
    id: PlanId,
    journal: Journal,
    assume: Option<Assume>,
    closing: &'a [Event],
}

/// How often a step is tried again because entries of other environments came before its seal.
const OVERTAKEN: u32 = 10;

/// Carries out a plan, or goes on with it where its journal says that it stopped.
pub fn execute(
    engine: &mut dyn Engine,
    ledger: &mut dyn Recorder,
    watch: &dyn Watch,
    attempt: Attempt<'_>,
) -> Result<Outcome, ExecuteError> {
    let mut run = Run::new(engine, ledger, watch, attempt);
    if let (true, Some(changed)) = (run.taken_back(), run.changed_for_good()) {
        // It was being ended between two warehouses, and does not go on.
        return Err(ExecuteError::OnlyForward {
            step: run.first_failed(),
            changed,
            error: "what came after it was taken back".to_owned(),
            hint: None,
            conflict: true,
        });
    }
    if run.journal.backward() && run.changed_for_good().is_none() {
        let cause = "an earlier attempt failed".to_owned();
        let step = run.first_failed();
        return run.backward(step, EngineError::new(ErrorKind::Interrupted, cause));
    }
    run.forward()
}

impl<'a> Run<'a> {
    fn new(
        engine: &'a mut dyn Engine,
        ledger: &'a mut dyn Recorder,
        watch: &'a dyn Watch,
        attempt: Attempt<'a>,
    ) -> Self {
        Self {
            engine,
            ledger,
            watch,
            plan: attempt.plan,
            id: attempt.id,
            journal: attempt.journal,
            assume: attempt.assume,
            closing: attempt.closing,
        }
    }

    /// The first step that failed; 0 where none is known to have.
    fn first_failed(&self) -> u32 {
        let mut steps = self.plan.steps.iter();
        let failed = steps.find(|s| self.journal.status(s.id) == Status::Failed);
        failed.map_or(0, |s| s.id)
    }

    /// Whether any step was taken back, or was about to be.
    fn taken_back(&self) -> bool {
        let back = [Status::UndoStarted, Status::Undone, Status::UndoFailed];
        let mut steps = self.plan.steps.iter();
        steps.any(|s| back.contains(&self.journal.status(s.id)))
    }

    fn forward(&mut self) -> Result<Outcome, ExecuteError> {
        for step in &self.plan.steps {
            match self.journal.status(step.id) {
                Status::Succeeded => continue,
                Status::Started => {
                    if self.is_applied(step, true)? {
                        self.mark(step, Mark::Succeeded, None)?;
                        continue;
                    }
                    // That a person says it did not happen does not make its guard true.
                    if let Err(unmet) = engine::holds(self.engine, &step.guard)? {
                        self.mark(step, Mark::Failed, Some("interrupted"))?;
                        return self.back_from(step.id, moved(&unmet));
                    }
                }
                _ => {
                    if let Err(unmet) = engine::holds(self.engine, &step.guard)? {
                        if self.anything_done() {
                            return self.back_from(step.id, moved(&unmet));
                        }
                        return Err(ExecuteError::Moved {
                            step: step.id,
                            unmet,
                        });
                    }
                }
            }
            self.mark(step, Mark::Started, None)?;
            let (applied, sealed) = self.apply(step)?;
            if sealed {
                // Only the last step is sealed.
                self.journal.mark(step.id, Mark::Succeeded)?;
                self.watch.notice(Notice::Step(step, Mark::Succeeded));
                return Ok(Outcome::Done { sealed });
            }
            match applied {
                Err(error) if error.kind == ErrorKind::HalfWay => {
                    // It stays in doubt: to call it failed would be to call production untouched.
                    let step = step.id;
                    return Err(ExecuteError::HalfWay { step, error });
                }
                Err(error) if error.kind == ErrorKind::InDoubt => {
                    let step = step.id;
                    return Err(ExecuteError::InDoubt { step, error });
                }
                Err(error) => return self.failed(step, error),
                Ok(()) => {}
            }
            if let Err(unmet) = engine::holds(self.engine, &step.expect)? {
                // It said that it worked, and it is not to be seen: only a person can tell.
                return Err(self.stuck(step, unmet.clone(), unmet));
            }
            self.mark(step, Mark::Succeeded, None)?;
        }
        Ok(Outcome::Done { sealed: false })
    }

    /// Has the engine carry a step out, and says whether the closing events went with it.
    fn apply(&mut self, step: &Step) -> Result<(Result<(), EngineError>, bool), ExecuteError> {
        let is_last = self.plan.steps.last().is_some_and(|s| s.id == step.id);
        let mut tried = 0;
        loop {
            tried += 1;
            let seal = if is_last && step.production {
                let done = Event::StepSucceeded(self.at(step));
                let mut events = vec![done];
                events.extend_from_slice(self.closing);
                self.ledger.seal(events)?
            } else {
                None
            };
            let watch = self.watch;
            let applied = self
                .engine
                .apply(step, seal.as_ref(), &|what, done, total| {
                    watch.notice(Notice::Progress(what, done, total));
                });
            boundary("step applied");
            for note in self.engine.notes() {
                watch.notice(Notice::Note(&note));
            }
            let Some(seal) = seal else {
                return Ok((applied, false));
            };
            match self.ledger.sealed(&seal)? {
                // Whatever the engine could see: the entries are there, and so is all the rest.
                Sealed::Written => return Ok((Ok(()), true)),
                Sealed::Overtaken if applied.is_err() && tried < OVERTAKEN => {}
                Sealed::Overtaken | Sealed::Open => return Ok((applied, false)),
            }
        }
    }

    /// An engine that reports an error may still have done the work, wholly or not at all.
    fn failed(&mut self, step: &Step, error: EngineError) -> Result<Outcome, ExecuteError> {
        if self.is_applied(step, true)? {
            self.mark(step, Mark::Succeeded, None)?;
            return self.forward();
        }
        self.mark(step, Mark::Failed, Some(&chain(&error)))?;
        self.back_from(step.id, error)
    }

    /// The step that changed production and has no undo, if one did.
    fn changed_for_good(&self) -> Option<u32> {
        let mut steps = self.plan.steps.iter();
        steps
            .find(|s| {
                s.production && s.undo.is_none() && self.journal.status(s.id) == Status::Succeeded
            })
            .map(|s| s.id)
    }

    /// Takes a plan back because of a step, unless a part of it would stay: that would be a mixture.
    fn back_from(&mut self, step: u32, cause: EngineError) -> Result<Outcome, ExecuteError> {
        match self.changed_for_good() {
            None => self.backward(step, cause),
            Some(changed) => Err(ExecuteError::OnlyForward {
                step,
                changed,
                error: chain(&cause),
                conflict: cause.kind == ErrorKind::Conflict,
                hint: cause.hint,
            }),
        }
    }

    fn backward(&mut self, failed: u32, cause: EngineError) -> Result<Outcome, ExecuteError> {
        let elsewhere = self.elsewhere(failed);
        for step in self.plan.steps.iter().rev() {
            self.take_back(step)?;
        }
        Ok(Outcome::TakenBack {
            step: failed,
            error: chain(&cause),
            conflict: cause.kind == ErrorKind::Conflict && !elsewhere,
            hint: cause.hint,
        })
    }

    /// Takes back what became of a step, if anything did and it can be taken back.
    fn take_back(&mut self, step: &Step) -> Result<(), ExecuteError> {
        match self.journal.status(step.id) {
            Status::Started => {
                if self.is_applied(step, true)? {
                    self.mark(step, Mark::Succeeded, None)?;
                } else {
                    return self.mark(step, Mark::Failed, Some("interrupted"));
                }
            }
            Status::Succeeded | Status::UndoStarted | Status::UndoFailed => {}
            Status::NotStarted | Status::Failed | Status::Undone => return Ok(()),
        }
        if step.undo.is_none() {
            // What was prepared beside production hurts nobody and is swept later.
            return Ok(());
        }
        // Undoing a step swaps its guard and its expectation: what others did to its result
        // since must not go with it.
        if !self.is_applied(step, false)? {
            if self.journal.status(step.id) != Status::UndoStarted {
                self.mark(step, Mark::UndoStarted, None)?;
            }
            return self.mark(step, Mark::UndoFinished, None);
        }
        self.mark(step, Mark::UndoStarted, None)?;
        let watch = self.watch;
        let reverted = self.engine.revert(step, &|what, done, total| {
            watch.notice(Notice::Progress(what, done, total))
        });
        boundary("undo applied");
        let reverted = match reverted {
            Err(error) if error.kind == ErrorKind::InDoubt => {
                let step = step.id;
                return Err(ExecuteError::InDoubt { step, error });
            }
            other => other,
        };
        match (reverted, engine::holds(self.engine, &step.guard)?) {
            // It is undone, whatever the engine reported.
            (_, Ok(())) => {}
            (Err(error), Err(_)) => {
                self.mark(step, Mark::UndoFailed, Some(&chain(&error)))?;
                return Err(ExecuteError::NotTakenBack {
                    step: step.id,
                    error,
                });
            }
            (Ok(()), Err(unmet)) => return Err(self.stuck(step, unmet.clone(), unmet)),
        }
        self.mark(step, Mark::UndoFinished, None)
    }

    /// Whether a step that is in doubt, or that is to be taken back, is applied. Where both its
    /// expectation and its guard hold, it is what `both` says.
    fn is_applied(&mut self, step: &Step, both: bool) -> Result<bool, ExecuteError> {
        let (first, second) = match both {
            true => (&step.expect, &step.guard),
            false => (&step.guard, &step.expect),
        };
        let Err(not_first) = engine::holds(self.engine, first)? else {
            return Ok(both);
        };
        let Err(not_second) = engine::holds(self.engine, second)? else {
            return Ok(!both);
        };
        let (not_applied, not_untouched) = match both {
            true => (not_first, not_second),
            false => (not_second, not_first),
        };
        match self.assume.take() {
            Some(Assume::Applied) => Ok(true),
            Some(Assume::Untouched) => Ok(false),
            None => Err(self.stuck(step, not_applied, not_untouched)),
        }
    }

    fn stuck(&self, step: &Step, applied: Unmet, untouched: Unmet) -> ExecuteError {
        ExecuteError::Stuck {
            step: step.id,
            explain: step.explain.clone(),
            applied: Box::new(applied),
            untouched: Box::new(untouched),
        }
    }

    fn anything_done(&self) -> bool {
        self.plan
            .steps
            .iter()
            .any(|s| self.journal.status(s.id) != Status::NotStarted)
    }

    fn at(&self, step: &Step) -> StepRef {
        StepRef {
            plan: self.id.clone(),
            step: step.id,
        }
    }

    fn mark(&mut self, step: &Step, mark: Mark, error: Option<&str>) -> Result<(), ExecuteError> {
        let at = self.at(step);
        let error = error.unwrap_or_default().to_owned();
        let event = match mark {
            Mark::Started => Event::StepStarted(at),
            Mark::Succeeded => Event::StepSucceeded(at),
            Mark::Failed => Event::StepFailed { step: at, error },
            Mark::UndoStarted => Event::UndoStarted(at),
            Mark::UndoFinished => Event::UndoFinished(at),
            Mark::UndoFailed => Event::UndoFailed { step: at, error },
        };
        self.journal.mark(step.id, mark)?;
        self.ledger.record(event)?;
        self.watch.notice(Notice::Step(step, mark));
        Ok(())
    }
}

/// That the world is not as a step assumes any more.
fn moved(unmet: &Unmet) -> EngineError {
    EngineError::new(ErrorKind::Conflict, unmet.to_string())
}

/// An error and its causes in one line. A cause that its effect has named already is not said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
