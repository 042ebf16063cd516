//! What is kept of rows that gave way, and which rows were reconciled.

use super::super::catalog::rows;
use super::super::error::Doing;
use super::super::quote;
use super::away_full;
use postgres::{Client, GenericClient};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, Point};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::release::VersionId;

/// unship's table of what can be exchanged back.
pub const TABLES: &str = "
    CREATE SCHEMA IF NOT EXISTS unship;
    CREATE TABLE IF NOT EXISTS unship.exchanged (
        rows text PRIMARY KEY,
        schema text NOT NULL,
        name text NOT NULL,
        relation oid NOT NULL,
        holds_release bigint NOT NULL,
        holds_drift integer NOT NULL,
        given_release bigint NOT NULL,
        given_drift integer NOT NULL,
        predicate text NOT NULL,
        exchanged_at timestamptz NOT NULL DEFAULT now()
    )";

/// The table of what was reconciled, for people to read.
pub const RECONCILED: &str = "
    CREATE SCHEMA IF NOT EXISTS unship;
    CREATE TABLE IF NOT EXISTS unship.reconciled (
        release bigint NOT NULL,
        schema text NOT NULL,
        name text NOT NULL,
        predicate text NOT NULL,
        from_release bigint NOT NULL,
        rows_out bigint NOT NULL,
        rows_back bigint NOT NULL,
        why text,
        who text NOT NULL,
        reconciled_at timestamptz NOT NULL DEFAULT now(),
        undone_by bigint,
        PRIMARY KEY (release, schema, name)
    )";

/// Rows that gave way: putting them back makes the version that the relation was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The table that holds them, in unship's own schema.
    pub rows: String,
    /// The relation's production schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub relation: u32,
    /// The release of the version that they belong to.
    pub holds_release: u64,
    /// How often others had written to that.
    pub holds_drift: u32,
    /// The release of the version that the relation was made by the exchange.
    pub given_release: u64,
    /// How often others had written to that.
    pub given_drift: u32,
    /// Which rows they are.
    pub predicate: String,
    /// How many bytes they take.
    pub bytes: u64,
    /// Whether the relation and the table are there.
    pub whole: bool,
}

impl Kept {
    /// The version that can be had by putting them back.
    pub fn holds(&self) -> VersionId {
        VersionId {
            release: ReleaseId(self.holds_release),
            drift: self.holds_drift,
        }
    }

    /// The version that the relation has to be for that.
    pub fn given(&self) -> VersionId {
        VersionId {
            release: ReleaseId(self.given_release),
            drift: self.given_drift,
        }
    }
}

fn made(client: &mut impl GenericClient) -> Result<bool, EngineError> {
    let what = "look for rows that are kept";
    client
        .query_one("SELECT to_regclass('unship.exchanged') IS NOT NULL", &[])
        .and_then(|row| row.try_get(0))
        .doing(what)
}

/// All that is kept; nothing where rows never changed places.
pub fn list(client: &mut impl GenericClient) -> Result<Vec<Kept>, EngineError> {
    if !made(client)? {
        return Ok(Vec::new());
    }
    let sql = "
        SELECT x.rows, x.schema, x.name, x.relation::int8 AS relation, x.holds_release,
               x.holds_drift, x.given_release, x.given_drift, x.predicate,
               coalesce(pg_total_relation_size(k.oid), 0)::int8 AS bytes,
               k.oid IS NOT NULL AND c.oid IS NOT NULL AS whole
          FROM unship.exchanged x
          LEFT JOIN pg_class c ON c.oid = x.relation
          LEFT JOIN pg_class k ON k.relname = x.rows AND k.relnamespace = 'unship'::regnamespace
         ORDER BY x.exchanged_at, x.rows";
    rows(client, sql, &[])
}

/// Adds the versions that can be had by putting rows back to the retained ones.
pub fn points(kept: &[Kept], database: &str, points: Vec<Point>) -> Vec<Point> {
    let mut all: BTreeMap<ReleaseId, Point> = points.into_iter().map(|p| (p.release, p)).collect();
    for one in kept.iter().filter(|one| one.whole) {
        let version = one.holds();
        let point = all.entry(version.release).or_insert_with(|| Point {
            release: version.release,
            location: format!("rows in {} of {database}", away_full(&one.rows)),
            packed: false,
            bytes: 0,
            databases: BTreeSet::from([database.to_owned()]),
            versions: Some(BTreeMap::new()),
        });
        point.bytes += one.bytes;
        let name = RelationName::new(database, &one.schema, &one.name);
        // A whole retained version of it needs no more than a move.
        point
            .versions
            .get_or_insert_default()
            .entry(name)
            .or_insert(version);
    }
    all.into_values().collect()
}

/// Drops the rows of versions whose release nobody keeps, and says of which releases and how many
/// bytes that were.
pub fn housekeep(
    client: &mut Client,
    keep: &BTreeSet<ReleaseId>,
) -> Result<(BTreeSet<ReleaseId>, u64), EngineError> {
    let mut dropped = BTreeSet::new();
    let mut freed = 0;
    for one in list(client)? {
        let release = ReleaseId(one.holds_release);
        if keep.contains(&release) && one.whole {
            continue;
        }
        client
            .batch_execute(&format!("BEGIN; {}; COMMIT", forget(&one.rows)))
            .doing("drop rows that nobody keeps")?;
        dropped.insert(release);
        freed += one.bytes;
    }
    Ok((dropped, freed))
}

/// Drops what belongs to relations that are gone.
pub fn forget_gone(client: &mut Client) -> Result<(), EngineError> {
    for one in list(client)?.iter().filter(|one| !one.whole) {
        client
            .batch_execute(&format!("BEGIN; {}; COMMIT", forget(&one.rows)))
            .doing("forget rows whose relation is gone")?;
    }
    Ok(())
}

/// The statements after which rows are kept no more.
pub fn forget(kept: &str) -> String {
    format!(
        "DROP TABLE IF EXISTS {}; DELETE FROM unship.exchanged WHERE rows = {}",
        away_full(kept),
        quote::text(kept)
    )
}
