//! Puts relations of an older file into the open one, in a single transaction.
//!
//! `CREATE OR REPLACE … AS FROM` would lose keys, defaults, indexes and comments, and turn
//! generated columns into data; `DELETE` and `INSERT` fail under foreign keys. So relations are
//! dropped (children first, never `CASCADE`), made again from the older file's own definitions,
//! filled, compared with the older file (definition and fingerprint), and only then committed.
//!
//! What is decided here:
//! - a table outside of the restore whose foreign key refers to a table inside: refused, by name;
//! - a restored table whose foreign key refers to a table outside: the parent stays as it is now;
//!   if its rows do not fit, DuckDB refuses and nothing has changed;
//! - views outside of the restore are text, and keep working; those that no longer bind afterwards
//!   are reported;
//! - a sequence that exists is never rewound; one that is missing is made at its older next value;
//! - compression options are restored where the catalog prints them (DuckDB 2.0 on).

mod plan;

use super::catalog::{Catalog, Key};
use super::definition;
use super::fingerprint::fingerprints;
use super::observe::definitions;
use super::quote;
use crate::duckdb::worker::{Worker, WorkerError};
use std::collections::BTreeMap;
use unship_core::ident::RelationName;
use unship_core::relation::{Fingerprint, RelationKind};

pub use plan::plan;

/// One relation that cannot be restored, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The relation.
    pub relation: RelationName,
    /// Why, and what would help.
    pub reason: String,
}

/// Why a restore did not happen. But for [`RestoreError::InDoubt`] the open file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It cannot be done; found before anything was changed.
    #[error("cannot restore:\n{}", lines(.0))]
    Refused(Vec<Refusal>),
    /// DuckDB refused a statement; everything was rolled back.
    #[error("nothing was changed: DuckDB refused `{sql}`: {source}")]
    Statement {
        /// The statement.
        sql: String,
        /// DuckDB's answer.
        source: WorkerError,
    },
    /// What was made is not what the source holds; everything was rolled back.
    #[error("nothing was changed: {relation} would not be as it is in the restore point: {what}")]
    Differs {
        /// The relation.
        relation: RelationName,
        /// What differs.
        what: String,
    },
    /// The worker ended between being told to commit and saying that it had.
    #[error(
        "it is not known whether the restore was committed: {0}. Look at the file: it is all as before, or all restored"
    )]
    InDoubt(WorkerError),
    /// A question to DuckDB failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

fn lines(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals
        .iter()
        .map(|refusal| format!("  {}: {}", refusal.relation, refusal.reason))
        .collect();
    lines.join("\n")
}

/// What a restore will do, before it does anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The catalog that is changed: the worker's main database.
    pub target: String,
    /// The catalog that is read.
    pub source: String,
    /// The statements between `BEGIN` and `COMMIT`, in order.
    pub statements: Vec<String>,
    /// What is brought from the source, under its name in the target. A sequence that exists
    /// already is not among them.
    pub bring: Vec<RelationName>,
    /// What is removed because the source has no such relation.
    pub remove: Vec<RelationName>,
    /// Views outside of the restore that read something in it, and that can be read now.
    pub readers: Vec<RelationName>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The fingerprints of the restored tables, equal to the source's.
    pub proved: BTreeMap<RelationName, Fingerprint>,
    /// Views outside of the restore that could be read before and cannot now, with DuckDB's words.
    pub broken: Vec<(RelationName, String)>,
}

/// Executes exactly `plan`, in one transaction: all of it and proved, or nothing.
///
/// # Errors
/// See [`RestoreError`].
pub fn apply(worker: &mut Worker, plan: &RestorePlan) -> Result<Restored, RestoreError> {
    worker.execute("BEGIN TRANSACTION", &[])?;
    match change(worker, plan) {
        Ok(proved) => {
            // It is committed: nothing from here on may look like a failure of the restore.
            let broken = broken(worker, &plan.readers).unwrap_or_else(|error| {
                let unknown = |view: &RelationName| (view.clone(), format!("not checked: {error}"));
                plan.readers.iter().map(unknown).collect()
            });
            Ok(Restored { proved, broken })
        }
        Err(error) => {
            // A worker that is gone has taken the transaction with it; the first error says so.
            let _ = worker.execute("ROLLBACK", &[]);
            let _ = worker.use_main();
            Err(error)
        }
    }
}

