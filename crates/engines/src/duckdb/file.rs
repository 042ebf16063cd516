//! A database file as a file: identity, cloning, swapping. Nothing here needs DuckDB, and all of it
//! works for every DuckDB version and for encrypted files.

use super::layout::{companions, wal_of, with_suffix};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use unship_core::engine::{EngineError, ErrorKind, FREE_SPACE, OnProgress};
use unship_core::fault::boundary;

/// What a fact says of a file that is not there.
pub const ABSENT: &str = "absent";

/// The three headers at a DuckDB file's beginning, in bytes.
const HEADERS: u64 = 3 * 4096;

/// A file's identity for facts: device, inode, size, time of the last write, and a hash of the
/// headers, which change with every checkpoint. A rename or a link leaves it as it is.
pub fn identity(path: &Path) -> Result<String, EngineError> {
    identity_of(path, false)
}

/// The same and the time of the last change of the inode, which no program can set back. A rename
/// or a link changes it: use it only to see whether production was touched since it was recorded.
pub fn mark(path: &Path) -> Result<String, EngineError> {
    identity_of(path, true)
}

fn identity_of(path: &Path, ctime: bool) -> Result<String, EngineError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(ABSENT.to_owned()),
        Err(e) => return Err(io_error("open", path, &e)),
    };
    let meta = file.metadata().map_err(|e| io_error("look at", path, &e))?;
    let mut headers = Vec::with_capacity(HEADERS as usize);
    file.by_ref()
        .take(HEADERS)
        .read_to_end(&mut headers)
        .map_err(|e| io_error("read", path, &e))?;
    let head = blake3::hash(&headers).to_hex();
    let mut text = format!(
        "{:x}:{}:{}:{}.{:09}:{}",
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        &head[..16]
    );
    if ctime {
        text.push_str(&format!(":{}.{:09}", meta.ctime(), meta.ctime_nsec()));
    }
    Ok(text)
}

/// A hash of all of a file's bytes.
pub fn content(path: &Path) -> Result<String, EngineError> {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(drop))
        .map_err(|e| io_error("read", path, &e))?;
    Ok(format!("blake3 {}", hasher.finalize().to_hex()))
}

/// Whether a file has changes that are only in its write-ahead log.
pub fn has_wal(path: &Path) -> Result<bool, EngineError> {
    for companion in companions(path) {
        match fs::metadata(&companion) {
            Ok(meta) if meta.len() > 0 => return Ok(true),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error("look at", &companion, &e)),
        }
    }
    Ok(false)
}

/// Whether two paths are one file.
pub fn same_file(a: &Path, b: &Path) -> Result<bool, EngineError> {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => Ok(a.dev() == b.dev() && a.ino() == b.ino()),
        (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        (Err(e), _) => Err(io_error("look at", a, &e)),
        (_, Err(e)) => Err(io_error("look at", b, &e)),
    }
}

/// Clones a file to a new path, sharing blocks where the file system can, and makes it durable.
/// Nothing half-made ever stands under the final name. Returns the bytes that had to be copied.
pub fn clone(from: &Path, to: &Path, on: OnProgress<'_>) -> Result<u64, EngineError> {
    make_parent(to)?;
    let part = with_suffix(to, ".part");
    let cloned = clone_as(from, &part, to, on);
    if cloned.is_err() {
        // Its room is needed; the first error is the one to tell.
        let _ = remove_if_there(&part);
    }
    cloned
}

fn clone_as(from: &Path, part: &Path, to: &Path, on: OnProgress<'_>) -> Result<u64, EngineError> {
    remove_if_there(part)?;
    let meta = fs::metadata(from).map_err(|e| io_error("look at", from, &e))?;
    let copied = if reflink_copy::reflink(from, part).is_ok() {
        0
    } else {
        remove_if_there(part)?;
        copy(from, part, meta.len(), on)?;
        meta.len()
    };
    // A retained point is read-only; what is cloned from it will be written to.
    fs::set_permissions(
        part,
        fs::Permissions::from_mode(meta.permissions().mode() | 0o200),
    )
    .map_err(|e| io_error("set the mode of", part, &e))?;
    sync_file(part)?;
    boundary("clone written");
    rename(part, to)?;
    boundary("clone named");
    Ok(copied)
}

