//! A warehouse in memory, and the engine for it.
//!
//! It has several databases, each swapped by a step of its own, so that a release of it needs a
//! journal. Its state outlives the engine, as a disk outlives a process: dropping the engine in the
//! middle of an operation is a crash.

mod plan;
mod rows;
mod warehouse;

pub use warehouse::{Restoring, Slot, Warehouse};

use super::Table;
use crate::check::{Answer, ColumnProfile, Detail, RelationProfile, Values};
use crate::diff::RelationDiff;
use crate::engine::{
    Atomicity, Build, Capabilities, Carry, Depth, Diagnosis, Engine, EngineError, ErrorKind,
    Housekeeping, Observation, OnProgress, Place, Point, PublishRequest, RestoreRequest, Retention,
    Steps,
};
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::Seal;
use crate::plan::Step;
use crate::relation::{Column, Fingerprint, RelationKind, RelationState};
use crate::rows::{RowsRequest, RowsSurvey};
use plan::{FileSurvey, MemoryAction, Survey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use warehouse::Stored;

/// The engine for a [`Warehouse`].
#[derive(Debug)]
pub struct Memory {
    warehouse: Warehouse,
    id: u64,
}

impl Memory {
    fn thaw(&self) {
        let mut disk = self.warehouse.disk();
        if disk.frozen == Some(self.id) {
            disk.frozen = None;
        }
    }
}

impl Memory {
    /// What planning sees of the warehouse.
    fn files(&self, release: ReleaseId) -> Result<Survey, EngineError> {
        let disk = self.warehouse.disk();
        let mut files = Vec::new();
        for database in disk.databases() {
            let identity = |slot: &Slot| disk.files.get(slot).map(|f| f.identity);
            let points = disk.points().into_keys().filter_map(|r| {
                let identity = identity(&Slot::Point(r, database.clone()))?;
                Some((r, identity))
            });
            files.push(FileSurvey {
                live: disk.file(&Slot::Live(database.clone()))?.identity,
                build: identity(&Slot::Build(release, database.clone())),
                points: points.collect(),
                database,
            });
        }
        let moves = disk.restoring == Restoring::Moves;
        Ok(Survey { moves, files })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.thaw();
    }
}

impl Engine for Memory {
    fn capabilities(&mut self) -> Capabilities {
        Capabilities {
            engine: plan::ENGINE.to_owned(),
            version: None,
            atomicity: Atomicity::Relations,
            restore_point: "the old contents themselves".to_owned(),
            aside: true,
            free_clone: true,
            proves_identity: false,
            relations: Ok(()),
            carries: Vec::new(),
            not_protected: Vec::new(),
        }
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        Vec::new()
    }

    fn mark(&mut self) -> Result<String, EngineError> {
        let disk = self.warehouse.disk();
        let live = disk
            .files
            .iter()
            .filter(|(slot, _)| matches!(slot, Slot::Live(_)));
        let marks: Vec<_> = live
            .map(|(slot, file)| format!("{slot}:{}", file.identity))
            .collect();
        Ok(marks.join(" "))
    }

    fn freeze(&mut self) -> Result<(), EngineError> {
        let mut disk = self.warehouse.disk();
        match disk.frozen {
            Some(id) if id != self.id => Err(EngineError::new(
                ErrorKind::Busy,
                "another process has frozen production",
            )),
            _ => {
                disk.frozen = Some(self.id);
                Ok(())
            }
        }
    }

    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        _on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        let disk = self.warehouse.disk();
        let mut out = Observation::new();
        for database in disk.databases() {
            let slot = Slot::at(place, &database);
            let Some(file) = disk.files.get(&slot) else {
                continue;
            };
            for (name, stored) in &file.relations {
                let storage = stored.storage.to_string();
                let read = match depth {
                    Depth::Catalog => false,
                    Depth::AllRows => true,
                    Depth::Rows(names) => names.contains(name),
                    Depth::Changed { known, always } => {
                        let known = known.get(name).and_then(|s| s.storage.as_ref());
                        always.contains(name) || known != Some(&storage)
                    }
                };
                out.insert(name.clone(), state(&stored.table, storage, read));
            }
        }
        Ok(out)
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        live: ReleaseId,
        aside: bool,
        _on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        let mut disk = self.warehouse.disk();
        for database in disk.databases() {
            let from = Slot::Live(database.clone());
            let to = if aside {
                Slot::Build(release, database)
            } else {
                Slot::Point(live, database)
            };
            disk.clone_file(&from, to)?;
        }
        drop(disk);
        if !aside {
            // The job has to write.
            self.thaw();
        }
        Ok(Build {
            release,
            files: Vec::new(),
            env: BTreeMap::from([("UNSHIP_RELEASE".to_owned(), release.to_string())]),
        })
    }

    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let mut disk = self.warehouse.disk();
        for database in disk.databases() {
            if let Some(file) = disk.files.remove(&Slot::Build(release, database.clone())) {
                disk.files.insert(Slot::Point(release, database), file);
            }
        }
        Ok(())
    }

    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let mut disk = self.warehouse.disk();
        disk.files
            .retain(|slot, _| !matches!(slot, Slot::Build(r, _) if *r == release));
        Ok(())
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        _relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        serde_json::to_value(self.files(release)?).map_err(|e| plan::internal(&e))
    }

    fn survey_rows(
        &mut self,
        request: &RowsRequest,
        _on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        self.rows(request)
    }

    fn plan_rows(&self, survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
        plan::rows(&plan::read_survey(&survey.engine)?, request)
    }

    fn plan_publish(
        &self,
        survey: &serde_json::Value,
        request: &PublishRequest,
    ) -> Result<Steps, EngineError> {
        if request.carry != Carry::default() {
            let text = "others cannot write here while a job builds, and yet they did";
            return Err(EngineError::new(ErrorKind::Refused, text));
        }
        plan::publish(&plan::read_survey(survey)?, request.release, request.live)
    }

    fn plan_restore(
        &self,
        survey: &serde_json::Value,
        request: &RestoreRequest,
    ) -> Result<Steps, EngineError> {
        plan::restore(&plan::read_survey(survey)?, request)
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let disk = self.warehouse.disk();
        let (kind, slot) = plan::subject(subject)?;
        let file = disk.files.get(&slot);
        Ok(match (kind, file) {
            ("exists", file) => if file.is_some() { "yes" } else { "no" }.to_owned(),
            (_, Some(file)) => file.identity.to_string(),
            (_, None) => "absent".to_owned(),
        })
    }

    fn apply(
        &mut self,
        step: &Step,
        _seal: Option<&Seal>,
        _on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let mut disk = self.warehouse.disk();
        match MemoryAction::of(&step.action)? {
            MemoryAction::Clone { from, to } => disk.clone_file(&from, to),
            MemoryAction::Assemble {
                live,
                to,
                bring,
                remove,
                rows,
            } => {
                let mut file = disk.file(&live)?.clone();
                for (name, source) in bring {
                    let stored = disk.file(&source)?.relations.get(&name).cloned();
                    let Some(stored) = stored else {
                        return Err(EngineError::new(
                            ErrorKind::Corrupt,
                            format!("{source} does not hold {name}"),
                        ));
                    };
                    let storage = disk.tick();
                    file.relations.insert(name, Stored { storage, ..stored });
                }
                file.relations.retain(|name, _| !remove.contains(name));
                for (name, (source, test)) in rows {
                    let there = |file: &warehouse::File| {
                        let stored = file.relations.get(&name).map(|s| s.table.clone());
                        stored.ok_or_else(|| {
                            EngineError::new(ErrorKind::Missing, format!("there is no {name}"))
                        })
                    };
                    let now = there(&file)?;
                    let then = there(disk.file(&source)?)?;
                    let table = rows::exchange(&now, &then, &test)?.after;
                    let storage = disk.tick();
                    file.relations.insert(name, Stored { table, storage });
                }
                file.identity = disk.tick();
                disk.files.insert(to, file);
                Ok(())
            }
            MemoryAction::Swap {
                live,
                incoming,
                retired,
            } => {
                let new = disk.take(&incoming)?;
                let old = disk.take(&live)?;
                disk.files.insert(retired, old);
                disk.files.insert(live, new);
                Ok(())
            }
        }
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        let mut disk = self.warehouse.disk();
        match step.undo.as_ref().map(MemoryAction::of).transpose()? {
            Some(MemoryAction::Swap {
                live,
                incoming,
                retired,
            }) => {
                let old = disk.take(&retired)?;
                let new = disk.take(&live)?;
                disk.files.insert(incoming, new);
                disk.files.insert(live, old);
                Ok(())
            }
            _ => Err(EngineError::new(
                ErrorKind::Unsupported,
                format!("step {} cannot be taken back", step.id),
            )),
        }
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        let disk = self.warehouse.disk();
        let points = disk.points().into_iter();
        Ok(points
            .map(|(release, databases)| Point {
                release,
                location: format!("point {release}"),
                packed: disk.packed.contains(&release),
                bytes: 0,
                databases,
                versions: None,
            })
            .collect())
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let disk = self.warehouse.disk();
        for database in disk.databases() {
            disk.file(&Slot::Point(release, database))?;
        }
        Ok(())
    }

    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        _key: Option<&[String]>,
        _examples: u64,
        _on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        let disk = self.warehouse.disk();
        let rows = |(place, name): (Place, &RelationName)| {
            let file = disk.file(&Slot::at(place, &name.database))?;
            let stored = file.relations.get(name).ok_or_else(|| {
                EngineError::new(ErrorKind::Missing, format!("there is no {name}"))
            })?;
            Ok::<_, EngineError>(stored.table.rows.clone())
        };
        let (old, mut added) = (rows(old)?, rows(new)?);
        let mut diff = RelationDiff::default();
        for row in old {
            match added.iter().position(|other| *other == row) {
                Some(at) => {
                    added.swap_remove(at);
                    diff.unchanged += 1;
                }
                None => diff.removed += 1,
            }
        }
        diff.added = added.len() as u64;
        Ok(diff)
    }

    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        _on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        let disk = self.warehouse.disk();
        let mut out = BTreeMap::new();
        for (name, detail) in relations {
            let file = disk.files.get(&Slot::at(place, &name.database));
            if let Some(stored) = file.and_then(|file| file.relations.get(name)) {
                out.insert(name.clone(), profile(&stored.table, *detail));
            }
        }
        Ok(out)
    }

    fn address(&mut self, _place: Place, relation: &RelationName) -> Result<String, EngineError> {
        Ok(relation.to_string())
    }

    fn query(
        &mut self,
        _place: Place,
        sql: &str,
        _limit: u64,
        _timeout: Duration,
    ) -> Result<Answer, EngineError> {
        let text = format!("a warehouse in memory knows no SQL: {sql}");
        Err(EngineError::new(ErrorKind::Unsupported, text))
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        _on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        let mut disk = self.warehouse.disk();
        let mut done = Housekeeping::default();
        for release in disk.points().into_keys() {
            if !keep.keep.contains(&release) {
                done.dropped.push(release);
                disk.packed.remove(&release);
            } else if !keep.plain.contains(&release) && disk.packed.insert(release) {
                done.packed.push(release);
            }
        }
        disk.files.retain(|slot, _| match slot {
            Slot::Live(_) => true,
            Slot::Build(..) => false,
            Slot::Point(release, _) => keep.keep.contains(release),
        });
        Ok(done)
    }

    fn fsck(&mut self, _on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        Ok(Vec::new())
    }
}

