//! Leases: one row per environment, whose number only grows.
//!
//! None is made durable by itself. A power loss ends every holder on the machine, which is the only
//! one that this file serves, and whatever a holder appends durably carries its lease along: a
//! fencing number that an entry was written under is never given out again.

use super::{
    super::{
        error::LedgerError,
        lease::{Holder, Lease, expiry},
    },
    Durable, SqliteLedger, sql_int,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::time::Duration;

pub(super) fn take(
    ledger: &SqliteLedger,
    env: &str,
    holder: &Holder,
    ttl: Duration,
) -> Result<Lease, LedgerError> {
    let tx = ledger.write(Durable::WithNext)?;
    let now = Timestamp::now();
    if let Some(lease) = standing(ledger, &tx, env)?
        && !lease.state(now).is_free()
    {
        return Err(LedgerError::Held(Box::new(lease)));
    }
    let expires_at = expiry(now, ttl);
    let number: i64 = tx
        .query_row(
            "INSERT INTO leases (env, number, holder, expires_at) VALUES (?1, 1, ?2, ?3)
             ON CONFLICT (env) DO UPDATE SET
               number = number + 1, holder = excluded.holder, expires_at = excluded.expires_at
             RETURNING number",
            params![env, json(ledger, holder)?, expires_at.to_string()],
            |row| row.get(0),
        )
        .map_err(|e| ledger.error(e))?;
    tx.commit().map_err(|e| ledger.error(e))?;
    Ok(Lease {
        env: env.to_owned(),
        number: number.unsigned_abs(),
        holder: holder.clone(),
        expires_at,
    })
}

pub(super) fn renew(
    ledger: &SqliteLedger,
    lease: &Lease,
    ttl: Duration,
) -> Result<Lease, LedgerError> {
    let tx = ledger.write(Durable::WithNext)?;
    check(ledger, &tx, &lease.env, lease.number)?;
    let expires_at = expiry(Timestamp::now(), ttl);
    tx.execute(
        "UPDATE leases SET expires_at = ?2 WHERE env = ?1",
        params![lease.env, expires_at.to_string()],
    )
    .map_err(|e| ledger.error(e))?;
    tx.commit().map_err(|e| ledger.error(e))?;
    Ok(Lease {
        expires_at,
        ..lease.clone()
    })
}

pub(super) fn release(ledger: &SqliteLedger, lease: &Lease) -> Result<(), LedgerError> {
    let tx = ledger.write(Durable::WithNext)?;
    tx.execute(
        "UPDATE leases SET holder = NULL WHERE env = ?1 AND number = ?2",
        params![lease.env, sql_int(lease.number)],
    )
    .map_err(|e| ledger.error(e))?;
    tx.commit().map_err(|e| ledger.error(e))
}

/// Refuses whoever no longer has the lease. An expired lease that nobody took still counts: what
/// matters is that there is no other holder, not what the clock says.
pub(super) fn check(
    ledger: &SqliteLedger,
    tx: &Transaction<'_>,
    env: &str,
    number: u64,
) -> Result<(), LedgerError> {
    match standing(ledger, tx, env)? {
        Some(lease) if lease.number == number => Ok(()),
        by => Err(LedgerError::Fenced {
            env: env.to_owned(),
            by: by.map(Box::new),
        }),
    }
}

pub(super) fn standing(
    ledger: &SqliteLedger,
    conn: &Connection,
    env: &str,
) -> Result<Option<Lease>, LedgerError> {
    let row: Option<(i64, String, String)> = conn
        .prepare_cached(
            "SELECT number, holder, expires_at FROM leases
             WHERE env = ?1 AND holder IS NOT NULL",
        )
        .and_then(|mut statement| {
            statement
                .query_row([env], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .map_err(|e| ledger.error(e))?;
    let Some((number, holder, expires_at)) = row else {
        return Ok(None);
    };
    let unreadable = || ledger.damaged(&format!("the lease on `{env}` cannot be read"));
    Ok(Some(Lease {
        env: env.to_owned(),
        number: u64::try_from(number).map_err(|_| unreadable())?,
        holder: serde_json::from_str(&holder).map_err(|_| unreadable())?,
        expires_at: expires_at.parse().map_err(|_| unreadable())?,
    }))
}

fn json(ledger: &SqliteLedger, holder: &Holder) -> Result<String, LedgerError> {
    serde_json::to_string(holder).map_err(|source| LedgerError::Store {
        place: ledger.place(),
        source: Box::new(source),
    })
}
