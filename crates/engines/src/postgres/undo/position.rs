//! Positions: which of a table's changes had been committed at a moment.
//!
//! A position is a snapshot, as PostgreSQL writes one: the transactions below a number, except those
//! that were still running. It is written so that it stays the same for as long as nobody changes
//! the table, whatever else happens in the server.

use super::home;
use crate::postgres::catalog::rows;
use postgres::GenericClient;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use unship_core::engine::EngineError;

/// A moment in the history of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The guard that wrote it down.
    pub guard: i64,
    /// Which changes had been committed, as a `pg_snapshot`; or the name of a state that a rollback
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
        let known =
            at.starts_with('@') || at.bytes().all(|b| b.is_ascii_digit() || b":,".contains(&b));
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

/// The last thing that happened to each table, as a snapshot that names only transactions up to it;
/// where that was a rollback, the position that it went back to.
const POSITIONS: &str = "
    SELECT g.relation::int8 AS relation, g.id AS guard,
           coalesce((SELECT c.stands FROM unship_undo.changes c WHERE c.guard = g.id
                      ORDER BY c.seq DESC LIMIT 1),
               (SELECT concat(coalesce(min(x::text::bigint), t.next), ':', t.next, ':',
                              string_agg(x::text, ',' ORDER BY x))
                  FROM pg_snapshot_xip(pg_current_snapshot()) x
                 WHERE x::text::bigint < t.next)) AS at
      FROM unship_undo.guards g
     CROSS JOIN LATERAL (SELECT 1 + c.xid::text::bigint AS next FROM unship_undo.changes c
                          WHERE c.guard = g.id ORDER BY c.xid DESC LIMIT 1) t
     WHERE g.ended IS NULL";

/// Where each table with an undo log stands, by its identity.
pub fn positions(client: &mut impl GenericClient) -> Result<BTreeMap<u32, Position>, EngineError> {
    #[derive(Deserialize)]
    struct Row {
        relation: u32,
        #[serde(flatten)]
        position: Position,
    }
    if !home::there(client)? {
        return Ok(BTreeMap::new());
    }
    let found: Vec<Row> = rows(client, POSITIONS, &[])?;
    Ok(found
        .into_iter()
        .map(|row| (row.relation, row.position))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        for at in ["750:750:", "740:750:740,744", "@R12"] {
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
