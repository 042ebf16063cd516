//! What planning needs to know of a table's undo log, and whether it reaches a moment.

use super::guard::{self, Guarded};
use super::position::{self, Position};
use super::shape::Column;
use crate::postgres::catalog::rows;
use crate::postgres::error::Doing;
use crate::postgres::swap::Name;
use postgres::GenericClient;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::EngineError;

/// Which changes had been committed: those of transactions that had ended, as a `pg_snapshot` has
/// it, up to a change's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The `pg_snapshot`.
    pub snapshot: String,
    /// The number of the last change.
    pub last: i64,
    below: u64,
    running: BTreeSet<u64>,
}

impl Moment {
    /// Reads what a position says.
    pub fn read(text: &str) -> Option<Self> {
        let (snapshot, last) = text.split_once('/')?;
        let mut parts = snapshot.split(':');
        let (_, below, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|x| !x.is_empty());
        Some(Self {
            snapshot: snapshot.to_owned(),
            last: last.parse().ok()?,
            below: below.parse().ok()?,
            running: running.map(str::parse).collect::<Result<_, _>>().ok()?,
        })
    }

    /// Whether a change had been committed.
    pub fn sees(&self, xid: u64, seq: i64) -> bool {
        xid < self.below && !self.running.contains(&xid) && seq <= self.last
    }

    /// Whether all changes had been up to these numbers.
    fn sees_all_to(&self, xid: u64, seq: i64) -> bool {
        let ended = self.running.first().is_none_or(|first| *first > xid);
        xid < self.below && ended && seq <= self.last
    }
}

/// A table with an undo log, as planning sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Known {
    /// Where it stands.
    pub name: Name,
    /// Its identity.
    pub relation: u32,
    /// The guard that writes its changes down.
    pub guard: i64,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The columns that tell its rows apart.
    pub key: Vec<i16>,
    /// Whether of rows that came only the key is written down.
    #[serde(default)]
    pub brief: bool,
    /// Whether nothing but its primary key keeps its rows from being alike.
    #[serde(default)]
    pub free: bool,
    /// Where it stands in its own history.
    pub position: Position,
    /// What had been committed when this was looked at, as a `pg_snapshot`.
    pub seen: String,
    /// Since when its changes are written down, in words.
    pub since: String,
    /// The transaction that turned the log on.
    pub on: u64,
    /// The newest transaction whose changes the retention has dropped.
    pub trimmed: Option<u64>,
    /// The number of the newest change that it has dropped.
    pub trimmed_seq: Option<i64>,
    /// Changes whose rows could not be written down.
    pub unseen: Vec<Unseen>,
    /// Logs that the table had before, and why they ended.
    pub ended: Vec<Ended>,
    /// Why the log may not hold all that happened.
    pub hole: Option<String>,
    /// States that partial rollbacks left.
    pub left: Vec<Left>,
    /// Triggers of others on it and its partitions.
    pub triggers: Vec<Trigger>,
    /// Foreign keys of others that refer to it.
    pub referrers: Vec<Referrer>,
}

/// A change whose rows could not be written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unseen {
    /// Its transaction.
    pub xid: u64,
    /// Its number.
    pub seq: i64,
    /// Who and when, in words.
    pub by: String,
    /// Why.
    pub note: String,
}

/// A log that ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// Its guard.
    pub guard: i64,
    /// Why, and when.
    pub because: String,
}

/// A state that a rollback of some of the rows left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Left {
    /// Its name, which begins with `@`.
    pub stands: String,
    /// What had been committed then, as a position has it.
    pub moment: String,
}

/// A trigger of somebody else's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trigger {
    /// The quoted relation that it is on.
    pub on: String,
    /// Its quoted name.
    pub name: String,
    /// How it is enabled, as a clause of ALTER TABLE.
    pub enabled: String,
}

