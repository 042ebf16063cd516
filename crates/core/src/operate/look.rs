//! Looking at production: the first time, and again whenever somebody else may have written.

use super::{OperateError, Session};
use crate::engine::{Depth, EngineError, ErrorKind, Observation, Place, Proving, Retention};
use crate::event::Event;
use crate::execute::Notice;
use crate::history::Live;
use crate::ident::{RelationName, ReleaseId};
use crate::relation::{Difference, RelationState};
use crate::release::{Operation, Version, VersionId};
use crate::restore::{Map, present};
use std::collections::{BTreeMap, BTreeSet};

/// By relation: where its rows are stored now.
pub(super) type Moved = BTreeMap<RelationName, Option<String>>;

/// What a look at a build or at production found.
pub(super) struct Seen {
    pub changes: Map,
    pub moved: Moved,
}

impl Session<'_> {
    /// Records what stands here as the first release, if nothing has been recorded yet.
    pub(super) fn adopt(&mut self) -> Result<(), OperateError> {
        let env = self.ledger.env().to_owned();
        if self.ledger.history(|h| h.live(&env))?.is_some() {
            return Ok(());
        }
        self.no_strangers_points()?;
        self.watch
            .notice(Notice::Phase("looking at production for the first time"));
        let mark = self.engine.mark()?;
        let on = progress(self.watch);
        // What no job builds may be petabytes of raw data.
        let proving = self.engine.proving();
        let depth = match proving {
            Proving::Nowhere => Depth::AllRows,
            Proving::In(_) | Proving::Everywhere => Depth::Catalog,
        };
        let mut seen = self.engine.observe(Place::Live, &depth, &on)?;
        if matches!(proving, Proving::In(_)) {
            let read = seen.keys().filter(|name| !proving.at(name));
            let depth = Depth::Rows(read.cloned().collect());
            seen = self.engine.observe(Place::Live, &depth, &on)?;
        }
        let release = self.ledger.history(|h| h.next_id())?;
        let changes = seen
            .into_iter()
            .map(|(name, state)| {
                let id = VersionId { release, drift: 0 };
                (
                    name,
                    Version {
                        id,
                        owned: false,
                        state: Some(state),
                    },
                )
            })
            .collect();
        self.ledger.append(&[
            Event::ReleaseOpened {
                release,
                operation: Operation::Adopt,
                parent: None,
                job: None,
                code: None,
            },
            Event::ReleasePublished {
                release,
                changes,
                mark,
                moved: Moved::new(),
            },
        ])?;
        Ok(())
    }

    /// Refuses to begin a history beside restore points that it knows nothing of: its releases would
    /// have the same numbers, and its retention would drop what another history needs.
    fn no_strangers_points(&mut self) -> Result<(), OperateError> {
        let points = self.engine.points()?;
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Ok(());
        };
        let env = self.ledger.env();
        let kept = match first.release == last.release {
            true => first.release.to_string(),
            false => format!("{} to {}", first.release, last.release),
        };
        Err(EngineError::new(
            ErrorKind::Refused,
            format!(
                "the ledger knows no release in `{env}`, and there are restore points of {kept}: \
                 {}",
                first.location
            ),
        )
        .hint(
            "put their ledger back, or release from the project that made them; or move them out \
             of `.unship`, and a new history begins",
        )
        .into())
    }

    /// Brings the ledger up to date with what others wrote. Costs one look at the file as long as
    /// nobody did. While an operation is under way nothing is looked at: what differs may be the
    /// work of its job.
    pub fn see_drift(&mut self) -> Result<(ReleaseId, Map), OperateError> {
        let env = self.ledger.env();
        if self.ledger.history(|h| h.open(env))?.is_some() {
            let live = self.live()?.release;
            let map = self.ledger.history(|h| h.map(live))?;
            return Ok((live, map.unwrap_or_default()));
        }
        self.look_again()
    }

    /// The same, while a job builds aside: whatever differs in production is others' work.
    pub(super) fn look_again(&mut self) -> Result<(ReleaseId, Map), OperateError> {
        let live = self.live()?;
        let map = self
            .ledger
            .history(|h| h.map(live.release))?
            .unwrap_or_default();
        let mark = self.engine.mark()?;
        if mark == live.mark {
            return Ok((live.release, map));
        }
        self.watch
            .notice(Notice::Phase("looking at what others wrote"));
        let on = progress(self.watch);
        let depth = Depth::Changed {
            known: states(&map),
            always: BTreeSet::new(),
        };
        let seen = self.engine.observe(Place::Live, &depth, &on)?;
        let mut events = Vec::new();
        let mut map = map;
        let settled = self.settled(&live, &map, &seen)?;
        if !settled.is_empty() {
            map.extend(settled.clone());
            events.push(Event::ReleaseSettled {
                release: live.release,
                versions: settled,
            });
        }
        let id = VersionId {
            release: live.release,
            drift: live.drifts + 1,
        };
        let changes = changes(&map, &seen, id, |_| false);
        if !changes.is_empty() {
            self.forget_point(live.release)?;
        }
        let moved = moved(&map, &seen, &changes);
        let mut now = map;
        now.extend(changes.clone());
        for (name, storage) in &moved {
            if let Some(state) = now.get_mut(name).and_then(|v| v.state.as_mut()) {
                state.storage.clone_from(storage);
            }
        }
        events.push(Event::DriftSeen {
            release: live.release,
            changes,
            mark,
            moved,
        });
        self.ledger.append(&events)?;
        Ok((live.release, now))
    }

    /// What the live release moved and what is defined otherwise since it was, with the same rows:
    /// the move itself did that. It is told from others' work by being seen at the first look
    /// after the release.
    fn settled(&mut self, live: &Live, map: &Map, seen: &Observation) -> Result<Map, OperateError> {
        let first = live.mark.is_empty() && live.drifts == 0;
        let proving = self.engine.proving();
        if !first || !proving.anywhere() {
            return Ok(Map::new());
        }
        let release = self.ledger.history(|h| h.release(live.release))?;
        let before = match release.and_then(|r| r.parent) {
            Some(parent) => self.ledger.history(|h| h.map(parent))?.unwrap_or_default(),
            None => Map::new(),
        };
        let brought = map
            .iter()
            .filter(|(name, v)| before.get(*name).map(|b| b.id) != Some(v.id))
            .filter(|(name, _)| proving.at(name));
        Ok(brought
            .filter_map(|(name, version)| {
                let (then, now) = (version.state.as_ref()?, seen.get(name)?);
                let settled = then.difference(now) == Difference::Schema && redefined(then, now);
                settled.then(|| {
                    let state = Some(now.clone());
                    (
                        name.clone(),
                        Version {
                            state,
                            ..version.clone()
                        },
                    )
                })
            })
            .collect())
    }
}

