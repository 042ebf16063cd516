//! Going back: which relations change, into what, and what stays. Pure.

use crate::engine::{PointMap, Proving, RestoreRequest, Steps};
use crate::ident::{RelationName, ReleaseId};
use crate::others::Written;
use crate::plan::{FORMAT, Impact, Plan, RelationImpact, RowsImpact};
use crate::relation::{Column, RelationKind, RelationState};
use crate::release::{Operation, Version, VersionId};
use crate::rows::{Pair, Reconciling, RowsRequest, RowsSurvey};
use std::collections::{BTreeMap, BTreeSet};

/// A release's map, absent relations included.
pub type Map = BTreeMap<RelationName, Version>;

/// Everything a restore is planned from.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The environment.
    pub env: String,
    /// The release that it will make.
    pub release: ReleaseId,
    /// What is asked for.
    pub operation: Operation,
    /// What is live.
    pub live: ReleaseId,
    /// The live map, what others wrote included.
    pub live_map: Map,
    /// The map that is wanted, as far as it is [attainable].
    pub target_map: Map,
    /// Relations that the release gone back to had before others wrote to them where they are: they
    /// stay as they are now.
    pub stay: BTreeSet<RelationName>,
    /// The relations it is restricted to.
    pub only: Option<BTreeSet<RelationName>>,
    /// The retained states.
    pub points: Vec<PointMap>,
    /// Releases whose points must outlive this.
    pub pinned: BTreeSet<ReleaseId>,
    /// Where the engine moves what it brings back, so that its rows stay stored where they are.
    pub proving: Proving,
}

/// Why a restore cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// Production is there already.
    #[error("production already is what it was in {0}: there is nothing to do")]
    NothingToDo(ReleaseId),
    /// A selector that selects nothing that changed.
    #[error("nothing that is selected differs between production and {0}")]
    NothingSelected(ReleaseId),
    /// The chosen rows are the same.
    #[error("the chosen rows are the same in production and in {0}: there is nothing to do")]
    SameRows(ReleaseId),
    /// Others wrote to what differs where it stands.
    #[error(
        "others wrote to {} where it stands, and no older state of it is retained: it would stay as \
         it is, and nothing else differs between production and {target}",
        names(relations)
    )]
    OnlyStays {
        /// The release gone back to.
        target: ReleaseId,
        /// What would stay.
        relations: BTreeSet<RelationName>,
    },
}

fn names(relations: &BTreeSet<RelationName>) -> String {
    let names: Vec<String> = relations.iter().map(RelationName::to_string).collect();
    names.join(", ")
}

/// The version, if the relation is there in it.
pub fn present(version: Option<&Version>) -> Option<&Version> {
    version.filter(|v| v.state.is_some())
}

/// The relations that jobs own and whose versions differ between two maps.
pub fn differ<'a>(a: &'a Map, b: &'a Map) -> impl Iterator<Item = &'a RelationName> {
    let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| {
        let (a, b) = (a.get(*name), b.get(*name));
        let owned = a.is_some_and(|v| v.owned) || b.is_some_and(|v| v.owned);
        owned && present(a).map(|v| v.id) != present(b).map(|v| v.id)
    })
}

