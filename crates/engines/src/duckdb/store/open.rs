//! Opening a store, for reading or for writing.

use super::{
    codec::OpenPack,
    durable::{UNFINISHED, sync_dir, write_file},
    error::{Result, StoreError, io_error},
    index::Index,
    packer::PACK_TARGET,
};
use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

/// The format that is written, and the newest that is read.
const VERSION: u32 = 1;
const FORMAT: &str = "format";
const FORMAT_BEGIN: &str = "unship pack store ";
const LOCK: &str = "lock";
const PACKS: &str = "packs";
const POINTS: &str = "points";

/// A store that is open for reading. Any number of readers may be open beside a writer.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    pub(super) packs: PathBuf,
    pub(super) points: PathBuf,
    /// Read from the packs when it is first needed, and again when they changed.
    pub(super) index: RwLock<Option<Arc<Index>>>,
    pub(super) open_packs: Mutex<HashMap<String, Arc<OpenPack>>>,
}

/// A store that is open for writing: the only one, until it is dropped.
#[derive(Debug)]
pub struct StoreWriter {
    pub(super) store: Store,
    /// When a pack is full, in bytes.
    pub(super) pack_target: u64,
    /// The lock goes when this closes.
    _lock: File,
}

impl Store {
    /// Opens an existing store for reading. It costs one small read.
    ///
    /// # Errors
    /// When there is no store in `dir`, or one of a newer format.
    pub fn open(dir: &Path) -> Result<Self> {
        let format = dir.join(FORMAT);
        let text = fs::read(&format).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_a_store(dir),
            _ => io_error("read", &format)(e),
        })?;
        let found = str::from_utf8(&text)
            .ok()
            .and_then(|text| {
                text.strip_prefix(FORMAT_BEGIN)?
                    .strip_suffix('\n')?
                    .parse()
                    .ok()
            })
            .filter(|&version: &u32| version > 0)
            .ok_or_else(|| not_a_store(dir))?;
        if found > VERSION {
            return Err(StoreError::NewerFormat {
                path: format,
                found,
                supported: VERSION,
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            packs: dir.join(PACKS),
            points: dir.join(POINTS),
            index: RwLock::default(),
            open_packs: Mutex::default(),
        })
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl StoreWriter {
    /// Opens a store for writing, and makes an empty one where there is none, in a folder that only
    /// its owner can enter.
    ///
    /// # Errors
    /// When another process writes to it ([`StoreError::Busy`]), when `dir` holds something else, or
    /// a store of a newer format.
    pub fn open(dir: &Path) -> Result<Self> {
        let exists = dir
            .join(FORMAT)
            .try_exists()
            .map_err(io_error("look at", dir))?;
        if !exists {
            prepare(dir)?;
        }
        let path = dir.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Busy {
                    path: dir.to_owned(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
        }
        let format = dir.join(FORMAT);
        if !format.try_exists().map_err(io_error("look at", &format))? {
            for sub in [PACKS, POINTS] {
                let sub = dir.join(sub);
                fs::create_dir_all(&sub).map_err(io_error("create", &sub))?;
            }
            write_file(&format, &[format!("{FORMAT_BEGIN}{VERSION}\n").as_bytes()])?;
            sync_dir(dir.parent().unwrap_or(Path::new("")))?;
        }
        Ok(Self {
            store: Store::open(dir)?,
            pack_target: PACK_TARGET,
            _lock: lock,
        })
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Makes the folder, or makes sure that it holds nothing but an unfinished, empty store.
fn prepare(dir: &Path) -> Result<()> {
    // What is stored may be private though the folder around it is not. Who wants to share a store
    // can widen this.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error("create", dir))?;
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let path = entry.path();
        let name = entry.file_name();
        let ours = if name == PACKS || name == POINTS {
            // A store that lost its format file still has restore points in it: not ours to guess.
            fs::read_dir(&path)
                .map_err(io_error("list", &path))?
                .next()
                .is_none()
        } else {
            name == LOCK
                || name == FORMAT
                || path.extension().is_some_and(|ending| ending == UNFINISHED)
        };
        if !ours {
            return Err(not_a_store(dir));
        }
    }
    Ok(())
}

fn not_a_store(dir: &Path) -> StoreError {
    StoreError::NotAStore {
        path: dir.to_owned(),
    }
}
