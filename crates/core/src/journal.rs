//! The journal: what is known of each step of a plan, folded from the ledger's six step events.
//!
//! The fold is pure and knows every legal transition; an illegal one means that the log does not
//! tell a possible story, and nothing may be decided from it.

use crate::event::Event;
use crate::plan::PlanId;
use std::collections::BTreeMap;

/// What is known of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Nothing was attempted.
    #[default]
    NotStarted,
    /// It was started, and nothing is known of how it ended: in doubt.
    Started,
    /// It happened.
    Succeeded,
    /// It did not happen.
    Failed,
    /// Taking it back was started, and nothing is known of how that ended: in doubt.
    UndoStarted,
    /// It was taken back.
    Undone,
    /// It could not be taken back.
    UndoFailed,
}

/// A step event, without its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// About to be done.
    Started,
    /// Done.
    Succeeded,
    /// Not done.
    Failed,
    /// About to be taken back.
    UndoStarted,
    /// Taken back.
    UndoFinished,
    /// Not taken back.
    UndoFailed,
}

/// A log that tells an impossible story.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step} of plan {plan} was {status:?} and cannot become {mark:?}: the log is not one that unship writes", plan = plan.short())]
pub struct Impossible {
    /// The plan.
    pub plan: PlanId,
    /// The step.
    pub step: u32,
    /// Its status before.
    pub status: Status,
    /// What the log says happened then.
    pub mark: Mark,
}

impl Status {
    /// The status after an event, if that event can follow.
    ///
    /// A failed step may be started again by a resume; so may an undo.
    pub fn next(self, mark: Mark) -> Option<Status> {
        use Mark as M;
        use Status as S;
        match (self, mark) {
            (S::NotStarted | S::Failed | S::Started, M::Started) => Some(S::Started),
            (S::Started, M::Succeeded) => Some(S::Succeeded),
            (S::Started, M::Failed) => Some(S::Failed),
            (S::Succeeded | S::UndoFailed | S::UndoStarted, M::UndoStarted) => Some(S::UndoStarted),
            (S::UndoStarted, M::UndoFinished) => Some(S::Undone),
            (S::UndoStarted, M::UndoFailed) => Some(S::UndoFailed),
            _ => None,
        }
    }
}

/// All steps of one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    plan: PlanId,
    steps: BTreeMap<u32, Status>,
}

impl Journal {
    /// A plan of which nothing was attempted.
    pub fn new(plan: PlanId) -> Self {
        Self {
            plan,
            steps: BTreeMap::new(),
        }
    }

    /// Folds events; those of other plans and other kinds are passed over.
    pub fn fold<'a>(
        plan: &PlanId,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Self, Impossible> {
        let mut journal = Self::new(plan.clone());
        for event in events {
            let (step, mark) = match event {
                Event::StepStarted(s) => (s, Mark::Started),
                Event::StepSucceeded(s) => (s, Mark::Succeeded),
                Event::StepFailed { step, .. } => (step, Mark::Failed),
                Event::UndoStarted(s) => (s, Mark::UndoStarted),
                Event::UndoFinished(s) => (s, Mark::UndoFinished),
                Event::UndoFailed { step, .. } => (step, Mark::UndoFailed),
                _ => continue,
            };
            if step.plan == *plan {
                journal.mark(step.step, mark)?;
            }
        }
        Ok(journal)
    }

    /// What is known of a step.
    pub fn status(&self, step: u32) -> Status {
        self.steps.get(&step).copied().unwrap_or_default()
    }

    /// Notes an event.
    pub fn mark(&mut self, step: u32, mark: Mark) -> Result<(), Impossible> {
        let status = self.status(step);
        let next = status.next(mark).ok_or_else(|| Impossible {
            plan: self.plan.clone(),
            step,
            status,
            mark,
        })?;
        self.steps.insert(step, next);
        Ok(())
    }

    /// Whether the plan is being taken back: something failed, or an undo has begun.
    pub fn backward(&self) -> bool {
        self.steps.values().any(|s| {
            matches!(
                s,
                Status::Failed | Status::UndoStarted | Status::Undone | Status::UndoFailed
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marks() -> impl Strategy<Value = Vec<Mark>> {
        proptest::collection::vec(
            prop_oneof![
                Just(Mark::Started),
                Just(Mark::Succeeded),
                Just(Mark::Failed),
                Just(Mark::UndoStarted),
                Just(Mark::UndoFinished),
                Just(Mark::UndoFailed)
            ],
            0..12,
        )
    }

    proptest! {
        /// A step that never succeeded is never undone, and nothing is done to one that was.
        #[test]
        fn nothing_is_undone_that_was_not_done(marks in marks()) {
            let mut status = Status::NotStarted;
            let mut done = false;
            for mark in marks {
                let Some(next) = status.next(mark) else { continue };
                done |= mark == Mark::Succeeded;
                if matches!(next, Status::UndoStarted | Status::Undone | Status::UndoFailed) {
                    prop_assert!(done);
                }
                prop_assert_ne!(status, Status::Undone);
                status = next;
            }
        }
    }
}
