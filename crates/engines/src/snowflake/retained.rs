//! Retained versions: which release built each, whether it can be read, and when it goes.

use super::catalog::{self, Catalog, Extent};
use super::session::{Session, missing};
use super::sql::{self, Place};
use super::{layout, observe};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{
    Diagnosis, EngineError, Housekeeping, Level, OnProgress, Point, Retention,
};
use unship_core::ident::ReleaseId;
use unship_core::relation::RelationKind;

fn everything(session: &Session, extent: Extent) -> Result<Catalog, EngineError> {
    let all = catalog::schemas(session)?;
    let ours = all
        .into_iter()
        .filter(|name| layout::parse_retained(name).is_some());
    catalog::load(session, &ours.collect(), extent)
}

/// The retained states, by the release that built them. Of several versions of a relation that one
/// release built, the newest stands for it.
pub fn points(session: &Session) -> Result<Vec<Point>, EngineError> {
    let mut out: BTreeMap<ReleaseId, Point> = BTreeMap::new();
    let database = session.database();
    for (at, relation) in everything(session, Extent::Names)? {
        let Some((version, _)) = layout::parse_retained(&at.schema) else {
            continue;
        };
        let release = version.release;
        let point = out.entry(release).or_insert_with(|| Point {
            release,
            location: format!("schemas UNSHIP_R{}… in {database}", release.0),
            packed: false,
            bytes: 0,
            databases: BTreeSet::from([database.to_owned()]),
            versions: Some(BTreeMap::new()),
        });
        point.bytes += relation.bytes.unwrap_or(0);
        let held = point.versions.get_or_insert_default();
        let slot = held.entry(observe::named(&at)).or_insert(version);
        *slot = (*slot).max(version);
    }
    Ok(out.into_values().collect())
}

/// Proves that everything retained of a release is there and can be read.
pub fn prove(session: &Session, release: ReleaseId) -> Result<(), EngineError> {
    let scope = catalog::retained(&catalog::schemas(session)?, release);
    let held = catalog::load(session, &scope, Extent::Names)?;
    if held.is_empty() {
        let none = Place::new(session.database(), format!("UNSHIP_R{}_…", release.0), "*");
        return Err(missing(&none));
    }
    for (at, _) in held.iter().filter(|(_, r)| r.kind == RelationKind::Table) {
        session.run(&sql::first_row(at), &format!("read {at}"))?;
    }
    Ok(())
}

/// Drops the versions that nobody keeps.
pub fn housekeep(
    session: &Session,
    keep: &Retention,
    on: OnProgress<'_>,
) -> Result<Housekeeping, EngineError> {
    let mut going: BTreeMap<ReleaseId, BTreeSet<String>> = BTreeMap::new();
    for schema in catalog::schemas(session)? {
        if let Some((version, _)) = layout::parse_retained(&schema)
            && !keep.keep.contains(&version.release)
        {
            going.entry(version.release).or_default().insert(schema);
        }
    }
    let mut done = Housekeeping::default();
    let total = going.len() as u64;
    for (n, (release, schemas)) in going.into_iter().enumerate() {
        on("dropping retained versions", n as u64, total);
        let inside = catalog::load(session, &schemas, Extent::Names)?;
        for schema in schemas {
            let what = format!("drop {schema}");
            session.run(&sql::drop_schema(session.database(), &schema), &what)?;
        }
        // A schema that everything was taken out of again held nothing.
        if !inside.is_empty() {
            done.freed += inside.values().filter_map(|r| r.bytes).sum::<u64>();
            done.dropped.push(release);
        }
    }
    Ok(done)
}

/// Reads every retained row.
pub fn fsck(session: &Session, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
    let all = everything(session, Extent::All)?;
    let mut out = Vec::new();
    let total = all.len() as u64;
    for (n, (at, relation)) in all.iter().enumerate() {
        on("reading retained versions", n as u64, total);
        if relation.kind != RelationKind::Table || relation.special.is_some() {
            continue;
        }
        if let Err(error) = observe::fingerprint(session, at, relation) {
            out.push(Diagnosis {
                level: Level::Error,
                subject: at.to_string(),
                finding: error.message,
                hint: error.hint,
            });
        }
    }
    if out.is_empty() {
        out.push(Diagnosis {
            level: Level::Ok,
            subject: "retained versions".to_owned(),
            finding: format!("{total} are there and can be read"),
            hint: None,
        });
    }
    Ok(out)
}
