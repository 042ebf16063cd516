//! The fold: what each entry of the log makes of the views.

use super::keys::{
    APPROVALS, BREAKER, BY_ENV, CHECKED, DECISION, GLASS, JOBS, KEPT, LIVE, MAP, MOMENTS, NAMES,
    OPEN, PATHS, PINS, PROFILES, QUARANTINE, RELEASE, REQUEST, REQUESTS, ROLLBACKS, STACK, key,
    keyed, numbered, read, relation_key, release_key, write,
};
use super::{
    BrokenGlass, Checked, Decided, History, Kept, Live, Moments, Open, Profiled, Shelf, ShelfError,
    ShelfMut,
};
use crate::approve::{Approval, Request, Subject};
use crate::event::Event;
use crate::ident::{RelationName, ReleaseId};
use crate::quarantine::Quarantine;
use crate::release::{Operation, Release, Stage, Verdict, Version};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Folds one entry of the log into the views.
pub fn fold(
    shelf: &mut dyn ShelfMut,
    seq: u64,
    at: Timestamp,
    actor: &str,
    env: &str,
    event: &Event,
) -> Result<(), ShelfError> {
    Fold {
        shelf,
        seq,
        at,
        env,
    }
    .entry(actor, event)
}

pub(super) struct Fold<'a> {
    pub(super) shelf: &'a mut dyn ShelfMut,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) env: &'a str,
}

