//! Derived views: tables that are a fold over the log, kept so that reading stays fast.
//!
//! A view is brought up to date in the transaction that appends, so that it is never behind. If it
//! is, because a program without this view appended, or because its definition changed, the next
//! append or read catches up. What a view holds can always be thrown away and made again.

use super::{
    super::{
        backend::check_run,
        entry::{Entry, Head},
        error::LedgerError,
    },
    Durable, SqliteLedger,
    open::is_own_table,
    read_stored, sql_int,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params, types::Value};
use std::collections::BTreeMap;

/// How many entries are read at once.
const BATCH: usize = 1000;

/// A fold over the log into tables.
///
/// It keeps no state outside of its tables: a transaction may be rolled back.
pub trait View: Send {
    /// Its name, for ever.
    fn name(&self) -> &'static str;

    /// Grows whenever `schema` or `apply` changes: the view is then made again from the log.
    fn version(&self) -> u32;

    /// The tables that `schema` makes, and those that former versions made: all are dropped before
    /// the view is made again.
    fn tables(&self) -> &'static [&'static str];

    /// The statements that make its tables and indexes.
    fn schema(&self) -> &'static str;

    /// Takes the next entry in. Entries come in order, each once; most will not concern it.
    ///
    /// An error refuses the append, and nothing is written. The log outlives programs: an event of
    /// a type or shape that the view does not know is no error.
    ///
    /// # Errors
    /// What the database says.
    fn apply(&self, tx: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()>;
}

/// A view's table that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDifference {
    /// The view.
    pub view: &'static str,
    /// The table.
    pub table: &'static str,
    /// How many rows it lacks.
    pub missing: u64,
    /// How many rows it has that it should not have.
    pub extra: u64,
}

impl SqliteLedger {
    /// Reads the views' tables, up to date with the log, in one snapshot.
    ///
    /// Whatever `read` writes is rolled back.
    ///
    /// # Errors
    /// What `read` answers, or whatever keeps the views from being brought up to date.
    pub fn query<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        loop {
            let tx = self
                .conn
                .unchecked_transaction()
                .map_err(|e| self.error(e))?;
            if self.are_current(&tx)? {
                return read(&tx).map_err(|e| self.error(e));
            }
            if self.read_only {
                let views: Vec<&dyn View> = self.views.iter().map(AsRef::as_ref).collect();
                let fresh = self.fresh(&tx, &views, u64::MAX)?;
                return read(&fresh).map_err(|e| self.error(e));
            }
            drop(tx);
            let tx = self.write(Durable::Now)?;
            advance(self, &tx, &self.views)?;
            tx.commit().map_err(|e| self.error(e))?;
        }
    }

    /// Makes every view again from the log.
    ///
    /// # Errors
    /// Whatever keeps the log from being read or the views from being written.
    pub fn rebuild_views(&mut self) -> Result<(), LedgerError> {
        let tx = self.write(Durable::Now)?;
        tx.execute("DELETE FROM views", [])
            .map_err(|e| self.error(e))?;
        advance(self, &tx, &self.views)?;
        tx.commit().map_err(|e| self.error(e))
    }

    /// Compares every view, as far as it has got, with one that is made from the log aside. A view
    /// of another version is passed over: it will be made again before it is read.
    ///
    /// # Errors
    /// Whatever keeps the log or the views from being read.
    pub fn check_views(&self) -> Result<Vec<ViewDifference>, LedgerError> {
        let tx = self
            .conn
            .unchecked_transaction()
            .map_err(|e| self.error(e))?;
        let mut differences = Vec::new();
        for view in &self.views {
            let view = view.as_ref();
            let Some(done) = progress(&tx, view).map_err(|e| self.error(e))? else {
                continue;
            };
            let right = self.fresh(&tx, &[view], done)?;
            for table in view.tables() {
                let (missing, extra) = compare(&right, &tx, table).map_err(|e| self.error(e))?;
                if (missing, extra) != (0, 0) {
                    differences.push(ViewDifference {
                        view: view.name(),
                        table,
                        missing,
                        extra,
                    });
                }
            }
        }
        Ok(differences)
    }

    fn are_current(&self, conn: &Connection) -> Result<bool, LedgerError> {
        let head = self.head_in(conn)?;
        for view in &self.views {
            if progress(conn, view.as_ref()).map_err(|e| self.error(e))? != Some(head.seq) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn head_in(&self, conn: &Connection) -> Result<Head, LedgerError> {
        super::head(conn)
            .map_err(|e| self.error(e))?
            .ok_or_else(|| self.damaged("its last entry has no hash"))
    }

    /// These views of the log that `tx` sees, up to entry `until`, made in a temporary database.
    fn fresh(
        &self,
        tx: &Transaction<'_>,
        views: &[&dyn View],
        until: u64,
    ) -> Result<Connection, LedgerError> {
        let mut fresh = Connection::open("").map_err(|e| self.error(e))?;
        let into = fresh.transaction().map_err(|e| self.error(e))?;
        for view in views {
            into.execute_batch(view.schema())
                .map_err(|e| failed(*view, &e))?;
            fold(self, tx, &into, *view, 0, until)?;
        }
        into.commit().map_err(|e| self.error(e))?;
        Ok(fresh)
    }
}

/// Brings the views to the end of the log as `tx` sees it.
pub(super) fn advance(
    ledger: &SqliteLedger,
    tx: &Transaction<'_>,
    views: &[Box<dyn View>],
) -> Result<(), LedgerError> {
    for view in views {
        let view = view.as_ref();
        let done = match progress(tx, view).map_err(|e| ledger.error(e))? {
            Some(seq) => seq,
            None => {
                make_again(tx, view).map_err(|e| failed(view, &e))?;
                0
            }
        };
        let last = fold(ledger, tx, tx, view, done, u64::MAX)?;
        tx.prepare_cached(
            "INSERT INTO views (name, version, seq) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, seq = excluded.seq",
        )
        .and_then(|mut statement| {
            statement.execute(params![view.name(), view.version(), sql_int(last)])
        })
        .map_err(|e| ledger.error(e))?;
    }
    Ok(())
}

/// Up to which entry the view has got; `None` if it must be made again.
fn progress(conn: &Connection, view: &dyn View) -> rusqlite::Result<Option<u64>> {
    let row: Option<i64> = conn
        .prepare_cached("SELECT seq FROM views WHERE name = ?1 AND version = ?2")?
        .query_row(params![view.name(), view.version()], |row| row.get(0))
        .optional()?;
    Ok(row.and_then(|seq| u64::try_from(seq).ok()))
}

fn make_again(tx: &Transaction<'_>, view: &dyn View) -> rusqlite::Result<()> {
    for table in view.tables() {
        if is_own_table(table) {
            return Err(rusqlite::Error::InvalidParameterName((*table).to_owned()));
        }
        tx.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(table)))?;
    }
    tx.execute_batch(view.schema())
}

