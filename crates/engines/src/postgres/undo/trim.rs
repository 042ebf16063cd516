//! Retention: what is older than it is kept for goes, whole transactions at a time.

use super::capture::{keys_table, rows_table};
use super::home;
use crate::postgres::catalog::rows;
use crate::postgres::error::Doing;
use jiff::SignedDuration;
use postgres::{Client, IsolationLevel};
use serde::Deserialize;
use unship_core::engine::EngineError;

/// Drops what was written down longer ago than `within`, and the logs that ended before that. Gives
/// the bytes that the server has to fill again or to give back.
pub fn trim(client: &mut Client, within: SignedDuration) -> Result<u64, EngineError> {
    if !home::there(client)? {
        return Ok(0);
    }
    #[derive(Deserialize)]
    struct Id {
        id: i64,
    }
    let sql = "SELECT g.id FROM unship_undo.guards g
                WHERE to_regclass(concat('unship_undo.rows_', g.id)) IS NOT NULL ORDER BY g.id";
    let mut freed = 0;
    for Id { id } in rows::<Id>(client, sql, &[])? {
        freed += trim_one(client, id, within.as_secs_f64())?;
    }
    Ok(freed)
}

/// What is too old of one log.
#[derive(Deserialize)]
struct Old {
    bytes: u64,
    all: bool,
    brief: bool,
    rows: i64,
    to: Option<i64>,
    seq: Option<i64>,
}

/// What ended before anything that still runs: a position that is to be had sees all of it or none,
/// and what came after it in the log stays.
const OLD: &str = "
    SELECT (pg_total_relation_size(to_regclass(concat('unship_undo.rows_', g.id))) + coalesce(
                pg_total_relation_size(to_regclass(concat('unship_undo.keys_', g.id))), 0))::int8 AS bytes,
           g.key_is IS NOT NULL AS brief,
           coalesce(g.ended < clock_timestamp() - make_interval(secs => $1::float8), false) AS all,
           (SELECT count(*) FROM unship_undo.changes c WHERE c.guard = g.id) AS rows,
           old.xid AS to, old.seq
      FROM unship_undo.guards g
     CROSS JOIN LATERAL (
           SELECT max(c.xid::text::bigint) AS xid, max(c.seq) AS seq FROM unship_undo.changes c
            WHERE c.guard = g.id AND c.op <> 'on'
              AND c.seq < coalesce((SELECT min(y.seq) FROM unship_undo.changes y
                   WHERE y.guard = g.id AND y.op <> 'on' AND (
                         y.at >= clock_timestamp() - make_interval(secs => $1::float8)
                         OR y.xid >= pg_snapshot_xmin(pg_current_snapshot()))), c.seq + 1)) old
     WHERE g.id = $2";

fn trim_one(client: &mut Client, guard: i64, seconds: f64) -> Result<u64, EngineError> {
    const WHAT: &str = "trim the undo log";
    let (table, keys) = (rows_table(guard), keys_table(guard));
    // What goes is what was seen to be old: who ends in between has changes with lower numbers, and
    // positions that were taken before count on them.
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .doing(WHAT)?;
    let found = rows::<Old>(&mut transaction, OLD, &[&seconds, &guard])?;
    let Some(old) = found.into_iter().next() else {
        return Ok(0);
    };
    if old.all {
        let sql = format!(
            "DROP TABLE {table}; DROP TABLE IF EXISTS {keys};
             DELETE FROM unship_undo.changes WHERE guard = {guard};
             DELETE FROM unship_undo.parts WHERE guard = {guard};
             DELETE FROM unship_undo.guards WHERE id = {guard}"
        );
        transaction.batch_execute(&sql).doing(WHAT)?;
        transaction.commit().doing(WHAT)?;
        return Ok(old.bytes);
    }
    let (Some(to), Some(seq)) = (old.to, old.seq) else {
        return Ok(0);
    };
    if old.brief {
        let sql = format!("DELETE FROM {keys} WHERE seq <= {seq}");
        transaction.batch_execute(&sql).doing(WHAT)?;
    }
    let sql = format!(
        "DELETE FROM {table} WHERE seq <= {seq};
         UPDATE unship_undo.guards SET trimmed_seq = {seq},
                trimmed = greatest(trimmed::text::bigint, {to})::text::xid8
          WHERE id = {guard}"
    );
    transaction.batch_execute(&sql).doing(WHAT)?;
    let sql = "DELETE FROM unship_undo.changes WHERE guard = $1 AND seq <= $2 AND op <> 'on'";
    let gone = transaction.execute(sql, &[&guard, &seq]).doing(WHAT)?;
    transaction.commit().doing(WHAT)?;
    let both = old.brief.then_some(&keys);
    for table in std::iter::once(&table).chain(both) {
        client
            .batch_execute(&format!("VACUUM {table}"))
            .doing(WHAT)?;
    }
    let share =
        u128::from(old.bytes) * u128::from(gone) / u128::from(old.rows.unsigned_abs().max(1));
    Ok(u64::try_from(share).unwrap_or(0))
}
