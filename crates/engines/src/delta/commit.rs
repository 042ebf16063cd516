//! The commit that makes an older version of a table the newest one.
//!
//! It adds the files that the older version has and the current one does not, removes the others, and
//! brings back the metadata. Each action is written as the log has it, deletion vectors included, and
//! each file that goes is named by the very path that it was added by: a path that is decoded and
//! encoded again names another file, which would stay (as a file without its deletion vector did in
//! delta-rs#4613). The protocol never goes back.

use super::files;
use super::log::{self, OWN};
use super::reader::{File, Reader, Version};
use super::{features, state};
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::CommitOrBytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fs::File as Disk;
use std::path::Path;
use unship_core::engine::{EngineError, ErrorKind, FREE_SPACE};
use unship_core::fault::boundary;
use uuid::Uuid;

/// What a table bears that no commit of unship's has changed.
pub const NONE: &str = "none";

/// Which version becomes the newest one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The table's directory below the root.
    pub path: String,
    /// The table's name, for a person.
    pub table: String,
    /// The newest version, from which this was planned.
    pub from: u64,
    /// The version that comes back.
    pub to: u64,
    /// The digest of that version's files.
    pub files: String,
    /// What its rows are told by.
    pub content: String,
    /// What the commit bears, by which it is told from all others.
    pub token: String,
    /// What the log says to a person.
    pub says: String,
}

/// The actions of the commit, in order.
fn actions(restore: &Restore, now: &Version, then: &Version, at: Timestamp) -> Vec<Value> {
    let (had, has) = (files::keys(then), files::keys(now));
    let come: Vec<_> = then
        .files
        .iter()
        .filter(|f| !has.contains(&files::key(f)))
        .collect();
    let go: Vec<_> = now
        .files
        .iter()
        .filter(|f| !had.contains(&files::key(f)))
        .collect();
    let at = at.as_millisecond();
    let mut out = vec![json!({ "commitInfo": {
        "timestamp": at,
        "operation": "RESTORE",
        "operationParameters": { "version": restore.to.to_string() },
        "readVersion": restore.from,
        "isolationLevel": "Serializable",
        "isBlindAppend": false,
        "operationMetrics": {
            "numRestoredFiles": come.len().to_string(),
            "numRemovedFiles": go.len().to_string(),
        },
        "engineInfo": concat!("unship/", env!("CARGO_PKG_VERSION")),
        "userMetadata": restore.says,
        OWN: { "release": restore.token, "content": restore.content },
    }})];
    if now.metadata != then.metadata {
        out.push(json!({ "metaData": then.metadata }));
    }
    out.extend(go.into_iter().map(|file| removed(file, at)));
    out.extend(come.into_iter().map(added));
    out
}

/// A file that goes. All of `add` that a `remove` can have goes with it (protocol, "Add File and
/// Remove File"): who undoes this needs it.
fn removed(file: &File, at: i64) -> Value {
    let mut remove = Map::new();
    for (key, value) in &file.add {
        if !matches!(key.as_str(), "modificationTime" | "clusteringProvider") {
            remove.insert(key.clone(), value.clone());
        }
    }
    remove.insert("deletionTimestamp".to_owned(), at.into());
    remove.insert("dataChange".to_owned(), true.into());
    remove.insert("extendedFileMetadata".to_owned(), true.into());
    json!({ "remove": remove })
}

fn added(file: &File) -> Value {
    let mut add = file.add.clone();
    add.insert("dataChange".to_owned(), true.into());
    json!({ "add": add })
}

fn moved(restore: &Restore) -> EngineError {
    EngineError::new(
        ErrorKind::Conflict,
        format!(
            "somebody committed to {} since this was planned",
            restore.table
        ),
    )
    .hint("nothing was changed by it; plan again: the plan then says what they did")
}

/// Carries it out. It happens wholly or not at all: a log takes one commit of each number.
pub fn carry_out(reader: &mut Reader, dir: &Path, restore: &Restore) -> Result<(), EngineError> {
    let log = log::Log::read(dir)?;
    if log.and_then(|log| log.latest()) != Some(restore.from) {
        return Err(moved(restore));
    }
    let now = reader.version(&restore.table, dir, restore.from)?;
    let then = readable(
        reader,
        &restore.table,
        dir,
        restore.to,
        &restore.files,
        &now,
    )?;
    let next = restore.from.saturating_add(1);
    let lines: Vec<String> = actions(restore, &now, &then, Timestamp::now())
        .iter()
        .map(Value::to_string)
        .collect();
    let bytes = format!("{}\n", lines.join("\n")).into_bytes();
    boundary("commit begun");
    let url = super::reader::url(dir)?;
    let written = reader.run(&format!("commit to {}", restore.table), async move {
        let store = super::reader::store(&url).map_err(|e| TransactionError::LogStoreError {
            msg: "the table cannot be reached".to_owned(),
            source: Box::new(e),
        })?;
        let bytes = CommitOrBytes::LogBytes(bytes.into());
        store.write_commit_entry(next, bytes, Uuid::new_v4()).await
    })?;
    boundary("commit written");
    if let Err(error) = written {
        let ours = log::commit(dir, next)?;
        let ours =
            ours.is_some_and(|actions| log::own(&actions, "release") == Some(&restore.token));
        return match error {
            _ if ours => durable(dir, next),
            TransactionError::VersionAlreadyExists(_) => Err(moved(restore)),
            error => Err(failed(restore, error)),
        };
    }
    durable(dir, next)
}

