//! Turning the log of a table on, noticing that it has a hole, and turning it off.

use super::capture::{self, TRIGGER, shape_of};
use super::home::{self, TABLES};
use super::shape::{self, Column, Part, Shape};
use crate::postgres::catalog::rows;
use crate::postgres::error::Doing;
use crate::postgres::quote;
use postgres::{Client, GenericClient, IsolationLevel, Transaction};
use serde::Deserialize;
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind};

/// How long a statement waits for who writes to a table before its log is turned on.
const PATIENCE: &str = "SET LOCAL lock_timeout = '5s'";

/// A table whose changes are written down.
#[derive(Debug, Clone, Deserialize)]
pub struct Guarded {
    /// The number of the guard: a table gets another one when its columns change.
    pub id: i64,
    /// Its identity.
    pub relation: u32,
    /// Its schema when it was turned on.
    pub schema: String,
    /// Its name then.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The numbers of the columns of the key that rows which came are written down by; none, where
    /// they are written down whole.
    pub key: Vec<i16>,
    /// Since when, as the server writes it.
    pub since: String,
}

const OPEN: &str = "
    SELECT g.id, g.relation::int8 AS relation, g.schema, g.name, g.columns, g.key,
           date_trunc('second', g.since)::text AS since
      FROM unship_undo.guards g WHERE g.ended IS NULL";

/// The tables whose changes are written down now.
pub fn open(client: &mut impl GenericClient) -> Result<Vec<Guarded>, EngineError> {
    match home::there(client)? {
        true => rows(client, &format!("{OPEN} ORDER BY g.id"), &[]),
        false => Ok(Vec::new()),
    }
}

/// Why what a guard has written down may not be all that happened; none, if it is.
pub fn hole(
    client: &mut impl GenericClient,
    guard: &Guarded,
) -> Result<Option<String>, EngineError> {
    #[derive(Deserialize)]
    struct Found {
        relation: u32,
        full: Option<String>,
        known: bool,
        shape: bool,
        rewritten: bool,
        triggers: bool,
    }
    let sql = format!(
        "SELECT coalesce(p.relation, t.relid)::int8 AS relation,
                (SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = coalesce(p.relation, t.relid)) AS full,
                p.relation IS NOT NULL AND t.relid IS NOT NULL AS known,
                {shape} IS NOT DISTINCT FROM p.shape AS shape,
                pg_relation_filenode(p.relation) IS DISTINCT FROM p.file
                  AND {altered} IS DISTINCT FROM p.altered AS rewritten,
                {triggers} IS NOT DISTINCT FROM p.triggers AS triggers
           FROM (SELECT * FROM unship_undo.parts WHERE guard = $1) p
           FULL JOIN (SELECT relid::oid FROM pg_partition_tree($2::oid)
                      UNION SELECT oid FROM pg_class WHERE oid = $2::oid) t ON t.relid = p.relation",
        shape = shape_of("p.relation"),
        altered = altered("p.relation"),
        triggers = triggers("p.relation"),
    );
    let found: Vec<Found> = rows(client, &sql, &[&guard.id, &guard.relation])?;
    if found.iter().all(|one| one.full.is_none()) {
        return Ok(Some("it was dropped".to_owned()));
    }
    let row = client
        .query_one(KEYED, &[&guard.id])
        .doing("look at the key of a logged table")?;
    if !row.try_get(0).doing("look at the key of a logged table")? {
        return Ok(Some("its primary key was dropped or made anew".to_owned()));
    }
    for one in found {
        let full = one.full.unwrap_or_else(|| one.relation.to_string());
        let why = match (one.known, one.shape, one.rewritten, one.triggers) {
            (false, ..) => format!("a partition came or went: {full}"),
            (_, false, ..) => format!("the columns of {full} were altered"),
            (_, _, true, _) => format!("{full} was altered and written anew"),
            (_, _, _, false) => format!("the triggers of {full} were off for a time, or are"),
            _ => continue,
        };
        return Ok(Some(why));
    }
    Ok(None)
}

/// Whether the key that the rows of a guard are told apart by still is the one that it was.
pub const KEYED: &str = "
    SELECT g.key_is IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_constraint k
            WHERE k.oid = g.key_is AND k.conrelid = g.relation AND k.contype = 'p')
      FROM unship_undo.guards g WHERE g.id = $1";

/// What the catalog says of when a relation's columns were last altered.
fn altered(relation: &str) -> String {
    format!(
        "(SELECT md5(string_agg(concat(a.attnum, ' ', a.xmin), ',' ORDER BY a.attnum)) \
         FROM pg_attribute a WHERE a.attrelid = {relation} AND a.attnum > 0)"
    )
}

/// Which triggers of the log a relation has, whether they fire, and when they were last altered: who
/// turned them off and on again leaves a trace.
fn triggers(relation: &str) -> String {
    format!(
        "(SELECT string_agg(concat(t.tgname, ' ', t.tgenabled, ' ', t.tgfoid, ' ', t.xmin), ',' \
         ORDER BY t.tgname) FROM pg_trigger t \
         WHERE t.tgrelid = {relation} AND starts_with(t.tgname, '{TRIGGER}_'))"
    )
}