/// Whether files in a directory can share blocks. Found by trying, once a directory and process:
/// neither the file system's name nor its version tells.
pub fn can_reflink(dir: &Path) -> Result<bool, EngineError> {
    static KNOWN: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(can) = known.get(dir) {
        return Ok(*can);
    }
    let dir_or_above = dir.ancestors().find(|d| d.is_dir()).unwrap_or(dir);
    let probe = tempfile::Builder::new()
        .prefix(".unship-probe")
        .tempdir_in(dir_or_above)
        .map_err(|e| io_error("write to", dir_or_above, &e))?;
    let (a, b) = (probe.path().join("a"), probe.path().join("b"));
    fs::write(&a, [0; 4096]).map_err(|e| io_error("write", &a, &e))?;
    let can = reflink_copy::reflink(&a, &b).is_ok();
    known.insert(dir.to_owned(), can);
    Ok(can)
}

/// In steps, so that progress can be told; the kernel copies without passing through this process.
fn copy(from: &Path, to: &Path, total: u64, on: OnProgress<'_>) -> Result<(), EngineError> {
    const STEP: u64 = 256 << 20;
    let source = File::open(from).map_err(|e| io_error("open", from, &e))?;
    let mut target = File::create_new(to).map_err(|e| io_error("create", to, &e))?;
    let mut done = 0;
    loop {
        let copied = io::copy(&mut (&source).take(STEP), &mut target)
            .map_err(|e| io_error("write", to, &e))?;
        if copied == 0 {
            break;
        }
        done += copied;
        on("copying", done, total);
    }
    if done < total {
        return Err(EngineError::new(
            ErrorKind::Io,
            format!("{} became shorter while it was copied", from.display()),
        ));
    }
    Ok(())
}

/// Makes `incoming` the file at `live`, in one atomic rename, and keeps the old file at `retired`.
///
/// The old file gets its second name first; should the process die in between, `live` is still the
/// old file. Readers that hold the old file go on reading it, new ones get the new file, and nobody
/// ever finds none.
pub fn swap(live: &Path, incoming: &Path, retired: &Path) -> Result<(), EngineError> {
    refuse_wal(incoming)?;
    let meta = match fs::metadata(live) {
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io_error("look at", live, &e)),
    };
    if let Some(meta) = &meta {
        refuse_wal(live)?;
        fs::set_permissions(incoming, fs::Permissions::from_mode(meta.mode() & 0o7777))
            .map_err(|e| io_error("set the mode of", incoming, &e))?;
        keep_owner(meta, incoming)?;
        make_parent(retired)?;
        boundary("swap to be linked");
        if !same_file(live, retired)? {
            fs::hard_link(live, retired)
                .map_err(|e| io_error("keep the old file as", retired, &e))?;
        }
        sync_dir_of(retired)?;
        boundary("swap linked");
    }
    sync_file(incoming)?;
    remove_companions(live)?;
    boundary("swap prepared");
    rename(incoming, live)?;
    boundary("swap renamed");
    if meta.is_some() {
        make_read_only(retired)?;
    }
    boundary("swap done");
    Ok(())
}

/// Takes [`swap`] back: the retired file is production again, and what had come in lies at
/// `incoming` as before.
pub fn swap_back(live: &Path, incoming: &Path, retired: &Path) -> Result<(), EngineError> {
    if !incoming.exists() {
        // Its folder went when nothing was left in it.
        make_parent(incoming)?;
        fs::hard_link(live, incoming)
            .map_err(|e| io_error("keep the new file as", incoming, &e))?;
        sync_dir_of(incoming)?;
    }
    boundary("swap back linked");
    if retired.exists() {
        let mode = fs::metadata(live)
            .map_err(|e| io_error("look at", live, &e))?
            .mode()
            & 0o7777;
        fs::set_permissions(retired, fs::Permissions::from_mode(mode))
            .map_err(|e| io_error("set the mode of", retired, &e))?;
        boundary("swap back prepared");
        rename(retired, live)
    } else {
        // There was no production file before.
        remove_if_there(live)
    }
}

