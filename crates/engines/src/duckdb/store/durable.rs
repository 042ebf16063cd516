//! Files that are there whole or not at all, also after the power went.

use super::error::{Result, io_error};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};
use unship_core::fault::boundary;

/// How the name of a file ends that is not finished. Such files are never read, and gc removes them.
pub(super) const UNFINISHED: &str = "tmp";

/// Makes a folder's entries durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", dir))
}

/// Writes a whole file under an unfinished name, makes it durable and gives it its real name.
///
/// The folder is synced too: when this returns, the file outlives a crash.
pub(super) fn write_file(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = (|| {
        let mut file = File::create(&unfinished).map_err(io_error("create", &unfinished))?;
        for part in parts {
            file.write_all(part)
                .map_err(io_error("write", &unfinished))?;
        }
        file.sync_all().map_err(io_error("sync", &unfinished))?;
        boundary("stored file written");
        fs::rename(&unfinished, path).map_err(io_error("rename into place", path))?;
        boundary("stored file named");
        Ok(())
    })();
    if written.is_err() {
        // Best effort: gc removes what stays behind.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(io_error("remove", path)),
    }
}
