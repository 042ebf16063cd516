//! What a step does, what is true before and after it, and how it is written in a plan.

use super::kept::Kept;
use super::plan::ENGINE;
use super::rest::{Commit, Identifier, ViewContent};
use super::state;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::plan::{Action, Fact, Step};

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum IcebergAction {
    /// Writes down what is retained, and makes the namespaces that it goes to.
    Keep {
        /// What is retained.
        kept: Kept,
        /// Namespaces, each as its parts.
        namespaces: BTreeSet<Vec<String>>,
    },
    /// Takes back that something was written down: what was to give way did not.
    Forget {
        /// Whose it is.
        release: ReleaseId,
        /// The digest of what was written down.
        digest: String,
    },
    /// Gives a table another name.
    Rename {
        /// The one that it has.
        from: Identifier,
        /// The one that it gets.
        to: Identifier,
        /// Its identity.
        uuid: String,
    },
    /// Makes a table of its metadata file.
    Register {
        /// Its name.
        name: Identifier,
        /// Where its metadata lies.
        metadata: String,
        /// Its identity.
        uuid: String,
    },
    /// Holds tables that were registered to what they are to be, and makes the tags again that restore
    /// points count on: a metadata file is older than the newest of them.
    Retag {
        /// The tables.
        tables: Vec<Registered>,
    },
    /// Takes a table out of the catalog that was registered.
    Unregister {
        /// Its name.
        name: Identifier,
        /// Its identity.
        uuid: String,
    },
    /// Makes a view, changes it, or drops it.
    View {
        /// Its name.
        name: Identifier,
        /// What it shall say; `None`, it shall not be there.
        content: Option<ViewContent>,
    },
    /// Changes tables, all or none of them.
    Commit {
        /// What is sent, word for word.
        #[serde(with = "texts")]
        commits: Vec<Commit>,
        /// What the tables bear afterwards.
        token: String,
    },
}

/// A table that was made of its metadata file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its name.
    pub name: Identifier,
    /// Its identity.
    pub uuid: String,
    /// The snapshot of its `main`, as a fact says it.
    pub main: String,
}

/// Commits as text. A plan's id is taken of JSON whose numbers are floats (RFC 8785), and a
/// snapshot's number has 64 bits.
mod texts {
    use super::Commit;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub fn serialize<S: Serializer>(commits: &[Commit], to: S) -> Result<S::Ok, S::Error> {
        let texts = commits.iter().map(serde_json::to_string);
        let texts: Result<Vec<_>, _> = texts.collect();
        to.collect_seq(texts.map_err(ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Commit>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let commits = texts.iter().map(|text| serde_json::from_str(text));
        commits.collect::<Result<_, _>>().map_err(de::Error::custom)
    }
}

impl IcebergAction {
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

/// Facts, by what they are of.
pub mod subject {
    use super::Identifier;
    use serde_json::json;
    use unship_core::ident::ReleaseId;

    fn of(word: &str, id: &Identifier) -> String {
        format!("{word} {}", json!([id.namespace, id.name]))
    }

    /// Which commit of unship's a table has seen last.
    pub fn released(id: &Identifier) -> String {
        of("released", id)
    }

    /// A table's identity.
    pub fn table(id: &Identifier) -> String {
        of("table", id)
    }

    /// The snapshot that a branch of a table is at.
    pub fn head(id: &Identifier, branch: &str) -> String {
        format!("head {}", json!([id.namespace, id.name, branch]))
    }

    /// What a view says.
    pub fn view(id: &Identifier) -> String {
        of("view", id)
    }

    /// Whether a table has the tags that restore points count on.
    pub fn tags(id: &Identifier) -> String {
        of("tags", id)
    }

    /// Whether a part of a restore point was written down.
    pub fn kept(release: ReleaseId, digest: &str) -> String {
        format!("kept {release} {digest}")
    }
}

/// What a fact says of something that is not there.
pub const ABSENT: &str = "absent";

/// What a fact says where no tag is missing.
pub const ALL: &str = "all";

/// Steps under way.
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
        action: &IcebergAction,
        undo: Option<&IcebergAction>,
        relations: Vec<RelationName>,
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
            relations,
            action: action.action()?,
            statements,
            guard: turns.iter().map(|(s, before, _)| fact(s, before)).collect(),
            expect: turns.iter().map(|(s, _, after)| fact(s, after)).collect(),
            undo: undo.map(IcebergAction::action).transpose()?,
            production: !matches!(
                action,
                IcebergAction::Keep { .. } | IcebergAction::Retag { .. }
            ),
            explain,
        });
        Ok(())
    }

    /// What is true after the last one besides, whatever it was before.
    pub fn then(&mut self, facts: impl IntoIterator<Item = Fact>) {
        if let Some(last) = self.steps.last_mut() {
            last.expect.extend(facts);
        }
    }
}

/// BLAKE3 of what a view says.
pub fn view_digest(content: &ViewContent) -> Result<String, EngineError> {
    let value = serde_json::to_value(content)
        .map_err(|e| EngineError::new(ErrorKind::Io, "a view cannot be written").because(e))?;
    let text = state::canonical(&value);
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::rest::{Reference, Requirement, Update};
    use super::*;

    /// What a plan says is read back from the ledger after a crash, to the last digit.
    #[test]
    fn a_commit_survives_the_canonical_json_of_a_plan() {
        let snapshot = 7_660_525_776_946_379_502;
        let commit = Commit {
            identifier: Identifier {
                namespace: vec!["s".to_owned()],
                name: "orders".to_owned(),
            },
            requirements: vec![Requirement::AssertRefSnapshotId {
                r#ref: "main".to_owned(),
                snapshot_id: Some(snapshot),
            }],
            updates: vec![Update::point("unship_r1", &Reference::tag(snapshot))],
        };
        let action = IcebergAction::Commit {
            commits: vec![commit],
            token: "R1 x".to_owned(),
        };
        let stored = serde_json_canonicalizer::to_vec(&action.action().unwrap()).unwrap();
        let read: Action = serde_json::from_slice(&stored).unwrap();
        assert_eq!(IcebergAction::of(&read).unwrap(), action);
    }
}
