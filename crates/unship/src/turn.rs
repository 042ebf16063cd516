//! One job at a time, also where unship died and its job lives on: such a job still has a database
//! file, and would write to the next build that comes to lie where its own was.

use crate::error::{CliError, CliResult, exit};
use nix::unistd::dup;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The right to start a job. It is a locked file that the job inherits: the lock is there as long
/// as any process of the job is, whoever was killed, and no process id that was used again can be
/// taken for it.
pub struct Turn {
    file: File,
}

impl Turn {
    /// Takes it; an error names the job that still runs.
    pub fn take(path: &Path) -> CliResult<Self> {
        let failed = |doing: &str, e: &std::io::Error| {
            CliError::failed(format!("cannot {doing} {}: {e}", path.display()))
                .hint("run unship as the user who may write there")
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| failed("create the directory of", &e))?;
        }
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| failed("open", &e))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let mut who = String::new();
            // Who it is only makes the message better.
            let _ = file.read_to_string(&mut who);
            let who = if who.is_empty() {
                "a process of it".to_owned()
            } else {
                who
            };
            return Err(CliError::new(
                exit::BUSY,
                format!("a job of an unship that was killed still runs: {who}, or what it started"),
            )
            .hint("wait until it has ended, or stop it; what it builds is not published"));
        }
        // A file system without such locks cannot tell; there a person has to look.
        Ok(Self { file })
    }

    /// What the job inherits. To be dropped once it has been started.
    pub fn inherited(&self) -> Option<OwnedFd> {
        // Unlike all that the standard library opens, a duplicate stays open in a new program.
        dup(&self.file).ok()
    }

    /// Writes down who has it.
    pub fn is_of(&self, pid: u32, program: &str) {
        let mut file = &self.file;
        // It only makes a message better.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| write!(file, "process {pid} ({program})"));
    }
}

impl Drop for Turn {
    /// The job is over. What it left running in the background has nothing to do with it any more.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}
