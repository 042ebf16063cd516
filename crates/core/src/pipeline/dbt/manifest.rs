//! dbt's `manifest.json`: what the project consists of, and which relation each node becomes.

use super::json::{ArtefactError, schema_version};
use crate::ident::RelationName;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

mod raw;

/// A dbt project as one invocation saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The artefact's schema version, 10 to 12.
    pub schema_version: u32,
    /// The root project's name.
    pub project: String,
    /// The adapter's type, such as `duckdb`.
    pub adapter: String,
    /// The dbt that wrote it.
    pub dbt_version: String,
    /// Shared by every artefact of one dbt command; it tells a fresh artefact from a stale one.
    pub invocation_id: Option<String>,
    /// When dbt wrote it.
    pub generated_at: Option<jiff::Timestamp>,
    /// Every enabled member of dbt's graph by `unique_id`: models, seeds, snapshots, tests,
    /// sources, exposures, metrics and so on.
    pub nodes: BTreeMap<String, Node>,
    /// What only exposures have, by the same `unique_id`.
    pub exposures: BTreeMap<String, Exposure>,
    /// Groups by name.
    pub groups: BTreeMap<String, Owner>,
}

/// What sort of thing a node is, in dbt's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "dbt's own names, one for one")]
pub enum ResourceType {
    Model,
    Analysis,
    Test,
    Snapshot,
    Operation,
    Seed,
    Source,
    Exposure,
    Metric,
    SemanticModel,
    SavedQuery,
    UnitTest,
    Function,
    /// A sort that this version of unship does not know.
    Other(String),
}

impl ResourceType {
    const WORDS: [(Self, &'static str); 13] = [
        (Self::Model, "model"),
        (Self::Analysis, "analysis"),
        (Self::Test, "test"),
        (Self::Snapshot, "snapshot"),
        (Self::Operation, "operation"),
        (Self::Seed, "seed"),
        (Self::Source, "source"),
        (Self::Exposure, "exposure"),
        (Self::Metric, "metric"),
        (Self::SemanticModel, "semantic_model"),
        (Self::SavedQuery, "saved_query"),
        (Self::UnitTest, "unit_test"),
        (Self::Function, "function"),
    ];

    /// Reads dbt's word.
    pub fn from_word(word: &str) -> Self {
        Self::WORDS
            .iter()
            .find(|(_, w)| *w == word)
            .map_or_else(|| Self::Other(word.to_owned()), |(kind, _)| kind.clone())
    }

    /// dbt's word.
    pub fn word(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => Self::WORDS
                .iter()
                .find(|(kind, _)| kind == known)
                .map_or("", |(_, word)| word),
        }
    }

    /// Every word that dbt knows, for messages.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Self::WORDS.iter().map(|(_, word)| *word)
    }

    /// Whether a job makes a relation out of it, so that a release may own that relation. A test
    /// counts: with `store_failures` it leaves a table.
    pub fn is_built(&self) -> bool {
        matches!(
            self,
            Self::Model | Self::Seed | Self::Snapshot | Self::Test | Self::Function
        )
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One member of dbt's graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// dbt's key for it, such as `model.shop.orders`.
    pub unique_id: String,
    /// What it is.
    pub resource_type: ResourceType,
    /// Its name in the project.
    pub name: String,
    /// Its name in the warehouse, where that differs or is spelled out.
    pub alias: Option<String>,
    /// The package that declares it.
    pub package: String,
    /// Its file, relative to the resource directory.
    pub path: String,
    /// Its file, relative to its package's root.
    pub original_file_path: String,
    /// The YAML file that describes it, relative to its package's root.
    pub patch_path: Option<String>,
    /// dbt's qualified name: package, directories, name, and version if any.
    pub fqn: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `table`, `view`, `incremental`, `ephemeral`, …
    pub materialized: Option<String>,
    /// The relation it becomes, or is; `None` for what the warehouse never sees.
    pub relation: Option<RelationName>,
    /// The `unique_id`s that it reads.
    pub depends_on: Vec<String>,
    /// The columns that identify a row, where dbt was told.
    pub unique_key: Vec<String>,
    /// What an incremental model does when its columns change.
    pub on_schema_change: Option<String>,
    /// The model's own answer to `--full-refresh`: `Some(false)` means that it must never be
    /// rebuilt from nothing, because its history cannot be had again.
    pub full_refresh: Option<bool>,
    /// Its group.
    pub group: Option<String>,
    /// `private`, `protected` or `public`, for models.
    pub access: Option<String>,
    /// Its version, for versioned models.
    pub version: Option<String>,
    /// The version that an unversioned reference means.
    pub latest_version: Option<String>,
    /// Whether SQL of its own runs before it is built.
    pub has_pre_hook: bool,
    /// Whether SQL of its own runs after it was built; such SQL can write anywhere.
    pub has_post_hook: bool,
    /// The file that holds the rows, for dbt-duckdb's external models and sources.
    pub external: Option<External>,
    /// The source's name, for sources.
    pub source_name: Option<String>,
    /// What is tested, for tests.
    pub test: Option<Test>,
    /// Who answers for it, from its `meta`.
    pub owner: Option<String>,
    /// All of its configuration, for selectors.
    pub config: Map<String, Value>,
}

