//! Order-independent digests of rows, in one scan.

use super::super::worker::{Worker, WorkerError};
use super::quote;
use std::collections::BTreeMap;
use unship_core::ident::RelationName;
use unship_core::relation::{Column, Fingerprint};

/// How a cell is hashed, by its column's type. DuckDB's `hash` follows SQL equality, which is not
/// enough to prove that rows are the same: under a case-blind collation it takes `a` for `A`,
/// it takes `0.0` for `-0.0`, one month for 30 days, and `NULL`, `[]` and `[NULL]` for each
/// other.
fn cell_hash(column: &Column) -> String {
    let cell = quote::name(&column.name);
    let of = column.data_type.as_str();
    if of == "VARCHAR" {
        // As bytes, which no collation touches; the hash is the same.
        format!("hash(encode({cell}))")
    } else if of == "FLOAT" || of == "DOUBLE" {
        format!("hash({cell}, signbit({cell}))")
    } else if is_hashed_as_it_is(of) {
        format!("hash({cell})")
    } else if of.starts_with("UNION(") && of.ends_with(')') {
        format!("hash({cell}, CAST({cell} AS VARCHAR), union_tag({cell}))")
    } else {
        format!("hash({cell}, CAST({cell} AS VARCHAR))")
    }
}

/// Whether [`cell_hash`] makes no text of it.
fn is_hashed_without_text(data_type: &str) -> bool {
    matches!(data_type, "FLOAT" | "DOUBLE") || is_hashed_as_it_is(data_type)
}

/// Whether equality of this type is sameness, so that `hash` and `=` miss nothing (but for the
/// collation of a `VARCHAR`).
pub(super) fn is_hashed_as_it_is(data_type: &str) -> bool {
    let simple = [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "VARCHAR",
        "BLOB",
        "UUID",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_NS",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP WITH TIME ZONE",
        "BIT",
    ];
    let sized = data_type.ends_with(')')
        && (data_type.starts_with("DECIMAL(") || data_type.starts_with("ENUM("));
    sized || simple.contains(&data_type)
}

/// The same for a type that `hash` does not take.
fn text_hash(column: &Column) -> String {
    format!("hash(CAST({} AS VARCHAR))", quote::name(&column.name))
}

/// One table's fingerprint, with one scan. `columns` are all its columns, generated ones included.
///
/// # Errors
/// DuckDB's own, or the worker's end.
pub fn fingerprint(
    worker: &mut Worker,
    relation: &RelationName,
    columns: &[Column],
) -> Result<Fingerprint, WorkerError> {
    fingerprint_of(worker, &quote::full(relation), columns)
}

/// The same of anything that a query can read from: a quoted name, or a query in parentheses.
///
/// # Errors
/// DuckDB's own, or the worker's end.
pub(super) fn fingerprint_of(
    worker: &mut Worker,
    from: &str,
    columns: &[Column],
) -> Result<Fingerprint, WorkerError> {
    // The text of a timestamp inside a nested value depends on the session's time zone.
    let in_its_zone = |worker: &mut Worker, hashes: Vec<String>, with_text: bool| {
        if with_text {
            in_utc(worker, |worker| scan(worker, from, columns, &hashes))
        } else {
            scan(worker, from, columns, &hashes)
        }
    };
    let with_text = !columns.iter().all(|c| is_hashed_without_text(&c.data_type));
    match in_its_zone(worker, columns.iter().map(cell_hash).collect(), with_text) {
        Err(WorkerError::Sql { kind, .. }) if kind == "Binder" || kind == "Not implemented" => {
            in_its_zone(worker, columns.iter().map(text_hash).collect(), true)
        }
        other => other,
    }
}

/// The fingerprints of several tables, with one scan each. Their columns are read from the catalog.
///
/// # Errors
/// DuckDB's own (a relation that is not there, for one), or the worker's end.
pub fn fingerprints(
    worker: &mut Worker,
    relations: &[RelationName],
) -> Result<BTreeMap<RelationName, Fingerprint>, WorkerError> {
    let mut all = BTreeMap::new();
    for relation in relations {
        let columns = columns(worker, relation)?;
        all.insert(relation.clone(), fingerprint(worker, relation, &columns)?);
    }
    Ok(all)
}

/// A relation's columns as a query sees them.
pub(super) fn columns(
    worker: &mut Worker,
    relation: &RelationName,
) -> Result<Vec<Column>, WorkerError> {
    let rows = worker.texts(&format!("DESCRIBE {}", quote::full(relation)), &[])?;
    let mut columns = Vec::new();
    for row in rows {
        match row.as_slice() {
            [Some(name), Some(data_type), nullable, ..] => columns.push(Column {
                name: name.clone(),
                data_type: data_type.clone(),
                nullable: nullable.as_deref() != Some("NO"),
            }),
            _ => return Err(WorkerError::Garbled("a column without a type".to_owned())),
        }
    }
    Ok(columns)
}

/// Runs `work` with the session's time zone at UTC, and puts it back. Where DuckDB has no time
/// zones (the `icu` extension is missing) there is nothing to set.
pub(super) fn in_utc<T>(
    worker: &mut Worker,
    work: impl FnOnce(&mut Worker) -> Result<T, WorkerError>,
) -> Result<T, WorkerError> {
    let zone = worker.texts("SELECT current_setting('TimeZone')", &[]);
    let zone = zone
        .ok()
        .and_then(|rows| rows.into_iter().flatten().flatten().next());
    let Some(zone) = zone else {
        return work(worker);
    };
    worker.execute("SET TimeZone = 'UTC'", &[])?;
    let done = work(worker);
    let back = worker.execute(&format!("SET TimeZone = {}", quote::text(&zone)), &[]);
    let done = done?;
    back?;
    Ok(done)
}

fn scan(
    worker: &mut Worker,
    from: &str,
    columns: &[Column],
    hashes: &[String],
) -> Result<Fingerprint, WorkerError> {
    let inner: Vec<String> = hashes
        .iter()
        .enumerate()
        .map(|(i, hash)| format!("{hash} AS h{i}"))
        .collect();
    let cells: Vec<String> = (0..hashes.len()).map(|i| format!("h{i}")).collect();
    let mut sums = vec![
        "count(*)".to_owned(),
        format!("sum(hash({}))", cells.join(", ")),
    ];
    sums.extend(cells.iter().map(|cell| format!("sum({cell})")));
    let sums: Vec<String> = sums
        .iter()
        .map(|sum| format!("CAST(coalesce({sum}, 0) AS VARCHAR)"))
        .collect();
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM {})",
        sums.join(", "),
        inner.join(", "),
        from
    );
    let garbled = || WorkerError::Garbled("a fingerprint without numbers".to_owned());
    let row = worker
        .texts(&sql, &[])?
        .into_iter()
        .next()
        .ok_or_else(garbled)?;
    let mut row = row.into_iter();
    let mut next = || row.next().flatten().ok_or_else(garbled);
    let rows = next()?.parse().map_err(|_| garbled())?;
    let whole = next()?;
    let mut by_name = BTreeMap::new();
    for column in columns {
        by_name.insert(column.name.clone(), next()?);
    }
    Ok(Fingerprint {
        method: format!("duckdb-hash/{}", worker.duckdb_version()),
        rows,
        whole,
        columns: by_name,
    })
}
