//! Planning for Snowflake. Pure: it sees the request and a survey, and nothing else.
//!
//! A table gives way to another by `SWAP WITH`, which exchanges two tables at once; then the one that
//! gave way is moved to where its version is retained. Every relation is two steps or so of its own,
//! each with what is true before and after it: Snowflake commits each statement by itself.

use super::access;
use super::layout;
use super::planner::{Incoming, Planner};
use super::sql::{self, Grant, Place};
use super::survey::Survey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind, PublishRequest, RestoreRequest, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::plan::Action;

/// The engine's name in plans and configuration.
pub const ENGINE: &str = "snowflake";

/// What a step does. Serialised into [`Action`], with the release that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum SfAction {
    /// Makes schemas, where they are missing.
    Schemas {
        /// Their names.
        names: BTreeSet<String>,
    },
    /// Gives and takes privileges.
    Grants {
        /// Each one.
        changes: Vec<Change>,
    },
    /// Makes a copy that shares its rows, of what must stay where it is.
    Clone {
        /// The copy.
        copy: Place,
        /// The original.
        of: Place,
        /// Whether they are transient.
        transient: bool,
        /// Whether whoever may read the original may read the copy.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        access: bool,
    },
    /// Drops a copy of what is retained itself.
    DropTable {
        /// Where.
        place: Place,
        /// Which table it must be.
        created: String,
    },
    /// Exchanges two tables.
    Swap {
        /// The one in production.
        live: Place,
        /// The other.
        other: Place,
        /// What was last written to production's when it was looked at.
        token: Option<String>,
        /// How many rows that had.
        rows: Option<u64>,
        /// The privileges on production's: the other must have them.
        access: access::Access,
    },
    /// Moves a table.
    Move {
        /// From where.
        from: Place,
        /// To where.
        to: Place,
        /// Which table it must be; any, if it is a copy that was not there yet when this was planned.
        created: Option<String>,
    },
    /// Makes a view, or puts it in the place of another.
    MakeView {
        /// Where.
        place: Place,
        /// What it selects.
        body: String,
        /// Whether it hides its text.
        secure: bool,
        /// Its comment.
        comment: Option<String>,
        /// Its columns' names.
        columns: Vec<String>,
    },
    /// Drops a view.
    DropView {
        /// Where.
        place: Place,
    },
    /// Gives and takes privileges on a schema itself.
    SchemaGrants {
        /// The schema.
        schema: String,
        /// Each one, and whether it is given.
        changes: Vec<(Grant, bool)>,
    },
    /// Takes what unship put there for the job out of a staging schema.
    Clear {
        /// The schema.
        schema: String,
        /// The views.
        helpers: BTreeSet<String>,
    },
    /// Says whose a staging schema is.
    Mark {
        /// The schema.
        schema: String,
        /// Whose.
        of: String,
    },
    /// Exchanges two schemas.
    SwapSchemas {
        /// Production.
        live: String,
        /// The other.
        other: String,
        /// What is in production.
        held: Vec<Held>,
        /// The privileges on production itself: the other must have them.
        access: access::Access,
    },
    /// Gives a schema that is not production another name.
    RenameSchema {
        /// The old name.
        from: String,
        /// The new one.
        to: String,
    },
    /// Writes down which schemas retain something.
    Remember {
        /// Those that do now.
        there: BTreeSet<String>,
        /// Those that did.
        gone: BTreeSet<String>,
    },
}

/// What is in a schema of production that gives way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Whether it is a view.
    pub view: bool,
    /// What was last written to it when it was looked at.
    pub token: Option<String>,
    /// How many rows it had.
    pub rows: Option<u64>,
    /// The privileges on it, where something of its name comes: that must have them.
    pub access: access::Access,
}

/// A privilege that is given or taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// On what.
    pub place: Place,
    /// Whether that is a view.
    pub view: bool,
    /// Which, and whose.
    pub grant: Grant,
    /// Whether it is given.
    pub give: bool,
}

impl Change {
    /// The statement.
    pub fn statement(&self) -> String {
        match self.give {
            true => sql::grant(&self.place, self.view, &self.grant),
            false => sql::revoke(&self.place, self.view, &self.grant),
        }
    }
}

impl SfAction {
    /// Whether it does no harm to do it twice.
    pub fn may_be_repeated(&self) -> bool {
        !matches!(
            self,
            Self::Swap { .. }
                | Self::SwapSchemas { .. }
                | Self::Move { .. }
                | Self::RenameSchema { .. }
        )
    }

