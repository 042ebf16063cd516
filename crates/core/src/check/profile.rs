//! What is measured of a relation, in one scan.

use super::access::Access;
use crate::ident::RelationName;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How much of a relation is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// How many rows it has. A large relation may answer from the engine's own counters.
    Rows,
    /// The same, exactly, and everything of its columns.
    Columns,
}

/// What was measured of a relation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RelationProfile {
    /// How many rows it has.
    pub rows: u64,
    /// Its columns, in the relation's order; none where only rows were counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnProfile>,
    /// How many rows each source had that it is made from, directly or not: a change of these
    /// explains a change of this one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<RelationName, u64>,
    /// How long it took to build, in seconds, by the pipeline's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Who may do what with it, as production; `None` where the engine has no roles. Of a build it
    /// is what production's relation gives, which goes over to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

impl RelationProfile {
    /// A column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnProfile> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// What was measured of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Its name, as the catalog spells it.
    pub name: String,
    /// Its type, as the engine prints it.
    pub data_type: String,
    /// Whether it may hold `NULL`.
    pub nullable: bool,
    /// How many cells are `NULL`.
    pub nulls: u64,
    /// About how many different values it has, by the engine's own estimate; `None` where the
    /// engine has none, or it would cost more than it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// What its type and values allow to be measured; `None` for other types, and where every cell
    /// is `NULL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
}

/// What was measured of a column's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// Of numbers. They are binary floating-point numbers here, so that a sum of exact decimals is
    /// right to about 15 digits.
    Numbers {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
        /// Their sum.
        sum: f64,
        /// Their mean, over the cells that are not `NULL`.
        mean: f64,
        /// Whether the type holds whole numbers only.
        whole: bool,
    },
    /// Of dates and timestamps, as the engine prints them in UTC.
    Moments {
        /// The first.
        first: String,
        /// The last.
        last: String,
    },
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows, at most as many as were asked for.
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more.
    pub truncated: bool,
    /// How long the query took.
    pub took: Duration,
}
