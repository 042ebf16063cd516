//! Going back stage by stage: each stage is a partial rollback of its own, with its plan, journal and
//! proof, and is looked at before the next. What is not as it should be holds the rest, until a person
//! goes on or takes the stages back.

use super::check::Subject;
use super::look::progress;
use super::verify::compare;
use super::{Ask, Checks, OperateError, Session, count};
use crate::check::{Detail, Finding, gate};
use crate::engine::{ErrorKind, Place};
use crate::event::Event;
use crate::execute::{Assume, ExecuteError, Notice, chain};
use crate::history::{Ended, Staging};
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::BlobRef;
use crate::others::Others;
use crate::plan::{IN_STAGES, Plan};
use crate::relation::RelationKind;
use crate::release::{Operation, StageOf, VersionId};
use crate::restore::{Map, present, written_since};
use crate::stages::{Stage, Ties, divide};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a stage is compared with: how production was right before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// What checks found of the relations that were to go.
    pub findings: Vec<Finding>,
    /// How many rows what reads them had; `None` where it could not be read.
    pub readers: BTreeMap<RelationName, Option<u64>>,
}

impl Session<'_> {
    /// Makes the plan to go back stage by stage. Each stage is planned against what is there now, so
    /// that what cannot be done is known, and what it costs, before anything moves.
    ///
    /// # Errors
    /// As for [`Session::plan_with`]; [`OperateError::NotInStages`] where it is not whole relations
    /// that go back to a release.
    pub fn plan_in_stages(
        &mut self,
        ask: &Ask,
        others: Others,
        ties: &Ties,
    ) -> Result<Plan, OperateError> {
        if !matches!(ask, Ask::Rollback { .. }) {
            return Err(OperateError::NotInStages);
        }
        let mut plan = self.plan_with(ask, others)?;
        let to = plan.operation.target().ok_or(OperateError::NotInStages)?;
        let live = self.ledger.history(|h| h.map(plan.from))?;
        let mut stages = divide(&plan.result, &live.unwrap_or_default(), ties);
        let of = u32::try_from(stages.len()).unwrap_or(u32::MAX);
        plan.format = IN_STAGES;
        plan.steps.clear();
        plan.impact.bytes = 0;
        let mut how = BTreeSet::new();
        for stage in &mut stages {
            let (operation, only) = stage_operation(&plan, stage, of)?;
            let part = self.plan_once(&operation, Some(only), to, others)?;
            stage.bytes = part.impact.bytes;
            plan.impact.bytes = plan.impact.bytes.saturating_add(part.impact.bytes);
            how.insert(part.method);
            for (all, more) in [
                (&mut plan.irreversible, part.irreversible),
                (&mut plan.notes, part.notes),
                (&mut plan.needs, part.needs),
            ] {
                let new: Vec<String> = more.into_iter().filter(|m| !all.contains(m)).collect();
                all.extend(new);
            }
        }
        plan.method = format!(
            "in {}, the smallest first and nothing before what reads it; each is proved before the \
             next",
            count(stages.len(), "stage")
        );
        if let (1, Some(same)) = (how.len(), how.first()) {
            plan.method = format!("{}; each: {same}", plan.method);
        }
        if plan.impact.bytes > 0 {
            plan.notes
                .push("what each stage replaces stays on disk until all are back".to_owned());
        }
        plan.stages = stages;
        Ok(plan)
    }

    /// The plan for one stage, as things are now.
    fn plan_stage(
        &mut self,
        whole: &Plan,
        stage: &Stage,
        of: u32,
        others: Others,
    ) -> Result<Plan, OperateError> {
        let (operation, only) = stage_operation(whole, stage, of)?;
        let to = operation.target().ok_or(OperateError::NotInStages)?;
        self.plan_settled(&operation, Some(only), to, others)
    }

    /// Begins to carry out a plan in stages, or refuses if the world moved since it was made. No
    /// stage is touched yet: [`Session::go_on_in_stages`] does all of them.
    pub fn begin_stages(&mut self, plan: &Plan, others: Others) -> Result<(), OperateError> {
        if plan.stages.is_empty() {
            return Err(OperateError::NotInStages);
        }
        self.nothing_open()?;
        self.as_planned(plan, set_aside(others))?;
        let canonical = plan.canonical()?;
        let blob = BlobRef(self.ledger.put_blob(&canonical, "plan")?);
        self.ledger.append(&[Event::StagesBegun {
            first: plan.release,
            from: plan.from,
            plan: plan.id()?,
            blob,
            of: u32::try_from(plan.stages.len()).unwrap_or(u32::MAX),
            others,
        }])?;
        Ok(())
    }

    /// Carries out the stages that are left, until all are back or one is not as it should be. What
    /// was held before goes on: whoever calls this has accepted it. Gives where it stands then.
    ///
    /// # Errors
    /// [`OperateError::NothingToResume`] if no rollback in stages is under way; what made the first
    /// stage fail, if nothing is back yet: then it has ended; and whatever leaves an operation
    /// unfinished.
    pub fn go_on_in_stages(&mut self, checks: Option<&Checks>) -> Result<Staging, OperateError> {
        let first = self.staging()?.ok_or(OperateError::NothingToResume)?.first;
        if let Some(number) = self.staging()?.and_then(|staging| staging.held) {
            self.ledger.append(&[Event::StagesResumed { number }])?;
        }
        loop {
            let known = self.ledger.history(|h| h.staged(first))?;
            let staging = known.ok_or(OperateError::NothingToResume)?;
            if staging.ended.is_some() || staging.held.is_some() {
                return Ok(staging);
            }
            let plan = Plan::parse(&self.ledger.get_blob(&staging.blob.0)?)?;
            let (number, made) = match staging.unseen() {
                Some((number, release)) => (number, Some(release)),
                None => (staging.settled + 1, None),
            };
            let stage = plan.stages.iter().find(|stage| stage.number == number);
            let stage = stage.ok_or(OperateError::NotInStages)?;
            match made {
                Some(release) => {
                    let surprises = self.look_at_stage(&plan, &staging, stage, release, checks)?;
                    let of = staging.of;
                    let text = match surprises.is_empty() {
                        true => format!("stage {number} of {of} is back, and as it should be"),
                        false => format!("stage {number} of {of} is back, and not as it should be"),
                    };
                    self.watch.notice(Notice::Note(&text));
                    self.ledger.append(&[Event::StageChecked {
                        number,
                        release: Some(release),
                        surprises,
                    }])?;
                }
                None => self.next_stage(&plan, &staging, stage, checks)?,
            }
        }
    }

    /// Brings a stage that was interrupted in the middle to its end. What keeps it from that holds the
    /// rollback.
    ///
    /// # Errors
    /// What leaves it in the middle still.
    pub fn finish_stage(&mut self, assume: Option<Assume>) -> Result<(), OperateError> {
        let (env, staging) = (self.ledger.env().to_owned(), self.staging()?);
        let (Some(staging), Some(_)) = (staging, self.ledger.history(|h| h.open(&env))?) else {
            return Ok(());
        };
        let Err(error) = self.resume(assume, None) else {
            return Ok(());
        };
        let unfinished = self.ledger.history(|h| h.open(&env))?.is_some();
        if unfinished || !is_told(&error) {
            return Err(error);
        }
        self.not_done(staging.settled + 1, &error)
    }

    /// Ends a rollback in stages of which nothing is back, and says whether there was one.
    ///
    /// # Errors
    /// The ledger's, and [`OperateError::Unfinished`] while its first stage is in the middle.
    pub fn give_up_stages(&mut self) -> Result<bool, OperateError> {
        self.nothing_under_way()?;
        let Some(staging) = self.staging()?.filter(|staging| staging.back.is_empty()) else {
            return Ok(false);
        };
        self.ledger.append(&[Event::StageChecked {
            number: staging.settled + 1,
            release: None,
            surprises: vec!["it was given up before anything went back".to_owned()],
        }])?;
        Ok(true)
    }

    /// The rollback in stages that is under way here, or held.
    pub fn staging(&self) -> Result<Option<Staging>, OperateError> {
        let env = self.ledger.env();
        Ok(self.ledger.history(|h| h.staging(env))?)
    }

    /// What the stages that are back have brought, while the others are still to come: only that is
    /// taken back. What has not moved is none of their business, whoever wrote to it since.
    pub(super) fn back_in_stages(&self) -> Result<Option<BTreeSet<RelationName>>, OperateError> {
        let Some(staging) = self.staging()? else {
            return Ok(None);
        };
        let plan = Plan::parse(&self.ledger.get_blob(&staging.blob.0)?)?;
        let back = plan.stages.into_iter().take(staging.back.len());
        Ok(Some(back.flat_map(|stage| stage.relations).collect()))
    }

    /// Carries a stage out. What keeps it from being done holds the rollback, unless it left something
    /// to be finished.
    fn next_stage(
        &mut self,
        plan: &Plan,
        staging: &Staging,
        stage: &Stage,
        checks: Option<&Checks>,
    ) -> Result<(), OperateError> {
        let text = format!("stage {} of {}", stage.number, staging.of);
        self.watch.notice(Notice::Phase(&text));
        let Err(error) = self.try_stage(plan, staging, stage, checks) else {
            return Ok(());
        };
        let env = self.ledger.env();
        let unfinished = self.ledger.history(|h| h.open(env))?.is_some();
        if unfinished || !is_told(&error) {
            return Err(error);
        }
        self.not_done(stage.number, &error)?;
        match staging.back.is_empty() {
            true => Err(error),
            false => Ok(()),
        }
    }

    fn not_done(&mut self, number: u32, error: &OperateError) -> Result<(), OperateError> {
        self.ledger.append(&[Event::StageChecked {
            number,
            release: None,
            surprises: vec![format!("it could not be done: {}", chain(error))],
        }])?;
        Ok(())
    }

    fn try_stage(
        &mut self,
        plan: &Plan,
        staging: &Staging,
        stage: &Stage,
        checks: Option<&Checks>,
    ) -> Result<(), OperateError> {
        self.engine.freeze()?;
        let part = self.plan_stage(plan, stage, staging.of, staging.others)?;
        if let Some(differences) = as_approved(plan, stage, &part) {
            return Err(OperateError::NotAsPlanned(differences));
        }
        if staging
            .begun
            .is_none_or(|(number, _)| number != stage.number)
        {
            let before = Before {
                findings: self.findings_at_stage(plan, stage, checks)?,
                readers: self.counts(&stage.readers)?,
            };
            let bytes = serde_json_canonicalizer::to_vec(&before).map_err(unreadable)?;
            let before = BlobRef(self.ledger.put_blob(&bytes, "stage")?);
            self.ledger.append(&[Event::StageBegun {
                number: stage.number,
                before,
            }])?;
        }
        self.carry_out_now(&part, set_aside(staging.others))
    }

    /// What is not as it should be once a stage is back, each a sentence.
    fn look_at_stage(
        &mut self,
        plan: &Plan,
        staging: &Staging,
        stage: &Stage,
        release: ReleaseId,
        checks: Option<&Checks>,
    ) -> Result<Vec<String>, OperateError> {
        let before = match staging.begun.filter(|(number, _)| *number == stage.number) {
            Some((_, blob)) => {
                serde_json::from_slice(&self.ledger.get_blob(&blob.0)?).map_err(unreadable)?
            }
            None => Before::default(),
        };
        let mut surprises = Vec::new();
        self.watch.notice(Notice::Phase("proving the stage"));
        let map = self.ledger.history(|h| h.published_map(release))?;
        let map = map.ok_or(OperateError::NeverLive(release))?;
        let mine = |name: &RelationName| stage.relations.contains(name);
        let on = progress(self.watch);
        let proof = compare(self.engine, release, &map, &mine, &on)?;
        let differs = proof.differences.iter();
        surprises.extend(differs.map(|(name, what)| format!("{name} {what}")));

        // What stays must be as it was: what others did to what no job built is their own business.
        let (live, now) = self.look_again()?;
        for (name, version) in &now {
            let moved = version.id.drift > 0 && version.id.release == live;
            if moved && live == release && version.owned && !mine(name) {
                let what = written_since(version);
                surprises.push(format!(
                    "{name} does not go in this stage and moved: {what}"
                ));
            }
        }
        for (name, rows) in self.counts(&stage.readers)? {
            let was = before.readers.get(&name).copied().flatten();
            let kind = present(now.get(&name)).and_then(|v| v.state.as_ref());
            let is_view = kind.is_some_and(|state| state.kind == RelationKind::View);
            match (was, rows) {
                (Some(_), None) => surprises.push(format!(
                    "{name}, which reads what went back, cannot be read any more"
                )),
                // A view shows what it reads, and that has just changed.
                (Some(was), Some(0)) if was > 0 && is_view => surprises.push(format!(
                    "{name}, which reads what went back, had {was} rows and has none"
                )),
                (Some(was), Some(rows)) if was != rows && !is_view => surprises.push(format!(
                    "{name}, which reads what went back and stays, had {was} rows and has {rows}"
                )),
                _ => {}
            }
        }
        let after = self.findings_at_stage(plan, stage, checks)?;
        let hold = checks.and_then(|checks| checks.hold);
        surprises.extend(
            gate::worse(&before.findings, &after, hold)
                .map(|finding| format!("a check fails that did not: {}", gate::one_line(finding))),
        );
        Ok(surprises)
    }

    /// What checks find now of a stage's relations, compared with what they were in the release gone
    /// back to and before it: what came after it is what one wants to get rid of.
    fn findings_at_stage(
        &mut self,
        plan: &Plan,
        stage: &Stage,
        checks: Option<&Checks>,
    ) -> Result<Vec<Finding>, OperateError> {
        let (Some(checks), Some(to)) = (checks, plan.operation.target()) else {
            return Ok(Vec::new());
        };
        let (_, live) = self.look_again()?;
        let before = self.ledger.history(|h| h.map(to))?.unwrap_or_default();
        let origin = self.ledger.history(|h| h.release(to))?.map(|r| r.origin);
        let head = self.ledger.history(|h| h.release(origin.unwrap_or(to)))?;
        let mine = |name: &RelationName| stage.relations.contains(name);
        let changes: Map = live
            .into_iter()
            .filter(|(name, version)| mine(name) && version.owned)
            .collect();
        let built = changes
            .iter()
            .filter(|(_, version)| version.state.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        let subject = Subject {
            release: ReleaseId(to.0.saturating_add(1)),
            place: Place::Live,
            changes: &changes,
            before: &before,
            built: &built,
            end: head.as_ref().and_then(|head| head.end.as_ref()),
            fresh: false,
        };
        let (mut findings, _) = self.look_over(&subject, checks, &[])?;
        findings.retain(|finding| finding.relation.as_ref().is_none_or(&mine));
        Ok(findings)
    }

    /// How many rows relations have; `None` where one cannot be read.
    fn counts(
        &mut self,
        relations: &BTreeSet<RelationName>,
    ) -> Result<BTreeMap<RelationName, Option<u64>>, OperateError> {
        let mut out = BTreeMap::new();
        for name in relations {
            let asked = BTreeMap::from([(name.clone(), Detail::Rows)]);
            let on = progress(self.watch);
            let rows = match self.engine.profile(Place::Live, &asked, &on) {
                Ok(mut found) => found.remove(name).map(|profile| profile.rows),
                Err(error) if error.kind == ErrorKind::Query => None,
                Err(error) => return Err(error.into()),
            };
            out.insert(name.clone(), rows);
        }
        Ok(out)
    }
}

