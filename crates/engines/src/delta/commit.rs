//! The commit that makes an older version of a table the newest one.
//!
//! It adds the files that the older version has and the current one does not, removes the others, and
//! brings back the metadata. Each action is written as the log has it, deletion vectors included, and
//! each file that goes is named by the very path that it was added by: a path that is decoded and
//! encoded again names another file, which would stay (as a file without its deletion vector did in
//! delta-rs#4613). The protocol never goes back.

use super::dir::Dir;
use super::files;
use super::lake::LOG;
use super::log::{self, OWN};
use super::reader::{File, Reader, Version};
use super::threads::run;
use super::{bucket, features, state};
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::CommitOrBytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use unship_core::engine::{EngineError, ErrorKind, FREE_SPACE};
use unship_core::fault::boundary;
use uuid::Uuid;

/// What commits say of their writer.
const ENGINE_INFO: &str = concat!("unship/", env!("CARGO_PKG_VERSION"));

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
    /// Whether the table is no part of production afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
}

/// Takes all rows out of a table where its directory cannot be renamed: it is no part of production
/// then, and every version of it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {
    /// The table's directory below the root.
    pub path: String,
    /// The table's name, for a person.
    pub table: String,
    /// The newest version, from which this was planned.
    pub from: u64,
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
    let mut own = json!({ "release": restore.token, "content": restore.content });
    if restore.aside {
        own[state::ASIDE] = "yes".into();
    }
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
        "engineInfo": ENGINE_INFO,
        "userMetadata": restore.says,
        OWN: own,
    }})];
    if now.metadata != then.metadata {
        out.push(json!({ "metaData": then.metadata }));
    }
    out.extend(go.into_iter().map(|file| removed(file, at)));
    out.extend(come.into_iter().map(added));
    out
}

/// The actions of a commit after which the table has no rows, in order.
fn without_files(empty: &Empty, now: &Version, at: Timestamp) -> Vec<Value> {
    let at = at.as_millisecond();
    let info = json!({ "commitInfo": {
        "timestamp": at,
        "operation": "DELETE",
        "operationParameters": { "predicate": "[\"true\"]" },
        "readVersion": empty.from,
        "isolationLevel": "Serializable",
        "isBlindAppend": false,
        "operationMetrics": { "numRemovedFiles": now.files.len().to_string() },
        "engineInfo": ENGINE_INFO,
        "userMetadata": empty.says,
        OWN: { "release": empty.token, state::ASIDE: "yes" },
    }});
    let gone = now.files.iter().map(|file| removed(file, at));
    std::iter::once(info).chain(gone).collect()
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

fn moved(table: &str) -> EngineError {
    EngineError::new(
        ErrorKind::Conflict,
        format!("somebody committed to {table} since this was planned"),
    )
    .hint("nothing was changed by it; plan again: the plan then says what they did")
}

/// The version that a table must still be at.
fn unmoved(
    reader: &mut Reader,
    table: &str,
    dir: &Dir,
    from: u64,
) -> Result<Arc<Version>, EngineError> {
    let log = log::Log::read(dir)?;
    match log.and_then(|log| log.latest()) == Some(from) {
        true => reader.version(table, dir, from),
        false => Err(moved(table)),
    }
}

/// Carries it out. It happens wholly or not at all: a log takes one commit of each number.
pub fn carry_out(reader: &mut Reader, dir: &Dir, restore: &Restore) -> Result<(), EngineError> {
    let now = unmoved(reader, &restore.table, dir, restore.from)?;
    let then = readable(
        reader,
        &restore.table,
        dir,
        restore.to,
        &restore.files,
        &now,
    )?;
    let actions = actions(restore, &now, &then, Timestamp::now());
    write(dir, &restore.table, restore.from, &restore.token, &actions)
}

/// Carries it out. It happens wholly or not at all.
pub fn empty(reader: &mut Reader, dir: &Dir, empty: &Empty) -> Result<(), EngineError> {
    let now = unmoved(reader, &empty.table, dir, empty.from)?;
    if let Some(why) = features::refused_between(&now, &now) {
        return Err(refused(&empty.table, &why));
    }
    let actions = without_files(empty, &now, Timestamp::now());
    write(dir, &empty.table, empty.from, &empty.token, &actions)
}

/// Puts a commit behind a version, if none is there.
fn write(
    dir: &Dir,
    table: &str,
    from: u64,
    token: &str,
    actions: &[Value],
) -> Result<(), EngineError> {
    let next = from.saturating_add(1);
    let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
    let bytes = format!("{}\n", lines.join("\n")).into_bytes();
    if let Dir::Store(prefix) = dir.join(LOG) {
        prefix.keeps_out(&log::file(from))?;
    }
    boundary("commit begun");
    let store = dir.logs()?;
    let written = run(&format!("commit to {table}"), async move {
        let bytes = CommitOrBytes::LogBytes(bytes.into());
        store.write_commit_entry(next, bytes, Uuid::new_v4()).await
    })?;
    boundary("commit written");
    if let Err(error) = written {
        let there = match log::commit(dir, next) {
            Ok(there) => there,
            Err(unread) if bucket::unanswered(&error) => return Err(in_doubt(table, &unread)),
            Err(unread) => return Err(unread),
        };
        let is_ours = |actions: &Vec<Value>| log::own(actions, "release") == Some(token);
        return match (there, error) {
            (Some(actions), _) if is_ours(&actions) => durable(dir, next),
            (Some(_), _) | (None, TransactionError::VersionAlreadyExists(_)) => Err(moved(table)),
            (None, error) if bucket::unanswered(&error) => Err(in_doubt(table, &error)),
            (None, error) => Err(failed(dir, table, error)),
        };
    }
    durable(dir, next)
}

/// The store may still carry out what it did not answer.
fn in_doubt(table: &str, error: &(dyn std::error::Error + 'static)) -> EngineError {
    let text = format!("whether the commit to {table} was made is not known");
    let told = bucket::told(&text, error);
    let mut out = told.unwrap_or_else(|| EngineError::new(ErrorKind::InDoubt, text));
    out.kind = ErrorKind::InDoubt;
    out.hint("`unship resume` asks the log again")
}

fn failed(dir: &Dir, table: &str, error: TransactionError) -> EngineError {
    let text = format!("could not commit to {table}");
    if let Dir::Store(_) = dir
        && let Some(told) = bucket::told(&text, &error)
    {
        return told;
    }
    let words = unship_core::execute::chain(&error);
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
fn durable(dir: &Dir, version: u64) -> Result<(), EngineError> {
    dir.join(LOG).durable(&log::file(version))
}

fn refused(table: &str, why: &str) -> EngineError {
    let text = format!("{table} {why}: unship cannot take it back");
    EngineError::new(ErrorKind::Unsupported, text).hint(features::HINT)
}

/// An older version that can become the newest one: it is the one that is meant, and all that it
/// needs is there.
///
/// # Errors
/// What is missing, or what the table has that is not kept.
pub fn readable(
    reader: &mut Reader,
    table: &str,
    dir: &Dir,
    to: u64,
    files: &str,
    now: &Version,
) -> Result<Arc<Version>, EngineError> {
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
        return Err(refused(table, &why));
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
            aside: false,
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
