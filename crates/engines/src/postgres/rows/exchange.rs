//! Rows change places: one transaction on the relation itself.

use super::super::error::{Doing, engine_error};
use super::super::quote;
use super::super::swap::Name;
use super::held;
use super::survey::print;
use super::{away_full, held::Kept};
use postgres::error::SqlState;
use postgres::{Client, Transaction};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::fault::boundary;
use unship_core::ident::ReleaseId;
use unship_core::relation::Fingerprint;
use unship_core::release::VersionId;

/// Rows of one relation that change places with others, and what is known of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The relation.
    pub name: Name,
    /// Its identity.
    pub oid: u32,
    /// Whether it has partitions, whose rows are its own.
    pub partitioned: bool,
    /// Its columns, generated ones included.
    pub columns: Vec<String>,
    /// The columns that are written, each with what it gets from a row that comes in.
    pub written: Vec<(String, String)>,
    /// Which rows.
    pub predicate: String,
    /// Where the rows that come in are, as a query reads it.
    pub source: String,
    /// The query that tells what the chosen rows of the relation are, as [`Fingerprint`] has it.
    pub print: String,
    /// What goes out.
    pub out: Fingerprint,
    /// What comes in.
    pub back: Fingerprint,
    /// The table that keeps what goes out.
    pub away: String,
    /// The version that the relation is.
    pub holds: VersionId,
    /// The version that it becomes.
    pub given: VersionId,
    /// The release that does it.
    pub release: ReleaseId,
    /// Rows that were kept and are in the relation again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Kept>,
    /// What is written down of it for people; none where it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<Flag>,
}

/// What is written down of rows that were reconciled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// The release of the version that they come from.
    pub from: ReleaseId,
    /// Why.
    pub why: Option<String>,
    /// By whom.
    pub who: String,
}

/// How often the lock is asked for, and how long each time.
const TRIES: u32 = 20;

impl Exchange {
    fn full(&self) -> String {
        quote::relation(&self.name.schema, &self.name.name)
    }

    /// As a query reads it: its own rows.
    fn own(&self) -> String {
        match self.partitioned {
            true => self.full(),
            false => format!("ONLY {}", self.full()),
        }
    }

    fn lock(&self) -> String {
        format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", self.own())
    }

    fn keep(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        format!(
            "CREATE TABLE {} AS SELECT {} FROM {} WHERE (\n{}\n)",
            away_full(&self.away),
            quote::names(columns),
            self.own(),
            self.predicate
        )
    }

    /// Out and in are one statement: a foreign key from elsewhere to a row that goes and comes again
    /// is looked at when both have happened. What goes is counted first, so that all of it is gone
    /// before the first row comes.
    fn exchange(&self) -> String {
        let columns = self.written.iter().map(|(column, _)| column.as_str());
        let cells: Vec<_> = self.written.iter().map(|(_, cell)| cell.as_str()).collect();
        format!(
            "WITH gone AS (DELETE FROM {} WHERE (\n{}\n) RETURNING 1) INSERT INTO {} ({}) \
             OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE (SELECT count(*) FROM gone) = {}",
            self.own(),
            self.predicate,
            self.full(),
            quote::names(columns),
            cells.join(", "),
            self.source,
            self.out.rows,
        )
    }

    /// What is written down with it.
    fn record(&self) -> Vec<String> {
        let (schema, name) = (quote::text(&self.name.schema), quote::text(&self.name.name));
        let predicate = quote::text(&self.predicate);
        let mut out = vec![format!(
            "INSERT INTO unship.exchanged (rows, schema, name, relation, holds_release, holds_drift, \
             given_release, given_drift, predicate) VALUES ({}, {schema}, {name}, {}, {}, {}, {}, {}, \
             {predicate})",
            quote::text(&self.away),
            self.oid,
            self.holds.release.0,
            self.holds.drift,
            self.given.release.0,
            self.given.drift,
        )];
        if let Some(flag) = &self.flag {
            let why = flag
                .why
                .as_ref()
                .map_or("NULL".to_owned(), |why| quote::text(why));
            out.push(format!(
                "INSERT INTO unship.reconciled (release, schema, name, predicate, from_release, \
                 rows_out, rows_back, why, who) VALUES ({}, {schema}, {name}, {predicate}, {}, {}, {}, \
                 {why}, {})",
                self.release.0,
                flag.from.0,
                self.out.rows,
                self.back.rows,
                quote::text(&flag.who),
            ));
        }
        if let Some(spent) = &self.spent {
            // The rows of the release that is taken back are not in production any more; if it is
            // redone, they are again.
            out.push(format!(
                "UPDATE unship.reconciled SET undone_by = CASE WHEN release = {} THEN {} END \
                 WHERE release IN ({}, {}) AND schema = {schema} AND name = {name}",
                spent.given_release, self.release.0, spent.given_release, self.given.release.0,
            ));
            out.push(held::forget(&spent.rows));
        }
        out
    }

    /// What will be run, for a person.
    pub fn statements(&self) -> Vec<String> {
        let mut out = vec![self.lock(), self.keep(), self.exchange()];
        out.extend(self.record());
        out
    }
}

/// Carries exchanges out, all in one transaction, with `extra` statements in it.
///
/// # Errors
/// Nothing was changed, but for an error of the connection at the very end: then the tables that keep
/// what went out are there if it was done.
pub fn run(
    client: &mut Client,
    exchanges: &[Exchange],
    extra: &[String],
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    for tables in [held::TABLES, held::RECONCILED, super::others::TABLE] {
        client
            .batch_execute(tables)
            .doing("make unship's own tables")?;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match once(client, exchanges, extra, on) {
            Err(error) if error.kind == ErrorKind::Busy && tries < TRIES => {
                on("waiting for a writer", u64::from(tries), u64::from(TRIES));
                std::thread::sleep(Duration::from_millis(250));
            }
            Ok(()) => {
                // What was counted for it is to be seen by the next look, which else would read all
                // rows to find out that nobody else wrote. Before version 15 it is not there.
                let _ = client.batch_execute("SELECT pg_catalog.pg_stat_force_next_flush()");
                return Ok(());
            }
            done => return done,
        }
    }
}

