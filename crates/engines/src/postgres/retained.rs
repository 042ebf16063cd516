//! Retained versions: which release built each, whether it can be read, and when it goes.

use super::catalog::rows;
use super::error::Doing;
use super::swap::LeftKey;
use super::{granted, layout, quote, remove};
use postgres::{Client, GenericClient, Transaction};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{
    Diagnosis, EngineError, ErrorKind, Housekeeping, Level, OnProgress, Point, Retention,
};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::release::VersionId;

/// The table that says which version lies where. It is written in the transaction that moves.
pub const TABLE: &str = "
    CREATE SCHEMA IF NOT EXISTS unship;
    CREATE TABLE IF NOT EXISTS unship.retained (
        release bigint NOT NULL,
        drift integer NOT NULL,
        schema text NOT NULL,
        name text NOT NULL,
        relation oid NOT NULL,
        keys jsonb NOT NULL DEFAULT '[]',
        writers jsonb NOT NULL DEFAULT '[]',
        moved_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (release, schema, name)
    )";

/// A version that is retained.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Retained {
    /// The release that built it.
    pub release: u64,
    /// How often others had written to it.
    pub drift: u32,
    /// Its production schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub relation: u32,
    /// Foreign keys that it had in production, and cannot have where it lies.
    pub keys: Vec<LeftKey>,
    /// Statements that let those write to it again who could.
    pub writers: Vec<String>,
    /// The sort of relation that lies there under this identity; none if it is gone.
    pub kind: Option<String>,
    /// Its size with indexes.
    pub bytes: Option<u64>,
}

impl Retained {
    /// Which version it is.
    pub fn version(&self) -> VersionId {
        VersionId {
            release: ReleaseId(self.release),
            drift: self.drift,
        }
    }
}

/// The statement that records a move to a retained schema, for the transaction that makes it.
pub fn record(
    version: VersionId,
    schema: &str,
    name: &str,
    relation: u32,
    keys: &[&LeftKey],
    writers: &[String],
) -> Result<String, EngineError> {
    let unwritten =
        |e| EngineError::new(ErrorKind::Io, "what is retained cannot be written down").because(e);
    let keys = serde_json::to_string(keys).map_err(unwritten)?;
    let writers = serde_json::to_string(writers).map_err(unwritten)?;
    Ok(format!(
        "INSERT INTO unship.retained (release, drift, schema, name, relation, keys, writers) \
         VALUES ({}, {}, {}, {}, {relation}, {}, {}) \
         ON CONFLICT (release, schema, name) DO UPDATE SET drift = excluded.drift, \
         relation = excluded.relation, keys = excluded.keys, writers = excluded.writers, \
         moved_at = excluded.moved_at",
        version.release.0,
        version.drift,
        quote::text(schema),
        quote::text(name),
        quote::text(&keys),
        quote::text(&writers),
    ))
}

/// The statement that records that a version is production again.
pub fn forget(version: VersionId, schema: &str, name: &str) -> String {
    format!(
        "DELETE FROM unship.retained WHERE release = {} AND schema = {} AND name = {}",
        version.release.0,
        quote::text(schema),
        quote::text(name)
    )
}

/// Records all that stands in a retained schema.
pub fn record_schema(
    transaction: &mut Transaction<'_>,
    release: ReleaseId,
    kept: &str,
    schema: &str,
) -> Result<(), EngineError> {
    let number = i64::try_from(release.0).unwrap_or(i64::MAX);
    let sql = "
        INSERT INTO unship.retained (release, drift, schema, name, relation)
        SELECT $1, 0, $3, c.relname, c.oid FROM pg_class c JOIN pg_namespace n
            ON n.oid = c.relnamespace
         WHERE n.nspname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
        ON CONFLICT (release, schema, name) DO UPDATE SET relation = excluded.relation";
    let what = format!("record what {kept} holds");
    transaction
        .execute(sql, &[&number, &kept, &schema])
        .doing(&what)?;
    Ok(())
}