fn failed(restore: &Restore, error: TransactionError) -> EngineError {
    let words = unship_core::execute::chain(&error);
    let text = format!("could not commit to {}", restore.table);
    match () {
        () if words.contains("No space left") => {
            EngineError::new(ErrorKind::DiskFull, text).hint(FREE_SPACE)
        }
        () if words.contains("ermission denied") => EngineError::new(ErrorKind::Permission, text),
        () => EngineError::new(ErrorKind::Io, text),
    }
    .because(error)
}

/// Returns when the commit survives a power loss.
fn durable(dir: &Path, version: u64) -> Result<(), EngineError> {
    let file = log::file(dir, version);
    let sync = |path: &Path| Disk::open(path).and_then(|file| file.sync_all());
    let folder = file.parent().unwrap_or(dir);
    sync(&file).and_then(|()| sync(folder)).map_err(|e| {
        let text = format!("cannot make sure that {} stays", file.display());
        EngineError::new(ErrorKind::Io, text).because(e)
    })
}

/// An older version that can become the newest one: it is the one that is meant, and all that it
/// needs is there.
///
/// # Errors
/// What is missing, or what the table has that is not kept.
pub fn readable(
    reader: &mut Reader,
    table: &str,
    dir: &Path,
    to: u64,
    files: &str,
    now: &Version,
) -> Result<std::sync::Arc<Version>, EngineError> {
    let reached = log::Log::read(dir)?.is_some_and(|log| log.reaches(to));
    if !reached {
        return Err(EngineError::new(
            ErrorKind::Missing,
            format!("{table} cannot go back: its version {to} was cleaned out of its log"),
        )
        .hint(
            "`--select` leaves this table out; `unship doctor` says how to keep logs long enough",
        ));
    }
    let then = reader.version(table, dir, to)?;
    if let Some(why) = features::refused_between(now, &then) {
        return Err(EngineError::new(
            ErrorKind::Unsupported,
            format!("{table} {why}: unship cannot take it back"),
        )
        .hint(features::HINT));
    }
    if state::digest(&then) != files {
        return Err(EngineError::new(
            ErrorKind::Missing,
            format!("version {to} of {table} is not what it was: the table was made anew"),
        )
        .hint("`--select` leaves this table out"));
    }
    files::there(table, dir, &then, now)?;
    Ok(then)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, metadata: Value, files: &[Value]) -> Version {
        let file = |add: &Value| File {
            add: add.as_object().unwrap().clone(),
        };
        Version {
            number,
            protocol: json!({}),
            metadata,
            files: files.iter().map(file).collect(),
        }
    }

    fn restore() -> Restore {
        Restore {
            path: "s/t".to_owned(),
            table: "lake.s.t".to_owned(),
            from: 7,
            to: 4,
            files: "t 1".to_owned(),
            content: "t 2".to_owned(),
            token: "R5 abc".to_owned(),
            says: "unship R5".to_owned(),
        }
    }

    /// Every action as it will stand in the log: a deletion vector goes and comes with its file, a
    /// path stays encoded as it was, a null stays a partition's value.
    #[test]
    fn actions_say_what_the_log_said() {
        let stays = json!({"path": "stays", "partitionValues": {}, "size": 1,
            "modificationTime": 1});
        let plain = json!({"path": "p=%C3%A9%20b/x", "partitionValues": {"p": null}, "size": 2,
            "modificationTime": 3, "stats": "{\"numRecords\":2}", "tags": {"a": "b"}});
        let mut deleted = plain.clone();
        deleted["deletionVector"] = json!({"storageType": "i", "pathOrInlineDv": "abc",
            "sizeInBytes": 3, "cardinality": 1});
        let then = version(
            4,
            json!({"id": "t", "configuration": {}}),
            &[stays.clone(), plain],
        );
        let now = version(
            7,
            json!({"id": "t", "configuration": {"owner": "anna"}}),
            &[stays, deleted],
        );
        let at = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        let mut all = actions(&restore(), &now, &then, at);
        all[0]["commitInfo"]["engineInfo"] = "unship/…".into();
        let text: Vec<_> = all.iter().map(crate::iceberg::canonical).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn metadata_that_is_the_same_is_not_written() {
        let same = version(4, json!({"id": "t"}), &[]);
        let all = actions(&restore(), &same, &same, Timestamp::now());
        assert_eq!(all.len(), 1);
    }
}
