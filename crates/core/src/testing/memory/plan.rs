//! Planning for the engine in memory. Pure. Each database is swapped by a step of its own.

use super::Slot;
use super::rows::Test;
use crate::engine::{EngineError, ErrorKind, PointMap, RestoreRequest, Steps};
use crate::ident::{RelationName, ReleaseId};
use crate::plan::{Action, Fact, Step};
use crate::release::Version;
use crate::restore::present;
use crate::rows::RowsRequest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const ENGINE: &str = "memory";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Survey {
    pub(super) moves: bool,
    pub(super) files: Vec<FileSurvey>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileSurvey {
    pub(super) database: String,
    pub(super) live: u64,
    pub(super) build: Option<u64>,
    pub(super) points: BTreeMap<ReleaseId, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub(super) enum MemoryAction {
    Clone {
        from: Slot,
        to: Slot,
    },
    Assemble {
        live: Slot,
        to: Slot,
        bring: BTreeMap<RelationName, Slot>,
        remove: BTreeSet<RelationName>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        rows: BTreeMap<RelationName, (Slot, Test)>,
    },
    Swap {
        live: Slot,
        incoming: Slot,
        retired: Slot,
    },
}

impl MemoryAction {
    fn action(&self) -> Result<Action, EngineError> {
        serde_json::to_value(self)
            .and_then(serde_json::from_value)
            .map_err(|e| internal(&e))
    }

    pub(super) fn of(action: &Action) -> Result<Self, EngineError> {
        serde_json::to_value(action)
            .and_then(serde_json::from_value)
            .map_err(|e| internal(&e))
    }
}

pub(super) fn internal(error: &serde_json::Error) -> EngineError {
    EngineError::new(
        ErrorKind::Unsupported,
        format!("this is not of the engine in memory: {error}"),
    )
}

pub(super) fn read_survey(survey: &serde_json::Value) -> Result<Survey, EngineError> {
    Survey::deserialize(survey).map_err(|e| internal(&e))
}

/// A fact's subject is a word and a slot.
pub(super) fn subject(text: &str) -> Result<(&str, Slot), EngineError> {
    let (kind, slot) = text.split_once(' ').unwrap_or((text, ""));
    Ok((kind, serde_json::from_str(slot).map_err(|e| internal(&e))?))
}

fn fact(kind: &str, slot: &Slot, is: impl ToString) -> Result<Fact, EngineError> {
    let slot = serde_json::to_string(slot).map_err(|e| internal(&e))?;
    Ok(Fact::new(format!("{kind} {slot}"), is.to_string()))
}

struct Draft {
    action: MemoryAction,
    guard: Vec<Fact>,
    expect: Vec<Fact>,
    production: bool,
    explain: String,
}

fn number(drafts: Vec<Draft>, method: String) -> Result<Steps, EngineError> {
    let mut steps = Steps {
        method,
        ..Steps::default()
    };
    for (draft, id) in drafts.into_iter().zip(1..) {
        let action = draft.action.action()?;
        steps.steps.push(Step {
            id,
            after: (1..id).collect(),
            engine: ENGINE.to_owned(),
            relations: Vec::new(),
            undo: draft.production.then(|| action.clone()),
            action,
            statements: Vec::new(),
            guard: draft.guard,
            expect: draft.expect,
            production: draft.production,
            explain: draft.explain,
        });
    }
    Ok(steps)
}

/// `identity` is the incoming file's, where planning can know it.
fn swap(
    at: &FileSurvey,
    incoming: Slot,
    identity: Option<u64>,
    from: ReleaseId,
) -> Result<Draft, EngineError> {
    let live = Slot::Live(at.database.clone());
    let retired = Slot::Point(from, at.database.clone());
    let mut guard = vec![fact("file", &live, at.live)?];
    let mut expect = vec![
        fact("exists", &incoming, "no")?,
        fact("file", &retired, at.live)?,
    ];
    match identity {
        Some(identity) => {
            guard.push(fact("file", &incoming, identity)?);
            expect.push(fact("file", &live, identity)?);
        }
        None => {
            guard.push(fact("exists", &incoming, "yes")?);
            expect.push(fact("exists", &live, "yes")?);
        }
    }
    Ok(Draft {
        explain: format!("make {incoming} production, and keep what was there as {retired}"),
        action: MemoryAction::Swap {
            live,
            incoming,
            retired,
        },
        guard,
        expect,
        production: true,
    })
}

pub(super) fn publish(
    survey: &Survey,
    release: ReleaseId,
    live: ReleaseId,
) -> Result<Steps, EngineError> {
    let mut drafts = Vec::new();
    for at in &survey.files {
        let build = Slot::Build(release, at.database.clone());
        let Some(identity) = at.build else {
            return Err(EngineError::new(
                ErrorKind::Missing,
                format!("there is no {build}"),
            ));
        };
        drafts.push(swap(at, build, Some(identity), live)?);
    }
    number(drafts, "swap every database".to_owned())
}

pub(super) fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    let (mut drafts, mut swaps, mut methods) = (Vec::new(), Vec::new(), Vec::new());
    for at in &survey.files {
        let touched = request.bring.keys().chain(&request.remove);
        if !touched.into_iter().any(|n| n.database == at.database) {
            continue;
        }
        let build = Slot::Build(request.release, at.database.clone());
        let whole = request.points.iter().rev().find_map(|p| {
            let identity = *at.points.get(&p.point.release)?;
            holds_all(at, p, request).then_some((p.point.release, identity))
        });
        if let Some((release, identity)) = whole {
            let point = Slot::Point(release, at.database.clone());
            if survey.moves {
                methods.push(format!("move {point} into place"));
                swaps.push(swap(at, point, Some(identity), request.live)?);
                continue;
            }
            methods.push(format!("move a clone of {point} into place"));
            drafts.push(Draft {
                guard: vec![
                    fact("file", &point, identity)?,
                    fact("exists", &build, "no")?,
                ],
                expect: vec![fact("exists", &build, "yes")?],
                production: false,
                explain: format!("clone {point}"),
                action: MemoryAction::Clone {
                    from: point,
                    to: build.clone(),
                },
            });
        } else {
            methods.push(format!("restore chosen relations of {}", at.database));
            drafts.push(assemble(at, request, &build)?);
        }
        swaps.push(swap(at, build, None, request.live)?);
    }
    drafts.extend(swaps);
    number(drafts, methods.join("; "))
}

fn assemble(at: &FileSurvey, request: &RestoreRequest, to: &Slot) -> Result<Draft, EngineError> {
    let live = Slot::Live(at.database.clone());
    let mut guard = vec![fact("file", &live, at.live)?, fact("exists", to, "no")?];
    let mut bring = BTreeMap::new();
    for (name, wanted) in &request.bring {
        if name.database != at.database {
            continue;
        }
        let there = |release| at.points.contains_key(&release);
        let release = Held::find(&request.points, name, wanted, there)?;
        let identity = at.points.get(&release).copied().unwrap_or_default();
        let source = Slot::Point(release, at.database.clone());
        let unchanged = fact("file", &source, identity)?;
        if !guard.contains(&unchanged) {
            guard.push(unchanged);
        }
        bring.insert(name.clone(), source);
    }
    let here = request.remove.iter().filter(|n| n.database == at.database);
    Ok(Draft {
        action: MemoryAction::Assemble {
            remove: here.cloned().collect(),
            live: live.clone(),
            to: to.clone(),
            bring,
            rows: BTreeMap::new(),
        },
        expect: vec![fact("exists", to, "yes")?, fact("file", &live, at.live)?],
        guard,
        production: false,
        explain: format!("clone {live} and restore the chosen relations in the clone"),
    })
}

/// Whether a point's contents are exactly what this database shall become.
fn holds_all(at: &FileSurvey, point: &PointMap, request: &RestoreRequest) -> bool {
    let names = request
        .live_map
        .keys()
        .chain(point.map.keys())
        .chain(request.bring.keys());
    names.filter(|n| n.database == at.database).all(|name| {
        let after = match request.remove.contains(name) {
            true => None,
            false => present(
                request
                    .bring
                    .get(name)
                    .or_else(|| request.live_map.get(name)),
            ),
        };
        after.map(|v| v.id) == point.map.get(name).copied()
    })
}

/// Where versions are held.
pub(super) struct Held;

impl Held {
    /// The newest point that holds a version and is `there`.
    pub(super) fn find(
        points: &[PointMap],
        name: &RelationName,
        wanted: &Version,
        there: impl Fn(ReleaseId) -> bool,
    ) -> Result<ReleaseId, EngineError> {
        let mut held = points.iter().rev().filter(|p| there(p.point.release));
        let held = held.find(|p| p.map.get(name) == Some(&wanted.id));
        held.map(|p| p.point.release).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Missing,
                format!("no restore point holds {name} as it was in {}", wanted.id),
            )
        })
    }
}