/// Turns the log on for tables that have none, and anew for those whose log has a hole. Gives what a
/// person should know, each a sentence.
pub fn ensure(
    client: &mut Client,
    wanted: &BTreeSet<(String, String)>,
) -> Result<Vec<String>, EngineError> {
    let mut notes = Vec::new();
    if !home::there(client)? {
        if wanted.is_empty() {
            return Ok(notes);
        }
        client
            .batch_execute(TABLES)
            .doing("make the schema of the undo log")?;
    }
    for guard in open(client)? {
        if let Some(why) = hole(client, &guard)? {
            let (schema, name) = (&guard.schema, &guard.name);
            let mut transaction = begin(client)?;
            end(&mut transaction, &guard, &why)?;
            transaction.commit().doing("end an undo log")?;
            notes.push(format!(
                "{schema}.{name} cannot go back to before now where it stands: {why}"
            ));
        }
    }
    if !wanted.is_empty() {
        keep(client)?;
    }
    let open: BTreeSet<u32> = open(client)?.iter().map(|guard| guard.relation).collect();
    for (schema, name) in wanted {
        match shape::read(client, schema, name)? {
            Some(shape) if open.contains(&shape.relation) => {}
            Some(_) => install(client, schema, name)?,
            None => notes.push(format!(
                "{schema}.{name} is not there yet, so that nothing of it is written down"
            )),
        }
    }
    Ok(notes)
}

/// Keeps logged tables from being dropped, where this role may make event triggers: with them would
/// go what the log cannot bring back. What unship itself retired may go.
const KEEP: &str = "
    CREATE OR REPLACE FUNCTION unship_undo.keep() RETURNS event_trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE one record;
    BEGIN
        FOR one IN SELECT d.object_identity AS name FROM pg_event_trigger_dropped_objects() d
             JOIN unship_undo.guards g ON g.relation = d.objid AND g.ended IS NULL
            WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
              AND d.schema_name !~ '^unship_(r[0-9]|build_)' LOOP
            RAISE EXCEPTION '% has an undo log, which cannot bring a dropped table back', one.name
                USING ERRCODE = 'object_in_use', HINT = 'Let the job build it aside, delete its rows '
                    'instead, or take it out of undo_log and run: unship undo-log sync';
        END LOOP;
    END $$;
    CREATE EVENT TRIGGER unship_undo_keep ON sql_drop EXECUTE FUNCTION unship_undo.keep()";

/// Whether it stands.
const KEPT: &str =
    "SELECT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'unship_undo_keep'), rolsuper
      FROM pg_roles WHERE rolname = current_user";

/// Makes the event trigger, where that is allowed and it is not there.
fn keep(client: &mut Client) -> Result<(), EngineError> {
    const WHAT: &str = "keep logged tables from being dropped";
    let row = client.query_one(KEPT, &[]).doing(WHAT)?;
    let there: bool = row.try_get(0).doing(WHAT)?;
    let may: bool = row.try_get(1).doing(WHAT)?;
    if there || !may {
        return Ok(());
    }
    client.batch_execute(KEEP).doing(WHAT)
}

/// Whether logged tables are kept from being dropped.
pub fn is_kept(client: &mut impl GenericClient) -> Result<bool, EngineError> {
    const WHAT: &str = "look whether logged tables can be dropped";
    let row = client.query_one(KEPT, &[]).doing(WHAT)?;
    row.try_get(0).doing(WHAT)
}

/// A transaction whose statements each see what was committed before them.
fn begin(client: &mut Client) -> Result<Transaction<'_>, EngineError> {
    const WHAT: &str = "turn an undo log on";
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .doing(WHAT)?;
    transaction.batch_execute(PATIENCE).doing(WHAT)?;
    Ok(transaction)
}

fn install(client: &mut Client, schema: &str, name: &str) -> Result<(), EngineError> {
    let what = format!("turn the undo log of {schema}.{name} on");
    let mut transaction = begin(client)?;
    // Whoever writes has done so before the first change that is written down.
    transaction
        .batch_execute(&format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            quote::relation(schema, name)
        ))
        .doing(&what)?;
    // As it is now that nobody can alter it.
    let Some(shape) = shape::read(&mut transaction, schema, name)? else {
        return Ok(());
    };
    let id = record(&mut transaction, &shape)?;
    let make = capture::make_rows(id, &shape.columns, shape.brief.as_ref());
    transaction.batch_execute(&make).doing(&what)?;
    for part in &shape.parts {
        watch(&mut transaction, id, part, &shape, &what)?;
    }
    let sql = "INSERT INTO unship_undo.changes (seq, guard, op, role, application)
               VALUES (nextval('unship_undo.seq'), $1, 'on', session_user,
                       current_setting('application_name'))";
    transaction.execute(sql, &[&id]).doing(&what)?;
    transaction.commit().doing(&what)
}

