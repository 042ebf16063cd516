//! dbt's `sources.json`: how fresh the raw data was.

use super::{
    json::{ArtefactError, or_default, read, schema_version},
    run_results::Metadata,
};
use serde::Deserialize;

/// What `dbt source freshness` found.
#[derive(Debug, Clone, PartialEq)]
pub struct Freshness {
    /// Which command wrote it.
    pub invocation_id: Option<String>,
    /// When dbt wrote it.
    pub generated_at: Option<jiff::Timestamp>,
    /// One entry a source.
    pub sources: Vec<SourceFreshness>,
}

/// How fresh one source was.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFreshness {
    /// Which source.
    pub unique_id: String,
    /// `pass`, `warn`, `error` or `runtime error`.
    pub status: String,
    /// The newest row's time; `None` if it could not be found out.
    pub max_loaded_at: Option<jiff::Timestamp>,
    /// The age of the newest row when dbt looked, in seconds.
    pub age: Option<f64>,
    /// Why it could not be found out.
    pub error: Option<String>,
}

impl Freshness {
    /// Reads a `sources.json`, whatever the bytes are.
    ///
    /// # Errors
    /// When they are not JSON of dbt's shape, or follow a schema other than v3.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtefactError> {
        let raw: Raw = read("sources", bytes)?;
        schema_version("sources", &raw.metadata.dbt_schema_version, 3..=3)?;
        Ok(Self {
            invocation_id: raw.metadata.invocation_id,
            generated_at: raw.metadata.generated_at.and_then(|at| at.parse().ok()),
            sources: raw.results.into_iter().map(SourceFreshness::from).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    results: Vec<RawSource>,
}

#[derive(Deserialize)]
struct RawSource {
    unique_id: String,
    status: String,
    max_loaded_at: Option<String>,
    max_loaded_at_time_ago_in_s: Option<f64>,
    error: Option<serde_json::Value>,
}

impl From<RawSource> for SourceFreshness {
    fn from(raw: RawSource) -> Self {
        Self {
            unique_id: raw.unique_id,
            status: raw.status,
            max_loaded_at: raw.max_loaded_at.and_then(|at| at.parse().ok()),
            age: raw.max_loaded_at_time_ago_in_s,
            error: raw.error.and_then(|e| e.as_str().map(str::to_owned)),
        }
    }
}

/// Feeds arbitrary bytes to the parser, for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let _ = Freshness::parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_could_not_be_asked_keeps_its_error() {
        let text = r#"{"metadata":{"dbt_schema_version":"https://schemas.getdbt.com/dbt/sources/v3.json"},
            "results":[
              {"unique_id":"source.a.b.c","status":"warn","max_loaded_at":"2026-01-02T03:04:05Z",
               "max_loaded_at_time_ago_in_s":12.5,"snapshotted_at":"2026-01-02T03:04:17Z"},
              {"unique_id":"source.a.b.d","status":"runtime error","error":"no such table"}]}"#;
        let freshness = Freshness::parse(text.as_bytes()).unwrap();
        assert_eq!(freshness.sources[0].age, Some(12.5));
        assert!(freshness.sources[0].max_loaded_at.is_some());
        assert_eq!(freshness.sources[1].error.as_deref(), Some("no such table"));
    }
}
