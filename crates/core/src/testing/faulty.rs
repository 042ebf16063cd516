//! Faults at a numbered boundary: an engine, a ledger or a recorder that fails, or dies, before or
//! after the effect of its n-th call.
//!
//! A crash is played by a [`Fuse`] that the engine and the ledger share: once it has blown, nothing
//! that is asked of either has an effect any more, as if the process were gone. What a session
//! still does on its way out cannot help it.

use crate::check::{Answer, Detail, RelationProfile};
use crate::diff::RelationDiff;
use crate::engine::{
    Build, Capabilities, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Observation, OnProgress, Place, Point, Proving, PublishRequest, RestoreRequest, Retention,
    Steps,
};
use crate::event::Event;
use crate::execute::{RecordError, Recorder};
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::{Entry, Seal, SqliteLedger, View};
use crate::log::{Ledger, LogError};
use crate::others::Written;
use crate::plan::Step;
use crate::relation::RelationState;
use crate::release::Version;
use crate::rows::{RowsRequest, RowsSurvey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// On which side of a call's effect something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The call has no effect.
    Before,
    /// The call has its effect, and the caller does not learn of it.
    After,
}

/// What happens at the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies.
    Crash,
    /// This one call reports an error.
    Error,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(u64, Side, Fault)>,
    passed: u64,
    blown: Option<String>,
    dead: bool,
}

/// Counts boundaries and blows at the one that it was armed for. Clones are the same fuse.
#[derive(Debug, Clone, Default)]
pub struct Fuse(Arc<Mutex<State>>);

impl Fuse {
    /// Counts from zero again, whatever happened before, and blows at the `n`-th boundary from now.
    pub fn arm(&self, n: u64, side: Side, fault: Fault) {
        *self.state() = State {
            armed: Some((n, side, fault)),
            ..State::default()
        };
    }

    /// Counts from zero again and never blows.
    pub fn disarm(&self) {
        *self.state() = State::default();
    }

    /// How many boundaries were passed since it was armed or disarmed.
    pub fn passed(&self) -> u64 {
        self.state().passed
    }

    /// The boundary at which it blew, if it did.
    pub fn blown(&self) -> Option<String> {
        self.state().blown.clone()
    }

    /// Carries out a call that is a boundary.
    ///
    /// # Errors
    /// The call's own, or [`ErrorKind::Interrupted`] or [`ErrorKind::Io`] for a fault.
    pub fn pass<T>(
        &self,
        name: &str,
        call: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match self.enter(name) {
            Err(error) => Err(error),
            Ok(None) => call(),
            Ok(Some(fault)) => {
                let answer = call();
                Err(answer.err().unwrap_or_else(|| self.blow(name, fault)))
            }
        }
    }

    /// The fault that must follow the call's effect, if one must; an error if there is no call.
    fn enter(&self, name: &str) -> Result<Option<Fault>, EngineError> {
        let mut state = self.state();
        if state.dead {
            return Err(dead());
        }
        state.passed += 1;
        match state.armed {
            Some((n, side, fault)) if n == state.passed => match side {
                Side::After => Ok(Some(fault)),
                Side::Before => {
                    drop(state);
                    Err(self.blow(name, fault))
                }
            },
            _ => Ok(None),
        }
    }

