//! Reading the catalog: one transaction, one snapshot, no lock that anybody would notice.

use super::model::{
    Attached, Column, Constraint, Dependent, Index, LockTable, Name, Occupant, Policy, Publication,
    Relation, Role, Sequence, Statistics, Survey,
};
use super::names::{is_ours, quoted};
use super::request::Scope;
use crate::postgres::error::said;
use postgres::types::FromSql;
use postgres::{Client, IsolationLevel, Row, Transaction};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind};

/// A query failed.
pub(super) fn failed(error: postgres::Error) -> EngineError {
    said(&error, "PostgreSQL")
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
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let mut relations: BTreeMap<u32, Relation> = BTreeMap::new();
    for row in tx
        .query(include_str!("sql/relations.sql"), &[&around])
        .map_err(failed)?
    {
        let one: Relation = value(cell(&row, 0)?)?;
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
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
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
        let target: u32 = cell(&row, 1)?;
        if cell(&row, 4)? {
            reads.insert((cell(&row, 0)?, target));
        }
        if !relations.contains_key(&target) {
            others.insert(target, name(&row, 2)?);
        }
    }
    unqualified(tx, &mut relations, &reads, &others)?;

    let schemas: Vec<&String> = scope.schemas.iter().collect();
    let occupied = tx
        .query(include_str!("sql/occupied.sql"), &[&schemas])
        .map_err(failed)?
        .iter()
        .map(|row| {
            Ok(Occupant {
                name: name(row, 0)?,
                sort: cell(row, 2)?,
                what: cell(row, 3)?,
                relation: cell(row, 4)?,
            })
        })
        .collect::<Result<_, EngineError>>()?;
    let schemas = tx
        .query(
            "SELECT nspname::text, has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = ANY($1::text[])",
            &[&schemas],
        )
        .map_err(failed)?
        .iter()
        .map(|row| Ok((cell(row, 0)?, cell(row, 1)?)))
        .collect::<Result<_, EngineError>>()?;
    let server = tx
        .query_one(include_str!("sql/server.sql"), &[])
        .map_err(failed)?;
    let mark = mark(tx, &around)?;
    Ok(Survey {
        version,
        role: Role {
            name: cell(&server, 1)?,
            superuser: cell(&server, 2)?,
            member_of: cell::<Vec<String>>(&server, 3)?.into_iter().collect(),
        },
        locks: LockTable {
            capacity: cell(&server, 4)?,
            held: cell(&server, 5)?,
        },
        event_triggers: cell(&server, 6)?,
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
    client
        .query_one(include_str!("sql/mark.sql"), &[&oids])
        .and_then(|row| row.try_get(0))
        .map_err(failed)
}

/// A value of a row.
pub(super) fn cell<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, EngineError> {
    row.try_get(column).map_err(failed)
}

/// A schema, and in the next column a name in it.
pub(super) fn name(row: &Row, column: usize) -> Result<Name, EngineError> {
    let (schema, name): (String, String) = (cell(row, column)?, cell(row, column + 1)?);
    Ok(Name::new(schema, name))
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
        .map(|row| Ok((cell(row, 0)?, value(cell(row, 1)?)?)))
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
            if let Some(relation) = relations.get_mut(&cell(&row, 0)?) {
                relation.unqualified = cell(&row, 1)?;
            }
        }
    }
    tx.batch_execute("SET LOCAL search_path = ''")
        .map_err(failed)
}
