//! A build aside: on a branch of each table that the job writes to, and in namespaces of the
//! release's own for the tables that it makes.
//!
//! Nothing is made beforehand for tables: who writes to a branch first begins it. So a build costs
//! what the job writes, however many tables there are.

use super::act::{Hands, key};
use super::kept::{Kept, KeptRelation};
use super::look::{self, Seen};
use super::name;
use super::rest::{
    Commit, Doing, Endpoint, Identifier, LoadTable, Reference, Requirement, RestError, Snapshots,
    Update,
};
use super::state::{self, TableState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use unship_core::engine::{EngineError, ErrorKind, Observation, OnProgress};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::Difference;
use unship_core::release::VersionId;

/// How often what a job left is looked at anew because somebody still writes to it.
const TRIES: u32 = 6;

/// The first wait in between; each later one is twice as long.
const WAIT: Duration = Duration::from_millis(100);

/// The most tables that are changed in one request.
const TOGETHER: usize = 200;

/// What a job left aside.
#[derive(Debug, Default)]
pub struct Built {
    /// Tables with the release's branch, as production has them.
    pub branched: BTreeMap<RelationName, Arc<LoadTable>>,
    /// Tables that were made in the release's own namespaces, by the name that they are to have.
    pub made: BTreeMap<RelationName, Arc<LoadTable>>,
    /// Views that were made there.
    pub views: Vec<Identifier>,
    /// Production.
    pub production: Seen,
}

/// Which tables a build has to do with.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// Those with its branch.
    pub branched: BTreeSet<RelationName>,
    /// Those that were made aside, by the name that they are to have.
    pub made: BTreeSet<RelationName>,
}

impl Built {
    /// The names of it.
    pub fn left(&self) -> Left {
        Left {
            branched: self.branched.keys().cloned().collect(),
            made: self.made.keys().cloned().collect(),
        }
    }
}

/// Where builds are.
pub struct Yard<'a>(pub &'a Hands<'a>);

