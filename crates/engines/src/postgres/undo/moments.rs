//! Where tables stood at a moment, and what was done to them.

use super::guard::Guarded;
use super::home;
use super::known::Known;
use super::position::Position;
use crate::postgres::catalog::rows;
use crate::postgres::swap::Name;
use jiff::Timestamp;
use postgres::{Client, GenericClient};
use serde::Deserialize;
use std::collections::BTreeSet;
use unship_core::engine::{Change, EngineError, Moment, Moments};
use unship_core::ident::RelationName;

/// Whose changes had been made at a moment, as a snapshot. A transaction counts from when it last
/// wrote: whoever built on what it wrote did so after its end, and wrote later still.
const AT: &str = "
    WITH done AS (
        SELECT c.xid::text::bigint AS xid, max(c.at) AS last FROM unship_undo.changes c
         WHERE c.guard = $1 GROUP BY 1),
    here AS (SELECT 1 + max(xid) AS next, max(last) AS last FROM done WHERE last <= $2::text::timestamptz)
    SELECT CASE WHEN here.next IS NOT NULL THEN (
               SELECT concat(coalesce(min(xid), here.next), ':', here.next, ':',
                             string_agg(xid::text, ',' ORDER BY xid), '/',
                             (SELECT max(c.seq) FROM unship_undo.changes c WHERE c.guard = $1))
                 FROM done WHERE xid < here.next AND last > $2::text::timestamptz) END AS at,
           here.last FROM here";

#[derive(Deserialize)]
struct At {
    at: Option<String>,
    last: Option<Timestamp>,
}

/// Where the tables of a database stood; those that a writer wrote to, where one is named.
pub fn moments(
    client: &mut Client,
    database: &str,
    at: Option<Timestamp>,
    writer: Option<&str>,
) -> Result<Moments, EngineError> {
    let mut out = Moments::default();
    for guard in super::guard::open(client)? {
        let all = BTreeSet::from([Name::new(&*guard.schema, &*guard.name)]);
        let Some(known) = super::known::known(client, &all)?.pop() else {
            continue;
        };
        if !wrote(client, &guard, writer)? {
            continue;
        }
        let name = RelationName::new(database, &*known.name.schema, &*known.name.name);
        let found = match at {
            Some(at) => then(client, &known, at)?,
            None => Some((known.position.clone(), None)),
        };
        let why = match &found {
            Some((position, _)) => known.out_of_reach(position),
            None => Some(format!("has an undo log only since {}", known.since)),
        };
        match (why, found) {
            (None, Some((position, last))) => {
                let storage = position.storage(known.relation);
                out.relations.insert(name, Moment { storage, last });
            }
            (why, _) => {
                out.uncovered.insert(name, why.unwrap_or_default());
            }
        }
    }
    Ok(out)
}

fn then(
    client: &mut Client,
    known: &Known,
    at: Timestamp,
) -> Result<Option<(Position, Option<Timestamp>)>, EngineError> {
    let found: Vec<At> = rows(client, AT, &[&known.guard, &at.to_string()])?;
    let found = found.into_iter().next();
    let Some((at, last)) = found.and_then(|found| Some((found.at?, found.last))) else {
        return Ok(None);
    };
    let position = Position {
        guard: known.guard,
        at,
    };
    Ok(Some((position, last)))
}

fn wrote(
    client: &mut impl GenericClient,
    guard: &Guarded,
    writer: Option<&str>,
) -> Result<bool, EngineError> {
    #[derive(Deserialize)]
    struct Wrote {
        wrote: bool,
    }
    let Some(writer) = writer else {
        return Ok(true);
    };
    let sql = "SELECT EXISTS (SELECT FROM unship_undo.changes c
                WHERE c.guard = $1 AND $2 IN (c.role, c.application)) AS wrote";
    let found: Vec<Wrote> = rows(client, sql, &[&guard.id, &writer])?;
    Ok(found.first().is_some_and(|found| found.wrote))
}

/// What was done to a table, transaction by transaction, the newest first. Changes of a log that has
/// ended are among them, for as long as they are kept.
pub fn changes(client: &mut Client, at: &Name, limit: u64) -> Result<Vec<Change>, EngineError> {
    if !home::there(client)? {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = "
        SELECT max(c.at) AS at, array_agg(DISTINCT c.op) AS operations, c.role, c.application, c.release,
               sum(c.come)::bigint AS come, sum(c.gone)::bigint AS gone,
               string_agg(DISTINCT c.note, '; ') AS note
          FROM unship_undo.changes c JOIN unship_undo.guards g ON g.id = c.guard
         WHERE g.schema = $1 AND g.name = $2
         GROUP BY g.id, c.xid, c.role, c.application, c.release
         ORDER BY max(c.seq) DESC LIMIT $3";
    rows(client, sql, &[&at.schema, &at.name, &limit])
}
