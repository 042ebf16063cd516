//! Carrying out one step of a plan: the only thing here that changes production.

use super::assemble;
use super::doctor;
use super::engine::DuckDb;
use super::file;
use super::lock::{FileLock, Freeze};
use super::plan::DuckAction;
use super::retained::{pack, tidy, unpack};
use super::store::Store;
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::fault::boundary;

/// Does what the step says. The caller has journaled it and checked its guard.
pub(super) fn carry_out(
    db: &mut DuckDb,
    action: DuckAction,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    match action {
        DuckAction::Unpack { file, point, to } => {
            file::remove_if_there(&to)?;
            unpack(db.file(&file)?, point, &to, on)
        }
        DuckAction::Clone { from, to } => file::clone(&from, &to, on).map(drop),
        DuckAction::Assemble {
            live,
            base,
            to,
            sources,
            remove,
            keep,
        } => {
            let file = db.file(&live)?.clone();
            let content = assemble::Content {
                sources: &sources,
                remove: &remove,
                keep: &keep,
            };
            assemble::assemble(&mut db.sessions, &file, &base, &to, &content, on)
        }
        DuckAction::Exchange { live, to, rows } => {
            let live = db.file(&live)?.path.clone();
            super::rows::exchange(&mut db.sessions, &live, &to, &rows, on)
        }
        DuckAction::Swap {
            live,
            incoming,
            retired,
        } => {
            // From the moment of the rename it is production: nobody may write to it before it
            // has been recorded as that, and nobody may still be building it.
            let lock = FileLock::take(&incoming, Freeze::Writers)?;
            // It may have been damaged where it lay, and what is live now is still whole.
            doctor::readable(&incoming)?;
            file::swap(&live, &incoming, &retired)?;
            db.locks.push(lock);
            tidy(&incoming);
            Ok(())
        }
        DuckAction::Pack { live, point } => {
            let file = db.file(&live)?.clone();
            pack(&file, &live, point, on)
        }
        DuckAction::Patch { live, point } => {
            db.freeze_everybody(&live)?;
            let file = db.file(&live)?;
            let store = Store::open(&file.store())?;
            let mut hook = |phase| {
                boundary(&format!("patch {phase:?}"));
                Ok(())
            };
            let patched = store.patch(&point.to_string(), &file.label(), &live, &mut hook, &|p| {
                on(p.doing, p.done, p.total);
            });
            if let Err(error) = patched {
                let error = EngineError::from(error);
                return Err(if doctor::sealed(&live) {
                    EngineError {
                        kind: ErrorKind::HalfWay,
                        ..error
                    }
                } else {
                    error
                });
            }
            db.let_readers_in(&live)
        }
    }
}