/// A foreign key that refers to the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Referrer {
    /// Its name.
    pub constraint: String,
    /// The quoted table that has it.
    pub table: String,
    /// That table's identity, or its partition tree's root's.
    pub relation: u32,
    /// Whether it changes that table's rows when a row here goes.
    pub acts: bool,
    /// Its columns there, quoted, and the numbers of those here.
    pub columns: Vec<(String, i16)>,
}

impl Known {
    /// The moment that a position means; none for a state that is not known any more.
    pub fn moment(&self, position: &Position) -> Option<Moment> {
        if !position.at.starts_with('@') {
            return Moment::read(&position.at);
        }
        let left = self.left.iter().find(|left| left.stands == position.at);
        left.and_then(|left| Moment::read(&left.moment))
    }

    /// Why the table cannot go back to a position, as a clause after its name; none, if it can.
    pub fn out_of_reach(&self, position: &Position) -> Option<String> {
        if let Some(why) = &self.hole {
            return Some(format!("has an undo log with a hole: {why}"));
        }
        let ended = self.ended.iter().find(|one| one.guard == position.guard);
        let since = match ended {
            Some(one) => format!(
                "has an undo log only since {}, when the one before ended: {}",
                self.since, one.because
            ),
            None => format!("has an undo log only since {}", self.since),
        };
        let Some(moment) = self.moment(position) else {
            return Some(since);
        };
        if position.guard != self.guard || !moment.sees(self.on, 0) {
            return Some(since);
        }
        let seq = self.trimmed_seq.unwrap_or(0);
        if (self.trimmed).is_some_and(|to| !moment.sees_all_to(to, seq)) {
            return Some(
                "has an undo log whose older changes the retention has dropped".to_owned(),
            );
        }
        let unseen = self
            .unseen
            .iter()
            .find(|one| !moment.sees(one.xid, one.seq));
        unseen.map(|one| {
            format!(
                "was changed since in a way that the undo log could not write down: {} ({})",
                one.note, one.by
            )
        })
    }
}

/// What is known of the tables of some names that have an undo log.
pub fn known(
    client: &mut impl GenericClient,
    wanted: &BTreeSet<Name>,
) -> Result<Vec<Known>, EngineError> {
    const WHAT: &str = "look at the undo log";
    let mut out = Vec::new();
    let open = guard::open(client)?;
    if open.is_empty() {
        return Ok(out);
    }
    let positions = position::positions(client)?;
    for guard in open {
        let Some(at) = place(client, guard.relation)? else {
            continue;
        };
        let Some(position) = positions
            .get(&guard.relation)
            .filter(|_| wanted.contains(&at))
        else {
            continue;
        };
        let row = client
            .query_one("SELECT pg_current_snapshot()::text", &[])
            .doing(WHAT)?;
        let hole = guard::hole(client, &guard)?;
        let limits: Limits = one(client, LIMITS, guard.id)?;
        out.push(Known {
            name: at,
            relation: guard.relation,
            guard: guard.id,
            key: match guard.key.is_empty() {
                true => key(client, &guard)?,
                false => guard.key.clone(),
            },
            brief: !guard.key.is_empty(),
            free: super::shape::is_free(client, guard.relation)?,
            position: position.clone(),
            seen: row.try_get(0).doing(WHAT)?,
            since: guard.since.clone(),
            on: limits.on,
            trimmed: limits.trimmed,
            trimmed_seq: limits.trimmed_seq,
            unseen: rows(client, UNSEEN, &[&guard.id])?,
            ended: rows(client, ENDED, &[&guard.relation])?,
            hole,
            left: rows(client, LEFT, &[&guard.id])?,
            triggers: rows(client, TRIGGERS, &[&guard.relation])?,
            referrers: rows(client, REFERRERS, &[&guard.relation])?,
            columns: guard.columns,
        });
    }
    Ok(out)
}

#[derive(Deserialize)]
struct Limits {
    on: u64,
    trimmed: Option<u64>,
    trimmed_seq: Option<i64>,
}

const LIMITS: &str = "
    SELECT g.xid::text::bigint AS on, g.trimmed::text::bigint AS trimmed,
           g.trimmed_seq
      FROM unship_undo.guards g WHERE g.id = $1";

