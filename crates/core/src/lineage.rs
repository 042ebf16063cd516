//! What reads what: the graph of a project's nodes, and of the relations that they become.
//!
//! Nodes are what a selector picks; relations are what a release holds. Between two relations there
//! may be nodes that the warehouse never sees (ephemeral models), and one relation may be two nodes
//! (a seed that is also declared as a source), so relation-level questions are answered on the
//! node graph and not on a copy of it.

use crate::{
    ident::RelationName,
    pipeline::dbt::manifest::{Manifest, Node, ResourceType},
};
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) mod glob;
pub mod select;
pub mod selector;

pub use petgraph::Direction;
pub use select::{Selected, Unmatched, select_relations};
pub use selector::{Selector, SelectorError};

/// The graph of one manifest.
#[derive(Debug, Clone)]
pub struct Lineage {
    manifest: Manifest,
    /// Node weights are positions in the manifest's ordered map of nodes, as are the indices.
    graph: DiGraph<(), ()>,
    ids: Vec<String>,
    indices: BTreeMap<String, NodeIndex>,
    relations: BTreeMap<RelationName, Vec<NodeIndex>>,
}

/// A project whose nodes read each other in a circle; dbt refuses such projects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the manifest has no order to build in: `{through}` reads itself through others. \
     Let dbt write the manifest again"
)]
pub struct Cycle {
    /// A node of the circle.
    pub through: String,
}

/// Everything outside of a set of relations that a change of them reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlastRadius {
    /// Relations downstream, the set itself not included.
    pub relations: BTreeSet<RelationName>,
    /// The `unique_id`s of exposures that read the set or anything downstream of it.
    pub exposures: BTreeSet<String>,
    /// The people and teams who answer for the set, for what is downstream, and for those
    /// exposures: owners from `meta`, of groups and of exposures.
    pub owners: BTreeSet<String>,
}

impl Lineage {
    /// Builds the graph. References to nodes that the manifest does not have are left out: dbt
    /// keeps such references to disabled nodes.
    pub fn new(manifest: Manifest) -> Self {
        let mut graph = DiGraph::with_capacity(manifest.nodes.len(), manifest.nodes.len() * 2);
        let ids: Vec<String> = manifest.nodes.keys().cloned().collect();
        let indices: BTreeMap<_, _> = ids
            .iter()
            .map(|id| (id.clone(), graph.add_node(())))
            .collect();
        let mut relations: BTreeMap<RelationName, Vec<NodeIndex>> = BTreeMap::new();
        for (node, &index) in manifest.nodes.values().zip(indices.values()) {
            for parent in node.depends_on.iter().filter_map(|id| indices.get(id)) {
                graph.update_edge(*parent, index, ());
            }
            if let Some(relation) = &node.relation {
                relations.entry(relation.clone()).or_default().push(index);
            }
        }
        Self {
            manifest,
            graph,
            ids,
            indices,
            relations,
        }
    }

    /// The manifest that the graph was built from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The nodes that this one reads.
    pub fn parents(&self, unique_id: &str) -> impl Iterator<Item = &str> {
        self.neighbours(unique_id, Direction::Incoming)
    }

    /// The nodes that read this one.
    pub fn children(&self, unique_id: &str) -> impl Iterator<Item = &str> {
        self.neighbours(unique_id, Direction::Outgoing)
    }

    fn neighbours(&self, unique_id: &str, way: Direction) -> impl Iterator<Item = &str> {
        self.indices
            .get(unique_id)
            .into_iter()
            .flat_map(move |&index| self.graph.neighbors_directed(index, way))
            .filter_map(|index| self.id(index))
    }

