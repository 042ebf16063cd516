//! Where things lie: `.unship/` beside each database file, on its own file system, so that a rename
//! never becomes a copy. Every kept file has the *basename* of its original, because DuckDB names
//! the catalog after it and views store that name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use unship_core::ident::ReleaseId;

/// One database file that is guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbFile {
    /// The catalog's name: the file's stem for the main one, the alias for an attached one.
    pub catalog: String,
    /// Absolute path of the production file.
    pub path: PathBuf,
}

impl DbFile {
    /// The directory `.unship` beside the file.
    pub fn home(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(".unship")
    }

    /// The file's name.
    pub fn basename(&self) -> OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }

    /// The name under which the store keeps this file.
    pub fn label(&self) -> String {
        self.basename().to_string_lossy().into_owned()
    }

    /// Where a release is built.
    pub fn build(&self, release: ReleaseId) -> PathBuf {
        self.home()
            .join("build")
            .join(release.to_string())
            .join(self.basename())
    }

    /// Where a release's retained state lies, unpacked.
    pub fn point(&self, release: ReleaseId) -> PathBuf {
        self.points()
            .join(release.to_string())
            .join(self.basename())
    }

    /// The directory of unpacked points.
    pub fn points(&self) -> PathBuf {
        self.home().join("points")
    }

    /// The directory of packed points.
    pub fn store(&self) -> PathBuf {
        self.home().join("store")
    }

    /// Where a packed point is unpacked to be read; swept at the next housekeeping.
    pub fn scratch(&self, release: ReleaseId) -> PathBuf {
        self.home()
            .join("scratch")
            .join(release.to_string())
            .join(self.basename())
    }
}

/// The write-ahead log that belongs to a database file.
pub fn wal_of(path: &Path) -> PathBuf {
    with_suffix(path, ".wal")
}

/// All files that DuckDB may keep beside a database file.
pub fn companions(path: &Path) -> [PathBuf; 3] {
    [".wal", ".wal.checkpoint", ".wal.recovery"].map(|suffix| with_suffix(path, suffix))
}

/// A path with something appended to its file name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
