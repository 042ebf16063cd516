//! An estate: several warehouses that are released together, each with an engine of its own.
//!
//! It is an engine itself. What a release asks of it, it asks of its members: of all of them, or of
//! the one whose databases a relation is in. A plan for it is the plans of its members, one after the
//! other; nothing makes two warehouses change at one moment, so the order is what there is to choose.
//! It is chosen by one rule: **a consumer never is ahead of what it reads**. Going forward, sources
//! become production first; going back, consumers do. A reader who comes between two members finds a
//! consumer that lags behind its source, as it does after every load, and never one that shows what
//! its source does not have.

mod ask;
mod engine;
mod join;
mod lineage;
mod order;
mod part;
mod said;
mod told;

use crate::engine::{Engine, EngineError, ErrorKind, Proving};
use crate::ident::{RelationName, ReleaseId};
use std::collections::{BTreeMap, BTreeSet};

/// The estate's name among engines.
pub const ENGINE: &str = "estate";

/// One of the warehouses.
pub struct Member {
    /// What it is called: letters, digits, `-` and `_`.
    pub name: String,
    /// The databases of its relations; no other member has one of them.
    pub databases: BTreeSet<String>,
    /// The members that something in it is made from.
    pub reads: BTreeSet<String>,
    /// The way to it.
    pub engine: Box<dyn Engine>,
}

/// Members that cannot be released together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstateError {
    /// There is none.
    #[error("it has no member")]
    Empty,
    /// A name that has other characters than a member's may have, or none.
    #[error("`{0}` is not a member's name: it has letters, digits, `-` and `_`")]
    Name(String),
    /// Two names that are one where a job is told of its members.
    #[error("`{0}` and `{1}` are the same in the names of a job's environment variables")]
    SameWord(String, String),
    /// Two members of which a relation's name does not tell which one is meant.
    #[error(
        "`{one}` and `{other}` both have the database `{database}`: by a relation's name nobody \
         could tell which of them is meant"
    )]
    SameDatabase {
        /// A member.
        one: String,
        /// Another.
        other: String,
        /// What both have.
        database: String,
    },
    /// A member that reads what is none.
    #[error("`{member}` reads `{reads}`, which is no other member")]
    Unknown {
        /// The member.
        member: String,
        /// What it is said to read.
        reads: String,
    },
    /// Members that read each other.
    #[error(
        "{} read each other in a circle: whichever goes first, what another shows would be ahead \
         of what it reads",
        .0.join(", ")
    )]
    Circle(Vec<String>),
    /// Members that read each other by the lineage of dbt alone.
    #[error(
        "by dbt's lineage members read each other in a circle: {}. Which of them goes first has to be \
         said: `reads` in the environment counts more",
        .0.join(", ")
    )]
    CircleByLineage(Vec<String>),
}

/// Several warehouses that are released together.
pub struct Estate {
    /// Sources before what reads them.
    members: Vec<Member>,
    /// The member whose warehouse holds the ledger, if one does.
    ledger: Option<String>,
    /// Where identity is proved, once it was asked.
    proving: Option<Proving>,
    /// The release whose restore point this process took in every member.
    taken: Option<ReleaseId>,
    /// Where dbt's lineage is found, until it was asked for.
    lineage: Option<lineage::Source>,
    /// What it added to what the configuration says.
    derived: lineage::Derived,
    /// Why no order is right, where lineage says so.
    circle: Option<EstateError>,
}

impl Estate {
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// When the members cannot be told apart, or no order of them is right.
    pub fn new(members: Vec<Member>) -> Result<Self, EstateError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let mut words: BTreeMap<String, &str> = BTreeMap::new();
        let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
        for member in &members {
            if member.name.is_empty() || !member.name.chars().all(good) {
                return Err(EstateError::Name(member.name.clone()));
            }
            if let Some(other) = words.insert(word(&member.name), &member.name) {
                return Err(EstateError::SameWord(other.to_owned(), member.name.clone()));
            }
            for database in &member.databases {
                if let Some(one) = homes.insert(database, &member.name) {
                    return Err(EstateError::SameDatabase {
                        one: one.to_owned(),
                        other: member.name.clone(),
                        database: database.clone(),
                    });
                }
            }
        }
        Ok(Self {
            members: order::sources_first(members)?,
            ledger: None,
            proving: None,
            taken: None,
            lineage: None,
            derived: lineage::Derived::default(),
            circle: None,
        })
    }

    /// Says in which member's warehouse the ledger lies: entries that are to be written with a change
    /// of production are given to that one only.
    #[must_use]
    pub fn with_ledger(mut self, member: Option<String>) -> Self {
        self.ledger = member;
        self
    }

    fn position(&self, database: &str) -> Result<usize, EngineError> {
        let at = self
            .members
            .iter()
            .position(|m| m.databases.contains(database));
        at.ok_or_else(|| {
            let text = format!("no member of this environment has the database {database}");
            EngineError::new(ErrorKind::Missing, text)
        })
    }

    /// The member that a relation is in.
    fn home(&mut self, relation: &RelationName) -> Result<&mut Member, EngineError> {
        let at = self.position(&relation.database)?;
        self.members
            .get_mut(at)
            .ok_or_else(|| gone(&relation.database))
    }

    fn named(&mut self, name: &str) -> Result<&mut Member, EngineError> {
        let found = self.members.iter_mut().find(|m| m.name == name);
        found.ok_or_else(|| gone(name))
    }

    /// The members that these relations are in.
    fn homes<'a>(
        &self,
        relations: impl IntoIterator<Item = &'a RelationName>,
    ) -> Result<BTreeSet<usize>, EngineError> {
        let all = relations.into_iter();
        all.map(|name| self.position(&name.database)).collect()
    }

    /// The members that retain something of a release.
    fn retaining(&mut self, release: ReleaseId) -> Result<BTreeSet<usize>, EngineError> {
        let mut found = BTreeSet::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            let points = member.ask(Engine::points)?;
            if points.iter().any(|point| point.release == release) {
                found.insert(at);
            }
        }
        Ok(found)
    }
}

impl Member {
    /// Asks its engine, and says in an error which member it is of.
    fn ask<T>(
        &mut self,
        what: impl FnOnce(&mut (dyn Engine + 'static)) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let name = &self.name;
        what(&mut *self.engine).map_err(|error| of_member(name, error))
    }

    fn has(&self, relation: &RelationName) -> bool {
        self.databases.contains(&relation.database)
    }
}

fn of_member(name: &str, mut error: EngineError) -> EngineError {
    error.message = format!("{name}: {}", error.message);
    error
}

fn gone(name: &str) -> EngineError {
    let text = format!("this environment has no member `{name}`");
    EngineError::new(ErrorKind::Refused, text).hint("it may have been taken out of unship.toml")
}

/// A member's name in names of environment variables.
fn word(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
