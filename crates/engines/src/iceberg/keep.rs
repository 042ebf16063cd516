//! What others added to a table since what comes back, told from what jobs wrote, and how much of it
//! an engine can bring over. Pure.
//!
//! A snapshot does not say for whom it was committed. The ledger knows when only others wrote: in the
//! spells between what a release made and the next job's beginning.

use super::foreign;
use super::name::KEPT;
use super::rest::{Snapshot, TableMetadata};
use super::state::{self, TableState};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::Spell;
use unship_core::ident::RelationName;
use unship_core::others::{Replay, Written};
use unship_core::relation::RelationState;

/// How many commits are named one by one.
const TOLD: usize = 5;

/// What is to be brought over to what comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The snapshot of `main` for which this holds.
    pub main: Option<i64>,
    /// In the order in which it was written.
    pub runs: Vec<Run>,
}

/// Commits in a row of which each only added rows: what is brought over at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The snapshot before the first.
    pub before: i64,
    /// The commits, the oldest first.
    pub commits: Vec<i64>,
    /// The rows that they added.
    pub rows: u64,
    /// Whether no file deletes rows in any of them: only then can Spark tell what changed.
    pub plain: bool,
}

impl Run {
    /// The first and the last commit.
    pub fn ends(&self) -> Option<(i64, i64)> {
        Some((*self.commits.first()?, *self.commits.last()?))
    }
}

/// Which snapshots hold rows that were brought over, and from which commits: the first and the last
/// of some in a row. It is part of the table, so that whoever goes back next knows it, too; without it
/// rows that come back with a version would be brought over to it a second time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Brought(BTreeMap<i64, Vec<(i64, i64)>>);

impl Brought {
    /// Reads it; an error says why it cannot be.
    pub fn of(metadata: &TableMetadata) -> Result<Self, String> {
        match metadata.properties.get(KEPT) {
            None => Ok(Self::default()),
            Some(text) => serde_json::from_str(text)
                .map_err(|e| format!("its property {KEPT} cannot be read ({e})")),
        }
    }

    /// What it says once each run is the snapshot beside it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn with(
        mut self,
        runs: &[Run],
        snapshots: &[i64],
        metadata: &TableMetadata,
    ) -> serde_json::Result<String> {
        let there = |id: &i64| metadata.snapshots.iter().any(|s| s.snapshot_id == *id);
        self.0.retain(|id, _| there(id));
        for (run, snapshot) in runs.iter().zip(snapshots) {
            let mut ends: Vec<_> = run.ends().into_iter().collect();
            // What was brought over before is still what it was first.
            let before = run.commits.iter().filter_map(|id| self.0.get(id));
            ends.extend(before.flatten().copied());
            self.0.insert(*snapshot, ends);
        }
        serde_json::to_string(&self)
    }
}

/// A table's snapshots, each with what it was made from.
struct Lineage<'a>(BTreeMap<i64, &'a Snapshot>);

/// A way back through a table's history, the newest first.
struct Way<'a> {
    passed: Vec<&'a Snapshot>,
    /// Whether it ended where it was to end or at the table's beginning, and not at what is listed no
    /// more.
    whole: bool,
}

impl<'a> Lineage<'a> {
    fn of(metadata: &'a TableMetadata) -> Self {
        let all = metadata.snapshots.iter();
        Self(all.map(|s| (s.snapshot_id, s)).collect())
    }

    /// From a snapshot to the first of those where it ends, which is not passed.
    fn back(&self, from: Option<i64>, end: impl Fn(i64) -> bool) -> Way<'a> {
        let mut way = Way {
            passed: Vec::new(),
            whole: true,
        };
        let mut at = from;
        while let Some(id) = at.filter(|id| !end(*id)) {
            // A chain without an end is no chain.
            let Some(snapshot) = self.0.get(&id).filter(|_| way.passed.len() < self.0.len()) else {
                way.whole = false;
                break;
            };
            way.passed.push(*snapshot);
            at = snapshot.parent_snapshot_id;
        }
        way
    }

    /// The snapshots that hold the same rows as these: those, and what was brought over to them.
    fn held(&self, ids: BTreeSet<i64>, brought: &Brought) -> BTreeSet<i64> {
        let ends = ids.iter().filter_map(|id| brought.0.get(id)).flatten();
        let ends: Vec<_> = ends.copied().collect();
        let mut out = ids;
        for (first, last) in ends {
            let between = self.back(Some(last), |id| id == first);
            out.extend(between.passed.iter().map(|s| s.snapshot_id));
            out.extend([first, last]);
        }
        out
    }
}

