//! In which order relations take their places.

use super::planner::Incoming;
use super::view;
use std::collections::BTreeSet;
use unship_core::ident::RelationName;

/// Tables in the order in which they were built, which is the order of their lineage; then views,
/// each after the ones that it reads.
pub fn in_order<'a>(
    incoming: Vec<(&'a RelationName, Incoming<'a>)>,
) -> Vec<(&'a RelationName, Incoming<'a>)> {
    let (mut tables, mut views): (Vec<_>, Vec<_>) = incoming
        .into_iter()
        .partition(|(_, one)| one.there.table.is_some());
    tables.sort_by(|(_, a), (_, b)| {
        let made = |one: &Incoming<'_>| one.there.table.as_ref().map(|t| t.created.clone());
        made(a).cmp(&made(b))
    });
    while !views.is_empty() {
        let names: BTreeSet<(String, String)> = views
            .iter()
            .map(|(name, _)| (name.schema.clone(), name.name.clone()))
            .collect();
        let ready = views.iter().position(|(name, one)| {
            let body = one
                .there
                .view
                .as_ref()
                .and_then(|view| view.body.as_deref());
            let reads = body.map(view::reads).unwrap_or_default();
            let own = (name.schema.clone(), name.name.clone());
            !reads
                .iter()
                .any(|read| *read != own && names.contains(read))
        });
        // Views that read each other cannot be; whatever says so goes as it comes.
        tables.push(views.remove(ready.unwrap_or(0)));
    }
    tables
}
