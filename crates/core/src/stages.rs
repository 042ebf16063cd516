//! Dividing a rollback into stages: what goes together, and in which order. Pure.
//!
//! Consumers go before their sources: a relation goes back only when nothing that reads it is still
//! to go, so that nobody ever reads a new relation made of old ones. Among what lineage allows, the
//! smallest goes first: it shows at the least cost whether the rest will do what it should.

use crate::ident::RelationName;
use crate::relation::{RelationKind, RelationState};
use crate::restore::Map;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// One stage of a plan: relations that go back together, and are looked at before the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its number in the plan, from 1.
    pub number: u32,
    /// What goes back in it.
    pub relations: BTreeSet<RelationName>,
    /// How large it is: the rows of each relation, of the larger of its two versions.
    pub rows: u64,
    /// Bytes that are copied or written for it.
    pub bytes: u64,
    /// Why its relations cannot go apart, each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// What reads its relations and does not go with them: its rows must not move.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub readers: BTreeSet<RelationName>,
}

/// How relations hang together, beyond what the engine says of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ties {
    /// By relation: what reads it.
    pub readers: BTreeMap<RelationName, BTreeSet<RelationName>>,
    /// Relations that go together, with why: a sentence.
    pub together: Vec<(BTreeSet<RelationName>, String)>,
}

/// Divides what a rollback changes. `result` is what each relation becomes, `live` what stands now.
pub fn divide(result: &Map, live: &Map, ties: &Ties) -> Vec<Stage> {
    let names: Vec<&RelationName> = result.keys().collect();
    let readers = readers(result, live, ties);
    let mut bound = Bound::new(&names);
    for (name, why) in bonds(result, live) {
        bound.tie(&name.0, &name.1, &why);
    }
    for (set, why) in &ties.together {
        let mut inside = set.iter().filter(|name| result.contains_key(*name));
        if let Some(first) = inside.next() {
            for other in inside {
                bound.tie(first, other, why);
            }
        }
    }
    // What reads each other in a circle, once bound, has no order: it goes together too.
    let graph = bound.graph(&readers);
    for circle in tarjan_scc(&graph).iter().filter(|circle| circle.len() > 1) {
        let units: Vec<usize> = circle.iter().map(|node| node.index()).collect();
        bound.merge(&units, "what has to go together in it reads each other");
    }
    let mut stages: Vec<Stage> = Vec::new();
    let units = bound.units();
    let graph = bound.graph(&readers);
    let size = |relations: &BTreeSet<RelationName>| -> u64 {
        let rows = |map: &Map, name| {
            let state = map.get(name).and_then(|v| v.state.as_ref());
            state.and_then(|s| s.rows).unwrap_or(0)
        };
        relations
            .iter()
            .map(|name| rows(result, name).max(rows(live, name)))
            .fold(0, u64::saturating_add)
    };
    let sizes: Vec<u64> = units.iter().map(|unit| size(&unit.relations)).collect();
    let mut waits: Vec<usize> = graph
        .node_indices()
        .map(|node| graph.neighbors_directed(node, petgraph::Incoming).count())
        .collect();
    let entry = |at: usize| {
        let first = units.get(at).and_then(|unit| unit.relations.first());
        Reverse((sizes.get(at).copied().unwrap_or(0), first.cloned(), at))
    };
    let mut ready: BinaryHeap<_> = (0..units.len())
        .filter(|at| waits.get(*at) == Some(&0))
        .map(entry)
        .collect();
    while let Some(Reverse((rows, _, at))) = ready.pop() {
        let Some(unit) = units.get(at) else { continue };
        let outside = unit.relations.iter().filter_map(|name| readers.get(name));
        let outside = outside.flatten().filter(|r| !unit.relations.contains(*r));
        stages.push(Stage {
            number: u32::try_from(stages.len() + 1).unwrap_or(u32::MAX),
            relations: unit.relations.clone(),
            rows,
            bytes: 0,
            because: unit.because.iter().cloned().collect(),
            readers: outside.cloned().collect(),
        });
        for next in graph.neighbors_directed(NodeIndex::new(at), petgraph::Outgoing) {
            if let Some(left) = waits.get_mut(next.index()) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    ready.push(entry(next.index()));
                }
            }
        }
    }
    stages
}

/// What reads what, of the relations that go: through relations that stay, too.
fn readers(
    result: &Map,
    live: &Map,
    ties: &Ties,
) -> BTreeMap<RelationName, BTreeSet<RelationName>> {
    let mut direct: BTreeMap<&RelationName, BTreeSet<&RelationName>> = BTreeMap::new();
    for (source, all) in &ties.readers {
        direct.entry(source).or_default().extend(all);
    }
    for (source, version) in live.iter().chain(result) {
        if let Some(state) = &version.state {
            direct.entry(source).or_default().extend(&state.dependents);
        }
    }
    let mut out = BTreeMap::new();
    for source in result.keys() {
        let mut found: BTreeSet<RelationName> = BTreeSet::new();
        let mut next = vec![source];
        while let Some(name) = next.pop() {
            for reader in direct.get(name).into_iter().flatten() {
                let there = live.contains_key(*reader) || result.contains_key(*reader);
                if *reader != source && there && found.insert((*reader).clone()) {
                    // What reads a relation that goes itself waits for that one.
                    if !result.contains_key(*reader) {
                        next.push(reader);
                    }
                }
            }
        }
        out.insert(source.clone(), found);
    }
    out
}