/// What is asked about a table.
pub struct Asked<'a> {
    /// What comes back; `None`, the table goes.
    pub target: Option<&'a RelationState>,
    /// When others wrote to it, the oldest first.
    pub spells: &'a [Spell],
    /// Whether an engine is configured that brings rows over.
    pub sql: bool,
}

/// A commit of others that goes with what is taken back.
struct Theirs<'a> {
    snapshot: &'a Snapshot,
    /// Whether a job changed rows of the table after it, and not only added some.
    rewritten: bool,
}

/// What others wrote since what comes back, and is not in that; `None` where the table's history does
/// not tell.
pub fn written(
    name: &RelationName,
    metadata: &TableMetadata,
    asked: &Asked<'_>,
) -> Option<Written> {
    let line = Lineage::of(metadata);
    let same = |state: &RelationState| {
        let read = TableState::read(state);
        read.filter(|was| was.uuid == metadata.table_uuid)
    };
    let target = asked.target.and_then(same);
    let base = line.back(target.as_ref().and_then(|t| t.snapshot), |_| false);
    let in_base: BTreeSet<i64> = base.passed.iter().map(|s| s.snapshot_id).collect();
    let way = line.back(state::current(metadata), |id| in_base.contains(&id));

    let mut ids = BTreeSet::new();
    let mut redefined = false;
    for spell in asked.spells {
        let (Some(from), Some(to)) = (same(&spell.from), same(&spell.to)) else {
            continue;
        };
        redefined |= definition(&from) != definition(&to);
        ids.extend(way.spell(from.snapshot, to.snapshot, &in_base)?);
    }
    let brought = Brought::of(metadata);
    let records = brought.clone().unwrap_or_default();
    let theirs = way.theirs(|id| ids.contains(&id) || records.0.contains_key(&id));
    let untold = !records.0.is_empty() && !base.whole && !way.meets(&in_base);
    let held = line.held(in_base, &records);
    let mut partly = false;
    let mut of = theirs;
    of.retain(|one| {
        let id = one.snapshot.snapshot_id;
        let mut first = line.held([id].into(), &records);
        first.remove(&id);
        let there = first.iter().filter(|id| held.contains(id)).count();
        partly |= there > 0 && there < first.len();
        let all = there > 0 && there == first.len();
        !all && !held.contains(&id)
    });

    let sum = |key: &str| -> u64 {
        let counts = of.iter().filter_map(|one| one.snapshot.summary.get(key));
        counts.filter_map(|n| n.parse::<u64>().ok()).sum()
    };
    let writers: BTreeSet<_> = of
        .iter()
        .filter_map(|one| foreign::writer(one.snapshot))
        .collect();
    let keep = match (&brought, target) {
        (Err(why), _) => Err(why.clone()),
        (Ok(_), None) if asked.target.is_none() => {
            Err("the table itself goes, which a release had made".to_owned())
        }
        (Ok(_), None) => Err("what comes back is another table of the same name".to_owned()),
        (Ok(_), Some(target)) => {
            let doubt = Doubt {
                redefined,
                partly,
                untold,
            };
            possible(name, metadata, &target, &of, asked, doubt)
                .and_then(|()| in_a_row(&of, &records))
        }
    };
    Some(Written {
        added: sum("added-records"),
        lost: sum("deleted-records"),
        writers: writers.into_iter().collect(),
        keep: keep.and_then(|runs| replay(metadata, runs)),
    })
}

/// A table but for its snapshot.
fn definition(of: &TableState) -> TableState {
    TableState {
        snapshot: None,
        ..of.clone()
    }
}

fn replay(metadata: &TableMetadata, runs: Vec<Run>) -> Result<Replay, String> {
    let rows = runs.iter().map(|run| run.rows).sum();
    let main = state::current(metadata);
    let engine = serde_json::to_value(Keep { main, runs });
    Ok(Replay {
        rows,
        conflicts: Vec::new(),
        conflicting: 0,
        after: None,
        engine: engine.map_err(|e| format!("what is to be kept cannot be written ({e})"))?,
    })
}

