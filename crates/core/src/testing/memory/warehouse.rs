//! The warehouse itself: what stands where, and what a job and a stranger do to it.

use super::Memory;
use crate::engine::{EngineError, ErrorKind, Place};
use crate::ident::{RelationName, ReleaseId};
use crate::testing::{Contents, Table, Write};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where one database's contents lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Production.
    Live(String),
    /// Beside production, for a release.
    Build(ReleaseId, String),
    /// A release's restore point.
    Point(ReleaseId, String),
}

impl Slot {
    pub(super) fn at(place: Place, database: &str) -> Self {
        let database = database.to_owned();
        match place {
            Place::Live => Self::Live(database),
            Place::Build(release) => Self::Build(release, database),
            Place::Point(release) => Self::Point(release, database),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(database) => write!(f, "{database}"),
            Self::Build(release, database) => write!(f, "build {release} of {database}"),
            Self::Point(release, database) => write!(f, "point {release} of {database}"),
        }
    }
}

/// How a warehouse brings a whole database back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoring {
    /// It clones the restore point, which stays.
    Clones,
    /// It moves the restore point itself into place, as a rename does.
    Moves,
}

/// One database's contents. Every write gives it another identity.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) identity: u64,
    pub(super) relations: BTreeMap<RelationName, Stored>,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) table: Table,
    pub(super) storage: u64,
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) restoring: Restoring,
    pub(super) files: BTreeMap<Slot, File>,
    pub(super) packed: BTreeSet<ReleaseId>,
    pub(super) frozen: Option<u64>,
    pub(super) clock: u64,
}

impl Disk {
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn file(&self, slot: &Slot) -> Result<&File, EngineError> {
        self.files
            .get(slot)
            .ok_or_else(|| EngineError::new(ErrorKind::Missing, format!("there is no {slot}")))
    }

    pub(super) fn take(&mut self, slot: &Slot) -> Result<File, EngineError> {
        self.files
            .remove(slot)
            .ok_or_else(|| EngineError::new(ErrorKind::Missing, format!("there is no {slot}")))
    }

    pub(super) fn databases(&self) -> Vec<String> {
        let live = self.files.keys().filter_map(|slot| match slot {
            Slot::Live(database) => Some(database.clone()),
            _ => None,
        });
        live.collect()
    }

    pub(super) fn clone_file(&mut self, from: &Slot, to: Slot) -> Result<(), EngineError> {
        let mut file = self.file(from)?.clone();
        file.identity = self.tick();
        self.files.insert(to, file);
        Ok(())
    }

    pub(super) fn write(&mut self, slot: &Slot, write: &Write) -> Result<(), EngineError> {
        let name = write.relation();
        let before = self.file(slot)?.relations.get(name).map(|s| &s.table);
        let after = write.on(before);
        let storage = self.tick();
        let mut file = self.take(slot)?;
        match after {
            Some(table) => drop(
                file.relations
                    .insert(name.clone(), Stored { table, storage }),
            ),
            None => drop(file.relations.remove(name)),
        }
        file.identity = storage;
        self.files.insert(slot.clone(), file);
        Ok(())
    }

    pub(super) fn contents(&self, place: Place) -> Contents {
        let mut out = Contents::new();
        for database in self.databases() {
            if let Some(file) = self.files.get(&Slot::at(place, &database)) {
                let tables = file
                    .relations
                    .iter()
                    .map(|(n, s)| (n.clone(), s.table.clone()));
                out.extend(tables);
            }
        }
        out
    }

    pub(super) fn points(&self) -> BTreeMap<ReleaseId, BTreeSet<String>> {
        let mut out: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for slot in self.files.keys() {
            if let Slot::Point(release, database) = slot {
                out.entry(*release).or_default().insert(database.clone());
            }
        }
        out
    }
}

/// A warehouse. Clones of it are the same warehouse.
#[derive(Debug, Clone)]
pub struct Warehouse(Arc<Mutex<Disk>>);

impl Warehouse {
    /// An empty warehouse with these databases.
    pub fn new(databases: &[&str], restoring: Restoring) -> Self {
        let files = databases.iter().zip(1..).map(|(database, identity)| {
            let relations = BTreeMap::new();
            (
                Slot::Live((*database).to_owned()),
                File {
                    identity,
                    relations,
                },
            )
        });
        Self(Arc::new(Mutex::new(Disk {
            restoring,
            files: files.collect(),
            packed: BTreeSet::new(),
            frozen: None,
            clock: databases.len() as u64,
        })))
    }

    /// An engine for it, as a new process would make one.
    pub fn engine(&self) -> Memory {
        let id = self.disk().tick();
        Memory {
            warehouse: self.clone(),
            id,
        }
    }

    /// Writes to production, as somebody who knows nothing of unship.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while writers are frozen.
    pub fn others_write(&self, write: &Write) -> Result<(), EngineError> {
        let mut disk = self.disk();
        if disk.frozen.is_some() {
            return Err(EngineError::new(
                ErrorKind::Busy,
                "production is frozen for a moment",
            ));
        }
        disk.write(&Slot::Live(write.relation().database.clone()), write)
    }

    /// Writes where a release's job builds: beside production if a build is open, else to it.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is no such database.
    pub fn job_writes(&self, release: ReleaseId, write: &Write) -> Result<(), EngineError> {
        let mut disk = self.disk();
        let database = write.relation().database.clone();
        let build = Slot::Build(release, database.clone());
        let slot = if disk.files.contains_key(&build) {
            build
        } else {
            Slot::Live(database)
        };
        disk.write(&slot, write)
    }

    /// Everything that stands at a place.
    pub fn contents(&self, place: Place) -> Contents {
        self.disk().contents(place)
    }

    /// The restore points, with the databases that each holds.
    pub fn points(&self) -> BTreeMap<ReleaseId, BTreeSet<String>> {
        self.disk().points()
    }

    /// Takes a restore point away, as somebody who knows nothing of unship.
    pub fn lose_point(&self, release: ReleaseId) {
        let mut disk = self.disk();
        disk.files
            .retain(|slot, _| !matches!(slot, Slot::Point(r, _) if *r == release));
    }

    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        // A test that failed while it held the lock is reported by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
