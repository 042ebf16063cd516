//! Changing production: moving relations, and bringing tables back where they stand.

use super::Postgres;
use crate::postgres::swap::{self, Event, SwapPlan};
use crate::postgres::undo;
use std::cell::RefCell;
use unship_core::engine::{Build, EngineError, ErrorKind, OnProgress};
use unship_core::ident::ReleaseId;

impl Postgres {
    /// Moves everything. If the connection breaks at the very end, the server is asked what became
    /// of it.
    pub(super) fn swap(
        &mut self,
        plan: &SwapPlan,
        record: &[String],
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let token = RefCell::new(None);
        let notes = RefCell::new(Vec::new());
        let done = swap::run(self.client()?, plan, record, &|event| match event {
            Event::Blocked(blocked) => {
                let by = blocked.by.first().map_or("somebody", String::as_str);
                on(&format!("waiting for {by}"), u64::from(blocked.tries), 0);
            }
            Event::Committing(of) => {
                token.replace(Some(of));
            }
            // Production is as planned; what could not be checked is still marked as that.
            Event::Afterwards { statement, error } => notes.borrow_mut().push(format!(
                "production is as planned, and this could not be done after it: {statement}: \
                 {error}. It can be run by hand."
            )),
        });
        self.notes.extend(notes.into_inner());
        // It leaves other settings than it found.
        self.client = None;
        match (done, token.into_inner()) {
            (Err(error), Some(token)) if error.kind == ErrorKind::Interrupted => {
                if !swap::committed(self.client()?, &token)? {
                    return Err(error);
                }
            }
            (done, _) => done?,
        }
        // Nobody is shown the plan of a publish before it is done.
        let said = plan.warnings.iter().chain(&plan.notes);
        self.notes.extend(said.cloned());
        Ok(())
    }

    /// Nothing has to be prepared: what changes is written down already. The job's sessions say whose
    /// they are, if its driver lets them.
    pub(super) fn begin_in_place(&mut self, release: ReleaseId) -> Result<Build, EngineError> {
        if self.undo.tables.is_empty() {
            return Err(EngineError::new(
                ErrorKind::Unsupported,
                "a job that builds in place cannot be taken back in PostgreSQL",
            )
            .hint(
                "let it build aside, which is the default; or name the tables that it writes in \
                 `undo_log` of the environment",
            ));
        }
        let env = [
            ("UNSHIP_RELEASE", release.to_string()),
            ("PGOPTIONS", format!("-c unship.release={release}")),
        ];
        Ok(Build {
            release,
            files: Vec::new(),
            env: env.map(|(k, v)| (k.to_owned(), v)).into(),
        })
    }

    /// Brings tables back where they stand. If the connection breaks at the very end, the server is
    /// asked what became of it.
    pub(super) fn undo_in_place(
        &mut self,
        statements: &undo::Statements,
        record: &[String],
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let done = undo::run(self.client()?, statements, record, on);
        // It leaves other settings than it found.
        self.client = None;
        match done {
            Err(error) if error.kind == ErrorKind::Interrupted => {
                match undo::happened(self.client()?, &error)? {
                    true => Ok(()),
                    false => Err(EngineError::new(
                        ErrorKind::Interrupted,
                        "the connection broke, and nothing was changed",
                    )
                    .because(error)),
                }
            }
            done => done,
        }
    }
}
