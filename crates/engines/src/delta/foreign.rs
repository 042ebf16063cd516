//! Who committed to a table, as its own log tells.

use super::dir::Dir;
use super::log;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;

/// How many commits are told one by one.
const TOLD: usize = 5;

/// How many commits are looked at.
const LOOKED_AT: u64 = 200;

/// A commit, as a person is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The version that it made.
    pub version: u64,
    /// When, what, how many rows, by whom.
    pub words: String,
    /// Who, as far as the writer says so.
    pub by: Option<String>,
    /// Whether unship made it.
    pub own: bool,
}

/// The commits behind a version, the newest first; at most so many.
pub fn since(table: &Dir, after: u64, latest: u64) -> Result<Vec<Commit>, EngineError> {
    let first = after
        .saturating_add(1)
        .max(latest.saturating_sub(LOOKED_AT - 1));
    let all = log::commits(table, (first..=latest).rev().collect())?;
    let there = all.into_iter().filter_map(|(version, actions)| {
        let actions = actions?;
        Some(commit(version, &actions))
    });
    Ok(there.collect())
}

fn commit(version: u64, actions: &[Value]) -> Commit {
    let none = Value::Null;
    let info = log::info(actions).unwrap_or(&none);
    let text = |key: &str| info[key].as_str().filter(|text| !text.is_empty());
    let mut words = match info["timestamp"].as_i64().map(Timestamp::from_millisecond) {
        Some(Ok(at)) => format!("{at:.0}"),
        _ => "at no known time".to_owned(),
    };
    words.push_str(&format!(" {}", text("operation").unwrap_or("changed")));
    for (key, sign) in [("add", '+'), ("remove", '-')] {
        let files: Vec<_> = actions
            .iter()
            .filter_map(|action| action.get(key))
            .collect();
        let rows: Option<u64> = files.iter().map(|file| rows(file)).sum();
        match rows {
            _ if files.is_empty() => {}
            Some(rows) => words.push_str(&format!(" {sign}{rows} rows")),
            None => words.push_str(&format!(" {sign}{} files", files.len())),
        }
    }
    // Spark names itself; others have only this of their own.
    let by = text("engineInfo").or_else(|| text("clientVersion"));
    match by {
        Some(by) => words.push_str(&format!(" by {by}")),
        None => words.push_str(" by a writer that gives no name"),
    }
    let more = ["userName", "userMetadata"].into_iter().filter_map(text);
    let stream = actions
        .iter()
        .find_map(|action| action["txn"]["appId"].as_str());
    let more: Vec<_> = more.chain(stream).collect();
    if !more.is_empty() {
        words.push_str(&format!(" ({})", more.join(", ")));
    }
    Commit {
        version,
        words,
        by: by.map(str::to_owned),
        own: log::own(actions, "release").is_some(),
    }
}

/// How many rows a file was written with.
fn rows(file: &Value) -> Option<u64> {
    let stats: Value = serde_json::from_str(file["stats"].as_str()?).ok()?;
    stats["numRecords"].as_u64()
}

/// A sentence about the commits since a version; `None` if there are none.
pub fn told(name: &RelationName, commits: &[Commit], since: u64) -> Option<String> {
    let commits: Vec<_> = commits.iter().filter(|c| c.version > since).collect();
    if commits.is_empty() {
        return None;
    }
    let mut text: Vec<_> = commits.iter().take(TOLD).map(|c| c.words.clone()).collect();
    if commits.len() > TOLD {
        text.push(format!("and {} more", commits.len() - TOLD));
    }
    Some(format!(
        "{name} has {} commits since the version that comes back, others' among them: {}",
        commits.len(),
        text.join("; ")
    ))
}

/// Whether more than one writer committed since a version, as far as they say who they are: what came
/// of a job is then not only the job's.
pub fn by_several(commits: &[Commit], since: u64) -> bool {
    let since = commits.iter().filter(|c| c.version > since && !c.own);
    since.map(|c| &c.by).collect::<BTreeSet<_>>().len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_commit_says_when_what_how_much_and_who() {
        let spark = commit(
            7,
            &[
                json!({"commitInfo": {"timestamp": 1_700_000_000_000_i64, "operation": "MERGE",
                    "engineInfo": "Apache-Spark/3.5.9 Delta-Lake/3.3.0", "userName": "etl"}}),
                json!({"txn": {"appId": "stream-1", "version": 3}}),
                json!({"add": {"path": "a", "stats": "{\"numRecords\":5}"}}),
                json!({"add": {"path": "b", "stats": "{\"numRecords\":2}"}}),
                json!({"remove": {"path": "c"}}),
            ],
        );
        assert_eq!(
            spark.words,
            "2023-11-14T22:13:20Z MERGE +7 rows -1 files by Apache-Spark/3.5.9 \
             Delta-Lake/3.3.0 (etl, stream-1)"
        );
        let nobody = commit(8, &[json!({"add": {"path": "a"}})]);
        assert_eq!(
            nobody.words,
            "at no known time changed +1 files by a writer that gives no name"
        );
        let all = [nobody, spark];
        assert!(by_several(&all, 6) && !by_several(&all, 7) && !by_several(&all, 8));
        let name = RelationName::new("lake", "s", "t");
        assert!(
            told(&name, &all, 6)
                .unwrap()
                .starts_with("lake.s.t has 2 commits")
        );
        assert_eq!(told(&name, &all, 8), None);
    }
}
