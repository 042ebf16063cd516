//! Two warehouses that are released together: an estate of whatever two harnesses there are.

use super::world::Harness;
use super::{Contents, Write};
use crate::engine::{Build, Engine, Place};
use crate::estate::{Estate, EstateError, Member};
use crate::ident::{RelationName, ReleaseId};
use std::collections::BTreeSet;

/// An estate's two members. `marts` reads `lake`.
pub struct Pair {
    lake: Box<dyn Harness>,
    marts: Box<dyn Harness>,
    /// What the suite's cases are that either of them, or both together, answer otherwise.
    without: &'static [(&'static str, &'static str)],
}

impl Pair {
    /// Puts two warehouses together whose relations are in databases of different names.
    pub fn new(
        lake: Box<dyn Harness>,
        marts: Box<dyn Harness>,
        without: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            lake,
            marts,
            without,
        }
    }

    /// Both as an engine, as a new process would make it.
    ///
    /// # Errors
    /// When they are no estate.
    pub fn estate(&self) -> Result<Estate, EstateError> {
        let member = |name: &str, reads: &[&str], of: &dyn Harness| Member {
            name: name.to_owned(),
            databases: BTreeSet::from([of.relation(0, "any").database]),
            reads: reads.iter().map(|name| (*name).to_owned()).collect(),
            engine: of.engine(),
        };
        Estate::new(vec![
            member("marts", &["lake"], &*self.marts),
            member("lake", &[], &*self.lake),
        ])
    }

    fn home(&self, relation: &RelationName) -> &dyn Harness {
        match self.lake.relation(0, "any").database == relation.database {
            true => &*self.lake,
            false => &*self.marts,
        }
    }
}

impl Harness for Pair {
    #[expect(
        clippy::unwrap_used,
        reason = "it is a test's own mistake if they are none"
    )]
    fn engine(&self) -> Box<dyn Engine> {
        Box::new(self.estate().unwrap())
    }

    fn relation(&self, database: usize, name: &str) -> RelationName {
        match database {
            0 => self.lake.relation(0, name),
            _ => self.marts.relation(0, name),
        }
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        self.home(write.relation()).job_writes(build, write)
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        self.home(write.relation()).others_write(write)
    }

    fn make_view(
        &self,
        build: Option<&Build>,
        view: &RelationName,
        of: &RelationName,
    ) -> Result<(), String> {
        self.home(view).make_view(build, view, of)
    }

    fn lose_point(&self, release: ReleaseId) {
        self.lake.lose_point(release);
        self.marts.lose_point(release);
    }

    fn read(&self, place: Place) -> Contents {
        let mut all = self.lake.read(place);
        all.extend(self.marts.read(place));
        all
    }

    /// What a release did not change in a member is not retained there under its name.
    fn whole(&self) -> bool {
        false
    }

    fn aside(&self) -> bool {
        self.lake.aside() && self.marts.aside()
    }

    fn without(&self) -> &'static [(&'static str, &'static str)] {
        self.without
    }
}
