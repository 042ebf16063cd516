//! Every attribute that the catalog has of a set of relations, as lines of text: what is compared
//! before and after a move to prove that nothing was lost.
//!
//! It reads the system catalogs' own rows, whatever columns they have in this version of
//! PostgreSQL, and not what [`survey`](super::survey()) chose to read: a thing that the survey does
//! not know of still shows up here.

use super::survey::{cell, failed};
use postgres::Client;
use std::collections::BTreeSet;
use unship_core::engine::EngineError;

/// Lists all attributes of everything in these schemas, in order, identities replaced by names.
pub fn catalog(client: &mut Client, schemas: &[&str]) -> Result<Vec<String>, EngineError> {
    let mut tx = client.transaction().map_err(failed)?;
    tx.batch_execute("SET LOCAL search_path = ''; SET LOCAL jit = off")
        .map_err(failed)?;
    let lines = tx
        .query(include_str!("sql/oracle.sql"), &[&schemas])
        .map_err(failed)?
        .iter()
        .map(|row| cell(row, 0))
        .collect::<Result<_, _>>()?;
    tx.commit().map_err(failed)?;
    Ok(lines)
}

/// What is in only one of two listings: `-` before, `+` after.
pub fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let was: BTreeSet<&String> = before.iter().collect();
    let is: BTreeSet<&String> = after.iter().collect();
    let gone = was.difference(&is).map(|l| format!("- {l}"));
    let come = is.difference(&was).map(|l| format!("+ {l}"));
    gone.chain(come).collect()
}