fn record(transaction: &mut Transaction<'_>, shape: &Shape) -> Result<i64, EngineError> {
    const WHAT: &str = "record an undo log";
    let columns = serde_json::to_string(&shape.columns).map_err(|e| {
        EngineError::new(ErrorKind::Io, "a table's columns cannot be written down").because(e)
    })?;
    let sql = "INSERT INTO unship_undo.guards (relation, schema, name, columns, key, key_is)
               VALUES ($1, $2, $3, $4::text::jsonb, $5, $6) RETURNING id";
    let brief = shape.brief.as_ref();
    let key = brief.map(|brief| &brief.columns[..]).unwrap_or_default();
    let key_is = brief.map(|brief| brief.constraint);
    let (relation, schema, name) = (&shape.relation, &shape.schema, &shape.name);
    let row = transaction
        .query_one(sql, &[relation, schema, name, &columns, &key, &key_is])
        .doing(WHAT)?;
    row.try_get(0).doing(WHAT)
}

fn watch(
    transaction: &mut Transaction<'_>,
    id: i64,
    part: &Part,
    of: &Shape,
    what: &str,
) -> Result<(), EngineError> {
    let row = transaction
        .query_one(
            &format!("SELECT {}", shape_of("$1::oid")),
            &[&part.relation],
        )
        .doing(what)?;
    let shape: String = row.try_get(0).doing(what)?;
    for statement in capture::make(id, part, &of.columns, of.brief.as_ref(), &shape) {
        transaction.batch_execute(&statement).doing(what)?;
    }
    let sql = format!(
        "INSERT INTO unship_undo.parts (guard, relation, shape, altered, triggers, file)
         SELECT $1, $2::oid, $3, {}, {}, pg_relation_filenode($2::oid)",
        altered("$2::oid"),
        triggers("$2::oid"),
    );
    transaction
        .execute(&sql, &[&id, &part.relation, &shape])
        .doing(what)?;
    Ok(())
}

/// Ends a guard: its triggers go, what it wrote down stays until the retention drops it.
fn end(transaction: &mut Transaction<'_>, guard: &Guarded, why: &str) -> Result<(), EngineError> {
    const WHAT: &str = "end an undo log";
    #[derive(Deserialize)]
    struct Statement {
        text: String,
    }
    let sql = "SELECT text FROM (
                   SELECT 1 AS rank, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) AS text
                     FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                    WHERE p.pronamespace = 'unship_undo'::regnamespace
                      AND starts_with(p.proname, concat('capture_', $1::bigint, '_'))
                   UNION ALL
                   SELECT 2, format('DROP FUNCTION %s', p.oid::regprocedure) FROM pg_proc p
                    WHERE p.pronamespace = 'unship_undo'::regnamespace
                      AND starts_with(p.proname, concat('capture_', $1::bigint, '_'))) s
                ORDER BY rank, text";
    for statement in rows::<Statement>(transaction, sql, &[&guard.id])? {
        transaction.batch_execute(&statement.text).doing(WHAT)?;
    }
    let sql = "UPDATE unship_undo.guards SET ended = clock_timestamp(), because = $2 WHERE id = $1";
    transaction.execute(sql, &[&guard.id, &why]).doing(WHAT)?;
    Ok(())
}

/// Turns logs off: of all tables, or of those that `wanted` does not name. Gives the tables. What was
/// written down goes too where `forget` says so, and then cannot be taken back any more.
pub fn remove(
    client: &mut Client,
    wanted: &BTreeSet<(String, String)>,
    forget: bool,
) -> Result<Vec<String>, EngineError> {
    let mut out = Vec::new();
    for guard in open(client)? {
        if wanted.contains(&(guard.schema.clone(), guard.name.clone())) {
            continue;
        }
        let mut transaction = begin(client)?;
        end(&mut transaction, &guard, "the log was turned off")?;
        transaction.commit().doing("end an undo log")?;
        out.push(format!("{}.{}", guard.schema, guard.name));
    }
    if forget && wanted.is_empty() && home::there(client)? {
        drop_all(client)?;
    }
    Ok(out)
}

/// Drops the whole log. Without CASCADE: what somebody made on it stays, and is named.
fn drop_all(client: &mut Client) -> Result<(), EngineError> {
    const WHAT: &str = "drop the undo log";
    #[derive(Deserialize)]
    struct Statement {
        text: String,
    }
    let sql = "SELECT format('DROP TABLE %s', c.oid::regclass) AS text FROM pg_class c
                WHERE c.relnamespace = 'unship_undo'::regnamespace AND c.relkind = 'r'";
    let mut transaction = begin(client)?;
    // It looks into what is dropped.
    let keep =
        "DROP EVENT TRIGGER IF EXISTS unship_undo_keep; DROP FUNCTION IF EXISTS unship_undo.keep()";
    transaction.batch_execute(keep).doing(WHAT)?;
    for statement in rows::<Statement>(&mut transaction, sql, &[])? {
        transaction.batch_execute(&statement.text).doing(WHAT)?;
    }
    transaction
        .batch_execute("DROP SEQUENCE unship_undo.seq; DROP SCHEMA unship_undo")
        .doing(WHAT)?;
    transaction.commit().doing(WHAT)
}
