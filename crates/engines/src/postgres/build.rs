//! Staging schemas: made fresh for each build, with the privileges of production, and copies of the
//! relations whose old content matters.

use super::catalog::{namespaces, rows, server_version};
use super::connect::Connector;
use super::error::Doing;
use super::observe::CONNECTIONS;
use super::{layout, parallel, quote, remove, retained};
use postgres::{Client, GenericClient};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::ident::ReleaseId;

/// What the comment of a staging schema says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The release that is being built.
    pub release: ReleaseId,
    /// The production schema that it stands for.
    pub stands_for: String,
}

impl Mark {
    /// Reads a comment; anything else than a mark is none.
    pub fn read(comment: &str) -> Option<Self> {
        serde_json::from_str(comment).ok()
    }
}

/// What a build needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The production schemas that the job builds in.
    pub schemas: BTreeSet<String>,
    /// Relations that the job goes on from, as (schema, name): incremental models, snapshots.
    pub clones: BTreeSet<(String, String)>,
    /// Relations that the job looks for in staging, as (schema, name): a view there shows them.
    pub views: BTreeSet<(String, String)>,
    /// The role that the job connects as, if it is another one.
    pub job_role: Option<String>,
}

/// Makes staging schemas. Whatever an interrupted build left in them is dropped first.
pub fn begin(
    connector: &Connector,
    client: &mut Client,
    release: ReleaseId,
    wanted: &Wanted,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let mut made = Vec::new();
    let shown = wanted.views.iter().map(|(schema, _)| schema);
    let schemas: BTreeSet<&String> = wanted.schemas.iter().chain(shown).collect();
    for schema in schemas {
        // A name that is too long for what comes later is refused before anything is done.
        layout::retained(ReleaseId(release.0.max(99_999)), schema)?;
        made.push((schema, layout::build(schema)?));
    }
    for (schema, staging) in &made {
        remove::schema(client, staging)?;
        create(client, release, schema, staging, wanted.job_role.as_deref())?;
    }
    let version = server_version(client)?;
    let clones: Vec<_> = wanted.clones.iter().cloned().collect();
    parallel::each(
        connector,
        clones,
        CONNECTIONS,
        "copying what the job goes on from",
        on,
        &|_| Ok(()),
        &|client, (schema, name)| clone(client, &schema, &name, version),
    )?;
    for (schema, name) in &wanted.views {
        let view = quote::relation(&layout::build(schema)?, name);
        let sql = format!(
            "CREATE VIEW {view} AS SELECT * FROM {}; COMMENT ON VIEW {view} IS {}; \
             GRANT SELECT ON {view} TO {}",
            quote::relation(schema, name),
            quote::text(STANDS_IN),
            wanted
                .job_role
                .as_deref()
                .map_or("CURRENT_USER".to_owned(), quote::name),
        );
        client
            .batch_execute(&sql)
            .doing(&format!("show {schema}.{name} to the job"))?;
    }
    Ok(())
}

/// The comment on a view that shows a job what it looks for in staging. It is never published.
pub const STANDS_IN: &str = "unship: stands in for the relation in production";

fn create(
    client: &mut Client,
    release: ReleaseId,
    schema: &str,
    staging: &str,
    job_role: Option<&str>,
) -> Result<(), EngineError> {
    let what = format!("make the staging schema {staging}");
    let mark = Mark {
        release,
        stands_for: schema.to_owned(),
    };
    let mark = serde_json::to_string(&mark)
        .map_err(|e| EngineError::new(ErrorKind::Io, "a mark cannot be written").because(e))?;
    let name = quote::name(staging);
    let mut sql = format!(
        "CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS {}",
        quote::text(&mark)
    );
    if let Some(role) = job_role {
        sql.push_str(&format!(
            "; GRANT USAGE, CREATE ON SCHEMA {name} TO {}",
            quote::name(role)
        ));
    }
    for statement in default_privileges(client, schema, staging)? {
        sql.push_str("; ");
        sql.push_str(&statement);
    }
    client.batch_execute(&sql).doing(&what)
}

