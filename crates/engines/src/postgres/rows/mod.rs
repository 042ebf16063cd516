//! Some rows of a relation in place of others: the rows of an older version come in, the ones that
//! give way are kept in a table of unship's, and the rest of the relation is not even read.
//!
//! The relation stays the one that it is. So the version that it was before is not retained as a
//! whole: what is retained of it are the rows that went, and they change places with the others again
//! when it is wanted back.

mod exchange;
mod held;
pub mod others;
mod predicate;
mod survey;

pub use exchange::{Exchange, run};
pub use held::{RECONCILED, forget_gone, housekeep, list, points};
pub use survey::{Found, afterwards, put_back, same_storage, survey};

use super::plan::{ENGINE, PgAction, facts};
use super::swap::Name;
use super::undo::slice::Slice;
use super::{layout, quote, undo};
use unship_core::engine::{EngineError, ErrorKind, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;
use unship_core::plan::Step;
use unship_core::rows::{RowsRequest, RowsSurvey};

/// The name of the table in which the rows are kept that give way to a release's, for the `n`-th of
/// its relations.
pub fn away(release: ReleaseId, n: usize) -> String {
    format!("rows_r{}_{n}", release.0)
}

/// The same, quoted and with its schema.
pub fn away_full(name: &str) -> String {
    quote::relation(layout::HOME, name)
}

/// Steps that fulfil a request for rows.
pub fn plan(survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
    let found: Found = serde_json::from_value(survey.engine.clone()).map_err(|e| {
        EngineError::new(ErrorKind::Io, "the survey of rows cannot be read").because(e)
    })?;
    let all: Vec<(RelationName, Exchange)> = found
        .exchanges
        .into_iter()
        .filter(|(name, _)| request.relations.contains_key(name))
        .collect();
    let slices: Vec<_> = (found.slices.iter())
        .filter(|(name, _)| request.relations.contains_key(*name))
        .collect();
    if !slices.is_empty() {
        return by_log(&slices, !all.is_empty(), request);
    }
    let rows: u64 = all
        .iter()
        .map(|(_, one)| one.out.rows + one.back.rows)
        .sum();
    let method = format!(
        "put the rows of the older version in place of those of now, in one transaction: {} in {}",
        count(usize::try_from(rows).unwrap_or(usize::MAX), "row"),
        count(all.len(), "relation")
    );
    Ok(Steps {
        steps: vec![step(1, all)?],
        method,
        notes: vec![NO_TRIGGERS.to_owned()],
        ..Steps::default()
    })
}

const NO_TRIGGERS: &str = "triggers on the relation do not fire for it: what they did once for these rows is not done again";

/// Rows of tables whose changes are written down: nothing has to be kept besides.
fn by_log(
    slices: &[(&RelationName, &Slice)],
    others: bool,
    request: &RowsRequest,
) -> Result<Steps, EngineError> {
    if others {
        let text = "rows of tables with an undo log and of others cannot be brought back at once";
        return Err(EngineError::new(ErrorKind::Unsupported, text)
            .hint("bring them back one after the other, with `--select`"));
    }
    let rows: u64 = slices.iter().map(|(_, one)| one.out + one.back).sum();
    Ok(Steps {
        method: format!(
            "take back, where they stand, what changed in the chosen rows, in one transaction: {} in {}",
            count(usize::try_from(rows).unwrap_or(usize::MAX), "row"),
            count(slices.len(), "table")
        ),
        steps: vec![undo::slice::step(1, slices, request)?],
        notes: vec![NO_TRIGGERS.to_owned()],
        ..Steps::default()
    })
}

/// The step in which rows change places.
pub fn step(id: u32, all: Vec<(RelationName, Exchange)>) -> Result<Step, EngineError> {
    let (mut guard, mut expect, mut statements) = (Vec::new(), Vec::new(), Vec::new());
    for (_, one) in &all {
        let kept = Name::new(layout::HOME, &*one.away);
        guard.push(facts::relation(&one.name, Some(one.oid)));
        guard.push(facts::relation(&kept, None));
        expect.push(facts::relation(&one.name, Some(one.oid)));
        expect.push(facts::made(&kept));
        statements.extend(one.statements());
    }
    let relations: Vec<RelationName> = all.iter().map(|(name, _)| name.clone()).collect();
    let exchanges = all.into_iter().map(|(_, one)| one).collect();
    Ok(Step {
        id,
        after: (1..id).collect(),
        engine: ENGINE.to_owned(),
        explain: format!(
            "put rows of {} in place of others, and keep the others, in one transaction",
            count(relations.len(), "relation")
        ),
        relations,
        statements,
        guard,
        expect,
        undo: None,
        production: true,
        action: PgAction::Exchange { exchanges }.action()?,
    })
}

#[cfg(test)]
mod tests;
