//! Which members read which, as far as dbt's lineage tells: a model in the database of one that reads
//! a source, or another model, in the database of another.
//!
//! What the configuration says counts more. It is a person's word, and lineage may be of code that is
//! gone.

use super::{Estate, EstateError, order};
use crate::ident::RelationName;
use crate::lineage::Lineage;
use crate::pipeline::dbt::manifest::{Node, ResourceType};
use std::collections::{BTreeMap, BTreeSet};

/// That a member reads another, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    /// What is made from the other.
    pub(super) reader: String,
    /// What it is made from.
    pub(super) source: String,
    /// The nodes of which one reads the other.
    pub(super) by: String,
}

/// What lineage added to what the configuration says.
#[derive(Debug, Clone, Default)]
pub(super) struct Derived {
    /// What only lineage says.
    pub(super) added: Vec<Edge>,
    /// What it says against the configuration, which counts.
    pub(super) against: Vec<Edge>,
}

/// Where lineage is found, when it is asked for.
pub(super) type Source = Box<dyn FnOnce() -> Vec<Lineage>>;

/// The edges between members that one project shows; the first of each pair, by name.
fn edges(lineage: &Lineage, member: impl Fn(&RelationName) -> Option<String>) -> Vec<Edge> {
    let nodes = &lineage.manifest().nodes;
    let home = |node: &Node| node.relation.as_ref().and_then(&member);
    let mut found: BTreeMap<(String, String), String> = BTreeMap::new();
    // What a test leaves is read by nobody, and is not what a consumer shows.
    let makes =
        |node: &&Node| node.resource_type.is_built() && node.resource_type != ResourceType::Test;
    for node in nodes.values().filter(makes) {
        let Some(reader) = home(node) else { continue };
        let mut open = vec![node.unique_id.as_str()];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            for parent in lineage.parents(id).filter_map(|id| nodes.get(id)) {
                match home(parent) {
                    Some(source) if source != reader => {
                        let by = || format!("{} reads {}", node.unique_id, parent.unique_id);
                        let pair = (reader.clone(), source);
                        found.entry(pair).or_insert_with(by);
                    }
                    Some(_) => {}
                    // What the warehouse never sees is read through.
                    None if parent.relation.is_none() && seen.insert(parent.unique_id.as_str()) => {
                        open.push(&parent.unique_id);
                    }
                    None => {}
                }
            }
        }
    }
    let edge = |((reader, source), by)| Edge { reader, source, by };
    found.into_iter().map(edge).collect()
}

impl Estate {
    /// Lets the order follow dbt's lineage, too, where the configuration says nothing of two members.
    /// It is asked for once, when something is planned.
    #[must_use]
    pub fn with_lineage(mut self, lineage: impl FnOnce() -> Vec<Lineage> + 'static) -> Self {
        self.lineage = Some(Box::new(lineage));
        self
    }

    /// Puts the members in order by all that is known of them.
    ///
    /// # Errors
    /// When lineage alone says that members read each other in a circle.
    pub(super) fn settle(&mut self) -> Result<(), EstateError> {
        let Some(lineage) = self.lineage.take() else {
            return match &self.circle {
                Some(circle) => Err(circle.clone()),
                None => Ok(()),
            };
        };
        let member = |name: &RelationName| {
            let home = self.members.iter().find(|member| member.has(name));
            home.map(|member| member.name.clone())
        };
        let all = lineage();
        let all: BTreeSet<Edge> = all.iter().flat_map(|one| edges(one, member)).collect();
        let mut derived = Derived::default();
        for edge in all {
            if order::reads(&self.members, &edge.source, &edge.reader) {
                if let Some(circle) = closes(&derived.added, &edge) {
                    let circle = EstateError::CircleByLineage(circle);
                    self.circle = Some(circle.clone());
                    return Err(circle);
                }
                derived.against.push(edge);
                continue;
            }
            let reader = self.members.iter_mut().find(|m| m.name == edge.reader);
            let new = reader.is_some_and(|reader| reader.reads.insert(edge.source.clone()));
            if new {
                derived.added.push(edge);
            }
        }
        self.members = order::sources_first(std::mem::take(&mut self.members))?;
        self.derived = derived;
        Ok(())
    }
}

/// What makes a circle of these with one edge more: how each of them is known.
fn closes(edges: &[Edge], edge: &Edge) -> Option<Vec<String>> {
    let mut open = vec![(edge.source.as_str(), vec![said(edge)])];
    let mut seen = BTreeSet::new();
    while let Some((at, path)) = open.pop() {
        if at == edge.reader {
            return Some(path);
        }
        if seen.insert(at) {
            let from = edges.iter().filter(|other| other.reader == at);
            open.extend(from.map(|next| {
                let more = path.iter().cloned().chain([said(next)]);
                (next.source.as_str(), more.collect())
            }));
        }
    }
    None
}

/// How a person reads it.
pub(super) fn said(edge: &Edge) -> String {
    format!("{} reads {} ({})", edge.reader, edge.source, edge.by)
}
