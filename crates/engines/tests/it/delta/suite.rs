//! The suite that every engine must pass.

use super::table::{Log, is_table};
use jiff::SignedDuration;
use object_store::local::LocalFileSystem;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use unship_core::engine::{Build, Engine, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::testing::conformance::Make;
use unship_core::testing::world::Harness;
use unship_core::testing::{Contents, Write};
use unship_engines::delta::kept::Store;
use unship_engines::delta::{Delta, Dir, Settings};

/// A directory of tables, and the one where unship writes down what is retained.
pub struct Lake {
    dir: Arc<TempDir>,
    /// Whether somebody compacts a table after each change of it.
    compacts: bool,
    /// Whether unship finds the same directory in an object store.
    stored: bool,
}

impl Lake {
    pub fn new(compacts: bool, stored: bool) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("lake/s")).unwrap();
        Self {
            dir: Arc::new(dir),
            compacts,
            stored,
        }
    }

    /// The same tables.
    pub fn at(other: &Self) -> Self {
        Self {
            dir: Arc::clone(&other.dir),
            compacts: other.compacts,
            stored: other.stored,
        }
    }

    /// The root of the tables.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("lake")
    }

    pub fn settings(&self) -> Settings {
        let root = match self.stored {
            false => Dir::Disk(self.dir()),
            true => {
                let store = LocalFileSystem::new_with_prefix(self.dir()).unwrap();
                // Of buckets with such names the library knows that they list in no order.
                Dir::within("s3://lake--x-s3", Arc::new(store)).unwrap()
            }
        };
        Settings {
            root,
            catalog: "lake".to_owned(),
            namespaces: BTreeSet::new(),
            home: self.home(),
            promise: SignedDuration::from_hours(24),
        }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn table(&self, of: &str) -> Log {
        Log(self.dir().join("s").join(of))
    }

    /// The table with this identity: where it belongs, or where it was set aside.
    fn lies(&self, of: &str, id: &str) -> Option<Log> {
        let entries = fs::read_dir(self.dir().join("s")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let of_it = |name: &String| name == of || name.ends_with(&format!("_{of}"));
        let mut logs = names.filter(of_it).map(|name| self.table(&name));
        logs.find(|log| log.at(log.latest().unwrap()).metadata["id"] == id)
    }

    fn write(&self, write: &Write) -> Result<(), String> {
        let log = self.table(&write.relation().name);
        match write {
            Write::Replace(_, table) => log.replace(table),
            Write::Insert(_, rows) if is_table(&log.0) => log.append(rows),
            Write::Drop(_) if is_table(&log.0) => {
                fs::remove_dir_all(&log.0).unwrap();
                return Ok(());
            }
            _ => return Err("no such table".to_owned()),
        }
        if self.compacts {
            log.optimize();
        }
        Ok(())
    }
}

pub fn name(of: &str) -> RelationName {
    RelationName::new("lake", "s", of)
}

impl Harness for Lake {
    fn engine(&self) -> Box<dyn Engine> {
        Box::new(Delta::new(self.settings()))
    }

    fn relation(&self, _database: usize, of: &str) -> RelationName {
        name(of)
    }

    fn job_writes(&self, _build: &Build, write: &Write) -> Result<(), String> {
        self.write(write)
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        self.write(write)
    }

    fn make_view(
        &self,
        _build: Option<&Build>,
        view: &RelationName,
        _of: &RelationName,
    ) -> Result<(), String> {
        Err(format!("{view}: a directory of tables has no views"))
    }

    fn lose_point(&self, release: ReleaseId) {
        Store::new(self.home()).remove(release).unwrap();
    }

    fn read(&self, place: Place) -> Contents {
        let mut out = Contents::new();
        match place {
            Place::Live => {
                for entry in fs::read_dir(self.dir().join("s")).unwrap() {
                    let of = entry.unwrap().file_name().into_string().unwrap();
                    let log = self.table(&of);
                    if !of.starts_with("unship_r") && !log.is_aside() {
                        out.insert(name(&of), log.read(log.latest().unwrap()));
                    }
                }
            }
            Place::Point(release) => {
                let kept = Store::new(self.home()).read(release).unwrap();
                for (of, one) in kept.into_iter().flat_map(|kept| kept.relations) {
                    let id = one.state.storage.unwrap();
                    let log = self.lies(&of.name, id.split(' ').next().unwrap());
                    out.insert(of, log.unwrap().read(one.version));
                }
            }
            Place::Build(_) => {}
        }
        out
    }

    fn whole(&self) -> bool {
        false
    }

    fn aside(&self) -> bool {
        false
    }

    fn without(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("a failed job leaves production", "nothing is built aside"),
            (
                "a failed job in place is undone",
                "its job deletes a table's directory, and with it every version",
            ),
            (
                "rows of an older version come back",
                "an engine that reads and writes files is needed for that",
            ),
            (
                "writers are frozen during a run",
                "nobody can keep writers of a lake out",
            ),
            (
                "only what was planned is published",
                "nothing is built aside",
            ),
            ("versions are compared row by row", "no row is read"),
            ("relations are measured where they lie", "no row is read"),
            ("a query reads a place and writes nothing", "no row is read"),
        ]
    }
}

/// Plays a case where nobody else is about, where every change is followed by compaction, and in an
/// object store.
fn play(case: &dyn Fn(Make<'_>)) {
    for (compacts, stored) in [(false, false), (true, false), (false, true)] {
        println!("compacted: {compacts}, in a store: {stored}");
        case(&|| Box::new(Lake::new(compacts, stored)));
    }
}

unship_core::conformance_tests!(play);
