//! Going back and forth: rollback, undo, redo.

use super::look::progress;
use super::{OperateError, Session};
use crate::engine::{Atomicity, EngineError, ErrorKind, PointMap, RestoreRequest, Spell, Steps};
use crate::event::Event;
use crate::execute::Notice;
use crate::ident::{RelationName, ReleaseId};
use crate::others::{Others, Written};
use crate::plan::Plan;
use crate::release::{Operation, Release, Stage, Verdict};
use crate::restore::{self, Wish, WishError};
use crate::rows::Reconciling;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Back to a release; `None` is the newest good one before the live one.
    Rollback {
        /// Which.
        to: Option<ReleaseId>,
        /// The selector, as typed, and what it selects.
        select: Option<(String, BTreeSet<RelationName>)>,
    },
    /// Some rows back to what they were in a release, and the rest as it is.
    Rows {
        /// Which release; `None` is the newest good one before the live one.
        to: Option<ReleaseId>,
        /// The selector, as typed, and what it selects.
        select: (String, BTreeSet<RelationName>),
        /// Which rows, and why.
        reconciling: Reconciling,
    },
    /// Tables that are written where they stand, back to a moment, or without what one wrote.
    Moment {
        /// The release since which a writer wrote; `None` is the live one.
        to: Option<ReleaseId>,
        /// The moment.
        at: Option<Timestamp>,
        /// Whose changes alone are taken back: a role or an application.
        writer: Option<String>,
        /// The selector, as typed, and what it selects.
        select: Option<(String, BTreeSet<RelationName>)>,
    },
    /// Take back the last operation.
    Undo,
    /// Do again what was taken back, or what the last rollback took away.
    Redo,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Done {
    /// The release that is live now.
    pub release: ReleaseId,
    /// The plan that was carried out.
    pub plan: Plan,
}

