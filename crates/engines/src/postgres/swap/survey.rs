//! Reading the catalog: one transaction, one snapshot, no lock that anybody would notice.

use super::model::{
    Attached, Column, Constraint, Dependent, Index, LockTable, Name, Occupant, Policy, Publication,
    Relation, Role, Sequence, Statistics, Survey,
};
use super::names::{is_ours, quoted};
use super::request::Scope;
use postgres::{Client, IsolationLevel, Transaction};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind};

/// A query failed.
pub(super) fn failed(error: postgres::Error) -> EngineError {
    let message = match error.as_db_error() {
        Some(db) => match db.detail() {
            Some(detail) => format!("{} ({detail})", db.message()),
            None => db.message().to_owned(),
        },
        None => error.to_string(),
    };
    let kind = match error.code().map(postgres::error::SqlState::code) {
        None => ErrorKind::Io,
        Some("55P03" | "40P01" | "57014") => ErrorKind::Busy,
        Some("42501") => ErrorKind::Permission,
        Some("53100") => ErrorKind::DiskFull,
        Some("2BP01") => ErrorKind::Refused,
        Some(code) if code.starts_with("57") || code.starts_with("08") => ErrorKind::Interrupted,
        Some(_) => ErrorKind::Query,
    };
    let mut out = EngineError::new(kind, format!("PostgreSQL: {message}"));
    if let Some(hint) = error.as_db_error().and_then(postgres::error::DbError::hint) {
        out = out.hint(hint);
    }
    out.because(error)
}

/// Reads everything that planning needs. Names that do not exist are left out.
pub fn survey(client: &mut Client, scope: &Scope) -> Result<Survey, EngineError> {
    let mut tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .map_err(failed)?;
    tx.batch_execute(
        "SET LOCAL search_path = ''; SET LOCAL jit = off; SET LOCAL DateStyle = 'ISO'",
    )
    .map_err(failed)?;
    let found = read(&mut tx, scope)?;
    tx.commit().map_err(failed)?;
    Ok(found)
}

fn read(tx: &mut Transaction<'_>, scope: &Scope) -> Result<Survey, EngineError> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = scope
        .relations
        .iter()
        .map(|n| (n.schema.as_str(), n.name.as_str()))
        .unzip();
    let around: Vec<u32> = tx
        .query_one(include_str!("sql/around.sql"), &[&schemas, &names])
        .map_err(failed)?
        .get(0);
    let mut relations: BTreeMap<u32, Relation> = BTreeMap::new();
    for row in tx
        .query(include_str!("sql/relations.sql"), &[&around])
        .map_err(failed)?
    {
        let one: Relation = value(row.get(0))?;
        relations.insert(one.oid, one);
    }
    macro_rules! each {
        ($file:literal, $field:ident, $of:ty) => {
            for (oid, one) in aspect::<$of>(tx, include_str!($file), &around)? {
                if let Some(relation) = relations.get_mut(&oid) {
                    relation.$field.push(one);
                }
            }
        };
    }
    each!("sql/columns.sql", columns, Column);
    each!("sql/constraints.sql", constraints, Constraint);
    each!("sql/indexes.sql", indexes, Index);
    each!("sql/triggers.sql", triggers, Attached);
    each!("sql/rules.sql", rules, Attached);
    each!("sql/policies.sql", policies, Policy);
    each!("sql/statistics.sql", statistics, Statistics);
    let version: i64 = tx
        .query_one("SELECT current_setting('server_version_num')::int8", &[])
        .map_err(failed)?
        .get(0);
    let publications = include_str!("sql/publications.sql");
    let publications = if version < 150_000 {
        publications
            .replace("pg_get_expr(r.prqual, r.prrelid)", "NULL")
            .replace("r.prattrs", "NULL")
    } else {
        publications.to_owned()
    };
    for (oid, one) in aspect::<Publication>(tx, &publications, &around)? {
        if let Some(relation) = relations.get_mut(&oid) {
            relation.publications.push(one);
        }
    }
    each!("sql/sequences.sql", sequences, Sequence);
    each!("sql/parents.sql", parents, u32);

    let dependents = aspect::<Dependent>(tx, include_str!("sql/dependents.sql"), &around)?
        .into_iter()
        .map(|(_, one)| one)
        .collect();
    let mut reads = BTreeSet::new();
    let mut others = BTreeMap::new();
    for row in tx
        .query(include_str!("sql/reads.sql"), &[&around])
        .map_err(failed)?
    {
        let target: u32 = row.get(1);
        if row.get::<_, bool>(4) {
            reads.insert((row.get(0), target));
        }
        if !relations.contains_key(&target) {
            others.insert(
                target,
                Name::new(row.get::<_, String>(2), row.get::<_, String>(3)),
            );
        }
    }
    unqualified(tx, &mut relations, &reads, &others)?;

    let schemas: Vec<&String> = scope.schemas.iter().collect();
    let occupied = tx
        .query(include_str!("sql/occupied.sql"), &[&schemas])
        .map_err(failed)?
        .iter()
        .map(|row| Occupant {
            name: Name::new(row.get::<_, String>(0), row.get::<_, String>(1)),
            sort: row.get(2),
            what: row.get(3),
            relation: row.get(4),
        })
        .collect();
    let schemas = tx
        .query(
            "SELECT nspname::text, has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = ANY($1::text[])",
            &[&schemas],
        )
        .map_err(failed)?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let server = tx
        .query_one(include_str!("sql/server.sql"), &[])
        .map_err(failed)?;
    let mark = mark(tx, &around)?;
    Ok(Survey {
        version,
        role: Role {
            name: server.get(1),
            superuser: server.get(2),
            member_of: server.get::<_, Vec<String>>(3).into_iter().collect(),
        },
        locks: LockTable {
            capacity: server.get(4),
            held: server.get(5),
        },
        event_triggers: server.get(6),
        relations,
        dependents,
        reads,
        others,
        occupied,
        schemas,
        mark,
    })
}