impl Yard<'_> {
    /// Opens a build. `stale` are tables with a branch of the release's name, which another history
    /// left.
    pub fn begin(
        &self,
        release: ReleaseId,
        production: &Observation,
        stale: &BTreeSet<RelationName>,
    ) -> Result<(), EngineError> {
        self.0.store.begin(release, production)?;
        boundary("build written down");
        self.unbranch(release, stale)?;
        if self.0.client.offers(Endpoint::CreateNamespace) {
            for namespace in self.0.scope.namespaces {
                let own = name::beside(release, namespace);
                let made = self.0.client.create_namespace(&own);
                made.doing(&format!("make the namespace {}", name::schema(&own)))?;
            }
        }
        Ok(())
    }

    /// Looks at what a job left, beside what was seen of production.
    pub fn look(
        &self,
        release: ReleaseId,
        production: Seen,
        on: OnProgress<'_>,
    ) -> Result<Built, EngineError> {
        let branch = name::branch(release);
        let has = |table: &&Arc<LoadTable>| {
            let there = table.metadata.refs.get(&branch);
            there.is_some_and(|there| there.r#type == "branch")
        };
        let tables = production.tables.iter();
        let branched = tables
            .filter(|(_, table)| has(table))
            .map(|(name, table)| (name.clone(), table.clone()))
            .collect();
        let all = production.namespaces.clone();
        let staged = look::each(&all, "namespaces", on, |namespace| {
            let own = name::beside(release, namespace);
            let (tables, views) = (self.0.client.tables(&own)?, self.0.client.views(&own)?);
            Ok((tables, views))
        });
        let staged = staged.doing("look at what was built")?;
        let mut places = Vec::new();
        let mut views = Vec::new();
        for (namespace, (tables, there)) in all.iter().zip(staged) {
            views.extend(there);
            places.extend(tables.into_iter().map(|at| {
                let home = Identifier {
                    namespace: namespace.clone(),
                    name: at.name.clone(),
                };
                (name::relation(self.0.scope.catalog, &home), at)
            }));
        }
        let made = look::each(&places, "tables", on, |(_, at)| {
            self.0.client.table(at, Snapshots::Refs)
        });
        let made = made.doing("look at what was built")?;
        let made = places.into_iter().zip(made);
        Ok(Built {
            branched,
            made: made
                .filter_map(|((name, _), table)| Some((name, table?)))
                .collect(),
            views,
            production,
        })
    }

    /// Keeps what was built as the release's point: tags in the place of branches, and the tables
    /// that were made where they are.
    pub fn keep(&self, release: ReleaseId, on: OnProgress<'_>) -> Result<(), EngineError> {
        if !self.0.store.builds(release) {
            return Ok(());
        }
        let mut wait = WAIT;
        for _ in 0..TRIES {
            let production = look::everything(self.0.client, &self.0.scope, on)?;
            let built = self.look(release, production, on)?;
            let kept = self.0.store.read(release)?;
            let (kept, commits) = retained(release, &built, kept)?;
            if !kept.relations.is_empty() {
                self.0.store.write(&kept)?;
            }
            boundary("what was built is written down");
            if self.send(&commits)? {
                self.leave(release, &built.left().made)?;
                return self.0.store.end(release);
            }
            sleep(wait);
            wait *= 2;
        }
        Err(EngineError::new(
            ErrorKind::Busy,
            format!("what was built for {release} cannot be kept: something still writes to it"),
        )
        .hint("`unship resume` tries again, once nothing that the job started is at work any more"))
    }

    /// Removes what is left of a build: its branches, and its namespaces as far as they are empty.
    /// Tables that were made aside stay: whose files they use, nobody can tell. `known` is what was
    /// seen of it, if it was looked at.
    pub fn discard(&self, release: ReleaseId, known: Option<Left>) -> Result<(), EngineError> {
        if !self.0.store.builds(release) {
            return Ok(());
        }
        let left = match known {
            Some(known) => known,
            None => {
                let on = &|_: &str, _, _| ();
                let production = look::everything(self.0.client, &self.0.scope, on)?;
                self.look(release, production, on)?.left()
            }
        };
        self.unbranch(release, &left.branched)?;
        self.leave(release, &left.made)?;
        self.0.store.end(release)
    }

    /// Removes the release's branch where it is.
    fn unbranch(
        &self,
        release: ReleaseId,
        tables: &BTreeSet<RelationName>,
    ) -> Result<(), EngineError> {
        let branch = name::branch(release);
        let all: Vec<_> = tables.iter().filter_map(name::identifier).collect();
        let mut wait = WAIT;
        for _ in 0..TRIES {
            let seen = look::each(&all, "branches", &|_, _, _| (), |id| {
                self.0.client.table(id, Snapshots::Refs)
            });
            let seen = seen.doing("look at branches")?;
            let commits: Vec<_> = all
                .iter()
                .zip(seen)
                .filter_map(|(id, table)| {
                    let metadata = &table.as_ref()?.metadata;
                    let head = metadata.refs.get(&branch)?.snapshot_id;
                    Some(commit(id, metadata.table_uuid.clone(), &branch, head))
                })
                .collect();
            if self.send(&commits)? {
                return Ok(());
            }
            sleep(wait);
            wait *= 2;
        }
        // It is of no use any more and hurts nobody: `unship doctor` names it.
        Ok(())
    }

    /// Sends commits; whether all of them are known to be done.
    fn send(&self, commits: &[Commit]) -> Result<bool, EngineError> {
        let together = self.0.client.offers(Endpoint::Transaction);
        let mut done = true;
        for group in commits.chunks(if together { TOGETHER } else { 1 }) {
            let key = key("branches");
            let sent = match group {
                [one] => self.0.client.commit(one, &key),
                all => self.0.client.commit_all(all, &key),
            };
            boundary("branches taken away");
            match sent {
                Ok(()) => {}
                // What became of it is seen at the next look.
                Err(RestError::Unknown(_) | RestError::Conflict(_) | RestError::Missing(_)) => {
                    done = false;
                }
                Err(error) => return Err(error).doing("take branches away"),
            }
        }
        Ok(done)
    }

    /// Drops the release's own namespaces that are empty: those that were made when it began, and
    /// those of what the job made.
    fn leave(&self, release: ReleaseId, made: &BTreeSet<RelationName>) -> Result<(), EngineError> {
        let of = made.iter().filter_map(name::identifier);
        let of = of.map(|id| id.namespace);
        let all: BTreeSet<_> = of.chain(self.0.scope.namespaces.iter().cloned()).collect();
        let drop = |namespace: Vec<String>| -> Result<(), RestError> {
            let own = name::beside(release, &namespace);
            if self.0.client.tables(&own)?.is_empty() && self.0.client.views(&own)?.is_empty() {
                self.0.client.drop_namespace(&own)?;
            }
            Ok(())
        };
        for namespace in all {
            match drop(namespace) {
                // One that stays is empty, or somebody's.
                Ok(()) | Err(RestError::Refused { .. } | RestError::Forbidden(_)) => {}
                Err(RestError::Unsupported(_) | RestError::Conflict(_)) => {}
                Err(error) => return Err(error).doing("drop an empty namespace"),
            }
        }
        Ok(())
    }
}