impl Fold<'_> {
    pub(super) fn history<T>(
        &self,
        ask: impl FnOnce(&History<'_>) -> Result<T, ShelfError>,
    ) -> Result<T, ShelfError> {
        let shelf: &dyn Shelf = self.shelf;
        ask(&History(shelf))
    }

    pub(super) fn story<T>(&self, what: impl Into<String>) -> Result<T, ShelfError> {
        Err(ShelfError::Story {
            seq: self.seq,
            what: what.into(),
        })
    }

    fn change(
        &mut self,
        id: ReleaseId,
        edit: impl FnOnce(&mut Release),
    ) -> Result<Release, ShelfError> {
        let Some(mut release) = self.history(|h| h.release(id))? else {
            return self.story(format!("there is no {id}"));
        };
        edit(&mut release);
        write(self.shelf, &release_key(RELEASE, id), &release)?;
        Ok(release)
    }

    fn entry(&mut self, actor: &str, event: &Event) -> Result<(), ShelfError> {
        self.place(event)?;
        self.event(actor, event)?;
        self.stages(actor, event)?;
        self.told(actor, event)
    }

    fn event(&mut self, actor: &str, event: &Event) -> Result<(), ShelfError> {
        match event {
            Event::ReleaseOpened {
                release,
                operation,
                parent,
                job,
                code,
            } => self.opened(actor, *release, operation, *parent, job, code),
            Event::DriftSeen {
                release,
                changes,
                mark,
                moved,
            } => {
                let Some(mut live) = self.history(|h| h.live(self.env))? else {
                    return self.story("drift before anything was live");
                };
                if live.release != *release {
                    return self.story(format!("drift of {release}, and {} is live", live.release));
                }
                live.mark.clone_from(mark);
                if !changes.is_empty() {
                    live.drifts += 1;
                }
                write(self.shelf, &key(LIVE, self.env), &live)?;
                self.versions(changes)?;
                self.moved(moved)
            }
            Event::ReleaseSettled { release, versions } => {
                let live = self.history(|h| h.live(self.env))?.map(|l| l.release);
                if live != Some(*release) {
                    return self.story(format!("{release} settled, and is not live"));
                }
                self.versions(versions)?;
                // This is what it published; a look in between may not pass for it.
                let mut moments = self.history(|h| h.moments(*release))?;
                moments.published = Some(self.seq);
                write(self.shelf, &release_key(MOMENTS, *release), &moments)
            }
            Event::JobEnded { release, end } => {
                if end.exit_code == Some(0) {
                    self.took(JOBS, end.milliseconds)?;
                }
                self.change(*release, |r| r.end = Some(end.clone()))
                    .map(drop)
            }
            Event::Checked {
                release,
                findings,
                tally,
                profiles,
                profiled,
                answered,
            } => {
                let checked = Checked {
                    at: self.at,
                    findings: *findings,
                    tally: tally.clone(),
                    answered: answered.clone(),
                };
                write(self.shelf, &release_key(CHECKED, *release), &checked)?;
                let Some(profiles) = profiles else {
                    return Ok(());
                };
                let entry = Profiled {
                    release: *release,
                    at: self.at,
                    profiles: *profiles,
                };
                for name in profiled {
                    let at = numbered(relation_key(PROFILES, self.env, name), self.seq);
                    write(self.shelf, &at, &entry)?;
                }
                Ok(())
            }
            Event::PlanMade {
                release,
                plan,
                blob,
            } => {
                let open = Open {
                    release: *release,
                    plan: Some((plan.clone(), *blob, self.seq)),
                };
                write(self.shelf, &key(OPEN, self.env), &open)
            }
            Event::ReleasePublished {
                release,
                changes,
                mark,
                moved,
            } => {
                self.published(*release, changes, mark)?;
                self.moved(moved)
            }
            Event::ReleaseAbandoned {
                release,
                reason,
                kept,
            } => {
                let at = self.at;
                self.change(*release, |r| {
                    r.stage = Stage::Abandoned;
                    r.verdict = Verdict::Bad;
                    r.reason = Some(reason.clone());
                    r.closed = Some(at);
                    r.changed = kept.len();
                })?;
                if !kept.is_empty() {
                    let kept = Kept {
                        at: self.seq,
                        changes: kept.clone(),
                    };
                    write(self.shelf, &release_key(KEPT, *release), &kept)?;
                }
                self.shelf.delete(&key(OPEN, self.env))
            }
            Event::ReleaseMarked {
                release,
                verdict,
                reason,
            } => self
                .change(*release, |r| {
                    r.verdict = *verdict;
                    r.reason = Some(reason.clone());
                })
                .map(drop),
            Event::Pinned { release, .. } => {
                self.change(*release, |r| r.pinned = true)?;
                self.shelf
                    .put(&numbered(key(PINS, self.env), release.0), b"")
            }
            Event::Unpinned { release } => {
                self.change(*release, |r| r.pinned = false)?;
                self.shelf.delete(&numbered(key(PINS, self.env), release.0))
            }
            Event::Decided { release, decision } => {
                let decided = Decided {
                    at: self.at,
                    decision: (**decision).clone(),
                };
                write(self.shelf, &release_key(DECISION, *release), &decided)
            }
            Event::RolledBackByPolicy { .. } => {
                let key = numbered(key(BREAKER, self.env), self.seq);
                write(self.shelf, &key, &self.at)
            }
            Event::ApprovalAsked { plan, blob, signer } => self.asked(Request {
                plan: plan.clone(),
                blob: *blob,
                actor: actor.to_owned(),
                signer: signer.clone(),
                at: self.at,
                env: self.env.to_owned(),
            }),
            Event::Approved {
                statement,
                signature,
            } => self.approved(Approval {
                statement: statement.clone(),
                signature: signature.clone(),
                actor: actor.to_owned(),
                at: self.at,
                env: self.env.to_owned(),
            }),
            Event::Quarantined {
                commit,
                release,
                by,
                blamed,
            } => {
                let quarantine = Quarantine {
                    commit: commit.clone(),
                    release: *release,
                    by: *by,
                    blamed: blamed.clone(),
                    since: self.at,
                };
                write(
                    self.shelf,
                    &keyed(QUARANTINE, self.env, commit),
                    &quarantine,
                )
            }
            Event::QuarantineLifted { commit, .. } => {
                self.shelf.delete(&keyed(QUARANTINE, self.env, commit))
            }
            Event::BreakGlass {
                release,
                reason,
                passed,
                ..
            } => {
                let glass = BrokenGlass {
                    at: self.at,
                    actor: actor.to_owned(),
                    reason: reason.clone(),
                    passed: passed.clone(),
                };
                write(self.shelf, &release_key(GLASS, *release), &glass)
            }
            Event::StatementsCounted {
                release,
                statements,
            } => self
                .change(*release, |r| {
                    r.statements = Some(r.statements.unwrap_or(0) + statements);
                })
                .map(drop),
            Event::PointTaken { .. }
            | Event::StepStarted(_)
            | Event::StepSucceeded(_)
            | Event::StepFailed { .. }
            | Event::UndoStarted(_)
            | Event::UndoFinished(_)
            | Event::UndoFailed { .. }
            | Event::Verified { .. }
            | Event::IncidentOpened { .. }
            | Event::IncidentNoted { .. }
            | Event::IncidentAcknowledged { .. }
            | Event::ReviewAsked { .. }
            | Event::IncidentReviewed { .. }
            | Event::IncidentClosed { .. }
            | Event::NoticeQueued { .. }
            | Event::NoticeSending { .. }
            | Event::NoticeSent { .. }
            | Event::NoticeFailed { .. }
            | Event::StagesBegun { .. }
            | Event::StageBegun { .. }
            | Event::StageChecked { .. }
            | Event::StagesResumed { .. }
            | Event::HousekeepingDone { .. } => Ok(()),
        }
    }

    /// How long something took.
    fn took(&mut self, table: u8, milliseconds: u64) -> Result<(), ShelfError> {
        let key = numbered(key(table, self.env), self.seq);
        write(self.shelf, &key, &milliseconds)
    }

    /// Only the first who asks for a plan counts as the one who asked: whoever approves it and then
    /// carries it out asked for nothing.
    fn asked(&mut self, request: Request) -> Result<(), ShelfError> {
        let key = keyed(REQUEST, self.env, &request.plan.0);
        if self.shelf.get(&key)?.is_some() {
            return Ok(());
        }
        write(self.shelf, &key, &request)?;
        let newest = numbered(super::keys::key(REQUESTS, self.env), self.seq);
        write(self.shelf, &newest, &request.plan)
    }

    fn approved(&mut self, approval: Approval) -> Result<(), ShelfError> {
        // By what was signed, and not by where it was written: an approval for another environment
        // is found and refused with a reason.
        let key = match &approval.statement.subject {
            Subject::Plan { plan } => keyed(APPROVALS, "", &plan.0),
            Subject::Path { .. } => key(PATHS, self.env),
        };
        write(self.shelf, &numbered(key, self.seq), &approval)
    }

    fn opened(
        &mut self,
        actor: &str,
        id: ReleaseId,
        operation: &Operation,
        parent: Option<ReleaseId>,
        job: &Option<crate::release::Job>,
        code: &Option<crate::release::Code>,
    ) -> Result<(), ShelfError> {
        let next = self.history(|h| h.next_id())?;
        if id != next {
            return self.story(format!("{id} was opened, and {next} was to be next"));
        }
        let between = operation.stage().is_some_and(|stage| stage.is_between());
        // A whole older state keeps its origin, so that the one before it can be found again.
        let origin = match operation {
            Operation::Rollback {
                select: Some(_), ..
            }
            | Operation::Moment { .. } => id,
            _ if between => id,
            _ => match operation.target() {
                Some(to) => self.history(|h| h.release(to))?.map_or(id, |r| r.origin),
                None => id,
            },
        };
        let release = Release {
            id,
            env: self.env.to_owned(),
            operation: operation.clone(),
            parent,
            origin,
            opened: self.at,
            closed: None,
            actor: actor.to_owned(),
            stage: Stage::Open,
            verdict: Verdict::Good,
            reason: None,
            job: job.clone(),
            end: None,
            code: code.clone(),
            changed: 0,
            pinned: false,
            statements: None,
        };
        write(self.shelf, &release_key(RELEASE, id), &release)?;
        let moments = Moments {
            job: self.seq,
            ..Moments::default()
        };
        write(self.shelf, &release_key(MOMENTS, id), &moments)?;
        self.shelf
            .put(&numbered(key(BY_ENV, self.env), id.0), b"")?;
        write(
            self.shelf,
            &key(OPEN, self.env),
            &Open {
                release: id,
                plan: None,
            },
        )
    }

    fn published(
        &mut self,
        id: ReleaseId,
        changes: &BTreeMap<RelationName, Version>,
        mark: &str,
    ) -> Result<(), ShelfError> {
        let at = self.at;
        let release = self.change(id, |r| {
            r.stage = Stage::Published;
            r.closed = Some(at);
            r.changed = changes.len();
        })?;
        if release.operation.target().is_some() && release.operation.stage().is_none() {
            let took = at.duration_since(release.opened).as_millis();
            self.took(ROLLBACKS, u64::try_from(took).unwrap_or(0))?;
        }
        let before = self.history(|h| h.live(self.env))?;
        if let Some(before) = &before {
            let mut moments = self.history(|h| h.moments(before.release))?;
            moments.retired = Some(self.seq);
            write(self.shelf, &release_key(MOMENTS, before.release), &moments)?;
        }
        let mut moments = self.history(|h| h.moments(id))?;
        moments.published = Some(self.seq);
        write(self.shelf, &release_key(MOMENTS, id), &moments)?;
        self.versions(changes)?;

        let (cursor, top) = self.stack(&release.operation, id, before.as_ref())?;
        let taken = match &release.operation {
            Operation::Rollback { .. } | Operation::Moment { .. } => {
                self.history(|h| h.left_by(&release))?
            }
            _ => None,
        };
        let live = Live {
            release: id,
            since: self.at,
            mark: mark.to_owned(),
            drifts: 0,
            cursor,
            top,
            taken,
        };
        write(self.shelf, &key(LIVE, self.env), &live)?;
        self.shelf.delete(&key(OPEN, self.env))
    }

    /// Undo and redo move along the stack; everything else cuts it off above and goes on top. All
    /// stages of a rollback are at one place of it, so that they are taken back together.
    fn stack(
        &mut self,
        operation: &Operation,
        id: ReleaseId,
        before: Option<&Live>,
    ) -> Result<(u64, u64), ShelfError> {
        let Some(before) = before else {
            write(self.shelf, &numbered(key(STACK, self.env), 0), &id)?;
            return Ok((0, 0));
        };
        let (cursor, top) = match operation {
            Operation::Undo { .. } => match before.cursor.checked_sub(1) {
                Some(down) => (down, before.top),
                None => return self.story("an undo below the first state"),
            },
            Operation::Redo { .. } if before.cursor < before.top => (before.cursor + 1, before.top),
            Operation::Rollback { stage: Some(_), .. } if self.follows_a_stage()? => {
                (before.cursor, before.cursor)
            }
            _ => (before.cursor + 1, before.cursor + 1),
        };
        // The state at this place is the new release's from now on, with what others will write to
        // it; the point of the release that had it before may be gone.
        write(self.shelf, &numbered(key(STACK, self.env), cursor), &id)?;
        Ok((cursor, top))
    }

    /// Whether a stage of the rollback that is under way is back already.
    fn follows_a_stage(&self) -> Result<bool, ShelfError> {
        let staging = self.history(|h| h.staging(self.env))?;
        Ok(staging.is_some_and(|staging| !staging.back.is_empty()))
    }

    fn versions(&mut self, changes: &BTreeMap<RelationName, Version>) -> Result<(), ShelfError> {
        for (name, version) in changes {
            write(self.shelf, &relation_key(NAMES, self.env, name), name)?;
            let at = numbered(relation_key(MAP, self.env, name), self.seq);
            write(self.shelf, &at, version)?;
        }
        Ok(())
    }

    /// The same versions, stored elsewhere. Without it a place that a table once had, and got back
    /// with other rows in it, would look like a table that nobody rewrote.
    fn moved(&mut self, moved: &BTreeMap<RelationName, Option<String>>) -> Result<(), ShelfError> {
        for (name, storage) in moved {
            let versions = relation_key(MAP, self.env, name);
            let below = numbered(versions.clone(), u64::MAX);
            let Some((_, value)) = self.shelf.last_below(&versions, &below)? else {
                return self.story(format!("{name} moved and never was there"));
            };
            let mut version: Version = read(&value, "a version")?;
            if let Some(state) = &mut version.state {
                state.storage.clone_from(storage);
            }
            write(self.shelf, &numbered(versions, self.seq), &version)?;
        }
        Ok(())
    }
}
