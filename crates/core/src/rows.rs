//! Rows: a part of a relation that comes from an older version while the rest stays as it is.
//!
//! Which rows is said by a predicate. What a predicate means is the engine's to say: it has to be one
//! expression of the relation's own columns that means the same rows whenever it is asked.

use crate::engine::PointMap;
use crate::ident::{RelationName, ReleaseId};
use crate::relation::{Fingerprint, RelationState};
use crate::release::Version;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Which rows of a relation are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// Those for which this expression is true.
    Where(String),
    /// Those that have this value in this column; the engine reads it as the column's type.
    Value {
        /// The column, as the catalog spells it.
        column: String,
        /// The value as text.
        value: String,
    },
    /// Those of the relation's partition of this name.
    Partition(String),
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Where(predicate) => write!(f, "where {predicate}"),
            Self::Value { column, value } => write!(f, "where {column} is {value}"),
            Self::Partition(name) => write!(f, "in the partition {name}"),
        }
    }
}

/// Rows that are brought back by a rollback, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciling {
    /// Which.
    pub rows: Rows,
    /// What they were at this moment, where tables have an undo log, and not when the release was
    /// published that is gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why, in a person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The version that a relation has, and the one whose rows are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// What is live.
    pub now: Version,
    /// What the rows come from.
    pub then: Version,
}

/// What a rollback of rows shall bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsRequest {
    /// The release that will be made by it.
    pub release: ReleaseId,
    /// What is live now.
    pub live: ReleaseId,
    /// Which rows, and why.
    pub reconciling: Reconciling,
    /// Of which relations.
    pub relations: BTreeMap<RelationName, Pair>,
    /// Retained states and what each holds.
    pub points: Vec<PointMap>,
    /// Who asks for it.
    pub who: String,
}

/// What was found of one relation's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// How many rows go out of production.
    pub out: u64,
    /// How many of the older version come in.
    pub back: u64,
    /// Whether the two are the same rows, so that there is nothing to do.
    pub same: bool,
    /// What the relation will be.
    pub after: RelationState,
    /// What a person should know of it, each a sentence.
    pub notes: Vec<String>,
}

/// What planning a rollback of rows needs to know beyond the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsSurvey {
    /// Each relation's slice.
    pub slices: BTreeMap<RelationName, Slice>,
    /// The engine's own part.
    pub engine: serde_json::Value,
}

/// The fingerprint of a relation in which some rows gave way to others: fingerprints are sums over
/// rows, so that neither the relation's other rows nor all of them need to be read for it. `None`
/// where the three were not taken by the same method or are no sums.
pub fn exchanged(
    whole: &Fingerprint,
    out: &Fingerprint,
    back: &Fingerprint,
) -> Option<Fingerprint> {
    if whole.method != out.method || whole.method != back.method {
        return None;
    }
    let sum = |whole: &str, out: &str, back: &str| -> Option<String> {
        let number = |text: &str| text.parse::<i128>().ok();
        let rest = number(whole)?.checked_sub(number(out)?)?;
        Some(rest.checked_add(number(back)?)?.to_string())
    };
    let mut columns = BTreeMap::new();
    for (name, digest) in &whole.columns {
        let digest = sum(digest, out.columns.get(name)?, back.columns.get(name)?)?;
        columns.insert(name.clone(), digest);
    }
    Some(Fingerprint {
        method: whole.method.clone(),
        rows: whole.rows.checked_sub(out.rows)?.checked_add(back.rows)?,
        whole: sum(&whole.whole, &out.whole, &back.whole)?,
        columns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A fingerprint as the engines take it, of rows of one column.
    fn print(rows: &[i64]) -> Fingerprint {
        let sum = rows.iter().map(|row| i128::from(*row)).sum::<i128>();
        Fingerprint {
            method: "sum".to_owned(),
            rows: rows.len() as u64,
            whole: (sum * 7).to_string(),
            columns: BTreeMap::from([("a".to_owned(), sum.to_string())]),
        }
    }

    proptest! {
        #[test]
        fn what_is_computed_is_what_would_be_read(
            stay in prop::collection::vec(any::<i64>(), 0..20),
            out in prop::collection::vec(any::<i64>(), 0..20),
            back in prop::collection::vec(any::<i64>(), 0..20),
        ) {
            let of = |more: &[i64]| print(&[&stay, more].concat());
            prop_assert_eq!(exchanged(&of(&out), &print(&out), &print(&back)), Some(of(&back)));
        }
    }

    #[test]
    fn sums_of_different_kinds_are_not_added() {
        let other = Fingerprint {
            method: "other".to_owned(),
            ..print(&[1])
        };
        assert_eq!(exchanged(&print(&[1]), &other, &print(&[])), None);
        assert_eq!(exchanged(&print(&[]), &print(&[1]), &print(&[])), None);
    }
}
