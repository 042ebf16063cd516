//! Health: of production, of what is retained, and of what unship needs.

use super::engine::DuckDb;
use super::file::{self, io_error};
use super::header;
use super::layout::DbFile;
use super::lock::{Freeze, who_holds};
use super::store::{Store, StoreError};
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use unship_core::engine::{Diagnosis, EngineError, ErrorKind, FREE_SPACE, Level, OnProgress};

/// CIFS and SMB 2, which `nix` does not name (`linux/magic.h`).
const CIFS: FsType = FsType(0xff53_4d42);
const SMB2: FsType = FsType(0xfe53_4d42);

/// Whether a file's main header is zero, as an in-place restore leaves it until its last step.
pub(super) fn sealed(path: &Path) -> bool {
    matches!(
        headers(path).map(|h| header::parse(&h)),
        Ok(Err(header::HeaderError::Sealed))
    )
}

/// Proves, without DuckDB, that a file has sound headers and what they point to.
///
/// How many blocks it should have cannot be told: a checkpoint that gives free blocks at the file's
/// end back leaves the larger count in the header.
pub(super) fn readable(path: &Path) -> Result<header::Header, EngineError> {
    let corrupt =
        |what: String| EngineError::new(ErrorKind::Corrupt, format!("{} {what}", path.display()));
    let head = headers(path)?;
    let parsed =
        header::parse(&head).map_err(|e| corrupt(format!("is no whole database file: {e}")))?;
    let size = fs::metadata(path)
        .map_err(|e| io_error("look at", path, &e))?
        .len();
    if let Some(active) = parsed.active {
        let block = u64::from(active.block_size);
        let body = size.saturating_sub(header::BLOCKS_START);
        if body % block != 0 {
            return Err(corrupt(format!(
                "has {size} bytes and ends within a block: it was cut off"
            )));
        }
        let blocks = body / block;
        let ends = [active.meta_block, active.free_list].into_iter();
        if let Some(last) = ends
            .filter_map(header::block_of)
            .max()
            .filter(|b| *b >= blocks)
        {
            return Err(corrupt(format!(
                "has {blocks} blocks and its header points to block {last}: it was cut off"
            )));
        }
    }
    Ok(parsed)
}

fn headers(path: &Path) -> Result<Vec<u8>, EngineError> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|f| f.take(header::BLOCKS_START).read_to_end(&mut head))
        .map_err(|e| io_error("read", path, &e))?;
    Ok(head)
}

struct Report(Vec<Diagnosis>);

impl Report {
    fn say(&mut self, level: Level, subject: impl Into<String>, finding: impl Into<String>) {
        self.0.push(Diagnosis {
            level,
            subject: subject.into(),
            finding: finding.into(),
            hint: None,
        });
    }

    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    fn error(&mut self, subject: impl Into<String>, error: EngineError) {
        self.say(Level::Error, subject, unship_core::execute::chain(&error));
        if let (Some(hint), Some(last)) = (error.hint, self.0.last_mut()) {
            last.hint = Some(hint);
        }
    }
}

/// Looks at everything that unship depends on.
pub(super) fn examine(db: &mut DuckDb) -> Vec<Diagnosis> {
    let mut report = Report(Vec::new());
    let files = db.files.clone();
    for file in &files {
        examine_file(file, &mut report);
    }
    match db.sessions.worker() {
        Ok(worker) => {
            let text = format!(
                "{} with DuckDB {}",
                worker.program().display(),
                worker.duckdb_version()
            );
            report.say(Level::Ok, "worker", text);
        }
        Err(error) => {
            report.say(
                Level::Warning,
                "worker",
                unship_core::execute::chain(&error),
            );
            report.hint(
                "whole files can be restored without it; fingerprints, diffs and single relations \
                 cannot",
            );
        }
    }
    report.0
}

