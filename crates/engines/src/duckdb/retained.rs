//! The states of a file that are retained: as plain files beside it, or packed in the store.

use super::file::{self, io_error};
use super::layout::{DbFile, companions, with_suffix};
use super::plan::PointSurvey;
use super::store::{Store, StoreWriter};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use unship_core::engine::{EngineError, OnProgress};
use unship_core::fault::boundary;
use unship_core::ident::ReleaseId;

/// The retained states of one file, unpacked or packed.
pub(super) fn points_of(file: &DbFile) -> Result<BTreeMap<ReleaseId, PointSurvey>, EngineError> {
    let mut out = BTreeMap::new();
    for info in packed(file)? {
        if let Ok(release) = info.0.parse() {
            out.insert(
                release,
                PointSurvey {
                    plain: None,
                    bytes: info.1,
                },
            );
        }
    }
    for release in numbered_dirs(&file.points())? {
        let path = file.point(release);
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        let plain = Some(file::identity(&path)?);
        out.insert(
            release,
            PointSurvey {
                plain,
                bytes: meta.len(),
            },
        );
    }
    Ok(out)
}

/// Names and sizes of the packed points of a file.
pub(super) fn packed(file: &DbFile) -> Result<Vec<(String, u64)>, EngineError> {
    if !file.store().join("format").exists() {
        return Ok(Vec::new());
    }
    let points = Store::open(&file.store())?.points()?;
    Ok(points
        .points
        .into_iter()
        .filter(|info| info.label == file.label())
        .map(|info| (info.point, info.size))
        .collect())
}

/// The sub-directories that are named after a release.
pub(super) fn numbered_dirs(dir: &Path) -> Result<Vec<ReleaseId>, EngineError> {
    let names = names_in(dir)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The names of what lies in a directory, if it is there. Names that are no text are not unship's.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, EngineError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("list", dir, &e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| io_error("list", dir, &e))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

pub(super) fn unpack(
    file: &DbFile,
    release: ReleaseId,
    to: &Path,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    file::make_parent(to)?;
    let store = Store::open(&file.store())?;
    store.restore(&release.to_string(), &file.label(), to, &|p| {
        on(p.doing, p.done, p.total)
    })?;
    Ok(())
}

pub(super) fn pack(
    file: &DbFile,
    path: &Path,
    release: ReleaseId,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    file::make_dir(&file.home())?;
    let mut store = StoreWriter::open(&file.store())?;
    let (point, label) = (release.to_string(), file.label());
    if store.store().point(&point, &label).is_ok() {
        // It was taken for a job that then changed nothing, or by a run that was interrupted.
        store.forget(&point, &label)?;
        boundary("older point forgotten");
    }
    store.snapshot(path, &point, &label, &|p| on(p.doing, p.done, p.total))?;
    boundary("point packed");
    Ok(())
}

/// Finishes what a swap that was interrupted, or taken back, left half done at the points: a second
/// name of production, which the next write to production would change, goes; and what is retained
/// cannot be written to.
pub(super) fn settle(file: &DbFile) -> Result<(), EngineError> {
    for release in numbered_dirs(&file.points())? {
        let point = file.point(release);
        if file::same_file(&point, &file.path)? {
            file::remove_if_there(&point)?;
            boundary("second name removed");
            tidy(&point);
        } else if point.exists() {
            file::make_read_only(&point)?;
        }
    }
    Ok(())
}

/// Removes the directory that a file was renamed out of. It is empty, or it is not ours to remove.
pub(super) fn tidy(path: &Path) {
    if let Some(dir) = path.parent() {
        let _ = fs::remove_dir(dir);
    }
}

/// Removes a directory and all in it; it is no error that there is none.
pub(super) fn remove_dir(dir: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", dir, &e)),
        _ => Ok(()),
    }
}

/// Restore points are data: they must not end up in a commit.
pub(super) fn ignore_from_git(home: &Path) -> Result<(), EngineError> {
    file::make_dir(home)?;
    let ignore = home.join(".gitignore");
    // An empty one is what a full disk left of it.
    if fs::metadata(&ignore).map_or(true, |m| m.len() == 0) {
        fs::write(&ignore, "*\n").map_err(|e| io_error("write", &ignore, &e))?;
    }
    Ok(())
}

/// Removes a file that was being made, with all that DuckDB and unship keep beside one, and its
/// directory if nothing else is in it: other guarded files of the same folder, perhaps of an
/// environment with a lease of its own, are built in the directory of the same name.
pub(super) fn clear(path: &Path) -> Result<(), EngineError> {
    file::remove_if_there(path)?;
    for beside in companions(path).iter().chain([&with_suffix(path, ".part")]) {
        file::remove_if_there(beside)?;
    }
    // What DuckDB spilled of a query that did not end.
    remove_dir(&with_suffix(path, ".tmp"))?;
    tidy(path);
    Ok(())
}
