//! Rows that others wrote to a relation since it was published, told by the transaction that wrote
//! each of them, and how they are put into an older version.
//!
//! What a release brings was all written by transactions that had ended when it was published. Whoever
//! writes to it later was not seen by that moment's snapshot, however long their transaction had been
//! open. That says which rows are new; that all others are still what they were, says the fingerprint.

use super::super::error::Doing;
use super::super::swap::Name;
use super::super::{fingerprint, layout, quote, retained};
use super::survey::{Fit, Side, fit, print};
use postgres::Client;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, OnProgress, RestoreRequest};
use unship_core::ident::RelationName;
use unship_core::others::{Replay, Written};
use unship_core::relation::{Fingerprint, RelationState};
use unship_core::rows::exchanged;

/// The table of the moments at which relations became production.
pub const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS unship.published (
        relation oid PRIMARY KEY,
        snapshot text NOT NULL,
        transaction bigint NOT NULL
    )";

/// The statement that records the moment, for the transaction in which it happens.
pub fn record(relations: &BTreeSet<u32>) -> String {
    let all: Vec<String> = relations.iter().map(u32::to_string).collect();
    format!(
        "INSERT INTO unship.published (relation, snapshot, transaction) \
         SELECT c.oid, pg_current_snapshot()::text, pg_current_xact_id()::text::bigint \
           FROM pg_class c WHERE c.oid = ANY ('{{{}}}'::oid[]) \
         ON CONFLICT (relation) DO UPDATE SET snapshot = excluded.snapshot, \
         transaction = excluded.transaction",
        all.join(",")
    )
}

/// Forgets the moments of relations that are gone.
pub fn forget_gone(client: &mut Client) -> Result<(), EngineError> {
    let sql = "DELETE FROM unship.published p
                WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = p.relation)";
    match made(client)? {
        true => client.batch_execute(sql).doing("forget what is gone"),
        false => Ok(()),
    }
}

fn made(client: &mut Client) -> Result<bool, EngineError> {
    client
        .query_one("SELECT to_regclass('unship.published') IS NOT NULL", &[])
        .and_then(|row| row.try_get(0))
        .doing("look for the moments of releases")
}

/// How many conflicts are named.
const NAMED: usize = 5;

/// Looks at each relation that a request replaces.
pub fn survey(
    client: &mut Client,
    request: &RestoreRequest,
    published: &BTreeMap<RelationName, RelationState>,
    on: OnProgress<'_>,
) -> Result<BTreeMap<RelationName, Written>, EngineError> {
    let mut out = BTreeMap::new();
    if !made(client)? {
        return Ok(out);
    }
    let total = published.len() as u64;
    for (n, (name, then)) in published.iter().enumerate() {
        on("counting what others wrote", n as u64, total);
        let at = Name::new(&*name.schema, &*name.name);
        // Views have no rows of their own, and what was put in another's place is not told apart.
        let Ok(live) = Side::load(client, &at) else {
            continue;
        };
        if let Some(written) = one(client, request, name, then, &live)? {
            out.insert(name.clone(), written);
        }
    }
    Ok(out)
}

fn one(
    client: &mut Client,
    request: &RestoreRequest,
    name: &RelationName,
    then: &RelationState,
    live: &Side,
) -> Result<Option<Written>, EngineError> {
    let what = format!("look at who wrote to {name}");
    let moment = client
        .query_opt(
            "SELECT snapshot, transaction FROM unship.published WHERE relation = $1",
            &[&live.oid],
        )
        .doing(&what)?;
    let (Some(moment), Some(print_then)) = (moment, &then.fingerprint) else {
        return Ok(None);
    };
    let snapshot: String = moment.try_get(0).doing(&what)?;
    let transaction: i64 = moment.try_get(1).doing(&what)?;
    let Some(seen) = seen(&snapshot, transaction) else {
        return Ok(None);
    };
    let method = fingerprint::method(live.version);
    if print_then.method != method {
        return Ok(None);
    }
    let same_columns = then.columns.len() == live.columns.len()
        && (then.columns.iter().zip(&live.columns)).all(|(a, b)| a.name == b.name);
    if !same_columns {
        let keep = Err("others changed its columns".to_owned());
        return Ok(Some(Written {
            added: 0,
            lost: 0,
            writers: Vec::new(),
            keep,
        }));
    }
    let read = |client: &mut Client, predicate: &str| {
        let sql = fingerprint::query(&live.chosen(predicate), &live.columns, None, live.version);
        print(client, &sql, &live.names(), method)
    };
    let left = read(client, &seen)?;
    let added = read(client, &format!("NOT ({seen})"))?;
    let now = request.live_map.get(name).and_then(|v| v.state.as_ref());
    let brought = now.and_then(|state| state.fingerprint.as_ref()) == Some(&left);
    if added.rows == 0 && left != *print_then && brought {
        let why = "what others had written to it came back together with its own rows";
        return Ok(Some(Written {
            added: 0,
            lost: 0,
            writers: Vec::new(),
            keep: Err(why.to_owned()),
        }));
    }
    // What is left of the release's rows; where one was changed, it is no longer among them.
    let lost = print_then.rows.saturating_sub(left.rows);
    let lost = lost.max(u64::from(left != *print_then));
    let keep = match request.bring.get(name) {
        _ if lost > 0 => Err(
            "others changed or deleted rows of the release, and what these were is not retained"
                .to_owned(),
        ),
        None => Err("there is no such relation in the release gone back to".to_owned()),
        Some(_) => replay(client, request, name, live, &seen, print_then.rows)?,
    };
    Ok(Some(Written {
        added: added.rows,
        lost,
        writers: Vec::new(),
        keep,
    }))
}

