//! What a table that is to be logged looks like, and why some cannot be.

use crate::postgres::catalog::rows;
use crate::postgres::quote;
use postgres::GenericClient;
use serde::{Deserialize, Serialize};
use unship_core::engine::{EngineError, ErrorKind};

/// A column as the undo log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its number in the table, which names it in the log: it stays when the column is renamed.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, without a length.
    pub data_type: String,
    /// The type that the log keeps it as: what others made is kept as text, so that nothing of
    /// theirs depends on the log or the log on it.
    pub kept: String,
    /// Its collation, where it is not the type's own.
    pub collation: Option<String>,
    /// Whether it is an identity column that refuses given values.
    pub always: bool,
}

impl Column {
    /// Its name in the log.
    pub fn logged(&self) -> String {
        format!("c{}", self.number)
    }

    /// Its value as the log keeps it, read from a row under an alias.
    pub fn read(&self, alias: &str) -> String {
        let value = format!("{alias}.{}", quote::name(&self.name));
        match self.kept == self.data_type {
            true => value,
            false => format!("{value}::{}", self.kept),
        }
    }

    /// Its value as the table has it, from the log under an alias.
    pub fn back(&self, alias: &str) -> String {
        let value = format!("{alias}.{}", self.logged());
        match self.kept == self.data_type {
            true => value,
            false => format!("{value}::{}", self.data_type),
        }
    }
}

/// A table with its partitions.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Its identity.
    pub relation: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns, without the generated ones.
    pub columns: Vec<Column>,
    /// Itself, or its whole partition tree: what statements can write to.
    pub parts: Vec<Part>,
    /// By which keys of rows that came can be written down instead of the rows; none, if rows
    /// must be.
    pub brief: Option<Brief>,
}

/// A primary key by which rows that came are found again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Brief {
    /// The numbers of its columns.
    pub columns: Vec<i16>,
    /// The identity of the constraint.
    pub constraint: u32,
}

/// A relation that statements can write to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Part {
    /// Its identity.
    pub relation: u32,
    /// Its quoted name.
    pub full: String,
    /// Whether it has rows of its own.
    pub stores: bool,
}

/// The columns of `$1`, generated ones left out. A domain is kept as what it stands on.
const COLUMNS: &str = "
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.atttypid AS type FROM pg_attribute a
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        UNION ALL
        SELECT base.attnum, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.type
         WHERE t.typtype = 'd'
    )
    SELECT a.attnum AS number, a.attname AS name, format_type(a.atttypid, -1) AS data_type,
           CASE WHEN t.oid < 16384 AND e.oid < 16384 AND t.typsend <> 0
                THEN format_type(t.oid, -1) ELSE 'pg_catalog.text' END AS kept,
           CASE WHEN t.oid < 16384 AND a.attcollation <> t.typcollation AND a.attcollation <> 0
                THEN a.attcollation::regcollation::text END AS collation,
           a.attidentity = 'a' AS always
      FROM pg_attribute a
      JOIN base ON base.attnum = a.attnum
      JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
      JOIN pg_type e ON e.oid = CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN t.typelem ELSE t.oid END
     WHERE a.attrelid = $1
     ORDER BY a.attnum";

/// The key of `$1`: the primary key, or else another that always tells all rows apart at once.
const KEY: &str = "
    SELECT i.indkey::int2[] AS columns FROM pg_index i
     WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
       AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
           JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = k
          WHERE NOT a.attnotnull OR a.attgenerated <> '')
       AND i.indnkeyatts = i.indnatts
     ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1";

/// The primary key of `$1`, where rows that came can be told by it alone: of types of which
/// equal values are the same bytes, and on a table whose own triggers and keys do
/// not change it in the midst of a statement, which would be refused when it goes back.
const BRIEF: &str = "
    SELECT k.conkey::int2[] AS columns, k.oid::int8 AS constraint
      FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid
     WHERE k.conrelid = $1 AND k.contype = 'p' AND i.indimmediate AND i.indisvalid
       AND NOT i.indisexclusion AND i.indnkeyatts = i.indnatts
       AND NOT EXISTS (SELECT FROM unnest(k.conkey) n
           JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = n
           LEFT JOIN pg_collation c ON c.oid = a.attcollation
          WHERE a.attgenerated <> '' OR NOT coalesce(c.collisdeterministic, true) OR c.oid >= 16384
             OR a.atttypid NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype,
                'text'::regtype, 'varchar'::regtype, 'uuid'::regtype, 'date'::regtype,
                'timestamp'::regtype, 'timestamptz'::regtype))
       AND NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
          WHERE t.tgrelid IN (SELECT relid FROM pg_partition_tree($1::oid) UNION SELECT $1::oid)
            AND NOT t.tgisinternal AND p.pronamespace <> 'unship_undo'::regnamespace)
       AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = $1 AND f.confrelid = $1
          AND f.contype = 'f' AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd')))";

/// The partition tree of `$1`, or itself.
const PARTS: &str = "
    SELECT c.oid::int8 AS relation, c.oid::regclass::text AS full, c.relkind = 'r' AS stores
      FROM pg_partition_tree($1::oid) p JOIN pg_class c ON c.oid = p.relid
    UNION
    SELECT c.oid::int8, c.oid::regclass::text, true FROM pg_class c
     WHERE c.oid = $1::oid AND c.relkind = 'r'
    ORDER BY 1";

