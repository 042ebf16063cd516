//! A cheap digest of where and how a table's rows are stored, and of what stands there.

use super::super::worker::{Worker, WorkerError};
use super::catalog::Key;
use super::{blocks, quote};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The storage facts that are digested, in this order. The statistics come last: they hold text of
/// the rows, which could otherwise be taken for the next fact.
const FACTS: [&str; 12] = [
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
    "stats",
];

/// How many tables are asked about in one statement.
const BATCH: usize = 100;

/// What the catalog and the metadata say of a table's rows; nothing of it reads a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many rows there are, exactly.
    pub rows: Option<u64>,
    /// Where and how they are stored; `None` where a part of the table is not in the file itself
    /// (its last change stands in the write-ahead log or in memory), or where DuckDB cannot be asked
    /// about a table of that name.
    pub digest: Option<String>,
    /// The numbers of the blocks that they are stored in.
    pub blocks: BTreeSet<u64>,
}

/// The same of many tables at once: a question costs more than its answer.
///
/// # Errors
/// Only if the worker fails.
pub fn stored(
    worker: &mut Worker,
    catalog: &str,
    keys: &[&Key],
) -> Result<BTreeMap<Key, Stored>, WorkerError> {
    let mut all = BTreeMap::new();
    for batch in keys.chunks(BATCH) {
        let tables: Vec<String> = batch
            .iter()
            .map(|key| quote::relation(catalog, &key.0, &key.1))
            .collect();
        let rows = ask(worker, &tables, counts)?;
        let digests = ask(worker, &tables, digests)?;
        let numbers = ask(worker, &tables, numbers)?;
        for (at, key) in batch.iter().enumerate() {
            let stored = Stored {
                rows: rows.get(&at).and_then(|text| text.parse().ok()),
                digest: digests.get(&at).cloned(),
                blocks: numbers
                    .get(&at)
                    .into_iter()
                    .flat_map(|text| text.split(' '))
                    .filter_map(|number| number.parse().ok())
                    .collect(),
            };
            all.insert((*key).clone(), stored);
        }
    }
    let path = file_of(worker, catalog)?;
    if path.is_none_or(|path| blocks::witness(&path, &mut all).is_err()) {
        // The place alone proves nothing: the rows will be read.
        for stored in all.values_mut() {
            stored.digest = None;
        }
    }
    Ok(all)
}

/// The file of a database; one in memory has none.
fn file_of(worker: &mut Worker, catalog: &str) -> Result<Option<PathBuf>, WorkerError> {
    let sql = format!(
        "SELECT path FROM duckdb_databases() WHERE database_name = {}",
        quote::text(catalog)
    );
    let rows = worker.texts(&sql, &[])?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().next().flatten())
        .map(PathBuf::from))
}

/// One answer for each table, by its place. Where the question fails for all of them together, it
/// is put for one after the other, and a table for which it fails alone has no answer.
fn ask(
    worker: &mut Worker,
    tables: &[String],
    question: fn(&[(usize, &String)]) -> String,
) -> Result<BTreeMap<usize, String>, WorkerError> {
    let tables: Vec<(usize, &String)> = tables.iter().enumerate().collect();
    let mut answers = BTreeMap::new();
    match answer(worker, &question(&tables), &mut answers) {
        Err(WorkerError::Sql { .. }) => {}
        done => return done.map(|()| answers),
    }
    for table in &tables {
        match answer(worker, &question(std::slice::from_ref(table)), &mut answers) {
            // Before DuckDB 2.0 a table with a quote in its name cannot be asked about.
            Ok(()) | Err(WorkerError::Sql { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answers)
}

fn answer(
    worker: &mut Worker,
    sql: &str,
    answers: &mut BTreeMap<usize, String>,
) -> Result<(), WorkerError> {
    for row in worker.texts(sql, &[])? {
        if let [Some(at), Some(text)] = row.as_slice()
            && let Ok(at) = at.parse()
        {
            answers.insert(at, text.clone());
        }
    }
    Ok(())
}

fn union(tables: &[(usize, &String)], each: impl Fn(usize, &str) -> String) -> String {
    let parts: Vec<String> = tables.iter().map(|(at, table)| each(*at, table)).collect();
    parts.join(" UNION ALL ")
}

fn counts(tables: &[(usize, &String)]) -> String {
    union(tables, |at, table| {
        format!("SELECT '{at}', CAST(count(*) AS VARCHAR) FROM {table}")
    })
}

/// DuckDB digests by itself: a large table has hundreds of thousands of segments. No two of them
/// have equal facts, so that their order does not matter.
fn digests(tables: &[(usize, &String)]) -> String {
    let facts: Vec<String> = FACTS
        .iter()
        .map(|fact| format!("coalesce(CAST({} AS VARCHAR), chr(0))", quote::name(fact)))
        .collect();
    let segments = union(tables, |at, table| {
        let table = quote::text(table);
        format!("SELECT '{at}' AS unship_at, * FROM pragma_storage_info({table})")
    });
    format!(
        "SELECT unship_at, CASE WHEN bool_and(stored) THEN sha256(string_agg(digest, '' ORDER BY digest)) END \
         FROM (SELECT unship_at, persistent AND NOT has_updates AS stored, \
         sha256(concat_ws(' ', {})) AS digest FROM ({segments})) GROUP BY unship_at",
        facts.join(", "),
    )
}

fn numbers(tables: &[(usize, &String)]) -> String {
    let segments = union(tables, |at, table| {
        let table = quote::text(table);
        format!(
            "SELECT '{at}' AS unship_at, unnest(list_append(CAST(additional_block_ids AS BIGINT[]), \
             block_id)) AS number FROM pragma_storage_info({table})"
        )
    });
    format!(
        "SELECT unship_at, string_agg(DISTINCT CAST(number AS VARCHAR), ' ') FROM ({segments}) \
         WHERE number >= 0 GROUP BY unship_at"
    )
}
