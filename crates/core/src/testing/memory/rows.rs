//! Rows in memory: what a predicate means, and one slice in place of another.

use super::Memory;
use super::plan::{self, Held};
use super::warehouse::{Disk, Slot};
use crate::engine::{EngineError, ErrorKind};
use crate::rows::{Rows, RowsRequest, RowsSurvey, Slice};
use crate::testing::{Row, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A comparison of a column with a number: all that a predicate can be here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Test {
    column: String,
    than: String,
    value: i64,
}

impl Test {
    pub(super) fn of(rows: &Rows) -> Result<Self, EngineError> {
        let refused =
            || EngineError::new(ErrorKind::Refused, format!("not one comparison: {rows}"));
        let (column, than, value) = match rows {
            Rows::Where(text) => {
                let words: Vec<&str> = text.split(' ').collect();
                match words.as_slice() {
                    [column, than @ ("=" | "<" | ">"), value] => (*column, *than, *value),
                    _ => return Err(refused()),
                }
            }
            Rows::Value { column, value } => (column.as_str(), "=", value.as_str()),
            Rows::Partition(_) => return Err(refused()),
        };
        Ok(Self {
            column: column.to_owned(),
            than: than.to_owned(),
            value: value.parse().map_err(|_| refused())?,
        })
    }

    /// The rows that are meant, and the others.
    fn split(&self, table: &Table) -> Result<(Vec<Row>, Vec<Row>), EngineError> {
        let at = table.columns.iter().position(|c| *c == self.column);
        let at = at.ok_or_else(|| {
            EngineError::new(ErrorKind::Refused, format!("no column {}", self.column))
        })?;
        let rows = table.rows.iter().cloned();
        Ok(rows.partition(|row| {
            let order = row.get(at).map(|cell| cell.cmp(&self.value));
            match self.than.as_str() {
                "<" => order == Some(std::cmp::Ordering::Less),
                ">" => order == Some(std::cmp::Ordering::Greater),
                _ => order == Some(std::cmp::Ordering::Equal),
            }
        }))
    }
}

/// What a table is when the rows that are meant are as in another.
pub(super) fn exchange(now: &Table, then: &Table, test: &Test) -> Result<Exchanged, EngineError> {
    let (out, mut rows) = test.split(now)?;
    let (back, _) = test.split(then)?;
    let places: Option<Vec<usize>> = (now.columns.iter())
        .map(|name| then.columns.iter().position(|column| column == name))
        .collect();
    let places = places.ok_or_else(|| {
        EngineError::new(ErrorKind::Refused, "a column is not in the older version")
    })?;
    let fitted = back.iter().map(|row| {
        let cells = places.iter().filter_map(|at| row.get(*at).copied());
        cells.collect::<Vec<i64>>()
    });
    let back: Vec<Vec<i64>> = fitted.collect();
    rows.extend(back.iter().cloned());
    rows.sort();
    Ok(Exchanged {
        after: Table {
            columns: now.columns.clone(),
            rows,
        },
        out,
        back,
    })
}

/// A table with rows of another, and the rows that changed places.
pub(super) struct Exchanged {
    pub(super) after: Table,
    out: Vec<Vec<i64>>,
    back: Vec<Vec<i64>>,
}

impl Memory {
    pub(super) fn rows(&self, request: &RowsRequest) -> Result<RowsSurvey, EngineError> {
        let disk = self.warehouse.disk();
        let test = Test::of(&request.reconciling.rows)?;
        let mut slices = BTreeMap::new();
        for (name, pair) in &request.relations {
            let held = Held::find(&request.points, name, &pair.then, |release| {
                disk.files
                    .contains_key(&Slot::Point(release, name.database.clone()))
            })?;
            let source = Slot::Point(held, name.database.clone());
            let live = Slot::Live(name.database.clone());
            let mut done = exchange(
                table(&disk, &live, name)?,
                table(&disk, &source, name)?,
                &test,
            )?;
            done.back.sort();
            done.out.sort();
            let mut after = super::state(&done.after, String::new(), true);
            after.storage = None;
            slices.insert(
                name.clone(),
                Slice {
                    out: done.out.len() as u64,
                    back: done.back.len() as u64,
                    same: done.out == done.back,
                    after,
                    notes: Vec::new(),
                },
            );
        }
        drop(disk);
        let engine = serde_json::to_value(self.files(request.release)?);
        Ok(RowsSurvey {
            slices,
            engine: engine.map_err(|e| plan::internal(&e))?,
        })
    }
}

fn table<'a>(
    disk: &'a Disk,
    slot: &Slot,
    name: &crate::ident::RelationName,
) -> Result<&'a Table, EngineError> {
    let stored = disk.file(slot)?.relations.get(name);
    let stored = stored
        .ok_or_else(|| EngineError::new(ErrorKind::Missing, format!("{slot} has no {name}")))?;
    Ok(&stored.table)
}
