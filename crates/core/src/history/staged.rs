//! Rollbacks that go stage by stage: how far each has come.

use super::fold::Fold;
use super::keys::{STAGED, STAGING, key, release_key, write};
use super::{History, ShelfError};
use crate::event::Event;
use crate::ident::ReleaseId;
use crate::ledger::BlobRef;
use crate::others::Others;
use crate::plan::PlanId;
use crate::release::{Operation, Release};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rollback that goes stage by stage, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staging {
    /// The release that its first stage was to make: its name.
    pub first: ReleaseId,
    /// What was live before it.
    pub from: ReleaseId,
    /// The plan that derives all stages.
    pub plan: PlanId,
    /// The plan itself.
    pub blob: BlobRef,
    /// How many stages it has.
    pub of: u32,
    /// What becomes of what others wrote.
    pub others: Others,
    /// When it was begun.
    pub since: Timestamp,
    /// Who began it.
    pub actor: String,
    /// The releases of the stages that are back, in order.
    pub back: Vec<ReleaseId>,
    /// How many of them were looked at, and found as they should be or accepted.
    pub settled: u32,
    /// The stage that was begun last, and what it is compared with.
    pub begun: Option<(u32, BlobRef)>,
    /// What was not as it should be, by stage, each a sentence; also what was accepted since.
    pub surprises: BTreeMap<u32, Vec<String>>,
    /// The stage at which it is held, until a person says what is to be done.
    pub held: Option<u32>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
}

/// How a rollback in stages ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All of its stages are back.
    Done,
    /// Its stages were taken back.
    Undone,
    /// None of its stages came about.
    Untouched,
}

impl Staging {
    /// The release of a stage that is back and was not looked at yet, with the stage's number.
    pub fn unseen(&self) -> Option<(u32, ReleaseId)> {
        let next = usize::try_from(self.settled).ok()?;
        Some((self.settled + 1, *self.back.get(next)?))
    }

    /// Whether the stage at which it is held is back itself.
    pub fn held_is_back(&self) -> bool {
        self.held.is_some() && self.unseen().is_some()
    }
}

impl History<'_> {
    /// The rollback in stages that is under way in an environment, or held.
    pub fn staging(&self, env: &str) -> Result<Option<Staging>, ShelfError> {
        let first: Option<ReleaseId> = self.load(&key(STAGING, env), "a rollback in stages")?;
        first.map_or(Ok(None), |first| self.staged(first))
    }

    /// A rollback in stages, by the release that its first stage made.
    pub fn staged(&self, first: ReleaseId) -> Result<Option<Staging>, ShelfError> {
        self.load(&release_key(STAGED, first), "a rollback in stages")
    }

    /// What a release left: what was live before it, or before the first stage of the rollback that
    /// it is a part of.
    pub fn left_by(&self, release: &Release) -> Result<Option<ReleaseId>, ShelfError> {
        let staged = match release.operation.stage() {
            Some(stage) => self.staged(stage.first)?,
            None => None,
        };
        Ok(staged.map(|staged| staged.from).or(release.parent))
    }
}

impl Fold<'_> {
    /// Folds what concerns rollbacks in stages.
    pub(super) fn stages(&mut self, actor: &str, event: &Event) -> Result<(), ShelfError> {
        match event {
            Event::StagesBegun {
                first,
                from,
                plan,
                blob,
                of,
                others,
            } => {
                if self.history(|h| h.staging(self.env))?.is_some() {
                    return self.story("a rollback in stages was begun in another");
                }
                write(self.shelf, &key(STAGING, self.env), first)?;
                let new = Staging {
                    first: *first,
                    from: *from,
                    plan: plan.clone(),
                    blob: *blob,
                    of: *of,
                    others: *others,
                    since: self.at,
                    actor: actor.to_owned(),
                    back: Vec::new(),
                    settled: 0,
                    begun: None,
                    surprises: BTreeMap::new(),
                    held: None,
                    ended: None,
                };
                self.keep(&new)
            }
            Event::StageBegun { number, before } => {
                self.under_way(|staging| staging.begun = Some((*number, *before)))
            }
            Event::StageChecked {
                number, surprises, ..
            } => self.under_way(|staging| {
                if surprises.is_empty() {
                    staging.settle(*number);
                    return;
                }
                staging.surprises.insert(*number, surprises.clone());
                match staging.back.is_empty() {
                    true => staging.ended = Some(Ended::Untouched),
                    false => staging.held = Some(*number),
                }
            }),
            Event::StagesResumed { number } => self.under_way(|staging| {
                if staging.held_is_back() {
                    staging.settle(*number);
                }
                staging.held = None;
            }),
            Event::ReleasePublished { release, .. } => {
                match self.history(|h| h.release(*release))?.map(|r| r.operation) {
                    Some(Operation::Rollback { stage: Some(_), .. }) => {
                        self.under_way(|staging| staging.back.push(*release))
                    }
                    Some(Operation::Undo { .. }) => {
                        match self.history(|h| h.staging(self.env))?.is_some() {
                            true => self.under_way(|staging| staging.ended = Some(Ended::Undone)),
                            false => Ok(()),
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn under_way(&mut self, edit: impl FnOnce(&mut Staging)) -> Result<(), ShelfError> {
        let Some(mut staging) = self.history(|h| h.staging(self.env))? else {
            return self.story("a stage of no rollback in stages");
        };
        edit(&mut staging);
        if staging.ended.is_some() {
            staging.held = None;
            self.shelf.delete(&key(STAGING, self.env))?;
        }
        self.keep(&staging)
    }

    fn keep(&mut self, staging: &Staging) -> Result<(), ShelfError> {
        write(self.shelf, &release_key(STAGED, staging.first), staging)
    }
}

impl Staging {
    fn settle(&mut self, number: u32) {
        self.settled = number;
        if number == self.of {
            self.ended = Some(Ended::Done);
        }
    }
}
