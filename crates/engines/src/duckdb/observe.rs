//! Looking into database files: with DuckDB where there is one, otherwise only at their identity.

use super::engine::DuckDb;
use super::file;
use super::layout::DbFile;
use super::sql::catalog;
use super::sql::fingerprint::fingerprint;
use super::worker::{Open, Worker};
use std::path::Path;
use unship_core::engine::{Depth, EngineError, ErrorKind, Observation, OnProgress, Place};
use unship_core::ident::RelationName;
use unship_core::relation::{Difference, RelationKind, RelationState};

/// Everything at a place, over all files.
pub(super) fn observe(
    db: &mut DuckDb,
    place: Place,
    depth: &Depth,
    on: OnProgress<'_>,
) -> Result<Observation, EngineError> {
    let files = db.files.clone();
    let mut seen = Observation::new();
    for file in &files {
        let path = db.path_at(file, place, on)?;
        if !path.exists() {
            continue;
        }
        seen.extend(observe_file(db, file, &path, depth, on)?);
    }
    Ok(seen)
}

fn observe_file(
    db: &mut DuckDb,
    file: &DbFile,
    path: &Path,
    depth: &Depth,
    on: OnProgress<'_>,
) -> Result<Observation, EngineError> {
    if known_as_file(&file.catalog, depth) {
        return Ok(unseen(file, path)?.into_iter().collect());
    }
    let opened = db.sessions.open(Open::read_only(path));
    let Some(worker) = opened.map_err(|e| way_out(e, file, path))? else {
        if known_inside(&file.catalog, depth) {
            // To take the one file for all that is in it would call every relation removed.
            db.sessions.must_open(Open::read_only(path))?;
        }
        return Ok(unseen(file, path)?.into_iter().collect());
    };
    // The catalog is named after the file; an attached database is known under its alias.
    let name = worker.database().to_owned();
    let mut states = catalog::observe(worker, &name, catalog::Depth::Storage)?;
    fingerprints(worker, &mut states, depth, &|n| under(n, &file.catalog), on)?;
    worker.close()?;
    Ok(states
        .into_iter()
        .map(|(name, mut state)| {
            for dependent in &mut state.dependents {
                dependent.database.clone_from(&file.catalog);
            }
            (under(&name, &file.catalog), state)
        })
        .collect())
}

/// Whether a database is known as one file: whoever recorded it could not look inside. It stays
/// one, also where somebody now could, or what was recorded before could not be compared with it,
/// nor be gone back to.
fn known_as_file(catalog: &str, depth: &Depth) -> bool {
    let name = RelationName::new(catalog, "", "");
    match depth {
        Depth::Catalog | Depth::AllRows => false,
        Depth::Rows(names) => names.contains(&name),
        Depth::Changed { known, .. } => known.contains_key(&name),
    }
}

/// Where production cannot be read any more, the newest whole copy of it is what helps.
fn way_out(error: EngineError, file: &DbFile, path: &Path) -> EngineError {
    if error.kind != ErrorKind::Corrupt || path != file.path {
        return error;
    }
    let points = super::retained::points_of(file).unwrap_or_default();
    let plain = points.iter().rev().find(|(_, at)| at.plain.is_some());
    error.hint(match plain {
        Some((release, _)) => format!(
            "keep the damaged file under another name: what others wrote since is only in it; put \
             a copy of {} ({release}) in its place, and `unship rollback --to {release} \
             --others set-aside` records that",
            file.point(*release).display()
        ),
        None => "keep the damaged file; `unship fsck` says what can be restored".to_owned(),
    })
}

/// Whether somebody looked into a database before, so that more than its file is known of it.
fn known_inside(catalog: &str, depth: &Depth) -> bool {
    let inside = |name: &RelationName| name.database == catalog && !name.name.is_empty();
    match depth {
        Depth::Catalog | Depth::AllRows => false,
        Depth::Rows(names) => names.iter().any(inside),
        Depth::Changed { known, always } => known.keys().chain(always).any(inside),
    }
}

