//! Some rows of an older file's relation in place of others: in a clone of production, which becomes
//! production by a rename when its rows have been proved.

use super::assemble::bench;
use super::engine::DuckDb;
use super::file;
use super::plan::{self, RowsFrom, Survey};
use super::retained::clear;
use super::sessions::Sessions;
use super::sql::others;
use super::sql::rows::{self, Chosen};
use super::worker::{Open, WorkerError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use unship_core::engine::{Engine, EngineError, ErrorKind, OnProgress, Place, RestoreRequest};
use unship_core::fault::boundary;
use unship_core::ident::RelationName;
use unship_core::others::Written;
use unship_core::relation::{RelationKind, RelationState};
use unship_core::rows::{RowsRequest, RowsSurvey, Slice};

/// The catalog name that the older file is attached under.
const SOURCE: &str = "unship_source";

/// What planning needs to know: the disk, and what was found of each relation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) disk: Survey,
    pub(super) chosen: BTreeMap<RelationName, Chosen>,
}

/// Looks at everything that a request is about.
pub(super) fn survey(
    db: &mut DuckDb,
    request: &RowsRequest,
    on: OnProgress<'_>,
) -> Result<RowsSurvey, EngineError> {
    let unreadable =
        |e| EngineError::new(ErrorKind::Io, "the survey of rows cannot be written").because(e);
    let names = request.relations.keys().cloned().collect();
    let disk = db.survey(request.release, &names)?;
    let disk: Survey = serde_json::from_value(disk).map_err(unreadable)?;
    let mut slices = BTreeMap::new();
    let mut chosen = BTreeMap::new();
    let total = request.relations.len() as u64;
    for (n, (name, pair)) in request.relations.iter().enumerate() {
        on("reading the chosen rows", n as u64, total);
        let at = disk.files.iter().find(|at| at.catalog == name.database);
        let at = at.ok_or_else(|| {
            EngineError::new(ErrorKind::Missing, format!("{name} is in no guarded file"))
        })?;
        let point = plan::source_of(at, &request.points, name, &pair.then)?;
        let file = db.file(&at.path)?.clone();
        let source = db.path_at(&file, Place::Point(point), on)?;
        let worker = db
            .sessions
            .must_open(Open::read_only(&file.path).with(&source, SOURCE))?;
        let live = here(name, worker.database());
        let older = here(name, SOURCE);
        let predicate = rows::predicate(&request.reconciling.rows)?;
        let of = rows::chosen(worker, &live, &older, &predicate, pair.then.id.release)?;
        let state = pair.now.state.clone().ok_or_else(|| {
            EngineError::new(ErrorKind::Missing, format!("{name} is not in production"))
        })?;
        let whole = match &state.fingerprint {
            Some(print) if print.method == of.out.method => print.clone(),
            _ => rows::whole(worker, &live)?,
        };
        worker.close()?;
        let print = unship_core::rows::exchanged(&whole, &of.out, &of.back).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Query,
                format!("the rows of {name} do not add up"),
            )
        })?;
        slices.insert(
            name.clone(),
            Slice {
                out: of.out.rows,
                back: of.back.rows,
                same: of.out == of.back,
                after: RelationState {
                    rows: Some(print.rows),
                    fingerprint: Some(print),
                    // Where the rows will be stored is not known before they are.
                    storage: None,
                    ..state
                },
                notes: of.notes.clone(),
            },
        );
        chosen.insert(name.clone(), of);
    }
    let engine = serde_json::to_value(Found { disk, chosen }).map_err(unreadable)?;
    Ok(RowsSurvey { slices, engine })
}

/// Looks at what others wrote to the relations that a request replaces.
pub(super) fn others(
    db: &mut DuckDb,
    request: &RestoreRequest,
    published: &BTreeMap<RelationName, RelationState>,
    on: OnProgress<'_>,
) -> Result<BTreeMap<RelationName, Written>, EngineError> {
    let mut out = BTreeMap::new();
    let total = published.len() as u64;
    for (n, (name, then)) in published.iter().enumerate() {
        on("counting what others wrote", n as u64, total);
        let file = db.files.iter().find(|file| file.catalog == name.database);
        let (Some(file), RelationKind::Table) = (file.cloned(), then.kind) else {
            continue;
        };
        let at = db.survey_file(&file, request.release)?;
        let wanted = request.bring.get(name);
        let source = match wanted {
            Some(version) => {
                let point = plan::source_of(&at, &request.points, name, version)?;
                Some(db.path_at(&file, Place::Point(point), on)?)
            }
            None => None,
        };
        let mut open = Open::read_only(&file.path);
        if let Some(source) = &source {
            open = open.with(source, SOURCE);
        }
        let Some(worker) = db.sessions.open(open)? else {
            continue;
        };
        let live = here(name, worker.database());
        let older = here(name, SOURCE);
        let state = wanted.and_then(|version| version.state.as_ref());
        let older = state.map(|state| (&older, state));
        if let Some(written) = others::written(worker, &live, then, older, request.live)? {
            out.insert(name.clone(), written);
        }
        worker.close()?;
    }
    Ok(out)
}

/// A relation under another catalog's name.
fn here(name: &RelationName, catalog: &str) -> RelationName {
    RelationName {
        database: catalog.to_owned(),
        ..name.clone()
    }
}

/// Makes the file `to`: a clone of production in which rows have changed places. Under its final name
/// it is whole or not there.
pub(super) fn exchange(
    sessions: &mut Sessions,
    live: &Path,
    to: &Path,
    all: &[RowsFrom],
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let bench = bench(to);
    clear(&bench)?;
    file::clone(live, &bench, on)?;
    boundary("rows cloned");
    for (n, one) in all.iter().enumerate() {
        on("exchanging rows", n as u64, all.len() as u64);
        let worker = sessions.must_open(Open::writable(&bench).with(&one.path, SOURCE))?;
        let relation = here(&one.relation, worker.database());
        let older = here(&one.relation, SOURCE);
        rows::exchange(worker, &relation, &older, &one.chosen)
            .map_err(|e| refused(e, &one.relation))?;
        let now = rows::whole(worker, &relation)?;
        worker.close()?;
        if now != one.after {
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!("{} would not be what was planned", one.relation),
            )
            .hint("another DuckDB may be at work than the plan was made with: make a new one"));
        }
        boundary("rows exchanged");
    }
    if file::has_wal(&bench)? {
        sessions.checkpoint(&bench)?;
    }
    file::sync_file(&bench)?;
    file::make_parent(to)?;
    file::rename(&bench, to)?;
    boundary("rows named");
    clear(&bench)
}

/// A constraint that does not hold is a reason not to do it, and no failure.
fn refused(error: WorkerError, relation: &RelationName) -> EngineError {
    match &error {
        WorkerError::Sql { kind, .. } if kind == "Constraint" => EngineError::new(
            ErrorKind::Refused,
            format!("rows of {relation} cannot change places: {error}"),
        )
        .hint(
            "the rest of the warehouse does not fit these rows: choose other rows, or roll the \
             relations back as wholes, together with those that refer to them",
        ),
        _ => error.into(),
    }
}