/// A map as far as it can still be had. What others wrote to where it stands is in no restore point
/// as it was before, unless the engine copies: such a relation is replaced in the map by the version
/// that it has become, in production or, where a later release took its place, retained. `same` says
/// whether two states are of one relation, and `goes_back` whether a relation can become this state
/// again where it stands; `retained` reads what a point holds. Gives the ones that stay in production,
/// too.
///
/// # Errors
/// What `retained` says.
pub fn attainable<E>(
    mut target: Map,
    live: &Map,
    points: &[PointMap],
    same: impl Fn(&RelationName, &RelationState, &RelationState) -> bool,
    goes_back: impl Fn(&RelationName, &RelationState) -> bool,
    retained: impl Fn(ReleaseId, &RelationName) -> Result<Option<Version>, E>,
) -> Result<(Map, BTreeSet<RelationName>), E> {
    let mut stay = BTreeSet::new();
    for (name, version) in &mut target {
        let owned = version.owned || live.get(name).is_some_and(|now| now.owned);
        let Some(then) = version.state.clone().filter(|_| owned) else {
            continue;
        };
        let became = |now: &&Version| now.state.as_ref().is_some_and(|now| same(name, &then, now));
        let holding = || points.iter().filter(|point| point.map.contains_key(name));
        let in_place = present(live.get(name)).map(|now| now.id);
        let mut there = holding().map(|point| point.map.get(name).copied());
        if in_place == Some(version.id) || there.any(|held| held == Some(version.id)) {
            continue;
        }
        if live.get(name).is_some_and(|now| became(&now)) && goes_back(name, &then) {
            continue;
        }
        if let Some(now) = live.get(name).filter(became) {
            stay.insert(name.clone());
            *version = now.clone();
            continue;
        }
        for point in holding() {
            if let Some(held) = retained(point.point.release, name)?.filter(|v| became(&v)) {
                *version = held;
                break;
            }
        }
    }
    Ok((target, stay))
}

impl Wish {
    /// What the engine is asked for: the relations that jobs own and whose versions differ. What
    /// belongs to others stays as it is. An undo or redo may ask for nothing: the operation that it
    /// takes back may have changed nothing, and must not bar the way to the ones before it.
    pub fn request(&self) -> Result<RestoreRequest, WishError> {
        let target = self.operation.target().unwrap_or(self.live);
        let mut bring = Map::new();
        let mut remove = BTreeSet::new();
        for name in differ(&self.live_map, &self.target_map) {
            if !self.wants(name) {
                continue;
            }
            match present(self.target_map.get(name)) {
                Some(version) => {
                    let version = Version {
                        owned: true,
                        ..version.clone()
                    };
                    bring.insert(name.clone(), version);
                }
                None => {
                    remove.insert(name.clone());
                }
            }
        }
        // A release that changed nothing is a place on the stack all the same.
        let along_the_stack = matches!(
            self.operation,
            Operation::Undo { .. } | Operation::Redo { .. }
        );
        if bring.is_empty() && remove.is_empty() && !along_the_stack {
            let relations: BTreeSet<_> = self.stay.iter().filter(|name| self.wants(name)).collect();
            return Err(match &self.only {
                _ if !relations.is_empty() => WishError::OnlyStays {
                    target,
                    relations: relations.into_iter().cloned().collect(),
                },
                Some(_) => WishError::NothingSelected(target),
                None => WishError::NothingToDo(target),
            });
        }
        Ok(RestoreRequest {
            release: self.release,
            live: self.live,
            live_map: self.live_map.clone(),
            bring,
            remove,
            points: self.points.clone(),
            pinned: self.pinned.clone(),
            keep: BTreeMap::new(),
            writer: self.operation.writer().map(str::to_owned),
            built_in_order: Vec::new(),
            spells: BTreeMap::new(),
        })
    }

