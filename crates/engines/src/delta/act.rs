//! Carrying out what a plan says, and telling what is true.

use super::action::{ABSENT, DeltaAction, YES};
use super::commit::{self, NONE};
use super::dir::Dir;
use super::kept::{Kept, Store};
use super::lake::Lake;
use super::log::{self, Log};
use super::reader::Reader;
use super::state;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::fault::boundary;

/// What it takes to change tables.
pub struct Hands<'a> {
    /// Where tables lie.
    pub lake: &'a Lake,
    /// What is retained.
    pub store: &'a Store,
    /// Reads versions.
    pub reader: &'a mut Reader,
}

fn unknown(subject: &str) -> EngineError {
    let text = format!("the plan asks for {subject:?}");
    EngineError::new(ErrorKind::Unsupported, text).hint("it may come from a newer unship")
}

impl Hands<'_> {
    /// Carries out one action.
    pub fn carry_out(&mut self, action: &DeltaAction) -> Result<(), EngineError> {
        match action {
            DeltaAction::Keep { kept } => {
                let mut all = match self.store.read(kept.release)? {
                    Some(there) => there,
                    None => Kept::new(kept.release),
                };
                all.add(kept.clone())?;
                self.store.write(&all)
            }
            DeltaAction::Rename { from, to, id } => self.rename(from, to, id),
            DeltaAction::Restore(restore) => {
                let dir = self.lake.dir(&restore.path);
                commit::carry_out(self.reader, &dir, restore)
            }
            DeltaAction::Empty(empty) => {
                let dir = self.lake.dir(&empty.path);
                commit::empty(self.reader, &dir, empty)
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str, id: &str) -> Result<(), EngineError> {
        if self.table(from)? != id {
            let text = format!("{from} is another table than the one that was planned with");
            return Err(EngineError::new(ErrorKind::Busy, text).hint("plan again"));
        }
        let (Dir::Disk(old), Dir::Disk(new)) = (self.lake.dir(from), self.lake.dir(to)) else {
            let text = format!("{from} cannot be renamed where it lies");
            return Err(EngineError::new(ErrorKind::Unsupported, text).hint("plan again"));
        };
        if new.exists() {
            let text = format!("{} is there already", new.display());
            return Err(EngineError::new(ErrorKind::Refused, text)
                .hint("move it out of the way; unship overwrites nothing"));
        }
        let failed = |e: io::Error| {
            let kind = match e.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                _ => ErrorKind::Io,
            };
            let text = format!("cannot rename {} to {}", old.display(), new.display());
            EngineError::new(kind, text).because(e)
        };
        boundary("rename begun");
        fs::rename(&old, &new).map_err(failed)?;
        boundary("renamed");
        let folder = new.parent().unwrap_or(Path::new("/"));
        File::open(folder)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)
    }

    /// What is true now of a subject.
    pub fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let (word, of) = subject.split_once(' ').ok_or_else(|| unknown(subject))?;
        let read = || unknown(subject);
        match word {
            "kept" => {
                let (release, digest) = of.split_once(' ').ok_or_else(read)?;
                let kept = self.store.read(release.parse().map_err(|_| read())?)?;
                let there = kept.is_some_and(|kept| kept.parts.contains(digest));
                Ok(if there { YES } else { "no" }.to_owned())
            }
            "table" => {
                let [path]: [String; 1] = serde_json::from_str(of).map_err(|_| read())?;
                self.table(&path)
            }
            "released" => {
                let (path, after): (String, u64) = serde_json::from_str(of).map_err(|_| read())?;
                self.released(&path, after)
            }
            "files" => {
                let (path, version): (String, u64) =
                    serde_json::from_str(of).map_err(|_| read())?;
                let dir = self.lake.dir(&path);
                match Log::read(&dir)?.is_some_and(|log| log.reaches(version)) {
                    true => Ok(state::digest(&*self.reader.version(&path, &dir, version)?)),
                    false => Ok(ABSENT.to_owned()),
                }
            }
            "readable" => {
                let (path, version, files): (String, u64, String) =
                    serde_json::from_str(of).map_err(|_| read())?;
                self.readable(&path, version, &files)
            }
            _ => Err(read()),
        }
    }

    /// The identity of the table in a directory.
    fn table(&mut self, path: &str) -> Result<String, EngineError> {
        let dir = self.lake.dir(path);
        match Log::read(&dir)?.and_then(|log| log.latest()) {
            None => Ok(ABSENT.to_owned()),
            Some(latest) => Ok(self.reader.version(path, &dir, latest)?.id().to_owned()),
        }
    }

    /// What the newest commit of unship's bears, of those after a version. Commits of others in
    /// between and behind it change nothing in that.
    fn released(&self, path: &str, after: u64) -> Result<String, EngineError> {
        let dir = self.lake.dir(path);
        let Some(latest) = Log::read(&dir)?.and_then(|log| log.latest()) else {
            return Ok(ABSENT.to_owned());
        };
        if latest < after {
            return Ok(format!("at version {latest} only"));
        }
        for version in (after.saturating_add(1)..=latest).rev() {
            let actions = log::commit(&dir, version)?.unwrap_or_default();
            if let Some(token) = log::own(&actions, "release") {
                return Ok(token.to_owned());
            }
        }
        Ok(NONE.to_owned())
    }

    /// Whether a version can become the newest one, or why not.
    fn readable(&mut self, path: &str, version: u64, files: &str) -> Result<String, EngineError> {
        let dir = self.lake.dir(path);
        let Some(latest) = Log::read(&dir)?.and_then(|log| log.latest()) else {
            return Ok(ABSENT.to_owned());
        };
        let now = self.reader.version(path, &dir, latest)?;
        match commit::readable(self.reader, path, &dir, version, files, &now) {
            Ok(_) => Ok(YES.to_owned()),
            Err(error) if error.kind == ErrorKind::Io => Err(error),
            Err(error) => Ok(error.message),
        }
    }
}
