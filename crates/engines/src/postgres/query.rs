//! Queries that people write for checks.

use super::error::Doing;
use super::{profile, quote};
use postgres::Client;
use postgres::types::Type;
use std::time::{Duration, Instant};
use unship_core::check::Answer;
use unship_core::engine::{EngineError, ErrorKind, Place};
use unship_core::value::Value;

/// How a column's cells become text in PostgreSQL and a [`Value`] here.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Int,
    Float,
    Bytes,
    Text,
}

impl Kind {
    fn of(data_type: &Type) -> Self {
        match *data_type {
            Type::BOOL => Self::Bool,
            Type::INT2 | Type::INT4 | Type::INT8 => Self::Int,
            Type::FLOAT4 | Type::FLOAT8 => Self::Float,
            Type::BYTEA => Self::Bytes,
            _ => Self::Text,
        }
    }

    fn as_text(self, cell: &str) -> String {
        match self {
            Self::Bytes => format!("encode({cell}, 'hex')"),
            // Widened first: the shortest text of a 32-bit float is another 64-bit number.
            Self::Float => format!("{cell}::float8::text"),
            Self::Bool | Self::Int | Self::Text => format!("{cell}::text"),
        }
    }

    fn value(self, cell: Option<String>) -> Result<Value, EngineError> {
        let Some(text) = cell else {
            return Ok(Value::Null);
        };
        let value = match self {
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Int => text.parse().ok().map(Value::Int),
            Self::Float => text.parse().ok().map(Value::Float),
            Self::Bytes => crate::duckdb::worker::protocol::unhex(&text).map(Value::Bytes),
            Self::Text => return Ok(Value::Text(text)),
        };
        value.ok_or_else(|| {
            EngineError::new(ErrorKind::Query, format!("`{text}` is not understood"))
        })
    }
}

/// Runs one query in a transaction that can only read.
pub fn query(
    client: &mut Client,
    place: Place,
    only: Option<&[String]>,
    sql: &str,
    limit: u64,
    timeout: Duration,
) -> Result<Answer, EngineError> {
    let what = "run a check's query";
    let mut transaction = client
        .build_transaction()
        .read_only(true)
        .start()
        .doing(what)?;
    let path: Vec<String> = profile::search_path(&mut transaction, place, only)?
        .iter()
        .map(|schema| quote::name(schema))
        .collect();
    let milliseconds = timeout.as_millis().clamp(1, i32::MAX as u128);
    transaction
        .execute(
            "SELECT set_config('search_path', $1, true), set_config('statement_timeout', $2, true)",
            &[&path.join(", "), &milliseconds.to_string()],
        )
        .doing(what)?;
    let sql = sql.trim().trim_end_matches(';');
    // To be prepared it must be one statement, so that none of it can end the transaction.
    let described = transaction
        .prepare(&format!("SELECT * FROM (\n{sql}\n) AS unship_query"))
        .doing(what)?;
    let columns: Vec<String> = described
        .columns()
        .iter()
        .map(|column| column.name().to_owned())
        .collect();
    let kinds: Vec<Kind> = described
        .columns()
        .iter()
        .map(|column| Kind::of(column.type_()))
        .collect();
    let aliases: Vec<String> = (0..kinds.len()).map(|i| format!("c{i}")).collect();
    let cells: Vec<String> = kinds
        .iter()
        .zip(&aliases)
        .map(|(kind, alias)| kind.as_text(alias))
        .collect();
    let list = match aliases.is_empty() {
        true => String::new(),
        false => format!("({})", aliases.join(", ")),
    };
    let most = limit.saturating_add(1).min(i64::MAX as u64);
    let whole = format!(
        "SELECT ARRAY[{}]::text[] FROM (\n{sql}\n) AS unship_query{list} LIMIT {most}",
        cells.join(", ")
    );
    let began = Instant::now();
    let found = transaction.query(&whole, &[]).doing(what)?;
    let took = began.elapsed();
    transaction.rollback().doing(what)?;
    let truncated = found.len() as u64 > limit;
    let keep = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for row in found.iter().take(keep) {
        let cells: Vec<Option<String>> = row.try_get(0).doing(what)?;
        let values = cells.into_iter().zip(&kinds);
        rows.push(
            values
                .map(|(cell, kind)| kind.value(cell))
                .collect::<Result<Vec<_>, _>>()?,
        );
    }
    Ok(Answer {
        columns,
        rows,
        truncated,
        took,
    })
}