/// The staging schema of one more production schema, for what is built anew. What another release
/// left in it is dropped, as when a build begins.
pub fn another(client: &mut Client, release: ReleaseId, schema: &str) -> Result<(), EngineError> {
    let staging = layout::build(schema)?;
    if let Some(there) = namespaces(client)?.iter().find(|n| n.name == staging) {
        let mark = there.comment.as_deref().and_then(Mark::read);
        if mark.is_some_and(|mark| mark.release == release) {
            return Ok(());
        }
        remove::schema(client, &staging)?;
    }
    create(client, release, schema, &staging, None)
}

/// What is granted by default on whatever is made in the production schema, for the staging schema:
/// default privileges act where a relation is made, not where it is moved to. Those of roles that
/// unship is no member of cannot be set for them; relations of theirs take over production's own
/// privileges when they are moved.
fn default_privileges(
    client: &mut Client,
    schema: &str,
    staging: &str,
) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Statement {
        text: String,
    }
    let sql = "
        SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT %s ON %s TO %s%s',
                 pg_get_userbyid(d.defaclrole), $2::text, x.privilege_type,
                 CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
                   WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END,
                 CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                 CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS text
          FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace
         CROSS JOIN aclexplode(d.defaclacl) x
         WHERE n.nspname = $1 AND pg_has_role(d.defaclrole, 'MEMBER')";
    let statements: Vec<Statement> = rows(client, sql, &[&schema, &staging])?;
    Ok(statements.into_iter().map(|s| s.text).collect())
}

/// What there is to know of a table that is to be copied.
#[derive(Deserialize)]
struct Original {
    kind: String,
    full: String,
    owner: Option<String>,
    columns: Option<String>,
    keys: Option<Vec<String>>,
}

const ORIGINAL: &str = "
    SELECT c.relkind AS kind, c.oid::regclass::text AS full,
           nullif(quote_ident(pg_get_userbyid(c.relowner)), quote_ident(current_user)) AS owner,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attgenerated = '') AS columns,
           (SELECT array_agg(text ORDER BY rank, text) FROM (
               SELECT 1 AS rank, format('ALTER TABLE %s ADD CONSTRAINT %I %s', $3::text, k.conname,
                        pg_get_constraintdef(k.oid)) AS text
                 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
               UNION ALL
               SELECT 2, format('CREATE %sINDEX %I ON %s%s',
                        CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, ic.relname, $3::text,
                        substr(pg_get_indexdef(i.indexrelid), length(format('CREATE %sINDEX %I ON %s',
                          CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, ic.relname,
                          i.indrelid::regclass)) + 1))
                 FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND i.indisvalid AND NOT EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
           ) parts) AS keys
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm', 'v', 'f')";

/// Copies a table with its rows into staging: keys and indexes after the rows, which is faster. A
/// view has no content that matters, and one that is not there yet is what a first run finds.
fn clone(client: &mut Client, schema: &str, name: &str, version: u32) -> Result<(), EngineError> {
    let staging = layout::build(schema)?;
    let copy = quote::relation(&staging, name);
    let what = format!("copy {schema}.{name} into {staging}");
    let found: Vec<Original> = rows(client, ORIGINAL, &[&schema, &name, &copy])?;
    let Some(original) = found.into_iter().next() else {
        return Ok(());
    };
    match original.kind.as_str() {
        "r" => {}
        "p" => {
            return Err(EngineError::new(
                ErrorKind::Unsupported,
                format!("{schema}.{name} is partitioned, and copying partitioned tables is not supported"),
            )
            .hint("leave the model out of this run, or build it in full"));
        }
        _ => return Ok(()),
    }
    let compression = if version >= 140_000 {
        " INCLUDING COMPRESSION"
    } else {
        ""
    };
    let columns = original.columns.unwrap_or_default();
    let mut sql = format!(
        "CREATE TABLE {copy} (LIKE {from} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING \
         GENERATED INCLUDING IDENTITY INCLUDING STORAGE INCLUDING COMMENTS{compression}) \
         WITH (autovacuum_enabled = off);
         INSERT INTO {copy} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM ONLY {from};",
        from = original.full,
    );
    for key in original.keys.into_iter().flatten() {
        sql.push_str(&key);
        sql.push(';');
    }
    sql.push_str(&format!("ALTER TABLE {copy} RESET (autovacuum_enabled);"));
    let mut transaction = client.transaction().doing(&what)?;
    transaction.batch_execute(&sql).doing(&what)?;
    let mut after = sequences(&mut transaction, schema, name, &copy)?;
    if let Some(owner) = original.owner {
        after.push_str(&format!(
            "GRANT USAGE, CREATE ON SCHEMA {} TO {owner}; ALTER TABLE {copy} OWNER TO {owner};",
            quote::name(&staging)
        ));
    }
    transaction.batch_execute(&after).doing(&what)?;
    transaction.commit().doing(&what)?;
    client
        .batch_execute(&format!("ANALYZE {copy}"))
        .doing(&format!("analyze the copy of {schema}.{name}"))
}

