//! An estate as an [`Engine`].

use super::ask::{Each, own, surveyed};
use super::join::{self, Asked, Way, unwritten};
use super::{Estate, EstateError, said, told, word};
use crate::check::{Answer, Detail, RelationProfile};
use crate::diff::RelationDiff;
use crate::engine::{
    Build, Capabilities, Change, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Moments, Observation, OnProgress, Place, Point, Proving, PublishRequest, RestoreRequest,
    Retention, Steps, Unmet,
};
use crate::fault::boundary;
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::Seal;
use crate::others::Written;
use crate::plan::{Fact, Step};
use crate::relation::RelationState;
use crate::release::Version;
use crate::rows::{RowsRequest, RowsSurvey};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Engine for Estate {
    fn capabilities(&mut self) -> Capabilities {
        said::capabilities(&mut self.members)
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        let circle = self.settle().err();
        said::doctor(&mut self.members, &self.derived, circle)
    }

    fn mark(&mut self) -> Result<String, EngineError> {
        let mut marks = BTreeMap::new();
        for member in &mut self.members {
            marks.insert(member.name.clone(), member.ask(Engine::mark)?);
        }
        serde_json::to_string(&marks).map_err(unwritten)
    }

    fn touched(&mut self, mark: &str) -> Result<bool, EngineError> {
        let marks = Self::marks(mark);
        for member in &mut self.members {
            let touched = match marks.get(&member.name) {
                Some(mark) => member.ask(|engine| engine.touched(mark))?,
                None => true,
            };
            if touched {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn proving(&mut self) -> Proving {
        if let Some(known) = &self.proving {
            return known.clone();
        }
        let mut databases = BTreeSet::new();
        let (mut everywhere, mut nowhere) = (true, true);
        for member in &mut self.members {
            match member.engine.proving() {
                Proving::Everywhere => databases.extend(member.databases.clone()),
                Proving::In(some) => {
                    everywhere = false;
                    databases.extend(some);
                }
                Proving::Nowhere => {
                    everywhere = false;
                    continue;
                }
            }
            nowhere = false;
        }
        let proving = match (everywhere, nowhere) {
            (true, _) => Proving::Everywhere,
            (_, true) => Proving::Nowhere,
            _ => Proving::In(databases),
        };
        self.proving = Some(proving.clone());
        proving
    }

    fn databases_of(&self, step: &Step) -> Option<BTreeSet<String>> {
        let of = join::member(step)?;
        let member = self.members.iter().find(|member| member.name == of)?;
        Some(member.databases.clone())
    }

    fn overlooks(&mut self, mark: &str) -> Result<bool, EngineError> {
        let marks = Self::marks(mark);
        for member in &mut self.members {
            // Where nothing is known of it, it was not looked at.
            let mark = marks.get(&member.name).cloned().unwrap_or_default();
            if member.ask(|engine| engine.overlooks(&mark))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn freeze(&mut self) -> Result<(), EngineError> {
        for member in &mut self.members {
            member.ask(Engine::freeze)?;
        }
        Ok(())
    }

    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        let there = self.at(place)?;
        if there.is_empty() {
            let text = format!("no member has anything at {place:?}");
            return Err(EngineError::new(ErrorKind::Missing, text));
        }
        let mut all = Observation::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            if !there.contains(&at) {
                continue;
            }
            let own = member.depth(depth);
            let seen = member.ask(|engine| engine.observe(place, &own, on))?;
            if let Some(name) = member.stranger(&seen) {
                let text = format!(
                    "{}: it shows {name}, and its databases are {}",
                    member.name,
                    member
                        .databases
                        .iter()
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ")
                );
                return Err(EngineError::new(ErrorKind::Refused, text));
            }
            all.extend(seen);
        }
        Ok(all)
    }

    fn same_relation(
        &self,
        name: &RelationName,
        one: &RelationState,
        other: &RelationState,
    ) -> bool {
        let home = self.members.iter().find(|member| member.has(name));
        home.is_some_and(|member| member.engine.same_relation(name, one, other))
    }

    fn goes_back(&self, name: &RelationName, state: &RelationState) -> bool {
        let home = self.members.iter().find(|member| member.has(name));
        home.is_some_and(|member| member.engine.goes_back(name, state))
    }

    fn moments(
        &mut self,
        at: Option<Timestamp>,
        writer: Option<&str>,
    ) -> Result<Moments, EngineError> {
        let mut all = Moments::default();
        for member in &mut self.members {
            let found = member.ask(|engine| engine.moments(at, writer))?;
            all.relations.extend(found.relations);
            all.uncovered.extend(found.uncovered);
        }
        Ok(all)
    }

    fn changes(&mut self, relation: &RelationName, limit: u64) -> Result<Vec<Change>, EngineError> {
        self.home(relation)?
            .ask(|engine| engine.changes(relation, limit))
    }

    fn know(&mut self, production: &BTreeMap<RelationName, Version>, pinned: &BTreeSet<ReleaseId>) {
        for member in &mut self.members {
            let own = member.map(production);
            member.engine.know(&own, pinned);
        }
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        if aside {
            let cannot = self.members.iter_mut().filter_map(|member| {
                let can = member.engine.capabilities().aside;
                (!can).then(|| member.name.clone())
            });
            let cannot: Vec<String> = cannot.collect();
            if !cannot.is_empty() {
                let text = format!(
                    "a job builds aside in all members or in none, and {} cannot",
                    cannot.join(", ")
                );
                return Err(EngineError::new(ErrorKind::Unsupported, text).hint(
                    "let it work on production itself, with a restore point: `--in-place` for \
                     dbt, and no `--aside` for anything else",
                ));
            }
        }
        let mut files = Vec::new();
        let mut environments = Vec::new();
        for member in &mut self.members {
            let build = member.ask(|engine| engine.begin_build(release, live, aside, on))?;
            boundary("member begun");
            files.extend(build.files);
            environments.push((word(&member.name), build.env));
        }
        if !aside {
            self.taken = Some(live);
        }
        Ok(Build {
            release,
            files,
            env: told::environment(&environments)?,
        })
    }

    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        self.every(|engine| engine.keep_build(release))
    }

    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        self.every(|engine| engine.discard_build(release))
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<Value, EngineError> {
        self.settle().map_err(unordered)?;
        let mut each = Each::new();
        let touched = self.homes(relations)?;
        for (at, member) in self.members.iter_mut().enumerate() {
            if touched.contains(&at) {
                let own = member.set(relations);
                let survey = member.ask(|engine| engine.survey(release, &own))?;
                each.insert(member.name.clone(), survey);
            }
        }
        serde_json::to_value(each).map_err(unwritten)
    }

    fn survey_for(&mut self, request: &RestoreRequest) -> Result<Value, EngineError> {
        self.settle().map_err(unordered)?;
        let mut each = Each::new();
        let touched = self.homes(request.bring.keys().chain(&request.remove))?;
        for (at, member) in self.members.iter_mut().enumerate() {
            if touched.contains(&at) {
                let own = member.restore(request);
                let survey = member.ask(|engine| engine.survey_for(&own))?;
                each.insert(member.name.clone(), survey);
            }
        }
        serde_json::to_value(each).map_err(unwritten)
    }

    fn held_to(&mut self, checked: Value, now: Value) -> Result<Value, EngineError> {
        let (mut checked, mut each) = (surveyed(&checked)?, surveyed(&now)?);
        for member in &mut self.members {
            if member.engine.proving() == Proving::Nowhere
                && let Some(before) = checked.remove(&member.name)
            {
                each.insert(member.name.clone(), before);
            }
        }
        serde_json::to_value(each).map_err(unwritten)
    }

    /// A member in which nothing was built stays as it is: others may have written there meanwhile.
    fn plan_publish(&self, survey: &Value, request: &PublishRequest) -> Result<Steps, EngineError> {
        let each = surveyed(survey)?;
        let touched: Vec<usize> = self.homes(request.changes.keys())?.into_iter().collect();
        self.planned(&touched, Way::Forward, |member| {
            let survey = own(&each, member)?;
            member
                .engine
                .plan_publish(&survey, &member.publish(request))
        })
    }

    fn plan_restore(&self, survey: &Value, request: &RestoreRequest) -> Result<Steps, EngineError> {
        let each = surveyed(survey)?;
        let relations = request.bring.keys().chain(&request.remove);
        let touched: Vec<usize> = self.homes(relations)?.into_iter().rev().collect();
        self.planned(&touched, Way::Back, |member| {
            let survey = own(&each, member)?;
            member
                .engine
                .plan_restore(&survey, &member.restore(request))
        })
    }

    fn survey_others(
        &mut self,
        request: &RestoreRequest,
        published: &BTreeMap<RelationName, RelationState>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let mut all = BTreeMap::new();
        for member in &mut self.members {
            let own = member.map(published);
            if !own.is_empty() {
                let request = member.restore(request);
                let found = member.ask(|engine| engine.survey_others(&request, &own, on))?;
                all.extend(found);
            }
        }
        Ok(all)
    }

    fn left_alone(
        &mut self,
        release: ReleaseId,
        changed: &BTreeSet<RelationName>,
    ) -> Result<BTreeSet<RelationName>, EngineError> {
        let mut all = BTreeSet::new();
        for member in &mut self.members {
            let own = member.set(changed);
            if !own.is_empty() {
                all.extend(member.ask(|engine| engine.left_alone(release, &own))?);
            }
        }
        Ok(all)
    }

    fn wants_spells(&self, name: &RelationName) -> bool {
        let mut home = self.members.iter().filter(|member| member.has(name));
        home.any(|member| member.engine.wants_spells(name))
    }

    fn survey_amidst(
        &mut self,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let mut all = BTreeMap::new();
        for member in &mut self.members {
            let request = member.restore(request);
            if !request.bring.is_empty() || !request.remove.is_empty() {
                all.extend(member.ask(|engine| engine.survey_amidst(&request))?);
            }
        }
        Ok(all)
    }

    fn survey_rows(
        &mut self,
        request: &RowsRequest,
        on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        self.settle().map_err(unordered)?;
        let touched = self.homes(request.relations.keys())?;
        let mut each = Each::new();
        let mut slices = BTreeMap::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            if touched.contains(&at) {
                let request = member.rows(request);
                let survey = member.ask(|engine| engine.survey_rows(&request, on))?;
                slices.extend(survey.slices);
                each.insert(member.name.clone(), survey.engine);
            }
        }
        let engine = serde_json::to_value(each).map_err(unwritten)?;
        Ok(RowsSurvey { slices, engine })
    }

    fn plan_rows(&self, survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
        let each = surveyed(&survey.engine)?;
        let touched = self.homes(request.relations.keys())?;
        let touched: Vec<usize> = touched.into_iter().rev().collect();
        self.planned(&touched, Way::Back, |member| {
            let survey = member.rows_survey(survey, own(&each, member)?);
            member.engine.plan_rows(&survey, &member.rows(request))
        })
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let (member, subject) = join::whose(subject)?;
        self.named(member)?.ask(|engine| engine.fact(subject))
    }

    fn unmet(&mut self, facts: &[Fact]) -> Result<Option<Unmet>, EngineError> {
        let mut by_member: Vec<(&str, Vec<Fact>)> = Vec::new();
        for fact in facts {
            let (member, subject) = join::whose(&fact.subject)?;
            let fact = Fact::new(subject, fact.is.clone());
            match by_member.iter_mut().find(|(name, _)| *name == member) {
                Some((_, own)) => own.push(fact),
                None => by_member.push((member, vec![fact])),
            }
        }
        for (name, own) in by_member {
            let unmet = self.named(name)?.ask(|engine| engine.unmet(&own))?;
            if let Some(unmet) = unmet {
                let subject = join::subject(name, &unmet.fact.subject);
                return Ok(Some(Unmet {
                    fact: Fact::new(subject, unmet.fact.is),
                    now: unmet.now,
                }));
            }
        }
        Ok(None)
    }

    fn apply(
        &mut self,
        step: &Step,
        seal: Option<&Seal>,
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let Asked::Of(member, step) = join::unwrap(step)? else {
            return Ok(());
        };
        let seal = seal.filter(|_| self.ledger.as_ref() == Some(&member));
        self.named(&member)?
            .ask(|engine| engine.apply(&step, seal, on))
    }

    fn notes(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for member in &mut self.members {
            let said = member.engine.notes().into_iter();
            all.extend(said.map(|note| format!("{}: {note}", member.name)));
        }
        all
    }

    fn statements_sent(&self) -> Option<u64> {
        let sent = self
            .members
            .iter()
            .map(|member| member.engine.statements_sent());
        sent.flatten().reduce(u64::saturating_add)
    }

    fn revert(&mut self, step: &Step, on: OnProgress<'_>) -> Result<(), EngineError> {
        let Asked::Of(member, step) = join::unwrap(step)? else {
            return Ok(());
        };
        self.named(&member)?.ask(|engine| engine.revert(&step, on))
    }

    /// Each of one member: a release may have changed some of them only.
    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        let mut all = Vec::new();
        for member in &mut self.members {
            let points = member.ask(Engine::points)?;
            all.extend(points.into_iter().map(|point| Point {
                location: format!("{}: {}", member.name, point.location),
                ..point
            }));
        }
        all.sort_by_key(|point| point.release);
        Ok(all)
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let holding = match self.taken == Some(release) {
            true => (0..self.members.len()).collect(),
            false => self.retaining(release)?,
        };
        if holding.is_empty() {
            let text = format!("no member has a restore point of {release}");
            return Err(EngineError::new(ErrorKind::Missing, text));
        }
        for (at, member) in self.members.iter_mut().enumerate() {
            if holding.contains(&at) {
                member.ask(|engine| engine.prove_point(release))?;
            }
        }
        Ok(())
    }

    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        key: Option<&[String]>,
        examples: u64,
        on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        let home = self.home(old.1)?;
        if !home.has(new.1) {
            let text = format!("{} and {} are in two members", old.1, new.1);
            return Err(EngineError::new(ErrorKind::Unsupported, text)
                .hint("no engine reads both: compare versions of one relation"));
        }
        home.ask(|engine| engine.diff(old, new, key, examples, on))
    }

    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        let there = self.at(place)?;
        let mut all = BTreeMap::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            let own = member.map(relations);
            if there.contains(&at) && !own.is_empty() {
                all.extend(member.ask(|engine| engine.profile(place, &own, on))?);
            }
        }
        Ok(all)
    }

    fn roles(&mut self) -> Result<BTreeSet<String>, EngineError> {
        let mut all = BTreeSet::new();
        for member in &mut self.members {
            all.extend(member.ask(Engine::roles)?);
        }
        Ok(all)
    }

    /// Begins with a comment that says which member it is of: a query says by it whom it asks.
    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError> {
        let member = self.home(relation)?;
        let address = member.ask(|engine| engine.address(place, relation))?;
        Ok(told::address(&member.name, &address))
    }

    fn query(
        &mut self,
        place: Place,
        sql: &str,
        limit: u64,
        timeout: Duration,
    ) -> Result<Answer, EngineError> {
        let member = told::asked(sql)?.to_owned();
        self.named(&member)?
            .ask(|engine| engine.query(place, sql, limit, timeout))
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        let (mut packed, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        let mut freed = 0;
        for member in &mut self.members {
            let points = member.ask(Engine::points)?;
            let own = member.retention(keep, &points);
            let done = member.ask(|engine| engine.housekeep(&own, on))?;
            packed.extend(done.packed);
            dropped.extend(done.dropped);
            freed += done.freed;
        }
        Ok(Housekeeping {
            packed: packed.into_iter().collect(),
            dropped: dropped.into_iter().collect(),
            freed,
        })
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        let mut all = Vec::new();
        for member in &mut self.members {
            let found = member.ask(|engine| engine.fsck(on))?;
            all.extend(found.into_iter().map(|one| Diagnosis {
                subject: format!("{}: {}", member.name, one.subject),
                ..one
            }));
        }
        Ok(all)
    }
}

/// Members that no order is right for.
fn unordered(circle: EstateError) -> EngineError {
    EngineError::new(ErrorKind::Refused, circle.to_string())
}
