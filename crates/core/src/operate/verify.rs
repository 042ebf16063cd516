//! Proving that production is what a release recorded.

use super::look::progress;
use super::{OperateError, Session};
use crate::engine::{Depth, Engine, EngineError, OnProgress, Place};
use crate::event::Event;
use crate::execute::Notice;
use crate::ident::{RelationName, ReleaseId};
use crate::relation::Difference;
use crate::restore::{Map, present};
use std::collections::BTreeMap;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The release that production was compared with.
    pub release: ReleaseId,
    /// Relations that are equal, row by row.
    pub equal: usize,
    /// Relations that differ, with how.
    pub differences: BTreeMap<RelationName, String>,
    /// Relations that belong to others; they are not part of the proof.
    pub foreign: usize,
}

impl Session<'_> {
    /// Reads every row of the relations that jobs own and compares them with what `release`
    /// recorded when it was published (or last seen live).
    pub fn verify(&mut self, release: ReleaseId) -> Result<Proof, OperateError> {
        let Some(map) = self.ledger.history(|h| h.published_map(release))? else {
            return Err(OperateError::NeverLive(release));
        };
        self.watch.notice(Notice::Phase("proving"));
        let on = progress(self.watch);
        let proof = compare(self.engine, release, &map, &|_| true, &on)?;
        self.ledger.append(&[Event::Verified {
            release,
            relations: proof.equal,
            differences: proof.differences.clone(),
        }])?;
        Ok(proof)
    }
}

/// Reads the rows of chosen relations that jobs own and compares them with what is recorded.
pub(super) fn compare(
    engine: &mut dyn Engine,
    release: ReleaseId,
    map: &Map,
    chosen: &dyn Fn(&RelationName) -> bool,
    on: OnProgress<'_>,
) -> Result<Proof, EngineError> {
    let owned = map.iter().filter(|(name, v)| v.owned && chosen(name));
    let owned: BTreeMap<_, _> = owned.collect();
    let there = owned
        .iter()
        .filter(|(_, v)| v.state.is_some())
        .map(|(n, _)| (*n).clone());
    let seen = engine.observe(Place::Live, &Depth::Rows(there.collect()), on)?;

    let mut proof = Proof {
        release,
        equal: 0,
        differences: BTreeMap::new(),
        foreign: map.values().filter(|v| !v.owned).count(),
    };
    for (name, version) in owned {
        let what = match (
            present(Some(version)).and_then(|v| v.state.as_ref()),
            seen.get(name),
        ) {
            (None, None) => continue,
            (None, Some(_)) => "is there and should not be".to_owned(),
            (Some(_), None) => "is missing".to_owned(),
            (Some(then), Some(now)) => match then.difference(now) {
                Difference::None => {
                    proof.equal += 1;
                    continue;
                }
                Difference::Schema => "has another schema".to_owned(),
                Difference::Rows => different_rows(then, now),
                Difference::Unknown => {
                    "was recorded by another version of DuckDB and cannot be compared".to_owned()
                }
            },
        };
        proof.differences.insert(name.clone(), what);
    }
    Ok(proof)
}

fn different_rows(
    then: &crate::relation::RelationState,
    now: &crate::relation::RelationState,
) -> String {
    let columns = match (&then.fingerprint, &now.fingerprint) {
        (Some(a), Some(b)) => {
            let names = a
                .columns
                .iter()
                .filter(|(name, sum)| b.columns.get(*name) != Some(sum));
            names
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        }
        _ => String::new(),
    };
    let rows = |s: &crate::relation::RelationState| {
        s.rows.map_or_else(|| "?".to_owned(), |n| n.to_string())
    };
    if then.rows == now.rows {
        format!("has other values in {columns}")
    } else {
        format!("has {} rows, recorded were {}", rows(now), rows(then))
    }
}
