//! dbt's `run_results.json`: how each node of one invocation went.

use super::{
    json::{ArtefactError, or_default, read, schema_version},
    manifest::{Manifest, ResourceType, Severity},
};
use crate::ident::RelationName;
use serde::Deserialize;
use std::collections::BTreeSet;

/// How one invocation went.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResults {
    /// Shared with the manifest of the same command.
    pub invocation_id: Option<String>,
    /// The dbt that wrote it.
    pub dbt_version: String,
    /// When dbt wrote it.
    pub generated_at: Option<jiff::Timestamp>,
    /// The dbt command, such as `build`.
    pub command: Option<String>,
    /// How long the command took, in seconds.
    pub elapsed: f64,
    /// One entry a node, in the order in which they ended.
    pub results: Vec<NodeResult>,
}

/// How one node went.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeResult {
    /// Which node.
    pub unique_id: String,
    /// How it went.
    pub status: Status,
    /// What dbt says about it.
    pub message: Option<String>,
    /// How long it took, in seconds.
    pub execution_time: f64,
    /// Rows that the statement touched, where the adapter says so.
    pub rows_affected: Option<u64>,
    /// Rows that a test complains about.
    pub failures: Option<u64>,
    /// The SQL that was run, where dbt wrote it down.
    pub compiled: Option<String>,
}

/// dbt's verdict on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It was built.
    Success,
    /// Some batches of a microbatch model were built and others failed.
    PartialSuccess,
    /// A test passed.
    Pass,
    /// A test or a freshness check complains, and dbt goes on.
    Warn,
    /// A test failed.
    Fail,
    /// It could not be built or run.
    Error,
    /// Something before it failed, so it was not tried.
    Skipped,
    /// There was nothing to do.
    NoOp,
    /// A word that this version of unship does not know.
    Other(String),
}

impl Status {
    fn from_word(word: String) -> Self {
        match word.as_str() {
            "success" => Self::Success,
            "partial success" => Self::PartialSuccess,
            "pass" => Self::Pass,
            "warn" => Self::Warn,
            "fail" => Self::Fail,
            "error" | "runtime error" => Self::Error,
            "skipped" => Self::Skipped,
            "no-op" => Self::NoOp,
            _ => Self::Other(word),
        }
    }
}

/// A run read together with its manifest: what it made, and what went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Relations that were built completely.
    pub built: BTreeSet<RelationName>,
    /// What was not built, or not completely, and is not a test.
    pub failed: Vec<Failure>,
    /// Tests that complained, warnings included.
    pub tests: Vec<TestFailure>,
    /// Nodes that were not tried.
    pub skipped: Vec<String>,
}

/// A node that was not built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which node.
    pub unique_id: String,
    /// The relation it should have become.
    pub relation: Option<RelationName>,
    /// Whether a part of it was written all the same.
    pub partly_built: bool,
    /// What dbt says about it.
    pub message: Option<String>,
}

/// A test that complained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFailure {
    /// Which test.
    pub unique_id: String,
    /// What it means: `Warn` if dbt went on, `Error` if it failed or could not be run.
    pub severity: Severity,
    /// Rows that it complains about; `None` if it could not be run.
    pub failures: Option<u64>,
    /// The relations that it reads.
    pub relations: BTreeSet<RelationName>,
    /// What dbt says about it.
    pub message: Option<String>,
}

impl RunResults {
    /// Reads a `run_results.json`, whatever the bytes are.
    ///
    /// # Errors
    /// When they are not JSON of dbt's shape, or follow a schema other than v4 to v6.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtefactError> {
        let raw: Raw = read("run-results", bytes)?;
        schema_version("run-results", &raw.metadata.dbt_schema_version, 4..=6)?;
        Ok(Self {
            invocation_id: raw.metadata.invocation_id,
            dbt_version: raw.metadata.dbt_version,
            generated_at: raw.metadata.generated_at.and_then(|at| at.parse().ok()),
            command: raw.args.which,
            elapsed: raw.elapsed_time,
            results: raw.results.into_iter().map(NodeResult::from).collect(),
        })
    }

    /// Sorts the results into what was built and what was not. Nodes that the manifest does not
    /// know are named as failed if they failed, and otherwise left out: they have no relation.
    pub fn outcome(&self, manifest: &Manifest) -> Outcome {
        let mut outcome = Outcome::default();
        for result in &self.results {
            let node = manifest.nodes.get(&result.unique_id);
            let is_test = match node {
                Some(node) => matches!(
                    node.resource_type,
                    ResourceType::Test | ResourceType::UnitTest
                ),
                None => result.unique_id.starts_with("test."),
            };
            match (&result.status, is_test) {
                (Status::Success, false) => {
                    outcome.built.extend(node.and_then(|n| n.relation.clone()));
                }
                (Status::Error | Status::Fail | Status::PartialSuccess, false) => {
                    outcome.failed.push(Failure {
                        unique_id: result.unique_id.clone(),
                        relation: node.and_then(|n| n.relation.clone()),
                        partly_built: result.status == Status::PartialSuccess,
                        message: result.message.clone(),
                    });
                }
                (Status::Warn | Status::Fail | Status::Error, true) => {
                    outcome.tests.push(result.test_failure(manifest));
                }
                (Status::Skipped, _) => outcome.skipped.push(result.unique_id.clone()),
                _ => {}
            }
            let stored = is_test && !matches!(result.status, Status::Skipped | Status::Error);
            if stored {
                outcome.built.extend(node.and_then(|n| n.relation.clone()));
            }
        }
        outcome
    }
}

impl NodeResult {
    fn test_failure(&self, manifest: &Manifest) -> TestFailure {
        let relations = manifest
            .nodes
            .get(&self.unique_id)
            .into_iter()
            .flat_map(|node| &node.depends_on)
            .filter_map(|id| manifest.nodes.get(id)?.relation.clone())
            .collect();
        TestFailure {
            unique_id: self.unique_id.clone(),
            severity: match self.status {
                Status::Warn => Severity::Warn,
                _ => Severity::Error,
            },
            failures: self.failures,
            relations,
            message: self.message.clone(),
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    results: Vec<RawResult>,
    #[serde(default, deserialize_with = "or_default")]
    elapsed_time: f64,
    #[serde(default, deserialize_with = "or_default")]
    args: Args,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "or_default")]
    pub dbt_schema_version: String,
    #[serde(default, deserialize_with = "or_default")]
    dbt_version: String,
    pub generated_at: Option<String>,
    pub invocation_id: Option<String>,
}

#[derive(Deserialize, Default)]
struct Args {
    which: Option<String>,
}

#[derive(Deserialize)]
struct RawResult {
    unique_id: String,
    status: String,
    message: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    execution_time: f64,
    #[serde(default, deserialize_with = "or_default")]
    adapter_response: AdapterResponse,
    failures: Option<i64>,
    compiled_code: Option<String>,
}

#[derive(Deserialize, Default)]
struct AdapterResponse {
    // Adapters write -1, a float or nothing where they do not know.
    rows_affected: Option<serde_json::Value>,
}

impl From<RawResult> for NodeResult {
    fn from(raw: RawResult) -> Self {
        Self {
            unique_id: raw.unique_id,
            status: Status::from_word(raw.status),
            message: raw.message,
            execution_time: raw.execution_time,
            rows_affected: raw.adapter_response.rows_affected.and_then(|n| n.as_u64()),
            failures: raw.failures.and_then(|n| n.try_into().ok()),
            compiled: raw.compiled_code,
        }
    }
}

/// Feeds arbitrary bytes to the parser, for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let _ = RunResults::parse(bytes);
}

#[cfg(test)]
mod tests;
