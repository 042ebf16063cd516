//! Guarding a job.

use super::check::{CHECKING, Subject};
use super::look::{Seen, changes, moved, progress, states};
use super::{Checks, OperateError, Session};
use crate::check::{Finding, Ruling, gate};
use crate::engine::{Build, Depth, Place};
use crate::event::Event;
use crate::execute::{Attempt, Notice, Outcome, execute};
use crate::fault::boundary;
use crate::ident::{RelationName, ReleaseId};
use crate::journal::Journal;
use crate::ledger::BlobRef;
use crate::plan::{Plan, PlanId};
use crate::release::{Code, Job, JobEnd, Operation, Verdict, Version, VersionId};
use crate::restore::Map;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be guarded.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The job.
    pub job: Job,
    /// The code it runs.
    pub code: Option<Code>,
    /// Build beside production and publish; otherwise in place, with a restore point.
    pub aside: bool,
    /// The release whose command this is, where it is run again.
    pub replays: Option<ReleaseId>,
    /// What is checked before what was built becomes production; `None`, nothing is.
    pub checks: Option<Checks>,
}

impl RunRequest {
    fn operation(&self) -> Operation {
        Operation::Run {
            aside: self.aside,
            replays: self.replays,
        }
    }
}

/// What the caller's job did.
#[derive(Debug, Clone)]
pub struct JobResult {
    /// How it ended.
    pub end: JobEnd,
    /// The relations that it built, as far as its pipeline says. Others that changed are found.
    pub built: BTreeSet<RelationName>,
    /// Whether it may be published.
    pub good: bool,
    /// What the caller found that no warehouse can be asked for.
    pub findings: Vec<Finding>,
}

/// How a guarded run ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The release.
    pub release: ReleaseId,
    /// Whether it is production now.
    pub published: bool,
    /// What it changed.
    pub changes: BTreeMap<RelationName, Version>,
    /// The job.
    pub result: JobResult,
    /// What checks found.
    pub findings: Vec<Finding>,
    /// Why the release is bad although its job came to a good end.
    pub held: Option<String>,
}