fn examine_file(file: &DbFile, report: &mut Report) {
    let name = file.path.display().to_string();
    if !file.path.exists() {
        report.say(
            Level::Note,
            &name,
            "is not there yet; the first run makes it",
        );
        return;
    }
    match readable(&file.path) {
        Ok(head) => {
            let size = fs::metadata(&file.path).map_or(0, |m| m.len());
            let version = head
                .storage_version()
                .map_or_else(String::new, |v| format!(", storage version {v}"));
            let encrypted = if head.encrypted { ", encrypted" } else { "" };
            report.say(
                Level::Ok,
                &name,
                format!("{} MB{version}{encrypted}", size >> 20),
            );
            if head.encrypted {
                report
                    .hint("only the whole file can be restored: unship has no key to look inside");
            }
        }
        Err(error) => report.error(&name, error),
    }
    match who_holds(&file.path, Freeze::Writers) {
        Ok(None) => report.say(Level::Ok, &name, "nobody is writing to it"),
        Ok(Some(holder)) => {
            report.say(
                Level::Warning,
                &name,
                format!("{holder} has it open for writing"),
            );
            report.hint("a release or a rollback has to wait until it is closed");
        }
        Err(error) => report.error(&name, error),
    }
    match file::has_wal(&file.path) {
        Ok(true) => {
            report.say(
                Level::Warning,
                &name,
                "has changes that are only in its write-ahead log",
            );
            report.hint("the next run or rollback brings them into the file first");
        }
        Ok(false) => {}
        Err(error) => report.error(&name, error),
    }
    examine_disk(file, report);
}

fn examine_disk(file: &DbFile, report: &mut Report) {
    let dir = file.path.parent().unwrap_or(Path::new("/"));
    let name = dir.display().to_string();
    match statfs(dir).map(|s| s.filesystem_type()) {
        Ok(NFS_SUPER_MAGIC | SMB_SUPER_MAGIC | CIFS | SMB2) => {
            report.say(Level::Warning, &name, "is on a network file system");
            report.hint(
                "locks and atomic renames were not tested there: keep the database on a local disk",
            );
        }
        Ok(_) => {}
        Err(e) => report.error(
            &name,
            io_error("look at the file system of", dir, &e.into()),
        ),
    }
    match file::can_reflink(&file.home()) {
        Ok(true) => report.say(
            Level::Ok,
            &name,
            "clones share blocks (reflink): building aside copies nothing",
        ),
        Ok(false) => {
            report.say(
                Level::Note,
                &name,
                "clones are copies: this file system has no reflink",
            );
            report.hint("XFS and btrfs have it");
        }
        Err(error) => report.error(&name, error),
    }
    let size = fs::metadata(&file.path).map_or(0, |m| m.len());
    match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let level = if free < 2 * size {
                Level::Warning
            } else {
                Level::Ok
            };
            report.say(level, &name, format!("{} MB free", free >> 20));
            if level == Level::Warning {
                report.hint(
                    "a build aside needs as much as the database has, and a restore point stays",
                );
            }
        }
        Err(e) => report.error(
            &name,
            io_error("look at the file system of", dir, &e.into()),
        ),
    }
    let metadata = fs::metadata(dir);
    if metadata.is_ok_and(|m| m.permissions().readonly()) {
        report.say(Level::Error, &name, "cannot be written to");
        report.hint("restore points lie beside the database file");
    }
}

