//! Which relations a job goes on from, so that they must be in staging before it starts.

use super::{code::Code, join::Joined};
use crate::pipeline::dbt::invocation::Options;
use serde::Serialize;
use std::{collections::BTreeSet, fmt};
use unship_core::{
    ident::RelationName,
    lineage::{Lineage, Selector},
    pipeline::dbt::manifest::{Manifest, Node, ResourceType},
};

/// A relation whose content the job goes on from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Prior {
    /// What it is in production.
    pub production: RelationName,
    /// Why it is needed.
    pub reason: Reason,
}

/// Why a job needs what was there before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An incremental model adds to what it has.
    Incremental,
    /// A snapshot is history.
    Snapshot,
    /// The node's code reads the relation that it becomes.
    ReadsItself,
    /// It is a source as well, and may be read before it is built.
    AlsoASource,
    /// What this materialization does with what is there is the project's own affair.
    Custom(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incremental => f.write_str("an incremental model"),
            Self::Snapshot => f.write_str("a snapshot"),
            Self::ReadsItself => f.write_str("it reads itself"),
            Self::AlsoASource => f.write_str("it is a source as well"),
            Self::Custom(word) => write!(f, "materialized as {word}"),
        }
    }
}

/// What dbt's sub-commands build; an empty list is a command that builds nothing.
pub fn built_by(subcommand: &str) -> &'static [ResourceType] {
    use ResourceType::{Function, Model, Seed, Snapshot, Test};
    match subcommand {
        "build" => &[Model, Seed, Snapshot, Test, Function],
        "run" => &[Model],
        "seed" => &[Seed],
        "snapshot" => &[Snapshot],
        "test" => &[Test],
        _ => &[],
    }
}

/// The nodes that a command builds; `None` where only dbt itself can tell (named selectors, methods
/// that compare with another run).
pub fn selected(
    manifest: &Manifest,
    subcommand: &str,
    options: &Options,
    default_selector: bool,
) -> Option<BTreeSet<String>> {
    if options.selector.is_some() || (options.select.is_empty() && default_selector) {
        return None;
    }
    let selector = Selector::parse(&options.select, &options.exclude).ok()?;
    let lineage = Lineage::new(manifest.clone());
    let mut picked = lineage.select(&selector).picked;
    retain_built(&mut picked, manifest, subcommand, options);
    Some(picked)
}

/// Leaves those that the command builds.
pub fn retain_built(
    picked: &mut BTreeSet<String>,
    manifest: &Manifest,
    subcommand: &str,
    options: &Options,
) {
    let kinds = built_by(subcommand);
    let listed = |list: &[String], kind: &ResourceType| {
        list.iter()
            .any(|word| matches!(word.as_str(), "all" | "default") || word == kind.word())
    };
    let (only, without) = (&options.resource_types, &options.exclude_resource_types);
    picked.retain(|id| {
        manifest.nodes.get(id).is_some_and(|node| {
            let kind = &node.resource_type;
            kinds.contains(kind)
                && (only.is_empty() || listed(only, kind))
                && !without.iter().any(|word| word == kind.word())
        })
    });
}

/// What must be in staging before the job starts.
///
/// Seeds are not among it: dbt fills them from their file, whatever was there.
pub fn needed(
    manifest: &Manifest,
    joined: &Joined,
    code: &Code,
    selected: &BTreeSet<String>,
    full_refresh: bool,
) -> Vec<Prior> {
    let mut all = BTreeSet::new();
    for id in selected {
        let (Some(node), Some(relation)) = (manifest.nodes.get(id), joined.redirected.get(id))
        else {
            continue;
        };
        let also_a_source = || {
            joined
                .sources
                .contains(relation)
                .then_some(Reason::AlsoASource)
        };
        if let Some(reason) = reason(node, code, full_refresh).or_else(also_a_source) {
            all.insert(Prior {
                production: relation.clone(),
                reason,
            });
        }
    }
    all.into_iter().collect()
}

fn reason(node: &Node, code: &Code, full_refresh: bool) -> Option<Reason> {
    // A model's own answer comes before the command's.
    let from_nothing = node.full_refresh.unwrap_or(full_refresh);
    let materialized = node.materialized.as_deref().unwrap_or_default();
    match (&node.resource_type, materialized) {
        (ResourceType::Snapshot, _) => Some(Reason::Snapshot),
        (ResourceType::Model, "incremental") => (!from_nothing).then_some(Reason::Incremental),
        (ResourceType::Model, "table" | "view" | "materialized_view") => {
            reads_itself(&node.unique_id, code).then_some(Reason::ReadsItself)
        }
        (ResourceType::Model, "ephemeral") | (ResourceType::Seed | ResourceType::Test, _) => None,
        (_, custom) => Some(Reason::Custom(custom.to_owned())),
    }
}

/// Whether the code that runs before or while a node is built uses `this` in a template.
fn reads_itself(id: &str, code: &Code) -> bool {
    let Some(node) = code.nodes.get(id) else {
        return false;
    };
    std::iter::once(node.raw())
        .chain(node.before())
        .any(says_this)
}

fn says_this(text: &str) -> bool {
    let mut rest = text;
    while let Some(open) = rest.find(['{']) {
        rest = rest.get(open + 1..).unwrap_or_default();
        let close = match rest.chars().next() {
            Some('{') => "}}",
            Some('%') => "%}",
            _ => continue,
        };
        let inner = rest.get(..rest.find(close).unwrap_or(rest.len()));
        let mut words = inner
            .unwrap_or_default()
            .split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.any(|word| word == "this") {
            return true;
        }
    }
    false
}