    fn wants(&self, name: &RelationName) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// The plan, from the engine's steps. `written` is what others wrote to relations that it replaces,
    /// as far as that is known.
    pub fn plan(
        &self,
        request: &RestoreRequest,
        written: &BTreeMap<RelationName, Written>,
        mut steps: Steps,
    ) -> Plan {
        let kept = |name: &RelationName| {
            let replay = written.get(name)?.keep.as_ref().ok();
            replay.filter(|_| request.keep.contains_key(name))
        };
        for name in request.keep.keys() {
            let after = kept(name).and_then(|replay| replay.after.clone());
            steps.mixed.extend(after.map(|after| (name.clone(), after)));
        }
        let mut result = request.bring.clone();
        for (name, version) in &mut result {
            if let (false, Some(state)) = (self.proving.at(name), &mut version.state) {
                // Where the rows will be stored is not known before they are: they are read once
                // more.
                state.storage = None;
            }
        }
        for name in &request.remove {
            if let Some(id) = self.target_map.get(name).map(|v| v.id).or_else(|| {
                // It had not been there before: its absence is as old as the release gone back to.
                self.operation
                    .target()
                    .map(|release| VersionId { release, drift: 0 })
            }) {
                result.insert(
                    name.clone(),
                    Version {
                        id,
                        owned: true,
                        state: None,
                    },
                );
            }
        }
        for (name, state) in &steps.mixed {
            let id = VersionId {
                release: self.release,
                drift: 0,
            };
            let state = Some(state.clone());
            let owned = true;
            result.insert(name.clone(), Version { id, owned, state });
        }
        let mut impact = self.impact(request, &result, steps.bytes);
        for (name, what) in written {
            let moment = matches!(self.operation, Operation::Moment { .. });
            let text = match impact.set_aside.get(name) {
                Some(text) => format!("{text}; {}", what.words()),
                None if moment => continue,
                None => format!("while releases were made since then: {}", what.words()),
            };
            impact.set_aside.insert(name.clone(), text.clone());
            if let Some(replay) = kept(name) {
                let text = format!("{text}; {}", replay.words());
                impact.set_aside.remove(name);
                impact.replayed.insert(name.clone(), text);
            }
        }
        Plan {
            format: FORMAT,
            env: self.env.clone(),
            release: self.release,
            operation: self.operation.clone(),
            from: self.live,
            method: steps.method,
            steps: steps.steps,
            stages: Vec::new(),
            impact,
            irreversible: steps.irreversible,
            notes: steps.notes,
            needs: steps.needs,
            moved: BTreeMap::new(),
            result,
        }
    }

    fn impact(&self, request: &RestoreRequest, result: &Map, bytes: u64) -> Impact {
        let mut impact = Impact {
            bytes,
            ..Impact::default()
        };
        for (name, then) in result {
            let now = present(self.live_map.get(name));
            let then = present(Some(then));
            impact
                .changes
                .insert(name.clone(), relation_impact(now, then));
            // Of a moment between releases that is what is asked for.
            let asked = matches!(self.operation, Operation::Moment { .. });
            if let Some(now) = now.filter(|v| v.id.drift > 0 && !asked) {
                impact.set_aside.insert(name.clone(), written_since(now));
            }
        }
        for (name, version) in &self.live_map {
            if result.contains_key(name) || version.state.is_none() {
                continue;
            }
            impact.untouched += 1;
            if self.wants(name) && self.stay.contains(name) {
                impact.stay.insert(name.clone(), written_since(version));
            } else if version.id.drift > 0 && version.id.release == self.live {
                impact.kept.insert(name.clone(), written_since(version));
            }
        }
        impact.stale = self.stale(&request.bring.keys().chain(&request.remove).collect());
        impact
    }

    /// Tables that stay although they were built from something that changes.
    fn stale(&self, changed: &BTreeSet<&RelationName>) -> Vec<RelationName> {
        let readers: BTreeSet<&RelationName> = changed
            .iter()
            .copied()
            .filter_map(|name| present(self.live_map.get(name))?.state.as_ref())
            .flat_map(|state| &state.dependents)
            .collect();
        readers
            .into_iter()
            .filter(|name| {
                let stays = !changed.contains(name);
                let stored = present(self.live_map.get(*name))
                    .and_then(|v| v.state.as_ref())
                    .is_some_and(|s| s.kind != RelationKind::View);
                stays && stored
            })
            .cloned()
            .collect()
    }
}

impl Wish {
    /// What the engine is asked for where only some rows go back: of the tables that are there in both
    /// releases and whose versions differ. A view has no rows of its own and follows.
    ///
    /// # Errors
    /// [`WishError::NothingSelected`] if there is none.
    pub fn rows(&self, reconciling: &Reconciling, who: &str) -> Result<RowsRequest, WishError> {
        let stored = |version: &&Version| {
            let state = version.state.as_ref();
            state.is_some_and(|state| state.kind == RelationKind::Table)
        };
        let mut relations = BTreeMap::new();
        for name in differ(&self.live_map, &self.target_map) {
            let chosen = self.only.as_ref().is_none_or(|only| only.contains(name));
            let now = self.live_map.get(name).filter(stored);
            let then = self.target_map.get(name).filter(stored);
            if let (true, Some(now), Some(then)) = (chosen, now, then) {
                let (now, mut then) = (now.clone(), then.clone());
                // What was at a moment is of the release that was production then.
                if let Some(release) = reconciling.at.and(self.operation.target()) {
                    then.id = VersionId { release, drift: 0 };
                }
                relations.insert(name.clone(), Pair { now, then });
            }
        }
        if relations.is_empty() {
            let target = self.operation.target().unwrap_or(self.live);
            return Err(WishError::NothingSelected(target));
        }
        Ok(RowsRequest {
            release: self.release,
            live: self.live,
            reconciling: reconciling.clone(),
            relations,
            points: self.points.clone(),
            who: who.to_owned(),
        })
    }