/// Steps that put rows of older versions in place of others, in a clone.
pub(super) fn rows(survey: &Survey, request: &RowsRequest) -> Result<Steps, EngineError> {
    let test = Test::of(&request.reconciling.rows)?;
    let (mut drafts, mut swaps) = (Vec::new(), Vec::new());
    for at in &survey.files {
        let live = Slot::Live(at.database.clone());
        let to = Slot::Build(request.release, at.database.clone());
        let mut guard = vec![fact("file", &live, at.live)?, fact("exists", &to, "no")?];
        let mut rows = BTreeMap::new();
        for (name, pair) in &request.relations {
            if name.database != at.database {
                continue;
            }
            let there = |release| at.points.contains_key(&release);
            let release = Held::find(&request.points, name, &pair.then, there)?;
            let source = Slot::Point(release, at.database.clone());
            let identity = at.points.get(&release).copied().unwrap_or_default();
            guard.push(fact("file", &source, identity)?);
            rows.insert(name.clone(), (source, test.clone()));
        }
        if rows.is_empty() {
            continue;
        }
        drafts.push(Draft {
            action: MemoryAction::Assemble {
                live: live.clone(),
                to: to.clone(),
                bring: BTreeMap::new(),
                remove: BTreeSet::new(),
                rows,
            },
            expect: vec![fact("exists", &to, "yes")?, fact("file", &live, at.live)?],
            guard,
            production: false,
            explain: format!("clone {live} and bring the rows back in the clone"),
        });
        swaps.push(swap(at, to, None, request.live)?);
    }
    drafts.extend(swaps);
    number(drafts, "bring rows back in a clone".to_owned())
}