impl<'a> Way<'a> {
    /// The commits of a spell, as far as they are passed; `None` where the history does not tell.
    fn spell(
        &self,
        from: Option<i64>,
        to: Option<i64>,
        in_base: &BTreeSet<i64>,
    ) -> Option<Vec<i64>> {
        let ids = |some: &[&Snapshot]| some.iter().map(|s| s.snapshot_id).collect();
        let place = |id: i64| self.passed.iter().position(|s| s.snapshot_id == id);
        let Some((to, begin)) = to.map(|to| (to, place(to))) else {
            return Some(Vec::new());
        };
        let Some(begin) = begin else {
            // It is in what comes back, or a job did away with it since.
            return (self.whole || in_base.contains(&to)).then(Vec::new);
        };
        let since = self.passed.get(begin..)?;
        match from {
            Some(id) if !in_base.contains(&id) => Some(ids(self.passed.get(begin..place(id)?)?)),
            _ => self.whole.then(|| ids(since)),
        }
    }

    /// Whether it leads to one of these.
    fn meets(&self, ids: &BTreeSet<i64>) -> bool {
        match self.passed.last() {
            Some(last) => last.parent_snapshot_id.is_some_and(|id| ids.contains(&id)),
            None => true,
        }
    }

    /// What others committed of it since the table was empty, the newest first.
    fn theirs(&self, is_theirs: impl Fn(i64) -> bool) -> Vec<Theirs<'a>> {
        let mut out = Vec::new();
        let mut rewritten = false;
        let changes = self.passed.iter().filter(|s| !state::is_maintenance(s));
        for snapshot in changes {
            if is_theirs(snapshot.snapshot_id) {
                out.push(Theirs {
                    snapshot,
                    rewritten,
                });
            } else if empties(snapshot) {
                break;
            } else {
                rewritten |= !only_adds(snapshot);
            }
        }
        out
    }
}

fn operation(of: &Snapshot) -> &str {
    of.summary
        .get("operation")
        .map_or("changed", String::as_str)
}

fn only_adds(snapshot: &Snapshot) -> bool {
    operation(snapshot) == "append"
}

fn number(of: &Snapshot, key: &str) -> Option<u64> {
    of.summary.get(key)?.parse().ok()
}

/// Whether nothing is left of what was there before: the table is empty. A commit whose files are all
/// that there is tells nothing, for it may have written the same rows again.
fn empties(snapshot: &Snapshot) -> bool {
    let none = |key: &str| number(snapshot, key) == Some(0);
    none("total-records") && none("total-delete-files")
}

/// The rows that it added, if it says so.
fn added(snapshot: &Snapshot) -> Option<u64> {
    match snapshot.summary.get("added-records") {
        Some(rows) => rows.parse().ok(),
        // A commit of no file says nothing of rows.
        None => match number(snapshot, "added-data-files") {
            None | Some(0) => Some(0),
            Some(_) => None,
        },
    }
}

/// What stands against bringing something over, that shows before single commits are looked at.
struct Doubt {
    /// Others changed what the table is, and not only its rows.
    redefined: bool,
    /// A part of a commit is in what comes back already.
    partly: bool,
    /// What comes back may hold rows already that nobody can tell any more.
    untold: bool,
}

