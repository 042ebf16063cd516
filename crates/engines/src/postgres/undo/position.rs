//! Positions: which of a table's changes had been committed at a moment.
//!
//! A position is a snapshot, as PostgreSQL writes one: the transactions below a number, except those
//! that were still running; and, behind a stroke, the number of the last change. Of the transactions
//! that were running it names only those that had written to the table: what others wrote later has
//! a higher number. So it stays the same for as long as nobody changes the table, whatever else
//! happens in the server.

use super::home;
use super::known::Moment;
use crate::postgres::catalog::rows;
use postgres::GenericClient;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use unship_core::engine::EngineError;

/// A moment in the history of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The guard that wrote it down.
    pub guard: i64,
    /// Which changes had been committed, as a `pg_snapshot` and the last one's number; or the name of a state that a rollback
    /// of some of the rows left, which begins with `@`.
    pub at: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "undo {} {}", self.guard, self.at)
    }
}

impl Position {
    /// Out of what an observation says of where a relation's rows are.
    pub fn read(storage: &str) -> Option<Self> {
        let mut words = storage.split(' ');
        let (_, undo, guard, at) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let known = at.starts_with('@')
            || at
                .bytes()
                .all(|b| b.is_ascii_digit() || b":,/".contains(&b));
        (undo == "undo" && known && words.next().is_none()).then_some(())?;
        Some(Self {
            guard: guard.parse().ok()?,
            at: at.to_owned(),
        })
    }

    /// The same as an observation has it.
    pub fn storage(&self, relation: u32) -> String {
        format!("{relation} {self}")
    }
}

/// The last thing that happened to each table; where that was a rollback, the position that it went
/// back to. And the transactions that run and are older.
const POSITIONS: &str = "
    SELECT g.relation::int8 AS relation, g.id AS guard, last.stands, last.seq, t.next,
           (SELECT coalesce(array_agg(x::text::bigint), '{}')
              FROM pg_snapshot_xip(pg_current_snapshot()) x WHERE x::text::bigint < t.next) AS running
      FROM unship_undo.guards g
     CROSS JOIN LATERAL (SELECT c.seq, c.stands FROM unship_undo.changes c WHERE c.guard = g.id
                          ORDER BY c.seq DESC LIMIT 1) last
     CROSS JOIN LATERAL (SELECT 1 + c.xid::text::bigint AS next FROM unship_undo.changes c
                          WHERE c.guard = g.id ORDER BY c.xid DESC LIMIT 1) t
     WHERE g.ended IS NULL";

/// Which of the transactions `$2` hold a lock on a table or one of its partitions.
const HOLDERS: &str = "
    SELECT r AS xid FROM unnest($2::bigint[]) r
     WHERE EXISTS (SELECT FROM pg_locks l JOIN pg_locks x ON x.virtualtransaction = l.virtualtransaction
           WHERE l.locktype = 'relation' AND l.granted
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND l.relation IN (SELECT relid FROM pg_partition_tree($1::oid) UNION SELECT $1::oid)
             AND x.locktype = 'transactionid' AND x.granted
             AND x.transactionid::text::bigint = r & 4294967295)";

/// Which of the transactions `$1` have ended by now.
const ENDED: &str = "
    SELECT r AS xid FROM unnest($1::bigint[]) r
     WHERE pg_xact_status(r::text::xid8) IS DISTINCT FROM 'in progress'";

/// Where each table with an undo log stands, by its identity.
pub fn positions(client: &mut impl GenericClient) -> Result<BTreeMap<u32, Position>, EngineError> {
    #[derive(Deserialize)]
    struct Row {
        relation: u32,
        guard: i64,
        stands: Option<String>,
        seq: i64,
        next: i64,
        running: Vec<i64>,
    }
    let mut out = BTreeMap::new();
    if !home::there(client)? {
        return Ok(out);
    }
    for row in rows::<Row>(client, POSITIONS, &[])? {
        let guard = row.guard;
        let at = match row.stands {
            Some(stands) => stands,
            None => {
                let running = writing(client, row.relation, &row.running)?;
                let first = running.first().copied().unwrap_or(row.next);
                let list: Vec<_> = running.iter().map(i64::to_string).collect();
                format!("{first}:{}:{}/{}", row.next, list.join(","), row.seq)
            }
        };
        out.insert(row.relation, Position { guard, at });
    }
    Ok(out)
}

/// Those of the transactions that were running which may have written to a table already: they hold a
/// lock on it, or have ended since. The locks are looked at first: who ends in between is found by
/// that.
fn writing(
    client: &mut impl GenericClient,
    relation: u32,
    running: &[i64],
) -> Result<BTreeSet<i64>, EngineError> {
    #[derive(Deserialize)]
    struct Xid {
        xid: i64,
    }
    if running.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut out: Vec<Xid> = rows(client, HOLDERS, &[&relation, &running])?;
    out.extend(rows::<Xid>(client, ENDED, &[&running])?);
    Ok(out.into_iter().map(|one| one.xid).collect())
}

/// Whether a table is where it was known to be, although the position is written otherwise now: it
/// names transactions that ended while it was looked at, and may have had nothing to do with it.
pub fn unchanged(
    client: &mut impl GenericClient,
    known: &str,
    relation: u32,
    now: &Position,
) -> Result<bool, EngineError> {
    let Some(then) = Position::read(known).filter(|then| then.guard == now.guard) else {
        return Ok(false);
    };
    let same_table = known.split(' ').next() == Some(relation.to_string().as_str());
    let Some(moment) = Moment::read(&then.at).filter(|_| same_table) else {
        return Ok(false);
    };
    #[derive(Deserialize)]
    struct Same {
        same: bool,
    }
    let sql = "SELECT NOT EXISTS (SELECT FROM unship_undo.changes c WHERE c.guard = $1
                AND (c.seq > $2 OR NOT pg_visible_in_snapshot(c.xid, $3::text::pg_snapshot))) AS same";
    let found: Vec<Same> = rows(client, sql, &[&then.guard, &moment.last, &moment.snapshot])?;
    Ok(found.first().is_some_and(|found| found.same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        for at in ["750:750:/9", "740:750:740,744/12", "@R12"] {
            let position = Position {
                guard: 3,
                at: at.to_owned(),
            };
            assert_eq!(Position::read(&position.storage(16_400)), Some(position));
        }
        for other in [
            "16400 16400 8192 3 0 0",
            "16400",
            "16400 undo 3",
            "16400 undo x 7:7:",
            "16400 undo 3 7:7:') OR true",
        ] {
            assert_eq!(Position::read(other), None, "{other}");
        }
    }
}