/// Pairs of relations that cannot go apart, with why.
fn bonds(result: &Map, live: &Map) -> Vec<((RelationName, RelationName), String)> {
    let states = |name: &RelationName| -> Vec<&RelationState> {
        let both = [live.get(name), result.get(name)];
        let versions = both.into_iter().flatten();
        versions.filter_map(|v| v.state.as_ref()).collect()
    };
    let used = |state: &&RelationState| {
        use RelationKind::{Macro, Sequence, Type};
        matches!(state.kind, Sequence | Macro | Type)
    };
    let used: Vec<&RelationName> = result
        .keys()
        .filter(|name| states(name).iter().any(used))
        .collect();
    let mut out = Vec::new();
    for name in result.keys() {
        let states = states(name);
        for reader in states.iter().flat_map(|state| &state.dependents) {
            if result.contains_key(reader) && reader != name {
                let why = format!("{reader} is defined on {name}");
                out.push(((name.clone(), reader.clone()), why));
            }
        }
        let texts = || states.iter().map(|state| state.definition.as_str());
        let keys: Vec<&str> = texts().flat_map(referred).collect();
        for other in result.keys().filter(|other| *other != name) {
            if keys.iter().any(|target| names(target, &other.name)) {
                let why = format!("a key of {name} refers to {other}");
                out.push(((name.clone(), other.clone()), why));
            }
        }
        for other in used.iter().filter(|other| **other != name) {
            if texts().any(|text| names(text, &other.name)) {
                let why = format!("{name} uses {other}");
                out.push(((name.clone(), (*other).clone()), why));
            }
        }
    }
    out
}

/// What the foreign keys of a definition point to, as it is written there. What only looks like a key
/// makes a stage larger, and does nothing else.
fn referred(definition: &str) -> Vec<&str> {
    const WORD: &str = "REFERENCES";
    let upper = definition.to_ascii_uppercase();
    let after = upper.match_indices(WORD).map(|(at, _)| at + WORD.len());
    let target = |at| definition.get(at..)?.split('(').next();
    after.filter_map(target).collect()
}

/// Whether a name stands in a text as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    !name.is_empty()
        && text.match_indices(name).any(|(at, found)| {
            let before = text.get(..at).and_then(|t| t.chars().next_back());
            let after = text.get(at + found.len()..).and_then(|t| t.chars().next());
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

/// What goes together.
#[derive(Debug, Clone, Default)]
struct Unit {
    relations: BTreeSet<RelationName>,
    because: BTreeSet<String>,
}

/// Relations, gathered into units.
struct Bound {
    units: Vec<Unit>,
}

impl Bound {
    fn new(names: &[&RelationName]) -> Self {
        let alone = |name: &&RelationName| Unit {
            relations: BTreeSet::from([(*name).clone()]),
            because: BTreeSet::new(),
        };
        Self {
            units: names.iter().map(alone).collect(),
        }
    }

    fn unit_of(&self, name: &RelationName) -> Option<usize> {
        self.units.iter().position(|u| u.relations.contains(name))
    }

    fn tie(&mut self, one: &RelationName, other: &RelationName, why: &str) {
        if let (Some(one), Some(other)) = (self.unit_of(one), self.unit_of(other)) {
            self.merge(&[one, other], why);
        }
    }

    /// Puts units into the first of them. The others stay as empty ones until they are asked for.
    fn merge(&mut self, units: &[usize], why: &str) {
        let mut all = Unit::default();
        for at in units {
            if let Some(unit) = self.units.get_mut(*at) {
                let unit = std::mem::take(unit);
                all.relations.extend(unit.relations);
                all.because.extend(unit.because);
            }
        }
        all.because.insert(why.to_owned());
        if let Some(unit) = units.first().and_then(|at| self.units.get_mut(*at)) {
            *unit = all;
        }
    }

    fn units(&mut self) -> Vec<Unit> {
        self.units.retain(|unit| !unit.relations.is_empty());
        self.units.clone()
    }

    /// From each unit to those that have to wait for it: from what reads to what is read.
    fn graph(&self, readers: &BTreeMap<RelationName, BTreeSet<RelationName>>) -> DiGraph<(), ()> {
        let mut graph = DiGraph::new();
        let nodes: Vec<_> = self.units.iter().map(|_| graph.add_node(())).collect();
        let at: BTreeMap<&RelationName, usize> = (self.units.iter().enumerate())
            .flat_map(|(at, unit)| unit.relations.iter().map(move |name| (name, at)))
            .collect();
        for (source, all) in readers {
            for reader in all {
                let (Some(from), Some(to)) = (at.get(reader), at.get(source)) else {
                    continue;
                };
                if let (true, Some(from), Some(to)) = (from != to, nodes.get(*from), nodes.get(*to))
                {
                    graph.update_edge(*from, *to, ());
                }
            }
        }
        graph
    }
}

#[cfg(test)]
mod tests;