fn keep_owner(old: &fs::Metadata, path: &Path) -> Result<(), EngineError> {
    let new = fs::metadata(path).map_err(|e| io_error("look at", path, &e))?;
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(old.uid()), Some(old.gid())).map_err(|e| {
        io_error("give the old file's owner to", path, &e)
            .hint("run unship as the user who owns the database file")
    })
}

fn refuse_wal(path: &Path) -> Result<(), EngineError> {
    if has_wal(path)? {
        return Err(EngineError::new(
            ErrorKind::Refused,
            format!(
                "{} has changes that are only in {}",
                path.display(),
                wal_of(path).display()
            ),
        )
        .hint("open it once with DuckDB and run CHECKPOINT, then try again; nothing was changed"));
    }
    Ok(())
}

fn remove_companions(path: &Path) -> Result<(), EngineError> {
    companions(path).iter().try_for_each(|c| remove_if_there(c))
}

/// Takes away the right to write, so that a retained state stays what it is.
pub fn make_read_only(path: &Path) -> Result<(), EngineError> {
    let now = fs::metadata(path)
        .map_err(|e| io_error("look at", path, &e))?
        .mode()
        & 0o7777;
    let mode = now & 0o7555;
    if mode == now {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| io_error("set the mode of", path, &e))
}

/// Renames within one file system, durably.
pub fn rename(from: &Path, to: &Path) -> Result<(), EngineError> {
    fs::rename(from, to).map_err(|e| io_error("rename to", to, &e))?;
    sync_dir_of(to)?;
    if from.parent() != to.parent() {
        sync_dir_of(from)?;
    }
    Ok(())
}

/// Makes a file's content durable.
pub fn sync_file(path: &Path) -> Result<(), EngineError> {
    File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(|e| io_error("sync", path, &e))
}

/// Makes the entry of a file in its directory durable.
pub fn sync_dir_of(path: &Path) -> Result<(), EngineError> {
    let Some(dir) = path.parent() else {
        return Ok(());
    };
    File::open(dir)
        .and_then(|f| f.sync_all())
        .map_err(|e| io_error("sync", dir, &e))
}

/// A path to a file of a build that is the same for every release: through a link that stands for
/// the build's directory, beside it. dbt remembers for which database it parsed a project, and with
/// another path would parse all of it again, in every run.
pub fn lasting_path(build: &Path) -> io::Result<PathBuf> {
    let nameless = || io::Error::other("a build lies in a directory of its own");
    let (dir, name) = build.parent().zip(build.file_name()).ok_or_else(nameless)?;
    let (all, release) = dir.parent().zip(dir.file_name()).ok_or_else(nameless)?;
    let link = all.join(name);
    let fresh = with_suffix(&link, ".new");
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::os::unix::fs::symlink(release, &fresh)?;
    fs::rename(&fresh, &link)?;
    Ok(link.join(name))
}

/// Creates the directory that a file will lie in, durably.
pub fn make_parent(path: &Path) -> Result<(), EngineError> {
    match path.parent() {
        Some(dir) => make_dir(dir),
        None => Ok(()),
    }
}

/// Creates a directory and those above it, durably: what is synced into it later would be gone with
/// it if the power failed before its own name was written.
pub fn make_dir(dir: &Path) -> Result<(), EngineError> {
    make_dir_with(dir, &mut sync_dir_of)
}

fn make_dir_with(
    dir: &Path,
    sync_dir_of: &mut dyn FnMut(&Path) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let missing = dir.ancestors().take_while(|d| !d.is_dir());
    let missing: Vec<&Path> = missing.filter(|d| !d.as_os_str().is_empty()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            // Somebody else did so at this moment.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made.map_err(|e| io_error("create", dir, &e))?,
        }
        sync_dir_of(dir)?;
    }
    Ok(())
}