const UNSEEN: &str = "
    SELECT c.xid::text::bigint AS xid, c.seq, format('%s at %s', c.role, date_trunc('second', c.at)) AS by,
           coalesce(c.note, '') AS note
      FROM unship_undo.changes c WHERE c.guard = $1 AND c.op = 'unseen' ORDER BY c.seq DESC LIMIT 100";

const ENDED: &str = "
    SELECT g.id AS guard, coalesce(g.because, '') AS because FROM unship_undo.guards g
     WHERE g.relation = $1 AND g.ended IS NOT NULL ORDER BY g.id";

const LEFT: &str = "
    SELECT c.stands, c.moment FROM unship_undo.changes c
     WHERE c.guard = $1 AND c.moment IS NOT NULL ORDER BY c.seq";

/// Triggers of a table and of its partitions that fire for ordinary sessions.
const TRIGGERS: &str = "
    SELECT t.tgrelid::regclass::text AS on, quote_ident(t.tgname) AS name,
           CASE t.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END AS enabled
      FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid IN (SELECT relid FROM pg_partition_tree($1::oid) UNION SELECT $1::oid)
       AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
       AND p.pronamespace <> 'unship_undo'::regnamespace
     ORDER BY 1, 2";

const REFERRERS: &str = "
    SELECT k.conname AS constraint, k.conrelid::regclass::text AS table,
           coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid)::int8 AS relation,
           k.confdeltype IN ('c', 'n', 'd') AS acts,
           (SELECT json_agg(json_build_array(quote_ident(a.attname), k.confkey[n]) ORDER BY n)
              FROM generate_subscripts(k.conkey, 1) n
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[n]) AS columns
      FROM pg_constraint k
     WHERE k.confrelid = $1 AND k.contype = 'f' AND k.conparentid = 0
     ORDER BY k.conrelid, k.conname";

fn one<T: serde::de::DeserializeOwned>(
    client: &mut impl GenericClient,
    sql: &str,
    guard: i64,
) -> Result<T, EngineError> {
    rows(client, sql, &[&guard])?
        .into_iter()
        .next()
        .ok_or_else(|| {
            EngineError::new(
                unship_core::engine::ErrorKind::Missing,
                format!("guard {guard} of the undo log is gone"),
            )
        })
}

/// Where a table lies now, by its identity.
fn place(client: &mut impl GenericClient, oid: u32) -> Result<Option<Name>, EngineError> {
    #[derive(Deserialize)]
    struct Place {
        schema: String,
        name: String,
    }
    let sql = "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";
    let found: Vec<Place> = rows(client, sql, &[&oid])?;
    Ok(found
        .into_iter()
        .next()
        .map(|place| Name::new(place.schema, place.name)))
}

/// The key of a table, as far as its columns are compared by the system's own operators.
fn key(client: &mut impl GenericClient, guard: &Guarded) -> Result<Vec<i16>, EngineError> {
    let key = super::shape::key(client, guard.relation)?;
    let plain = |number: &i16| {
        let of = guard.columns.iter().find(|c| c.number == *number);
        of.is_some_and(|c| c.kept != "pg_catalog.text" || c.data_type == "text")
    };
    Ok(match key.iter().all(plain) {
        true => key,
        false => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_sees_what_had_ended() {
        let moment = Moment::read("740:750:740,744/90").unwrap();
        let sees: Vec<u64> = (738..752).filter(|x| moment.sees(*x, 90)).collect();
        assert_eq!(sees, [738, 739, 741, 742, 743, 745, 746, 747, 748, 749]);
        assert!(
            !moment.sees(738, 91),
            "it ran, and wrote to the table only later"
        );
        assert!(moment.sees_all_to(739, 90) && !moment.sees_all_to(741, 90));
        assert!(!moment.sees_all_to(739, 91));
        assert_eq!(Moment::read("750:750:/1").unwrap().running.len(), 0);
        assert_eq!(Moment::read("750:750:"), None);
        assert_eq!(Moment::read("@R3"), None);
    }
}
