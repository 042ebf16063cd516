//! Planning a way back by the undo log. Pure.

use super::back::{Scope, Statements, Target, statements};
use super::facts;
use super::known::Known;
use super::position::Position;
use crate::postgres::plan::{ENGINE, PgAction, Survey};
use std::collections::BTreeMap;
use unship_core::engine::{EngineError, ErrorKind, RestoreRequest, Steps};
use unship_core::ident::RelationName;
use unship_core::operate::count;
use unship_core::plan::{Fact, Step};
use unship_core::relation::RelationState;

/// What goes back where it stands.
#[derive(Debug, Default)]
pub struct Planned {
    /// The relations.
    pub relations: Vec<RelationName>,
    statements: Statements,
    guard: Vec<Fact>,
    expect: Vec<Fact>,
    notes: Vec<String>,
    mixed: BTreeMap<RelationName, RelationState>,
}

/// Finds what a request can have by the undo log: tables that still are the ones that they were.
///
/// # Errors
/// [`ErrorKind::Refused`] for a table whose log does not reach back so far, with the reason.
pub fn planned(survey: &Survey, request: &RestoreRequest) -> Result<Planned, EngineError> {
    let mut out = Planned::default();
    let mut targets = Vec::new();
    for (name, wanted) in &request.bring {
        let Some((table, position, state)) = wanted
            .state
            .as_ref()
            .and_then(|state| logged(survey, name, state))
        else {
            continue;
        };
        let why = table.out_of_reach(&position);
        let (None, Some(moment)) = (&why, table.moment(&position)) else {
            let why = why.unwrap_or_default();
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!("{name} cannot go back to {}: it {why}", wanted.id),
            )
            .hint("go back no further than that, or leave it as it is: `--exclude` it"));
        };
        let scope = Scope {
            writer: request.writer.clone(),
            jobs: request.keep.contains_key(name),
            rows: None,
        };
        let stands = match scope.is_all() {
            true => position.at.clone(),
            false => format!("@{}", request.release),
        };
        if !scope.is_all() {
            let position = Position {
                guard: table.guard,
                at: stands.clone(),
            };
            let state = RelationState {
                storage: Some(position.storage(table.relation)),
                rows: None,
                fingerprint: None,
                ..state.clone()
            };
            out.mixed.insert(name.clone(), state);
        }
        let live = request.live_map.get(name);
        let scope_is_all = scope.is_all();
        targets.push(Target {
            moment,
            scope,
            stands,
            // That was said when it was planned, and agreed to.
            take_all: !scope_is_all || live.is_some_and(|live| live.id.drift > 0),
            expected: None,
            table,
        });
        out.guard
            .push(facts::guarded(&table.name, table.relation, table.guard));
        out.guard
            .push(facts::back(table.guard, request.release, false));
        out.expect
            .push(facts::back(table.guard, request.release, true));
        out.relations.push(name.clone());
        if !table.triggers.is_empty() {
            let names: Vec<_> = table.triggers.iter().map(|t| t.name.as_str()).collect();
            out.notes.push(format!(
                "triggers of {name} do not fire while it goes back, so that what they did is not \
                 done twice: {}",
                names.join(", ")
            ));
        }
    }
    if !targets.is_empty() {
        out.statements = statements(&targets, request.release);
    }
    Ok(out)
}

/// The table of a name, if it is the one that it was and has an undo log.
fn logged<'a>(
    survey: &'a Survey,
    name: &RelationName,
    state: &'a RelationState,
) -> Option<(&'a Known, Position, &'a RelationState)> {
    let storage = state.storage.as_deref()?;
    let position = Position::read(storage)?;
    let relation: u32 = storage.split(' ').next()?.parse().ok()?;
    let mut all = survey.undo.iter();
    let table = all.find(|known| {
        known.name.schema == name.schema
            && known.name.name == name.name
            && known.relation == relation
    })?;
    Some((table, position, state))
}

impl Planned {
    fn method(&self) -> String {
        format!(
            "take back, where it stands, what changed in {}: one transaction",
            count(self.relations.len(), "table")
        )
    }

    /// The steps, where nothing else is to be done.
    pub fn alone(self) -> Result<Steps, EngineError> {
        let method = self.method();
        let all = std::iter::once(&self.statements.lock).chain(&self.statements.work);
        let step = Step {
            id: 1,
            after: Vec::new(),
            engine: ENGINE.to_owned(),
            explain: format!(
                "take back what changed in {} in one transaction",
                count(self.relations.len(), "table")
            ),
            relations: self.relations,
            statements: all.cloned().collect(),
            guard: self.guard,
            expect: self.expect,
            undo: None,
            production: true,
            action: PgAction::Undo {
                statements: self.statements,
            }
            .action()?,
        };
        Ok(Steps {
            steps: vec![step],
            method,
            notes: self.notes,
            mixed: self.mixed,
            ..Steps::default()
        })
    }

    /// The same in the transaction that moves other relations.
    pub fn with(self, mut steps: Steps) -> Result<Steps, EngineError> {
        steps.method = format!("{}; and {}", steps.method, self.method());
        let last = steps.steps.last_mut().ok_or_else(|| {
            EngineError::new(
                ErrorKind::Unsupported,
                "there is nothing that moves relations",
            )
        })?;
        let mut action = PgAction::of(&last.action)?;
        let (PgAction::Swap { record, .. } | PgAction::SwapAfterRebuild { record, .. }) =
            &mut action
        else {
            return Err(EngineError::new(
                ErrorKind::Unsupported,
                "what moves relations does not come last",
            ));
        };
        record.push(self.statements.lock.clone());
        record.extend(self.statements.work.iter().cloned());
        last.action = action.action()?;
        last.statements.push(self.statements.lock);
        last.statements.extend(self.statements.work);
        last.relations.extend(self.relations);
        last.guard.extend(self.guard);
        last.expect.extend(self.expect);
        steps.notes.extend(self.notes);
        steps.mixed.extend(self.mixed);
        Ok(steps)
    }
}
