//! A table's log as it lies in its directory: which versions there are, and what each commit says.
//!
//! Source: the Delta protocol, "Delta Log Entries" and "Checkpoints". A commit is one JSON action a
//! line in `_delta_log/<version with 20 digits>.json`; whoever makes that file first has it.

use super::dir::Dir;
use super::lake::LOG;
use serde_json::Value;
use std::collections::BTreeSet;
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
    /// Whether its writers agree by another service on who commits, and put a commit into the log
    /// only after that: one that stands there by then would be overwritten.
    pub agreed_on_elsewhere: bool,
}

/// Whether a file or a directory of a log is where a commit waits until DynamoDB has said whose turn
/// it is: Spark's `S3DynamoDBLogStore` has one name for it, delta-rs another.
fn is_of_an_agreement(name: &str) -> bool {
    name == ".tmp" || (name.starts_with("_commit_") && name.ends_with(".json.tmp"))
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

/// The name of a commit's file in a log.
pub fn file(version: u64) -> String {
    format!("{version:020}.json")
}

impl Log {
    /// Looks into a table's log; `None` if there is no table.
    pub fn read(table: &Dir) -> Result<Option<Self>, EngineError> {
        let Some(names) = table.join(LOG).names()? else {
            return Ok(None);
        };
        let mut log = Self {
            commits: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            agreed_on_elsewhere: false,
        };
        for name in names {
            match version_of(&name) {
                Some((version, true)) => drop(log.commits.insert(version)),
                Some((version, false)) => drop(log.checkpoints.insert(version)),
                None => log.agreed_on_elsewhere |= is_of_an_agreement(&name),
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

/// What the file of a commit is told by without reading it. Nothing, if it is not there any more.
pub fn stamp(table: &Dir, version: u64) -> String {
    table.join(LOG).stamp(&file(version))
}

/// The actions of a commit; `None` if its file is not there any more.
pub fn commit(table: &Dir, version: u64) -> Result<Option<Vec<Value>>, EngineError> {
    Ok(commits(table, vec![version])?.pop().and_then(|(_, a)| a))
}

/// A version, and the actions of its commit; `None` if its file is not there any more.
pub type Commit = (u64, Option<Vec<Value>>);

/// The actions of several commits, in this order.
pub fn commits(table: &Dir, versions: Vec<u64>) -> Result<Vec<Commit>, EngineError> {
    let dir = table.join(LOG);
    let texts = dir.read_all(versions.iter().copied().map(file).collect())?;
    let both = versions.into_iter().zip(texts);
    both.map(|(version, text)| {
        let Some(text) = text else {
            return Ok((version, None));
        };
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let actions: Result<Vec<Value>, _> = lines.map(serde_json::from_str).collect();
        let actions = actions.map_err(|e| {
            let text = format!("{dir}/{} is no commit", file(version));
            EngineError::new(ErrorKind::Corrupt, text).because(e)
        })?;
        Ok((version, Some(actions)))
    })
    .collect()
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
    use std::fs;

    fn log(names: &[&str]) -> Log {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        for name in names {
            fs::write(dir.path().join(LOG).join(name), "").unwrap();
        }
        Log::read(&Dir::Disk(dir.path().to_owned()))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_log_whose_writers_agree_elsewhere_is_told() {
        let commit = "00000000000000000000.json";
        assert!(!log(&[commit, "_last_checkpoint"]).agreed_on_elsewhere);
        assert!(log(&[commit, ".tmp"]).agreed_on_elsewhere);
        assert!(log(&[commit, "_commit_7b3f.json.tmp"]).agreed_on_elsewhere);
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
        let table = Dir::Disk(dir.path().to_owned());
        assert_eq!(Log::read(&table).unwrap(), None);
        fs::create_dir(dir.path().join(LOG)).unwrap();
        assert_eq!(Log::read(&table).unwrap(), None, "an empty one is none");
        assert_eq!(commit(&table, 0).unwrap(), None);
        let broken = dir.path().join(LOG).join(file(0));
        fs::write(broken, "{\"commitInfo\":{}}\n{\"add\":").unwrap();
        let error = commit(&table, 0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }
}
