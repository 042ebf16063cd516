//! Staging schemas: made fresh for each build, with copies of what the job goes on from that share
//! their rows with the originals.

use super::catalog::{self, Extent};
use super::inside;
use super::level::Level;
use super::observe::{STANDS_IN, is_helper};
use super::session::Session;
use super::sql::{self, Place, ViewText};
use super::{layout, plan};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::fault::boundary;
use unship_core::ident::ReleaseId;
use unship_core::relation::RelationKind;
use unship_core::release::VersionId;

/// What a build needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The production schemas that the job builds in.
    pub schemas: BTreeSet<String>,
    /// Relations that the job goes on from, as (schema, name): incremental models, snapshots.
    pub clones: BTreeSet<(String, String)>,
    /// Relations that the job looks for in staging, as (schema, name): a view there shows them.
    pub views: BTreeSet<(String, String)>,
}

/// Makes staging schemas. Whatever an interrupted build left in them is dropped first.
pub fn begin(
    session: &Session,
    release: ReleaseId,
    wanted: &Wanted,
    level: Level,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let database = session.database();
    let shown = wanted.views.iter().map(|(schema, _)| schema);
    let schemas: BTreeSet<&String> = wanted.schemas.iter().chain(shown).collect();
    for schema in &schemas {
        let longest = VersionId {
            release: ReleaseId(release.0.max(999_999)),
            drift: 999,
        };
        layout::retained(longest, schema)?;
    }
    // What takes the place of a schema has to be made as that one was.
    let production = schemas.iter().map(|schema| (*schema).clone()).collect();
    let like = match level {
        Level::Table => BTreeMap::new(),
        Level::Schema => inside::making(session, &production)?,
    };
    for schema in schemas {
        let staging = layout::build(schema)?;
        let what = format!("make the staging schema {staging}");
        session.run(&sql::drop_schema(database, &staging), &what)?;
        let make = match like.get(schema) {
            Some(making) => sql::create_schema_like(database, &staging, making),
            None => sql::create_schema(database, &staging),
        };
        session.run(&make, &what)?;
        let mark = Place::new(database, &*staging, layout::MARK);
        session.run(&sql::mark(&mark, &release.to_string()), &what)?;
    }
    let sources: BTreeSet<String> = wanted.clones.iter().map(|(s, _)| s.clone()).collect();
    let there = catalog::load(session, &sources, Extent::Names)?;
    for (n, (schema, name)) in wanted.clones.iter().enumerate() {
        on(
            "cloning what the job goes on from",
            n as u64,
            wanted.clones.len() as u64,
        );
        let from = Place::new(database, schema, name);
        // What is not there yet is what a first run finds; a view has no content that matters.
        let Some(relation) = there.get(&from).filter(|r| r.kind == RelationKind::Table) else {
            continue;
        };
        if let Some(sort) = relation.special {
            return Err(EngineError::new(
                ErrorKind::Unsupported,
                format!("{from} is {sort}, which cannot be cloned into staging"),
            )
            .hint("leave the model out of this run"));
        }
        let copy = Place::new(database, layout::build(schema)?, name);
        let what = format!("clone {from} into staging");
        session.run(&sql::clone(&copy, &from, relation.transient), &what)?;
    }
    for (schema, name) in &wanted.views {
        let view = Place::new(database, layout::build(schema)?, name);
        let body = format!(
            "SELECT * FROM {}",
            sql::full(&Place::new(database, schema, name))
        );
        let stands_in = ViewText {
            body: &body,
            columns: &[],
            secure: false,
            comment: Some(STANDS_IN),
        };
        session.run(
            &sql::create_view(&view, &stands_in),
            &format!("show {schema}.{name} to the job"),
        )?;
    }
    Ok(())
}

/// The staging schemas of a release.
fn staged(
    session: &Session,
    guarded: &BTreeSet<String>,
    release: ReleaseId,
) -> Result<BTreeSet<String>, EngineError> {
    catalog::staging(session, &catalog::schemas(session)?, guarded, release)
}

/// Keeps what a failed job built, under its release's name. Interrupted, it goes on with what is
/// still in staging.
pub fn keep(
    session: &Session,
    guarded: &BTreeSet<String>,
    release: ReleaseId,
) -> Result<(), EngineError> {
    let what = format!("keep what was built for {release}");
    let database = session.database();
    let staged = staged(session, guarded, release)?;
    let catalog = catalog::load(session, &staged, Extent::All)?;
    for schema in &staged {
        let Some(production) = layout::parse_build(schema) else {
            continue;
        };
        let version = VersionId { release, drift: 0 };
        let kept = layout::retained(version, production)?;
        for statement in plan::schemas(database, &BTreeSet::from([kept.clone()])) {
            session.run(&statement, &what)?;
        }
        let inside = catalog.iter().filter(|(at, _)| at.schema == *schema);
        for (at, relation) in inside.filter(|(at, relation)| !is_helper(at, relation)) {
            let to = Place::new(database, &*kept, &*at.name);
            match (relation.kind, &relation.body) {
                (RelationKind::View, Some(body)) => {
                    let columns: Vec<String> =
                        relation.columns.iter().map(|c| c.name.clone()).collect();
                    let view = ViewText {
                        body,
                        columns: &columns,
                        secure: relation.secure,
                        comment: relation.comment.as_deref(),
                    };
                    match session.run(&sql::create_view(&to, &view), &what) {
                        // It reads what never became production: there is nothing that it could
                        // show. Its text is in what the job left.
                        Err(error) if error.kind == ErrorKind::Missing => {}
                        made => made?,
                    }
                }
                (RelationKind::Table, _) if relation.special.is_none() => {
                    session.run(&sql::rename(at, &to), &what)?;
                }
                _ => {}
            }
            boundary("built relation kept");
        }
        session.run(&sql::drop_schema(database, schema), &what)?;
    }
    Ok(())
}

/// Drops what a build left.
pub fn discard(
    session: &Session,
    guarded: &BTreeSet<String>,
    release: ReleaseId,
) -> Result<(), EngineError> {
    for schema in staged(session, guarded, release)? {
        let what = format!("drop the staging schema {schema}");
        session.run(&sql::drop_schema(session.database(), &schema), &what)?;
    }
    Ok(())
}
