//! A selection, evaluated: which nodes, or which relations where there is no manifest.

use super::{
    Lineage,
    glob::{matches, path_matches},
    selector::{Criterion, Intersection, Method, Problem, Selector, SelectorError, closest},
};
use crate::{
    ident::RelationName,
    pipeline::dbt::manifest::{Node, ResourceType},
};
use petgraph::{Direction, graph::NodeIndex};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a selection picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected<T> {
    /// What it picked: `unique_id`s, or relations.
    pub picked: BTreeSet<T>,
    /// Parts of the selection that picked nothing, which is more often a slip than a wish. dbt
    /// warns of them; a caller that changes a warehouse had better refuse.
    pub unmatched: Vec<Unmatched>,
}

/// A part of a selection that picked nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` selects nothing{}", self.hint())]
pub struct Unmatched {
    /// The part as it was understood.
    pub part: String,
    /// A name that is spelled much like it.
    pub closest: Option<String>,
}

impl Unmatched {
    fn hint(&self) -> String {
        match &self.closest {
            Some(name) => format!("; did you mean `{name}`?"),
            None => String::new(),
        }
    }
}

impl Lineage {
    /// Evaluates a selection as `dbt ls` does with its default resource types: tests come along
    /// with any node that they read, analyses and hooks are left out.
    pub fn select(&self, selector: &Selector) -> Selected<String> {
        let mut unmatched = Vec::new();
        let mut picked: BTreeSet<NodeIndex> = if selector.select.is_empty() {
            self.graph.node_indices().collect()
        } else {
            let mut all = BTreeSet::new();
            for part in &selector.select {
                let found = self.intersection(part);
                if found.is_empty() {
                    unmatched.push(self.unmatched(part));
                }
                all.extend(found);
            }
            all
        };
        for part in &selector.exclude {
            for index in self.intersection(part) {
                picked.remove(&index);
            }
        }
        picked.retain(|&index| {
            self.node(index).is_some_and(|node| {
                !matches!(
                    node.resource_type,
                    ResourceType::Analysis | ResourceType::Operation
                )
            })
        });
        Selected {
            picked: self.names(&picked),
            unmatched,
        }
    }

    fn intersection(&self, part: &Intersection) -> BTreeSet<NodeIndex> {
        part.0
            .iter()
            .map(|criterion| self.criterion(criterion))
            .reduce(|all, next| &all & &next)
            .unwrap_or_default()
    }

    fn criterion(&self, criterion: &Criterion) -> BTreeSet<NodeIndex> {
        let start = self.matched(criterion);
        let mut selected = start.clone();
        if criterion.childrens_parents {
            let mut family = self.reach(&start, Direction::Outgoing, None);
            family.extend(&start);
            selected.extend(self.reach(&family, Direction::Incoming, None));
            selected.extend(family);
        }
        for (depth, way) in [
            (criterion.parents, Direction::Incoming),
            (criterion.children, Direction::Outgoing),
        ] {
            if let Some(depth) = depth {
                selected.extend(self.reach(&start, way, depth.levels()));
            }
        }
        let tests: Vec<NodeIndex> = selected
            .iter()
            .flat_map(|&index| self.graph.neighbors(index))
            .filter(|&index| {
                self.node(index).is_some_and(|node| {
                    matches!(
                        node.resource_type,
                        ResourceType::Test | ResourceType::UnitTest
                    )
                })
            })
            .collect();
        selected.extend(tests);
        selected
    }

    /// The nodes that the criterion itself names, without any relatives.
    fn matched(&self, criterion: &Criterion) -> BTreeSet<NodeIndex> {
        let paths = match criterion.method {
            Method::Path => self.project_paths(&criterion.value),
            _ => BTreeSet::new(),
        };
        let project = &self.manifest.project;
        self.graph
            .node_indices()
            .filter(|&index| {
                self.node(index).is_some_and(|node| match criterion.method {
                    Method::Path => node_paths(node).any(|(path, _)| paths.contains(path)),
                    Method::Package if criterion.value == "this" && !project.is_empty() => {
                        node.package == *project
                    }
                    _ => node_matches(node, &criterion.method, &criterion.value),
                })
            })
            .collect()
    }

    /// The project's own files and directories that a path selection names. dbt looks on disk;
    /// here what the manifest mentions of the root package stands for the disk.
    fn project_paths(&self, pattern: &str) -> BTreeSet<&str> {
        self.manifest
            .nodes
            .values()
            .filter(|node| node.package == self.manifest.project)
            .flat_map(node_paths)
            .filter(|(path, is_directory)| path_matches(path, *is_directory, pattern))
            .map(|(path, _)| path)
            .collect()
    }