/// Why a table cannot be logged, each a clause after its name.
const OBSTACLES: &str = "
    WITH tree AS (SELECT relid AS oid FROM pg_partition_tree($1::oid) UNION SELECT $1::oid)
    SELECT CASE c.relkind WHEN 'f' THEN format('holds rows elsewhere: %s is a foreign table', c.oid::regclass)
                WHEN 'v' THEN 'is a view' WHEN 'm' THEN 'is a materialized view'
                ELSE 'is no table' END AS what
      FROM pg_class c JOIN tree ON tree.oid = c.oid WHERE c.relkind NOT IN ('r', 'p')
    UNION ALL
    SELECT CASE c.relpersistence WHEN 'u' THEN 'is unlogged: after a crash its rows are gone, and the undo log is not'
                ELSE 'is temporary' END
      FROM pg_class c JOIN tree ON tree.oid = c.oid
     WHERE c.relpersistence <> 'p' AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'is a partition: log the table that it belongs to'
      FROM pg_class c WHERE c.oid = $1::oid AND c.relispartition
    UNION ALL
    SELECT format('is bound to %s by inheritance', h.other::regclass)
      FROM (SELECT inhrelid AS one, inhparent AS other FROM pg_inherits
            UNION ALL SELECT inhparent, inhrelid FROM pg_inherits) h
      JOIN pg_class c ON c.oid = h.one
     WHERE h.one = $1 AND c.relkind = 'r' AND NOT c.relispartition
    UNION ALL
    SELECT format('has the rule %I, which turns statements into others', w.rulename)
      FROM pg_rewrite w JOIN tree ON tree.oid = w.ev_class
    UNION ALL
    SELECT 'is filled by a subscription, whose rows no statement trigger sees'
      FROM pg_subscription_rel r JOIN tree ON tree.oid = r.srrelid
    UNION ALL
    SELECT format('forces row security on its owner: %s', c.oid::regclass)
      FROM pg_class c JOIN tree ON tree.oid = c.oid WHERE c.relforcerowsecurity
    UNION ALL
    SELECT format('has the trigger %I before TRUNCATE, which would come after the log''s', t.tgname)
      FROM pg_trigger t JOIN tree ON tree.oid = t.tgrelid
     WHERE NOT t.tgisinternal AND t.tgtype & 34 = 34 AND t.tgname > 'unship_undo_empty'
    UNION ALL
    SELECT 'belongs to an extension' FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.deptype = 'e'
    UNION ALL
    SELECT 'has no columns' WHERE NOT EXISTS (SELECT FROM pg_attribute a
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')";

/// Reads the table of a name; none, if it is not there.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what cannot be logged, with the reason.
pub fn read(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
) -> Result<Option<Shape>, EngineError> {
    #[derive(Deserialize)]
    struct Identity {
        oid: u32,
    }
    let sql = "SELECT c.oid::int8 AS oid FROM pg_class c JOIN pg_namespace n
                   ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let Some(Identity { oid }) = rows(client, sql, &[&schema, &name])?.into_iter().next() else {
        return Ok(None);
    };
    if let Some(why) = obstacles(client, oid)?.into_iter().next() {
        return Err(EngineError::new(
            ErrorKind::Unsupported,
            format!("{schema}.{name} cannot have an undo log: it {why}"),
        )
        .hint("take it out of `undo_log`, and let jobs build it aside"));
    }
    Ok(Some(Shape {
        relation: oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns: rows(client, COLUMNS, &[&oid])?,
        parts: parts(client, oid)?,
        brief: rows(client, BRIEF, &[&oid])?.into_iter().next(),
    }))
}

/// What keeps a table from being logged.
pub fn obstacles(client: &mut impl GenericClient, oid: u32) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Words {
        what: String,
    }
    let found: Vec<Words> = rows(client, OBSTACLES, &[&oid])?;
    Ok(found.into_iter().map(|words| words.what).collect())
}

/// The columns that tell a table's rows apart; none, if none do.
pub fn key(client: &mut impl GenericClient, oid: u32) -> Result<Vec<i16>, EngineError> {
    #[derive(Deserialize)]
    struct Key {
        columns: Vec<i16>,
    }
    let key: Vec<Key> = rows(client, KEY, &[&oid])?;
    Ok(key
        .into_iter()
        .next()
        .map(|key| key.columns)
        .unwrap_or_default())
}

/// Whether nothing but its primary key keeps rows of a table from being alike: then a row can be
/// changed whatever becomes of the others.
pub fn is_free(client: &mut impl GenericClient, oid: u32) -> Result<bool, EngineError> {
    #[derive(Deserialize)]
    struct Free {
        free: bool,
    }
    let sql = "SELECT NOT EXISTS (SELECT FROM pg_index i
                    JOIN (SELECT relid::oid FROM pg_partition_tree($1::oid) UNION SELECT $1::oid) t
                      ON t.relid = i.indrelid
                   WHERE (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary) AS free";
    let found: Vec<Free> = rows(client, sql, &[&oid])?;
    Ok(found.first().is_some_and(|found| found.free))
}

/// Everything that statements can write to.
pub fn parts(client: &mut impl GenericClient, oid: u32) -> Result<Vec<Part>, EngineError> {
    rows(client, PARTS, &[&oid])
}