/// Checks what is retained of all files: every packed byte, and of plain files the headers. Of a file
/// that is renamed into place nobody computes a hash.
pub(super) fn fsck(files: &[DbFile], on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
    let mut report = Report(Vec::new());
    for file in files {
        if file.path.exists() {
            match readable(&file.path) {
                Ok(_) => report.say(
                    Level::Ok,
                    file.path.display().to_string(),
                    "has whole headers",
                ),
                Err(error) => report.error(file.path.display().to_string(), error),
            }
        }
        for (release, at) in super::retained::points_of(file)? {
            if at.plain.is_some() {
                let path = file.point(release);
                match readable(&path) {
                    Ok(_) => report.say(Level::Ok, path.display().to_string(), "has whole headers"),
                    Err(error) => report.error(path.display().to_string(), error),
                }
            }
        }
        if file.store().join("format").exists() {
            let store = Store::open(&file.store())?;
            let findings = store.fsck(&|p| on(p.doing, p.done, p.total))?;
            let name = file.store().display().to_string();
            if !findings.iter().any(|f| f.is_damage()) {
                report.say(Level::Ok, &name, "every packed block is what was stored");
            }
            for finding in findings {
                let level = if finding.is_damage() {
                    Level::Error
                } else {
                    Level::Note
                };
                report.say(level, &name, finding.to_string());
            }
        }
    }
    Ok(report.0)
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::DiskFull { .. } | StoreError::NoRoom { .. } => ErrorKind::DiskFull,
            StoreError::Busy { .. } | StoreError::Changed { .. } => ErrorKind::Busy,
            StoreError::Damaged { .. }
            | StoreError::MissingChunk { .. }
            | StoreError::NotVerified { .. } => ErrorKind::Corrupt,
            StoreError::NoSuchPoint { .. } => ErrorKind::Missing,
            StoreError::NewerFormat { .. } | StoreError::NotAStore { .. } => ErrorKind::Unsupported,
            StoreError::Stopped { .. } => ErrorKind::Interrupted,
            StoreError::Io { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                ErrorKind::Permission
            }
            _ => ErrorKind::Io,
        };
        let hint = match &error {
            StoreError::DiskFull { .. } | StoreError::NoRoom { .. } => Some(FREE_SPACE),
            StoreError::Damaged { .. } | StoreError::MissingChunk { .. } => {
                Some("`unship fsck` names all that is damaged; what it does not name is whole")
            }
            StoreError::NotVerified { .. } => Some("nothing was changed by it; check the disk"),
            StoreError::NoSuchPoint { .. } => Some(WHERE_POINTS_ARE),
            StoreError::NewerFormat { .. } => Some("use the unship that wrote it, or a newer one"),
            StoreError::NotAStore { .. } => Some(
                "put the file `format` in it back from a backup; if nothing in it is unship's, \
                 move it away",
            ),
            StoreError::Busy { .. } => Some("wait until it is done and try again"),
            StoreError::Changed { .. } => Some("stop what writes to it and try again"),
            StoreError::Stopped { .. } => Some("mend the cause and run `unship resume`"),
            _ if kind == ErrorKind::Permission => {
                Some("run unship as the user who owns the database file")
            }
            _ => None,
        };
        let e = EngineError::new(kind, error.to_string());
        match hint {
            Some(hint) => e.hint(hint),
            None => e,
        }
    }
}

/// What to do where a restore point is not there.
pub(super) const WHERE_POINTS_ARE: &str =
    "`unship log` shows which releases have a restore point; pinned ones stay";

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose header says `count` blocks and points to block `meta`, and which has `blocks`.
    fn file(count: u64, meta: u64, blocks: usize, extra: usize) -> tempfile::NamedTempFile {
        const PAGE: usize = header::PAGE;
        let block = header::MIN_BLOCK_SIZE as usize;
        let mut bytes = vec![0; 3 * PAGE + blocks * block + extra];
        bytes[8..12].copy_from_slice(b"DUCK");
        let mut word = |at: usize, value: u64| {
            bytes[PAGE + at..PAGE + at + 8].copy_from_slice(&value.to_le_bytes());
        };
        for (at, value) in [
            (8, 1),
            (16, meta),
            (24, u64::MAX),
            (32, count),
            (40, block as u64),
        ] {
            word(at, value);
        }
        word(48, 2048);
        word(56, 68);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    /// Seen with DuckDB 1.5.5: after a table was rebuilt twice, the header says 7 blocks and the
    /// file has 4.
    #[test]
    fn a_file_that_gave_free_blocks_back_is_whole() {
        assert!(readable(file(7, 10 << 56, 4, 0).path()).is_ok());
    }

    #[test]
    fn an_error_of_the_store_says_what_to_do() {
        let path = || Path::new("store").to_owned();
        for error in [
            StoreError::DiskFull { path: path() },
            StoreError::NotAStore { path: path() },
            StoreError::Busy { path: path() },
            StoreError::NotVerified { path: path() },
            StoreError::NoSuchPoint {
                point: "R1".to_owned(),
                label: "shop.duckdb".to_owned(),
            },
        ] {
            let text = error.to_string();
            assert!(EngineError::from(error).hint.is_some(), "{text}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_not() {
        for cut in [
            file(4, 0, 3, 100),
            file(4, 3, 3, 0),
            file(4, 5 << 56 | 3, 2, 0),
        ] {
            let error = readable(cut.path()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt);
            assert!(error.message.contains("cut off"), "{error}");
        }
    }
}
