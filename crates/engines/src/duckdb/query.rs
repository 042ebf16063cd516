//! Reading for checks: measuring relations, and queries that people write.

use super::engine::DuckDb;
use super::sql::{profile, quote};
use super::worker::{Canceller, Open, Worker};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::engine::{EngineError, ErrorKind, OnProgress, Place};
use unship_core::ident::RelationName;

impl DuckDb {
    /// Opens all files of a place, the main one under its own name and the others under their
    /// aliases, so that names mean there what they mean to a job.
    fn open_place(
        &mut self,
        place: Place,
        on: OnProgress<'_>,
    ) -> Result<Option<&mut Worker>, EngineError> {
        let files = self.files.clone();
        let mut open: Option<Open> = None;
        for file in &files {
            let path = self.path_at(file, place, on)?;
            if !path.exists() {
                continue;
            }
            open = Some(match open {
                None => Open::read_only(path),
                Some(open) => open.with(path, &file.catalog),
            });
        }
        match open {
            Some(open) => self.sessions.must_open(open).map(Some),
            None => Ok(None),
        }
    }
}

/// Measures the relations that are there.
pub(super) fn profiles(
    db: &mut DuckDb,
    place: Place,
    relations: &BTreeMap<RelationName, Detail>,
    on: OnProgress<'_>,
) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
    let mut out = BTreeMap::new();
    let Some(worker) = db.open_place(place, on)? else {
        return Ok(out);
    };
    let there = relations_there(worker)?;
    let wanted: Vec<_> = relations
        .iter()
        .filter(|(name, _)| there.contains(*name))
        .collect();
    let total = wanted.len() as u64;
    for (done, (name, detail)) in wanted.into_iter().enumerate() {
        on("measuring", done as u64, total);
        let measured = match detail {
            Detail::Rows => profile::rows(worker, name)?,
            Detail::Columns => profile::profile(worker, name)?,
        };
        out.insert(name.clone(), measured);
    }
    worker.close()?;
    Ok(out)
}

fn relations_there(worker: &mut Worker) -> Result<BTreeSet<RelationName>, EngineError> {
    let rows = worker.texts(
        "SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE NOT internal \
         UNION ALL SELECT database_name, schema_name, view_name FROM duckdb_views() WHERE NOT internal",
        &[],
    )?;
    let names = rows.into_iter().filter_map(|row| {
        let mut parts = row.into_iter().flatten();
        Some(RelationName::new(
            parts.next()?,
            parts.next()?,
            parts.next()?,
        ))
    });
    Ok(names.collect())
}

/// Runs a query of somebody's at a place.
pub(super) fn query(
    db: &mut DuckDb,
    place: Place,
    sql: &str,
    limit: u64,
    timeout: Duration,
) -> Result<Answer, EngineError> {
    let Some(worker) = db.open_place(place, &|_, _, _| {})? else {
        let text = "there is no database to be asked";
        return Err(EngineError::new(ErrorKind::Missing, text));
    };
    names_without_schema(worker)?;
    let alarm = Alarm::set(worker.canceller(), timeout);
    let began = Instant::now();
    let answer = worker.query(sql, &[], limit);
    let took = began.elapsed();
    let rang = alarm.off();
    if rang {
        // Where the query ended by itself at that very moment, the next request would be cancelled.
        let _ = worker.execute("SELECT 1", &[]);
    }
    let answer = answer.map_err(|error| match EngineError::from(error) {
        error if rang && error.kind == ErrorKind::Interrupted => EngineError::new(
            ErrorKind::Interrupted,
            format!("the query took longer than {timeout:?}"),
        ),
        error => error,
    })?;
    worker.close()?;
    Ok(Answer {
        columns: answer.columns.into_iter().map(|(name, _)| name).collect(),
        rows: answer.rows,
        truncated: answer.truncated,
        took,
    })
}

/// Lets a name without a schema be found in every schema of the main database.
fn names_without_schema(worker: &mut Worker) -> Result<(), EngineError> {
    let main = worker.database().to_owned();
    let rows = worker.texts(
        "SELECT schema_name FROM duckdb_schemas() WHERE database_name = ? AND NOT internal ORDER BY 1",
        &[unship_core::value::Value::Text(main.clone())],
    )?;
    let schemas = rows.into_iter().flatten().flatten();
    let path: Vec<String> = schemas
        .map(|schema| format!("{}.{}", quote::name(&main), quote::name(&schema)))
        .collect();
    if !path.is_empty() {
        let sql = format!("SET search_path = {}", quote::text(&path.join(",")));
        worker.execute(&sql, &[])?;
    }
    Ok(())
}

/// Interrupts a worker after a while.
struct Alarm {
    off: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<bool>,
}

impl Alarm {
    fn set(canceller: Canceller, after: Duration) -> Self {
        let (off, turned_off) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let rings = turned_off.recv_timeout(after) == Err(RecvTimeoutError::Timeout);
            if rings {
                canceller.cancel();
            }
            rings
        });
        Self { off, thread }
    }

    /// Turns it off, and says whether it rang.
    fn off(self) -> bool {
        let _ = self.off.send(());
        self.thread.join().unwrap_or(false)
    }
}
