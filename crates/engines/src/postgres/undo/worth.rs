//! Whether writing changes down is cheaper than copying the table first, by what earlier releases
//! changed.

use crate::postgres::catalog::rows;
use postgres::GenericClient;
use serde::{Deserialize, Serialize};
use unship_core::engine::EngineError;

/// What writing down one row of each kind takes, against copying one with its key: inserted, updated,
/// deleted. Measured as the benchmarks say, and rounded up.
const AGAINST_A_COPY: [f64; 3] = [0.3, 0.7, 0.5];

/// How many releases are looked at.
const RELEASES: i64 = 5;

/// What a release does to a table with an undo log, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Worth {
    /// How many releases that changed it were looked at.
    pub releases: u64,
    /// Rows that the middle one of them inserted, updated and deleted.
    pub changed: u64,
    /// Rows that it has, as the planner has it.
    pub rows: u64,
    /// What writing that down takes, as a share of what a copy of the table takes.
    pub cost: f64,
}

impl Worth {
    /// Whether the table is better built aside, which copies it.
    pub fn is_copied_cheaper(&self) -> bool {
        self.cost > 1.0
    }

    /// The same for a person.
    pub fn words(&self) -> String {
        let percent = |part: f64| format!("{:.0} %", (part * 100.0).ceil());
        format!(
            "a release changes about {} of its rows, and writing that down takes about {} of what a \
             copy of it would",
            percent(self.changed as f64 / self.rows.max(1) as f64),
            percent(self.cost)
        )
    }
}

/// What releases did to the table of a guard lately; none, if none did or it has no rows.
pub fn of(client: &mut impl GenericClient, guard: i64) -> Result<Option<Worth>, EngineError> {
    #[derive(Deserialize)]
    struct Release {
        inserted: u64,
        updated: u64,
        deleted: u64,
        rows: f64,
    }
    let sql = "
        SELECT coalesce(sum(c.come) FILTER (WHERE c.op = 'insert'), 0)::bigint AS inserted,
               coalesce(sum(c.come) FILTER (WHERE c.op = 'update'), 0)::bigint AS updated,
               coalesce(sum(c.gone) FILTER (WHERE c.op IN ('delete', 'truncate')), 0)::bigint AS deleted,
               (SELECT sum(greatest(t.reltuples, 0)) FROM pg_class t JOIN unship_undo.guards g ON g.id = $1
                 WHERE t.relkind = 'r' AND (t.oid = g.relation OR t.oid IN
                       (SELECT p.relid FROM pg_partition_tree(g.relation) p)))::float8 AS rows
          FROM unship_undo.changes c
         WHERE c.guard = $1 AND c.release IS NOT NULL
           -- What went back, and went forth again, is no release's work.
           AND NOT EXISTS (SELECT FROM unship_undo.changes b
                WHERE b.guard = c.guard AND b.op = 'back' AND b.release = c.release)
         GROUP BY c.release ORDER BY max(c.seq) DESC LIMIT $2";
    let found: Vec<Release> = rows(client, sql, &[&guard, &RELEASES])?;
    let mut all: Vec<Worth> = (found.iter())
        .filter(|one| one.rows > 0.0)
        .map(|one| {
            let kinds = [one.inserted, one.updated, one.deleted];
            let cost = kinds.iter().zip(AGAINST_A_COPY);
            Worth {
                releases: found.len() as u64,
                changed: kinds.iter().sum(),
                rows: one.rows as u64,
                cost: cost.map(|(rows, each)| *rows as f64 * each).sum::<f64>() / one.rows,
            }
        })
        .collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    Ok(all.get(all.len() / 2).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cheaper_is_said() {
        let worth = |changed, cost| Worth {
            releases: 5,
            changed,
            rows: 1_000_000,
            cost,
        };
        assert_eq!(
            worth(120_000, 0.081).words(),
            "a release changes about 12 % of its rows, and writing that down takes about 9 % of what \
             a copy of it would"
        );
        assert!(!worth(1_000_000, 0.7).is_copied_cheaper());
        assert!(worth(2_000_000, 1.4).is_copied_cheaper());
    }
}
