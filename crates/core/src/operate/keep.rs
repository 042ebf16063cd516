//! Retention: which restore points stay, which of them unpacked, which go.

use super::look::progress;
use super::{OperateError, Session};
use crate::engine::{Housekeeping, Retention};
use crate::event::Event;
use crate::execute::Notice;
use crate::ident::ReleaseId;
use crate::release::Stage;
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
    /// Packs and drops points as the retention says, and records it. Refused while an operation is
    /// not finished: what it has retired and built is what `resume` needs.
    pub fn housekeep(&mut self, keep: &Keep) -> Result<Housekeeping, OperateError> {
        self.nothing_open()?;
        let retention = self.retention(keep, Timestamp::now())?;
        self.watch
            .notice(Notice::Phase("packing older restore points"));
        let live = self.live()?.release;
        let production = self.ledger.history(|h| h.map(live))?;
        self.tell_versions(&production.unwrap_or_default())?;
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

    /// The release under whose name a release's state is retained: its own, or that of the newest
    /// one that brought this state back. A rename takes the file along, and it comes to rest under
    /// the name that it was live as. `points` are the retained ones, the newest first.
    pub fn stand_in(
        &self,
        release: ReleaseId,
        points: &[ReleaseId],
    ) -> Result<Option<ReleaseId>, OperateError> {
        if points.contains(&release) {
            return Ok(Some(release));
        }
        let origin = |id| -> Result<Option<ReleaseId>, OperateError> {
            Ok(self.ledger.history(|h| h.release(id))?.map(|r| r.origin))
        };
        let wanted = origin(release)?;
        for id in points {
            if wanted.is_some() && origin(*id)? == wanted {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// What must stay. What undo and redo would bring back next is always among it.
    pub fn retention(&mut self, keep: &Keep, now: Timestamp) -> Result<Retention, OperateError> {
        let env = self.ledger.env().to_owned();
        let live = self.live()?;
        let points = self.engine.points()?;
        let one_by_one = points.iter().any(|p| p.versions.is_some());
        let mut points: Vec<ReleaseId> = points.into_iter().map(|p| p.release).collect();
        points.sort_unstable_by(|a, b| b.cmp(a));
        points.dedup();

        let mut kept: BTreeSet<ReleaseId> = points.iter().take(keep.last).copied().collect();
        let mut promised = self.ledger.history(|h| h.pins(&env))?;
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
            promised.extend(self.ledger.history(|h| h.stacked(&env, place))?);
        }
        promised.extend(live.taken);
        let recent = self.recent(keep, now)?;
        if one_by_one {
            // A version that was live until yesterday may lie under the name of an old release.
            promised.extend(recent);
        } else {
            kept.extend(points.iter().filter(|id| recent.contains(id)));
        }
        // Where all of them stay, it need not be asked which of them hold what was promised.
        if !points.iter().all(|id| kept.contains(id)) {
            kept.extend(self.holders(&promised)?);
        }
        kept.extend(promised);
        let plain = points
            .iter()
            .filter(|id| kept.contains(id))
            .take(PLAIN)
            .copied()
            .collect();
        Ok(Retention { keep: kept, plain })
    }

    /// The newest so many releases that were production, and all that were it within the time.
    fn recent(&self, keep: &Keep, now: Timestamp) -> Result<BTreeSet<ReleaseId>, OperateError> {
        let env = self.ledger.env();
        let mut recent = BTreeSet::new();
        let mut before = None;
        // Until when the next one was live: the live one still is.
        let mut until = now;
        loop {
            let page = self.ledger.history(|h| h.releases(env, before, 100))?;
            for release in page.iter().filter(|r| r.stage == Stage::Published) {
                if recent.len() >= keep.last && now.duration_since(until) > keep.within {
                    return Ok(recent);
                }
                recent.insert(release.id);
                until = release.closed.unwrap_or(until);
            }
            match page.last() {
                Some(last) => before = Some(last.id),
                None => return Ok(recent),
            }
        }
    }

    /// The points that hold what these releases need and their own points do not: a point may have
    /// been moved into place and retired again under a later release's name, and a restore that
    /// touched one database retires only that one.
    fn holders(&mut self, promised: &[ReleaseId]) -> Result<BTreeSet<ReleaseId>, OperateError> {
        let mut points = self.point_maps()?;
        points.sort_by_key(|p| std::cmp::Reverse(p.point.release));
        let mut holders = BTreeSet::new();
        for id in promised {
            let map = self
                .ledger
                .history(|h| h.versions(*id))?
                .unwrap_or_default();
            for (name, version) in &map {
                let mut holding = points.iter().filter(|p| p.map.get(name) == Some(version));
                let newest = holding.next().map(|p| p.point.release);
                let is_kept = |r: ReleaseId| promised.contains(&r) || holders.contains(&r);
                if newest.is_some_and(is_kept) || holding.any(|p| is_kept(p.point.release)) {
                    continue;
                }
                holders.extend(newest);
            }
        }
        Ok(holders)
    }
}
