//! dbt's artefacts: `manifest.json`, `run_results.json` and `sources.json`.

mod json;
pub mod manifest;
pub mod run_results;
pub mod sources;

pub use json::ArtefactError;