/// Why it cannot be brought over, if it cannot.
fn possible(
    name: &RelationName,
    metadata: &TableMetadata,
    target: &TableState,
    of: &[Theirs<'_>],
    asked: &Asked<'_>,
    doubt: Doubt,
) -> Result<(), String> {
    let refused = |why: &str| Err(why.to_owned());
    let snapshots = || of.iter().map(|one| one.snapshot);
    if let Some(other) = snapshots().find(|s| !only_adds(s)) {
        let operation = operation(other);
        return Err(format!("they did not only add rows ({operation})"));
    }
    if doubt.redefined {
        return refused("they changed its columns, partition spec, sort order or properties, too");
    }
    if of.is_empty() {
        return Ok(());
    }
    if of.iter().any(|one| one.rewritten) {
        return refused(
            "a job changed rows of it after they wrote: which of theirs are left cannot be told",
        );
    }
    if doubt.partly {
        return refused("a part of what they wrote is in what comes back already");
    }
    if doubt.untold {
        return refused(
            "the history of what comes back was expired, and it may hold their rows already",
        );
    }
    let now = TableState::of(metadata).map_err(|e| e.to_string())?;
    let other = |s: &Snapshot| columns(metadata, s).is_none_or(|schema| schema != target.schema);
    if now.schema != target.schema || snapshots().any(other) {
        return refused(
            "its columns are others now, or were when they wrote, than in what comes back",
        );
    }
    if target.snapshot.is_none() {
        return refused("it had no rows then, and no branch can begin there");
    }
    if !asked.sql {
        let calls = snapshots().collect::<Vec<_>>().into_iter().rev().take(TOLD);
        let calls = calls.map(|s| {
            format!(
                "CALL system.cherrypick_snapshot('{}.{}', {})",
                name.schema, name.name, s.snapshot_id
            )
        });
        return Err(format!(
            "that takes an engine that writes, and unship is none: name one in the environment, as \
             in `sql = [\"spark-sql\", \"-f\", \"/dev/stdin\"]`; or let Spark do it after a rollback \
             that sets them aside: {}",
            calls.collect::<Vec<_>>().join("; ")
        ));
    }
    Ok(())
}

/// The columns that a commit was made with; `None` where nobody can tell.
fn columns(metadata: &TableMetadata, of: &Snapshot) -> Option<serde_json::Value> {
    let number = |schema: &serde_json::Value| schema.get("schema-id").and_then(|n| n.as_i64());
    let schema = match (of.schema_id, metadata.schemas.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(id), all) => all.iter().find(|schema| number(schema) == Some(id)),
    };
    schema.map(|schema| state::without_number(schema, "schema-id"))
}

