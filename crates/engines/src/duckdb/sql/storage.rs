//! A cheap digest of where and how a table's rows are stored.

use super::super::worker::{Worker, WorkerError};
use super::catalog::Key;
use super::quote;

/// The storage facts that are digested, in this order. Statistics are left out: their type is not
/// the same in every version, and no segment changes them without moving.
const CELLS: [&str; 11] = [
    "row_group_id",
    "column_id",
    "column_path",
    "segment_id",
    "segment_type",
    "start",
    "count",
    "compression",
    "block_id",
    "block_offset",
    "additional_block_ids",
];

/// The digest, or `None` where a part of the table is not in the file itself (its last change
/// stands in the write-ahead log or in memory), or where DuckDB cannot be asked about a table of
/// that name. Only the catalog and metadata are read.
///
/// # Errors
/// Only if the worker fails.
pub fn digest(
    worker: &mut Worker,
    catalog: &str,
    key: &Key,
) -> Result<Option<String>, WorkerError> {
    let cells: Vec<String> = CELLS
        .iter()
        .map(|cell| format!("CAST({} AS VARCHAR)", quote::name(cell)))
        .collect();
    let table = quote::relation(catalog, &key.0, &key.1);
    let sql = format!(
        "SELECT CAST(persistent AND NOT has_updates AS VARCHAR), {} \
         FROM pragma_storage_info({}) ORDER BY row_group_id, column_id, column_path, segment_id",
        cells.join(", "),
        quote::text(&table),
    );
    let mut hasher = blake3::Hasher::new();
    let mut stored = true;
    let read = worker.each_text(&sql, &[], |row| {
        let mut cells = row.into_iter();
        stored &= cells.next().flatten().as_deref() == Some("true");
        for cell in cells {
            // Lengths first, so that no two rows of cells spell the same bytes.
            match cell {
                None => hasher.update(&u64::MAX.to_le_bytes()),
                Some(text) => hasher
                    .update(&(text.len() as u64).to_le_bytes())
                    .update(text.as_bytes()),
            };
        }
        Ok(())
    });
    match read {
        Ok(()) => Ok(stored.then(|| hasher.finalize().to_hex().to_string())),
        // Before DuckDB 2.0 a table with a quote in its name cannot be asked about.
        Err(WorkerError::Sql { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
