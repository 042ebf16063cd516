//! What is asked for, and the answers: a plan, or a refusal that names everything in the way.

use super::model::{Grant, Name};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A relation that goes from one place to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where it lies.
    pub from: Name,
    /// Where it shall lie.
    pub to: Name,
    /// The relation in production whose access, keys and everything else it takes over where it
    /// has none of its own; it leaves in the same request.
    #[serde(default)]
    pub carry_from: Option<Name>,
    /// What is known of its access, if it comes back. Without it, it takes over all access that the
    /// relation in production has.
    #[serde(default)]
    pub access: Option<Access>,
}

/// Who may do what with a relation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// On all of it.
    pub all: BTreeSet<Grant>,
    /// On single columns.
    pub columns: BTreeMap<String, BTreeSet<Grant>>,
}

/// What tells access that was given or taken since from access that came with a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// What the relation that comes back had when it left production. Rights to write have been
    /// taken from it since.
    pub own: Rights,
    /// What the relation in production had when it became that.
    pub given: Rights,
}

/// A right that went with the version that came with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Withdrawn {
    /// The relation that leaves.
    pub relation: u32,
    /// Whose it was; `None` is everybody's.
    pub to: Option<String>,
    /// Which.
    pub privilege: String,
}

/// A foreign key to a relation that stays in production while its own leaves. It is dropped, for it
/// would keep rows in production from being deleted, or change rows that are retained, and it is
/// written down here, so that it can come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftKey {
    /// The relation that left, where it is retained.
    pub relation: Name,
    /// The key's name.
    pub name: String,
    /// Its definition.
    pub definition: String,
    /// What it refers to.
    pub target: Name,
    /// Its comment.
    pub comment: Option<String>,
}

/// Moves that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The moves.
    pub moves: Vec<Move>,
    /// Drop the foreign keys of other tables that refer to a relation that leaves, and make them
    /// anew on what takes its place, unchecked until the move is done. Without it they are in the way.
    #[serde(default)]
    pub foreign_keys: bool,
    /// Keys and other constraints, by name, that the new relation shall not take over.
    #[serde(default)]
    pub leave: BTreeSet<String>,
    /// Foreign keys that relations which come back had when they left, from
    /// [`SwapPlan::left_keys`]: they get them back. Without them they get those of the live version.
    #[serde(default)]
    pub keys: Vec<LeftKey>,
}

impl Request {
    /// What a survey for this request must look at.
    pub fn scope(&self) -> Scope {
        let mut scope = Scope::default();
        for one in &self.moves {
            scope.relations.insert(one.from.clone());
            scope.schemas.insert(one.from.schema.clone());
            scope.schemas.insert(one.to.schema.clone());
        }
        scope
    }
}

/// What a survey looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Relations. One that does not exist is left out of the survey.
    pub relations: BTreeSet<Name>,
    /// Schemas in which names may collide.
    pub schemas: BTreeSet<String>,
}

/// Everything that one transaction will do, decided before any lock is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapPlan {
    /// What was asked for.
    pub request: Request,
    /// Statements on the incoming side that take long or need nobody's lock: grants, indexes,
    /// keys. They run in a transaction of their own, before production is touched.
    pub prepare: Vec<String>,
    /// Locks on the incoming side.
    pub lock_incoming: Vec<String>,
    /// Locks on production.
    pub lock_production: Vec<String>,
    /// The moves and all that goes with them, in order.
    pub statements: Vec<String>,
    /// What can be done once the move is committed and need not be (checking carried foreign
    /// keys); a failure changes nothing.
    pub afterwards: Vec<String>,
    /// Foreign keys that do not go along: to be kept, and given back by [`Request::keys`].
    pub left_keys: Vec<LeftKey>,
    /// What a person should know: above all what cannot be carried.
    pub warnings: Vec<String>,
    /// What a person should know besides, though nothing is lost.
    #[serde(default)]
    pub notes: Vec<String>,
    /// (outgoing, incoming): nobody may lose access from the first to the second.
    pub access: Vec<(u32, u32)>,
    /// Rights of which that is not so: they came with the version that leaves.
    #[serde(default)]
    pub withdrawn: Vec<Withdrawn>,
    /// Relations whose catalog entries must not have changed since the survey.
    pub watch: BTreeSet<u32>,
    /// How those entries stood.
    pub mark: String,
}

/// One thing in the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Obstacle {
    /// What, by name.
    pub object: String,
    /// Why it is in the way.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

/// Why a request cannot be fulfilled without a loss. Nothing was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// Everything that was found, not only the first.
    pub obstacles: Vec<Obstacle>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.obstacles.len();
        write!(
            f,
            "{n} {} in the way, and nothing was changed:",
            if n == 1 { "thing is" } else { "things are" }
        )?;
        for one in &self.obstacles {
            write!(f, "\n  {}: {}\n    {}", one.object, one.reason, one.hint)?;
        }
        Ok(())
    }
}