impl Session<'_> {
    /// Guards a job. `launch` runs it, with the build to use; it is called once, after the restore
    /// point is safe.
    pub fn run(
        &mut self,
        request: RunRequest,
        launch: impl FnOnce(&Build, &mut crate::log::Ledger) -> Result<JobResult, OperateError>,
    ) -> Result<Ran, OperateError> {
        self.nothing_open()?;
        self.engine.freeze()?;
        self.adopt()?;
        let (live, before) = self.see_drift()?;
        let release = self.ledger.history(|h| h.next_id())?;
        let operation = request.operation();
        self.ledger.append(&[Event::ReleaseOpened {
            release,
            operation: operation.clone(),
            parent: Some(live),
            job: Some(request.job),
            code: request.code,
        }])?;

        let phase = if request.aside {
            "building aside"
        } else {
            "taking a restore point"
        };
        self.watch.notice(Notice::Phase(phase));
        if !request.aside {
            self.tell_versions(&before)?;
        }
        let on = progress(self.watch);
        let build = match self.engine.begin_build(release, live, request.aside, &on) {
            Ok(build) => build,
            Err(error) => {
                // First its room: the ledger may lie on the same full disk. What cannot be done
                // now, `resume` does.
                let _ = self.engine.discard_build(release);
                let reason = format!("no job was run: {error}");
                let _ = self.abandon(release, reason, Map::new());
                return Err(error.into());
            }
        };
        boundary("build begun");
        if !request.aside {
            self.engine.prove_point(live)?;
            self.pass_on_notes();
            let points = self.engine.points()?;
            let one_by_one = points.iter().any(|point| point.versions.is_some());
            let here = points.into_iter().filter(|point| point.release == live);
            let locations: Vec<String> = here.map(|point| point.location).collect();
            let location = match locations.is_empty() {
                false => locations.join("; "),
                true if one_by_one => "with the releases that built it".to_owned(),
                // A file that a job is about to make has nothing to be kept.
                true => "nothing is there yet".to_owned(),
            };
            self.ledger.append(&[Event::PointTaken {
                release: live,
                location,
            }])?;
        }
        let result = match launch(&build, self.ledger) {
            Ok(result) => result,
            Err(error) => {
                // The job never started: nothing was built and nothing can have changed.
                self.engine.discard_build(release)?;
                self.abandon(release, error.to_string(), Map::new())?;
                return Err(error);
            }
        };
        boundary("job ended");
        self.ledger.append(&[Event::JobEnded {
            release,
            end: result.end.clone(),
        }])?;
        let checks = request.checks.as_ref();
        if !request.aside {
            self.close_in_place(release, &before, result, checks)
        } else if result.good {
            self.publish(release, operation, live, &before, result, checks)
        } else {
            self.keep_failed(release, &before, result, checks)
        }
    }

    /// Runs the checks, records what they found, and says what follows.
    pub(super) fn checked_over(
        &mut self,
        subject: &Subject<'_>,
        checks: &Checks,
        more: &[Finding],
    ) -> Result<(Vec<Finding>, Ruling), OperateError> {
        self.watch.notice(Notice::Phase(CHECKING));
        let (findings, event) = self.look_over(subject, checks, more)?;
        self.ledger.append(&[event])?;
        boundary("checked");
        let ruling = gate::rule(&findings, checks.hold);
        Ok((findings, ruling))
    }

    fn keep_failed(
        &mut self,
        release: ReleaseId,
        before: &Map,
        result: JobResult,
        checks: Option<&Checks>,
    ) -> Result<Ran, OperateError> {
        // A job that failed may leave what nobody can look into; that it failed is to be told.
        let changes = match self.seen_in(Place::Build(release), release, before, &result.built) {
            Ok(Seen { changes, .. }) => changes,
            Err(OperateError::Engine(error)) => {
                let text = format!("what it left cannot be looked into: {error}");
                self.watch.notice(Notice::Note(&text));
                Map::new()
            }
            Err(error) => return Err(error),
        };
        let findings = self.said_of_failure(release, &result, checks)?;
        self.engine.keep_build(release)?;
        boundary("failed build kept");
        self.abandon(release, failure(&result.end), changes.clone())?;
        Ok(Ran {
            release,
            published: false,
            changes,
            result,
            findings,
            held: None,
        })
    }

    /// Records what a failed job's own pipeline says of it.
    fn said_of_failure(
        &mut self,
        release: ReleaseId,
        result: &JobResult,
        checks: Option<&Checks>,
    ) -> Result<Vec<Finding>, OperateError> {
        if checks.is_none() {
            return Ok(Vec::new());
        }
        let (findings, event) = self.look_over_failed(release, &result.end, &result.findings)?;
        self.ledger.append(event.as_slice())?;
        Ok(findings)
    }

    fn close_in_place(
        &mut self,
        release: ReleaseId,
        before: &Map,
        result: JobResult,
        checks: Option<&Checks>,
    ) -> Result<Ran, OperateError> {
        self.engine.freeze()?;
        let Seen { changes, moved } = self.seen_in(Place::Live, release, before, &result.built)?;
        if !result.good && changes.is_empty() {
            // It failed before it changed anything: production is what it was, and as good.
            let findings = self.said_of_failure(release, &result, checks)?;
            self.abandon(release, failure(&result.end), Map::new())?;
            self.see_drift()?;
            return Ok(Ran {
                release,
                published: false,
                changes,
                result,
                findings,
                held: None,
            });
        }
        let mut findings = Vec::new();
        let mut bad = (!result.good).then(|| failure(&result.end));
        let mut held = None;
        if !result.good {
            findings = self.said_of_failure(release, &result, checks)?;
        } else if let Some(checks) = checks {
            let subject = Subject {
                release,
                place: Place::Live,
                changes: &changes,
                before,
                built: &result.built,
                end: Some(&result.end),
                fresh: true,
            };
            let (found, ruling) = self.checked_over(&subject, checks, &result.findings)?;
            if let Ruling::Hold { reason } = ruling {
                held = Some(reason.clone());
                bad = Some(reason);
            }
            findings = found;
        }
        let mark = self.engine.mark()?;
        let mut events = vec![Event::ReleasePublished {
            release,
            changes: changes.clone(),
            mark,
            moved,
        }];
        events.extend(bad.map(|reason| Event::ReleaseMarked {
            release,
            verdict: Verdict::Bad,
            reason,
        }));
        self.ledger.append(&events)?;
        Ok(Ran {
            release,
            published: true,
            changes,
            result,
            findings,
            held,
        })
    }

    /// Tells the engine which version each relation of production is.
    pub(super) fn tell_versions(&mut self, production: &Map) -> Result<(), OperateError> {
        let env = self.ledger.env().to_owned();
        let pinned = self.ledger.history(|h| h.pins(&env))?.into_iter().collect();
        self.engine.know(production, &pinned);
        Ok(())
    }

    pub(super) fn seen_in(
        &mut self,
        place: Place,
        release: ReleaseId,
        before: &Map,
        built: &BTreeSet<RelationName>,
    ) -> Result<Seen, OperateError> {
        self.watch
            .notice(Notice::Phase("looking at what was built"));
        let depth = Depth::Changed {
            known: states(before),
            always: built.clone(),
        };
        let on = progress(self.watch);
        let seen = self.engine.observe(place, &depth, &on)?;
        let id = VersionId { release, drift: 0 };
        let mut changes = changes(before, &seen, id, |name| built.contains(name));
        let proving = self.engine.proving();
        // What was built is another relation, even where its rows are the same: others that were
        // built with it may be bound to it.
        let anew = |name: &RelationName| built.contains(name) && proving.at(name);
        for (name, state) in seen.iter().filter(|(name, _)| anew(name)) {
            changes.entry(name.clone()).or_insert_with(|| Version {
                id,
                owned: true,
                state: Some(state.clone()),
            });
        }
        let mut moved = moved(before, &seen, &changes);
        if matches!(place, Place::Build(_)) {
            // What the job had a copy of and did not build stays where it is.
            moved.retain(|name, _| !proving.at(name));
        }
        Ok(Seen { changes, moved })
    }

    pub(super) fn abandon(
        &mut self,
        release: ReleaseId,
        reason: String,
        kept: Map,
    ) -> Result<(), OperateError> {
        self.ledger.append(&[Event::ReleaseAbandoned {
            release,
            reason,
            kept,
        }])?;
        Ok(())
    }

    /// Journals a plan, carries it out and publishes its release.
    pub(super) fn carry_out(&mut self, plan: &Plan) -> Result<(), OperateError> {
        let canonical = plan.canonical()?;
        let id = PlanId::of(&canonical);
        let blob = self.ledger.put_blob(&canonical, "plan")?;
        // Durable with the first step's start, before which nothing is touched.
        self.ledger.append_soon(&[Event::PlanMade {
            release: plan.release,
            plan: id.clone(),
            blob: BlobRef(blob),
        }])?;
        let journal = Journal::new(id.clone());
        self.go_on(plan, id, journal, None, false)
    }

    /// Carries a plan out from where its journal says that it stopped. `resumed` says that nobody
    /// watched production in between.
    pub(super) fn go_on(
        &mut self,
        plan: &Plan,
        id: PlanId,
        journal: Journal,
        assume: Option<crate::execute::Assume>,
        resumed: bool,
    ) -> Result<(), OperateError> {
        let attempt = Attempt {
            plan,
            id,
            journal,
            assume,
            closing: &self.closing(plan, String::new())?,
        };
        let outcome = match execute(self.engine, self.ledger, self.watch, attempt) {
            Ok(outcome) => outcome,
            Err(error @ crate::execute::ExecuteError::Moved { .. }) => {
                // Nothing was touched: the plan is void, and so is its release.
                let kept = self.put_aside(plan)?;
                self.abandon(plan.release, error.to_string(), kept)?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        match outcome {
            Outcome::Done { sealed: true } => {
                self.engine.discard_build(plan.release)?;
                // The mark was not known when the entries were written.
                self.see_drift()?;
                Ok(())
            }
            Outcome::Done { sealed: false } => {
                // Nothing is left of it, unless it was interrupted.
                self.engine.discard_build(plan.release)?;
                // Others may have written between a step and its resumption. An empty mark makes
                // the next operation look.
                let look = self.engine.proving().anywhere();
                let mark = match resumed || look {
                    true => String::new(),
                    false => self.engine.mark()?,
                };
                let events = self.closing(plan, mark)?;
                self.ledger.append(&events)?;
                if look {
                    self.see_drift()?;
                    self.pass_on_notes();
                }
                Ok(())
            }
            Outcome::TakenBack {
                error,
                hint,
                conflict,
                ..
            } => {
                let kept = self.put_aside(plan)?;
                self.abandon(plan.release, error.clone(), kept)?;
                // Production is what it was, and its file was renamed there and back. Should this
                // look fail, the next command looks again.
                let _ = self.see_drift();
                Err(OperateError::TakenBack {
                    release: plan.release,
                    error,
                    hint,
                    conflict,
                })
            }
        }
    }
}

impl Session<'_> {
    /// Tells what the engine has to say of what it did and found.
    fn pass_on_notes(&mut self) {
        for note in self.engine.notes() {
            self.watch.notice(Notice::Note(&note));
        }
    }

    /// Keeps what a job built, which is worth looking at, and drops what a restore prepared, which
    /// can be had again. Gives what was kept.
    fn put_aside(&mut self, plan: &Plan) -> Result<Map, OperateError> {
        if matches!(plan.operation, Operation::Run { .. }) {
            self.engine.keep_build(plan.release)?;
            return Ok(plan.result.clone());
        }
        self.engine.discard_build(plan.release)?;
        Ok(Map::new())
    }

    /// What makes a plan's result official.
    fn closing(&self, plan: &Plan, mark: String) -> Result<Vec<Event>, OperateError> {
        let mut events = vec![Event::ReleasePublished {
            release: plan.release,
            changes: plan.result.clone(),
            mark,
            moved: plan.moved.clone(),
        }];
        events.extend(self.verdicts(plan, false)?);
        Ok(events)
    }
}

pub(super) fn failure(end: &JobEnd) -> String {
    match (end.exit_code, end.signal, end.failures.first()) {
        (_, _, Some(first)) => match end.failures.len() {
            1 => first.clone(),
            n => format!("{first}, and {} more", n - 1),
        },
        (Some(code), _, None) => format!("the job ended with exit code {code}"),
        (None, Some(signal), None) => format!("the job was ended by signal {signal}"),
        (None, None, None) => "the job did not end by itself".to_owned(),
    }
}