    fn unmatched(&self, part: &Intersection) -> Unmatched {
        let slip = part
            .0
            .iter()
            .find(|criterion| self.matched(criterion).is_empty());
        let nodes = || self.manifest.nodes.values();
        let nearest = |criterion: &Criterion| -> Option<String> {
            let value = criterion.value.as_str();
            match criterion.method {
                Method::Fqn => closest(
                    value,
                    nodes()
                        .filter(|node| node.resource_type != ResourceType::Test)
                        .map(|node| node.name.as_str()),
                ),
                Method::Tag => closest(value, nodes().flat_map(|n| &n.tags).map(String::as_str)),
                Method::Group => closest(value, self.manifest.groups.keys().map(String::as_str)),
                Method::Package => closest(value, nodes().map(|node| node.package.as_str())),
                Method::Source => closest(
                    value.split('.').next().unwrap_or(value),
                    nodes().filter_map(|node| node.source_name.as_deref()),
                ),
                Method::Exposure => closest(
                    value,
                    self.manifest.exposures.values().map(|e| e.name.as_str()),
                ),
                Method::Path | Method::File => {
                    closest(value, nodes().flat_map(node_paths).map(|(path, _)| path))
                }
                _ => None,
            }
        };
        Unmatched {
            part: part.to_string(),
            closest: slip.and_then(nearest),
        }
    }
}

/// A node's file, the directories that it is in, and the file that describes it; `true` marks a
/// directory.
fn node_paths(node: &Node) -> impl Iterator<Item = (&str, bool)> {
    let file = node.original_file_path.as_str();
    let above = file
        .match_indices('/')
        .map(move |(at, _)| (file.get(..at).unwrap_or(file), true));
    std::iter::once((file, false))
        .chain(above)
        .chain(node.patch_path.as_deref().map(|path| (path, false)))
}

fn node_matches(node: &Node, method: &Method, value: &str) -> bool {
    let is = |kind: ResourceType| node.resource_type == kind;
    // `name`, or `package.name`.
    let named = || match value.split_once('.') {
        Some((package, name)) => matches(&node.package, package) && matches(&node.name, name),
        None => matches(&node.name, value),
    };
    match method {
        Method::Fqn => {
            let versioned = is(ResourceType::Model) && node.version.is_some();
            !is(ResourceType::Source)
                && (fqn_matches(&node.fqn, value, versioned)
                    || fqn_matches(node.fqn.get(1..).unwrap_or_default(), value, versioned))
        }
        Method::Tag => node.tags.iter().any(|tag| matches(tag, value)),
        Method::Group => {
            !is(ResourceType::Source)
                && !is(ResourceType::Exposure)
                && node.group.as_deref().is_some_and(|g| matches(g, value))
        }
        Method::Access => is(ResourceType::Model) && node.access.as_deref() == Some(value),
        Method::Source => is(ResourceType::Source) && source_matches(node, value),
        Method::File => {
            let file = node
                .original_file_path
                .rsplit('/')
                .next()
                .unwrap_or_default();
            let stem = match file.rsplit_once('.') {
                Some((stem, _)) if !stem.is_empty() => stem,
                _ => file,
            };
            matches(file, value) || matches(stem, value)
        }
        Method::Package => matches(&node.package, value),
        Method::Config(keys) => config_matches(node, keys, value),
        Method::TestName => match (&node.resource_type, &node.test) {
            (ResourceType::UnitTest, _) => matches(&node.name, value),
            (_, Some(test)) => test
                .name
                .as_deref()
                .and_then(|name| name.rsplit('.').next())
                .is_some_and(|name| matches(name, value)),
            _ => false,
        },
        Method::TestType => match (&node.test, value) {
            (Some(_), "data") => true,
            (Some(test), "generic" | "schema") => test.name.is_some(),
            (Some(test), "singular") => test.name.is_none(),
            (None, "unit") => is(ResourceType::UnitTest),
            _ => false,
        },
        Method::ResourceType => node.resource_type.word() == value,
        Method::Exposure => is(ResourceType::Exposure) && named(),
        Method::Metric => is(ResourceType::Metric) && named(),
        Method::SemanticModel => is(ResourceType::SemanticModel) && named(),
        Method::SavedQuery => is(ResourceType::SavedQuery) && named(),
        Method::UnitTest => is(ResourceType::UnitTest) && named(),
        Method::Version => is(ResourceType::Model) && version_matches(node, value),
        // Paths are compared with the project's, in `matched`.
        Method::Path => false,
    }
}

/// Whether a dotted selection names this qualified name: as its last part, as its beginning, or by
/// wildcards from the first part that has one.
fn fqn_matches(fqn: &[String], selection: &str, versioned: bool) -> bool {
    let Some(last) = fqn.last() else {
        return false;
    };
    let parts: Vec<&str> = selection.split('.').collect();
    let leaf = match fqn {
        // A versioned model ends in name and version, and goes by either spelling of both.
        [.., name, version] if versioned => {
            let tail = parts.get(parts.len().saturating_sub(2)..);
            let both = tail.map(|tail| tail.join("_")).unwrap_or_default();
            if name == selection || format!("{name}_{version}") == both {
                return true;
            }
            name
        }
        _ => last,
    };
    if !versioned && last == selection {
        return true;
    }
    let flat: Vec<&str> = fqn.iter().flat_map(|part| part.split('.')).collect();
    if flat.len() < parts.len() {
        return false;
    }
    for (i, part) in parts.iter().enumerate() {
        if part.contains(['*', '?', '[', ']']) {
            return matches(&flat[i..].join("."), &parts[i..].join("."))
                || (parts.len() == 1 && matches(leaf, selection));
        }
        if flat[i] != *part {
            return false;
        }
    }
    true
}