/// Lets nobody but unship make or change anything in a retained schema; who could look still can.
pub fn read_only(client: &mut impl GenericClient, kept: &str) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Statement {
        text: String,
    }
    let sql = "
        SELECT format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname,
                 CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
               AS text
          FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) x
         WHERE n.nspname = $1 AND x.privilege_type = 'CREATE' AND x.grantee <> n.nspowner
        UNION
        SELECT format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %I.%I FROM %s CASCADE', n.nspname,
                 c.relname,
                 CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN aclexplode(c.relacl) x
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND x.grantee <> c.relowner
           AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')";
    for statement in rows::<Statement>(client, sql, &[&kept])? {
        client
            .batch_execute(&statement.text)
            .doing("protect what is retained")?;
    }
    Ok(())
}

/// All retained versions; none where nothing was ever retained.
pub fn list(client: &mut impl GenericClient) -> Result<Vec<Retained>, EngineError> {
    let there = client
        .query_one("SELECT to_regclass('unship.retained') IS NOT NULL", &[])
        .doing("look for retained versions")?;
    if !there
        .try_get::<_, bool>(0)
        .doing("look for retained versions")?
    {
        return Ok(Vec::new());
    }
    let sql = "
        SELECT r.release, r.drift, r.schema, r.name, r.relation::int8 AS relation, r.keys,
               r.writers,
               c.relkind AS kind,
               coalesce((SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) t),
                        pg_total_relation_size(c.oid))::int8 AS bytes
          FROM unship.retained r
          LEFT JOIN pg_namespace n ON n.nspname = concat('unship_r', r.release, '_', r.schema)
          LEFT JOIN pg_class c ON c.oid = r.relation AND c.relnamespace = n.oid
               AND c.relname = r.name
         ORDER BY r.release, r.schema, r.name";
    rows(client, sql, &[])
}

/// The retained states, by the release that built them.
pub fn points(client: &mut Client, database: &str) -> Result<Vec<Point>, EngineError> {
    let mut out: BTreeMap<ReleaseId, Point> = BTreeMap::new();
    for one in list(client)?.into_iter().filter(|one| one.kind.is_some()) {
        let release = ReleaseId(one.release);
        let point = out.entry(release).or_insert_with(|| Point {
            release,
            location: format!("schemas unship_r{}_… in {database}", one.release),
            packed: false,
            bytes: 0,
            databases: BTreeSet::from([database.to_owned()]),
            versions: Some(BTreeMap::new()),
        });
        point.bytes += one.bytes.unwrap_or(0);
        point.versions.get_or_insert_default().insert(
            RelationName::new(database, &one.schema, &one.name),
            one.version(),
        );
    }
    Ok(out.into_values().collect())
}

fn full(one: &Retained) -> Result<String, EngineError> {
    let schema = layout::retained(ReleaseId(one.release), &one.schema)?;
    Ok(quote::relation(&schema, &one.name))
}

/// Proves that everything retained of a release is there and can be read.
pub fn prove(client: &mut Client, release: ReleaseId) -> Result<(), EngineError> {
    for one in list(client)?.iter().filter(|one| one.release == release.0) {
        let full = full(one)?;
        match one.kind.as_deref() {
            None => {
                return Err(EngineError::new(
                    ErrorKind::Missing,
                    format!("{full} is gone: somebody dropped, moved or replaced it"),
                ));
            }
            Some("f") => {}
            Some(_) => {
                client
                    .query(&format!("SELECT FROM {full} LIMIT 1"), &[])
                    .doing(&format!("read {full}"))?;
            }
        }
    }
    Ok(())
}