/// The commits, given with the newest first, put together as far as one follows the other. What was
/// brought over before stays by itself, so that it can be told from the rest again.
fn in_a_row(newest_first: &[Theirs<'_>], records: &Brought) -> Result<Vec<Run>, String> {
    let mut out: Vec<Run> = Vec::new();
    let alone = |id: &i64| records.0.contains_key(id);
    for snapshot in newest_first.iter().rev().map(|one| one.snapshot) {
        let id = snapshot.snapshot_id;
        let rows = added(snapshot).ok_or_else(|| {
            format!(
                "the commit {id} does not say how many rows it added, so that nobody could tell \
                 whether all came"
            )
        })?;
        let plain = number(snapshot, "total-delete-files") == Some(0);
        let before = snapshot.parent_snapshot_id;
        let follows = |run: &&mut Run| {
            let last = run.commits.last();
            last == before.as_ref() && !alone(&id) && !last.is_some_and(alone)
        };
        match out.last_mut().filter(follows) {
            Some(run) => {
                run.commits.push(id);
                run.rows = run.rows.saturating_add(rows);
                run.plain &= plain;
            }
            None => out.push(Run {
                before: before
                    .ok_or_else(|| format!("the commit {id} of theirs began the table anew"))?,
                commits: vec![id],
                rows,
                plain,
            }),
        }
    }
    out.retain(|run| run.rows > 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A table whose snapshots are 1, 2, 3, …, each made from the one before, by these operations.
    fn table(operations: &[&str], change: impl FnOnce(&mut Value)) -> TableMetadata {
        let snapshots = operations.iter().zip(1_i64..).map(|(operation, id)| {
            json!({
                "snapshot-id": id, "parent-snapshot-id": (id > 1).then_some(id - 1),
                "schema-id": 0, "summary": {"operation": operation, "added-records": "1",
                    "total-records": id.to_string(), "total-delete-files": "0",
                    "engine-name": "tests"},
            })
        });
        let main = operations.len();
        let mut all = json!({
            "format-version": 2, "table-uuid": "u1",
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}], "current-schema-id": 0,
            "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0,
            "snapshots": snapshots.collect::<Vec<_>>(),
            "refs": {"main": {"snapshot-id": main, "type": "branch"}},
        });
        change(&mut all);
        serde_json::from_value(all).unwrap()
    }

    fn at(metadata: &TableMetadata, snapshot: i64) -> RelationState {
        let mut then = metadata.clone();
        then.refs.get_mut("main").unwrap().snapshot_id = snapshot;
        state::of_table(&then).unwrap()
    }

    /// What others wrote since the snapshot 1, in these spells.
    fn since_first(metadata: &TableMetadata, spells: &[(i64, i64)]) -> Option<Written> {
        let spell = |(from, to): &(i64, i64)| Spell {
            from: at(metadata, *from),
            to: at(metadata, *to),
        };
        let asked = Asked {
            target: Some(&at(metadata, 1)),
            spells: &spells.iter().map(spell).collect::<Vec<_>>(),
            sql: true,
        };
        written(&RelationName::new("lake", "s", "orders"), metadata, &asked)
    }

    fn kept(written: Option<Written>) -> Result<Vec<(i64, Vec<i64>, u64)>, String> {
        let keep = Keep::deserialize(written.unwrap().keep?.engine).unwrap();
        let runs = keep.runs.into_iter();
        Ok(runs.map(|r| (r.before, r.commits, r.rows)).collect())
    }

    const APPENDS: [&str; 6] = ["append"; 6];

    #[test]
    fn commits_in_a_row_come_over_at_once() {
        let all = table(&APPENDS, |_| ());
        let runs = kept(since_first(&all, &[(2, 4), (5, 6)]));
        let expected = vec![(2, vec![3, 4], 2), (5, vec![6], 1)];
        assert_eq!(runs.unwrap(), expected);
    }

    #[test]
    fn what_a_job_changed_after_them_cannot_be_told_and_what_it_emptied_is_gone() {
        let some = [
            "append",
            "append",
            "append",
            "overwrite",
            "append",
            "append",
        ];
        let all = table(&some, |_| ());
        let why = kept(since_first(&all, &[(2, 3), (5, 6)])).unwrap_err();
        assert!(
            why.contains("a job changed rows of it after they wrote"),
            "{why}"
        );
        let all = table(&some, |m| {
            m["snapshots"][3]["summary"]["total-records"] = "0".into()
        });
        let runs = kept(since_first(&all, &[(2, 3), (5, 6)]));
        assert_eq!(runs.unwrap(), [(5, vec![6], 1)]);
    }

    #[test]
    fn a_history_that_was_expired_tells_of_what_is_left_alone() {
        let expired = |m: &mut Value| drop(m["snapshots"].as_array_mut().unwrap().remove(2));
        let all = table(&APPENDS, expired);
        let runs = kept(since_first(&all, &[(4, 6)]));
        assert_eq!(runs.unwrap(), [(4, vec![5, 6], 2)]);
        assert!(since_first(&all, &[(1, 3)]).is_none());
        assert!(since_first(&all, &[(2, 6)]).is_none());
    }

    /// The snapshot 3 holds the rows of one that is in what comes back, or is not.
    #[test]
    fn what_was_brought_over_before_is_told_from_what_is_there() {
        let marked = |of: &str| {
            let text = format!("{{\"3\":[{of}]}}");
            table(&APPENDS, |m| m["properties"] = json!({KEPT: text}))
        };
        let runs = kept(since_first(&marked("[1,1]"), &[(4, 5)]));
        assert_eq!(runs.unwrap(), [(4, vec![5], 1)]);
        let runs = kept(since_first(&marked("[40,41]"), &[(3, 5)]));
        let apart = vec![(2, vec![3], 1), (3, vec![4, 5], 2)];
        assert_eq!(runs.unwrap(), apart);
        let why = kept(since_first(&marked("[1,1],[40,40]"), &[(3, 5)])).unwrap_err();
        assert!(why.contains("a part of what they wrote"), "{why}");
        let broken = table(&APPENDS, |m| m["properties"] = json!({KEPT: "?"}));
        let why = kept(since_first(&broken, &[(3, 5)])).unwrap_err();
        assert!(why.contains("cannot be read"), "{why}");
    }

    #[test]
    fn what_is_noted_names_what_it_was_first() {
        let all = table(&APPENDS, |_| ());
        let run = |commits: &[i64]| Run {
            before: 1,
            commits: commits.to_vec(),
            rows: 1,
            plain: true,
        };
        let first = Brought::default()
            .with(&[run(&[2, 3])], &[4], &all)
            .unwrap();
        assert_eq!(first, r#"{"4":[[2,3]]}"#);
        let before: Brought = serde_json::from_str(r#"{"4":[[2,3]],"77":[[1,1]]}"#).unwrap();
        let then = before.with(&[run(&[4])], &[6], &all).unwrap();
        assert_eq!(then, r#"{"4":[[2,3]],"6":[[4,4],[2,3]]}"#);
    }
}
