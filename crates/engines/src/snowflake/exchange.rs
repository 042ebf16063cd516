//! Exchanges: the statements that change what readers see. Each looks once more right before it.

use super::access::{self, Access};
use super::catalog::{self, Extent};
use super::plan::Held;
use super::session::Session;
use super::sql::{self, Grant, Place};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::fault::boundary;

/// Exchanges two tables, if nobody wrote to production's since it was looked at and everybody who may
/// read it may read the other. Says what was written late.
pub fn tables(
    session: &Session,
    live: &Place,
    other: &Place,
    token: Option<&str>,
    rows: Option<u64>,
    wanted: &Access,
) -> Result<Vec<String>, EngineError> {
    if let Some(token) = token {
        nobody_wrote(session, &[(live.clone(), token)])?;
    }
    may_read(session, live, other, false, wanted)?;
    let what = format!("exchange {live} with {other}");
    session.run(&sql::swap(live, other), &what)?;
    boundary("tables exchanged");
    written_late(session, &other.schema, &[(live, &other.name, rows)])
}

/// Exchanges two schemas, on the same conditions for all that is in them.
pub fn schemas(
    session: &Session,
    live: &str,
    other: &str,
    held: &[Held],
    wanted: &Access,
) -> Result<Vec<String>, EngineError> {
    let database = session.database();
    let place = |schema: &str, held: &Held| Place::new(database, schema, &*held.name);
    let tokens: Vec<(Place, &str)> = held
        .iter()
        .filter_map(|one| Some((place(live, one), one.token.as_deref()?)))
        .collect();
    if !wanted.grants.is_empty() {
        let has = access::of_schema(session, other)?;
        if let Some(grant) = access::lost(wanted, &has).first() {
            return Err(lost(grant, &format!("the schema {live}")));
        }
    }
    for one in held {
        may_read(
            session,
            &place(live, one),
            &place(other, one),
            one.view,
            &one.access,
        )?;
    }
    nobody_wrote(session, &tokens)?;
    let what = format!("exchange the schema {live} with {other}");
    session.run(&sql::swap_schemas(database, live, other), &what)?;
    boundary("schemas exchanged");
    let places: Vec<Place> = held.iter().map(|one| place(live, one)).collect();
    let before: Vec<(&Place, &String, Option<u64>)> = places
        .iter()
        .zip(held)
        .map(|(at, one)| (at, &one.name, one.rows))
        .collect();
    written_late(session, other, &before)
}

fn nobody_wrote(session: &Session, known: &[(Place, &str)]) -> Result<(), EngineError> {
    let places: Vec<Place> = known.iter().map(|(at, _)| at.clone()).collect();
    let now = catalog::tokens(session, &places)?;
    let written = known
        .iter()
        .find(|(at, token)| now.get(at).is_some_and(|now| now != token));
    match written {
        None => Ok(()),
        Some((at, _)) => Err(EngineError::new(
            ErrorKind::Refused,
            format!("others wrote to {at} after it was looked at"),
        )
        .hint("run the command again: what they wrote is then part of what is decided on")),
    }
}

fn may_read(
    session: &Session,
    live: &Place,
    other: &Place,
    view: bool,
    wanted: &Access,
) -> Result<(), EngineError> {
    if wanted.grants.is_empty() {
        return Ok(());
    }
    let has = access::read(session, other, view)?;
    match access::lost(wanted, &has).first() {
        None => Ok(()),
        Some(grant) => Err(lost(grant, &live.to_string())),
    }
}

fn lost(grant: &Grant, what: &str) -> EngineError {
    let text = format!("{} would lose {} on {what}", grant.to, grant.privilege);
    EngineError::new(ErrorKind::Refused, text)
}

/// What was written between the last look and the exchange is in what gave way: said, and how much.
fn written_late(
    session: &Session,
    gave_way: &str,
    before: &[(&Place, &String, Option<u64>)],
) -> Result<Vec<String>, EngineError> {
    let database = session.database();
    let scope = BTreeSet::from([gave_way.to_owned()]);
    let there = catalog::load(session, &scope, Extent::Names)?;
    let mut said = Vec::new();
    for (live, name, rows) in before {
        let at = Place::new(database, gave_way, name.as_str());
        let now = there.get(&at).and_then(|relation| relation.rows);
        if let (Some(then), Some(now)) = (rows, now)
            && *then != now
        {
            said.push(format!(
                "{live} had {then} rows when it was looked at and {now} when it gave way: what \
                 others wrote in between is kept with it"
            ));
        }
    }
    Ok(said)
}
