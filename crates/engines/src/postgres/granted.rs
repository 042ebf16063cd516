//! Who had which rights on a relation when it last became production, or last stopped being it: what
//! a person granted or revoked meanwhile is told from what the relation itself came with.

use super::catalog::rows;
use super::error::Doing;
use super::swap::{Grant, Rights};
use postgres::Client;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;

/// The table. Roles are named by their identity: a name may be another role's by then.
pub const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS unship.granted (
        relation oid PRIMARY KEY,
        rights jsonb NOT NULL
    )";

/// The statement that records the rights of now, for the transaction that moves these relations.
pub fn record(relations: &BTreeSet<u32>) -> String {
    let all: Vec<String> = relations.iter().map(u32::to_string).collect();
    format!(
        "INSERT INTO unship.granted (relation, rights) \
         SELECT c.oid, coalesce((SELECT jsonb_agg(jsonb_build_array( \
                    g.grantee::int8, g.privilege_type, g.is_grantable, g.attname)) FROM ( \
             SELECT x.*, NULL::name AS attname FROM aclexplode(c.relacl) x \
              WHERE x.grantee <> c.relowner \
             UNION ALL \
             SELECT x.*, a.attname FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) x \
              WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped) g), '[]') \
           FROM pg_class c WHERE c.oid = ANY ('{{{}}}'::oid[]) \
         ON CONFLICT (relation) DO UPDATE SET rights = excluded.rights",
        all.join(",")
    )
}

/// What was recorded of these relations. Roles that are gone are left out.
pub fn read(client: &mut Client, relations: &[u32]) -> Result<BTreeMap<u32, Rights>, EngineError> {
    #[derive(Deserialize)]
    struct Row {
        relation: u32,
        to: Option<String>,
        privilege: Option<String>,
        grantable: Option<bool>,
        column: Option<String>,
    }
    let what = "look for recorded rights";
    let there = client
        .query_one("SELECT to_regclass('unship.granted') IS NOT NULL", &[])
        .and_then(|row| row.try_get::<_, bool>(0))
        .doing(what)?;
    if !there {
        return Ok(BTreeMap::new());
    }
    let sql = "
        SELECT g.relation::int8 AS relation, r.rolname AS to, x ->> 3 AS column,
               CASE WHEN r.oid IS NOT NULL OR x ->> 0 = '0' THEN x ->> 1 END AS privilege,
               (x ->> 2)::bool AS grantable
          FROM unship.granted g
          LEFT JOIN jsonb_array_elements(g.rights) x ON true
          LEFT JOIN pg_roles r ON r.oid = (x ->> 0)::oid
         WHERE g.relation = ANY ($1)";
    let mut out: BTreeMap<u32, Rights> = BTreeMap::new();
    for row in rows::<Row>(client, sql, &[&relations])? {
        let rights = out.entry(row.relation).or_default();
        let (Some(privilege), Some(grantable)) = (row.privilege, row.grantable) else {
            continue;
        };
        let grant = Grant {
            to: row.to,
            privilege,
            grantable,
        };
        match row.column {
            Some(column) => rights.columns.entry(column).or_default().insert(grant),
            None => rights.all.insert(grant),
        };
    }
    Ok(out)
}

/// Forgets what is recorded of relations that are gone.
pub fn forget_gone(client: &mut Client) -> Result<(), EngineError> {
    let sql = "
        DO $$ BEGIN
            IF to_regclass('unship.granted') IS NOT NULL THEN
                DELETE FROM unship.granted g
                 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = g.relation);
            END IF;
        END $$";
    client.batch_execute(sql).doing("forget what was dropped")
}
