//! What is done to make production of what a job built aside: on branches of tables that were there,
//! and in namespaces of the release's own for those that were not.

use super::super::action::subject;
use super::super::commit;
use super::super::name;
use super::super::rest::LoadTable;
use super::super::state::{self, TableState};
use super::{Intent, Return, Survey, refused, unknown};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, PublishRequest, RestoreRequest, Steps};
use unship_core::ident::RelationName;
use unship_core::relation::{RelationKind, RelationState};

/// Steps that make a build live. What others wrote meanwhile is in production already and stays
/// there: nothing of it is carried.
pub fn publish(survey: &Survey, request: &PublishRequest) -> Result<Steps, EngineError> {
    let giving_way = RestoreRequest {
        release: request.release,
        live: request.live,
        live_map: request.live_map.clone(),
        bring: BTreeMap::new(),
        remove: BTreeSet::new(),
        points: Vec::new(),
        pinned: BTreeSet::new(),
        keep: BTreeMap::new(),
        writer: None,
        built_in_order: Vec::new(),
        spells: BTreeMap::new(),
    };
    let mut intent = Intent::new(survey, &giving_way, true);
    for (name, version) in &request.changes {
        let tables = version.state.iter();
        for built in tables.filter(|state| state.kind == RelationKind::Table) {
            intent.publish(name, built)?;
        }
    }
    intent.possible()?;
    intent.steps()
}

/// What was built is not what was looked at any more.
fn moved_on(name: &RelationName) -> EngineError {
    refused(
        ErrorKind::Busy,
        format!("{name} is not what it was when it was looked at: something still writes to it"),
    )
    .hint("run the job again, once nothing that it started is at work any more")
}

/// A table but for its snapshot.
fn definition(of: &TableState) -> TableState {
    TableState {
        snapshot: None,
        ..of.clone()
    }
}

impl Intent<'_> {
    /// Makes production of one table that was built.
    fn publish(&mut self, name: &RelationName, built: &RelationState) -> Result<(), EngineError> {
        let checked = TableState::read(built).ok_or_else(|| unknown(name))?;
        if let Some(made) = self.survey.made.get(name) {
            return self.arrive(name, made, &checked);
        }
        let now = self.survey.tables.get(name).ok_or_else(|| moved_on(name))?;
        let metadata = &now.metadata;
        let is = TableState::of(metadata).map_err(|_| unknown(name))?;
        let branch = name::branch(self.request.release);
        let Some(head) = metadata.refs.get(&branch).map(|head| head.snapshot_id) else {
            // A job may say that it built what it left as it was.
            return match is == checked {
                true => Ok(()),
                false => Err(moved_on(name)),
            };
        };
        if checked.snapshot != Some(head) || definition(&is) != definition(&checked) {
            return Err(moved_on(name));
        }
        if !state::goes_on_from_main(metadata, head) {
            return Err(refused(
                ErrorKind::Refused,
                format!(
                    "the branch {branch} of {name} does not go on from what main shows: others \
                     committed to main since, or it was begun without a snapshot of main"
                ),
            )
            .hint(
                "a branch begins where main is: Spark and Flink see to that themselves, and for \
                 pyiceberg `table.manage_snapshots().create_branch(…)` does; then run the job again",
            ));
        }
        let id = Self::id(name)?;
        let moved = commit::onto(&id, metadata, &checked, self.request.live, &branch);
        self.keep(name, moved.tag.clone(), None)?;
        self.moved.push((name.clone(), moved));
        Ok(())
    }

    /// A table that was made aside gets its name; what bears that now is set aside.
    fn arrive(
        &mut self,
        name: &RelationName,
        made: &LoadTable,
        checked: &TableState,
    ) -> Result<(), EngineError> {
        let is = TableState::of(&made.metadata).map_err(|_| unknown(name))?;
        if is != *checked {
            return Err(moved_on(name));
        }
        self.remove(name)?;
        let id = Self::id(name)?;
        let from = name::aside(self.request.release, &id);
        self.namespaces.insert(id.namespace.clone());
        let held = commit::held(&id, &made.metadata, checked, self.request.live);
        self.moved.push((name.clone(), held));
        let uuid = checked.uuid.clone();
        self.come
            .push((name.clone(), id, Return::Renamed(from), uuid));
        Ok(())
    }

    /// Where the `main` of a table is that was made aside, and what that is to be when it gets its
    /// name: a rename says nothing of snapshots.
    pub(super) fn checked(&self, name: &RelationName) -> Option<(String, String)> {
        let made = self.survey.made.get(name).filter(|_| self.publishes)?;
        let at = name::aside(self.request.release, &Self::id(name).ok()?);
        let head = made.metadata.refs.get("main")?.snapshot_id;
        Some((subject::head(&at, "main"), head.to_string()))
    }
}
