//! Rows chosen by a predicate: whether it is one, what they are, and how they change places.

use super::super::worker::{Worker, WorkerError};
use super::fingerprint::{columns, fingerprint, fingerprint_of, in_utc};
use super::quote;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::{Column, Fingerprint};
use unship_core::rows::Rows;
use unship_core::value::Value;

/// Rows of one relation that change places with those of another, and what is known of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Which rows.
    pub predicate: String,
    /// The columns that are written, each with what it gets from a row that comes in.
    pub written: Vec<(String, String)>,
    /// What goes out.
    pub out: Fingerprint,
    /// What comes in.
    pub back: Fingerprint,
    /// What a person should know of it, each a sentence.
    pub notes: Vec<String>,
}

/// The predicate that is meant.
pub fn predicate(rows: &Rows) -> Result<String, EngineError> {
    match rows {
        Rows::Where(text) => Ok(text.trim().to_owned()),
        Rows::Value { column, value } => {
            Ok(format!("{} = {}", quote::name(column), quote::text(value)))
        }
        Rows::Partition(name) => Err(EngineError::new(
            ErrorKind::Refused,
            format!("DuckDB's tables have no partitions, and so none of the name {name}"),
        )
        .hint("write `--partition COLUMN=VALUE`, or choose the rows by `--where`")),
    }
}

/// Looks at the rows that a predicate chooses in two versions of a relation.
pub fn chosen(
    worker: &mut Worker,
    live: &RelationName,
    older: &RelationName,
    predicate: &str,
    from: ReleaseId,
) -> Result<Chosen, EngineError> {
    for relation in [live, older] {
        check(worker, relation, predicate)?;
    }
    let fit = fitted(worker, live, older, from)?;
    let now = columns(worker, live)?;
    let out = format!(
        "SELECT * FROM {} WHERE (\n{predicate}\n)",
        quote::full(live)
    );
    let back = fit.select(&format!("{} WHERE (\n{predicate}\n)", quote::full(older)));
    let (out, back) = in_utc(worker, |worker| {
        Ok((
            fingerprint_of(worker, &format!("({out})"), &now)?,
            fingerprint_of(worker, &format!("({back})"), &now)?,
        ))
    })?;
    Ok(Chosen {
        predicate: predicate.to_owned(),
        written: fit.written,
        out,
        back,
        notes: fit.notes,
    })
}

/// How the columns of one table get their values from another's.
pub(super) struct Fit {
    /// Every column, and what it gets.
    pub(super) cells: Vec<(String, String)>,
    /// The same of those that are written.
    pub(super) written: Vec<(String, String)>,
    /// What a person should know of it, each a sentence.
    pub(super) notes: Vec<String>,
}

impl Fit {
    /// A query of all columns, from what follows `FROM`.
    pub(super) fn select(&self, from: &str) -> String {
        let cells = self.cells.iter();
        let cells: Vec<_> = cells
            .map(|(column, cell)| format!("{cell} AS {}", quote::name(column)))
            .collect();
        format!("SELECT {} FROM {from}", cells.join(", "))
    }
}

/// Fits columns by name. What the older version did not have gets its default where that is a
/// constant; what production does not have stays where it is retained.
pub(super) fn fitted(
    worker: &mut Worker,
    live: &RelationName,
    older: &RelationName,
    from: ReleaseId,
) -> Result<Fit, EngineError> {
    let (now, then) = (columns(worker, live)?, columns(worker, older)?);
    let made = made(worker, live)?;
    let mut notes = Vec::new();
    let mut written = Vec::new();
    let mut cells = Vec::new();
    for column in &now {
        let made = made.get(&column.name);
        let generated = made.is_some_and(|made| made.generated);
        let then = then.iter().find(|c| c.name == column.name);
        let default = made.and_then(|made| made.default.as_deref());
        let cell = fit(live, column, then, generated, default, from, &mut notes)?;
        cells.push((column.name.clone(), cell.clone()));
        if !generated {
            written.push((column.name.clone(), cell));
        }
    }
    for column in then.iter().filter(|c| now.iter().all(|n| n.name != c.name)) {
        notes.push(format!(
            "production has no column {} any more: what it was stays in the restore point",
            column.name
        ));
    }
    Ok(Fit {
        cells,
        written,
        notes,
    })
}

/// What is all of a relation.
pub fn whole(worker: &mut Worker, relation: &RelationName) -> Result<Fingerprint, WorkerError> {
    let columns = columns(worker, relation)?;
    fingerprint(worker, relation, &columns)
}