/// What is true of a row that was there at a moment. A row says the lower half of its transaction's
/// number; the rest follows from the transaction of now, since none lies further back than half of
/// what the lower half can say without having been frozen.
fn seen(snapshot: &str, own: i64) -> Option<String> {
    let mut parts = snapshot.split(':');
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (oldest, next) = (number()?, number()?);
    let open: Vec<i64> = parts
        .next()
        .unwrap_or_default()
        .split(',')
        .filter_map(|text| text.parse().ok())
        .collect();
    let open: Vec<String> = open.iter().map(i64::to_string).collect();
    let now = "(SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint)";
    let low = "xmin::text::bigint";
    let full = format!(
        "(({now} >> 32 << 32) + {low} - CASE WHEN {low} > ({now} & 4294967295) THEN 4294967296 ELSE 0 \
         END)"
    );
    Some(format!(
        "{full} < {oldest} OR {full} = {own} OR ({full} < {next} AND {full} <> ALL \
         ('{{{}}}'::bigint[]))",
        open.join(",")
    ))
}

/// How the rows that are not `seen` are put into the version that is wanted.
fn replay(
    client: &mut Client,
    request: &RestoreRequest,
    name: &RelationName,
    live: &Side,
    seen: &str,
    rows: u64,
) -> Result<Result<Replay, String>, EngineError> {
    let (Some(wanted), Some(now)) = (request.bring.get(name), request.live_map.get(name)) else {
        return Ok(Err("it is not in both releases".to_owned()));
    };
    let held = retained::list(client)?;
    let there = held.iter().any(|one| {
        let same = one.version() == wanted.id && one.kind.is_some();
        same && one.schema == name.schema && one.name == name.name
    });
    if !there {
        return Ok(Err(format!("{} of it comes back by itself", wanted.id)));
    }
    let schema = layout::retained(wanted.id.release, &name.schema)?;
    let older = Side::load(client, &Name::new(schema, &*name.name))?;
    let fits = match fit(&older, live, now.id.release) {
        Ok((fits, _)) => fits,
        Err(error) => return Ok(Err(error.message)),
    };
    let theirs = live.chosen(&format!("NOT ({seen})"));
    let coming = cells(&fits, &theirs);
    let keys = keys(client, older.oid)?;
    let clash: Vec<String> = keys
        .iter()
        .map(|key| {
            let same = key.iter().map(|c| {
                let c = quote::name(c);
                format!("o.{c} = c.{c}")
            });
            let same: Vec<_> = same.collect();
            format!(
                "EXISTS (SELECT FROM {} o WHERE {})",
                older.own(),
                same.join(" AND ")
            )
        })
        .collect();
    let clash = match clash.is_empty() {
        true => "false".to_owned(),
        false => clash.join(" OR "),
    };
    let free = format!("(SELECT * FROM {coming} c WHERE NOT ({clash})) free");
    let method = fingerprint::method(older.version);
    let query = fingerprint::query(&free, &older.columns, None, older.version);
    let more = print(client, &query, &older.names(), method)?;
    let (conflicts, conflicting) = conflicts(client, &coming, &clash, &keys)?;
    let state = wanted.state.clone();
    let print = state.as_ref().and_then(|s| s.fingerprint.as_ref());
    let nothing = Fingerprint {
        method: method.to_owned(),
        rows: 0,
        whole: "0".to_owned(),
        columns: more
            .columns
            .keys()
            .map(|c| (c.clone(), "0".to_owned()))
            .collect(),
    };
    let print = print.and_then(|whole| exchanged(whole, &nothing, &more));
    let (Some(state), Some(print)) = (state, print) else {
        return Ok(Err(format!(
            "it is not known what {} of it holds",
            wanted.id
        )));
    };
    // When it is done, what is live now lies where it is retained.
    let gone = Side {
        name: Name::new(layout::retained(now.id.release, &name.schema)?, &*name.name),
        ..live.clone()
    };
    let at = Name::new(&*name.schema, &*name.name);
    let statements = statements(client, &older, &gone, &at, &fits, seen, rows)?;
    Ok(Ok(Replay {
        rows: more.rows,
        conflicts,
        conflicting,
        after: Some(RelationState {
            rows: Some(print.rows),
            fingerprint: Some(print),
            storage: None,
            ..state
        }),
        engine: serde_json::json!(statements),
    }))
}

