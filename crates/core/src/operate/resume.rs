//! Finishing what was interrupted.

use super::check::Subject;
use super::look::Seen;
use super::run::failure;
use super::{Checks, OperateError, Session};
use crate::check::{Ruling, gate};
use crate::engine::Place;
use crate::event::Event;
use crate::execute::{Assume, Attempt, ExecuteError, end_between};
use crate::history::Open;
use crate::ident::{RelationName, ReleaseId};
use crate::journal::Journal;
use crate::ledger::BlobRef;
use crate::plan::{Plan, PlanId};
use crate::release::{Operation, Verdict};
use crate::restore::Map;
use std::collections::BTreeSet;

/// What became of the interrupted operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// Its plan was carried out to the end.
    Finished(ReleaseId),
    /// It had not touched production, and never will.
    Dropped(ReleaseId),
    /// Its job worked on production itself; what it left there is recorded.
    LeftInPlace {
        /// The release that it is now.
        release: ReleaseId,
        /// Why that is bad, unless its job came to a good end and its checks held nothing.
        bad: Option<String>,
    },
    /// Others kept its plan from going on, and what it had changed in another warehouse cannot be
    /// taken back: it ended between the two, and is what production is now.
    InPart {
        /// The release that it is now.
        release: ReleaseId,
        /// What it was to make.
        operation: Operation,
        /// The relations that stayed as they were.
        left: BTreeSet<RelationName>,
        /// What others did.
        why: String,
    },
}

