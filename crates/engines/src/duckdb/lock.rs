//! Freezing a database file's writers, with open-file-description locks.
//!
//! DuckDB takes classic POSIX record locks: the writer a write lock on the whole file, a reader a
//! read lock. Those vanish when their process closes *any* descriptor of the file. OFD locks
//! (`fcntl(2)`, `F_OFD_SETLK`) conflict with them properly and belong to the one descriptor held
//! here, so that reading the file elsewhere in this process does not release them.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use unship_core::engine::{EngineError, ErrorKind};

/// What a lock keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// Nobody writes; readers go on.
    Writers,
    /// Nobody reads or writes.
    Everybody,
}

/// A held lock. It is released when this is dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    freeze: Freeze,
}

impl FileLock {
    /// Takes the lock, or says who holds the file.
    pub fn take(path: &Path, freeze: Freeze) -> Result<Self, EngineError> {
        let open = |write| {
            OpenOptions::new()
                .read(true)
                .write(write)
                .custom_flags(libc::O_CLOEXEC)
                .open(path)
        };
        // Only a descriptor that could write can keep readers out, now or later.
        let file = match open(true) {
            Err(_) if freeze == Freeze::Writers => open(false),
            file => file,
        };
        let file = file.map_err(|e| super::file::io_error("open", path, &e))?;
        let mut lock = Self { file, freeze };
        lock.change(path, freeze)?;
        Ok(lock)
    }

    /// Keeps others from more, or from less, in one step: at no moment is the file not locked.
    pub fn change(&mut self, path: &Path, freeze: Freeze) -> Result<(), EngineError> {
        let lock = whole_file(freeze);
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => {
                self.freeze = freeze;
                Ok(())
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                Err(busy(path, freeze, holder(&self.file, freeze)))
            }
            Err(e) => Err(super::file::io_error("lock", path, &io::Error::from(e))
                .hint("unship needs POSIX record locks; some network file systems have none")),
        }
    }

    /// Whether this is the lock on the file that is at `path` now.
    pub fn is_of(&self, path: &Path) -> Result<bool, EngineError> {
        let there = std::fs::metadata(path);
        match (self.file.metadata(), there) {
            (Ok(a), Ok(b)) => Ok((a.dev(), a.ino()) == (b.dev(), b.ino())),
            (Err(e), _) | (_, Err(e)) => Err(super::file::io_error("look at", path, &e)),
        }
    }

    /// What this lock keeps others from.
    pub fn freeze(&self) -> Freeze {
        self.freeze
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Who would be in the way of a lock, if anybody; takes nothing.
pub fn who_holds(path: &Path, freeze: Freeze) -> Result<Option<Holder>, EngineError> {
    let file = File::open(path).map_err(|e| super::file::io_error("open", path, &e))?;
    Ok(holder(&file, freeze))
}

/// A process that holds a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id; `None` where the lock is an OFD lock, which has no process.
    pub pid: Option<i32>,
    /// Its command line, where it can be read.
    pub command: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => write!(f, "process {pid} ({command})"),
            (Some(pid), None) => write!(f, "process {pid}"),
            (None, _) => f.write_str("another unship"),
        }
    }
}

fn whole_file(freeze: Freeze) -> libc::flock {
    let kind = match freeze {
        Freeze::Writers => libc::F_RDLCK,
        Freeze::Everybody => libc::F_WRLCK,
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn holder(file: &File, freeze: Freeze) -> Option<Holder> {
    let mut lock = whole_file(freeze);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    let pid = (lock.l_pid > 0).then_some(lock.l_pid);
    let command = pid.and_then(|pid| {
        let raw = std::fs::read(PathBuf::from(format!("/proc/{pid}/comm"))).ok()?;
        Some(String::from_utf8_lossy(&raw).trim().to_owned())
    });
    Some(Holder { pid, command })
}

fn busy(path: &Path, freeze: Freeze, holder: Option<Holder>) -> EngineError {
    let who = holder.map_or_else(|| "somebody".to_owned(), |h| h.to_string());
    let doing = match freeze {
        Freeze::Writers => "is writing to",
        Freeze::Everybody => "has open",
    };
    EngineError::new(ErrorKind::Busy, format!("{who} {doing} {}", path.display()))
        .hint("wait until it has finished, or stop it, and try again")
}
