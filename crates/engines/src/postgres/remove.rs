//! Dropping what is ours, in dependency order and never with CASCADE: what a stranger made on it is
//! named instead.

use super::catalog::rows;
use super::error::{Doing, engine_error};
use super::quote;
use postgres::Client;
use postgres::error::SqlState;
use serde::Deserialize;
use unship_core::engine::{EngineError, ErrorKind};

/// How many objects one statement drops.
const AT_ONCE: usize = 100;

/// Something to drop.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Object {
    /// Its identity, for relations.
    pub oid: u32,
    /// What `DROP` calls its sort.
    pub sort: String,
    /// Its full name, quoted by the server.
    pub name: String,
}

/// All that stands in a schema and does not go along with something else in it. Newest first: what
/// depends on something is seldom older than it.
const CONTENTS: &str = "
    SELECT oid::int8 AS oid, sort, name FROM (
        SELECT c.oid, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                 WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS sort,
               c.oid::regclass::text AS name
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
           AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                 AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
                 AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
        UNION ALL
        SELECT p.oid, 'ROUTINE', p.oid::regprocedure::text
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1
        UNION ALL
        SELECT t.oid, 'TYPE', t.oid::regtype::text
          FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
          LEFT JOIN pg_class c ON c.oid = t.typrelid
         WHERE n.nspname = $1
           AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))
    ) o ORDER BY oid DESC";

/// What stands in a schema.
pub fn contents(client: &mut Client, schema: &str) -> Result<Vec<Object>, EngineError> {
    rows(client, CONTENTS, &[&schema])
}

/// Drops a schema with all that is in it, if it is there.
pub fn schema(client: &mut Client, name: &str) -> Result<(), EngineError> {
    let objects = contents(client, name)?;
    all(client, objects)?;
    client
        .batch_execute(&format!("DROP SCHEMA IF EXISTS {}", quote::name(name)))
        .doing(&format!("drop the schema {name}"))
}

/// Drops objects in whatever order their dependencies allow. Refused where something else depends
/// on one of them; what could be dropped is dropped then, and doing it again goes on.
pub fn all(client: &mut Client, mut left: Vec<Object>) -> Result<(), EngineError> {
    left.sort_by_key(|o| {
        (
            o.sort == "TYPE",
            o.sort == "ROUTINE",
            std::cmp::Reverse(o.oid),
        )
    });
    while !left.is_empty() {
        let mut kept = Vec::new();
        for group in left.chunk_by(|a, b| a.sort == b.sort) {
            for part in group.chunks(AT_ONCE) {
                some(client, part, &mut kept)?;
            }
        }
        if kept.len() == left.len() {
            let (object, error) = kept.swap_remove(0);
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!("{} cannot be dropped: {}", object.name, error.message),
            )
            .hint("drop what depends on it, or pin its release; unship drops nothing of others"));
        }
        left = kept.into_iter().map(|(object, _)| object).collect();
    }
    Ok(())
}

/// Drops what nothing depends on, in as few statements as possible.
fn some(
    client: &mut Client,
    objects: &[Object],
    kept: &mut Vec<(Object, EngineError)>,
) -> Result<(), EngineError> {
    let Some(first) = objects.first() else {
        return Ok(());
    };
    let names: Vec<_> = objects.iter().map(|o| o.name.as_str()).collect();
    let sql = format!("DROP {} IF EXISTS {}", first.sort, names.join(", "));
    let Err(error) = client.batch_execute(&sql) else {
        return Ok(());
    };
    let depended_on = error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    let error = engine_error(&error, &format!("drop {}", first.name));
    match objects {
        _ if !depended_on => Err(error),
        [one] => {
            kept.push((one.clone(), error));
            Ok(())
        }
        several => {
            let (a, b) = several.split_at(several.len() / 2);
            some(client, a, kept)?;
            some(client, b, kept)
        }
    }
}