/// Drops the versions that nobody keeps. What a stranger's object depends on stays and is named,
/// after all others are gone.
pub fn housekeep(
    client: &mut Client,
    keep: &Retention,
    on: OnProgress<'_>,
) -> Result<Housekeeping, EngineError> {
    let mut by_release: BTreeMap<ReleaseId, Vec<Retained>> = BTreeMap::new();
    for one in list(client)? {
        by_release
            .entry(ReleaseId(one.release))
            .or_default()
            .push(one);
    }
    by_release.retain(|release, _| !keep.keep.contains(release));
    let total = by_release.len() as u64;
    let mut done = Housekeeping::default();
    let mut in_the_way = None;
    // The newest first: its views may read what an older release built.
    for (n, (release, versions)) in by_release.into_iter().rev().enumerate() {
        on("dropping retained versions", n as u64, total);
        let bytes = versions.iter().filter_map(|one| one.bytes).sum::<u64>();
        match drop_release(client, &versions) {
            Ok(()) => {
                done.dropped.push(release);
                done.freed += bytes;
            }
            Err(error) if error.kind == ErrorKind::Refused => in_the_way = Some(error),
            Err(error) => return Err(error),
        }
    }
    if !done.dropped.is_empty() {
        granted::forget_gone(client)?;
    }
    done.dropped.sort_unstable();
    in_the_way.map_or(Ok(done), Err)
}

fn drop_release(client: &mut Client, versions: &[Retained]) -> Result<(), EngineError> {
    let schemas: BTreeSet<_> = versions
        .iter()
        .map(|v| (v.release, v.schema.as_str()))
        .collect();
    let ours: BTreeSet<u32> = versions.iter().map(|v| v.relation).collect();
    let mut objects = Vec::new();
    let mut emptied = Vec::new();
    for (release, schema) in schemas {
        let kept = layout::retained(ReleaseId(release), schema)?;
        let inside = remove::contents(client, &kept)?;
        let strangers = inside
            .iter()
            .any(|o| o.sort != "ROUTINE" && o.sort != "TYPE" && !ours.contains(&o.oid));
        if !strangers {
            emptied.push(kept);
            objects.extend(inside);
        } else {
            objects.extend(inside.into_iter().filter(|o| ours.contains(&o.oid)));
        }
    }
    remove::all(client, objects)?;
    for kept in emptied {
        remove::schema(client, &kept)?;
    }
    for one in versions {
        client
            .batch_execute(&forget(one.version(), &one.schema, &one.name))
            .doing("forget what was dropped")?;
    }
    Ok(())
}

/// Reads every retained row, and looks for what does not belong there.
pub fn fsck(client: &mut Client, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
    let versions = list(client)?;
    let total = versions.len() as u64;
    let mut out = Vec::new();
    let mut say = |level, subject: String, finding: String, hint: Option<&str>| {
        out.push(Diagnosis {
            level,
            subject,
            finding,
            hint: hint.map(str::to_owned),
        });
    };
    for (n, one) in versions.iter().enumerate() {
        on("reading retained versions", n as u64, total);
        let full = full(one)?;
        let Some(kind) = &one.kind else {
            say(
                Level::Error,
                full,
                "is gone".to_owned(),
                Some("somebody dropped, moved or replaced it"),
            );
            continue;
        };
        if matches!(kind.as_str(), "v" | "f") {
            continue;
        }
        // Every column, so that values that are stored apart are read too.
        let sql = format!("SELECT count(*), sum(length(t::text)) FROM {full} t");
        match client.query_one(&sql, &[]).doing(&format!("read {full}")) {
            Ok(_) => {}
            Err(error) => say(Level::Error, full, error.message, error.hint.as_deref()),
        }
    }
    let ours: BTreeSet<u32> = versions.iter().map(|v| v.relation).collect();
    for namespace in super::catalog::namespaces(client)? {
        if layout::parse_retained(&namespace.name).is_none() {
            continue;
        }
        for object in remove::contents(client, &namespace.name)? {
            if !ours.contains(&object.oid) && object.sort != "ROUTINE" && object.sort != "TYPE" {
                say(
                    Level::Warning,
                    object.name,
                    "is not unship's, and stands where versions are retained".to_owned(),
                    Some("move it elsewhere: `unship gc` will not drop it"),
                );
            }
        }
    }
    if out.is_empty() {
        out.push(Diagnosis {
            level: Level::Ok,
            subject: "retained versions".to_owned(),
            finding: format!("{total} are there and can be read"),
            hint: None,
        });
    }
    Ok(out)
}
