//! Plans that change several warehouses, one after the other: where they can end besides at their end.
//!
//! Between two warehouses nothing is half done, and the order is one in which every moment between
//! two of them is fit to be seen. So that is where a plan ends that can neither go on, because
//! somebody else was faster, nor be taken back.

use super::{Attempt, ExecuteError, Recorder, Run, Watch};
use crate::engine::Engine;
use crate::journal::Status;
use crate::plan::Step;
use std::collections::BTreeSet;

/// How far a plan came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// The databases that are as it was to make them.
    pub made: BTreeSet<String>,
    /// The databases that are as they were.
    pub left: BTreeSet<String>,
}

/// Ends a plan between two warehouses: one of which a part was changed goes back to what it was.
/// `None` if nothing has changed that stays changed, or if the plan is of one warehouse.
///
/// # Errors
/// Those of taking a step back.
pub fn end_between(
    engine: &mut dyn Engine,
    ledger: &mut dyn Recorder,
    watch: &dyn Watch,
    attempt: Attempt<'_>,
) -> Result<Option<Apart>, ExecuteError> {
    let mut run = Run::new(engine, ledger, watch, attempt);
    let mut changes: Vec<(&Step, BTreeSet<String>)> = Vec::new();
    for step in run.plan.steps.iter().filter(|step| step.production) {
        match run.engine.databases_of(step) {
            Some(databases) => changes.push((step, databases)),
            None => return Ok(None),
        }
    }
    let done = |step: &Step| run.journal.status(step.id) == Status::Succeeded;
    let open = changes.iter().filter(|(step, _)| !done(step));
    let left: BTreeSet<String> = open.flat_map(|(_, of)| of.iter().cloned()).collect();
    let (half, whole): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|(_, of)| !of.is_disjoint(&left));
    let for_good = |(step, _): &(&Step, _)| step.undo.is_none() && done(step);
    if whole.is_empty() || half.iter().any(for_good) {
        return Ok(None);
    }
    // What was only prepared for them goes too: it speaks of a change that never was.
    let theirs = |step: &&Step| {
        let of = run.engine.databases_of(step);
        of.is_some_and(|of| !of.is_disjoint(&left))
    };
    let theirs: Vec<&Step> = run.plan.steps.iter().filter(theirs).collect();
    for step in theirs.into_iter().rev() {
        run.take_back(step)?;
    }
    Ok(Some(Apart {
        made: whole.into_iter().flat_map(|(_, of)| of).collect(),
        left,
    }))
}

impl Run<'_> {
    /// Whether a warehouse has changed besides the one that a step is of.
    pub(super) fn elsewhere(&self, step: u32) -> bool {
        let of = |step: &Step| self.engine.databases_of(step);
        let mut steps = self.plan.steps.iter();
        let Some(here) = steps.find(|s| s.id == step).and_then(of) else {
            return false;
        };
        let untouched = [Status::NotStarted, Status::Failed];
        let mut steps = self.plan.steps.iter();
        steps.any(|other| {
            other.production
                && !untouched.contains(&self.journal.status(other.id))
                && of(other).is_some_and(|there| there.is_disjoint(&here))
        })
    }
}