    /// The statements, in order.
    pub fn statements(&self, database: &str) -> Vec<String> {
        match self {
            Self::Schemas { names } => schemas(database, names),
            Self::Grants { changes } => changes.iter().map(Change::statement).collect(),
            Self::Clone {
                copy,
                of,
                transient,
                access,
            } => vec![match access {
                true => sql::retain(copy, of, *transient),
                false => sql::clone(copy, of, *transient),
            }],
            Self::DropTable { place, .. } => vec![sql::drop_table(place)],
            Self::Swap { live, other, .. } => vec![sql::swap(live, other)],
            Self::Move { from, to, .. } => vec![sql::rename(from, to)],
            Self::MakeView {
                place,
                body,
                secure,
                comment,
                columns,
            } => {
                let view = sql::ViewText {
                    body,
                    columns,
                    secure: *secure,
                    comment: comment.as_deref(),
                };
                vec![sql::create_view(place, &view)]
            }
            Self::DropView { place } => vec![sql::drop_view(place)],
            Self::SchemaGrants { schema, changes } => changes
                .iter()
                .map(|(grant, give)| match give {
                    true => sql::grant_on_schema(database, schema, grant),
                    false => sql::revoke_on_schema(database, schema, grant),
                })
                .collect(),
            Self::Clear { schema, helpers } => helpers
                .iter()
                .map(|name| sql::drop_view(&Place::new(database, &**schema, &**name)))
                .collect(),
            Self::Mark { schema, of } => {
                vec![sql::mark(
                    &Place::new(database, &**schema, layout::MARK),
                    of,
                )]
            }
            Self::SwapSchemas { live, other, .. } => vec![sql::swap_schemas(database, live, other)],
            Self::RenameSchema { from, to } => vec![sql::rename_schema(database, from, to)],
            Self::Remember { there, gone } => {
                let home = |name: &String| Place::new(database, layout::HOME, &**name);
                let made = there.iter().map(|name| sql::mark(&home(name), name));
                made.chain(gone.iter().map(|name| sql::drop_view(&home(name))))
                    .collect()
            }
        }
    }

    pub(super) fn action(&self, release: ReleaseId) -> Result<Action, EngineError> {
        let unwritten =
            |e| EngineError::new(ErrorKind::Io, "a step cannot be written down").because(e);
        let value = serde_json::to_value(self).map_err(unwritten)?;
        let mut action: Action = serde_json::from_value(value).map_err(unwritten)?;
        if let Some(args) = action.args.as_object_mut() {
            args.insert("release".to_owned(), serde_json::json!(release));
        }
        Ok(action)
    }

    /// Reads an action back from a plan.
    pub fn of(action: &Action) -> Result<Self, EngineError> {
        serde_json::to_value(action)
            .and_then(serde_json::from_value)
            .map_err(|e| {
                let text = "the plan has a step that is not known here";
                EngineError::new(ErrorKind::Unsupported, text)
                    .because(e)
                    .hint("it may come from a newer unship")
            })
    }
}

fn gone(name: &RelationName, what: &str) -> EngineError {
    EngineError::new(ErrorKind::Missing, format!("{name} is not {what} any more"))
        .hint("run the command again: it looks at what is there now")
}

/// Steps that make a build aside live.
pub fn publish(survey: &Survey, request: &PublishRequest) -> Result<Steps, EngineError> {
    let planner = Planner::new(survey, request.release, &request.live_map);
    let mut incoming = Vec::new();
    let mut remove = Vec::new();
    for (name, version) in &request.changes {
        if version.state.is_none() {
            remove.push(name);
            continue;
        }
        let staged = Place::new(&*name.database, layout::build(&name.schema)?, &*name.name);
        let there = survey.at(&staged).ok_or_else(|| gone(name, "in staging"))?;
        incoming.push((
            name,
            Incoming {
                there,
                clone: false,
            },
        ));
    }
    planner.all(incoming, remove)
}

/// Steps that fulfil a restore request.
pub fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    if let Some(name) = request.keep.keys().next() {
        return Err(EngineError::new(
            ErrorKind::Unsupported,
            format!("what others wrote to {name} cannot be put into an older version in Snowflake"),
        )
        .hint("let it be set aside: it is retained with the version that it was written to"));
    }
    let mut planner = Planner::new(survey, request.release, &request.live_map);
    planner.strict = true;
    let mut incoming = Vec::new();
    for (name, version) in &request.bring {
        let schema = layout::retained(version.id, &name.schema)?;
        let retained = Place::new(&*name.database, schema, &*name.name);
        let there = survey.at(&retained).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Missing,
                format!("{name} of {} is not retained any more", version.id),
            )
            .hint("`unship log` shows which releases can still be had")
        })?;
        let clone = request.pinned.contains(&version.id.release);
        incoming.push((name, Incoming { there, clone }));
    }
    planner.all(incoming, request.remove.iter().collect())
}

/// Statements that make schemas, and remember those that retain something.
pub fn schemas(database: &str, names: &BTreeSet<String>) -> Vec<String> {
    let retain = names
        .iter()
        .filter(|name| layout::parse_retained(name).is_some());
    let home = sql::create_schema(database, layout::HOME);
    let remember = retain.map(|name| sql::mark(&Place::new(database, layout::HOME, &**name), name));
    let make = names.iter().map(|name| sql::create_schema(database, name));
    make.chain([home]).chain(remember).collect()
}