fn change(
    worker: &mut Worker,
    plan: &RestorePlan,
) -> Result<BTreeMap<RelationName, Fingerprint>, RestoreError> {
    for sql in &plan.statements {
        statement(worker, sql)?;
    }
    worker.use_main()?;
    let proved = prove(worker, plan)?;
    match statement(worker, "COMMIT") {
        Err(RestoreError::Statement {
            source: source @ (WorkerError::Died { .. } | WorkerError::Garbled(_)),
            ..
        }) => Err(RestoreError::InDoubt(source)),
        other => other.map(|()| proved),
    }
}

fn statement(worker: &mut Worker, sql: &str) -> Result<(), RestoreError> {
    worker
        .execute(sql, &[])
        .map_err(|source| RestoreError::Statement {
            sql: sql.to_owned(),
            source,
        })
}

/// Compares definitions and rows of everything that was brought with the source.
fn prove(
    worker: &mut Worker,
    plan: &RestorePlan,
) -> Result<BTreeMap<RelationName, Fingerprint>, RestoreError> {
    let made = definitions(&Catalog::load_inside_transaction(
        worker,
        &plan.target,
        &plan.target,
    )?);
    let meant = definitions(&Catalog::load_inside_transaction(
        worker,
        &plan.source,
        &plan.target,
    )?);
    let in_source = |relation: &RelationName| {
        RelationName::new(
            plan.source.clone(),
            relation.schema.clone(),
            relation.name.clone(),
        )
    };
    let mut tables = Vec::new();
    for relation in &plan.bring {
        let differs = |what: String| RestoreError::Differs {
            relation: relation.clone(),
            what,
        };
        let (Some(made), Some(meant)) = (made.get(relation), meant.get(&in_source(relation)))
        else {
            return Err(differs("it is not there".to_owned()));
        };
        if made.kind != meant.kind || !definition::same(&made.definition, &meant.definition) {
            return Err(differs(format!(
                "its definition is\n{}\nand should be\n{}",
                made.definition, meant.definition
            )));
        }
        if made.kind == RelationKind::Table {
            // A view's columns are what they were when it was last bound, which proves nothing.
            if made.columns != meant.columns {
                return Err(differs("its columns differ".to_owned()));
            }
            tables.push(relation.clone());
        }
    }
    for relation in &plan.remove {
        if made.contains_key(relation) {
            let what = "it is still there".to_owned();
            return Err(RestoreError::Differs {
                relation: relation.clone(),
                what,
            });
        }
    }
    let proved = fingerprints(worker, &tables)?;
    let sources: Vec<RelationName> = tables.iter().map(in_source).collect();
    let mut expected = fingerprints(worker, &sources)?;
    for (relation, print) in &proved {
        if expected.remove(&in_source(relation)).as_ref() != Some(print) {
            let what = "its rows have another fingerprint".to_owned();
            return Err(RestoreError::Differs {
                relation: relation.clone(),
                what,
            });
        }
    }
    Ok(proved)
}

/// Those views that cannot be bound, with DuckDB's words.
fn broken(
    worker: &mut Worker,
    views: &[RelationName],
) -> Result<Vec<(RelationName, String)>, WorkerError> {
    let mut broken = Vec::new();
    for view in views {
        match worker.texts(&format!("DESCRIBE (FROM {})", quote::full(view)), &[]) {
            Ok(_) => {}
            Err(WorkerError::Sql { message, .. }) => broken.push((view.clone(), message)),
            Err(error) => return Err(error),
        }
    }
    Ok(broken)
}

fn key(relation: &RelationName) -> Key {
    (relation.schema.clone(), relation.name.clone())
}

#[cfg(test)]
mod tests;
