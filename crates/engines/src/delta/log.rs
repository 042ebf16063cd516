//! A table's log as it lies in its directory: which versions there are, and what each commit says.
//!
//! Source: the Delta protocol, "Delta Log Entries" and "Checkpoints". A commit is one JSON action a
//! line in `_delta_log/<version with 20 digits>.json`; whoever makes that file first has it.

use super::lake::LOG;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use unship_core::engine::{EngineError, ErrorKind};

/// How many digits a version has in a file's name.
const DIGITS: usize = 20;

/// The member of unship's own in a commit's `commitInfo`.
pub const OWN: &str = "unship";

/// Which versions a log has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    commits: BTreeSet<u64>,
    checkpoints: BTreeSet<u64>,
}

/// The version of a file of a log, and whether it is a commit; `None` if it is neither a commit nor
/// a checkpoint.
fn version_of(name: &str) -> Option<(u64, bool)> {
    let (digits, rest) = name.split_at_checked(DIGITS)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let version = digits.parse().ok()?;
    match rest {
        ".json" => Some((version, true)),
        _ => {
            let checkpoint = rest.starts_with(".checkpoint.")
                && (rest.ends_with(".parquet") || rest.ends_with(".json"));
            checkpoint.then_some((version, false))
        }
    }
}

/// The file of a commit.
pub fn file(table: &Path, version: u64) -> PathBuf {
    table.join(LOG).join(format!("{version:020}.json"))
}

fn failed(path: &Path, error: io::Error) -> EngineError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ => ErrorKind::Io,
    };
    EngineError::new(kind, format!("cannot read {}", path.display())).because(error)
}

impl Log {
    /// Looks into a table's log; `None` if there is no table.
    pub fn read(table: &Path) -> Result<Option<Self>, EngineError> {
        let dir = table.join(LOG);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&dir, e)),
        };
        let mut log = Self {
            commits: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
        };
        for entry in entries {
            let name = entry.map_err(|e| failed(&dir, e))?.file_name();
            match name.to_str().and_then(version_of) {
                Some((version, true)) => drop(log.commits.insert(version)),
                Some((version, false)) => drop(log.checkpoints.insert(version)),
                None => {}
            }
        }
        Ok(log.latest().is_some().then_some(log))
    }

    /// The newest version.
    pub fn latest(&self) -> Option<u64> {
        self.commits.last().max(self.checkpoints.last()).copied()
    }

    /// Whether a version can still be put together: from a checkpoint, or from the very beginning.
    pub fn reaches(&self, version: u64) -> bool {
        let checkpoint = self.checkpoints.range(..=version).next_back();
        let first = checkpoint.map_or(0, |at| at.saturating_add(1));
        (first..=version).all(|v| self.commits.contains(&v))
    }
}

/// What a file is told by without reading it: its size and when it was written. Nothing, if it is not
/// there any more.
pub fn stamp(table: &Path, version: u64) -> String {
    let Ok(meta) = fs::metadata(file(table, version)) else {
        return String::new();
    };
    let at = meta.modified().ok();
    let at = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    format!("{} {}", meta.len(), at.unwrap_or_default().as_nanos())
}

/// The actions of a commit; `None` if its file is not there any more.
pub fn commit(table: &Path, version: u64) -> Result<Option<Vec<Value>>, EngineError> {
    let path = file(table, version);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&path, e)),
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let actions: Result<Vec<Value>, _> = lines.map(serde_json::from_str).collect();
    actions.map(Some).map_err(|e| {
        EngineError::new(
            ErrorKind::Corrupt,
            format!("{} is no commit", path.display()),
        )
        .because(e)
    })
}

/// What a commit says of itself.
pub fn info(actions: &[Value]) -> Option<&Value> {
    actions.iter().find_map(|action| action.get("commitInfo"))
}

/// A text that unship wrote into a commit.
pub fn own<'a>(actions: &'a [Value], key: &str) -> Option<&'a str> {
    info(actions)?.get(OWN)?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(names: &[&str]) -> Log {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        for name in names {
            fs::write(dir.path().join(LOG).join(name), "").unwrap();
        }
        Log::read(dir.path()).unwrap().unwrap()
    }

    #[test]
    fn a_version_is_reached_from_a_checkpoint_or_from_the_beginning() {
        let all = log(&[
            "00000000000000000000.json",
            "00000000000000000001.json",
            "00000000000000000003.json",
            "00000000000000000004.checkpoint.parquet",
            "00000000000000000005.json",
            "00000000000000000006.checkpoint.0000000001.0000000002.parquet",
            "00000000000000000001.00000000000000000003.compacted.json",
            "_last_checkpoint",
            "00000000000000000009.json.tmp",
        ]);
        assert_eq!(all.latest(), Some(6));
        let reached: Vec<u64> = (0..=6).filter(|v| all.reaches(*v)).collect();
        assert_eq!(reached, [0, 1, 4, 5, 6], "2 is lost, and 3 rests on it");
    }

    #[test]
    fn without_a_log_there_is_no_table_and_a_broken_commit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Log::read(dir.path()).unwrap(), None);
        fs::create_dir(dir.path().join(LOG)).unwrap();
        assert_eq!(Log::read(dir.path()).unwrap(), None, "an empty one is none");
        assert_eq!(commit(dir.path(), 0).unwrap(), None);
        fs::write(file(dir.path(), 0), "{\"commitInfo\":{}}\n{\"add\":").unwrap();
        let error = commit(dir.path(), 0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }
}