fn under(name: &RelationName, catalog: &str) -> RelationName {
    RelationName {
        database: catalog.to_owned(),
        ..name.clone()
    }
}

/// One scan for each table whose rows have to be read.
fn fingerprints(
    worker: &mut Worker,
    states: &mut Observation,
    depth: &Depth,
    known_as: &dyn Fn(&RelationName) -> RelationName,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let needed: Vec<RelationName> = states
        .iter()
        .filter(|(_, state)| state.kind == RelationKind::Table)
        .filter(|(name, state)| wanted(depth, &known_as(name), state))
        .map(|(name, _)| name.clone())
        .collect();
    let total = needed.len() as u64;
    for (done, name) in needed.iter().enumerate() {
        on("fingerprinting", done as u64, total);
        if let Some(state) = states.get_mut(name) {
            let print = fingerprint(worker, name, &state.columns)?;
            state.rows = Some(print.rows);
            state.fingerprint = Some(print);
        }
    }
    if let Depth::Changed { known, .. } = depth {
        // What nobody rewrote keeps the fingerprint that is known of it.
        for (name, state) in states.iter_mut().filter(|(_, s)| s.fingerprint.is_none()) {
            if let Some(before) = known.get(&known_as(name)) {
                state.fingerprint.clone_from(&before.fingerprint);
            }
        }
    }
    Ok(())
}

fn wanted(depth: &Depth, name: &RelationName, state: &RelationState) -> bool {
    match depth {
        Depth::Catalog => false,
        Depth::AllRows => true,
        Depth::Rows(names) => names.contains(name),
        Depth::Changed { known, always } => {
            always.contains(name)
                || known.get(name).is_none_or(|before| {
                    before.fingerprint.is_none()
                        || state.storage.is_none()
                        || before.difference(&RelationState {
                            fingerprint: None,
                            ..state.clone()
                        }) != Difference::None
                })
        }
    }
}

/// What can be said of a file that no DuckDB here can read: that it holds, or does not hold, the
/// same bytes. Its place on the disk would not do: a restored copy has another.
fn unseen(
    file: &DbFile,
    path: &Path,
) -> Result<Option<(RelationName, RelationState)>, EngineError> {
    if file::identity(path)? == file::ABSENT {
        return Ok(None);
    }
    let state = RelationState {
        kind: RelationKind::File,
        columns: Vec::new(),
        definition: file::content(path)?,
        dependents: Vec::new(),
        rows: None,
        fingerprint: None,
        storage: None,
    };
    Ok(Some((RelationName::new(&file.catalog, "", ""), state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it says yes, a command without a DuckDB stops instead of calling relations removed.
    #[test]
    fn a_database_that_was_looked_into_is_told_from_one_that_is_only_a_file() {
        let names = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(database, name)| RelationName::new(*database, "main", *name))
                .collect()
        };
        let known = |list: &[(&str, &str)]| Depth::Rows(names(list));
        assert!(known_inside("shop", &known(&[("shop", "orders")])));
        assert!(!known_inside(
            "shop",
            &known(&[("shop", ""), ("other", "orders")])
        ));
        assert!(!known_inside("shop", &Depth::AllRows));
        let built = Depth::Changed {
            known: Observation::new(),
            always: names(&[("shop", "orders")]),
        };
        assert!(known_inside("shop", &built));
    }

    #[test]
    fn a_database_that_was_recorded_as_one_file_stays_one() {
        let known =
            |name: &str| Depth::Rows([RelationName::new("shop", "", name)].into_iter().collect());
        assert!(known_as_file("shop", &known("")));
        assert!(!known_as_file("shop", &known("orders")));
        assert!(!known_as_file("other", &known("")));
        assert!(!known_as_file("shop", &Depth::AllRows));
    }
}
