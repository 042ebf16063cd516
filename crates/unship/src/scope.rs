//! What a lineage selector means for a rollback: relations, by the lineage of what is live and of
//! what is gone back to, so that what only one of the two has is found as well.

use crate::error::{CliError, CliResult};
use std::collections::BTreeSet;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::lineage::{Lineage, Selector, Unmatched, select_relations};
use unship_core::log::Ledger;
use unship_core::pipeline::dbt::manifest::Manifest;
use unship_core::restore::Map;

/// The name under which a release keeps its manifest.
pub const MANIFEST: &str = "manifest.json";

/// The selector as typed, and the relations that it selects.
pub fn relations(
    ledger: &Ledger,
    target: ReleaseId,
    select: &[String],
    exclude: &[String],
) -> CliResult<(String, BTreeSet<RelationName>)> {
    let live = ledger
        .history(|h| h.live(ledger.env()))?
        .ok_or_else(|| CliError::usage("nothing is live yet"))?
        .release;
    let mut picked = BTreeSet::new();
    let mut unmatched: Option<Vec<Unmatched>> = None;
    let mut sides = Vec::new();
    for release in [live, target] {
        sides.push((release, manifest(ledger, release)?));
    }
    let some_lineage = sides.iter().any(|(_, manifest)| manifest.is_some());
    for (release, manifest) in sides {
        let (found, missed) = match manifest {
            Some(manifest) => by_lineage(manifest, select, exclude)?,
            // What stood here before the project was guarded has no lineage; the other side's says
            // what is meant.
            None if some_lineage => continue,
            None => {
                let map = ledger.history(|h| h.map(release))?.unwrap_or_default();
                by_name(&map, select, exclude)?
            }
        };
        picked.extend(found);
        // A part is a slip only if it selects nothing in either release.
        unmatched = Some(match unmatched {
            None => missed,
            Some(before) => before
                .into_iter()
                .filter(|u| missed.iter().any(|m| m.part == u.part))
                .collect(),
        });
    }
    if let Some(first) = unmatched.unwrap_or_default().first() {
        let map = ledger.history(|h| h.map(live))?.unwrap_or_default();
        let whole = map
            .keys()
            .find(|n| n.schema.is_empty() && n.name.is_empty());
        return Err(CliError::usage(first.to_string()).hint(match whole {
            Some(name) => format!(
                "no DuckDB could look into {} when it was released, so only all of it can go \
                     back: leave the selection out",
                name.database
            ),
            None => "`unship show @` lists the relations that there are".to_owned(),
        }));
    }
    let mut text = select.join(" ");
    if !exclude.is_empty() {
        text.push_str(" --exclude ");
        text.push_str(&exclude.join(" "));
    }
    Ok((text, picked))
}

type Found = (BTreeSet<RelationName>, Vec<Unmatched>);

fn by_lineage(manifest: Manifest, select: &[String], exclude: &[String]) -> CliResult<Found> {
    let selector = Selector::parse(select, exclude).map_err(|e| CliError::usage(e.to_string()))?;
    let lineage = Lineage::new(manifest);
    let selected = lineage.select(&selector);
    let relations = lineage.built_relations(&selected.picked);
    Ok((relations, selected.unmatched))
}

fn by_name(map: &Map, select: &[String], exclude: &[String]) -> CliResult<Found> {
    let names: BTreeSet<RelationName> = map.keys().cloned().collect();
    let selected =
        select_relations(select, exclude, &names).map_err(|e| CliError::usage(e.to_string()))?;
    Ok((selected.picked, selected.unmatched))
}

/// The newest manifest at or before a release.
pub fn manifest(ledger: &Ledger, release: ReleaseId) -> CliResult<Option<Manifest>> {
    let Some((id, bytes)) = manifest_bytes(ledger, release)? else {
        return Ok(None);
    };
    Manifest::parse(&bytes)
        .map(Some)
        .map_err(|e| CliError::failed(format!("the manifest of {id} cannot be read: {e}")))
}

/// The same as dbt wrote it, and the release that kept it.
pub fn manifest_bytes(
    ledger: &Ledger,
    release: ReleaseId,
) -> CliResult<Option<(ReleaseId, Vec<u8>)>> {
    let mut at = ledger.history(|h| h.release(release))?;
    while let Some(release) = at {
        if let Some(blob) = release
            .end
            .as_ref()
            .and_then(|end| end.artefacts.get(MANIFEST))
        {
            return Ok(Some((release.id, ledger.get_blob(&blob.0)?)));
        }
        // What brought an older state back has that state's lineage.
        let next = release.operation.target().or(release.parent);
        at = match next {
            Some(id) => ledger.history(|h| h.release(id))?,
            None => None,
        };
    }
    Ok(None)
}
