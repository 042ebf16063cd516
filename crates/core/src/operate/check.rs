//! Looking at what a release holds: measuring it, comparing it with the last good releases, and
//! what its pipeline and the project declare.

use super::artefacts::{Artefacts, said};
use super::{OperateError, Session};
use crate::check::automatic::{self, Comparison};
use crate::check::dbt::{self, Declared};
use crate::check::declared::{self, Check, Known};
use crate::check::{Examples, Finding, Outcome, Severity, Tally, sql};
use crate::engine::{EngineError, Place};
use crate::event::Event;
use crate::execute::{Notice, chain};
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::{BlobRef, Hash};
use crate::pipeline::dbt::manifest::ResourceType;
use crate::release::{JobEnd, Operation, Release, Stage, Verdict};
use crate::restore::Map;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// With how many good releases a release is compared at most: two weeks of nights, so that each
/// weekday is there twice.
pub(super) const GOOD: usize = 14;

/// What is said while a release is looked at.
pub(super) const CHECKING: &str = "checking what was built";

/// What is checked, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// What the project asks for besides.
    pub declared: Vec<Check>,
    /// How many example rows a finding has at most.
    pub examples: u64,
    /// How long one query may take.
    pub timeout: Duration,
    /// The least severity of a failed finding that keeps a release from becoming production;
    /// `None`, nothing does.
    pub hold: Option<Severity>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            declared: Vec::new(),
            examples: 5,
            timeout: Duration::from_secs(300),
            hold: Some(Severity::High),
        }
    }
}

/// What is looked at.
pub(super) struct Subject<'a> {
    pub release: ReleaseId,
    /// Where it can be read.
    pub place: Place,
    /// What it changes.
    pub changes: &'a Map,
    /// What stood before it.
    pub before: &'a Map,
    /// What its job built.
    pub built: &'a BTreeSet<RelationName>,
    /// How its job ended.
    pub end: Option<&'a JobEnd>,
    /// Whether it was just built, so that later releases are compared with it.
    pub fresh: bool,
}

