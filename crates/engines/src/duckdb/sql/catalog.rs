//! Everything that DuckDB's catalog says about one database file.

use super::definition;
use super::reads::{Mention, mentions};
use super::{lexer, quote};
use crate::duckdb::worker::protocol::TextRow;
use crate::duckdb::worker::{Worker, WorkerError};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::relation::Column;
use unship_core::value::Value;

pub use super::observe::{Depth, observe};

/// Schema and name; the catalog is the whole file's.
pub(super) type Key = (String, String);

/// A column with what [`Column`] leaves out.
#[derive(Debug, Clone)]
pub(super) struct TableColumn {
    pub column: Column,
    pub comment: Option<String>,
    pub generated: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Index {
    pub name: String,
    pub sql: String,
    pub comment: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub sql: String,
    pub comment: Option<String>,
    pub columns: Vec<TableColumn>,
    pub indexes: Vec<Index>,
    /// Tables that its foreign keys refer to, itself included.
    pub parents: BTreeSet<Key>,
}

#[derive(Debug, Clone)]
pub(super) struct View {
    pub sql: String,
    pub comment: Option<String>,
    pub columns: Vec<TableColumn>,
    /// The order of its making, as far as the catalog kept it.
    pub order: u64,
    pub mentions: BTreeSet<Mention>,
}

#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub increment: String,
    pub min: String,
    pub max: String,
    pub next: String,
    pub cycle: bool,
    pub comment: Option<String>,
}

/// A macro's overloads, scalar or table.
#[derive(Debug, Clone)]
pub(super) struct MacroText {
    /// `(a, b := 5) AS a + b`, one per overload.
    pub overloads: Vec<String>,
    /// Whether the overloads would make exactly this macro again.
    pub exact: bool,
    pub comment: Option<String>,
    pub mentions: BTreeSet<Mention>,
    pub order: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Type {
    /// What stands behind `AS`.
    pub text: String,
    pub comment: Option<String>,
}

/// One file's catalog.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    /// The name that SQL uses for it.
    pub name: String,
    /// The name that the texts of its own views use for it: the file's.
    pub written: String,
    pub schemas: BTreeSet<String>,
    pub tables: BTreeMap<Key, Table>,
    pub views: BTreeMap<Key, View>,
    pub sequences: BTreeMap<Key, Sequence>,
    pub types: BTreeMap<Key, Type>,
    /// By key and whether it is a table macro.
    pub macros: BTreeMap<(Key, bool), MacroText>,
}

impl Catalog {
    /// Reads the catalog of the attached database `name`, which its own views call `written`.
    pub fn load(worker: &mut Worker, name: &str, written: &str) -> Result<Self, WorkerError> {
        Self::read(worker, name, written, true)
    }

    /// The same without what only a failing statement tells (DuckDB 2.0 aborts the transaction
    /// around one): the defaults of macros, and who reads whom.
    pub fn load_inside_transaction(
        worker: &mut Worker,
        name: &str,
        written: &str,
    ) -> Result<Self, WorkerError> {
        Self::read(worker, name, written, false)
    }

    fn read(
        worker: &mut Worker,
        name: &str,
        written: &str,
        may_fail: bool,
    ) -> Result<Self, WorkerError> {
        let mut catalog = Self {
            name: name.to_owned(),
            written: written.to_owned(),
            schemas: BTreeSet::new(),
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            sequences: BTreeMap::new(),
            types: BTreeMap::new(),
            macros: BTreeMap::new(),
        };
        catalog.load_tables(worker)?;
        if may_fail {
            catalog.load_views(worker)?;
        }
        catalog.load_others(worker)?;
        catalog.load_macros(worker, may_fail)?;
        Ok(catalog)
    }