impl Session<'_> {
    /// The operation that an ask means now.
    pub fn resolve(&self, ask: &Ask) -> Result<Operation, OperateError> {
        let live = self.live()?;
        let env = self.ledger.env();
        match ask {
            Ask::Rollback {
                to: Some(to),
                select,
            } => Ok(Operation::Rollback {
                to: *to,
                select: select.as_ref().map(|(text, _)| text.clone()),
                rows: None,
                stage: None,
            }),
            Ask::Rollback { to: None, select } => Ok(Operation::Rollback {
                to: self.newest_good_before(live.release)?,
                select: select.as_ref().map(|(text, _)| text.clone()),
                rows: None,
                stage: None,
            }),
            Ask::Rows {
                to,
                select: (text, _),
                reconciling,
            } => Ok(Operation::Rollback {
                to: match (to, reconciling.at) {
                    (Some(to), _) => *to,
                    (None, Some(at)) => self.newest_at(at)?,
                    (None, None) => self.newest_good_before(live.release)?,
                },
                select: Some(text.clone()),
                rows: Some(Box::new(reconciling.clone())),
                stage: None,
            }),
            Ask::Moment {
                to,
                at,
                writer,
                select,
            } => Ok(Operation::Moment {
                to: match (to, at) {
                    (Some(to), _) => *to,
                    (None, Some(at)) => self.newest_at(*at)?,
                    (None, None) => live.release,
                },
                at: *at,
                writer: writer.clone(),
                select: select.as_ref().map(|(text, _)| text.clone()),
            }),
            Ask::Undo => {
                // Nothing of a rollback in stages is back: it is not what would be taken back.
                if let Some(staging) = self.staging()?.filter(|s| s.back.is_empty()) {
                    return Err(OperateError::InStages {
                        first: staging.first,
                        words: staging.words(),
                    });
                }
                let down = live.cursor.checked_sub(1).ok_or(OperateError::NoUndo)?;
                let to = self.ledger.history(|h| h.stacked(env, down))?;
                Ok(Operation::Undo {
                    to: to.ok_or(OperateError::NoUndo)?,
                })
            }
            Ask::Redo if live.cursor < live.top => {
                let to = self.ledger.history(|h| h.stacked(env, live.cursor + 1))?;
                Ok(Operation::Redo {
                    to: to.ok_or(OperateError::NoRedo)?,
                })
            }
            Ask::Redo => Ok(Operation::Redo {
                to: live.taken.ok_or(OperateError::NoRedo)?,
            }),
        }
    }

    /// The newest release that nothing is known against, whose state is older than the live one and
    /// differs from it in something that jobs own: a job that changed nothing is no way back.
    pub fn newest_good_before(&self, live: ReleaseId) -> Result<ReleaseId, OperateError> {
        let env = self.ledger.env();
        let now = self.ledger.history(|h| h.map(live))?.unwrap_or_default();
        let origin = self.known(live)?.origin;
        // The last time each was live, which may be after the live state was first made: what others
        // wrote then is known of that time only.
        let mut last_live = BTreeMap::new();
        let mut before = live;
        loop {
            let page = self
                .ledger
                .history(|h| h.releases(env, Some(before), 100))?;
            let Some(last) = page.last() else {
                return Err(OperateError::NoTarget(live));
            };
            before = last.id;
            for release in page.iter().filter(|r| r.stage == Stage::Published) {
                let latest = *last_live.entry(release.origin).or_insert(release.id);
                let between = release.operation.stage().is_some_and(|s| s.is_between());
                let first = release.origin == release.id && release.id < origin && !between;
                if !first || release.verdict != Verdict::Good {
                    continue;
                }
                let map = |id| self.ledger.history(|h| h.map(id));
                let then = map(release.id)?.unwrap_or_default();
                let later = map(latest)?.unwrap_or_default();
                // As for a plan: what others wrote to where it stands is no difference.
                let same = |n: &_, one: &_, other: &_| self.engine.same_relation(n, one, other);
                let goes_back = |name: &_, state: &_| self.engine.goes_back(name, state);
                let retained = |point, name: &_| self.ledger.history(|h| h.version(point, name));
                let (attainable, _) =
                    restore::attainable(later.clone(), &now, &[], same, goes_back, retained)?;
                if restore::differ(&now, &attainable).next().is_some() {
                    let same = restore::differ(&then, &later).next().is_none();
                    return Ok(if same { release.id } else { latest });
                }
            }
        }
    }

    pub(super) fn known(&self, id: ReleaseId) -> Result<Release, OperateError> {
        let release = self.ledger.history(|h| h.release(id))?;
        release
            .filter(|r| r.env == self.ledger.env())
            .ok_or(OperateError::NoSuchRelease(id))
    }

    /// Makes the plan for an ask. Nothing is changed, except that what others wrote is recorded.
    pub fn plan(&mut self, ask: &Ask) -> Result<Plan, OperateError> {
        self.plan_with(ask, Others::Ask)
    }

    /// The same, with a person's word of what is to become of what others wrote.
    ///
    /// # Errors
    /// [`OperateError::CannotKeep`] where it is to be kept and cannot be, with the reasons.
    pub fn plan_with(&mut self, ask: &Ask, others: Others) -> Result<Plan, OperateError> {
        match ask {
            // What is back of a rollback in stages is taken back by it.
            Ask::Undo => self.nothing_under_way()?,
            _ => self.nothing_open()?,
        }
        let operation = self.resolve(ask)?;
        let only = match ask {
            Ask::Rollback {
                select: Some((_, only)),
                ..
            }
            | Ask::Rows {
                select: (_, only), ..
            }
            | Ask::Moment {
                select: Some((_, only)),
                ..
            } => Some(only.clone()),
            Ask::Undo => self.back_in_stages()?,
            _ => None,
        };
        let Some(target) = operation.target() else {
            return Err(OperateError::NoUndo);
        };
        if self.known(target)?.stage != Stage::Published {
            return Err(OperateError::NeverLive(target));
        }
        self.plan_settled(&operation, only, target, others)
    }

    /// A plan that nobody wrote beside while it was made.
    pub(super) fn plan_settled(
        &mut self,
        operation: &Operation,
        only: Option<BTreeSet<RelationName>>,
        target: ReleaseId,
        others: Others,
    ) -> Result<Plan, OperateError> {
        for _ in 0..LOOKS {
            let plan = self.plan_once(operation, only.clone(), target, others)?;
            // What is not among what others wrote must not be among what is replaced either.
            let seen = self.live()?.mark;
            if !self.engine.overlooks(&seen)? {
                return Ok(plan);
            }
        }
        Err(EngineError::new(
            ErrorKind::Busy,
            "somebody keeps writing to production, so that no plan holds",
        )
        .hint("stop the writer, or wait until it has finished")
        .into())
    }

    pub(super) fn plan_once(
        &mut self,
        operation: &Operation,
        only: Option<BTreeSet<RelationName>>,
        target: ReleaseId,
        others: Others,
    ) -> Result<Plan, OperateError> {
        let (live, live_map) = self.see_drift()?;
        let target_map = self.ledger.history(|h| h.map(target))?.unwrap_or_default();
        let points = self.point_maps()?;
        let same = |n: &_, one: &_, other: &_| self.engine.same_relation(n, one, other);
        let goes_back = |name: &_, state: &_| self.engine.goes_back(name, state);
        let retained = |point, name: &_| self.ledger.history(|h| h.version(point, name));
        let (mut target_map, stay) =
            restore::attainable(target_map, &live_map, &points, same, goes_back, retained)?;
        let env = self.ledger.env().to_owned();
        let release = self.ledger.history(|h| h.next_id())?;
        let mut said = Vec::new();
        let moment = match operation {
            Operation::Moment { at, .. } => Some(*at),
            Operation::Rollback {
                rows: Some(rows), ..
            } if rows.at.is_some() => Some(rows.at),
            _ => None,
        };
        if let Some(at) = moment {
            said = self.at_moment(release, at, operation, &live_map, &mut target_map)?;
        }
        let wish = Wish {
            env: env.clone(),
            release,
            operation: operation.clone(),
            live,
            live_map,
            target_map,
            stay,
            only,
            points,
            pinned: self.ledger.history(|h| h.pins(&env))?.into_iter().collect(),
            proving: self.engine.proving(),
        };
        if let Operation::Rollback {
            rows: Some(reconciling),
            ..
        } = operation
        {
            let mut plan = self.plan_rows(&wish, reconciling)?;
            plan.notes.splice(0..0, said);
            let written = &plan.impact.set_aside;
            if others == Others::Keep && !written.is_empty() {
                let why = "they may be among the chosen rows, whose place others take";
                let names = written.keys().map(|name| (name.clone(), why.to_owned()));
                return Err(OperateError::CannotKeep(names.collect()));
            }
            return Ok(plan);
        }
        let mut request = wish.request()?;
        request.spells = self.spells(&wish, &request)?;
        let mut written = match self.others(&wish, &request) {
            // What cannot be counted is no reason not to go back.
            Err(_) if others != Others::Keep => BTreeMap::new(),
            counted => counted?,
        };
        // Of a moment it is what is asked for, and what is redone was asked about before, but for what
        // was written since.
        let all = matches!(
            operation,
            Operation::Rollback { .. } | Operation::Undo { .. }
        );
        let mut untold: BTreeSet<_> = request.spells.keys().cloned().collect();
        if all || !untold.is_empty() {
            for (name, more) in self.engine.survey_amidst(&request)? {
                let asked = all || request.spells.contains_key(&name);
                untold.remove(&name);
                if asked && more.added + more.lost > 0 {
                    written.entry(name).or_insert(more);
                }
            }
        }
        if others == Others::Keep {
            request.keep = keep(&wish, &request, &written, &untold)?;
        }
        let mut steps = if request.bring.is_empty() && request.remove.is_empty() {
            Steps {
                method: "nothing differs: only the ledger is written".to_owned(),
                ..Steps::default()
            }
        } else {
            if self.engine.capabilities().atomicity == Atomicity::Relation {
                request.built_in_order = self.built_in_order([live, target])?;
            }
            let survey = self.engine.survey_for(&request)?;
            self.engine.plan_restore(&survey, &request)?
        };
        steps.notes.splice(0..0, said);
        Ok(wish.plan(&request, &written, steps))
    }

    /// What others wrote, since it was published, to what a request replaces.
    fn others(
        &mut self,
        wish: &Wish,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, OperateError> {
        let mut published = BTreeMap::new();
        for name in drifted(wish, request) {
            // What it was when a release brought it last, however often others were seen since.
            let mut version = wish.live_map.get(name).cloned();
            while let Some(drifted) = version.as_ref().filter(|v| v.id.drift > 0) {
                let release = drifted.id.release;
                let map = self.ledger.history(|h| h.published_map(release))?;
                let before = map.and_then(|mut map| map.remove(name));
                version = before.filter(|v| v.id < drifted.id);
            }
            if let Some(state) = version.and_then(|v| v.state) {
                published.insert(name.clone(), state);
            }
        }
        if published.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.watch
            .notice(Notice::Phase("counting what others wrote"));
        let on = progress(self.watch);
        Ok(self.engine.survey_others(request, &published, &on)?)
    }

    /// The times in which others wrote to what is replaced, since the release gone back to was live, the
    /// oldest first.
    fn spells(
        &self,
        wish: &Wish,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Vec<Spell>>, OperateError> {
        const PAGE: usize = 100;
        let mut out: BTreeMap<RelationName, Vec<Spell>> = BTreeMap::new();
        let replaced = request.bring.keys().chain(&request.remove);
        let told: BTreeSet<_> = replaced
            .filter(|name| self.engine.wants_spells(name))
            .collect();
        let (Some(target), false) = (wish.operation.target(), told.is_empty()) else {
            return Ok(out);
        };
        let mut before = None;
        loop {
            let page = self
                .ledger
                .history(|h| h.releases(&wish.env, before, PAGE))?;
            for release in page.iter().filter(|r| r.stage == Stage::Published) {
                if release.id <= target {
                    return Ok(out);
                }
                let map = |id| self.ledger.history(|h| h.map(id));
                let last = match release.id == wish.live {
                    true => wish.live_map.clone(),
                    false => map(release.id)?.unwrap_or_default(),
                };
                let drifted = told.iter().filter_map(|name| {
                    let version = restore::present(last.get(*name))?;
                    let here = version.id.release == release.id && version.id.drift > 0;
                    Some(((*name).clone(), version.state.clone().filter(|_| here)?))
                });
                let drifted: Vec<_> = drifted.collect();
                if drifted.is_empty() {
                    continue;
                }
                let made = self.ledger.history(|h| h.published_map(release.id))?;
                let mut made = made.unwrap_or_default();
                for (name, to) in drifted {
                    let from = made.remove(&name).and_then(|version| version.state);
                    let spell = from.map(|from| Spell { from, to });
                    out.entry(name).or_default().splice(0..0, spell);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => before = Some(last.id),
                _ => return Ok(out),
            }
        }
    }

    fn plan_rows(&mut self, wish: &Wish, reconciling: &Reconciling) -> Result<Plan, OperateError> {
        let mut request = wish.rows(reconciling, self.ledger.actor())?;
        self.watch.notice(Notice::Phase("looking at the rows"));
        let on = progress(self.watch);
        let mut survey = self.engine.survey_rows(&request, &on)?;
        survey.slices.retain(|_, slice| !slice.same);
        let differs = |name: &RelationName| survey.slices.contains_key(name);
        request.relations.retain(|name, _| differs(name));
        if request.relations.is_empty() {
            let target = wish.operation.target().unwrap_or(wish.live);
            return Err(WishError::SameRows(target).into());
        }
        let steps = self.engine.plan_rows(&survey, &request)?;
        Ok(wish.plan_rows(&request, &survey, steps))
    }

    /// The retained states and what each holds.
    pub(super) fn point_maps(&mut self) -> Result<Vec<PointMap>, OperateError> {
        let mut out = Vec::new();
        for point in self.engine.points()? {
            let Some(mut map) = self.ledger.history(|h| h.versions(point.release))? else {
                continue;
            };
            map.retain(|name, version| match &point.versions {
                Some(held) => held.get(name) == Some(&*version),
                None => point.databases.contains(&name.database),
            });
            out.push(PointMap { point, map });
        }
        Ok(out)
    }

    /// Carries out a plan for an ask, or refuses if the world moved since it was made. `set_aside`
    /// is a person's word that what others wrote to the replaced relations may go with the retained
    /// version.
    pub fn apply(&mut self, plan: Plan, set_aside: bool) -> Result<Done, OperateError> {
        if !plan.stages.is_empty() {
            return Err(OperateError::NotInStages);
        }
        match plan.operation {
            Operation::Undo { .. } => self.nothing_under_way()?,
            _ => self.nothing_open()?,
        }
        self.carry_out_now(&plan, set_aside)?;
        Ok(Done {
            release: plan.release,
            plan,
        })
    }

    /// Refuses a plan that was made for another moment, or that does not say what others wrote.
    pub(super) fn as_planned(&mut self, plan: &Plan, set_aside: bool) -> Result<(), OperateError> {
        let live = self.live()?;
        let next = self.ledger.history(|h| h.next_id())?;
        if plan.from != live.release || plan.release != next || plan.env != self.ledger.env() {
            return Err(OperateError::StalePlan {
                then: plan.from,
                next: plan.release,
                now: live.release,
                upcoming: next,
            });
        }
        if !set_aside && !plan.impact.set_aside.is_empty() {
            return Err(OperateError::OthersWrote(plan.impact.set_aside.clone()));
        }
        self.engine.freeze()?;
        self.nothing_new(plan, live.drifts, set_aside)
    }

    /// Opens a plan's release and carries it out, unless the world moved.
    pub(super) fn carry_out_now(
        &mut self,
        plan: &Plan,
        set_aside: bool,
    ) -> Result<(), OperateError> {
        self.as_planned(plan, set_aside)?;
        // Durable with the first step's start, before which nothing is touched.
        self.ledger.append_soon(&[Event::ReleaseOpened {
            release: plan.release,
            operation: plan.operation.clone(),
            parent: Some(plan.from),
            job: None,
            code: None,
        }])?;
        self.watch.notice(Notice::Phase("restoring"));
        self.carry_out(plan)
    }

    /// Refuses if others wrote to what is replaced since the plan was made: it does not say so.
    fn nothing_new(
        &mut self,
        plan: &Plan,
        drifts: u32,
        set_aside: bool,
    ) -> Result<(), OperateError> {
        let (live, now) = self.see_drift()?;
        let latest = self.live()?.drifts;
        if set_aside || latest == drifts {
            return Ok(());
        }
        let written = now.iter().filter(|(name, version)| {
            let id = version.id;
            // What goes on being added is put into the older version when its turn comes.
            let replayed = plan.impact.replayed.contains_key(*name);
            let replaced = plan.result.contains_key(*name) && !replayed;
            replaced && id.release == live && id.drift > drifts
        });
        let written: BTreeMap<_, _> = written
            .map(|(name, version)| (name.clone(), restore::written_since(version)))
            .collect();
        if written.is_empty() {
            return Ok(());
        }
        Err(OperateError::OthersWrote(written))
    }
}

/// The relations that a request replaces and that others wrote to.
fn drifted<'a>(
    wish: &'a Wish,
    request: &'a RestoreRequest,
) -> impl Iterator<Item = &'a RelationName> {
    let replaced = request.bring.keys().chain(&request.remove);
    replaced.filter(|name| {
        let live = restore::present(wish.live_map.get(*name));
        live.is_some_and(|live| live.id.drift > 0)
    })
}

/// How what others wrote is put into what comes back, for all that they wrote to. Of what is untold
/// nothing is known but that they wrote to it.
fn keep(
    wish: &Wish,
    request: &RestoreRequest,
    written: &BTreeMap<RelationName, Written>,
    untold: &BTreeSet<RelationName>,
) -> Result<BTreeMap<RelationName, serde_json::Value>, OperateError> {
    let mut out = BTreeMap::new();
    let mut cannot = BTreeMap::new();
    let all = drifted(wish, request).chain(written.keys()).chain(untold);
    let all: BTreeSet<_> = all.collect();
    for name in all {
        match written.get(name).map(|written| &written.keep) {
            Some(Ok(replay)) => drop(out.insert(name.clone(), replay.engine.clone())),
            Some(Err(why)) => drop(cannot.insert(name.clone(), why.clone())),
            None => {
                let why = "it cannot be told which rows are theirs";
                cannot.insert(name.clone(), why.to_owned());
            }
        }
    }
    match cannot.is_empty() {
        true => Ok(out),
        false => Err(OperateError::CannotKeep(cannot)),
    }
}

/// How often a plan is made anew because others wrote while it was made.
const LOOKS: usize = 3;
