//! The restore point of a job that works on production itself: a copy of every table that shares its
//! rows, under the version that the ledger says it is, so that going back is the exchange with what
//! is retained that it always is. Which copies there are, their names say: a version that production
//! still is, and that lies retained too, is a copy that nobody needs any more.

use super::access;
use super::catalog::{self, Catalog, Extent, Relation};
use super::session::{Session, cell, text};
use super::sql::{self, Place, ViewText};
use super::{hang, layout, plan, planner, retained};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::{RelationKind, RelationState};
use unship_core::release::{Version, VersionId};

/// What the ledger says that production is.
#[derive(Debug, Clone)]
pub struct Known {
    /// The version of each relation.
    pub production: BTreeMap<RelationName, Version>,
    /// Releases whose versions stay where they are retained.
    pub pinned: BTreeSet<ReleaseId>,
}

/// What is to be copied, and to where.
struct Copy<'a> {
    from: Place,
    to: Place,
    version: VersionId,
    relation: &'a Relation,
    /// What it is known to be; none for what no job builds, which others may write to at any time.
    state: Option<&'a RelationState>,
}

/// Takes the restore point, and notes in `made` what it makes. Gives what it does not protect, each
/// a sentence.
///
/// # Errors
/// What jobs build and a copy cannot stand for is refused by name; so is what others wrote to since
/// it was looked at. Nothing of production was touched then.
pub fn take(
    session: &Session,
    guarded: &BTreeSet<String>,
    known: &Known,
    made: &mut BTreeSet<Place>,
    on: OnProgress<'_>,
) -> Result<Vec<String>, EngineError> {
    let database = session.database();
    let scope = catalog::production(&catalog::schemas(session)?, guarded);
    let now = catalog::load(session, &scope, Extent::All)?;
    let (copies, notes) = to_copy(session, &now, known)?;
    let schemas: BTreeSet<String> = copies.iter().map(|copy| copy.to.schema.clone()).collect();
    let there = catalog::load(session, &schemas, Extent::Names)?;
    for statement in plan::schemas(database, &schemas) {
        session.run(&statement, "make schemas for the restore point")?;
    }
    boundary("restore point begun");
    let mut kept = BTreeSet::new();
    for (n, copy) in copies.iter().enumerate() {
        on("cloning production", n as u64, copies.len() as u64);
        let what = format!("retain {}", copy.from);
        if copy.relation.kind == RelationKind::View {
            keep_view(session, copy, &what)?;
            boundary("view retained");
            continue;
        }
        if let Some(old) = there.get(&copy.to) {
            if old.kind != RelationKind::Table || old.special.is_some() {
                let text = format!("{} is in the way of the restore point", copy.to);
                return Err(EngineError::new(ErrorKind::Refused, text)
                    .hint("it is not of unship's making: move or drop it"));
            }
            // A pinned version is retained already. What an interrupted point left may be older than
            // what production is, and is copied again.
            let is_copy = !known.pinned.contains(&copy.version.release);
            if !is_copy || copy.state.is_none() {
                kept.insert(&copy.to);
                continue;
            }
            session.run(&sql::drop_table(&copy.to), &what)?;
        }
        made.insert(copy.to.clone());
        let clone = sql::retain(&copy.to, &copy.from, copy.relation.transient);
        session.run(&clone, &what)?;
        boundary("table retained");
    }
    let again = catalog::load(session, &scope, Extent::All)?;
    let there = catalog::load(session, &schemas, Extent::Names)?;
    for copy in copies.iter().filter(|copy| !kept.contains(&copy.to)) {
        as_known(copy, again.get(&copy.from))?;
        let held = there.get(&copy.to);
        let rows = |relation: Option<&Relation>| relation.and_then(|relation| relation.rows);
        let differ = match (rows(again.get(&copy.from)), rows(held)) {
            (Some(live), Some(held)) => copy.state.is_some() && live != held,
            _ => false,
        };
        if differ || held.is_none_or(|held| held.kind != copy.relation.kind) {
            let text = format!("{} is not what {} is", copy.to, copy.from);
            return Err(EngineError::new(ErrorKind::Refused, text)
                .hint("somebody else is at work in the schemas of unship; run the command again"));
        }
    }
    Ok(notes)
}