/// Rows that live in a file outside of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where, as the project says; `None` where dbt-duckdb derives it from the model's name and
    /// the target's `external_root`.
    pub location: Option<String>,
    /// The file's format, where the project says it.
    pub format: Option<String>,
}

/// What a test asserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The generic test's name, such as `unique`, with its namespace if any
    /// (`dbt_utils.unique_combination_of_columns`); `None` for a singular test.
    pub name: Option<String>,
    /// The column it is about.
    pub column: Option<String>,
    /// The columns of a test over a combination of them.
    pub columns: Vec<String>,
    /// The `unique_id` of the node it is declared on.
    pub attached_node: Option<String>,
    /// What its failure means.
    pub severity: Severity,
    /// For `relationships`: the referenced column.
    pub field: Option<String>,
}

/// What a failing test means to dbt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// dbt says so and goes on.
    Warn,
    /// dbt fails.
    Error,
}

/// A person or team.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Their name.
    pub name: Option<String>,
    /// Their address, or the first of them.
    pub email: Option<String>,
}

impl Owner {
    /// How to call them: by name, else by address.
    pub fn label(&self) -> Option<&str> {
        self.name.as_deref().or(self.email.as_deref())
    }
}

/// Something outside of the warehouse that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Its name.
    pub name: String,
    /// What people call it, where that differs.
    pub label: Option<String>,
    /// `dashboard`, `notebook`, `analysis`, `ml` or `application`.
    pub kind: Option<String>,
    /// `high`, `medium` or `low`.
    pub maturity: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// Who answers for it.
    pub owner: Owner,
}

impl Manifest {
    /// Reads a `manifest.json`, whatever the bytes are.
    ///
    /// # Errors
    /// When they are not JSON of dbt's shape, or follow a schema other than v10 to v12.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtefactError> {
        let raw: raw::Manifest = super::json::read("manifest", bytes)?;
        let schema_version = schema_version("manifest", &raw.metadata.dbt_schema_version, 10..=12)?;
        Ok(raw.into_manifest(schema_version))
    }

    /// The test's columns that together must be unique, for every node that has such a test:
    /// a key that a comparison of rows can use. Nodes with a configured `unique_key` come first.
    pub fn key_of(&self, unique_id: &str) -> Option<Vec<String>> {
        let node = self.nodes.get(unique_id)?;
        if !node.unique_key.is_empty() {
            return Some(node.unique_key.clone());
        }
        let tests = || {
            self.nodes
                .values()
                .filter_map(|n| n.test.as_ref())
                .filter(|t| t.attached_node.as_deref() == Some(unique_id))
        };
        let single = tests()
            .find(|t| t.name.as_deref() == Some("unique"))
            .and_then(|t| t.column.clone());
        single.map(|column| vec![column]).or_else(|| {
            tests()
                .find(|t| {
                    t.name
                        .as_deref()
                        .is_some_and(|n| n.ends_with("unique_combination_of_columns"))
                })
                .map(|t| t.columns.clone())
                .filter(|columns| !columns.is_empty())
        })
    }
}

/// Feeds arbitrary bytes to the parser, for fuzzing: the answer does not matter, coming back does.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        for id in manifest.nodes.keys() {
            let _ = manifest.key_of(id);
        }
    }
}

#[cfg(test)]
mod tests;