    /// A set of nodes with everything upstream of it (`Incoming`) or downstream (`Outgoing`).
    /// Names that are not nodes are left out.
    pub fn closure<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
        way: Direction,
    ) -> BTreeSet<String> {
        let start: BTreeSet<_> = ids
            .into_iter()
            .filter_map(|id| self.indices.get(id).copied())
            .collect();
        let mut all = self.reach(&start, way, None);
        all.extend(start);
        self.names(&all)
    }

    /// Every node, after all that it reads.
    ///
    /// # Errors
    /// When nodes read each other in a circle.
    pub fn topological_order(&self) -> Result<Vec<&str>, Cycle> {
        let order = petgraph::algo::toposort(&self.graph, None).map_err(|cycle| Cycle {
            through: self.id(cycle.node_id()).unwrap_or_default().to_owned(),
        })?;
        Ok(order.into_iter().filter_map(|i| self.id(i)).collect())
    }

    /// The nodes that are this relation: usually one; two for a seed that is a source as well.
    pub fn nodes_of(&self, relation: &RelationName) -> impl Iterator<Item = &Node> {
        self.relations
            .get(relation)
            .into_iter()
            .flatten()
            .filter_map(|&index| self.node(index))
    }

    /// The relations that a job builds for these nodes. Sources are left out: raw data belongs to
    /// whoever loads it, not to a release.
    pub fn built_relations<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a String>,
    ) -> BTreeSet<RelationName> {
        ids.into_iter()
            .filter_map(|id| self.manifest.nodes.get(id))
            .filter(|node| node.resource_type.is_built())
            .filter_map(|node| node.relation.clone())
            .collect()
    }

    /// The relations that read this one without another relation in between; ephemeral models are
    /// looked through.
    pub fn dependents(&self, relation: &RelationName) -> BTreeSet<RelationName> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = self.relations.get(relation).cloned().unwrap_or_default();
        while let Some(index) = open.pop() {
            for child in self.graph.neighbors(index) {
                match self.node(child).and_then(|node| node.relation.as_ref()) {
                    Some(other) if other != relation => {
                        found.insert(other.clone());
                    }
                    Some(_) => {}
                    None if seen.insert(child) => open.push(child),
                    None => {}
                }
            }
        }
        found
    }

    /// Everything that a change of these relations reaches, and who answers for it.
    pub fn blast_radius(&self, changed: &BTreeSet<RelationName>) -> BlastRadius {
        let mut touched: BTreeSet<NodeIndex> = BTreeSet::new();
        let mut open: Vec<NodeIndex> = changed
            .iter()
            .filter_map(|relation| self.relations.get(relation))
            .flatten()
            .copied()
            .collect();
        while let Some(index) = open.pop() {
            if !touched.insert(index) {
                continue;
            }
            open.extend(self.graph.neighbors(index));
            // A relation with two nodes is one relation: who reads the other node is reached too.
            if let Some(relation) = self.node(index).and_then(|node| node.relation.as_ref()) {
                open.extend(self.relations.get(relation).into_iter().flatten());
            }
        }
        let mut radius = BlastRadius::default();
        for node in touched.iter().filter_map(|&index| self.node(index)) {
            radius.owners.extend(node.owner.clone());
            let group = node
                .group
                .as_ref()
                .and_then(|name| self.manifest.groups.get(name));
            radius
                .owners
                .extend(group.and_then(|owner| owner.label()).map(str::to_owned));
            if node.resource_type == ResourceType::Exposure {
                radius.exposures.insert(node.unique_id.clone());
                let exposure = self.manifest.exposures.get(&node.unique_id);
                radius.owners.extend(
                    exposure
                        .and_then(|exposure| exposure.owner.label())
                        .map(str::to_owned),
                );
            }
            if let Some(relation) = &node.relation
                && node.resource_type != ResourceType::Test
                && !changed.contains(relation)
            {
                radius.relations.insert(relation.clone());
            }
        }
        radius
    }

    fn id(&self, index: NodeIndex) -> Option<&str> {
        self.ids.get(index.index()).map(String::as_str)
    }

    fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.manifest.nodes.get(self.id(index)?)
    }

    fn names(&self, indices: &BTreeSet<NodeIndex>) -> BTreeSet<String> {
        indices
            .iter()
            .filter_map(|&index| self.id(index).map(str::to_owned))
            .collect()
    }

    /// The nodes at most `levels` steps away. A node of the start is among them only if another
    /// of the start leads to it.
    fn reach(
        &self,
        start: &BTreeSet<NodeIndex>,
        way: Direction,
        levels: Option<u64>,
    ) -> BTreeSet<NodeIndex> {
        let mut found = BTreeSet::new();
        let mut layer: Vec<NodeIndex> = start.iter().copied().collect();
        let mut level = 0;
        while !layer.is_empty() && levels.is_none_or(|most| level < most) {
            layer = layer
                .iter()
                .flat_map(|&index| self.graph.neighbors_directed(index, way))
                .filter(|&index| found.insert(index))
                .collect();
            level += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests;
