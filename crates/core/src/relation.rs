//! What can be observed of a relation, whatever the engine.

use crate::ident::RelationName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What sort of object a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// Rows of its own.
    Table,
    /// A stored query.
    View,
    /// A stored query with stored rows.
    MaterializedView,
    /// A number generator.
    Sequence,
    /// A SQL macro or function that lives in the catalog.
    Macro,
    /// A user-defined type (enum, composite).
    Type,
    /// A whole file that could not be looked into; its definition is a hash of its bytes.
    File,
}

impl RelationKind {
    /// The word a person reads.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Sequence => "sequence",
            Self::Macro => "macro",
            Self::Type => "type",
            Self::File => "file",
        }
    }
}

/// One column, in the relation's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name as the catalog spells it.
    pub name: String,
    /// Its type as the engine prints it.
    pub data_type: String,
    /// Whether it may hold `NULL`.
    pub nullable: bool,
}

/// An order-independent digest of a relation's rows.
///
/// `whole` is the sum of one hash per row, each `columns` entry the sum of one hash per cell, so
/// that equal multisets of rows have equal fingerprints whatever their order, and a difference
/// names its columns. Sums, not XOR: a row that stands twice must not cancel itself out. It detects
/// accidents, not forgery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The engine's hash function and version. Fingerprints of different methods cannot be
    /// compared; the relation must then be fingerprinted again from its restore point.
    pub method: String,
    /// How many rows.
    pub rows: u64,
    /// The sum of the rows' hashes, in decimal.
    pub whole: String,
    /// The sum of each column's hashes, in decimal, by column name.
    pub columns: BTreeMap<String, String>,
}

/// Everything observed of one relation at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationState {
    /// What it is.
    pub kind: RelationKind,
    /// Its columns; empty for what has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// The statements that would make it again without its rows, one a line, in the engine's own
    /// normalised text: definition, keys, checks, defaults, indexes, comments. Two relations with
    /// equal text have equal schemas.
    pub definition: String,
    /// Relations that read this one, as far as the engine's catalog says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<RelationName>,
    /// Exact row count; `None` where nothing has been counted (views, sequences).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Digest of the rows; `None` where there are none or nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// A cheap digest of where and how the engine stores the rows. Equal storage in the same file
    /// lineage means that nothing rewrote the relation; different storage means nothing at all. An
    /// engine that tells relations apart gives what has no rows its identity here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

/// How two observations of one relation differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Same schema, same rows.
    None,
    /// The schema differs (and the rows may).
    Schema,
    /// Same schema, other rows.
    Rows,
    /// Same schema; the rows cannot be compared with what was observed.
    Unknown,
}

impl RelationState {
    /// Compares two observations, without guessing: what cannot be told is `Unknown`.
    pub fn difference(&self, other: &RelationState) -> Difference {
        if self.kind != other.kind
            || self.definition != other.definition
            || self.columns != other.columns
        {
            return Difference::Schema;
        }
        match self.kind {
            RelationKind::View
            | RelationKind::Sequence
            | RelationKind::Macro
            | RelationKind::Type
            | RelationKind::File => return Difference::None,
            RelationKind::Table | RelationKind::MaterializedView => {}
        }
        match (&self.fingerprint, &other.fingerprint) {
            (Some(a), Some(b)) if a.method == b.method => {
                if a.whole == b.whole && a.rows == b.rows && a.columns == b.columns {
                    Difference::None
                } else {
                    Difference::Rows
                }
            }
            // Deleted rows may be marked elsewhere than where rows are stored.
            _ if self.rows.is_some() && other.rows.is_some() && self.rows != other.rows => {
                Difference::Rows
            }
            _ if self.storage.is_some() && self.storage == other.storage => Difference::None,
            _ => Difference::Unknown,
        }
    }
}