/// What a stage of a plan does, and of which relations.
fn stage_operation(
    whole: &Plan,
    stage: &Stage,
    of: u32,
) -> Result<(Operation, BTreeSet<RelationName>), OperateError> {
    let Operation::Rollback { to, select, .. } = &whole.operation else {
        return Err(OperateError::NotInStages);
    };
    let operation = Operation::Rollback {
        to: *to,
        select: select.clone(),
        rows: None,
        stage: Some(StageOf {
            first: whole.release,
            number: stage.number,
            of,
        }),
    };
    Ok((operation, stage.relations.clone()))
}

/// Whether what others wrote may go with the retained version.
fn set_aside(others: Others) -> bool {
    matches!(others, Others::SetAside | Others::Drop)
}

/// Whether an error tells of the world, and not of the ledger or of the end of this process: then the
/// rollback is held, and a person sees to it.
fn is_told(error: &OperateError) -> bool {
    match error {
        OperateError::Engine(error) => error.kind != ErrorKind::Interrupted,
        OperateError::Wish(_)
        | OperateError::OthersWrote(_)
        | OperateError::CannotKeep(_)
        | OperateError::TakenBack { .. }
        | OperateError::NotAsPlanned(_)
        | OperateError::Execute(ExecuteError::Moved { .. }) => true,
        _ => false,
    }
}

