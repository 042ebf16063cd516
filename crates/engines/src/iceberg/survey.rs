//! What planning needs to know, with as little asking as it takes.

use super::act::Hands;
use super::foreign;
use super::look::{self, Seen};
use super::name;
use super::plan::{Can, Survey};
use super::rest::{Client, Doing, Endpoint, Identifier, LoadTable, Snapshots};
use super::sight::Sight;
use super::state::{self, TableState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use unship_core::engine::{EngineError, RestoreRequest};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::RelationState;

/// Everything about these relations.
pub fn whole(hands: &Hands<'_>, relations: &BTreeSet<RelationName>) -> Result<Survey, EngineError> {
    let wanted: Vec<_> = relations.iter().filter_map(name::identifier).collect();
    let (client, catalog) = (hands.client, hands.scope.catalog);
    let seen = look::some(client, catalog, &wanted, Snapshots::All, &|_, _, _| ())?;
    with_kept(hands, relations, seen)
}

/// What a publish needs to know. A table's history is asked for only where what references name does
/// not tell that its branch goes on from `main`.
pub fn built(
    hands: &Hands<'_>,
    release: ReleaseId,
    relations: &BTreeSet<RelationName>,
) -> Result<Survey, EngineError> {
    let wanted: Vec<_> = relations.iter().filter_map(name::identifier).collect();
    let (client, catalog) = (hands.client, hands.scope.catalog);
    let on = &|_: &str, _, _| ();
    let mut seen = look::some(client, catalog, &wanted, Snapshots::Refs, on)?;
    let branch = name::branch(release);
    let untold = seen.tables.iter().filter(|(_, table)| {
        let head = table.metadata.refs.get(&branch);
        head.is_some_and(|head| !state::goes_on_from_main(&table.metadata, head.snapshot_id))
    });
    let untold: Vec<_> = untold
        .filter_map(|(name, _)| name::identifier(name))
        .collect();
    replace_by_whole(hands, &mut seen, &untold)?;
    let mut survey = with_kept(hands, relations, seen)?;
    survey.made = made(hands, release, relations)?;
    Ok(survey)
}

/// Looks at tables again, with all of their history.
fn replace_by_whole(
    hands: &Hands<'_>,
    seen: &mut Seen,
    short: &[Identifier],
) -> Result<(), EngineError> {
    let (client, catalog) = (hands.client, hands.scope.catalog);
    let mut whole = look::some(client, catalog, short, Snapshots::All, &|_, _, _| ())?;
    for name in short.iter().map(|id| name::relation(catalog, id)) {
        // One that was dropped since it was seen is not there.
        seen.tables.remove(&name);
    }
    seen.tables.append(&mut whole.tables);
    seen.views.append(&mut whole.views);
    Ok(())
}

/// What a job made aside of these relations, by the names that they are to have.
fn made(
    hands: &Hands<'_>,
    release: ReleaseId,
    relations: &BTreeSet<RelationName>,
) -> Result<BTreeMap<RelationName, Arc<LoadTable>>, EngineError> {
    let wanted = relations.iter();
    let wanted: Vec<_> = wanted
        .filter_map(|name| Some((name, name::aside(release, &name::identifier(name)?))))
        .collect();
    let tables = look::each(&wanted, "tables", &|_, _, _| (), |(_, at)| {
        hands.client.table(at, Snapshots::Refs)
    });
    let tables = tables.doing("look at what was built")?;
    let made = wanted.iter().zip(tables);
    Ok(made
        .filter_map(|((name, _), table)| Some(((*name).clone(), table?)))
        .collect())
}

/// What a restore needs to know. What was just seen is not looked at again, and a table's history is
/// asked for only where it says what references do not: whose commits are taken back, and whether a
/// snapshot that no tag keeps is still there.
pub fn lean(
    hands: &Hands<'_>,
    sight: &Sight,
    request: &RestoreRequest,
) -> Result<Survey, EngineError> {
    let relations: BTreeSet<_> = request
        .bring
        .keys()
        .chain(&request.remove)
        .cloned()
        .collect();
    let (client, catalog) = (hands.client, hands.scope.catalog);
    let on = &|_: &str, _, _| ();
    let inside = |name: &&RelationName| {
        name::identifier(name).is_some_and(|id| hands.scope.has(&id.namespace))
    };
    let mut seen = Seen::default();
    let mut missing: Vec<Identifier> = Vec::new();
    for name in &relations {
        match sight.known().filter(|_| inside(&name)) {
            Some(known) => {
                let table = known.tables.get(name).cloned();
                seen.tables.extend(table.map(|table| (name.clone(), table)));
                let view = known.views.get(name).cloned();
                seen.views.extend(view.map(|view| (name.clone(), view)));
            }
            None => missing.extend(name::identifier(name)),
        }
    }
    let mut more = look::some(client, catalog, &missing, Snapshots::Refs, on)?;
    seen.tables.append(&mut more.tables);
    seen.views.append(&mut more.views);

    let state = |name: &RelationName| request.bring.get(name).and_then(|v| v.state.as_ref());
    let short = seen.tables.iter().filter(|(name, table)| {
        let wanted = state(name);
        wanted.is_some_and(|wanted| !tells(table, wanted))
    });
    let short: Vec<_> = short
        .filter_map(|(name, _)| name::identifier(name))
        .collect();
    replace_by_whole(hands, &mut seen, &short)?;
    with_kept(hands, &relations, seen)
}

/// Whether the snapshots that are listed tell all about the way back to what is wanted.
fn tells(table: &LoadTable, wanted: &RelationState) -> bool {
    let metadata = &table.metadata;
    // Another table, or none: nothing is asked of this one's history.
    let Some(wanted) = TableState::read(wanted).filter(|w| w.uuid == metadata.table_uuid) else {
        return true;
    };
    let listed = |id: i64| metadata.snapshots.iter().any(|s| s.snapshot_id == id);
    foreign::since(metadata, wanted.snapshot).all && wanted.snapshot.is_none_or(listed)
}

fn with_kept(
    hands: &Hands<'_>,
    relations: &BTreeSet<RelationName>,
    seen: Seen,
) -> Result<Survey, EngineError> {
    let client = hands.client;
    let mut kept = Vec::new();
    for release in hands.store.releases()? {
        // One after the other: each holds all of production.
        if let Some(mut one) = hands.store.read(release)? {
            one.relations.retain(|name, _| relations.contains(name));
            kept.push(one);
        }
    }
    let home = |name: &RelationName, state: &RelationState| {
        let table = seen.tables.get(name);
        let was = TableState::read(state);
        table.is_some_and(|table| was.is_some_and(|w| w.uuid == table.metadata.table_uuid))
    };
    // What has come back since lies there no more.
    let places: BTreeSet<Identifier> = kept
        .iter()
        .flat_map(|kept| &kept.relations)
        .filter(|(name, one)| !home(name, &one.state))
        .filter_map(|(_, one)| one.aside.clone())
        .collect();
    let places: Vec<_> = places.into_iter().collect();
    let aside = look::each(&places, "tables", &|_, _, _| (), |at| {
        client.table(at, Snapshots::Refs)
    });
    let aside = aside.doing("look at what was set aside")?;
    let aside = places.into_iter().zip(aside);
    let lies = |(at, table): (Identifier, Option<Arc<LoadTable>>)| {
        Some((at, table?.metadata.table_uuid.clone()))
    };
    Ok(Survey {
        tables: seen.tables,
        views: seen.views,
        made: BTreeMap::new(),
        aside: aside.filter_map(lies).collect(),
        kept,
        brought: Vec::new(),
        can: can(client),
    })
}

fn can(client: &Client) -> Can {
    Can {
        transaction: client.offers(Endpoint::Transaction),
        rename: client.offers(Endpoint::Rename),
        register: client.offers(Endpoint::Register),
        namespaces: client.offers(Endpoint::CreateNamespace),
        views: client.offers(Endpoint::ChangeViews),
    }
}
