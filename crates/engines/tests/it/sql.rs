//! What the suite writes, as SQL that every database understands.

use unship_core::ident::RelationName;
use unship_core::testing::{Row, Table, Write};

/// `"schema"."name"`.
pub fn quoted(name: &RelationName) -> String {
    format!("\"{}\".\"{}\"", name.schema, name.name)
}

/// The statements that carry a write out. The schema is there.
pub fn statements(write: &Write) -> Vec<String> {
    let name = quoted(write.relation());
    match write {
        Write::Replace(_, table) => {
            let mut all = vec![format!("DROP TABLE IF EXISTS {name}"), create(&name, table)];
            all.extend(insert(&name, &table.rows));
            all
        }
        Write::Insert(_, rows) => insert(&name, rows).into_iter().collect(),
        Write::Drop(_) => vec![format!("DROP TABLE {name}")],
    }
}

/// The statement that makes a view, or replaces it.
pub fn view(view: &RelationName, of: &RelationName) -> String {
    format!(
        "CREATE OR REPLACE VIEW {} AS SELECT id, value FROM {}",
        quoted(view),
        quoted(of)
    )
}

fn create(name: &str, table: &Table) -> String {
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| format!("\"{column}\" BIGINT"))
        .collect();
    format!("CREATE TABLE {name} ({})", columns.join(", "))
}

fn insert(name: &str, rows: &[Row]) -> Option<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let cells: Vec<_> = row.iter().map(i64::to_string).collect();
            format!("({})", cells.join(", "))
        })
        .collect();
    (!rows.is_empty()).then(|| format!("INSERT INTO {name} VALUES {}", rows.join(", ")))
}
