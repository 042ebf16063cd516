//! What stands in schemas: production's, a build's, or a retained release's.

use super::catalog::{self, Catalog, Extent, Relation};
use super::session::{Session, cell, number, text};
use super::sql::{self, Place as At};
use super::{layout, view};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{Depth, EngineError, ErrorKind, Observation, OnProgress, Place};
use unship_core::ident::RelationName;
use unship_core::relation::{Fingerprint, RelationKind, RelationState};

/// How rows are digested.
pub const METHOD: &str = "snowflake hash_agg 1";

/// The comment on a view that shows a job what it looks for in staging. It is never published.
pub const STANDS_IN: &str = "unship: stands in for the relation in production";

/// The schemas of a place.
pub fn scope(
    session: &Session,
    place: Place,
    only: &BTreeSet<String>,
) -> Result<BTreeSet<String>, EngineError> {
    let all = catalog::schemas(session)?;
    Ok(match place {
        Place::Live => catalog::production(&all, only),
        Place::Build(release) => catalog::staging(session, &all, only, release)?,
        Place::Point(release) => catalog::retained(&all, release)
            .into_iter()
            .filter(|name| {
                let of = layout::parse_retained(name).map(|(_, schema)| schema);
                only.is_empty() || of.is_some_and(|schema| only.contains(schema))
            })
            .collect(),
    })
}

/// The production name of what lies in one of our schemas, or in production.
pub fn named(at: &At) -> RelationName {
    let schema = layout::parse_build(&at.schema)
        .or_else(|| layout::parse_retained(&at.schema).map(|(_, schema)| schema))
        .unwrap_or(&at.schema);
    RelationName::new(&*at.database, schema, &*at.name)
}

/// Whether it is one of unship's own helpers in a staging schema.
pub fn is_helper(at: &At, relation: &Relation) -> bool {
    layout::parse_build(&at.schema).is_some()
        && (at.name == layout::MARK || relation.comment.as_deref() == Some(STANDS_IN))
}

/// Looks at a place. Each relation is seen at one moment; Snowflake has no moment for all.
pub fn observe(
    session: &Session,
    only: &BTreeSet<String>,
    place: Place,
    depth: &Depth,
    on: OnProgress<'_>,
) -> Result<Observation, EngineError> {
    let scope = scope(session, place, only)?;
    let mut catalog = catalog::load(session, &scope, Extent::All)?;
    catalog.retain(|at, relation| !is_helper(at, relation));
    let readers = readers(&catalog);
    let mut seen = Observation::new();
    let wants: Vec<&At> = catalog
        .iter()
        .filter(|(at, relation)| wanted(depth, place, &named(at), relation))
        .map(|(at, _)| at)
        .collect();
    let mut prints = BTreeMap::new();
    for (n, at) in wants.iter().enumerate() {
        on("reading rows", n as u64, wants.len() as u64);
        if let Some(relation) = catalog.get(*at) {
            prints.insert((*at).clone(), fingerprint(session, at, relation)?);
        }
    }
    for (at, relation) in &catalog {
        let name = named(at);
        let print = prints.remove(at);
        let state = RelationState {
            kind: relation.kind,
            columns: relation.columns.clone(),
            definition: relation.definition(),
            dependents: readers.get(&name).into_iter().flatten().cloned().collect(),
            rows: print.as_ref().map(|print| print.rows),
            fingerprint: print,
            storage: relation.storage(),
        };
        seen.insert(name, state);
    }
    if let Depth::Changed { known, .. } = depth {
        keep_known(&mut seen, known);
        if let Place::Build(_) = place {
            // A build holds what it built; the rest is production's.
            for (name, state) in known {
                seen.entry(name.clone()).or_insert_with(|| state.clone());
            }
        }
    }
    Ok(seen)
}

/// Views, by what their text reads. A view that names nothing with a schema is not found.
fn readers(catalog: &Catalog) -> BTreeMap<RelationName, BTreeSet<RelationName>> {
    let there: BTreeSet<RelationName> = catalog.keys().map(named).collect();
    let mut out: BTreeMap<RelationName, BTreeSet<RelationName>> = BTreeMap::new();
    for (at, relation) in catalog {
        let reads = relation
            .body
            .as_deref()
            .map(view::reads)
            .unwrap_or_default();
        for (schema, name) in reads {
            let read = RelationName::new(&*at.database, schema, name);
            if there.contains(&read) {
                out.entry(read).or_default().insert(named(at));
            }
        }
    }
    out
}

/// Whether the rows have to be read. What was never fingerprinted is somebody's raw data: that it
/// was written to is known without reading it.
fn wanted(depth: &Depth, place: Place, name: &RelationName, relation: &Relation) -> bool {
    if relation.kind != RelationKind::Table || relation.special.is_some() {
        return false;
    }
    match depth {
        Depth::Catalog => false,
        Depth::AllRows => true,
        Depth::Rows(names) => names.contains(name),
        Depth::Changed { known, always } => {
            always.contains(name)
                || match known.get(name) {
                    Some(before) => {
                        (before.fingerprint.is_some() || matches!(place, Place::Build(_)))
                            && before.storage != relation.storage()
                    }
                    None => matches!(place, Place::Build(_)),
                }
        }
    }
}

/// What nobody wrote to keeps the fingerprint that is known of it.
fn keep_known(seen: &mut Observation, known: &Observation) {
    for (name, state) in seen.iter_mut().filter(|(_, s)| s.fingerprint.is_none()) {
        if let Some(before) = known.get(name).filter(|b| b.storage == state.storage) {
            state.rows = before.rows;
            state.fingerprint.clone_from(&before.fingerprint);
        }
    }
}

/// Reads every row once.
pub fn fingerprint(
    session: &Session,
    at: &At,
    relation: &Relation,
) -> Result<Fingerprint, EngineError> {
    let columns: Vec<(String, String)> = relation
        .columns
        .iter()
        .map(|c| (c.name.clone(), c.data_type.clone()))
        .collect();
    let what = format!("read {at}");
    let rows = session.rows(&sql::fingerprint(at, &columns), &what)?;
    let row = rows.into_iter().next().unwrap_or_default();
    let garbled = || EngineError::new(ErrorKind::Query, format!("could not {what}: no numbers"));
    let hashes = columns.iter().enumerate().map(|(n, (name, _))| {
        let hash = text(cell(&row, n + 2)).ok_or_else(garbled)?;
        Ok((name.clone(), hash))
    });
    Ok(Fingerprint {
        method: METHOD.to_owned(),
        rows: number(cell(&row, 0)).ok_or_else(garbled)?,
        whole: text(cell(&row, 1)).ok_or_else(garbled)?,
        columns: hashes.collect::<Result<_, EngineError>>()?,
    })
}