impl Session<'_> {
    /// Drops the point of the live release, which a job in place took that then did nothing. It was
    /// taken before others wrote, and would pass for the state that includes what they wrote.
    fn forget_point(&mut self, live: ReleaseId) -> Result<(), OperateError> {
        let points = self.engine.points()?;
        if points.iter().all(|p| p.release != live) {
            return Ok(());
        }
        let others = points.iter().filter(|p| p.release != live);
        let keep = Retention {
            keep: others.clone().map(|p| p.release).collect(),
            plain: others.filter(|p| !p.packed).map(|p| p.release).collect(),
        };
        let on = progress(self.watch);
        self.engine.housekeep(&keep, &on)?;
        Ok(())
    }
}

/// Whether two states are of one relation with the same columns and rows, whatever else is said of
/// it.
fn redefined(then: &RelationState, now: &RelationState) -> bool {
    let columns = |state: &RelationState| -> Vec<_> {
        let all = state.columns.iter();
        all.map(|c| (c.name.clone(), c.data_type.clone())).collect()
    };
    let as_then = RelationState {
        definition: then.definition.clone(),
        columns: then.columns.clone(),
        ..now.clone()
    };
    columns(then) == columns(now) && then.difference(&as_then) == Difference::None
}

/// The states of the relations that are there.
pub(super) fn states(map: &Map) -> Observation {
    map.iter()
        .filter_map(|(name, version)| Some((name.clone(), version.state.clone()?)))
        .collect()
}

