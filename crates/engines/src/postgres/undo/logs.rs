//! Undo logs as a person looks at them.

use super::guard::{self, Guarded};
use super::shape;
use super::worth::{self, Worth};
use crate::postgres::catalog::rows;
use crate::postgres::engine::Postgres;
use postgres::Client;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::{Diagnosis, EngineError, Level};

/// The undo log of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    /// The table.
    pub table: String,
    /// Since when.
    pub since: String,
    /// How many rows are written down, as the planner has it.
    pub rows: u64,
    /// How much room they take, in bytes.
    pub bytes: u64,
    /// Why it may not hold all that happened.
    pub hole: Option<String>,
    /// What releases did to the table lately, and what writing that down takes.
    pub worth: Option<Worth>,
}

/// The undo logs of a database.
pub fn logs(client: &mut Client) -> Result<Vec<Log>, EngineError> {
    #[derive(Deserialize)]
    struct Size {
        rows: u64,
        bytes: u64,
    }
    let mut out = Vec::new();
    for guard in guard::open(client)? {
        let sql = "SELECT greatest(c.reltuples, 0)::bigint AS rows,
                          (pg_total_relation_size(c.oid) + coalesce(pg_total_relation_size(
                              to_regclass(concat('unship_undo.keys_', $1::bigint))), 0))::bigint AS bytes
                     FROM pg_class c WHERE c.oid = to_regclass(concat('unship_undo.rows_', $1::bigint))";
        let size = rows::<Size>(client, sql, &[&guard.id])?.into_iter().next();
        let Guarded { schema, name, .. } = &guard;
        out.push(Log {
            table: format!("{schema}.{name}"),
            since: guard.since.clone(),
            rows: size.as_ref().map_or(0, |size| size.rows),
            bytes: size.as_ref().map_or(0, |size| size.bytes),
            hole: guard::hole(client, &guard)?,
            worth: worth::of(client, guard.id)?,
        });
    }
    Ok(out)
}

/// What stands in the way of the undo logs that are wanted, for `unship doctor`.
pub fn examine(
    client: &mut Client,
    wanted: &BTreeSet<(String, String)>,
) -> Result<Vec<Diagnosis>, EngineError> {
    let mut out = Vec::new();
    let mut say = |level, subject: &str, finding: String, hint: Option<&str>| {
        out.push(Diagnosis {
            level,
            subject: format!("undo log of {subject}"),
            finding,
            hint: hint.map(str::to_owned),
        });
    };
    let logs = logs(client)?;
    for (schema, name) in wanted {
        let full = format!("{schema}.{name}");
        match shape::read(client, schema, name) {
            Err(error) => say(Level::Error, &full, error.message, error.hint.as_deref()),
            Ok(None) => say(
                Level::Note,
                &full,
                "the table is not there yet".to_owned(),
                None,
            ),
            Ok(Some(_)) => match logs.iter().find(|log| log.table == full) {
                None => say(
                    Level::Warning,
                    &full,
                    "is not on: nothing of it can be taken back yet".to_owned(),
                    Some("`unship undo-log sync` turns it on, and so does the next guarded run"),
                ),
                Some(log) => match &log.hole {
                    Some(why) => say(
                        Level::Warning,
                        &full,
                        format!("has a hole: {why}"),
                        Some("`unship undo-log sync` begins a new one: it reaches back to then"),
                    ),
                    None => {
                        let reaches = format!(
                            "reaches back to {}, and takes {} bytes",
                            log.since, log.bytes
                        );
                        match log.worth {
                            None => say(Level::Ok, &full, reaches, None),
                            Some(worth) if worth.is_copied_cheaper() => say(
                                Level::Note,
                                &full,
                                format!("{reaches}; {}", worth.words()),
                                Some(
                                    "let its job build it aside, which copies it: \
                                      take it out of `undo_log`",
                                ),
                            ),
                            Some(worth) => {
                                let text = format!("{reaches}; {}", worth.words());
                                say(Level::Ok, &full, text, None);
                            }
                        }
                    }
                },
            },
        }
    }
    if !wanted.is_empty() && !guard::is_kept(client)? {
        say(
            Level::Note,
            "all tables",
            "a job can drop such a table, and with it what the log cannot bring back".to_owned(),
            Some("a superuser's `unship undo-log sync` makes an event trigger that refuses it"),
        );
    }
    Ok(out)
}

impl Postgres {
    /// The undo logs of the database.
    pub fn undo_logs(&mut self) -> Result<Vec<Log>, EngineError> {
        logs(self.client()?)
    }

    /// Turns the log on for the tables that are to have one, and off for all others. Gives what a
    /// person should know, each a sentence.
    pub fn sync_undo_log(&mut self) -> Result<Vec<String>, EngineError> {
        let tables = self.undo_tables();
        let off = guard::remove(self.client()?, &tables, false)?;
        let off = off
            .iter()
            .map(|table| format!("{table} has no undo log any more"));
        let mut notes: Vec<_> = off.collect();
        notes.extend(guard::ensure(self.client()?, &tables)?);
        Ok(notes)
    }

    /// Turns the log off for all tables, and drops what was written down if that is to be forgotten.
    /// Gives the tables.
    pub fn undo_log_off(&mut self, forget: bool) -> Result<Vec<String>, EngineError> {
        guard::remove(self.client()?, &BTreeSet::new(), forget)
    }
}