    fn rows(
        &self,
        worker: &mut Worker,
        cells: &str,
        from: &str,
        order: &str,
    ) -> Result<Vec<Cells>, WorkerError> {
        let cells: Vec<String> = cells
            .split(", ")
            .map(|cell| format!("CAST({cell} AS VARCHAR)"))
            .collect();
        let sql = format!(
            "SELECT {} FROM {from} WHERE database_name = ? AND NOT internal ORDER BY {order}",
            cells.join(", ")
        );
        let rows = worker.texts(&sql, &[Value::Text(self.name.clone())])?;
        Ok(rows.into_iter().map(|row| Cells(row.into_iter())).collect())
    }

    fn load_tables(&mut self, worker: &mut Worker) -> Result<(), WorkerError> {
        for mut row in self.rows(worker, "schema_name", "duckdb_schemas()", "schema_name")? {
            self.schemas.insert(row.text()?);
        }
        let cells = "schema_name, table_name, sql, comment";
        for mut row in self.rows(worker, cells, "duckdb_tables()", "table_oid")? {
            let key = (row.text()?, row.text()?);
            let sql = row.text()?;
            let mut parents: BTreeSet<Key> = definition::parents(&sql)
                .into_iter()
                .map(|parent| (key.0.clone(), parent))
                .collect();
            if definition::has_hole(&sql) {
                parents.insert(key.clone());
            }
            let table = Table {
                sql,
                comment: row.cell(),
                columns: Vec::new(),
                indexes: Vec::new(),
                parents,
            };
            self.tables.insert(key, table);
        }
        let cells = "schema_name, view_name, sql, comment, view_oid";
        for mut row in self.rows(worker, cells, "duckdb_views()", "view_oid")? {
            let key = (row.text()?, row.text()?);
            let view = View {
                sql: row.text()?,
                comment: row.cell(),
                columns: Vec::new(),
                order: row.number()?,
                mentions: BTreeSet::new(),
            };
            self.views.insert(key, view);
        }
        let cells = "schema_name, table_name, column_name, data_type, is_nullable, comment";
        for mut row in self.rows(worker, cells, "duckdb_columns()", "table_oid, column_index")? {
            let key = (row.text()?, row.text()?);
            let column = TableColumn {
                column: Column {
                    name: row.text()?,
                    data_type: row.text()?,
                    nullable: row.text()? == "true",
                },
                comment: row.cell(),
                generated: false,
            };
            if let Some(table) = self.tables.get_mut(&key) {
                table.columns.push(column);
            } else if let Some(view) = self.views.get_mut(&key) {
                view.columns.push(column);
            }
        }
        for table in self.tables.values_mut() {
            let generated = definition::generated(&table.sql);
            for (column, generated) in table.columns.iter_mut().zip(generated) {
                column.generated = generated;
            }
        }
        // Indexes of keys have no statement; they come with the table's.
        let sql = "SELECT schema_name, table_name, index_name, sql, comment FROM duckdb_indexes() \
                   WHERE database_name = ? AND sql IS NOT NULL ORDER BY index_name";
        for row in worker.texts(sql, &[Value::Text(self.name.clone())])? {
            let mut row = Cells(row.into_iter());
            let key = (row.text()?, row.text()?);
            let index = Index {
                name: row.text()?,
                sql: row.text()?,
                comment: row.cell(),
            };
            if let Some(table) = self.tables.get_mut(&key) {
                table.indexes.push(index);
            }
        }
        Ok(())
    }

    fn load_views(&mut self, worker: &mut Worker) -> Result<(), WorkerError> {
        for view in self.views.values_mut() {
            if let Some(query) = definition::view_query(view) {
                view.mentions = mentions(worker, query)?;
            }
        }
        Ok(())
    }