/// Has the rows change places. Out and in are two transactions: within one, DuckDB takes a row for a
/// duplicate of one that has just been deleted. The file is a clone that nobody else has.
pub fn exchange(
    worker: &mut Worker,
    relation: &RelationName,
    older: &RelationName,
    chosen: &Chosen,
) -> Result<(), WorkerError> {
    let full = quote::full(relation);
    let predicate = &chosen.predicate;
    let columns = quote::names(chosen.written.iter().map(|(column, _)| column.as_str()));
    let cells: Vec<_> = chosen
        .written
        .iter()
        .map(|(_, cell)| cell.as_str())
        .collect();
    let insert = format!(
        "INSERT INTO {full} ({columns}) SELECT {} FROM {} WHERE (\n{predicate}\n)",
        cells.join(", "),
        quote::full(older)
    );
    in_utc(worker, |worker| {
        worker.execute(&format!("DELETE FROM {full} WHERE (\n{predicate}\n)"), &[])?;
        worker.execute(&insert, &[])
    })
}

struct Made {
    generated: bool,
    default: Option<String>,
}

/// How a table's columns get their values where nobody gives any.
fn made(
    worker: &mut Worker,
    relation: &RelationName,
) -> Result<BTreeMap<String, Made>, EngineError> {
    let text = |text: &str| Value::Text(text.to_owned());
    let of = [
        text(&relation.database),
        text(&relation.schema),
        text(&relation.name),
    ];
    let rows = worker.texts(
        "SELECT column_name, column_default FROM duckdb_columns() WHERE database_name = ? \
         AND schema_name = ? AND table_name = ? ORDER BY column_index",
        &of,
    )?;
    let sql = worker.texts(
        "SELECT sql FROM duckdb_tables() WHERE database_name = ? AND schema_name = ? \
         AND table_name = ?",
        &of,
    )?;
    let Some(sql) = sql.into_iter().flatten().flatten().next() else {
        let text = format!("{relation} is no table, so that no rows of it can be brought back");
        return Err(EngineError::new(ErrorKind::Refused, text).hint("leave it out"));
    };
    let generated = super::definition::generated(&sql);
    let columns = rows.into_iter().enumerate().filter_map(|(n, row)| {
        let mut row = row.into_iter();
        let made = Made {
            generated: generated.get(n).copied().unwrap_or(false),
            default: row.next_back().flatten(),
        };
        Some((row.next().flatten()?, made))
    });
    Ok(columns.collect())
}

/// What a column gets from a row of an older version.
fn fit(
    relation: &RelationName,
    column: &Column,
    then: Option<&Column>,
    generated: bool,
    default: Option<&str>,
    from: ReleaseId,
    notes: &mut Vec<String>,
) -> Result<String, EngineError> {
    let name = quote::name(&column.name);
    let refused = |text: String| {
        Err(EngineError::new(ErrorKind::Refused, text)
            .hint("roll all of the relation back: its columns come back with it"))
    };
    match then {
        Some(then) if then.data_type == column.data_type => Ok(name),
        Some(then) if !generated && is_wider(&then.data_type, &column.data_type) => {
            Ok(format!("CAST({name} AS {})", column.data_type))
        }
        Some(then) => refused(format!(
            "the column {} of {relation} is {} and was {} in {from}",
            column.name, column.data_type, then.data_type
        )),
        None if generated => refused(format!(
            "the column {} of {relation} is computed, and {from} does not have it",
            column.name
        )),
        None => {
            let function = |text: &&str| text.contains('(') && !text.starts_with("CAST(");
            let constant = default.filter(|text| !function(text));
            if constant.is_none() && !column.nullable {
                return refused(format!(
                    "the column {} of {relation} must not be empty, and {from} does not have it",
                    column.name
                ));
            }
            let value = constant.unwrap_or("NULL");
            notes.push(format!(
                "{from} has no column {}: it is {value} in the rows that come back",
                column.name
            ));
            Ok(format!("CAST({value} AS {})", column.data_type))
        }
    }
}

/// Whether every value of one type is the same value of another.
fn is_wider(then: &str, now: &str) -> bool {
    let sizes = ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"];
    let size = |of: &str| sizes.iter().position(|size| *size == of);
    match (size(then), size(now)) {
        (Some(then), Some(now)) => then <= now,
        _ => (then, now) == ("FLOAT", "DOUBLE"),
    }
}

const HINT: &str = "write one condition on the columns of the relation, like \"order_date = date \
                    '2026-11-20'\": nothing that depends on now, and no other relation";