/// Removes a file; it is no error that there is none.
pub fn remove_if_there(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, &e)),
        _ => Ok(()),
    }
}

/// An error of the file system, with what was being done to which file.
pub fn io_error(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::DiskFull, Some(FREE_SPACE))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::Permission,
            Some("run unship as the user who owns the database file"),
        ),
        io::ErrorKind::NotFound => (ErrorKind::Missing, None),
        io::ErrorKind::CrossesDevices => (
            ErrorKind::Unsupported,
            Some(
                "`.unship` must lie on the file system of the database file; it may not be a mount point",
            ),
        ),
        _ => (ErrorKind::Io, None),
    };
    let e = EngineError::new(kind, format!("cannot {doing} {}", path.display()))
        .because(io::Error::new(error.kind(), error.to_string()));
    match hint {
        Some(hint) => e.hint(hint),
        None => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_keeps_the_old_file_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (live, new, old) = (
            dir.path().join("a.duckdb"),
            dir.path().join("b/a.duckdb"),
            dir.path().join("c/a.duckdb"),
        );
        fs::write(&live, "one").unwrap();
        clone(&live, &new, &|_, _, _| {}).unwrap();
        fs::write(&new, "two").unwrap();
        let (was, will) = (identity(&live).unwrap(), identity(&new).unwrap());

        swap(&live, &new, &old).unwrap();
        assert_eq!(fs::read_to_string(&live).unwrap(), "two");
        assert_eq!(fs::read_to_string(&old).unwrap(), "one");
        assert_eq!(
            (identity(&old).unwrap(), identity(&live).unwrap()),
            (was.clone(), will.clone())
        );
        assert_eq!(identity(&new).unwrap(), ABSENT);
        assert_eq!(fs::metadata(&old).unwrap().mode() & 0o222, 0);
        // As after every swap: nothing of the same release is left beside it.
        fs::remove_dir(new.parent().unwrap()).unwrap();

        swap_back(&live, &new, &old).unwrap();
        assert_eq!(
            (identity(&live).unwrap(), identity(&new).unwrap()),
            (was, will)
        );
        assert_eq!(identity(&old).unwrap(), ABSENT);
        assert_ne!(fs::metadata(&live).unwrap().mode() & 0o200, 0);
    }

    #[test]
    fn every_directory_that_is_made_is_made_durable() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs::create_dir(dir.path().join("a")).unwrap();
        let mut synced = Vec::new();
        let mut sync = |made: &Path| {
            assert!(made.is_dir(), "synced once it is there");
            synced.push(made.to_owned());
            sync_dir_of(made)
        };
        make_dir_with(&deep, &mut sync).unwrap();
        make_dir_with(&deep, &mut sync).unwrap();
        assert_eq!(synced, [dir.path().join("a/b"), deep]);
    }

    #[test]
    fn the_lasting_path_leads_to_the_newest_build() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["R1", "R2"].map(|release| {
            let build = dir.path().join("build").join(release).join("a.duckdb");
            make_parent(&build).unwrap();
            fs::write(&build, release).unwrap();
            let lasting = lasting_path(&build).unwrap();
            assert_eq!(fs::read_to_string(&lasting).unwrap(), release);
            assert_eq!(lasting.file_name(), build.file_name());
            lasting
        });
        assert_eq!(paths[0], paths[1]);
    }

    #[test]
    fn a_write_ahead_log_stops_a_swap_before_anything_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (live, new, old) = (
            dir.path().join("a"),
            dir.path().join("b"),
            dir.path().join("c"),
        );
        fs::write(&live, "one").unwrap();
        fs::write(&new, "two").unwrap();
        fs::write(wal_of(&live), "more").unwrap();
        let error = swap(&live, &new, &old).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert_eq!(fs::read_to_string(&live).unwrap(), "one");
        assert!(!old.exists());
    }
}