/// What is copied to where; what nobody's job builds and cannot be copied is named.
fn to_copy<'a>(
    session: &Session,
    now: &'a Catalog,
    known: &'a Known,
) -> Result<(Vec<Copy<'a>>, Vec<String>), EngineError> {
    let tables = now
        .iter()
        .filter(|(_, relation)| relation.kind == RelationKind::Table)
        .map(|(at, _)| at.clone())
        .collect();
    let mut hanging = hang::on(session, &tables)?;
    let role = session.rows(&sql::session(), "see which role acts")?;
    let role = role.first().and_then(|row| text(cell(row, 0)));
    let (mut copies, mut notes, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for (name, version) in &known.production {
        let Some(state) = &version.state else {
            continue;
        };
        let from = planner::place(name);
        let Some(relation) = now.get(&from) else {
            return Err(moved_on(&from, "was dropped"));
        };
        let mut why = hanging.remove(&from).unwrap_or_default();
        why.extend(relation.special.map(|sort| format!("it is {sort}")));
        if relation.kind == RelationKind::View && relation.body.is_none() {
            why.push("the role may not read its text, or it is not understood".to_owned());
        }
        if let (Some(owner), Some(role)) = (&relation.owner, &role)
            && owner != role
        {
            why.push(format!(
                "it belongs to the role {owner}, and a copy to {role}"
            ));
        }
        if why.is_empty() {
            let access = access::read(session, &from, relation.kind == RelationKind::View)?;
            let others = access.others.iter();
            why.extend(others.map(|whom| format!("{whom} cannot be given again by unship")));
        }
        let reasons = why.into_iter().map(|why| format!("{name}: {why}"));
        if reasons.len() > 0 {
            match version.owned {
                true => refusals.extend(reasons),
                false => notes.extend(reasons.map(|why| format!("not protected: {why}"))),
            }
            continue;
        }
        let copy = Copy {
            to: Place::new(
                &*name.database,
                layout::retained(version.id, &name.schema)?,
                &*name.name,
            ),
            from,
            version: version.id,
            relation,
            state: version.owned.then_some(state),
        };
        as_known(&copy, Some(relation))?;
        copies.push(copy);
    }
    if refusals.is_empty() {
        return Ok((copies, notes));
    }
    Err(EngineError::new(
        ErrorKind::Refused,
        format!(
            "what a job in place does to these could not be taken back:\n  - {}",
            refusals.join("\n  - ")
        ),
    )
    .hint("let the job build aside, which is the default, or change what each line says"))
}

fn moved_on(at: &Place, what: &str) -> EngineError {
    EngineError::new(ErrorKind::Busy, format!("{at} {what} just now"))
        .hint("try again: the restore point is then taken of what is there")
}

/// Whether production still is what it is known to be: what is retained goes by that name.
fn as_known(copy: &Copy<'_>, now: Option<&Relation>) -> Result<(), EngineError> {
    let Some(now) = now.filter(|now| now.kind == copy.relation.kind) else {
        return Err(moved_on(&copy.from, "was dropped or made anew"));
    };
    match copy.state {
        Some(state) if !is(state, now) => Err(moved_on(&copy.from, "was written to by others")),
        _ => Ok(()),
    }
}

/// Whether a relation is in a state: a view by its text, a table by what changes with every write.
fn is(state: &RelationState, now: &Relation) -> bool {
    match now.kind {
        RelationKind::View => now.definition() == state.definition,
        _ => now.storage().is_some() && now.storage() == state.storage,
    }
}

/// Retains a view's text, and who may read it.
fn keep_view(session: &Session, copy: &Copy<'_>, what: &str) -> Result<(), EngineError> {
    let relation = copy.relation;
    let columns: Vec<String> = relation.columns.iter().map(|c| c.name.clone()).collect();
    let view = ViewText {
        body: relation.body.as_deref().unwrap_or_default(),
        columns: &columns,
        secure: relation.secure,
        comment: relation.comment.as_deref(),
    };
    session.run(&sql::create_view(&copy.to, &view), what)?;
    for grant in access::read(session, &copy.from, true)?.grants {
        session.run(&sql::grant(&copy.to, true, &grant), what)?;
    }
    Ok(())
}

/// Proves that copies can be read that are of other versions than a release's own.
pub fn prove(
    session: &Session,
    made: &BTreeSet<Place>,
    release: ReleaseId,
) -> Result<(), EngineError> {
    let its = |at: &Place| {
        layout::parse_retained(&at.schema).is_some_and(|(of, _)| of.release == release)
    };
    made.iter()
        .filter(|at| !its(at))
        .try_for_each(|at| session.run(&sql::first_row(at), &format!("read {at}")))
}

/// Drops copies that no job came after.
pub fn forget(session: &Session, made: &BTreeSet<Place>) -> Result<(), EngineError> {
    made.iter()
        .try_for_each(|at| session.run(&sql::drop_table(at), &format!("drop {at}")))
}

/// Drops the copies of what production still is: the job did not change it, or was never run. What
/// others wrote to meanwhile is another version, and its copy stays.
pub fn sweep(
    session: &Session,
    guarded: &BTreeSet<String>,
    known: &Known,
) -> Result<(), EngineError> {
    let mut copies = Vec::new();
    for (at, relation) in retained::everything(session, guarded, Extent::Names)? {
        let parsed = layout::parse_retained(&at.schema);
        let Some((version, schema)) = parsed else {
            continue;
        };
        let name = RelationName::new(&*at.database, schema, &*at.name);
        let live = known
            .production
            .get(&name)
            .filter(|live| live.id == version && !known.pinned.contains(&version.release));
        let state = live.and_then(|live| live.state.as_ref());
        if let (Some(state), RelationKind::Table, None) = (state, relation.kind, relation.special) {
            copies.push((at, planner::place(&name), state));
        }
    }
    if copies.is_empty() {
        return Ok(());
    }
    let schemas = copies.iter().map(|(_, live, _)| live.schema.clone());
    let now = catalog::load(session, &schemas.collect(), Extent::All)?;
    for (at, live, state) in copies {
        if now.get(&live).is_some_and(|now| is(state, now)) {
            session.run(&sql::drop_table(&at), &format!("drop {at}"))?;
            boundary("copy dropped");
        }
    }
    Ok(())
}