fn source_matches(node: &Node, value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    let (package, source, table) = match parts[..] {
        [source] => ("*", source, "*"),
        [source, table] => ("*", source, table),
        [package, source, table] => (package, source, table),
        _ => return false,
    };
    matches(&node.package, package)
        && node
            .source_name
            .as_deref()
            .is_some_and(|name| matches(name, source))
        && matches(&node.name, table)
}

fn config_matches(node: &Node, keys: &[String], wanted: &str) -> bool {
    // dbt looks in the configuration of what is in the manifest's `nodes` and `sources` only.
    let configurable = matches!(
        node.resource_type,
        ResourceType::Model
            | ResourceType::Analysis
            | ResourceType::Test
            | ResourceType::Snapshot
            | ResourceType::Operation
            | ResourceType::Seed
            | ResourceType::Source
    );
    let mut found = match keys.first().and_then(|key| node.config.get(key)) {
        Some(value) if configurable => value,
        _ => return false,
    };
    for key in keys.iter().skip(1) {
        match found.get(key) {
            Some(value) => found = value,
            None => return false,
        }
    }
    let ignoring_case = keys.len() == 1 && keys[0] == "severity";
    let text = |value: &Value| {
        value.as_str().is_some_and(|text| match ignoring_case {
            true => text.eq_ignore_ascii_case(wanted),
            false => text == wanted,
        })
    };
    let truth = match () {
        () if wanted.eq_ignore_ascii_case("true") => Some(true),
        () if wanted.eq_ignore_ascii_case("false") => Some(false),
        () => None,
    };
    let holds = |value: &Value| text(value) || (truth.is_some() && value.as_bool() == truth);
    match found {
        Value::Array(many) => many.iter().any(holds),
        one => holds(one),
    }
}

fn version_matches(node: &Node, wanted: &str) -> bool {
    use std::cmp::Ordering::{Greater, Less};
    let (Some(version), Some(latest)) = (&node.version, &node.latest_version) else {
        return wanted == "none" && node.version.is_none();
    };
    let order = match (version.parse::<f64>(), latest.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.partial_cmp(&b),
        _ => Some(version.cmp(latest)),
    };
    match wanted {
        "latest" => version == latest,
        "prerelease" => order == Some(Greater),
        "old" => order == Some(Less),
        _ => false,
    }
}

/// Selects relations by name, for a project without a manifest: `orders`, `marts.orders`,
/// `warehouse.marts.orders`, wildcards, unions and intersections as in dbt's language.
///
/// # Errors
/// When a text is not a selection, or uses graph operators or methods, which need a manifest.
pub fn select_relations<S: AsRef<str>>(
    select: &[S],
    exclude: &[S],
    relations: &BTreeSet<RelationName>,
) -> Result<Selected<RelationName>, SelectorError> {
    let selector = Selector::parse(select, exclude)?;
    for criterion in (selector.select.iter().chain(&selector.exclude)).flat_map(|part| &part.0) {
        // A relation may well be called `csv`; a file name is then only a guess of the grammar.
        let by_name = matches!(criterion.method, Method::Fqn | Method::File);
        if !by_name || criterion.has_operators() {
            return Err(SelectorError {
                text: selector.to_string(),
                position: 1,
                problem: Problem::NeedsManifest {
                    part: criterion.to_string(),
                },
            });
        }
    }
    let holds = |part: &Intersection, relation: &RelationName| {
        part.0.iter().all(|c| relation_matches(relation, &c.value))
    };
    let unmatched = selector
        .select
        .iter()
        .filter(|part| !relations.iter().any(|relation| holds(part, relation)))
        .map(|part| Unmatched {
            part: part.to_string(),
            closest: closest(
                &part.to_string(),
                relations.iter().map(|relation| relation.name.as_str()),
            ),
        })
        .collect();
    let picked = relations
        .iter()
        .filter(|relation| {
            selector.select.is_empty() || selector.select.iter().any(|part| holds(part, relation))
        })
        .filter(|relation| !selector.exclude.iter().any(|part| holds(part, relation)))
        .cloned()
        .collect();
    Ok(Selected { picked, unmatched })
}

/// The last of the pattern's parts is the relation, the one before it the schema, the first the
/// database.
fn relation_matches(relation: &RelationName, pattern: &str) -> bool {
    let names = [&relation.name, &relation.schema, &relation.database];
    let parts: Vec<&str> = pattern.rsplit('.').collect();
    parts.len() <= names.len()
        && parts
            .iter()
            .zip(names)
            .all(|(part, name)| matches(name, part))
}
