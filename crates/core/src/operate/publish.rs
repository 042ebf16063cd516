//! Making production of what a job built aside, once it was checked.

use super::check::Subject;
use super::look::Seen;
use super::run::Ran;
use super::{Checks, JobResult, OperateError, Session};
use crate::check::{Finding, Outcome, Ruling, Severity};
use crate::engine::{Carry, Place, Proving, PublishRequest};
use crate::execute::Notice;
use crate::fault::boundary;
use crate::ident::{RelationName, ReleaseId};
use crate::plan::{FORMAT, Impact, Plan};
use crate::release::Operation;
use crate::restore::{Map, written_since};
use std::collections::{BTreeMap, BTreeSet};

/// What came of planning a publish.
enum Planned {
    /// The plan, and what checks found.
    Plan(Box<Plan>, Vec<Finding>),
    /// What others wrote to that the job built too, and what it built.
    Conflicts(BTreeMap<RelationName, String>, Map),
    /// Why it must not be published, what was found, and what was built.
    Held(String, Vec<Finding>, Map),
}

/// What others wrote meanwhile, and the engine's survey.
type Prepared = (Carry, serde_json::Value);

/// What a build is planned by.
struct Publishing<'a> {
    release: ReleaseId,
    operation: Operation,
    live: ReleaseId,
    before: &'a Map,
    result: &'a JobResult,
    checks: Option<&'a Checks>,
}

/// A relation that a job says it built, and that is not where it was to be built.
fn built_elsewhere(name: &RelationName) -> Finding {
    Finding {
        check: "elsewhere".to_owned(),
        relation: Some(name.clone()),
        column: None,
        outcome: Outcome::Fail,
        severity: Severity::Critical,
        observed: "its job says that it was built, and it is not where this release is built: it \
                   may have been built in production itself"
            .to_owned(),
        expected: "what a job builds aside is there".to_owned(),
        examples: None,
        sql: None,
    }
}