fn once(
    client: &mut Client,
    exchanges: &[Exchange],
    extra: &[String],
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let mut transaction = client.transaction().doing("begin")?;
    transaction
        .batch_execute("SET LOCAL lock_timeout = '500ms'; SET CONSTRAINTS ALL DEFERRED")
        .doing("begin")?;
    for one in exchanges {
        let what = format!("lock {}", one.name);
        transaction.batch_execute(&one.lock()).doing(&what)?;
    }
    // Whoever else holds what is altered now holds it against everybody.
    transaction
        .batch_execute("SET LOCAL lock_timeout = '15s'")
        .doing("begin")?;
    let mut triggers = Vec::new();
    for (n, one) in exchanges.iter().enumerate() {
        on("exchanging rows", n as u64, exchanges.len() as u64);
        triggers.extend(change(&mut transaction, one)?);
    }
    transaction
        .batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
        .map_err(|e| broken(&e, "bring the rows back"))?;
    transaction
        .batch_execute(&triggers.join(";\n"))
        .doing("turn triggers on again")?;
    for one in exchanges {
        let now = print(&mut transaction, &one.print, &one.columns, &one.out.method)?;
        if now != one.back {
            let text = format!(
                "the rows of {} would not be those of the older version",
                one.name
            );
            return Err(EngineError::new(ErrorKind::Refused, text)
                .hint("something in the database changes rows as they are written"));
        }
    }
    let mut end: Vec<String> = exchanges.iter().flat_map(Exchange::record).collect();
    let oids = exchanges.iter().map(|one| one.oid).collect();
    end.push(super::others::record(&oids));
    end.extend(extra.iter().cloned());
    transaction
        .batch_execute(&end.join(";\n"))
        .doing("record what was done")?;
    boundary("rows exchanged");
    transaction.commit().doing("commit")?;
    boundary("exchange committed");
    Ok(())
}

/// Gives the statements that turn triggers on again.
fn change(transaction: &mut Transaction<'_>, one: &Exchange) -> Result<Vec<String>, EngineError> {
    let what = format!("bring rows of {} back", one.name);
    let moved = |text: String| {
        EngineError::new(ErrorKind::Refused, text).hint("make a new plan: nothing was changed")
    };
    let found: Option<u32> = transaction
        .query_one("SELECT to_regclass($1)::oid", &[&one.full()])
        .and_then(|row| row.try_get(0))
        .doing(&what)?;
    if found != Some(one.oid) {
        return Err(moved(format!("{} is another relation by now", one.name)));
    }
    let columns: Vec<String> = transaction
        .query_one(
            "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
              WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
            &[&one.oid],
        )
        .and_then(|row| row.try_get(0))
        .doing(&what)?;
    if columns != one.columns {
        return Err(moved(format!("{} has other columns by now", one.name)));
    }
    if print(transaction, &one.print, &one.columns, &one.out.method)? != one.out {
        return Err(moved(format!(
            "others wrote to the rows of {} that are to be replaced, since this was planned",
            one.name
        )));
    }
    let triggers = triggers_off(transaction, one)?;
    transaction.batch_execute(&one.keep()).doing(&what)?;
    let written = transaction
        .execute(&one.exchange(), &[])
        .map_err(|e| broken(&e, &what))?;
    if written != one.back.rows {
        return Err(moved(format!(
            "{written} rows came into {} and not {}",
            one.name, one.back.rows
        )));
    }
    Ok(triggers)
}

/// A constraint that does not hold is a reason not to do it, and no failure.
fn broken(error: &postgres::Error, what: &str) -> EngineError {
    let constraint = |state: &SqlState| state.code().starts_with("23");
    let mut out = engine_error(error, what);
    if error.code().is_some_and(constraint) {
        out.kind = ErrorKind::Refused;
        out.hint = Some(
            "the rest of the warehouse does not fit these rows any more: choose other rows, or \
             bring back what belongs to them too"
                .to_owned(),
        );
    }
    out
}

/// Turns the triggers of others off, and gives the statements that turn them on again as they were.
/// unship's own go on: what they record is what happens to the relation, by whomever.
fn triggers_off(
    transaction: &mut Transaction<'_>,
    one: &Exchange,
) -> Result<Vec<String>, EngineError> {
    let what = format!("look at the triggers of {}", one.name);
    let sql = "
        SELECT n.nspname::text, c.relname::text, t.tgname::text, t.tgenabled::text
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE (t.tgrelid = $1
                OR t.tgrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))
           AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgname NOT LIKE 'unship\\_%'";
    let mut back = Vec::new();
    for row in transaction.query(sql, &[&one.oid]).doing(&what)? {
        let cell = |i: usize| row.try_get::<_, String>(i).doing(&what);
        let (table, name) = (
            quote::relation(&cell(0)?, &cell(1)?),
            quote::name(&cell(2)?),
        );
        transaction
            .batch_execute(&format!("ALTER TABLE {table} DISABLE TRIGGER {name}"))
            .doing(&what)?;
        let always = if cell(3)? == "A" { "ALWAYS " } else { "" };
        back.push(format!("ALTER TABLE {table} ENABLE {always}TRIGGER {name}"));
    }
    Ok(back)
}
