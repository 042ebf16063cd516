//! A member's part of what is asked of an estate.

use super::Member;
use crate::engine::{
    Carry, Depth, Observation, Point, PointMap, PublishRequest, RestoreRequest, Retention,
};
use crate::ident::RelationName;
use crate::rows::{RowsRequest, RowsSurvey};
use std::collections::{BTreeMap, BTreeSet};

impl Member {
    pub(super) fn map<V: Clone>(
        &self,
        all: &BTreeMap<RelationName, V>,
    ) -> BTreeMap<RelationName, V> {
        let mine = all.iter().filter(|(name, _)| self.has(name));
        mine.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    pub(super) fn set(&self, all: &BTreeSet<RelationName>) -> BTreeSet<RelationName> {
        all.iter().filter(|name| self.has(name)).cloned().collect()
    }

    pub(super) fn depth(&self, depth: &Depth) -> Depth {
        match depth {
            Depth::Catalog => Depth::Catalog,
            Depth::AllRows => Depth::AllRows,
            Depth::Rows(names) => Depth::Rows(self.set(names)),
            Depth::Changed { known, always } => Depth::Changed {
                known: self.map(known),
                always: self.set(always),
            },
        }
    }

    fn points(&self, points: &[PointMap]) -> Vec<PointMap> {
        let mine = |p: &&PointMap| !p.point.databases.is_disjoint(&self.databases);
        points.iter().filter(mine).cloned().collect()
    }

    pub(super) fn restore(&self, request: &RestoreRequest) -> RestoreRequest {
        RestoreRequest {
            release: request.release,
            live: request.live,
            live_map: self.map(&request.live_map),
            bring: self.map(&request.bring),
            remove: self.set(&request.remove),
            points: self.points(&request.points),
            pinned: request.pinned.clone(),
            keep: self.map(&request.keep),
            writer: request.writer.clone(),
            built_in_order: request.built_in_order.clone(),
            spells: self.map(&request.spells),
        }
    }

    pub(super) fn publish(&self, request: &PublishRequest) -> PublishRequest {
        PublishRequest {
            release: request.release,
            live: request.live,
            live_map: self.map(&request.live_map),
            changes: self.map(&request.changes),
            carry: Carry {
                bring: self.set(&request.carry.bring),
                remove: self.set(&request.carry.remove),
            },
        }
    }

    pub(super) fn rows(&self, request: &RowsRequest) -> RowsRequest {
        RowsRequest {
            relations: self.map(&request.relations),
            points: self.points(&request.points),
            ..request.clone()
        }
    }

    pub(super) fn rows_survey(&self, survey: &RowsSurvey, own: serde_json::Value) -> RowsSurvey {
        RowsSurvey {
            slices: self.map(&survey.slices),
            engine: own,
        }
    }

    /// What is kept of it; as many of its own newest points stay unpacked as of all were to.
    pub(super) fn retention(&self, keep: &Retention, points: &[Point]) -> Retention {
        let kept: BTreeSet<_> = points
            .iter()
            .map(|point| point.release)
            .filter(|release| keep.keep.contains(release))
            .collect();
        Retention {
            keep: keep.keep.clone(),
            plain: kept.into_iter().rev().take(keep.plain.len()).collect(),
        }
    }

    /// A relation that is not where this member's relations are, if it shows one.
    pub(super) fn stranger<'a>(&self, seen: &'a Observation) -> Option<&'a RelationName> {
        seen.keys().find(|name| !self.has(name))
    }
}