/// What a stage would do that the plan does not say, by relation; `None` if it does exactly that.
fn as_approved(whole: &Plan, stage: &Stage, part: &Plan) -> Option<BTreeMap<RelationName, String>> {
    let mut out = BTreeMap::new();
    let all: BTreeSet<&RelationName> = stage.relations.iter().chain(part.result.keys()).collect();
    // A relation that will be mixed is a version of the release that mixes it.
    let named = |plan: &Plan, id: VersionId| match id.release == plan.release {
        true => None,
        false => Some(id),
    };
    for name in all {
        let what = |plan: &Plan| {
            let change = plan.impact.changes.get(name)?;
            let result = plan.result.get(name)?;
            let there = result.state.is_some();
            Some((change.from, named(plan, result.id), there))
        };
        let (planned, now) = (what(whole), what(part));
        if planned == now {
            continue;
        }
        let version = |what: Option<VersionId>| {
            what.map_or_else(|| "absent".to_owned(), |version| version.to_string())
        };
        let text = match (planned, now) {
            (Some((then, ..)), Some((now, ..))) if then != now => {
                format!("it was {} and is {}", version(then), version(now))
            }
            (Some(_), Some(_)) => "another version would come back".to_owned(),
            (Some(_), None) => "it is what it is to become already".to_owned(),
            (None, _) => "it is no part of the plan".to_owned(),
        };
        out.insert(name.clone(), text);
    }
    match out.is_empty() {
        true => None,
        false => Some(out),
    }
}

fn unreadable(source: serde_json::Error) -> OperateError {
    crate::log::LogError::Unreadable { seq: 0, source }.into()
}

impl Staging {
    /// Where it stands, in words.
    pub fn words(&self) -> String {
        let back = format!("{} of {} back", self.back.len(), self.of);
        match (self.ended, self.held) {
            (Some(Ended::Done), _) => format!("all of its {} are back", count_of(self.of)),
            (Some(Ended::Undone), _) => format!("taken back ({back})"),
            (Some(Ended::Untouched), _) => "nothing of it came about".to_owned(),
            (None, Some(number)) => format!("held at stage {number}, with {back}"),
            (None, None) => format!("not finished, with {back}"),
        }
    }
}

fn count_of(stages: u32) -> String {
    count(usize::try_from(stages).unwrap_or(usize::MAX), "stage")
}
