//! What a step does, as it stands in a plan.

use crate::duckdb::sql::others::Added;
use crate::duckdb::sql::rows::Chosen;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::plan::Action;
use unship_core::relation::Fingerprint;

/// What a step does. Serialised into [`Action`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum DuckAction {
    /// Writes a packed point to a new file.
    Unpack {
        /// Whose store.
        file: PathBuf,
        /// Which point.
        point: ReleaseId,
        /// The new file.
        to: PathBuf,
    },
    /// Clones a file to a new one.
    Clone {
        /// The original.
        from: PathBuf,
        /// The new file.
        to: PathBuf,
    },
    /// Clones a file and brings chosen relations into the clone, in one transaction a source.
    Assemble {
        /// The production file that it is about.
        live: PathBuf,
        /// What is cloned: production, or a build.
        base: PathBuf,
        /// The new file.
        to: PathBuf,
        /// What to bring from which file, with the fingerprints it must have afterwards.
        sources: Vec<Source>,
        /// What to remove.
        remove: BTreeSet<RelationName>,
        /// What others added to relations that are brought, and is put into them again.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        keep: BTreeMap<RelationName, Added>,
    },
    /// Clones production and brings rows of older versions into the clone.
    Exchange {
        /// The production file, which is cloned.
        live: PathBuf,
        /// The new file.
        to: PathBuf,
        /// The rows of each relation.
        rows: Vec<RowsFrom>,
    },
    /// Makes a file production and retains the old one.
    Swap {
        /// The production file.
        live: PathBuf,
        /// What becomes production.
        incoming: PathBuf,
        /// Where the old one is kept.
        retired: PathBuf,
    },
    /// Packs production into the store as a release's point.
    Pack {
        /// The production file.
        live: PathBuf,
        /// The release that is live.
        point: ReleaseId,
    },
    /// Writes a packed point's differing blocks over production.
    Patch {
        /// The production file.
        live: PathBuf,
        /// Which point.
        point: ReleaseId,
    },
}

/// A file that relations are brought from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The relations, with the fingerprint that was recorded of each, where one was.
    pub relations: BTreeMap<RelationName, Option<Fingerprint>>,
}

/// Rows of one relation, and the file that they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsFrom {
    /// The file.
    pub path: PathBuf,
    /// The relation.
    pub relation: RelationName,
    /// The rows.
    pub chosen: Chosen,
    /// What all of the relation is afterwards.
    pub after: Fingerprint,
}

impl DuckAction {
    pub(super) fn action(&self) -> Result<Action, EngineError> {
        let value = serde_json::to_value(self).map_err(|e| internal(&e))?;
        serde_json::from_value(value).map_err(|e| internal(&e))
    }

    /// Reads an action back from a plan.
    pub fn of(action: &Action) -> Result<Self, EngineError> {
        serde_json::to_value(action)
            .and_then(serde_json::from_value)
            .map_err(|e| {
                EngineError::new(
                    ErrorKind::Unsupported,
                    "the plan has a step that is not known here",
                )
                .because(e)
                .hint("it may come from a newer unship")
            })
    }
}

fn internal(error: &serde_json::Error) -> EngineError {
    EngineError::new(
        ErrorKind::Io,
        format!("a step could not be written down: {error}"),
    )
}