    fn load_others(&mut self, worker: &mut Worker) -> Result<(), WorkerError> {
        let sql = "SELECT schema_name, sequence_name, CAST(increment_by AS VARCHAR), \
                   CAST(min_value AS VARCHAR), CAST(max_value AS VARCHAR), \
                   CAST(cycle AS VARCHAR), sql, comment FROM duckdb_sequences() \
                   WHERE database_name = ? AND NOT temporary";
        for row in worker.texts(sql, &[Value::Text(self.name.clone())])? {
            let mut row = Cells(row.into_iter());
            let key = (row.text()?, row.text()?);
            let (increment, min, max) = (row.text()?, row.text()?, row.text()?);
            let cycle = row.text()? == "true";
            let text = row.text()?;
            // The catalog's columns forget how far it had got when the file is opened again; its
            // statement does not.
            let list = lexer::tokens(&text);
            let next = lexer::keyword(&text, &list, "START")
                .map(|start| {
                    let digits = list
                        .iter()
                        .skip(start + 1)
                        .take_while(|t| !t.is(&text, "NO"));
                    digits
                        .take_while(|t| !t.is(&text, "CYCLE"))
                        .map(|token| token.text(&text))
                        .collect::<String>()
                })
                .ok_or_else(|| WorkerError::Garbled(format!("no START in `{text}`")))?;
            let comment = row.cell();
            self.sequences.insert(
                key,
                Sequence {
                    increment,
                    min,
                    max,
                    next,
                    cycle,
                    comment,
                },
            );
        }
        let cells = "schema_name, type_name, to_json(labels), comment";
        for mut row in self.rows(worker, cells, "duckdb_types()", "type_oid")? {
            let key = (row.text()?, row.text()?);
            let labels = row.cell();
            let comment = row.cell();
            let text = match labels.and_then(|json| serde_json::from_str(&json).ok()) {
                Some(Some(labels)) => {
                    let labels: Vec<String> = labels;
                    let quoted: Vec<String> =
                        labels.iter().map(|label| quote::text(label)).collect();
                    format!("ENUM ({})", quoted.join(", "))
                }
                _ => {
                    let full = quote::relation(&self.name, &key.0, &key.1);
                    let sql = format!("DESCRIBE (SELECT CAST(NULL AS {full}) AS x)");
                    let cell = worker.texts(&sql, &[])?.into_iter().flatten().nth(1);
                    cell.flatten()
                        .ok_or_else(|| WorkerError::Garbled(format!("no type behind {full}")))?
                }
            };
            self.types.insert(key, Type { text, comment });
        }
        Ok(())
    }

    fn load_macros(&mut self, worker: &mut Worker, may_fail: bool) -> Result<(), WorkerError> {
        let mut macros: BTreeMap<(Key, bool), MacroRows> = BTreeMap::new();
        let cells = "schema_name, function_name, function_type, function_oid, comment, \
                     to_json(parameters), macro_definition";
        let from = "duckdb_functions()";
        for mut row in self.rows(worker, cells, from, "function_oid")? {
            let key = (row.text()?, row.text()?);
            let is_table = row.text()? == "table_macro";
            let order = row.number()?;
            let comment = row.cell();
            let parameters = serde_json::from_str(&row.text()?)
                .map_err(|error| WorkerError::Garbled(error.to_string()))?;
            let Some(definition) = row.cell() else {
                continue;
            };
            let entry = macros.entry((key, is_table)).or_insert(MacroRows {
                order,
                comment,
                overloads: Vec::new(),
            });
            entry.overloads.push(Overload {
                parameters,
                definition,
            });
        }
        for ((key, is_table), rows) in macros {
            let MacroRows {
                order,
                comment,
                overloads,
            } = rows;
            let parameters: Vec<&[String]> = overloads
                .iter()
                .map(|overload| overload.parameters.as_slice())
                .collect();
            let signatures = if may_fail {
                self.signatures(worker, &key, is_table, &parameters)?
            } else {
                None
            };
            let exact = signatures.is_some();
            let signatures = signatures.unwrap_or_else(|| {
                parameters
                    .iter()
                    .map(|list| quote::names(list.iter().map(String::as_str)))
                    .collect()
            });
            let mut text = MacroText {
                overloads: Vec::new(),
                exact,
                comment,
                mentions: BTreeSet::new(),
                order,
            };
            for (overload, signature) in overloads.iter().zip(signatures) {
                let body = &overload.definition;
                let (keyword, query) = if is_table {
                    ("TABLE ", body.clone())
                } else {
                    ("", format!("SELECT {body}"))
                };
                text.overloads
                    .push(format!("({signature}) AS {keyword}{body}"));
                if may_fail {
                    text.mentions.extend(mentions(worker, &query)?);
                }
            }
            self.macros.insert((key, is_table), text);
        }
        Ok(())
    }

