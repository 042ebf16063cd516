//! How one relation differs from another, row by row.

use crate::relation::Column;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A column that both sides have, with another type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retyped {
    /// Its name in the new table.
    pub name: String,
    /// Its old type.
    pub old: String,
    /// Its new type.
    pub new: String,
}

/// How the two tables' columns and definitions differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SchemaDiff {
    /// Columns that only the new table has.
    pub added: Vec<Column>,
    /// Columns that only the old table has.
    pub removed: Vec<Column>,
    /// Columns with another type.
    pub retyped: Vec<Retyped>,
    /// Columns that may hold `NULL` on one side only, as the new table has them.
    pub nullability: Vec<Column>,
    /// The old and the new definition, where they differ.
    pub definition: Option<(String, String)>,
}

impl SchemaDiff {
    /// How `old` and `new`, columns and a definition each, differ, where two names mean the same
    /// column if the engine's own rule, `same_name`, says so.
    pub fn between(
        old: (&[Column], &str),
        new: (&[Column], &str),
        same_name: impl Fn(&str, &str) -> bool,
    ) -> Self {
        let find = |columns: &[Column], name: &str| {
            let found = columns.iter().find(|c| same_name(&c.name, name));
            found.cloned()
        };
        let without = |these: &[Column], those: &[Column]| {
            let missing = these.iter().filter(|c| find(those, &c.name).is_none());
            missing.cloned().collect()
        };
        let mut answer = Self {
            added: without(new.0, old.0),
            removed: without(old.0, new.0),
            ..Self::default()
        };
        for column in new.0 {
            let Some(before) = find(old.0, &column.name) else {
                continue;
            };
            if before.data_type != column.data_type {
                answer.retyped.push(Retyped {
                    name: column.name.clone(),
                    old: before.data_type,
                    new: column.data_type.clone(),
                });
            }
            if before.nullable != column.nullable {
                answer.nullability.push(column.clone());
            }
        }
        if old.1 != new.1 {
            answer.definition = Some((old.1.to_owned(), new.1.to_owned()));
        }
        answer
    }
}

/// What an example shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A row that only the new table has.
    Added,
    /// A row that only the old table has.
    Removed,
    /// A row with the same key and other cells.
    Changed,
}

/// Cells by column name, in the table's order.
pub type Cells = Vec<(String, Value)>;

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// How.
    pub change: Change,
    /// Its key; empty where there is none.
    pub key: Cells,
    /// The whole old row; empty for an added one.
    pub old: Cells,
    /// The whole new row; empty for a removed one.
    pub new: Cells,
}

/// How one table differs from another.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RelationDiff {
    /// Columns and definition.
    pub schema: SchemaDiff,
    /// The key that rows were matched by; `None` if whole rows were compared.
    pub key: Option<Vec<String>>,
    /// Why a key that was given was not used.
    pub key_refused: Option<String>,
    /// Rows that only the new table has.
    pub added: u64,
    /// Rows that only the old table has.
    pub removed: u64,
    /// Rows of the same key whose cells differ; always 0 without a key.
    pub changed: u64,
    /// Rows that are the same in every column that both tables have.
    pub unchanged: u64,
    /// In how many of the changed rows each column differs; columns without a change are left out.
    pub columns: BTreeMap<String, u64>,
    /// Some rows of each sort, in the order of the key.
    pub examples: Vec<Example>,
}
