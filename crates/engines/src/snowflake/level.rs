//! What is exchanged in one statement.

use serde::{Deserialize, Serialize};

/// The most that one statement exchanges when a release is published or taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A table.
    #[default]
    Table,
    /// A schema, where the release replaces all that is in it; elsewhere a table.
    Schema,
}