/// The commit that takes a branch away, as long as it is where it was seen.
fn commit(id: &Identifier, uuid: String, branch: &str, head: i64) -> Commit {
    Commit {
        identifier: id.clone(),
        requirements: vec![
            Requirement::AssertTableUuid { uuid },
            Requirement::AssertRefSnapshotId {
                r#ref: branch.to_owned(),
                snapshot_id: Some(head),
            },
        ],
        updates: vec![Update::RemoveSnapshotRef {
            ref_name: branch.to_owned(),
        }],
    }
}

/// A release's point of what was built for it, and what makes tags of its branches. What was kept of
/// it before is part of it.
fn retained(
    release: ReleaseId,
    built: &Built,
    before: Option<Kept>,
) -> Result<(Kept, Vec<Commit>), EngineError> {
    let mut kept = before.unwrap_or_else(|| Kept::new(release));
    let mut commits = Vec::new();
    let branch = name::branch(release);
    let states = states(release, built)?;
    for (name, state) in states {
        let Some(id) = name::identifier(&name) else {
            continue;
        };
        let one = match (built.made.get(&name), built.branched.get(&name)) {
            (Some(made), _) => KeptRelation {
                state,
                metadata: made.metadata_location.clone(),
                tag: None,
                aside: Some(name::aside(release, &id)),
            },
            (None, Some(table)) => {
                let metadata = &table.metadata;
                let Some(head) = metadata.refs.get(&branch).map(|head| head.snapshot_id) else {
                    continue;
                };
                let tag = name::tag(release, |name| metadata.refs.contains_key(name));
                let mut commit = commit(&id, metadata.table_uuid.clone(), &branch, head);
                commit.requirements.push(Requirement::AssertRefSnapshotId {
                    r#ref: tag.clone(),
                    snapshot_id: None,
                });
                let tagged = Update::point(&tag, &Reference::tag(head));
                commit.updates.insert(0, tagged);
                commits.push(commit);
                KeptRelation {
                    state,
                    metadata: table.metadata_location.clone(),
                    tag: Some(tag),
                    aside: None,
                }
            }
            (None, None) => continue,
        };
        let version = VersionId { release, drift: 0 };
        if let Some(versions) = &mut kept.versions {
            versions.insert(name.clone(), version);
        }
        kept.relations.insert(name, one);
    }
    Ok((kept, commits))
}

/// What the relations are that a job built aside.
fn states(release: ReleaseId, built: &Built) -> Result<Observation, EngineError> {
    let branch = name::branch(release);
    let mut out = Observation::new();
    for (name, table) in &built.branched {
        let there = state::on_branch(&table.metadata, &branch).map(|metadata| LoadTable {
            metadata_location: table.metadata_location.clone(),
            metadata,
        });
        if let Some(there) = there {
            out.insert(name.clone(), look::table_state(name, &there)?);
        }
    }
    for (name, table) in &built.made {
        out.insert(name.clone(), look::table_state(name, table)?);
    }
    Ok(out)
}

