//! What others wrote to tables with an undo log, by whom, and whether it can stay while what releases
//! wrote is taken back.

use super::back::{Scope, Target, looks};
use super::known::{Known, Moment, known};
use super::position::Position;
use crate::postgres::catalog::rows;
use crate::postgres::error::Doing;
use crate::postgres::quote;
use crate::postgres::swap::Name;
use postgres::{Client, IsolationLevel};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, RestoreRequest};
use unship_core::ident::RelationName;
use unship_core::others::{Replay, Written};
use unship_core::relation::RelationState;

/// What others did: whatever no release did, and no way back.
#[derive(Debug, Deserialize)]
struct Done {
    added: u64,
    lost: u64,
    come: u64,
    who: Vec<String>,
}

/// Looks at the tables of a request whose changes are written down since `published`; the others are
/// not in what it gives.
pub fn survey(
    client: &mut Client,
    request: &RestoreRequest,
    published: &BTreeMap<RelationName, RelationState>,
) -> Result<BTreeMap<RelationName, Written>, EngineError> {
    let mut out = BTreeMap::new();
    for (name, then) in published {
        let Some((table, moment)) = logged(client, name, then)? else {
            continue;
        };
        let Some(done) = done(client, &table, &moment)? else {
            continue;
        };
        // Looking is dear, and for nothing where nobody wrote.
        if done.who.is_empty() {
            continue;
        }
        let keep = keep(client, request, name, &done)?;
        let written = Written {
            added: done.added,
            lost: done.lost,
            writers: done.who,
            keep,
        };
        out.insert(name.clone(), written);
    }
    Ok(out)
}

/// The table of a name, if a state of it is a moment that its log reaches back to.
fn logged(
    client: &mut Client,
    name: &RelationName,
    state: &RelationState,
) -> Result<Option<(Known, Moment)>, EngineError> {
    let Some(storage) = &state.storage else {
        return Ok(None);
    };
    let Some(position) = Position::read(storage) else {
        return Ok(None);
    };
    let wanted = BTreeSet::from([Name::new(&*name.schema, &*name.name)]);
    let table = known(client, &wanted)?.pop();
    Ok(table.and_then(|table| {
        let same = position.storage(table.relation) == *storage;
        let reached = same && table.out_of_reach(&position).is_none();
        let moment = table.moment(&position).filter(|_| reached)?;
        Some((table, moment))
    }))
}

fn done(client: &mut Client, table: &Known, moment: &Moment) -> Result<Option<Done>, EngineError> {
    let sql = format!(
        "SELECT coalesce(sum(c.come) FILTER (WHERE c.op = 'insert'), 0)::bigint AS added,
                coalesce(sum(c.gone), 0)::bigint AS lost, coalesce(sum(c.come), 0)::bigint AS come,
                coalesce(array_agg(DISTINCT concat(c.role, ' (' || nullif(c.application, '') || ')')), '{{}}') AS who
           FROM unship_undo.changes c
          WHERE c.release IS NULL AND c.op NOT IN ('on', 'back')
            AND c.guard = $1 AND (c.seq > $2 OR NOT pg_visible_in_snapshot(c.xid, {}::pg_snapshot))",
        quote::text(&moment.snapshot)
    );
    let found: Vec<Done> = rows(client, &sql, &[&table.guard, &moment.last])?;
    Ok(found.into_iter().next())
}

/// Whether what others wrote can stay: only what releases wrote is taken back, by the statements that
/// would do it, in a transaction that is taken back itself.
fn keep(
    client: &mut Client,
    request: &RestoreRequest,
    name: &RelationName,
    done: &Done,
) -> Result<Result<Replay, String>, EngineError> {
    const WHAT: &str = "see whether what others wrote can stay";
    let wanted = request.bring.get(name).and_then(|v| v.state.as_ref());
    let Some(wanted) = wanted else {
        return Ok(Err(
            "there is no such relation in the release gone back to".to_owned()
        ));
    };
    let Some((table, moment)) = logged(client, name, wanted)? else {
        return Ok(Err(
            "the undo log does not reach back to what is wanted".to_owned()
        ));
    };
    let stands = format!("@{}", request.release);
    let position = Position {
        guard: table.guard,
        at: stands.clone(),
    };
    let target = Target {
        table: &table,
        moment,
        scope: Scope::jobs(),
        stands,
        take_all: true,
        expected: None,
    };
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .doing(WHAT)?;
    for statement in looks(&target).0 {
        match transaction.batch_execute(&statement).doing(WHAT) {
            // What the statement says is the reason; it was never meant to be done.
            Err(error) if error.kind == ErrorKind::Refused => {
                let said = error.message.strip_prefix(&format!("could not {WHAT}: "));
                return Ok(Err(said.unwrap_or(&error.message).to_owned()));
            }
            other => other?,
        }
    }
    transaction.rollback().doing(WHAT)?;
    Ok(Ok(Replay {
        rows: done.come,
        conflicts: Vec::new(),
        conflicting: 0,
        after: Some(RelationState {
            storage: Some(position.storage(table.relation)),
            rows: None,
            fingerprint: None,
            ..wanted.clone()
        }),
        // Nothing has to be done besides.
        engine: serde_json::json!([]),
    }))
}
