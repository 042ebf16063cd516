//! What stands in schemas: production's, a build's, or a retained release's.

use super::catalog::{self, Catalog, Relation, Scope};
use super::connect::Connector;
use super::definition::{self, Names};
use super::error::Doing;
use super::rows::same_storage;
use super::{fingerprint, layout, quote, undo};
use postgres::{Client, GenericClient, IsolationLevel};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{Depth, EngineError, Observation, OnProgress, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::{Column, RelationKind, RelationState};

/// How many connections read rows at once.
pub const CONNECTIONS: usize = 4;

/// What to look at, and how.
pub struct Look<'a> {
    /// Opens the connections that read rows.
    pub connector: &'a Connector,
    /// The production schemas, if not all.
    pub schemas: Option<&'a [String]>,
    /// The database's name, as relations are named by it.
    pub database: &'a str,
}

/// A relation, and where it physically is.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its object id; none for functions and types.
    pub oid: Option<u32>,
    /// What was observed of it.
    pub state: RelationState,
}

/// Looks at a place. Nothing that is written meanwhile is seen in part: all is of one moment.
pub fn observe(
    client: &mut Client,
    look: &Look<'_>,
    place: Place,
    depth: &Depth,
    on: OnProgress<'_>,
) -> Result<Observation, EngineError> {
    catalog::settle(client)?;
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .doing("begin to look")?;
    let scopes = scopes(&mut transaction, look, place)?;
    let catalog = catalog::load(&mut transaction, &scopes)?;
    let mut found = states(&catalog, &scopes, look.database);
    let positions = undo::positions(&mut transaction)?;
    for (name, one) in &mut found {
        let Some((oid, position)) = one.oid.and_then(|oid| Some((oid, positions.get(&oid)?)))
        else {
            continue;
        };
        let known = match depth {
            Depth::Changed { known, .. } => known.get(name).and_then(|s| s.storage.clone()),
            _ => None,
        };
        one.state.storage = Some(match known {
            Some(known) if undo::unchanged(&mut transaction, &known, oid, position)? => known,
            _ => position.storage(oid),
        });
    }
    if let Place::Build(_) = place {
        let comment = |oid| catalog.relations.get(&oid)?.comment.as_deref();
        found.retain(|_, found| found.oid.and_then(comment) != Some(super::build::STANDS_IN));
    }
    let tasks: Vec<_> = found
        .iter()
        .filter(|(name, found)| wanted(depth, place, name, &found.state))
        .filter_map(|(_, found)| task(&catalog, catalog.relations.get(&found.oid?)?))
        .collect();
    if !tasks.is_empty() {
        let version = catalog::server_version(&mut transaction)?;
        let row = transaction
            .query_one("SELECT pg_export_snapshot()", &[])
            .doing("export a snapshot")?;
        let snapshot: String = row.try_get(0).doing("export a snapshot")?;
        let mut prints =
            fingerprint::all(look.connector, &snapshot, tasks, version, CONNECTIONS, on)?;
        for found in found.values_mut() {
            if let Some(print) = found.oid.and_then(|oid| prints.remove(&oid)) {
                found.state.rows = Some(print.rows);
                found.state.fingerprint = Some(print);
            }
        }
    }
    transaction.commit().doing("end the look")?;
    let mut seen: Observation = found.into_iter().map(|(n, f)| (n, f.state)).collect();
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

/// The schemas of a place.
pub fn scopes(
    client: &mut impl GenericClient,
    look: &Look<'_>,
    place: Place,
) -> Result<Vec<Scope>, EngineError> {
    let namespaces = catalog::namespaces(client)?;
    let out = match place {
        Place::Live => catalog::production(&namespaces, look.schemas),
        Place::Build(release) => namespaces
            .iter()
            .filter_map(|n| {
                let schema = layout::parse_build(&n.name)?;
                let of = super::build::Mark::read(n.comment.as_deref()?)?.release;
                (of == release).then(|| catalog::scope(n, schema))
            })
            .collect(),
        Place::Point(release) => retained(&namespaces, release),
    };
    Ok(out)
}

/// The schemas that retain what a release built.
pub fn retained(namespaces: &[catalog::Namespace], release: ReleaseId) -> Vec<Scope> {
    let of = |n: &catalog::Namespace| {
        let (number, schema) = layout::parse_retained(&n.name)?;
        (number == release).then(|| catalog::scope(n, schema))
    };
    namespaces.iter().filter_map(of).collect()
}

/// Every relation of some schemas under its production name.
pub fn states(
    catalog: &Catalog,
    scopes: &[Scope],
    database: &str,
) -> BTreeMap<RelationName, Found> {
    let quoted: BTreeMap<&str, &str> = catalog
        .namespaces
        .values()
        .map(|n| (n.name.as_str(), n.quoted.as_str()))
        .collect();
    let names = Names::new(scopes, |schema| {
        quoted
            .get(schema)
            .map_or_else(|| definition::plain_or_quoted(schema), |q| (*q).to_owned())
    });
    let stands_for: BTreeMap<u32, &str> = scopes
        .iter()
        .map(|s| (s.oid, s.stands_for.as_str()))
        .collect();
    let named = |namespace: u32, name: &str| {
        let schema = stands_for
            .get(&namespace)
            .copied()
            .or_else(|| catalog.namespaces.get(&namespace).map(|n| n.name.as_str()));
        RelationName::new(database, schema.unwrap_or_default(), name)
    };
    let mut readers: BTreeMap<u32, BTreeSet<RelationName>> = BTreeMap::new();
    for reader in &catalog.readers {
        let root = catalog.relations.get(&reader.relation).and_then(|r| r.root);
        readers
            .entry(root.unwrap_or(reader.relation))
            .or_default()
            .insert(named(reader.namespace, &reader.name));
    }
    let mut out = BTreeMap::new();
    for relation in catalog.relations.values() {
        if relation
            .root
            .is_some_and(|root| catalog.relations.contains_key(&root))
        {
            continue;
        }
        let name = named(relation.namespace, &relation.name);
        let state = RelationState {
            kind: kind(relation),
            columns: columns(catalog, relation),
            definition: names.apply(&definition::of(catalog, relation, &name.schema)),
            dependents: readers
                .remove(&relation.oid)
                .into_iter()
                .flatten()
                .collect(),
            rows: None,
            fingerprint: None,
            storage: storage(catalog, relation),
        };
        out.insert(
            name,
            Found {
                oid: Some(relation.oid),
                state,
            },
        );
    }
    for other in &catalog.others {
        let kind = match other.kind.as_str() {
            "sequence" => RelationKind::Sequence,
            "macro" => RelationKind::Macro,
            _ => RelationKind::Type,
        };
        let mut definition = names.apply(&other.text);
        if let Some(comment) = &other.comment {
            definition.push_str(&format!("\nCOMMENT IS {}", quote::text(comment)));
        }
        let state = RelationState {
            kind,
            columns: Vec::new(),
            definition,
            dependents: Vec::new(),
            rows: None,
            fingerprint: None,
            storage: None,
        };
        out.entry(named(other.namespace, &other.name))
            .or_insert(Found { oid: None, state });
    }
    out
}

fn kind(relation: &Relation) -> RelationKind {
    match relation.kind.as_str() {
        "m" => RelationKind::MaterializedView,
        // A foreign table has no rows of its own.
        "v" | "f" => RelationKind::View,
        _ => RelationKind::Table,
    }
}

fn columns(catalog: &Catalog, relation: &Relation) -> Vec<Column> {
    let columns = catalog.columns.get(&relation.oid).into_iter().flatten();
    columns
        .map(|c| Column {
            name: c.name.clone(),
            data_type: c.data_type.clone(),
            nullable: !c.not_null,
        })
        .collect()
}

/// Where the rows are and how many were ever written: equal as long as nobody wrote, moved along
/// with the relation. A partitioned table's is that of all its partitions.
fn storage(catalog: &Catalog, relation: &Relation) -> Option<String> {
    if relation.kind != "p" {
        return relation.storage.clone();
    }
    let leaves = catalog
        .relations
        .values()
        .filter(|r| r.root == Some(relation.oid));
    let all: Vec<_> = leaves.filter_map(|r| r.storage.as_deref()).collect();
    Some(format!(
        "{} {}",
        relation.oid,
        blake3::hash(all.join("\n").as_bytes()).to_hex()
    ))
}

/// What reading a relation's rows takes; none, if it has none of its own.
fn task(catalog: &Catalog, relation: &Relation) -> Option<fingerprint::Task> {
    let only = match relation.kind.as_str() {
        "p" => "",
        "r" => "ONLY ",
        "m" if relation.populated => "",
        _ => return None,
    };
    let schema = &catalog.namespaces.get(&relation.namespace)?.name;
    let leaves = catalog
        .relations
        .values()
        .filter(|r| r.root == Some(relation.oid));
    let size = |r: &Relation| -> u64 {
        let third = r.storage.as_deref().and_then(|s| s.split(' ').nth(2));
        third.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    Some(fingerprint::Task {
        oid: relation.oid,
        from: format!("{only}{}", quote::relation(schema, &relation.name)),
        name: format!("{schema}.{}", relation.name),
        columns: catalog
            .columns
            .get(&relation.oid)
            .cloned()
            .unwrap_or_default(),
        bytes: leaves.map(size).sum::<u64>() + size(relation),
        divisible: relation.kind != "p" && relation.method.is_none(),
    })
}

/// Whether the rows have to be read. What was never fingerprinted is somebody's raw data: that it
/// was written to is known without reading it.
fn wanted(depth: &Depth, place: Place, name: &RelationName, state: &RelationState) -> bool {
    if !matches!(
        state.kind,
        RelationKind::Table | RelationKind::MaterializedView
    ) {
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
                            && !same_storage(before.storage.as_deref(), state.storage.as_deref())
                    }
                    None => matches!(place, Place::Build(_)),
                }
        }
    }
}

/// What nobody wrote to keeps the fingerprint that is known of it.
fn keep_known(seen: &mut Observation, known: &Observation) {
    for (name, state) in seen.iter_mut().filter(|(_, s)| s.fingerprint.is_none()) {
        let same = |before: &&RelationState| {
            same_storage(before.storage.as_deref(), state.storage.as_deref())
        };
        if let Some(before) = known.get(name).filter(same) {
            state.rows = before.rows;
            state.fingerprint.clone_from(&before.fingerprint);
        }
    }
}

#[cfg(test)]
mod tests;