fn profile(table: &Table, detail: Detail) -> RelationProfile {
    let column = |(i, name): (usize, &String)| {
        let cells: Vec<f64> = table
            .rows
            .iter()
            .filter_map(|row| row.get(i).map(|cell| *cell as f64))
            .collect();
        let sum: f64 = cells.iter().sum();
        let different: BTreeSet<_> = table.rows.iter().filter_map(|row| row.get(i)).collect();
        ColumnProfile {
            name: name.clone(),
            data_type: "BIGINT".to_owned(),
            nullable: false,
            nulls: 0,
            distinct: Some(different.len() as u64),
            values: (!cells.is_empty()).then(|| Values::Numbers {
                min: cells.iter().copied().fold(f64::INFINITY, f64::min),
                max: cells.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                sum,
                mean: sum / cells.len() as f64,
                whole: true,
            }),
        }
    };
    RelationProfile {
        rows: table.rows.len() as u64,
        columns: match detail {
            Detail::Rows => Vec::new(),
            Detail::Columns => table.columns.iter().enumerate().map(column).collect(),
        },
        ..RelationProfile::default()
    }
}

/// What is observed of a table.
pub fn state(table: &Table, storage: String, read: bool) -> RelationState {
    let columns = table.columns.iter().map(|name| Column {
        name: name.clone(),
        data_type: "BIGINT".to_owned(),
        nullable: false,
    });
    RelationState {
        kind: RelationKind::Table,
        columns: columns.collect(),
        definition: format!("table ({})", table.columns.join(", ")),
        dependents: Vec::new(),
        rows: Some(table.rows.len() as u64),
        fingerprint: read.then(|| fingerprint(table)),
        storage: Some(storage),
    }
}

fn fingerprint(table: &Table) -> Fingerprint {
    fn sum<T>(items: &[T], bytes: impl Fn(&T) -> Vec<u8>) -> String {
        let mut sum = 0_u64;
        for item in items {
            let mut word = [0; 8];
            blake3::Hasher::new()
                .update(&bytes(item))
                .finalize_xof()
                .fill(&mut word);
            sum = sum.wrapping_add(u64::from_le_bytes(word));
        }
        sum.to_string()
    }
    let whole = sum(&table.rows, |row| {
        row.iter().flat_map(|v| v.to_le_bytes()).collect()
    });
    let columns = table.columns.iter().enumerate().map(|(i, name)| {
        let cells = sum(&table.rows, |row| {
            row.get(i)
                .map(|v| v.to_le_bytes().to_vec())
                .unwrap_or_default()
        });
        (name.clone(), cells)
    });
    Fingerprint {
        method: "memory-1".to_owned(),
        rows: table.rows.len() as u64,
        columns: columns.collect(),
        whole,
    }
}