    fn blow(&self, name: &str, fault: Fault) -> EngineError {
        let mut state = self.state();
        state.blown = Some(format!("{name} ({})", state.passed));
        match fault {
            Fault::Crash => {
                state.dead = true;
                dead()
            }
            Fault::Error => EngineError::new(ErrorKind::Io, format!("a fault was put into {name}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dead() -> EngineError {
    EngineError::new(ErrorKind::Interrupted, "the process is dead")
}

/// An engine with faults.
pub struct Faulty {
    engine: Box<dyn Engine>,
    fuse: Fuse,
}

impl Faulty {
    /// Puts a fuse before every call of an engine.
    pub fn new(engine: Box<dyn Engine>, fuse: Fuse) -> Self {
        Self { engine, fuse }
    }
}

impl Engine for Faulty {
    fn capabilities(&mut self) -> Capabilities {
        self.engine.capabilities()
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        self.engine.doctor()
    }

    fn mark(&mut self) -> Result<String, EngineError> {
        self.fuse.pass("mark", || self.engine.mark())
    }

    fn touched(&mut self, mark: &str) -> Result<bool, EngineError> {
        self.fuse.pass("touched", || self.engine.touched(mark))
    }

    fn proving(&mut self) -> Proving {
        self.engine.proving()
    }

    fn overlooks(&mut self, mark: &str) -> Result<bool, EngineError> {
        self.fuse.pass("overlooks", || self.engine.overlooks(mark))
    }

    fn databases_of(&self, step: &Step) -> Option<BTreeSet<String>> {
        self.engine.databases_of(step)
    }

    fn same_relation(
        &self,
        name: &RelationName,
        one: &RelationState,
        other: &RelationState,
    ) -> bool {
        self.engine.same_relation(name, one, other)
    }

    fn freeze(&mut self) -> Result<(), EngineError> {
        self.fuse.pass("freeze", || self.engine.freeze())
    }

    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        self.fuse
            .pass("observe", || self.engine.observe(place, depth, on))
    }

    fn know(&mut self, production: &BTreeMap<RelationName, Version>, pinned: &BTreeSet<ReleaseId>) {
        self.engine.know(production, pinned);
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        self.fuse.pass("begin build", || {
            self.engine.begin_build(release, live, aside, on)
        })
    }

    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        self.fuse
            .pass("keep build", || self.engine.keep_build(release))
    }

    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        self.fuse
            .pass("discard build", || self.engine.discard_build(release))
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        self.fuse
            .pass("survey", || self.engine.survey(release, relations))
    }

    fn survey_for(&mut self, request: &RestoreRequest) -> Result<serde_json::Value, EngineError> {
        self.fuse.pass("survey", || self.engine.survey_for(request))
    }

    fn held_to(
        &mut self,
        checked: serde_json::Value,
        now: serde_json::Value,
    ) -> Result<serde_json::Value, EngineError> {
        self.engine.held_to(checked, now)
    }

    fn plan_publish(
        &self,
        survey: &serde_json::Value,
        request: &PublishRequest,
    ) -> Result<Steps, EngineError> {
        self.fuse
            .pass("plan publish", || self.engine.plan_publish(survey, request))
    }

    fn plan_restore(
        &self,
        survey: &serde_json::Value,
        request: &RestoreRequest,
    ) -> Result<Steps, EngineError> {
        self.fuse
            .pass("plan restore", || self.engine.plan_restore(survey, request))
    }

    fn left_alone(
        &mut self,
        release: ReleaseId,
        changed: &BTreeSet<RelationName>,
    ) -> Result<BTreeSet<RelationName>, EngineError> {
        self.fuse
            .pass("left alone", || self.engine.left_alone(release, changed))
    }

    fn survey_others(
        &mut self,
        request: &RestoreRequest,
        published: &BTreeMap<RelationName, RelationState>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        self.fuse.pass("survey others", || {
            self.engine.survey_others(request, published, on)
        })
    }

    fn wants_spells(&self, name: &RelationName) -> bool {
        self.engine.wants_spells(name)
    }

    fn survey_amidst(
        &mut self,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        // The other engines' stories have nothing for it to find.
        match request.spells.is_empty() {
            true => Ok(BTreeMap::new()),
            false => self.engine.survey_amidst(request),
        }
    }

    fn survey_rows(
        &mut self,
        request: &RowsRequest,
        on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        self.fuse
            .pass("survey rows", || self.engine.survey_rows(request, on))
    }

    fn plan_rows(&self, survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
        self.fuse
            .pass("plan rows", || self.engine.plan_rows(survey, request))
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        self.fuse.pass("fact", || self.engine.fact(subject))
    }

    fn apply(
        &mut self,
        step: &Step,
        seal: Option<&Seal>,
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        self.fuse
            .pass("apply", || self.engine.apply(step, seal, on))
    }

    fn notes(&mut self) -> Vec<String> {
        self.engine.notes()
    }

    fn revert(&mut self, step: &Step, on: OnProgress<'_>) -> Result<(), EngineError> {
        self.fuse.pass("revert", || self.engine.revert(step, on))
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        self.fuse.pass("points", || self.engine.points())
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        self.fuse
            .pass("prove point", || self.engine.prove_point(release))
    }

    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        key: Option<&[String]>,
        examples: u64,
        on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        self.engine.diff(old, new, key, examples, on)
    }

    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        self.fuse
            .pass("profile", || self.engine.profile(place, relations, on))
    }

    fn roles(&mut self) -> Result<BTreeSet<String>, EngineError> {
        self.fuse.pass("roles", || self.engine.roles())
    }

    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError> {
        self.engine.address(place, relation)
    }

    fn query(
        &mut self,
        place: Place,
        sql: &str,
        limit: u64,
        timeout: Duration,
    ) -> Result<Answer, EngineError> {
        self.fuse
            .pass("query", || self.engine.query(place, sql, limit, timeout))
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        self.fuse
            .pass("housekeep", || self.engine.housekeep(keep, on))
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        self.engine.fsck(on)
    }
}

/// A ledger in memory whose appends are boundaries. A fault before an append refuses all of it; a
/// crash after one leaves it durable, and lets nothing follow.
///
/// # Errors
/// Whatever SQLite says.
pub fn ledger(env: &str, actor: &str, fuse: &Fuse) -> Result<Ledger, LogError> {
    let mut views = Ledger::views();
    views.push(Box::new(FuseView(fuse.clone())));
    let store = SqliteLedger::create(Path::new(":memory:"), views)?;
    Ok(Ledger::new(store, env, actor))
}

/// Keeps nothing. It stands in every append's transaction, and can refuse it.
struct FuseView(Fuse);

impl View for FuseView {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &[]
    }

    fn schema(&self) -> &'static str {
        ""
    }

    fn apply(&self, _: &rusqlite::Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
        let name = format!("append {}", entry.event_type());
        let refuse = |e| Err(rusqlite::Error::ToSqlConversionFailure(Box::new(e)));
        match self.0.enter(&name) {
            Err(error) => refuse(error),
            Ok(None) => Ok(()),
            Ok(Some(fault)) => {
                // The append goes on and becomes durable; what comes after it fails.
                let _ = self.0.blow(&name, fault);
                Ok(())
            }
        }
    }
}

/// A recorder whose every event is a boundary: one that keeps an event and still reports an error
/// is what a lost connection looks like.
pub struct FaultyRecorder<'a> {
    /// Where events go.
    pub recorder: &'a mut dyn Recorder,
    /// Where it fails.
    pub fuse: Fuse,
}

impl Recorder for FaultyRecorder<'_> {
    fn record(&mut self, event: Event) -> Result<(), RecordError> {
        let mut refused = None;
        let passed = self.fuse.pass("record", || {
            refused = self.recorder.record(event).err();
            Ok(())
        });
        match (refused, passed) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(RecordError(Box::new(error))),
            (None, Ok(())) => Ok(()),
        }
    }
}
