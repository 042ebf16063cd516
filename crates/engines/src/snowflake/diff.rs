//! How one table differs from another place's: columns, rows, cells. Snowflake does the work; only
//! counts and a few examples come over the line.

use super::catalog::{self, Extent, Relation};
use super::measure;
use super::session::{Row, Session, cell, number};
use super::sql::{self, Place as At};
use std::collections::BTreeSet;
use unship_core::diff::{Cells, Change, Example, RelationDiff, SchemaDiff};
use unship_core::engine::{EngineError, ErrorKind, Place};
use unship_core::ident::RelationName;
use unship_core::relation::RelationKind;

/// Compares a table at one place with a table at another. A key is used where both sides have it,
/// each value once; otherwise rows are compared as wholes, and a row that stands twice counts twice.
pub fn diff(
    session: &Session,
    old: (Place, &RelationName),
    new: (Place, &RelationName),
    key: Option<&[String]>,
    examples: u64,
) -> Result<RelationDiff, EngineError> {
    let (old, before) = side(session, old.0, old.1)?;
    let (new, after) = side(session, new.0, new.1)?;
    let columns: Vec<String> = after
        .columns
        .iter()
        .filter(|c| before.columns.iter().any(|b| b.name == c.name))
        .map(|c| c.name.clone())
        .collect();
    let mut answer = RelationDiff {
        schema: SchemaDiff::between(
            (&before.columns, &before.definition()),
            (&after.columns, &after.definition()),
            |one, other| one == other,
        ),
        ..RelationDiff::default()
    };
    if columns.is_empty() {
        return Err(EngineError::new(
            ErrorKind::Unsupported,
            format!("{old} and {new} have no column in common"),
        ));
    }
    let pair = Pair {
        session,
        old,
        new,
        columns,
    };
    match key.map(|key| pair.key(key)).transpose()? {
        Some(Ok(key)) => pair.by_key(&key, examples, &mut answer)?,
        refused => {
            answer.key_refused = refused.and_then(Result::err);
            pair.as_wholes(examples, &mut answer)?;
        }
    }
    Ok(answer)
}

fn side(
    session: &Session,
    place: Place,
    name: &RelationName,
) -> Result<(At, Relation), EngineError> {
    let at = measure::needed(session, place, name)?;
    let scope = BTreeSet::from([at.schema.clone()]);
    let relation = catalog::load(session, &scope, Extent::All)?.remove(&at);
    let relation = relation.ok_or_else(|| super::session::missing(&at))?;
    if relation.kind == RelationKind::View {
        let text = format!("{name} is no table there, so there are no rows of its own to compare");
        return Err(EngineError::new(ErrorKind::Unsupported, text));
    }
    Ok((at, relation))
}

struct Pair<'a> {
    session: &'a Session,
    old: At,
    new: At,
    columns: Vec<String>,
}

impl Pair<'_> {
    fn one(&self, statement: &str) -> Result<Row, EngineError> {
        let rows = self.session.rows(statement, &self.what())?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    fn what(&self) -> String {
        format!("compare {} with {}", self.old, self.new)
    }

    fn count(&self, row: &Row, n: usize) -> Result<u64, EngineError> {
        number(cell(row, n)).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Query,
                format!("could not {}: no number", self.what()),
            )
        })
    }

    /// The key's columns, or why it is not used.
    fn key(&self, key: &[String]) -> Result<Result<Vec<String>, String>, EngineError> {
        let mut out = Vec::new();
        for wanted in key {
            // As a person writes it: exactly, or in any case where only one column can be meant.
            let same: Vec<&String> = self
                .columns
                .iter()
                .filter(|c| c.eq_ignore_ascii_case(wanted))
                .collect();
            match (self.columns.contains(wanted), same.as_slice()) {
                (true, _) => out.push(wanted.clone()),
                (false, [one]) => out.push((*one).clone()),
                _ => return Ok(Err(format!("{wanted} is not a column of both"))),
            }
        }
        if out.is_empty() {
            return Ok(Err("it has no column".to_owned()));
        }
        for at in [&self.old, &self.new] {
            let row = self.one(&sql::key_faults(at, &out))?;
            if self.count(&row, 0)? > 0 {
                return Ok(Err(format!(
                    "it is not one in {at}: a value is missing or stands twice"
                )));
            }
        }
        Ok(Ok(out))
    }

    fn by_key(
        &self,
        key: &[String],
        examples: u64,
        answer: &mut RelationDiff,
    ) -> Result<(), EngineError> {
        let rest: Vec<String> = self
            .columns
            .iter()
            .filter(|c| !key.contains(c))
            .cloned()
            .collect();
        let row = self.one(&sql::by_key(&self.old, &self.new, key, &rest))?;
        answer.key = Some(key.to_vec());
        answer.added = self.count(&row, 0)?;
        answer.removed = self.count(&row, 1)?;
        answer.changed = self.count(&row, 2)?;
        answer.unchanged = self.count(&row, 3)?;
        for (n, column) in rest.iter().enumerate() {
            let differs = self.count(&row, n + 4)?;
            if differs > 0 {
                answer.columns.insert(column.clone(), differs);
            }
        }
        if answer.changed > 0 && examples > 0 {
            let statement = sql::changed(&self.old, &self.new, key, &self.columns, examples);
            for row in self.session.rows(&statement, &self.what())? {
                let (old, new) = row.split_at(row.len().min(self.columns.len()));
                answer.examples.push(Example {
                    change: Change::Changed,
                    key: self
                        .cells(old)
                        .into_iter()
                        .filter(|(n, _)| key.contains(n))
                        .collect(),
                    old: self.cells(old),
                    new: self.cells(new),
                });
            }
        }
        self.one_sided(Some(key), examples, answer)
    }

    fn as_wholes(&self, examples: u64, answer: &mut RelationDiff) -> Result<(), EngineError> {
        let row = self.one(&sql::difference(&self.old, &self.new, &self.columns))?;
        answer.added = self.count(&row, 0)?;
        answer.removed = self.count(&row, 1)?;
        answer.unchanged = self.count(&row, 2)?;
        self.one_sided(None, examples, answer)
    }

    fn cells(&self, row: &[unship_core::value::Value]) -> Cells {
        self.columns
            .iter()
            .cloned()
            .zip(row.iter().cloned())
            .collect()
    }

    /// Examples of rows that only one side has. With a key, a row that changed is not one.
    fn one_sided(
        &self,
        key: Option<&[String]>,
        examples: u64,
        answer: &mut RelationDiff,
    ) -> Result<(), EngineError> {
        for (added, some) in [(true, answer.added), (false, answer.removed)] {
            if some == 0 || examples == 0 {
                continue;
            }
            let matched = key.unwrap_or(&self.columns);
            let statement = match key {
                None => sql::examples(&self.old, &self.new, matched, added, examples),
                Some(key) => sql::only(&self.old, &self.new, key, &self.columns, added, examples),
            };
            for row in self.session.rows(&statement, &self.what())? {
                let cells = self.cells(&row);
                let of_key = key.unwrap_or_default();
                answer.examples.push(Example {
                    change: if added {
                        Change::Added
                    } else {
                        Change::Removed
                    },
                    key: cells
                        .iter()
                        .filter(|(n, _)| of_key.contains(n))
                        .cloned()
                        .collect(),
                    old: if added { Cells::new() } else { cells.clone() },
                    new: if added { cells } else { Cells::new() },
                });
            }
        }
        Ok(())
    }
}