fn cells(fits: &[Fit], from: &str) -> String {
    let cells = fits
        .iter()
        .map(|one| format!("{} AS {}", one.cell, quote::name(&one.column)));
    let cells: Vec<_> = cells.collect();
    format!("(SELECT {} FROM {from})", cells.join(", "))
}

/// The columns of each key of a table.
fn keys(client: &mut Client, oid: u32) -> Result<Vec<Vec<String>>, EngineError> {
    let sql = "
        SELECT array_agg(a.attname::text ORDER BY a.attnum)
          FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
         WHERE i.indrelid = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
         GROUP BY i.indexrelid ORDER BY i.indexrelid";
    let what = "look for keys";
    let rows = client.query(sql, &[&oid]).doing(what)?;
    rows.iter().map(|row| row.try_get(0).doing(what)).collect()
}

fn conflicts(
    client: &mut Client,
    coming: &str,
    clash: &str,
    keys: &[Vec<String>],
) -> Result<(Vec<String>, u64), EngineError> {
    let what = "look for conflicts";
    let Some(key) = keys.first() else {
        return Ok((Vec::new(), 0));
    };
    let sql = format!("SELECT count(*) FROM {coming} c WHERE {clash}");
    let count: i64 = client
        .query_one(&sql, &[])
        .and_then(|row| row.try_get(0))
        .doing(what)?;
    let cells = key.iter().map(|c| {
        let label = quote::text(&format!("{c} "));
        format!("{label} || c.{}::text", quote::name(c))
    });
    let cells: Vec<_> = cells.collect();
    let sql = format!(
        "SELECT concat_ws(', ', {}) FROM {coming} c WHERE {clash} ORDER BY 1 LIMIT {NAMED}",
        cells.join(", ")
    );
    let rows = client.query(&sql, &[]).doing(what)?;
    let named: Result<_, _> = rows.iter().map(|row| row.try_get(0).doing(what)).collect();
    Ok((named?, count.unsigned_abs()))
}

/// What is run when the older version has taken the place of the one of now: all that others added
/// until that moment goes into it. They cannot write meanwhile.
fn statements(
    client: &mut Client,
    older: &Side,
    gone: &Side,
    at: &Name,
    fits: &[Fit],
    seen: &str,
    rows: u64,
) -> Result<Vec<String>, EngineError> {
    let what = format!("look at the triggers of {at}");
    let full = quote::relation(&at.schema, &at.name);
    let sql = "SELECT tgname::text, tgenabled::text FROM pg_trigger
                WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled IN ('O', 'A')
                  AND tgname NOT LIKE 'unship\\_%'";
    let (mut out, mut on) = (Vec::new(), Vec::new());
    // What was counted when this was planned may be less than what there is by now, and that is put
    // into it too. But what was deleted or changed since would be lost without a word.
    let body = format!(
        "BEGIN IF (SELECT count(*) FROM {} WHERE {seen}) <> {rows} THEN RAISE EXCEPTION \
         'others changed or deleted rows of % since this was planned', {} USING ERRCODE = '55000'; \
         END IF; END",
        gone.own(),
        quote::text(&at.to_string())
    );
    out.push(format!("DO {}", quote::text(&body)));
    for row in client.query(sql, &[&older.oid]).doing(&what)? {
        let cell = |i: usize| row.try_get::<_, String>(i).doing(&what);
        let name = quote::name(&cell(0)?);
        let always = if cell(1)? == "A" { "ALWAYS " } else { "" };
        out.push(format!("ALTER TABLE {full} DISABLE TRIGGER {name}"));
        on.push(format!("ALTER TABLE {full} ENABLE {always}TRIGGER {name}"));
    }
    let written: Vec<&Fit> = fits.iter().filter(|one| one.written).collect();
    let cells: Vec<_> = written.iter().map(|one| one.cell.as_str()).collect();
    out.push(format!(
        "INSERT INTO {full} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE NOT ({seen}) \
         ON CONFLICT DO NOTHING",
        quote::names(written.iter().map(|one| one.column.as_str())),
        cells.join(", "),
        gone.own()
    ));
    if !on.is_empty() {
        out.push("SET CONSTRAINTS ALL IMMEDIATE".to_owned());
        out.extend(on);
    }
    Ok(out)
}
