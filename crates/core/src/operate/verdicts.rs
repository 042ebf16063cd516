//! What going back or forth says of the releases that it leaves and of those that it comes to.

use super::{OperateError, Session};
use crate::event::Event;
use crate::ident::{RelationName, ReleaseId};
use crate::plan::Plan;
use crate::quarantine;
use crate::release::{Operation, Release, Stage, Verdict};
use std::collections::BTreeSet;

/// How the reason begins of a release that is bad only because it was rolled back.
const TAKEN: &str = "rolled back by";

fn mark(release: ReleaseId, verdict: Verdict, reason: String) -> Event {
    Event::ReleaseMarked {
        release,
        verdict,
        reason,
    }
}

impl Session<'_> {
    /// Moving to an older state says that what came after it is bad; moving to a newer one, that it
    /// is good after all. `in_part` says that it did not come to its end.
    pub(super) fn verdicts(&self, plan: &Plan, in_part: bool) -> Result<Vec<Event>, OperateError> {
        let chosen = matches!(
            plan.operation,
            Operation::Rollback {
                select: Some(_),
                ..
            }
        );
        // That somebody wrote what had to be taken back says nothing of the release.
        let of_a_moment = matches!(plan.operation, Operation::Moment { .. });
        // A rollback in stages says what it has to say when the last of them is back.
        let between = plan.operation.stage().is_some_and(|s| s.is_between());
        let silent = of_a_moment || between;
        let Some(target) = plan.operation.target().filter(|_| !silent) else {
            return Ok(Vec::new());
        };
        let left = match plan.operation.stage() {
            Some(stage) => self.ledger.history(|h| h.staged(stage.first))?,
            None => None,
        };
        let mut blamed: BTreeSet<RelationName> = plan.result.keys().cloned().collect();
        if let Some(staging) = &left {
            let whole = Plan::parse(&self.ledger.get_blob(&staging.blob.0)?)?;
            blamed.extend(whole.result.into_keys());
        }
        let left = left.map_or(plan.from, |staging| staging.from);
        let from = self.known(left)?.origin;
        let to = self.known(target)?.origin;
        let word = plan.operation.word();
        let code_then = self.known(to)?.code;
        let env = self.ledger.env();
        let mut quarantined: BTreeSet<String> = (self.ledger.history(|h| h.quarantine(env))?)
            .into_iter()
            .map(|one| one.commit)
            .collect();
        let held = |bad: &Release| quarantine::of(bad, code_then.as_ref(), plan.release, &blamed);
        if in_part && to > from {
            return Ok(Vec::new());
        }
        if chosen || in_part {
            let reason = format!("partly rolled back by {}", plan.release);
            let mut out = vec![mark(from, Verdict::Bad, reason)];
            out.extend(held(&self.known(from)?));
            return Ok(out);
        }
        let mut out = Vec::new();
        // Going back to a release says that its code is good, whatever was thought before.
        let mut lift = |good: &Release, out: &mut Vec<Event>| {
            let commit = good.code.as_ref().map_or("", |code| &code.commit);
            if quarantined.remove(commit) {
                out.extend(quarantine::lifted(good, plan.release));
            }
        };
        lift(&self.known(to)?, &mut out);
        let (older, newer) = (to.min(from), to.max(from));
        let forward = to > from;
        let left = match forward {
            true => BTreeSet::new(),
            false => self.made_of(from, older)?,
        };
        let mut before = ReleaseId(newer.0 + 1);
        'pages: loop {
            let page = self
                .ledger
                .history(|h| h.releases(env, Some(before), 100))?;
            let Some(last) = page.last() else { break };
            before = last.id;
            for release in &page {
                if release.id <= older {
                    break 'pages;
                }
                if release.origin != release.id || release.stage != Stage::Published {
                    continue;
                }
                let taken_away = release
                    .reason
                    .as_ref()
                    .is_some_and(|r| r.starts_with(TAKEN));
                match release.verdict {
                    Verdict::Good if !forward => {
                        let reason = format!("{TAKEN} {} ({word})", plan.release);
                        out.push(mark(release.id, Verdict::Bad, reason));
                        out.extend(held(release));
                    }
                    // It was bad before anybody went back; what was taken away earlier was held then.
                    Verdict::Bad if left.contains(&release.id) => out.extend(held(release)),
                    Verdict::Bad if forward && (taken_away || release.id == to) => {
                        let reason = format!("brought back by {} ({word})", plan.release);
                        out.push(mark(release.id, Verdict::Good, reason));
                        lift(release, &mut out);
                    }
                    _ => {}
                }
            }
        }
        Ok(out)
    }

    /// The releases newer than `older` whose work is in a state, one on top of the other.
    fn made_of(
        &self,
        state: ReleaseId,
        older: ReleaseId,
    ) -> Result<BTreeSet<ReleaseId>, OperateError> {
        let mut all = BTreeSet::new();
        let mut next = Some(state);
        while let Some(id) = next.filter(|id| *id > older) {
            let release = self.known(id)?;
            next = match release.operation.target() {
                Some(target) => Some(target),
                None => {
                    all.insert(id);
                    release.parent
                }
            };
        }
        Ok(all)
    }
}