/// Applies the entries of `from` after place `done` and up to `until` to `into`, and says which was
/// the last.
fn fold(
    ledger: &SqliteLedger,
    from: &Connection,
    into: &Transaction<'_>,
    view: &dyn View,
    mut done: u64,
    until: u64,
) -> Result<u64, LedgerError> {
    while done < until {
        let limit = usize::try_from(until - done).map_or(BATCH, |left| left.min(BATCH));
        let stored = read_stored(from, done + 1, limit).map_err(|e| ledger.error(e))?;
        for entry in check_run(done + 1, &stored)? {
            view.apply(into, &entry).map_err(|e| failed(view, &e))?;
            done = entry.seq;
        }
        if stored.len() < limit {
            break;
        }
    }
    Ok(done)
}

fn failed(view: &dyn View, error: &rusqlite::Error) -> LedgerError {
    LedgerError::View {
        view: view.name(),
        what: error.to_string(),
    }
}

/// How many rows the second table lacks (at least one if the table is gone), and how many it has
/// too many. Only rows that differ are held in memory.
fn compare(right: &Connection, stored: &Connection, table: &str) -> rusqlite::Result<(u64, u64)> {
    let columns: i64 = right.query_row(
        "SELECT count(*) FROM pragma_table_info(?1)",
        [table],
        |row| row.get(0),
    )?;
    if columns == 0 {
        // A former version's table.
        return Ok((0, 0));
    }
    let order: Vec<String> = (1..=columns).map(|i| i.to_string()).collect();
    let sql = format!(
        "SELECT * FROM {} ORDER BY {}",
        quoted(table),
        order.join(", ")
    );
    let mut right = right.prepare(&sql)?;
    let Ok(mut stored) = stored.prepare(&sql) else {
        let mut rows = right.query([])?;
        let mut missing = 0;
        while rows.next()?.is_some() {
            missing += 1;
        }
        return Ok((missing.max(1), 0));
    };
    let (right_columns, stored_columns) = (right.column_count(), stored.column_count());
    let (mut right, mut stored) = (right.query([])?, stored.query([])?);
    // Rows that stand in one table at the place of another row of the other: by how many more of
    // them there are in the right one.
    let mut surplus: BTreeMap<String, i64> = BTreeMap::new();
    loop {
        let a = next(&mut right, right_columns)?;
        let b = next(&mut stored, stored_columns)?;
        if a.is_none() && b.is_none() {
            break;
        }
        if a != b {
            for (row, by) in [(a, 1), (b, -1)] {
                if let Some(row) = row {
                    let key = format!("{row:?}");
                    let count = surplus.remove(&key).unwrap_or(0) + by;
                    if count != 0 {
                        surplus.insert(key, count);
                    }
                }
            }
        }
    }
    let total = |sign: i64| {
        let counts = surplus.values().map(|count| count * sign);
        counts
            .filter(|count| *count > 0)
            .sum::<i64>()
            .unsigned_abs()
    };
    Ok((total(1), total(-1)))
}

fn next(rows: &mut rusqlite::Rows<'_>, columns: usize) -> rusqlite::Result<Option<Vec<Value>>> {
    rows.next()?
        .map(|row| (0..columns).map(|i| row.get(i)).collect())
        .transpose()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
