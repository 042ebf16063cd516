//! What can go wrong in the store.

use super::chunk::ChunkId;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The result of a store's operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space (or quota) is left. What the store held before is whole.
    #[error(
        "the disk is full: cannot write `{}`; free some space and run it again \
         (nothing that was stored before is lost)",
        path.display()
    )]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// There is less space than the work needs, seen before anything was changed.
    #[error(
        "`{}` needs {needed} bytes of free disk and there are {available}; nothing was changed",
        path.display()
    )]
    NoRoom {
        /// The file to be written.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// The folder is something else.
    #[error(
        "`{}` is not a pack store: it has no readable `format` file; \
         restore that file or choose an empty folder",
        path.display()
    )]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// A file was written by a newer unship.
    #[error(
        "`{}` has format {found} and this unship reads up to {supported}: use a newer unship",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood here.
        supported: u32,
    },
    /// Another process writes to the store.
    #[error("another process is writing to the store `{}`: wait until it is done", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
    },
    /// A point's name or label cannot be part of a file name.
    #[error("`{name}` cannot name a restore point or a file in it: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Restore points never change once they are taken.
    #[error("restore point {point} already holds `{label}`")]
    PointExists {
        /// The point.
        point: String,
        /// The file's label in it.
        label: String,
    },
    /// There is no such point.
    #[error("the store has no restore point {point} with the file `{label}`")]
    NoSuchPoint {
        /// The point.
        point: String,
        /// The file's label in it.
        label: String,
    },
    /// A file of the store is not what was written.
    #[error("`{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A chunk that a point needs is in no readable pack.
    #[error(
        "restore point {point} (`{label}`) cannot be read: chunk {chunk} is in no readable pack"
    )]
    MissingChunk {
        /// The point.
        point: String,
        /// The file's label in it.
        label: String,
        /// The first chunk that is missing.
        chunk: ChunkId,
    },
    /// The database file changed while it was read.
    #[error(
        "`{}` changed while it was read: stop what writes to it and run it again \
         (nothing was kept of it)",
        path.display()
    )]
    Changed {
        /// The database file.
        path: PathBuf,
    },
    /// Only plain files can be kept.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// A restore never overwrites.
    #[error("`{}` exists already: a restore writes a new file", path.display())]
    TargetExists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// What was written reads back as something else.
    #[error(
        "`{}` does not read back as it was written, so it was not put to use: \
         check the disk it lies on",
        path.display()
    )]
    NotVerified {
        /// The file.
        path: PathBuf,
    },
    /// The caller stopped an in-place restore between two of its steps.
    #[error("the in-place restore of `{}` was stopped: {source}; run it again to finish", path.display())]
    Stopped {
        /// The database file.
        path: PathBuf,
        /// The caller's reason.
        source: io::Error,
    },
}

/// What is wrong with a damaged file of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Fewer bytes than it must have, or more.
    #[error("it has the wrong length")]
    Length,
    /// It does not begin or end as such a file does.
    #[error("it lacks the mark of its kind")]
    Mark,
    /// Its own digest does not agree with it.
    #[error("its digest does not match its {0}")]
    Digest(&'static str),
    /// Its digest agrees, and still it says something impossible.
    #[error("it contradicts itself: {0}")]
    Nonsense(&'static str),
    /// It belongs to another point or label than its name says.
    #[error("it holds restore point {point} (`{label}`)")]
    OtherPoint {
        /// The point that it holds.
        point: String,
        /// The label that it holds.
        label: String,
    },
    /// One chunk cannot be unpacked, or is not what its id says.
    #[error("chunk {0} is not what was stored")]
    Chunk(ChunkId),
}

/// Turns an I/O error into one that names the file; a full disk becomes its own kind.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::DiskFull { path }
            }
            _ => StoreError::Io {
                doing,
                path,
                source,
            },
        }
    }
}

/// A damaged file.
pub(super) fn damaged(path: &Path, problem: Problem) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        problem,
    }
}