/// What differs between a map and what was seen, as versions with `id`. `built` says which
/// relations a job built: those are its own from now on, even where their rows are the same.
pub(super) fn changes(
    map: &Map,
    seen: &Observation,
    id: VersionId,
    built: impl Fn(&RelationName) -> bool,
) -> BTreeMap<RelationName, Version> {
    let mut out = BTreeMap::new();
    let by_job = id.drift == 0;
    for (name, state) in seen {
        let before = map.get(name);
        let same = present(before)
            .and_then(|v| v.state.as_ref())
            .is_some_and(|s| s.difference(state) == Difference::None);
        let was_owned = before.is_some_and(|v| v.owned);
        let owned = was_owned || (by_job && (built(name) || !same));
        if same && owned == was_owned {
            continue;
        }
        out.insert(
            name.clone(),
            Version {
                id,
                owned,
                state: Some(state.clone()),
            },
        );
    }
    for (name, version) in map {
        if version.state.is_some() && !seen.contains_key(name) {
            let owned = version.owned || by_job;
            out.insert(
                name.clone(),
                Version {
                    id,
                    owned,
                    state: None,
                },
            );
        }
    }
    out
}

/// Where the rows of relations are stored that did not change, as far as that is not known already.
pub(super) fn moved(map: &Map, seen: &Observation, changes: &Map) -> Moved {
    let unchanged = seen.iter().filter(|(name, _)| !changes.contains_key(*name));
    unchanged
        .filter_map(|(name, state)| {
            let before = present(map.get(name))?.state.as_ref()?;
            (before.storage != state.storage).then(|| (name.clone(), state.storage.clone()))
        })
        .collect()
}

pub(super) fn progress(watch: &dyn crate::execute::Watch) -> impl Fn(&str, u64, u64) + Sync + '_ {
    move |what, done, total| watch.notice(Notice::Progress(what, done, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SqliteLedger;
    use crate::log::Ledger;
    use crate::relation::{Fingerprint, RelationKind};

    fn table(storage: &str, sum: &str) -> RelationState {
        RelationState {
            kind: RelationKind::Table,
            columns: Vec::new(),
            definition: String::new(),
            dependents: Vec::new(),
            rows: Some(1),
            fingerprint: Some(Fingerprint {
                method: "sum".to_owned(),
                rows: 1,
                whole: sum.to_owned(),
                columns: BTreeMap::new(),
            }),
            storage: Some(storage.to_owned()),
        }
    }

    fn seen(name: &RelationName, storage: &str, sum: &str) -> Observation {
        [(name.clone(), table(storage, sum))].into()
    }

    /// A job that rewrites a table leaves it in other blocks, and the next one in the first again.
    /// If only the first place were remembered, what stands there then would pass for unchanged.
    #[test]
    fn where_an_unchanged_table_was_moved_to_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteLedger::create(&dir.path().join("l"), Ledger::views()).unwrap();
        let mut ledger = Ledger::new(store, "prod", "me");
        let name = RelationName::new("shop", "main", "rates");
        let (r0, r1) = (ReleaseId(0), ReleaseId(1));
        let opened = |release, parent| Event::ReleaseOpened {
            release,
            operation: Operation::Run {
                aside: true,
                replays: None,
            },
            parent,
            job: None,
            code: None,
        };
        let id = |release| VersionId { release, drift: 0 };
        let first = seen(&name, "here", "1");
        let changes_0 = changes(&Map::new(), &first, id(r0), |_| true);
        let publish = |release, changes: &Map, moved: Moved| Event::ReleasePublished {
            release,
            changes: changes.clone(),
            mark: String::new(),
            moved,
        };
        ledger
            .append(&[opened(r0, None), publish(r0, &changes_0, Moved::new())])
            .unwrap();

        let second = seen(&name, "there", "1");
        let changes_1 = changes(&changes_0, &second, id(r1), |_| true);
        assert_eq!(changes_1, Map::new(), "the rows are the same");
        let moved = moved(&changes_0, &second, &changes_1);
        ledger
            .append(&[opened(r1, Some(r0)), publish(r1, &changes_1, moved)])
            .unwrap();

        let known = |release| {
            let map = ledger.history(|h| h.map(release)).unwrap().unwrap();
            map[&name].clone()
        };
        assert_eq!(
            known(r1).id,
            id(r0),
            "it still is the version that R0 built"
        );
        let unread = |storage| RelationState {
            fingerprint: None,
            ..table(storage, "1")
        };
        let now = known(r1).state.unwrap();
        assert_eq!(now.difference(&unread("there")), Difference::None);
        assert_ne!(now.difference(&unread("here")), Difference::None);
        let then = known(r0).state.unwrap();
        assert_eq!(then.difference(&unread("here")), Difference::None);
    }
}
