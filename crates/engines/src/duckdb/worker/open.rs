//! Which files a worker opens, and within which limits.

use std::path::PathBuf;

/// A database file that is attached beside the main one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The file.
    pub path: PathBuf,
    /// The catalog name that SQL will use for it.
    pub alias: String,
    /// Whether it may be written.
    pub read_only: bool,
    /// Its key, if it is encrypted.
    pub key: Option<String>,
}

/// What to open, and within which limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// The main database file; `None` for an empty database in memory.
    pub path: Option<PathBuf>,
    /// Whether it may be written.
    pub read_only: bool,
    /// Its key, if it is encrypted.
    pub key: Option<String>,
    /// DuckDB's memory limit, such as `2GB`; what is larger spills to `temp_directory`.
    pub memory_limit: Option<String>,
    /// Where DuckDB spills to. Without it that is beside the database file.
    pub temp_directory: Option<PathBuf>,
    /// More files, under names of their own.
    pub attach: Vec<Attach>,
}

impl Open {
    /// Only reading.
    pub fn read_only(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            read_only: true,
            ..Self::default()
        }
    }

    /// Reading and writing.
    pub fn writable(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    /// Attaches one more file, only for reading, under `alias`.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, alias: impl Into<String>) -> Self {
        self.attach.push(Attach {
            path: path.into(),
            alias: alias.into(),
            read_only: true,
            key: None,
        });
        self
    }
}
