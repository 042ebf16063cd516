//! What engines, operations and recovery are tested with: an engine in memory, faults at every
//! boundary, and the suite that every engine must pass. Behind the feature `testing`.

pub mod conformance;
#[cfg(target_os = "linux")]
pub mod disk;
pub mod faulty;
pub mod long;
pub mod memory;
pub mod pair;
pub mod world;

use crate::ident::RelationName;
use std::collections::BTreeMap;

/// Says why a test cannot be played here. With `UNSHIP_TEST_STRICT=1` it fails instead, so that where
/// everything is there none passes without having tested anything.
#[track_caller]
#[expect(
    clippy::print_stdout,
    reason = "only tests call it, and whoever reads their output is told"
)]
pub fn skipped(why: &str) {
    let strict = std::env::var("UNSHIP_TEST_STRICT").is_ok_and(|set| set == "1");
    assert!(!strict, "skipped: {why}");
    println!("skipped: {why}");
}

/// One row; every column of a test's table holds 64-bit integers.
pub type Row = Vec<i64>;

/// A table as a test sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The columns' names, in order.
    pub columns: Vec<String>,
    /// The rows, sorted: two tables with the same rows are equal.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table with these columns and rows.
    pub fn new(columns: &[&str], rows: impl IntoIterator<Item = Row>) -> Self {
        let mut table = Self {
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            rows: rows.into_iter().collect(),
        };
        table.rows.sort();
        table
    }
}

/// Everything that stands at one place.
pub type Contents = BTreeMap<RelationName, Table>;

/// What a job, or somebody else, does to one relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Makes the table, in place of one that may be there.
    Replace(RelationName, Table),
    /// Adds rows to a table that is there.
    Insert(RelationName, Vec<Row>),
    /// Removes a table that is there.
    Drop(RelationName),
}

impl Write {
    /// The relation that is written to.
    pub fn relation(&self) -> &RelationName {
        match self {
            Self::Replace(name, _) | Self::Insert(name, _) | Self::Drop(name) => name,
        }
    }

    /// What the write makes of the relation.
    pub fn on(&self, before: Option<&Table>) -> Option<Table> {
        match self {
            Self::Replace(_, table) => Some(table.clone()),
            Self::Insert(_, rows) => before.map(|table| {
                let mut table = table.clone();
                table.rows.extend(rows.iter().cloned());
                table.rows.sort();
                table
            }),
            Self::Drop(_) => None,
        }
    }

    /// Carries the write out on a copy of everything.
    pub fn apply(&self, contents: &mut Contents) {
        let name = self.relation();
        match self.on(contents.get(name)) {
            Some(table) => drop(contents.insert(name.clone(), table)),
            None => drop(contents.remove(name)),
        }
    }
}
