//! What a person wrote to choose rows, made sure to be one expression that means the same rows
//! whenever it is asked, by PostgreSQL itself.

use super::super::error::{Doing, said};
use super::super::quote;
use postgres::Client;
use postgres::error::SqlState;
use postgres::types::Type;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::rows::Rows;

/// The predicate that is meant, for a relation.
pub fn of(client: &mut Client, rows: &Rows, full: &str) -> Result<String, EngineError> {
    match rows {
        Rows::Where(text) => Ok(text.trim().to_owned()),
        Rows::Value { column, value } => {
            Ok(format!("{} = {}", quote::name(column), quote::text(value)))
        }
        Rows::Partition(name) => partition(client, name, full),
    }
}

/// What the rows of a partition have in common.
fn partition(client: &mut Client, name: &str, full: &str) -> Result<String, EngineError> {
    let what = "look for the partition";
    let sql = "
        SELECT pg_get_partition_constraintdef(c.oid), p.partstrat
          FROM pg_partition_tree($1::text::regclass) t
          JOIN pg_class c ON c.oid = t.relid
          JOIN pg_inherits i ON i.inhrelid = c.oid
          JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
         WHERE c.relname = $2";
    let row = client.query_opt(sql, &[&full, &name]).doing(what)?;
    let refused =
        |text: String, hint: &str| Err(EngineError::new(ErrorKind::Refused, text).hint(hint));
    let Some(row) = row else {
        return refused(
            format!("{full} has no partition {name}"),
            "name one of its partitions without the schema, or write `--partition COLUMN=VALUE`",
        );
    };
    let predicate: Option<String> = row.try_get(0).doing(what)?;
    let strategy: i8 = row.try_get(1).doing(what)?;
    match predicate {
        Some(predicate) if strategy != b'h' as i8 => Ok(predicate),
        Some(_) => refused(
            format!("{name} is a partition by hash, which says nothing of an older version's rows"),
            "choose the rows by `--where`",
        ),
        None => refused(
            format!("{name} holds all rows of {full}"),
            "leave the partition out",
        ),
    }
}

/// Makes sure that a predicate is one expression, that it is true or false, and that it asks nothing
/// but the columns of these relations: no other relation, no function whose answer depends on more
/// than its arguments.
///
/// # Errors
/// [`ErrorKind::Refused`] with what PostgreSQL says of it.
pub fn check(client: &mut Client, predicate: &str, sources: &[&str]) -> Result<(), EngineError> {
    for source in sources {
        // Prepared by the extended protocol, it can be only one statement. Between brackets of two
        // kinds, it cannot close the one and open it again: so it is one expression.
        let mut transaction = client
            .build_transaction()
            .read_only(true)
            .start()
            .doing("look at the predicate")?;
        let refused = |e: &postgres::Error| refused(e, predicate);
        transaction
            .prepare(&format!("SELECT FROM {source} WHERE (\n{predicate}\n)"))
            .map_err(|e| refused(&e))?;
        let list = transaction
            .prepare(&format!("SELECT ARRAY[\n{predicate}\n] FROM {source}"))
            .map_err(|e| refused(&e))?;
        if list.columns().first().map(|c| c.type_().clone()) != Some(Type::BOOL_ARRAY) {
            let text = format!("`{predicate}` is not true or false of a row");
            return Err(EngineError::new(ErrorKind::Refused, text).hint(HINT));
        }
        transaction.rollback().doing("look at the predicate")?;
        // What an index may be built on asks nothing but the row, and always answers the same.
        let mut transaction = client.transaction().doing("look at the predicate")?;
        let like = source.strip_prefix("ONLY ").unwrap_or(source);
        transaction
            .batch_execute(&format!(
                "CREATE TEMPORARY TABLE unship_probe (LIKE {like})"
            ))
            .doing("look at the predicate")?;
        let index = format!("CREATE INDEX ON pg_temp.unship_probe ((1)) WHERE (\n{predicate}\n)");
        transaction.execute(&index, &[]).map_err(|e| refused(&e))?;
        transaction.rollback().doing("look at the predicate")?;
    }
    Ok(())
}

const HINT: &str = "write one condition on the columns of the relation, like \"order_date = date \
                    '2026-11-20'\"; a moment with its time zone, nothing that depends on now, and no \
                    other relation";

fn refused(error: &postgres::Error, predicate: &str) -> EngineError {
    let missing = error.code() == Some(&SqlState::UNDEFINED_COLUMN);
    let mut out = said(error, &format!("`{predicate}` cannot choose rows"));
    if out.kind != ErrorKind::Io {
        out.kind = ErrorKind::Refused;
        out.hint = Some(match missing {
            true => "it has to be a column of the relation in both versions".to_owned(),
            false => HINT.to_owned(),
        });
    }
    out
}