    /// The parameter lists of a macro's overloads, with types and defaults. The catalog has no
    /// defaults; the error for a call with too many arguments lists them. `None` where that
    /// message is not understood.
    fn signatures(
        &self,
        worker: &mut Worker,
        key: &Key,
        is_table: bool,
        overloads: &[&[String]],
    ) -> Result<Option<Vec<String>>, WorkerError> {
        let most = overloads
            .iter()
            .map(|list| list.len())
            .max()
            .unwrap_or_default();
        let arguments = vec!["NULL"; most + 1].join(", ");
        let from = if is_table { "FROM" } else { "SELECT" };
        let full = quote::relation(&self.name, &key.0, &key.1);
        let message = match worker.execute(&format!("{from} {full}({arguments})"), &[]) {
            Ok(()) => return Ok(None),
            Err(WorkerError::Sql { message, .. }) => message,
            Err(error) => return Err(error),
        };
        Ok(read_signatures(&message, &key.1, overloads))
    }
}

fn read_signatures(message: &str, name: &str, overloads: &[&[String]]) -> Option<Vec<String>> {
    let (_, list) = message.split_once("Candidate macros:")?;
    let list = list.rsplit_once("\n\nLINE ").map_or(list, |(list, _)| list);
    // DuckDB 2.0 quotes the name where it has to be quoted, earlier ones never do.
    let lead = [name.to_owned(), quote::name(name)]
        .map(|name| format!("\n\t{name}("))
        .into_iter()
        .find(|lead| list.contains(lead.as_str()))?;
    let mut candidates = list.split(lead.as_str());
    // Nothing but white space may stand before the first.
    candidates
        .next()
        .filter(|before| before.trim().is_empty())?;
    let candidates: Vec<&str> = candidates.collect();
    if candidates.len() != overloads.len() {
        return None;
    }
    let mut signatures = Vec::new();
    for (candidate, parameters) in candidates.into_iter().zip(overloads) {
        let inner = candidate.trim_end().strip_suffix(')')?;
        let bracketed = format!("({inner})");
        let tokens = lexer::tokens(&bracketed);
        let items = lexer::items(&bracketed, &tokens, 0);
        if items.len() != parameters.len() {
            return None;
        }
        let mut quoted = Vec::new();
        for (item, parameter) in items.into_iter().zip(parameters.iter()) {
            let text = bracketed.get(item.first()?.start..item.last()?.end)?;
            let rest = text
                .strip_prefix(&quote::name(parameter))
                .or_else(|| text.strip_prefix(parameter.as_str()))
                .filter(|rest| rest.is_empty() || rest.starts_with(' '))?;
            quoted.push(format!("{}{rest}", quote::name(parameter)));
        }
        signatures.push(quoted.join(", "));
    }
    Some(signatures)
}

/// A macro's rows in the catalog, before they are put together.
struct MacroRows {
    order: u64,
    comment: Option<String>,
    overloads: Vec<Overload>,
}

struct Overload {
    parameters: Vec<String>,
    definition: String,
}

/// A row's cells, taken one after the other.
struct Cells(std::vec::IntoIter<Option<String>>);

impl Cells {
    fn cell(&mut self) -> Option<String> {
        self.0.next().flatten()
    }

    fn text(&mut self) -> Result<String, WorkerError> {
        self.cell()
            .ok_or_else(|| WorkerError::Garbled("the catalog left a cell empty".to_owned()))
    }

    fn number(&mut self) -> Result<u64, WorkerError> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| WorkerError::Garbled(format!("`{text}` is no number")))
    }
}

impl From<TextRow> for Cells {
    fn from(row: TextRow) -> Self {
        Cells(row.into_iter())
    }
}
