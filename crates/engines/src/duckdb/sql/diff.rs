//! How one table differs between two files: columns, rows, cells.
//!
//! DuckDB does the work within its memory limit, and spills; only counts and a few examples come
//! over the pipe.

use super::catalog::Catalog;
use super::fingerprint::{columns, is_hashed_as_it_is};
use super::observe::definitions;
use super::quote;
use crate::duckdb::worker::{Worker, WorkerError};
use unship_core::diff::{Cells, Change, Example, RelationDiff, SchemaDiff};
use unship_core::ident::RelationName;
use unship_core::relation::{Column, RelationKind};
use unship_core::value::Value;

/// Why two relations were not compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// Only tables have rows of their own: a view that is read through another catalog name may
    /// read the wrong file.
    #[error("{relation} is no table there, so there are no rows of its own to compare")]
    NotATable {
        /// The relation.
        relation: RelationName,
    },
    /// DuckDB or its worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Compares `old` with `new`, whose `database` is the catalog name under which each is attached.
///
/// With a key, rows are matched by it (`NULL` matches `NULL`). A key that is missing or stands
/// twice on either side is not used, and the answer says so; then rows are compared as wholes, and
/// a row that stands twice counts twice. At most `examples` rows of each sort are shown. A retyped
/// column is compared by its text.
///
/// # Errors
/// When either is no table, or DuckDB or the worker fails.
pub fn diff(
    worker: &mut Worker,
    old: &RelationName,
    new: &RelationName,
    key: Option<&[String]>,
    examples: u64,
) -> Result<RelationDiff, DiffError> {
    let old = Side::load(worker, old)?;
    let new = Side::load(worker, new)?;
    let mut answer = RelationDiff {
        schema: schema(&old, &new),
        ..RelationDiff::default()
    };
    let pairs = Pair::list(&old.columns, &new.columns);
    let both = Both { old, new, pairs };
    if let Some(key) = key {
        match both.usable(worker, key)? {
            Ok(keys) => {
                both.by_key(worker, &keys, examples, &mut answer)?;
                return Ok(answer);
            }
            Err(reason) => answer.key_refused = Some(reason),
        }
    }
    both.as_wholes(worker, examples, &mut answer)?;
    Ok(answer)
}

struct Side {
    full: String,
    definition: String,
    columns: Vec<Column>,
}

impl Side {
    fn load(worker: &mut Worker, relation: &RelationName) -> Result<Self, DiffError> {
        let name = &relation.database;
        let catalog = Catalog::load_inside_transaction(worker, name, name)?;
        match definitions(&catalog).remove(relation) {
            Some(state) if state.kind == RelationKind::Table => Ok(Self {
                full: quote::full(relation),
                definition: state.definition,
                columns: columns(worker, relation)?,
            }),
            _ => Err(DiffError::NotATable {
                relation: relation.clone(),
            }),
        }
    }
}

/// One column that both sides have. DuckDB's names are the same in any case.
struct Pair {
    old: Column,
    new: Column,
}

impl Pair {
    fn list(old: &[Column], new: &[Column]) -> Vec<Self> {
        new.iter()
            .filter_map(|new| {
                let old = old.iter().find(|old| same_name(&old.name, &new.name))?;
                Some(Self {
                    old: old.clone(),
                    new: new.clone(),
                })
            })
            .collect()
    }

