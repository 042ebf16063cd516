//! Retention: which restore points stay, which of them unpacked, which go.

use super::look::progress;
use super::{OperateError, Session};
use crate::engine::{Housekeeping, Retention};
use crate::event::Event;
use crate::execute::Notice;
use crate::ident::ReleaseId;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// How many of the newest points stay unpacked, ready to be renamed into place.
const PLAIN: usize = 2;

/// What the configuration asks for. A point that any rule keeps stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many releases.
    pub last: usize,
    /// All that were live within this time.
    pub within: SignedDuration,
}

impl Session<'_> {
    /// Packs and drops points as the retention says, and records it.
    pub fn housekeep(&mut self, keep: &Keep) -> Result<Housekeeping, OperateError> {
        let retention = self.retention(keep, Timestamp::now())?;
        self.watch
            .notice(Notice::Phase("packing older restore points"));
        let on = progress(self.watch);
        let done = self.engine.housekeep(&retention, &on)?;
        if !done.packed.is_empty() || !done.dropped.is_empty() {
            self.ledger.append(&[Event::HousekeepingDone {
                packed: done.packed.clone(),
                dropped: done.dropped.clone(),
                freed: done.freed,
            }])?;
        }
        Ok(done)
    }

    /// What must stay. What undo and redo would bring back next is always among it.
    pub fn retention(&mut self, keep: &Keep, now: Timestamp) -> Result<Retention, OperateError> {
        let env = self.ledger.env().to_owned();
        let live = self.live()?;
        let mut points: Vec<ReleaseId> = self
            .engine
            .points()?
            .into_iter()
            .map(|p| p.release)
            .collect();
        points.sort_unstable_by(|a, b| b.cmp(a));
        points.dedup();

        let mut kept: BTreeSet<ReleaseId> = points.iter().take(keep.last).copied().collect();
        kept.extend(self.ledger.history(|h| h.pins(&env))?);
        for id in &points {
            let closed = self
                .ledger
                .history(|h| h.release(*id))?
                .and_then(|r| r.closed);
            if closed.is_none_or(|at| now.duration_since(at) <= keep.within) {
                kept.insert(*id);
            }
        }
        for place in [live.cursor.checked_sub(1), Some(live.cursor + 1)]
            .into_iter()
            .flatten()
        {
            kept.extend(self.ledger.history(|h| h.stacked(&env, place))?);
        }
        kept.extend(live.taken);
        let plain = points
            .iter()
            .filter(|id| kept.contains(id))
            .take(PLAIN)
            .copied()
            .collect();
        Ok(Retention { keep: kept, plain })
    }
}