impl Session<'_> {
    pub(super) fn publish(
        &mut self,
        release: ReleaseId,
        operation: Operation,
        live: ReleaseId,
        before: &Map,
        result: JobResult,
        checks: Option<&Checks>,
    ) -> Result<Ran, OperateError> {
        let publishing = Publishing {
            release,
            operation,
            live,
            before,
            result: &result,
            checks,
        };
        let (plan, findings) = match self.plan_publish(publishing) {
            Ok(Planned::Plan(plan, findings)) => (plan, findings),
            Ok(Planned::Conflicts(conflicts, kept)) => {
                self.engine.keep_build(release)?;
                let reason = "others wrote to what the job built while it ran".to_owned();
                self.abandon(release, reason, kept)?;
                return Err(OperateError::Conflict { release, conflicts });
            }
            Ok(Planned::Held(reason, findings, changes)) => {
                self.engine.keep_build(release)?;
                boundary("held build kept");
                self.abandon(release, reason.clone(), changes.clone())?;
                return Ok(Ran {
                    release,
                    published: false,
                    changes,
                    result,
                    findings,
                    held: Some(reason),
                });
            }
            Err(error) => {
                // Nothing has touched production, and a person need not be asked about it. What
                // cannot be done now, `resume` does.
                let reason = format!("could not be published: {error}");
                if self.engine.keep_build(release).is_ok() {
                    let _ = self.abandon(release, reason, Map::new());
                }
                return Err(error);
            }
        };
        self.watch.notice(Notice::Phase("publishing"));
        self.carry_out(&plan)?;
        Ok(Ran {
            release,
            published: true,
            changes: plan.result,
            result,
            findings,
            held: None,
        })
    }

    /// The plan to publish a build, once it was checked.
    fn plan_publish(&mut self, of: Publishing<'_>) -> Result<Planned, OperateError> {
        let (release, before, built) = (of.release, of.before, &of.result.built);
        let Seen { changes, mut moved } =
            self.seen_in(Place::Build(release), release, before, built)?;
        for note in self.engine.notes() {
            self.watch.notice(Notice::Note(&note));
        }
        // What is published must be what was checked. Where a relation proves its identity, the
        // plan's guards hold it to what was seen just now, before the checks; where only the file
        // does, the file is looked at before them, and a plan made from that look refuses another.
        let proving = self.engine.proving();
        let first = match proving {
            Proving::Everywhere => None,
            Proving::In(_) | Proving::Nowhere => match self.prepare(release, before, &changes)? {
                Ok(prepared) => Some(prepared),
                Err(conflicts) => return Ok(Planned::Conflicts(conflicts, changes)),
            },
        };
        let mut findings = Vec::new();
        if let Some(checks) = of.checks {
            let subject = Subject {
                release,
                place: Place::Build(release),
                changes: &changes,
                before,
                built,
                end: Some(&of.result.end),
                fresh: true,
            };
            let mut more = of.result.findings.clone();
            // Where it proves its identity, all that was built there is among the changes.
            let missing = |name: &&RelationName| proving.at(name) && !changes.contains_key(*name);
            more.extend(built.iter().filter(missing).map(built_elsewhere));
            let (found, ruling) = self.checked_over(&subject, checks, &more)?;
            if let Ruling::Hold { reason } = ruling {
                return Ok(Planned::Held(reason, found, changes));
            }
            findings = found;
        }
        let (carry, survey) = match first {
            Some(prepared) if proving == Proving::Nowhere => prepared,
            first => match self.prepare(release, before, &changes)? {
                Ok((carry, now)) => match first {
                    Some((_, checked)) => (carry, self.engine.held_to(checked, now)?),
                    None => (carry, now),
                },
                Err(conflicts) => return Ok(Planned::Conflicts(conflicts, changes)),
            },
        };
        moved.retain(|name, _| !carry.bring.contains(name) && !carry.remove.contains(name));
        moved.extend(carry.bring.iter().map(|name| (name.clone(), None)));
        let request = PublishRequest {
            release,
            live: of.live,
            live_map: before.clone(),
            changes: changes.clone(),
            carry,
        };
        let steps = self.engine.plan_publish(&survey, &request)?;
        let plan = Plan {
            format: FORMAT,
            env: self.ledger.env().to_owned(),
            release,
            operation: of.operation,
            from: of.live,
            method: steps.method,
            steps: steps.steps,
            stages: Vec::new(),
            impact: Impact::default(),
            irreversible: steps.irreversible,
            notes: steps.notes,
            needs: steps.needs,
            moved,
            result: changes,
        };
        Ok(Planned::Plan(Box::new(plan), findings))
    }

    /// What a plan to publish is made from, or what others wrote to that the job built too.
    fn prepare(
        &mut self,
        release: ReleaseId,
        before: &Map,
        changes: &Map,
    ) -> Result<Result<Prepared, BTreeMap<RelationName, String>>, OperateError> {
        self.engine.freeze()?;
        let carry = match self.written_meanwhile(release, before, changes)? {
            Ok(carry) => carry,
            Err(conflicts) => return Ok(Err(conflicts)),
        };
        let relations = changes.keys().cloned().collect();
        Ok(Ok((carry, self.engine.survey(release, &relations)?)))
    }

    /// What others wrote since the build began, where writers were not kept out; or, as an error,
    /// what both they and the job wrote to, and what an earlier job built and does not stay as it is.
    fn written_meanwhile(
        &mut self,
        release: ReleaseId,
        before: &Map,
        built: &Map,
    ) -> Result<Result<Carry, BTreeMap<RelationName, String>>, OperateError> {
        let (_, now) = self.look_again()?;
        let mut carry = Carry::default();
        let mut conflicts = BTreeMap::new();
        for (name, version) in &now {
            if before.get(name).map(|v| v.id) == Some(version.id) {
                continue;
            }
            if version.owned || built.contains_key(name) {
                conflicts.insert(name.clone(), written_since(version));
            } else if version.state.is_some() {
                carry.bring.insert(name.clone());
            } else {
                carry.remove.insert(name.clone());
            }
        }
        let unbuilt = conflicts.keys().filter(|name| !built.contains_key(name));
        let unbuilt: BTreeSet<_> = unbuilt.cloned().collect();
        if !unbuilt.is_empty() {
            let stay = self.engine.left_alone(release, &unbuilt)?;
            conflicts.retain(|name, _| !stay.contains(name));
        }
        Ok(if conflicts.is_empty() {
            Ok(carry)
        } else {
            Err(conflicts)
        })
    }
}
