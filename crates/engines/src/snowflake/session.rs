//! Statements on behalf of an operation: each says in Snowflake's history what it is for.

use super::client::{Client, Statement};
use super::sql::Place;
use std::time::Duration;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::value::Value;

/// <https://docs.snowflake.com/en/sql-reference/sql/show>
const SHOWN_AT_MOST: usize = 10_000;

/// A client, and what its statements are for now.
pub struct Session {
    client: Client,
    tag: String,
}

/// One row of an answer.
pub type Row = Vec<Value>;

impl Session {
    /// Nothing is sent yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            tag: "unship".to_owned(),
        }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The database that is guarded.
    pub fn database(&self) -> &str {
        &self.client.settings().database
    }

    /// What the statements to come are for.
    pub fn tag(&mut self, tag: String) {
        self.tag = tag;
    }

    /// All rows of an answer: `what` completes "could not …".
    pub fn rows(&self, sql: &str, what: &str) -> Result<Vec<Row>, EngineError> {
        let rows = self.client.run(&Statement::new(sql, &self.tag));
        let rows = rows.map_err(|e| e.doing(what))?;
        rows.collect::<Result<_, _>>().map_err(|e| e.doing(what))
    }

    /// All rows of an answer, with its columns' names.
    pub fn named(&self, sql: &str, what: &str) -> Result<Vec<Named>, EngineError> {
        let rows = self.client.run(&Statement::new(sql, &self.tag));
        let rows = rows.map_err(|e| e.doing(what))?;
        let names: Vec<String> = rows
            .columns()
            .iter()
            .map(|c| c.name.to_ascii_lowercase())
            .collect();
        rows.map(|row| {
            Ok(Named {
                cells: names
                    .iter()
                    .cloned()
                    .zip(row.map_err(|e| e.doing(what))?)
                    .collect(),
            })
        })
        .collect()
    }

    /// All that a `SHOW` lists of a sort of things, which a person calls `sort`.
    ///
    /// # Errors
    /// Where there may be more than it lists.
    pub fn listed(&self, sql: &str, sort: &str) -> Result<Vec<Named>, EngineError> {
        let rows = self.named(sql, &format!("list each {sort}"))?;
        if rows.len() < SHOWN_AT_MOST {
            return Ok(rows);
        }
        let text = format!(
            "Snowflake lists no more than {SHOWN_AT_MOST} of a sort, and the role sees that many: \
             whether another {sort} matters here cannot be told"
        );
        Err(EngineError::new(ErrorKind::Unsupported, text)
            .hint("give unship a role that sees less of what it does not guard"))
    }

    /// At most `limit` rows of a query, and whether there are more; the columns' names.
    pub fn some(
        &self,
        sql: &str,
        schema: Option<&str>,
        limit: u64,
        timeout: Duration,
        what: &str,
    ) -> Result<(Vec<String>, Vec<Row>, bool), EngineError> {
        let statement = Statement {
            timeout: Some(timeout),
            schema,
            ..Statement::new(sql, &self.tag)
        };
        let rows = self.client.run(&statement).map_err(|e| e.doing(what))?;
        let names = rows.columns().iter().map(|c| c.name.clone()).collect();
        let mut out = Vec::new();
        for row in rows {
            let row = row.map_err(|e| e.doing(what))?;
            if out.len() as u64 >= limit {
                return Ok((names, out, true));
            }
            out.push(row);
        }
        Ok((names, out, false))
    }

    /// Runs a statement whose answer says nothing.
    pub fn run(&self, sql: &str, what: &str) -> Result<(), EngineError> {
        self.rows(sql, what).map(drop)
    }
}

/// A row whose cells are known by name.
pub struct Named {
    cells: Vec<(String, Value)>,
}

impl Named {
    /// A cell as text; none for `NULL`, and where there is no such column.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.cells.iter().find(|(n, _)| n == name)?;
        text(value)
    }
}

/// A cell as text; none for `NULL`.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// A cell as a count.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Text(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// The cell at a place of a row.
pub fn cell(row: &Row, n: usize) -> &Value {
    row.get(n).unwrap_or(&Value::Null)
}

/// A relation that is not where it should be.
pub fn missing(place: &Place) -> EngineError {
    EngineError::new(ErrorKind::Missing, format!("{place} is not there"))
}