/// Makes sure that a predicate is one expression, that it is true or false, and that it asks nothing
/// but the columns of this relation: no other relation, no function whose answer depends on more than
/// its arguments.
///
/// # Errors
/// [`ErrorKind::Refused`] with what DuckDB says of it.
fn check(worker: &mut Worker, relation: &RelationName, predicate: &str) -> Result<(), EngineError> {
    let refused = |why: &str| {
        EngineError::new(
            ErrorKind::Refused,
            format!("`{predicate}` cannot choose rows: {why}"),
        )
        .hint(HINT)
    };
    // Between brackets of two kinds, it cannot close the one and open it again: so it is one
    // expression.
    let tree = parsed(worker, &format!("SELECT 1 WHERE (\n{predicate}\n)"))?;
    let tree = tree.map_err(|why| refused(&why))?;
    let list = parsed(worker, &format!("SELECT [\n{predicate}\n]"))?;
    list.map_err(|why| refused(&why))?;
    let mut asked = Asked::default();
    asked.walk(&tree);
    if asked.more {
        return Err(refused("it asks more than the row"));
    }
    let columns = columns(worker, relation)?;
    let known = |name: &String| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
    if asked.rowid && !known(&"rowid".to_owned()) {
        return Err(refused("a row's place is not the same in two versions"));
    }
    if let Some(function) = unsteady(worker, &asked.functions)? {
        let why = format!("{function}() is no function of the row alone");
        return Err(refused(&why));
    }
    let typed = worker.texts(
        &format!(
            "DESCRIBE SELECT (\n{predicate}\n) AS chosen FROM {}",
            quote::full(relation)
        ),
        &[],
    );
    let typed = match typed {
        Ok(rows) => rows,
        Err(WorkerError::Sql { message, .. }) => return Err(refused(&message)),
        Err(error) => return Err(error.into()),
    };
    let data_type = typed
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().nth(1)?);
    match data_type.as_deref() {
        Some("BOOLEAN") => Ok(()),
        _ => Err(refused("it is not true or false of a row")),
    }
}

/// The tree that DuckDB's parser makes of one query, or why it makes none.
fn parsed(worker: &mut Worker, sql: &str) -> Result<Result<Json, String>, EngineError> {
    let ask = "SELECT CAST(json_serialize_sql(CAST(? AS VARCHAR)) AS VARCHAR)";
    let rows = worker.texts(ask, &[Value::Text(sql.to_owned())])?;
    let text = rows
        .into_iter()
        .flatten()
        .flatten()
        .next()
        .unwrap_or_default();
    let tree: Json = serde_json::from_str(&text).map_err(|e| {
        EngineError::new(
            ErrorKind::Query,
            "DuckDB's tree of a query is not understood",
        )
        .because(e)
    })?;
    if tree["error"] == Json::Bool(true) {
        let why = tree["error_message"]
            .as_str()
            .unwrap_or("it is no expression");
        return Ok(Err(why.to_owned()));
    }
    let one = tree["statements"]
        .as_array()
        .is_some_and(|all| all.len() == 1);
    match one {
        true => Ok(Ok(tree)),
        false => Ok(Err("it is more than one statement".to_owned())),
    }
}

/// What an expression asks.
#[derive(Default)]
struct Asked {
    functions: BTreeSet<String>,
    rowid: bool,
    /// Anything beyond one row: another query, a window, a parameter.
    more: bool,
}

impl Asked {
    fn walk(&mut self, tree: &Json) {
        match tree {
            Json::Array(list) => list.iter().for_each(|node| self.walk(node)),
            Json::Object(node) => {
                let text = |key: &str| node.get(key).and_then(Json::as_str).unwrap_or_default();
                match text("class") {
                    "SUBQUERY" | "WINDOW" | "PARAMETER" | "STAR" | "POSITIONAL_REFERENCE" => {
                        self.more = true;
                    }
                    "FUNCTION" => {
                        self.functions.insert(text("function_name").to_lowercase());
                    }
                    "COLUMN_REF" => {
                        let names = node.get("column_names").and_then(Json::as_array);
                        let last = names.and_then(|names| names.last()?.as_str());
                        self.rowid |= last.is_some_and(|name| name.eq_ignore_ascii_case("rowid"));
                    }
                    _ => {}
                }
                node.values().for_each(|child| self.walk(child));
            }
            _ => {}
        }
    }
}

/// The first of these functions that is none of its arguments alone, or no function of one row.
fn unsteady(
    worker: &mut Worker,
    functions: &BTreeSet<String>,
) -> Result<Option<String>, EngineError> {
    for function in functions {
        let steady = worker.texts(
            "SELECT CAST(coalesce(bool_and(function_type = 'scalar' AND stability = 'CONSISTENT'), \
             false) AS VARCHAR) FROM duckdb_functions() WHERE function_name = ?",
            &[Value::Text(function.clone())],
        )?;
        if steady.into_iter().flatten().flatten().next().as_deref() != Some("true") {
            return Ok(Some(function.clone()));
        }
    }
    Ok(None)
}