    /// What is compared of a cell: `=` takes `0.0` for `-0.0`, a month for 30 days, and under a
    /// collation `a` for `A`; a diff must not.
    fn cell(&self, column: &Column) -> String {
        let cell = quote::name(&column.name);
        if self.old.data_type != self.new.data_type || !is_hashed_as_it_is(&column.data_type) {
            format!("CAST({cell} AS VARCHAR)")
        } else if column.data_type == "VARCHAR" {
            format!("encode({cell})")
        } else {
            cell
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn schema(old: &Side, new: &Side) -> SchemaDiff {
    SchemaDiff::between(
        (&old.columns, &old.definition),
        (&new.columns, &new.definition),
        same_name,
    )
}

struct Both {
    old: Side,
    new: Side,
    pairs: Vec<Pair>,
}

impl Both {
    /// The places of the key's columns among the pairs, or why the key is of no use.
    fn usable(
        &self,
        worker: &mut Worker,
        key: &[String],
    ) -> Result<Result<Vec<usize>, String>, WorkerError> {
        if key.is_empty() {
            return Ok(Err("the key has no columns".to_owned()));
        }
        let mut places = Vec::new();
        for name in key {
            match self
                .pairs
                .iter()
                .position(|pair| same_name(&pair.new.name, name))
            {
                Some(place) => places.push(place),
                None => return Ok(Err(format!("not both tables have the key's column {name}"))),
            }
        }
        for (side, word) in [(&self.old, "old"), (&self.new, "new")] {
            let cells: Vec<String> = places
                .iter()
                .filter_map(|place| self.cell_of(side, *place))
                .collect();
            let sql = format!(
                "SELECT CAST(count(*) AS VARCHAR) FROM (SELECT count(*) AS n FROM {} \
                 GROUP BY {}) WHERE n > 1",
                side.full,
                cells.join(", ")
            );
            let twice = worker
                .texts(&sql, &[])?
                .into_iter()
                .flatten()
                .flatten()
                .next();
            let twice = twice.unwrap_or_default();
            if twice != "0" {
                let key = key.join(", ");
                return Ok(Err(format!(
                    "{twice} values of ({key}) stand more than once in the {word} table"
                )));
            }
        }
        Ok(Ok(places))
    }

    fn cell_of(&self, side: &Side, place: usize) -> Option<String> {
        let pair = self.pairs.get(place)?;
        let column = if std::ptr::eq(side, &self.old) {
            &pair.old
        } else {
            &pair.new
        };
        Some(pair.cell(column))
    }

    /// `SELECT` of one side: a mark, the cells to compare, and every column for the examples.
    fn select(&self, side: &Side) -> String {
        let mut cells = vec!["true AS here".to_owned()];
        for place in 0..self.pairs.len() {
            if let Some(cell) = self.cell_of(side, place) {
                cells.push(format!("{cell} AS v{place}"));
            }
        }
        for (i, column) in side.columns.iter().enumerate() {
            cells.push(format!("{} AS x{i}", quote::name(&column.name)));
        }
        format!("(SELECT {} FROM {})", cells.join(", "), side.full)
    }

    fn by_key(
        &self,
        worker: &mut Worker,
        keys: &[usize],
        examples: u64,
        answer: &mut RelationDiff,
    ) -> Result<(), WorkerError> {
        let on: Vec<String> = keys
            .iter()
            .map(|k| format!("o.v{k} IS NOT DISTINCT FROM n.v{k}"))
            .collect();
        let joined = format!(
            "{} AS o FULL OUTER JOIN {} AS n ON {}",
            self.select(&self.old),
            self.select(&self.new),
            on.join(" AND ")
        );
        let others: Vec<usize> = (0..self.pairs.len())
            .filter(|i| !keys.contains(i))
            .collect();
        let differs: Vec<String> = others
            .iter()
            .map(|i| format!("o.v{i} IS DISTINCT FROM n.v{i}"))
            .collect();
        let both = "o.here AND n.here";
        let changed = if differs.is_empty() {
            "false".to_owned()
        } else {
            format!("{both} AND ({})", differs.join(" OR "))
        };
        let mut counts = vec![
            "n.here AND o.here IS NULL".to_owned(),
            "o.here AND n.here IS NULL".to_owned(),
            changed.clone(),
            format!("{both} AND NOT ({changed})"),
        ];
        counts.extend(
            differs
                .iter()
                .map(|differs| format!("{both} AND {differs}")),
        );
        let counts: Vec<String> = counts
            .iter()
            .map(|what| format!("CAST(count(*) FILTER (WHERE {what}) AS VARCHAR)"))
            .collect();
        let sql = format!("SELECT {} FROM {joined}", counts.join(", "));
        let mut numbers = numbers(worker, &sql)?.into_iter();
        let mut next = || numbers.next().unwrap_or_default();
        (answer.added, answer.removed) = (next(), next());
        (answer.changed, answer.unchanged) = (next(), next());
        for place in &others {
            let count = next();
            if let Some(pair) = self.pairs.get(*place).filter(|_| count > 0) {
                answer.columns.insert(pair.new.name.clone(), count);
            }
        }
        answer.key = Some(
            keys.iter()
                .filter_map(|k| self.pairs.get(*k))
                .map(|p| p.new.name.clone())
                .collect(),
        );
        let order: Vec<String> = keys
            .iter()
            .map(|k| format!("coalesce(o.v{k}, n.v{k}) NULLS FIRST"))
            .collect();
        let sorts = [
            (Change::Added, "n.here AND o.here IS NULL", answer.added),
            (Change::Removed, "o.here AND n.here IS NULL", answer.removed),
            (Change::Changed, changed.as_str(), answer.changed),
        ];
        for (change, condition, count) in sorts {
            if count == 0 || examples == 0 {
                continue;
            }
            let cells = |side: &Side, alias: &str| -> Vec<String> {
                (0..side.columns.len())
                    .map(|i| format!("{alias}.x{i}"))
                    .collect()
            };
            let list: Vec<String> = [cells(&self.old, "o"), cells(&self.new, "n")]
                .into_iter()
                .flatten()
                .collect();
            let sql = format!(
                "SELECT {} FROM {joined} WHERE {condition} ORDER BY {} LIMIT {examples}",
                list.join(", "),
                order.join(", ")
            );
            for mut row in worker.query(&sql, &[], examples)?.rows {
                let new = row.split_off(self.old.columns.len().min(row.len()));
                let old = if change == Change::Added {
                    Cells::new()
                } else {
                    self.old.cells(row)
                };
                let new = if change == Change::Removed {
                    Cells::new()
                } else {
                    self.new.cells(new)
                };
                let key = self.key_of(keys, &old, &new);
                answer.examples.push(Example {
                    change,
                    key,
                    old,
                    new,
                });
            }
        }
        Ok(())
    }

    fn key_of(&self, keys: &[usize], old: &Cells, new: &Cells) -> Cells {
        let row = if new.is_empty() { old } else { new };
        keys.iter()
            .filter_map(|k| self.pairs.get(*k))
            .filter_map(|pair| row.iter().find(|(name, _)| same_name(name, &pair.new.name)))
            .cloned()
            .collect()
    }

    /// Compares by a hash of all common cells; equal rows cancel each other out one by one.
    fn as_wholes(
        &self,
        worker: &mut Worker,
        examples: u64,
        answer: &mut RelationDiff,
    ) -> Result<(), WorkerError> {
        let hash = |side: &Side| {
            let cells: Vec<String> = (0..self.pairs.len())
                .filter_map(|place| self.cell_of(side, place))
                .collect();
            // Without a common column all rows are alike, and only their number is compared.
            if cells.is_empty() {
                "hash(0)".to_owned()
            } else {
                format!("hash({})", cells.join(", "))
            }
        };
        let (old, new) = (hash(&self.old), hash(&self.new));
        let groups = format!(
            "(SELECT h, sum(o) AS o, sum(n) AS n FROM (SELECT {old} AS h, 1 AS o, 0 AS n FROM {} \
             UNION ALL SELECT {new}, 0, 1 FROM {}) GROUP BY h)",
            self.old.full, self.new.full
        );
        let sums = ["greatest(n - o, 0)", "greatest(o - n, 0)", "least(o, n)"]
            .map(|sum| format!("CAST(coalesce(sum({sum}), 0) AS VARCHAR)"));
        let sql = format!("SELECT {} FROM {groups}", sums.join(", "));
        let mut numbers = numbers(worker, &sql)?.into_iter();
        let mut next = || numbers.next().unwrap_or_default();
        (answer.added, answer.removed, answer.unchanged) = (next(), next(), next());
        let sorts = [
            (Change::Added, &self.new, &new, "n > o", answer.added),
            (Change::Removed, &self.old, &old, "o > n", answer.removed),
        ];
        for (change, side, hash, condition, count) in sorts {
            if count == 0 || examples == 0 {
                continue;
            }
            let list = quote::names(side.columns.iter().map(|column| column.name.as_str()));
            let sql = format!(
                "SELECT {list} FROM {} WHERE {hash} IN (SELECT h FROM {groups} WHERE {condition} \
                 ORDER BY h LIMIT {examples}) LIMIT {examples}",
                side.full
            );
            for row in worker.query(&sql, &[], examples)?.rows {
                let cells = side.cells(row);
                let (old, new) = match change {
                    Change::Removed => (cells, Cells::new()),
                    Change::Added | Change::Changed => (Cells::new(), cells),
                };
                answer.examples.push(Example {
                    change,
                    key: Cells::new(),
                    old,
                    new,
                });
            }
        }
        Ok(())
    }
}

impl Side {
    fn cells(&self, row: Vec<Value>) -> Cells {
        self.columns
            .iter()
            .map(|column| column.name.clone())
            .zip(row)
            .collect()
    }
}

/// The numbers of an answer of one row.
fn numbers(worker: &mut Worker, sql: &str) -> Result<Vec<u64>, WorkerError> {
    let row = worker
        .texts(sql, &[])?
        .into_iter()
        .next()
        .unwrap_or_default();
    row.into_iter()
        .map(|cell| {
            let number = cell.as_deref().and_then(|text| text.parse().ok());
            number.ok_or_else(|| WorkerError::Garbled(format!("{cell:?} is no count")))
        })
        .collect()
}

#[cfg(test)]
mod tests;
