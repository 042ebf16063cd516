//! What a step does, what is true before and after it, and how it is written in a plan.

use super::commit::{Empty, Restore};
use super::kept::Kept;
use super::plan::ENGINE;
use serde::{Deserialize, Serialize};
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::RelationName;
use unship_core::plan::{Action, Fact, Step};

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum DeltaAction {
    /// Writes down what is retained.
    Keep {
        /// What is retained.
        kept: Kept,
    },
    /// Gives a table's directory another name.
    Rename {
        /// The one that it has, below the root.
        from: String,
        /// The one that it gets.
        to: String,
        /// The table's identity.
        id: String,
    },
    /// Makes an older version of a table the newest one.
    Restore(Restore),
    /// Takes all rows out of a table whose directory cannot be renamed.
    Empty(Empty),
}

impl DeltaAction {
    /// Reads a step's action.
    pub fn of(action: &Action) -> Result<Self, EngineError> {
        let value = serde_json::json!({ "kind": action.kind, "args": action.args });
        serde_json::from_value(value).map_err(|e| {
            EngineError::new(
                ErrorKind::Unsupported,
                format!("the plan has a step {:?} that is not known", action.kind),
            )
            .because(e)
            .hint("it may come from a newer unship")
        })
    }

    fn action(&self) -> Result<Action, EngineError> {
        let unwritten = |e| EngineError::new(ErrorKind::Io, "a step cannot be written").because(e);
        let mut value = serde_json::to_value(self).map_err(unwritten)?;
        Ok(Action {
            kind: value["kind"].as_str().unwrap_or_default().to_owned(),
            args: value["args"].take(),
        })
    }
}

/// Facts, by what they are of. A table is named by its directory below the root.
pub mod subject {
    use serde_json::json;
    use unship_core::ident::ReleaseId;

    /// Which commit of unship's was the last after a version.
    pub fn released(path: &str, after: u64) -> String {
        format!("released {}", json!([path, after]))
    }

    /// The identity of the table in a directory.
    pub fn table(path: &str) -> String {
        format!("table {}", json!([path]))
    }

    /// The digest of a version's files.
    pub fn files(path: &str, version: u64) -> String {
        format!("files {}", json!([path, version]))
    }

    /// Whether a version with this digest can become the newest one.
    pub fn readable(path: &str, version: u64, files: &str) -> String {
        format!("readable {}", json!([path, version, files]))
    }

    /// Whether a part of a restore point was written down.
    pub fn kept(release: ReleaseId, digest: &str) -> String {
        format!("kept {release} {digest}")
    }
}

/// What a fact says of something that is not there.
pub const ABSENT: &str = "absent";

/// What a fact says of something that holds.
pub const YES: &str = "yes";

/// Steps under way.
#[derive(Default)]
pub struct Sequence {
    /// The steps.
    pub steps: Vec<Step>,
}

/// What is true before and after.
pub type Turn = (String, String, String);

impl Sequence {
    /// One more, after all others.
    pub fn push(
        &mut self,
        action: &DeltaAction,
        undo: Option<&DeltaAction>,
        relation: Option<&RelationName>,
        turns: &[Turn],
        statements: Vec<String>,
        explain: String,
    ) -> Result<(), EngineError> {
        let id = u32::try_from(self.steps.len() + 1).unwrap_or(u32::MAX);
        let fact = |subject: &String, is: &String| Fact::new(subject.clone(), is.clone());
        self.steps.push(Step {
            id,
            after: if id > 1 { vec![id - 1] } else { Vec::new() },
            engine: ENGINE.to_owned(),
            relations: relation.cloned().into_iter().collect(),
            action: action.action()?,
            statements,
            guard: turns.iter().map(|(s, before, _)| fact(s, before)).collect(),
            expect: turns.iter().map(|(s, _, after)| fact(s, after)).collect(),
            undo: undo.map(DeltaAction::action).transpose()?,
            production: !matches!(action, DeltaAction::Keep { .. }),
            explain,
        });
        Ok(())
    }
}
