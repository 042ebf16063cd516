//! Who committed to a table, as its own snapshots tell.

use super::rest::{LoadTable, Snapshot, TableMetadata};
use super::state;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use unship_core::ident::RelationName;

/// How many commits are told one by one.
const TOLD: usize = 5;

/// Where writers name themselves in a summary: Spark and Flink, Trino, and what a catalog adds.
const ENGINE: [&str; 2] = ["engine-name", "trino_query_id"];
const VERSION: &str = "engine-version";
const APPLICATION: [&str; 4] = ["app-id", "spark.app.id", "flink.job-id", "app-name"];

/// The commits that are taken back where `main` goes to a snapshot.
#[derive(Debug)]
pub struct Since<'a> {
    /// The newest first.
    pub commits: Vec<&'a Snapshot>,
    /// Whether they were made on the snapshot, or on one that it was made from.
    pub leads: bool,
    /// Whether these are all: none of the snapshots that were passed is not listed.
    pub all: bool,
}

/// The commits from what `main` is back to a snapshot or to what that was made from.
pub fn since(metadata: &TableMetadata, until: Option<i64>) -> Since<'_> {
    let by_id: BTreeMap<_, _> = metadata
        .snapshots
        .iter()
        .map(|s| (s.snapshot_id, s))
        .collect();
    let parent = |id: i64| by_id.get(&id).and_then(|s| s.parent_snapshot_id);
    let mut base = BTreeSet::new();
    let mut at = until;
    while let Some(id) = at.filter(|id| base.insert(*id)) {
        at = parent(id);
    }
    let mut out = Since {
        commits: Vec::new(),
        leads: true,
        all: true,
    };
    let mut at = state::current(metadata);
    while let Some(id) = at.filter(|id| !base.contains(id)) {
        let Some(snapshot) = by_id.get(&id) else {
            (out.leads, out.all) = (false, false);
            return out;
        };
        out.commits.push(snapshot);
        // A chain without an end is no chain.
        if out.commits.len() > metadata.snapshots.len() {
            break;
        }
        at = snapshot.parent_snapshot_id;
    }
    out.leads = at.is_some() || until.is_none();
    out
}

/// A sentence about the commits since a snapshot; `None` if there are none.
pub fn told(name: &RelationName, metadata: &TableMetadata, until: Option<i64>) -> Option<String> {
    let Since { commits, leads, .. } = since(metadata, until);
    if commits.is_empty() {
        return None;
    }
    let mut text: Vec<_> = commits.iter().take(TOLD).map(|s| words(s)).collect();
    if commits.len() > TOLD {
        text.push(format!("and {} more", commits.len() - TOLD));
    }
    let since = match leads {
        true => "since the snapshot that comes back",
        false => "which do not lead back to the snapshot that comes back",
    };
    Some(format!(
        "{name} has {} commits {since}, others' among them: {}",
        commits.len(),
        text.join("; ")
    ))
}

/// Whether more than one engine or application committed since a snapshot, as far as they say who
/// they are: what came of a job is then not only the job's.
pub fn by_several(metadata: &TableMetadata, until: Option<i64>) -> bool {
    let commits = since(metadata, until).commits;
    let said = |snapshot: &Snapshot, keys: &[&str]| {
        keys.iter()
            .find_map(|key| snapshot.summary.get(*key).cloned())
    };
    let writers = commits
        .iter()
        .map(|s| (said(s, &ENGINE), said(s, &APPLICATION)));
    writers.collect::<BTreeSet<_>>().len() > 1
}

/// Which of these tables were not committed to last by an application that wrote to the branch as
/// well. One that does not name itself is not known again.
pub fn not_by_who_builds(
    tables: &BTreeMap<RelationName, Arc<LoadTable>>,
    branch: &str,
    changed: &BTreeSet<RelationName>,
) -> BTreeSet<RelationName> {
    let who = |metadata: &TableMetadata, branch: &str| {
        let head = metadata.refs.get(branch)?.snapshot_id;
        let snapshot = metadata.snapshots.iter().find(|s| s.snapshot_id == head)?;
        let mut keys = APPLICATION.iter();
        keys.find_map(|key| snapshot.summary.get(*key).cloned())
    };
    let builds = tables.values().filter_map(|t| who(&t.metadata, branch));
    let builds: BTreeSet<_> = builds.collect();
    let by_them = |name: &&RelationName| {
        let table = tables.get(*name);
        table
            .and_then(|t| who(&t.metadata, "main"))
            .is_some_and(|who| builds.contains(&who))
    };
    let others = changed.iter().filter(|name| !by_them(name));
    others.cloned().collect()
}

/// Who made a commit, as far as it says so.
pub fn writer(snapshot: &Snapshot) -> Option<String> {
    let mut keys = ENGINE.iter();
    keys.find_map(|key| snapshot.summary.get(*key).cloned())
}

/// One commit: when, what, how many rows, by whom.
fn words(snapshot: &Snapshot) -> String {
    let said = |key: &str| snapshot.summary.get(key).map(String::as_str);
    let mut text = match Timestamp::from_millisecond(snapshot.timestamp_ms) {
        Ok(at) => format!("{at:.0}"),
        Err(_) => "at no known time".to_owned(),
    };
    text.push_str(&format!(" {}", said("operation").unwrap_or("changed")));
    for (key, word) in [("added-records", "+"), ("deleted-records", "-")] {
        if let Some(rows) = said(key).filter(|rows| *rows != "0") {
            text.push_str(&format!(" {word}{rows} rows"));
        }
    }
    match (writer(snapshot), said(VERSION)) {
        (Some(engine), Some(version)) => text.push_str(&format!(" by {engine} {version}")),
        (Some(engine), None) => text.push_str(&format!(" by {engine}")),
        (None, _) => text.push_str(" by a writer that gives no name"),
    }
    if let Some(application) = APPLICATION.iter().find_map(|key| said(key)) {
        text.push_str(&format!(" ({application})"));
    }
    text
}