/// The versions of the catalog's rows about these relations and about what depends on them, as one
/// value: as long as it stays equal, nobody altered, granted, created or dropped anything there.
pub(super) fn mark<C: postgres::GenericClient>(
    client: &mut C,
    oids: &[u32],
) -> Result<String, EngineError> {
    Ok(client
        .query_one(include_str!("sql/mark.sql"), &[&oids])
        .map_err(failed)?
        .get(0))
}

fn value<T: DeserializeOwned>(text: &str) -> Result<T, EngineError> {
    serde_json::from_str(text).map_err(|e| {
        EngineError::new(
            ErrorKind::Unsupported,
            "PostgreSQL's catalog holds something that this unship does not know.",
        )
        .hint("Please report it, with the server's version.")
        .because(e)
    })
}

/// One query gives (relation, value as JSON), in order.
fn aspect<T: DeserializeOwned>(
    tx: &mut Transaction<'_>,
    sql: &str,
    oids: &[u32],
) -> Result<Vec<(u32, T)>, EngineError> {
    tx.query(sql, &[&oids])
        .map_err(failed)?
        .iter()
        .map(|row| Ok((row.get(0), value(row.get(1))?)))
        .collect()
}

/// Definitions for views that must be made anew over other relations of the same names: those that
/// read a schema of unship's, and materialised views. PostgreSQL leaves a name unqualified where
/// the search path finds that very relation, so each is read under a path of the schemas it reads.
fn unqualified(
    tx: &mut Transaction<'_>,
    relations: &mut BTreeMap<u32, Relation>,
    reads: &BTreeSet<(u32, u32)>,
    others: &BTreeMap<u32, Name>,
) -> Result<(), EngineError> {
    let mut by_path: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for relation in relations.values().filter(|r| r.definition.is_some()) {
        let schemas: BTreeSet<&str> = reads
            .range((relation.oid, 0)..=(relation.oid, u32::MAX))
            .filter_map(|(_, target)| {
                relations
                    .get(target)
                    .map(|r| r.schema.as_str())
                    .or_else(|| others.get(target).map(|n| n.schema.as_str()))
            })
            .collect();
        // What unship made comes first: it stands for the schema behind it.
        let mut ordered: Vec<&str> = schemas.into_iter().collect();
        ordered.sort_by_key(|s| (!is_ours(s), *s));
        let path = ordered
            .iter()
            .map(|s| quoted(s))
            .collect::<Vec<_>>()
            .join(", ");
        by_path.entry(path).or_default().push(relation.oid);
    }
    for (path, oids) in by_path {
        tx.execute("SELECT set_config('search_path', $1, true)", &[&path])
            .map_err(failed)?;
        for row in tx
            .query(
                "SELECT o, pg_get_viewdef(o) FROM unnest($1::oid[]) o",
                &[&oids],
            )
            .map_err(failed)?
        {
            if let Some(relation) = relations.get_mut(&row.get(0)) {
                relation.unqualified = row.get(1);
            }
        }
    }
    tx.batch_execute("SET LOCAL search_path = ''")
        .map_err(failed)
}