    /// The plan for some rows, from the engine's steps. Each relation becomes a version of its own, of
    /// the release that mixes it.
    pub fn plan_rows(&self, request: &RowsRequest, survey: &RowsSurvey, steps: Steps) -> Plan {
        let mut impact = Impact {
            bytes: steps.bytes,
            ..Impact::default()
        };
        let mut result = Map::new();
        let mut notes = steps.notes;
        for (name, pair) in &request.relations {
            let Some(slice) = survey.slices.get(name) else {
                continue;
            };
            let version = Version {
                id: VersionId {
                    release: self.release,
                    drift: 0,
                },
                owned: true,
                state: Some(slice.after.clone()),
            };
            let change = relation_impact(Some(&pair.now), Some(&version));
            impact.changes.insert(name.clone(), change);
            let rows = RowsImpact {
                from: pair.then.id,
                out: slice.out,
                back: slice.back,
            };
            impact.rows.insert(name.clone(), rows);
            if pair.now.id.drift > 0 {
                impact
                    .set_aside
                    .insert(name.clone(), written_since(&pair.now));
            }
            notes.extend(slice.notes.iter().map(|note| format!("{name}: {note}")));
            result.insert(name.clone(), version);
        }
        for (name, version) in &self.live_map {
            if result.contains_key(name) || version.state.is_none() {
                continue;
            }
            impact.untouched += 1;
            if version.id.drift > 0 && version.id.release == self.live {
                impact.kept.insert(name.clone(), written_since(version));
            }
        }
        impact.stale = self.stale(&request.relations.keys().collect());
        Plan {
            format: FORMAT,
            env: self.env.clone(),
            release: self.release,
            operation: self.operation.clone(),
            from: self.live,
            method: steps.method,
            steps: steps.steps,
            stages: Vec::new(),
            impact,
            irreversible: steps.irreversible,
            notes,
            needs: steps.needs,
            moved: BTreeMap::new(),
            result,
        }
    }
}

/// What others did to a relation, in words.
pub fn written_since(version: &Version) -> String {
    match version.state.as_ref().and_then(|s| s.rows) {
        Some(rows) => format!(
            "written by others since {}; {rows} rows now",
            version.id.release
        ),
        None => format!("changed by others since {}", version.id.release),
    }
}

fn relation_impact(now: Option<&Version>, then: Option<&Version>) -> RelationImpact {
    let rows = |v: Option<&Version>| v.and_then(|v| v.state.as_ref()).and_then(|s| s.rows);
    let columns = |v: Option<&Version>| {
        v.and_then(|v| v.state.as_ref())
            .map(|s| s.columns.clone())
            .unwrap_or_default()
    };
    RelationImpact {
        from: now.map(|v| v.id),
        to: then.map(|v| v.id),
        rows_now: rows(now),
        rows_then: rows(then),
        columns: if now.is_some() && then.is_some() {
            column_changes(&columns(now), &columns(then))
        } else {
            Vec::new()
        },
    }
}

/// Columns that appear (`+x`), vanish (`-x`) or change type (`~x`) from one state to another.
pub fn column_changes(from: &[Column], to: &[Column]) -> Vec<String> {
    let mut out = Vec::new();
    for column in to {
        match from.iter().find(|c| c.name == column.name) {
            None => out.push(format!("+{}", column.name)),
            Some(c) if c.data_type != column.data_type => out.push(format!("~{}", column.name)),
            Some(_) => {}
        }
    }
    out.extend(
        from.iter()
            .filter(|c| to.iter().all(|t| t.name != c.name))
            .map(|c| format!("-{}", c.name)),
    );
    out
}
