//! A query's answer, and how its cells get here exactly.

use super::error::WorkerError;
use super::protocol::unhex;
use unship_core::value::Value;

/// A query's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Each column's name and its type as DuckDB prints it.
    pub columns: Vec<(String, String)>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more rows than asked for.
    pub truncated: bool,
}

/// How a column's cells become text in DuckDB and a [`Value`] here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Bytes,
    Text,
}

impl Kind {
    pub(super) fn of(data_type: &str) -> Self {
        match data_type {
            "BOOLEAN" => Self::Bool,
            "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "HUGEINT" | "UTINYINT"
            | "USMALLINT" | "UINTEGER" | "UBIGINT" => Self::Int,
            "FLOAT" | "DOUBLE" => Self::Float,
            "BLOB" => Self::Bytes,
            _ => Self::Text,
        }
    }

    pub(super) fn as_text(self, cell: &str) -> String {
        match self {
            // Widened first: the shortest text of a 32-bit float is another 64-bit number.
            Self::Float => format!("CAST(CAST({cell} AS DOUBLE) AS VARCHAR)"),
            Self::Bytes => format!("hex({cell})"),
            Self::Bool | Self::Int | Self::Text => format!("CAST({cell} AS VARCHAR)"),
        }
    }

    pub(super) fn value(self, cell: Option<String>) -> Result<Value, WorkerError> {
        let Some(text) = cell else {
            return Ok(Value::Null);
        };
        let value = match self {
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Int => text.parse().ok().map(Value::Int),
            Self::Float => text.parse().ok().map(Value::Float),
            Self::Bytes => unhex(&text).map(Value::Bytes),
            Self::Text => return Ok(Value::Text(text)),
        };
        value.ok_or_else(|| WorkerError::Garbled(format!("`{text}` is no {self:?}")))
    }
}