impl Session<'_> {
    /// Finishes the interrupted operation: forward where its plan had begun, otherwise by dropping
    /// what it had prepared beside production. What a job left in production itself is checked, if it
    /// came to a good end and died before it was.
    pub fn resume(
        &mut self,
        assume: Option<Assume>,
        checks: Option<&Checks>,
    ) -> Result<Resumed, OperateError> {
        let env = self.ledger.env().to_owned();
        let Some(open) = self.ledger.history(|h| h.open(&env))? else {
            return Err(OperateError::NothingToResume);
        };
        let release = open.release;
        if let Some((id, blob, seq)) = &open.plan {
            let (plan, journal) = self.interrupted(id, blob, *seq)?;
            self.engine.freeze()?;
            let went = self.go_on(&plan, id.clone(), journal, assume, true);
            if let Err(OperateError::Execute(ExecuteError::OnlyForward {
                conflict: true,
                error,
                ..
            })) = &went
                && let Some(ended) = self.end_in_part(&open, error)?
            {
                return Ok(ended);
            }
            went?;
            // Others may have written between a step and its resumption. Should this look fail, the
            // next command looks again.
            let _ = self.see_drift();
            return Ok(Resumed::Finished(release));
        }
        self.drop_unplanned(&open, checks)
    }

    /// Ends an operation between two warehouses, where it can neither go on nor be taken back. What
    /// is left of it is for a new plan, which sees what others did.
    fn end_in_part(&mut self, open: &Open, why: &str) -> Result<Option<Resumed>, OperateError> {
        let Some((id, blob, seq)) = &open.plan else {
            return Ok(None);
        };
        let (plan, journal) = self.interrupted(id, blob, *seq)?;
        let attempt = Attempt {
            plan: &plan,
            id: id.clone(),
            journal,
            assume: None,
            closing: &[],
        };
        let Some(apart) = end_between(self.engine, self.ledger, self.watch, attempt)? else {
            return Ok(None);
        };
        let release = plan.release;
        let made = |name: &RelationName| apart.made.contains(&name.database);
        let (changes, left): (Map, Map) = plan
            .result
            .clone()
            .into_iter()
            .partition(|(name, _)| made(name));
        let mut part = Plan {
            result: changes.clone(),
            ..plan
        };
        part.moved.retain(|name, _| made(name));
        // What was prepared for the others is of no use to the next plan.
        self.engine.discard_build(release)?;
        let mut events = vec![Event::ReleasePublished {
            release,
            changes,
            // Others wrote: whoever comes next looks.
            mark: String::new(),
            moved: part.moved.clone(),
        }];
        events.extend(self.verdicts(&part, true)?);
        let names: Vec<&str> = apart.left.iter().map(String::as_str).collect();
        events.push(Event::ReleaseMarked {
            release,
            verdict: Verdict::Bad,
            reason: format!("{} stayed as it was: {why}", names.join(", ")),
        });
        self.ledger.append(&events)?;
        let _ = self.see_drift();
        Ok(Some(Resumed::InPart {
            release,
            operation: part.operation,
            left: left.into_keys().collect(),
            why: why.to_owned(),
        }))
    }

    /// The plan and the journal of the interrupted operation.
    pub fn interrupted(
        &self,
        id: &PlanId,
        blob: &BlobRef,
        seq: u64,
    ) -> Result<(Plan, Journal), OperateError> {
        let plan = Plan::parse(&self.ledger.get_blob(&blob.0)?)?;
        let mut events = Vec::new();
        let mut from = seq;
        loop {
            let page = self.ledger.events_from(from, 1000)?;
            let Some((last, _)) = page.last() else { break };
            from = last.seq + 1;
            events.extend(page.into_iter().filter_map(|(_, event)| event));
        }
        let journal = Journal::fold(id, &events).map_err(ExecuteError::from)?;
        Ok((plan, journal))
    }

    fn drop_unplanned(
        &mut self,
        open: &Open,
        checks: Option<&Checks>,
    ) -> Result<Resumed, OperateError> {
        let release = open.release;
        let head = self.ledger.history(|h| h.release(release))?;
        let in_place = head
            .as_ref()
            .is_some_and(|r| matches!(r.operation, Operation::Run { aside: false, .. }));
        if !in_place {
            if head.as_ref().is_some_and(|r| r.end.is_some()) {
                self.engine.keep_build(release)?;
            } else {
                // Half a build, or a job that never began: nothing to look at.
                self.engine.discard_build(release)?;
            }
            self.abandon(
                release,
                "interrupted before it was published".to_owned(),
                Map::new(),
            )?;
            return Ok(Resumed::Dropped(release));
        }
        self.engine.freeze()?;
        let live = self.live()?;
        let before = self
            .ledger
            .history(|h| h.map(live.release))?
            .unwrap_or_default();
        let Seen { changes, moved } =
            self.seen_in(Place::Live, release, &before, &BTreeSet::new())?;
        let end = head.and_then(|r| r.end);
        let bad = match &end {
            Some(end) if end.exit_code == Some(0) => {
                let subject = Subject {
                    release,
                    place: Place::Live,
                    changes: &changes,
                    before: &before,
                    built: &BTreeSet::new(),
                    end: Some(end),
                    fresh: true,
                };
                self.held(&subject, checks)?
            }
            Some(end) => Some(failure(end)),
            None => Some("its job was interrupted while it worked on production".to_owned()),
        };
        if let (true, Some(reason)) = (changes.is_empty(), &bad) {
            self.abandon(release, reason.clone(), Map::new())?;
            self.see_drift()?;
            return Ok(Resumed::Dropped(release));
        }
        let mark = self.engine.mark()?;
        let mut events = vec![Event::ReleasePublished {
            release,
            changes,
            mark,
            moved,
        }];
        events.extend(bad.clone().map(|reason| Event::ReleaseMarked {
            release,
            verdict: Verdict::Bad,
            reason,
        }));
        self.ledger.append(&events)?;
        Ok(Resumed::LeftInPlace { release, bad })
    }

    /// Why checks hold what an interrupted job left: by what they found before it was interrupted,
    /// which its pipeline had its say in, or else by what they find now.
    fn held(
        &mut self,
        subject: &Subject<'_>,
        checks: Option<&Checks>,
    ) -> Result<Option<String>, OperateError> {
        let Some(checks) = checks else {
            return Ok(None);
        };
        let ruling = match self.findings_of(subject.release)? {
            Some(findings) => gate::rule(&findings, checks.hold),
            None => self.checked_over(subject, checks, &[])?.1,
        };
        Ok(match ruling {
            Ruling::Hold { reason } => Some(reason),
            Ruling::Publish => None,
        })
    }
}