/// Statements that set a copy's identity columns to where the original's are: a copy starts at 1,
/// and `LIKE` makes its sequence a `bigint` whatever it was.
fn sequences(
    client: &mut impl GenericClient,
    schema: &str,
    name: &str,
    copy: &str,
) -> Result<String, EngineError> {
    #[derive(Deserialize)]
    struct Statement {
        text: String,
    }
    let sql = "
        SELECT format('ALTER SEQUENCE %s AS %s; SELECT pg_catalog.setval(%L::regclass, s.last_value,
                 s.is_called) FROM %s s;', pg_get_serial_sequence($3::text, a.attname),
                 format_type(q.seqtypid, NULL), pg_get_serial_sequence($3::text, a.attname),
                 d.objid::regclass) AS text
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
          JOIN pg_sequence q ON q.seqrelid = d.objid
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attidentity <> ''";
    let statements: Vec<Statement> = rows(client, sql, &[&schema, &name, &copy])?;
    Ok(statements.into_iter().map(|s| s.text).collect())
}

/// Gives the planner statistics of what was built: autovacuum would come for it just when it is to
/// be moved.
pub fn analyze(client: &mut Client, release: ReleaseId) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Table {
        full: String,
    }
    let sql = "
        SELECT c.oid::regclass::text AS full
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
           AND pg_stat_get_last_analyze_time(c.oid) IS NULL";
    for (staging, _) in schemas(client, release)? {
        for table in rows::<Table>(client, sql, &[&staging])? {
            client
                .batch_execute(&format!("ANALYZE {}", table.full))
                .doing(&format!("analyze {}", table.full))?;
        }
    }
    Ok(())
}

/// The staging schemas of a release, with the production schema that each stands for.
pub fn schemas(
    client: &mut Client,
    release: ReleaseId,
) -> Result<Vec<(String, String)>, EngineError> {
    let of = |n: super::catalog::Namespace| {
        layout::parse_build(&n.name)?;
        let mark = Mark::read(n.comment.as_deref()?)?;
        (mark.release == release).then_some((n.name, mark.stands_for))
    };
    Ok(namespaces(client)?.into_iter().filter_map(of).collect())
}

/// Keeps what a failed job built, under its release's name. One transaction.
pub fn keep(client: &mut Client, release: ReleaseId) -> Result<(), EngineError> {
    let what = format!("keep what was built for {release}");
    let staged = schemas(client, release)?;
    if staged.is_empty() {
        return Ok(());
    }
    let mut transaction = client.transaction().doing(&what)?;
    transaction.batch_execute(retained::TABLE).doing(&what)?;
    for (staging, schema) in staged {
        let kept = layout::retained(release, &schema)?;
        let name = quote::name(&kept);
        let sql = format!(
            "ALTER SCHEMA {} RENAME TO {name}; COMMENT ON SCHEMA {name} IS {}",
            quote::name(&staging),
            quote::text(&format!(
                "What the job of {release} built for {schema}; it never was production."
            )),
        );
        transaction.batch_execute(&sql).doing(&what)?;
        retained::record_schema(&mut transaction, release, &kept, &schema)?;
        retained::read_only(&mut transaction, &kept)?;
    }
    transaction.commit().doing(&what)
}

/// Drops what a build left.
pub fn discard(client: &mut Client, release: ReleaseId) -> Result<(), EngineError> {
    for (staging, _) in schemas(client, release)? {
        remove::schema(client, &staging)?;
    }
    Ok(())
}
