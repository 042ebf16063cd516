//! Output: tables and colours for people, JSON for machines, progress on standard error.

pub mod decision;
pub mod findings;
pub mod plan;
mod progress;
pub mod release;
pub mod text;

pub use progress::Terminal;

use crate::error::{CliError, CliResult};
use serde::Serialize;

/// Prints a document for machines. Its `schema` names its shape and version.
pub fn json(schema: &str, value: &impl Serialize) -> CliResult<()> {
    let mut value = serde_json::to_value(value).map_err(|e| CliError::failed(e.to_string()))?;
    if let Some(object) = value.as_object_mut() {
        object.insert("schema".to_owned(), schema.into());
    }
    let text = serde_json::to_string_pretty(&value).map_err(|e| CliError::failed(e.to_string()))?;
    crate::say!("{text}");
    Ok(())
}