impl Session<'_> {
    /// Everything that is found of a release, and the event that says so. What cannot be looked at
    /// is a finding too: no failure here is one of the release.
    pub(super) fn look_over(
        &mut self,
        of: &Subject<'_>,
        checks: &Checks,
        more: &[Finding],
    ) -> Result<(Vec<Finding>, Event), OperateError> {
        let artefacts = self.artefacts(of.end)?;
        let mut findings = said(&artefacts);
        let before = self.last_good(of.release)?;
        let lineage_before = match &before {
            Some(release) => self.artefacts(release.end.as_ref())?.lineage,
            None => None,
        };

        let wanted = self.wanted(of, artefacts.lineage.as_ref());
        let mut measured = match self.measure(of, &wanted, &artefacts) {
            Ok(measured) => measured,
            Err(error) => {
                findings.push(unknown("profile", None, &error));
                BTreeMap::new()
            }
        };
        let changed: BTreeSet<RelationName> = measured.keys().cloned().collect();
        let past = self.past(of, &mut measured, &artefacts)?;
        let own = findings.len();
        findings.extend(automatic::findings(&Comparison {
            now: &measured,
            past: &past,
            at: Timestamp::now(),
            changes: of.changes,
            before: of.before,
            built: of.built,
            lineage: artefacts.lineage.as_ref(),
            lineage_before: lineage_before.as_ref(),
        }));
        // What the warehouse shows comes first: a test that fails may only follow from it.
        findings.rotate_left(own);
        if of.place == Place::Live {
            findings.extend(self.access_lost(of, &measured, &changed)?);
        }
        for name in &changed {
            findings.extend(self.untested(of, checks, &artefacts, name));
        }
        let known = Known {
            names: of.before.keys().chain(of.changes.keys()).cloned().collect(),
            models: artefacts.lineage.as_ref().map(|lineage| {
                let nodes = lineage.manifest().nodes.values();
                nodes
                    .filter(|n| n.resource_type == ResourceType::Model)
                    .count()
            }),
            took: self.answered_before(of.release, &checks.declared)?,
        };
        let mut answered = BTreeMap::new();
        for check in &checks.declared {
            let came = declared::run(self.engine, of.place, check, checks, &known);
            findings.push(came.finding);
            if let Some(took) = came.took {
                let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                answered.insert(check.name.clone(), took);
            }
        }
        findings.extend_from_slice(more);

        let profiles = match of.fresh && !changed.is_empty() {
            true => {
                let kept: BTreeMap<_, _> = measured
                    .iter()
                    .filter(|(name, _)| changed.contains(*name))
                    .collect();
                Some(BlobRef(self.put_json(&kept, "profiles")?))
            }
            false => None,
        };
        let event = Event::Checked {
            release: of.release,
            findings: BlobRef(self.put_json(&findings, "findings")?),
            tally: Tally::of(&findings),
            profiled: match profiles {
                Some(_) => changed,
                None => BTreeSet::new(),
            },
            profiles,
            answered,
        };
        Ok((findings, event))
    }

    /// What a job says that failed before anything could be measured.
    pub(super) fn look_over_failed(
        &mut self,
        release: ReleaseId,
        end: &JobEnd,
        more: &[Finding],
    ) -> Result<(Vec<Finding>, Option<Event>), OperateError> {
        let artefacts = self.artefacts(Some(end))?;
        let mut findings = said(&artefacts);
        findings.extend_from_slice(more);
        if findings.is_empty() {
            return Ok((findings, None));
        }
        let event = Event::Checked {
            release,
            findings: BlobRef(self.put_json(&findings, "findings")?),
            tally: Tally::of(&findings),
            profiles: None,
            profiled: BTreeSet::new(),
            answered: BTreeMap::new(),
        };
        Ok((findings, Some(event)))
    }

    /// The findings that were recorded of a release, or `None` if nobody looked.
    pub fn findings_of(&self, release: ReleaseId) -> Result<Option<Vec<Finding>>, OperateError> {
        let Some(checked) = self.ledger.history(|h| h.checked(release))? else {
            return Ok(None);
        };
        let bytes = self.ledger.get_blob(&checked.findings.0)?;
        Ok(Some(serde_json::from_slice(&bytes).map_err(unreadable)?))
    }

    /// Looks again at a release that is live or retained, all of it or only some relations, and
    /// records what is found.
    ///
    /// # Errors
    /// When the release never was built, or what it held is no longer retained.
    pub fn check(
        &mut self,
        release: ReleaseId,
        only: Option<&BTreeSet<RelationName>>,
        checks: &Checks,
        more: &[Finding],
    ) -> Result<Vec<Finding>, OperateError> {
        let env = self.ledger.env().to_owned();
        let head = self.ledger.history(|h| h.release(release))?;
        let head = head.ok_or(OperateError::NoSuchRelease(release))?;
        let map = self.ledger.history(|h| h.map(release))?;
        let map = map.ok_or(OperateError::NeverLive(release))?;
        let live = self.ledger.history(|h| h.live(&env))?;
        let place = match live.is_some_and(|live| live.release == release) {
            true => Place::Live,
            false => {
                let mut points: Vec<_> = self
                    .engine
                    .points()?
                    .into_iter()
                    .map(|p| p.release)
                    .collect();
                points.sort_unstable_by(|a, b| b.cmp(a));
                let held = self.stand_in(release, &points)?;
                Place::Point(held.ok_or(OperateError::NotRetained(release))?)
            }
        };
        let before = match self.last_good(release)? {
            Some(good) => self.ledger.history(|h| h.map(good.id))?.unwrap_or_default(),
            None => Map::new(),
        };
        let chosen = |name: &RelationName| only.is_none_or(|only| only.contains(name));
        let changes: Map = map
            .into_iter()
            .filter(|(name, version)| version.owned && chosen(name))
            .collect();
        let built = changes.keys().cloned().collect();
        let subject = Subject {
            release,
            place,
            changes: &changes,
            before: &before,
            built: &built,
            end: head.end.as_ref(),
            fresh: false,
        };
        self.watch.notice(Notice::Phase(CHECKING));
        let (mut findings, event) = self.look_over(&subject, checks, more)?;
        match only {
            None => drop(self.ledger.append(&[event])?),
            // What was not looked at is not known to be good now: what is known stays.
            Some(only) => {
                findings.retain(|f| f.relation.as_ref().is_none_or(|name| only.contains(name)));
            }
        }
        Ok(findings)
    }

    /// The newest good release that ran a job, before this one.
    fn last_good(&self, before: ReleaseId) -> Result<Option<Release>, OperateError> {
        Ok(self.good(before, 1)?.pop())
    }

    /// The newest good releases that ran a job, before this one, the newest first.
    fn good(&self, before: ReleaseId, limit: usize) -> Result<Vec<Release>, OperateError> {
        let env = self.ledger.env();
        let mut below = before;
        let mut good = Vec::new();
        loop {
            let page = self.ledger.history(|h| h.releases(env, Some(below), 20))?;
            let Some(last) = page.last() else {
                return Ok(good);
            };
            below = last.id;
            let found = page.into_iter().filter(|r| {
                r.stage == Stage::Published
                    && r.verdict == Verdict::Good
                    && matches!(r.operation, Operation::Run { .. })
            });
            good.extend(found.take(limit - good.len()));
            if good.len() == limit {
                return Ok(good);
            }
        }
    }

    /// How long sample queries took in good releases, where somebody wants to compare them.
    fn answered_before(
        &self,
        release: ReleaseId,
        declared: &[Check],
    ) -> Result<BTreeMap<String, Vec<Duration>>, OperateError> {
        let compared = |check: &&Check| {
            let ask = &check.ask;
            matches!(
                ask,
                declared::Ask::Sample {
                    regression: Some(_),
                    ..
                }
            )
        };
        let names: BTreeSet<&str> = declared
            .iter()
            .filter(compared)
            .map(|check| check.name.as_str())
            .collect();
        let mut took: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        if names.is_empty() {
            return Ok(took);
        }
        for good in self.good(release, GOOD)? {
            let checked = self.ledger.history(|h| h.checked(good.id))?;
            let answered = checked.into_iter().flat_map(|checked| checked.answered);
            for (name, micros) in answered.filter(|(name, _)| names.contains(name.as_str())) {
                took.entry(name)
                    .or_default()
                    .push(Duration::from_micros(micros));
            }
        }
        Ok(took)
    }

    /// Keys and references that the project declares and nobody tested.
    fn untested(
        &mut self,
        of: &Subject<'_>,
        checks: &Checks,
        artefacts: &Artefacts,
        name: &RelationName,
    ) -> Vec<Finding> {
        let Some(lineage) = &artefacts.lineage else {
            return Vec::new();
        };
        let results = artefacts.results.as_ref().filter(|_| of.fresh);
        let declared = dbt::untested(lineage.manifest(), results, name);
        declared
            .iter()
            .map(|one| self.look_at(of.place, checks, one))
            .collect()
    }

    fn look_at(&mut self, place: Place, checks: &Checks, what: &Declared) -> Finding {
        let (check, relation, column, severity) = match what {
            Declared::Key { relation, columns } => {
                let column = match columns.as_slice() {
                    [one] => Some(one.clone()),
                    _ => None,
                };
                ("unique", relation, column, Severity::Critical)
            }
            Declared::Reference {
                relation,
                column,
                warns,
                ..
            } => {
                let severity = if *warns {
                    Severity::Low
                } else {
                    Severity::High
                };
                ("orphans", relation, Some(column.clone()), severity)
            }
        };
        let written = |at: &mut dyn FnMut(&RelationName) -> Result<String, EngineError>| {
            Ok::<_, EngineError>(match what {
                Declared::Key { relation, columns } => sql::duplicates(&at(relation)?, columns),
                Declared::Reference {
                    relation,
                    column,
                    parent,
                    field,
                    ..
                } => sql::orphans(&at(relation)?, column, &at(parent)?, field),
            })
        };
        let asked = written(&mut |name| self.engine.address(place, name)).and_then(|sql| {
            self.engine
                .query(place, &sql, checks.examples, checks.timeout)
        });
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => {
                return Finding {
                    column,
                    ..unknown(check, Some(relation), &error)
                };
            }
        };
        let found = answer.rows.len();
        let many = match (found, answer.truncated) {
            (n, true) => format!("more than {n} values"),
            (1, false) => "1 value".to_owned(),
            (n, false) => format!("{n} values"),
        };
        let (observed, expected) = match what {
            Declared::Key { columns, .. } => (
                format!("{many} of ({}) stand more than once", columns.join(", ")),
                "each identifies a row".to_owned(),
            ),
            Declared::Reference { parent, field, .. } => (
                format!("{many} are not in {parent}.{field}"),
                format!("every value is in {parent}.{field}"),
            ),
        };
        let (outcome, severity) = match found {
            0 => (Outcome::Pass, Severity::Low),
            _ => (Outcome::Fail, severity),
        };
        Finding {
            check: check.to_owned(),
            relation: Some(relation.clone()),
            column,
            outcome,
            severity,
            observed,
            expected,
            examples: (found > 0).then_some(Examples {
                columns: answer.columns,
                rows: answer.rows,
            }),
            sql: match found {
                0 => None,
                _ => written(&mut |name| Ok(sql::relation(name))).ok(),
            },
        }
    }

    fn put_json(
        &mut self,
        value: &impl serde::Serialize,
        kind: &str,
    ) -> Result<Hash, OperateError> {
        // Not canonical: that would round the integers of examples that have more than 53 bits.
        let bytes = serde_json::to_vec(value).map_err(unreadable)?;
        Ok(self.ledger.put_blob(&bytes, kind)?)
    }
}

pub(super) fn unreadable(source: serde_json::Error) -> OperateError {
    crate::log::LogError::Unreadable { seq: 0, source }.into()
}

/// A check that could not be carried out.
pub(crate) fn unknown(
    check: &str,
    relation: Option<&RelationName>,
    error: &EngineError,
) -> Finding {
    Finding {
        check: check.to_owned(),
        relation: relation.cloned(),
        column: None,
        outcome: Outcome::Unknown,
        severity: Severity::Medium,
        observed: format!("could not be looked at: {}", chain(error)),
        expected: "an answer".to_owned(),
        examples: None,
        sql: None,
    }
}
