//! Retained versions: which release built each, whether it can be read, and when it goes.

use super::catalog::{self, Catalog, Extent};
use super::session::Session;
use super::sql::{self, Place};
use super::{layout, observe};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{
    Diagnosis, EngineError, ErrorKind, Housekeeping, Level, OnProgress, Point, Retention,
};
use unship_core::ident::ReleaseId;
use unship_core::relation::RelationKind;
use unship_core::release::VersionId;

/// The version behind the name of a retained schema, if it is of a schema that is guarded: another
/// environment may keep its versions in the same database.
pub(super) fn of_ours(name: &str, guarded: &BTreeSet<String>) -> Option<VersionId> {
    let (version, schema) = layout::parse_retained(name)?;
    (guarded.is_empty() || guarded.contains(schema)).then_some(version)
}

pub(super) fn everything(
    session: &Session,
    guarded: &BTreeSet<String>,
    extent: Extent,
) -> Result<Catalog, EngineError> {
    let all = catalog::schemas(session)?;
    let ours = all
        .into_iter()
        .filter(|name| of_ours(name, guarded).is_some());
    catalog::load(session, &ours.collect(), extent)
}

/// The retained states, by the release that built them. Of several versions of a relation that one
/// release built, the newest stands for it.
pub fn points(session: &Session, guarded: &BTreeSet<String>) -> Result<Vec<Point>, EngineError> {
    let mut out: BTreeMap<ReleaseId, Point> = BTreeMap::new();
    let database = session.database();
    for (at, relation) in everything(session, guarded, Extent::Names)? {
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
pub fn prove(
    session: &Session,
    guarded: &BTreeSet<String>,
    release: ReleaseId,
) -> Result<(), EngineError> {
    let all = catalog::schemas(session)?;
    let home = BTreeSet::from([layout::HOME.to_owned()]);
    for (remembered, _) in catalog::load(session, &home, Extent::Names)? {
        let of = of_ours(&remembered.name, guarded).map(|version| version.release);
        if of == Some(release) && !all.contains(&remembered.name) {
            return Err(EngineError::new(
                ErrorKind::Missing,
                format!("the schema {} is gone: somebody dropped or renamed it", remembered.name),
            )
            .hint("a dropped schema can be had back with UNDROP SCHEMA for as long as Time Travel reaches"));
        }
    }
    let mut scope = catalog::retained(&all, release);
    scope.retain(|name| of_ours(name, guarded).is_some());
    let held = catalog::load(session, &scope, Extent::Names)?;
    for (at, _) in held.iter().filter(|(_, r)| r.kind == RelationKind::Table) {
        session.run(&sql::first_row(at), &format!("read {at}"))?;
    }
    Ok(())
}

/// Drops the versions that nobody keeps.
pub fn housekeep(
    session: &Session,
    guarded: &BTreeSet<String>,
    keep: &Retention,
    on: OnProgress<'_>,
) -> Result<Housekeeping, EngineError> {
    let mut going: BTreeMap<ReleaseId, BTreeSet<String>> = BTreeMap::new();
    for schema in catalog::schemas(session)? {
        if let Some(version) = of_ours(&schema, guarded)
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
            let remembered = Place::new(session.database(), layout::HOME, &*schema);
            session.run(&sql::drop_view(&remembered), &what)?;
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
pub fn fsck(
    session: &Session,
    guarded: &BTreeSet<String>,
    on: OnProgress<'_>,
) -> Result<Vec<Diagnosis>, EngineError> {
    let all = everything(session, guarded, Extent::All)?;
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