/// All that would be production if a build were: what production was when it began, and what the job
/// built.
///
/// # Errors
/// [`ErrorKind::Refused`] where the job changed what a branch does not have of its own, and where it
/// made views.
pub fn would_be(
    release: ReleaseId,
    mut begun: Observation,
    built: &Built,
) -> Result<Observation, EngineError> {
    if let Some(view) = built.views.first() {
        return Err(EngineError::new(
            ErrorKind::Refused,
            format!(
                "the job made the view {}.{} aside: a view names what it reads, and would go on \
                 reading what lies aside",
                name::schema(&view.namespace),
                view.name
            ),
        )
        .hint("let jobs that make views work in place, with a restore point"));
    }
    let states = states(release, built)?;
    for name in built
        .branched
        .keys()
        .filter(|n| !built.made.contains_key(n))
    {
        let (was, is) = (begun.get(name), states.get(name));
        let (Some(was), Some(is)) = (
            was.and_then(TableState::read),
            is.and_then(TableState::read),
        ) else {
            continue;
        };
        if let Some(what) = redefined(&was, &is) {
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!(
                    "the {what} of {name} changed while the job worked: that belongs to the table \
                     and to none of its branches, so that production has it already"
                ),
            )
            .hint(
                "if that is right, run the job again: it goes on from what is there now; a job \
                 that changes it belongs in place, where a rollback takes it back",
            ));
        }
    }
    begun.extend(states);
    Ok(begun)
}

/// What of a table's definition is another one.
fn redefined(was: &TableState, is: &TableState) -> Option<&'static str> {
    if was.uuid != is.uuid {
        return None;
    }
    [
        ("schema", was.schema != is.schema),
        ("partition spec", was.spec != is.spec),
        ("sort order", was.sort != is.sort),
        ("properties", was.properties != is.properties),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

/// What changed in production itself while a job worked that should have worked aside: new tables,
/// and tables with other rows. The job did that, or others.
///
/// # Errors
/// [`ErrorKind::Refused`] where the job built nothing aside: then it is most likely its own work, and
/// no release that guards it.
pub fn beside_the_branch(
    begun: &Observation,
    built: &Built,
) -> Result<Option<String>, EngineError> {
    const TOLD: usize = 5;
    let now = built.production.states()?;
    let is_new = |name: &RelationName, state| {
        let was = begun.get(name);
        was.is_none_or(|was| was.difference(state) != Difference::None)
    };
    let changed: Vec<_> = now
        .iter()
        .filter(|(name, state)| is_new(name, state))
        .map(|(name, _)| name.to_string())
        .collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let mut named = changed.iter().take(TOLD).cloned().collect::<Vec<_>>();
    if changed.len() > TOLD {
        named.push(format!("and {} more", changed.len() - TOLD));
    }
    let named = named.join(", ");
    if built.branched.is_empty() && built.made.is_empty() {
        return Err(EngineError::new(
            ErrorKind::Refused,
            format!(
                "the job built nothing aside, and production changed while it worked: {named}"
            ),
        )
        .hint(
            "if the job did that, it does not write to the branch that UNSHIP_ICEBERG_BRANCH names: \
             Spark does so only in tables with the property write.wap.enabled=true",
        ));
    }
    Ok(Some(format!(
        "production changed while the job worked: {named}. If the job did that, it did not write to \
         the branch"
    )))
}

/// The tables of production that have this branch.
pub fn with_branch(seen: &Seen, branch: &str) -> BTreeSet<RelationName> {
    let tables = seen.tables.iter();
    let have = tables.filter(|(_, table)| table.metadata.refs.contains_key(branch));
    have.map(|(name, _)| name.clone()).collect()
}
