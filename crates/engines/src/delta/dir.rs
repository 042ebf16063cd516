//! Where files lie: directories of this machine, or prefixes of an object store.

use super::bucket::Prefix;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_for};
use object_store::{ObjectStore, path::Path as Key};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use unship_core::engine::{EngineError, ErrorKind};
use url::Url;

/// A directory.
#[derive(Debug, Clone)]
pub enum Dir {
    /// Of this machine; an absolute path.
    Disk(PathBuf),
    /// Of an object store.
    Store(Prefix),
}

/// A file that a log names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Disk(PathBuf),
    /// In the object store of the directory.
    Store(Key),
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(path) => path.display().fmt(f),
            Self::Store(prefix) => prefix.fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(path) => path.display().fmt(f),
            Self::Store(key) => key.fmt(f),
        }
    }
}

impl From<PathBuf> for Dir {
    fn from(path: PathBuf) -> Self {
        Self::Disk(path)
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> EngineError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ => ErrorKind::Io,
    };
    EngineError::new(kind, format!("cannot {what} {}", path.display())).because(error)
}

/// `None` where something is not there.
fn there<T>(what: &str, path: &Path, got: io::Result<T>) -> Result<Option<T>, EngineError> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(what, path, e)),
    }
}

impl Dir {
    /// Opens what a URL of an object store names, with the credentials of the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a URL or settings that are not known.
    pub fn open(url: &str) -> Result<Self, EngineError> {
        Prefix::open(url).map(Self::Store)
    }

    /// What a URL names, in a store that is open already.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what is no URL.
    pub fn within(url: &str, store: Arc<dyn ObjectStore>) -> Result<Self, EngineError> {
        Prefix::within(url, store).map(Self::Store)
    }

    /// A directory below, by its names with slashes in between.
    pub fn join(&self, below: &str) -> Self {
        match self {
            Self::Disk(path) => Self::Disk(path.join(below)),
            Self::Store(prefix) => Self::Store(prefix.join(below)),
        }
    }

    /// The names of what lies directly in it, directories too; `None` if it is not there.
    pub fn names(&self) -> Result<Option<Vec<String>>, EngineError> {
        let path = match self {
            Self::Disk(path) => path,
            Self::Store(prefix) => return prefix.names(),
        };
        let Some(entries) = there("look into", path, fs::read_dir(path))? else {
            return Ok(None);
        };
        let mut out = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| failed("look into", path, e))?.file_name();
            out.extend(name.into_string().ok());
        }
        Ok(Some(out))
    }

    /// What a file says, as text; `None` if it is not there.
    pub fn read(&self, name: &str) -> Result<Option<String>, EngineError> {
        match self {
            Self::Disk(path) => {
                let path = path.join(name);
                there("read", &path, fs::read_to_string(&path))
            }
            Self::Store(prefix) => Ok(prefix.read(vec![name.to_owned()])?.pop().flatten()),
        }
    }

    /// The same of several.
    pub fn read_all(&self, names: Vec<String>) -> Result<Vec<Option<String>>, EngineError> {
        match self {
            Self::Disk(_) => names.iter().map(|name| self.read(name)).collect(),
            Self::Store(prefix) => prefix.read(names),
        }
    }

    /// What a file is told by without reading it: its size and when it was written. Nothing, if it is
    /// not there any more.
    pub fn stamp(&self, name: &str) -> String {
        let path = match self {
            Self::Disk(path) => path.join(name),
            Self::Store(prefix) => return prefix.stamp(name),
        };
        let Ok(meta) = fs::metadata(path) else {
            return String::new();
        };
        let at = meta.modified().ok();
        let at = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        format!("{} {}", meta.len(), at.unwrap_or_default().as_nanos())
    }

    /// A file below; `None` if it cannot have this name.
    pub fn below(&self, name: &str) -> Option<Place> {
        match self {
            Self::Disk(path) => Some(Place::Disk(path.join(name))),
            Self::Store(prefix) => prefix.key(name).ok().map(Place::Store),
        }
    }

    /// A path of a log as a file: relative to this directory, or a URI. `None` for one that cannot be
    /// looked at from here.
    pub fn place(&self, raw: &str) -> Option<Place> {
        let has_scheme = raw.split_once(":/").is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        if !has_scheme {
            let decoded = percent_decode_str(raw).decode_utf8().ok()?;
            return self.below(&decoded);
        }
        let url = Url::parse(raw).ok()?;
        match self {
            Self::Disk(_) => url.to_file_path().ok().map(Place::Disk),
            Self::Store(prefix) => prefix.at(&url).map(Place::Store),
        }
    }

    /// Which of these files are not there.
    pub fn gone(&self, places: Vec<Place>) -> Result<Vec<Place>, EngineError> {
        let mut keys = Vec::new();
        let mut gone = Vec::new();
        for place in places {
            match place {
                Place::Disk(path) if path.is_file() => {}
                Place::Disk(_) => gone.push(place),
                Place::Store(key) => keys.push(key),
            }
        }
        if let Self::Store(prefix) = self {
            gone.extend(prefix.gone(keys)?.into_iter().map(Place::Store));
        }
        Ok(gone)
    }

    /// The library's own way to the table that lies here.
    pub fn logs(&self) -> Result<LogStoreRef, EngineError> {
        let path = match self {
            Self::Disk(path) => path,
            Self::Store(prefix) => return prefix.logs(),
        };
        let url = Url::from_directory_path(path).map_err(|()| {
            let text = format!("{} is no absolute path", path.display());
            EngineError::new(ErrorKind::Unsupported, text)
        })?;
        logstore_for(&url, StorageConfig::default()).map_err(|e| {
            let text = format!("{} cannot be reached", path.display());
            EngineError::new(ErrorKind::Io, text).because(e)
        })
    }

    /// Returns when a file survives a power loss that was written before. A store gives no answer
    /// earlier than that.
    pub fn durable(&self, name: &str) -> Result<(), EngineError> {
        let Self::Disk(path) = self else {
            return Ok(());
        };
        let file = path.join(name);
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&file).and_then(|()| sync(path)).map_err(|e| {
            let text = format!("cannot make sure that {} stays", file.display());
            EngineError::new(ErrorKind::Io, text).because(e)
        })
    }
}
