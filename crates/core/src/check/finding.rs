//! What a check found.

use crate::ident::RelationName;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad it is if a check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Warnings: watch, and fix forward.
    Low,
    /// Unexpected results: a person decides.
    Medium,
    /// Failed quality tests.
    High,
    /// Data lost or corrupt, a key that is none, access lost.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// Cannot be told: too little history, or the check could not be carried out. Never a pass.
    Unknown,
}

/// One check's result for one relation or column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's id, stable from release to release: `rows`, `dbt:not_null_orders_id`, or the name
    /// that a declared check has.
    pub check: String,
    /// What was looked at, if it was one relation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<RelationName>,
    /// The column, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How bad it is if it failed.
    pub severity: Severity,
    /// What was seen, in words.
    pub observed: String,
    /// What was expected, in words.
    pub expected: String,
    /// Rows that show it, at most as many as were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<Examples>,
    /// The SQL that shows more, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
}

/// Rows that show what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows, a value for each column.
    pub rows: Vec<Vec<Value>>,
}
