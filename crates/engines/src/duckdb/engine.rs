//! DuckDB as an [`Engine`]: which file operation or which SQL stands behind each of its methods.

use super::file::{self, io_error};
use super::layout::{DbFile, companions};
use super::lock::{FileLock, Freeze};
use super::plan::{self, DuckAction, ENGINE, FileSurvey, Survey};
use super::retained::{clear, ignore_from_git, pack, packed, points_of, settle, unpack};
use super::sessions::Sessions;
use super::sql::diff::{self, DiffError};
use super::sql::quote;
use super::store::Store;
use super::worker::Open;
use super::{assemble, carry_out, doctor, facts, observe, query, rows};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::diff::RelationDiff;
use unship_core::engine::{
    Atomicity, Build, Capabilities, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Observation, OnProgress, Place, Point, PublishRequest, RestoreRequest, Retention, Steps,
};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::Seal;
use unship_core::others::Written;
use unship_core::plan::Step;
use unship_core::relation::RelationState;
use unship_core::rows::{RowsRequest, RowsSurvey};

/// The catalog names under which two files are compared.
const OLD: &str = "unship_old";
const NEW: &str = "unship_new";

/// What is guarded, and with which DuckDB it is queried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The files; the first is the main one.
    pub files: Vec<DbFile>,
    /// The Python to use, if one is named.
    pub python: Option<PathBuf>,
    /// The job's program; the Python behind it has the right DuckDB.
    pub job_program: Option<PathBuf>,
    /// Whether others wait while a job builds aside. If not, what they wrote is carried over into
    /// the build before it is published.
    pub freeze_writers: bool,
    /// DuckDB's memory limit for unship's queries.
    pub memory_limit: Option<String>,
}

/// One or several DuckDB files that are released together.
pub struct DuckDb {
    pub(super) files: Vec<DbFile>,
    pub(super) sessions: Sessions,
    pub(super) locks: Vec<FileLock>,
    freeze_writers: bool,
}

impl DuckDb {
    /// Nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            files: settings.files.clone(),
            freeze_writers: settings.freeze_writers,
            sessions: Sessions::new(settings),
            locks: Vec::new(),
        }
    }

    pub(super) fn file(&self, path: &Path) -> Result<&DbFile, EngineError> {
        self.files.iter().find(|f| f.path == path).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Refused,
                format!(
                    "the plan is about {}, which is not guarded here",
                    path.display()
                ),
            )
        })
    }

    /// The file of a place that can be opened, unpacked first if need be.
    pub(super) fn path_at(
        &self,
        file: &DbFile,
        place: Place,
        on: OnProgress<'_>,
    ) -> Result<PathBuf, EngineError> {
        match place {
            Place::Live => Ok(file.path.clone()),
            Place::Build(release) => Ok(file.build(release)),
            Place::Point(release) => {
                let plain = file.point(release);
                if plain.exists() {
                    return Ok(plain);
                }
                let scratch = file.scratch(release);
                if !scratch.exists() {
                    unpack(file, release, &scratch, on)?;
                }
                Ok(scratch)
            }
        }
    }

    pub(super) fn survey_file(
        &self,
        file: &DbFile,
        release: ReleaseId,
    ) -> Result<FileSurvey, EngineError> {
        let points = points_of(file)?;
        let dir = file.path.parent().unwrap_or(Path::new("/"));
        let stat = nix::sys::statvfs::statvfs(dir)
            .map_err(|e| io_error("look at the file system of", dir, &e.into()))?;
        let bytes = fs::metadata(&file.path).map_or(0, |m| m.len());
        let idle = !file.path.exists()
            || super::lock::who_holds(&file.path, Freeze::Everybody)?.is_none_or(|_| self.frozen());
        Ok(FileSurvey {
            catalog: file.catalog.clone(),
            path: file.path.clone(),
            identity: file::identity(&file.path)?,
            bytes,
            build: file::identity(&file.build(release))?,
            free: stat.blocks_available() * stat.fragment_size(),
            reflink: file::can_reflink(&file.home())?,
            idle,
            points,
        })
    }

    pub(super) fn frozen(&self) -> bool {
        !self.locks.is_empty()
    }

    /// Keeps readers out of a file as well, without a moment in which a writer could come in.
    pub(super) fn freeze_everybody(&mut self, path: &Path) -> Result<(), EngineError> {
        for lock in &mut self.locks {
            if lock.is_of(path)? {
                return lock.change(path, Freeze::Everybody);
            }
        }
        self.locks.push(FileLock::take(path, Freeze::Everybody)?);
        Ok(())
    }

    pub(super) fn let_readers_in(&mut self, path: &Path) -> Result<(), EngineError> {
        for lock in &mut self.locks {
            if lock.is_of(path)? {
                lock.change(path, Freeze::Writers)?;
            }
        }
        Ok(())
    }
}

impl Engine for DuckDb {
    fn capabilities(&mut self) -> Capabilities {
        let relations = match self.sessions.worker() {
            Ok(_) => Ok(()),
            Err(e) => Err(e.message),
        };
        let version = self.sessions.version();
        let files = self.files.len();
        let free_clone = self
            .files
            .iter()
            .all(|f| file::can_reflink(&f.home()).unwrap_or(false));
        let mut not_protected = vec![
            "files that a job writes outside of the database (external models, exports)".to_owned(),
            "numbers that a sequence has given out".to_owned(),
        ];
        if files > 1 {
            not_protected.push(format!(
                "the moment between the renames of {files} files: each is atomic, a reader of \
                 several can see one before the other"
            ));
        }
        Capabilities {
            engine: ENGINE.to_owned(),
            version,
            atomicity: if files == 1 {
                Atomicity::Database
            } else {
                Atomicity::Relations
            },
            restore_point: "the old file itself; older ones packed in .unship/store".to_owned(),
            aside: true,
            free_clone,
            proves_identity: false,
            relations,
            carries: [
                "constraints",
                "indexes",
                "defaults",
                "comments",
                "views",
                "macros",
            ]
            .map(str::to_owned)
            .to_vec(),
            not_protected,
        }
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        doctor::examine(self)
    }

    fn mark(&mut self) -> Result<String, EngineError> {
        let mut marks = Vec::new();
        for file in &self.files {
            let wal = if file::has_wal(&file.path)? {
                "+wal"
            } else {
                ""
            };
            marks.push(format!("{}{wal}", file::mark(&file.path)?));
        }
        Ok(marks.join(" "))
    }

    fn freeze(&mut self) -> Result<(), EngineError> {
        if self.frozen() {
            return Ok(());
        }
        let paths: Vec<_> = self.files.iter().map(|f| f.path.clone()).collect();
        let mut locks = Vec::new();
        for path in paths.iter().filter(|path| path.exists()) {
            let lock = FileLock::take(path, Freeze::Writers)?;
            if file::has_wal(path)? && !doctor::sealed(path) {
                // DuckDB itself must write, so the lock has to go for that moment.
                drop(lock);
                self.sessions.checkpoint(path)?;
                boundary("checkpointed");
                let lock = FileLock::take(path, Freeze::Writers)?;
                if file::has_wal(path)? {
                    return Err(EngineError::new(
                        ErrorKind::Busy,
                        format!("somebody wrote to {} at this moment", path.display()),
                    )
                    .hint("try again; nothing was changed"));
                }
                locks.push(lock);
            } else {
                locks.push(lock);
            }
        }
        self.locks = locks;
        Ok(())
    }

    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        observe::observe(self, place, depth, on)
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        let mut files = Vec::new();
        for file in &self.files {
            ignore_from_git(&file.home())?;
            let there = file.path.exists();
            if aside {
                let build = file.build(release);
                file::make_parent(&build)?;
                if there {
                    file::clone(&file.path, &build, on)?;
                }
                files.push((file.path.clone(), build));
            } else {
                if there {
                    pack(file, &file.path, live, on)?;
                }
                files.push((file.path.clone(), file.path.clone()));
            }
        }
        if !aside || !self.freeze_writers {
            // The job, or others meanwhile, have to write.
            self.locks.clear();
        }
        let mut env = BTreeMap::new();
        if let Some((_, main)) = files.first() {
            env.insert("UNSHIP_DATABASE".to_owned(), main.display().to_string());
        }
        env.insert("UNSHIP_RELEASE".to_owned(), release.to_string());
        // What the job builds is looked at as soon as it ends.
        self.sessions.warm();
        Ok(Build {
            release,
            files,
            env,
        })
    }

    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        for file in &self.files {
            let (build, kept) = (file.build(release), file.point(release));
            if build.exists() {
                file::make_parent(&kept)?;
                for (from, to) in companions(&build).iter().zip(&companions(&kept)) {
                    if from.exists() {
                        file::rename(from, to)?;
                        boundary("companion kept");
                    }
                }
                file::rename(&build, &kept)?;
                boundary("build kept");
                file::make_read_only(&kept)?;
            }
        }
        self.discard_build(release)
    }

    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        for file in &self.files {
            let build = file.build(release);
            clear(&build)?;
            clear(&assemble::bench(&build))?;
            settle(file)?;
        }
        Ok(())
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        _relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        let files = self
            .files
            .iter()
            .map(|file| {
                if file::has_wal(&file.path)? {
                    return Err(EngineError::new(
                        ErrorKind::Busy,
                        format!("{} has changes that are only in its write-ahead log", file.path.display()),
                    )
                    .hint("a program has it open or was killed; close it, or run CHECKPOINT in DuckDB"));
                }
                self.survey_file(file, release)
            })
            .collect::<Result<_, _>>()?;
        serde_json::to_value(Survey { files })
            .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be written").because(e))
    }

    fn plan_publish(
        &self,
        survey: &serde_json::Value,
        request: &PublishRequest,
    ) -> Result<Steps, EngineError> {
        plan::publish(
            &read_survey(survey)?,
            request.release,
            request.live,
            &request.carry,
        )
    }

    fn plan_restore(
        &self,
        survey: &serde_json::Value,
        request: &RestoreRequest,
    ) -> Result<Steps, EngineError> {
        plan::restore(&read_survey(survey)?, request)
    }

    fn survey_others(
        &mut self,
        request: &RestoreRequest,
        published: &BTreeMap<RelationName, RelationState>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        rows::others(self, request, published, on)
    }

    fn survey_rows(
        &mut self,
        request: &RowsRequest,
        on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        rows::survey(self, request, on)
    }

    fn plan_rows(&self, survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
        plan::rows(survey, request)
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        facts::now(self, subject)
    }

    fn apply(
        &mut self,
        step: &Step,
        _seal: Option<&Seal>,
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        carry_out::carry_out(self, DuckAction::of(&step.action)?, on)
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        let action = step.undo.as_ref().unwrap_or(&step.action);
        match DuckAction::of(action)? {
            DuckAction::Swap {
                live,
                incoming,
                retired,
            } => file::swap_back(&live, &incoming, &retired),
            _ => Err(EngineError::new(
                ErrorKind::Unsupported,
                format!("step {} cannot be taken back", step.id),
            )),
        }
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        let mut out: BTreeMap<ReleaseId, Point> = BTreeMap::new();
        for file in &self.files {
            for (release, at) in points_of(file)? {
                let location = if at.plain.is_some() {
                    file.point(release).display().to_string()
                } else {
                    format!("{} (packed)", file.store().display())
                };
                let point = out.entry(release).or_insert_with(|| Point {
                    release,
                    location: location.clone(),
                    packed: false,
                    bytes: 0,
                    databases: BTreeSet::new(),
                    versions: None,
                });
                point.packed |= at.plain.is_none();
                point.bytes += at.bytes;
                point.databases.insert(file.catalog.clone());
            }
        }
        Ok(out.into_values().collect())
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let files = self.files.clone();
        for file in &files {
            let plain = file.point(release);
            if plain.exists() {
                doctor::readable(&plain)?;
            } else if packed(file)?.iter().any(|(p, _)| *p == release.to_string()) {
                let store = Store::open(&file.store())?;
                store.prove(&release.to_string(), &file.label(), &|_| {})?;
            } else if file.path.exists() {
                return Err(EngineError::new(
                    ErrorKind::Missing,
                    format!("{release} has no restore point for {}", file.path.display()),
                )
                .hint(doctor::WHERE_POINTS_ARE));
            }
        }
        Ok(())
    }

    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        key: Option<&[String]>,
        examples: u64,
        on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        // Both files have the same name, and DuckDB names catalogs after files: hence aliases.
        let mut open = Open::default();
        for ((place, name), alias) in [(old, OLD), (new, NEW)] {
            let file = self
                .files
                .iter()
                .find(|f| f.catalog == name.database)
                .ok_or_else(|| {
                    let text = format!("{name} is in no database that is guarded here");
                    EngineError::new(ErrorKind::Missing, text)
                })?;
            open = open.with(self.path_at(file, place, on)?, alias);
        }
        let worker = self.sessions.must_open(open)?;
        let under = |name: &RelationName, alias: &str| RelationName {
            database: alias.to_owned(),
            ..name.clone()
        };
        let answer = diff::diff(
            worker,
            &under(old.1, OLD),
            &under(new.1, NEW),
            key,
            examples,
        )?;
        worker.close()?;
        Ok(answer)
    }

    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        query::profiles(self, place, relations, on)
    }

    fn address(&mut self, _place: Place, relation: &RelationName) -> Result<String, EngineError> {
        Ok(quote::full(relation))
    }

    fn query(
        &mut self,
        place: Place,
        sql: &str,
        limit: u64,
        timeout: Duration,
    ) -> Result<Answer, EngineError> {
        query::query(self, place, sql, limit, timeout)
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        super::keep::housekeep(&self.files, keep, on)
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        doctor::fsck(&self.files, on)
    }
}

fn read_survey(survey: &serde_json::Value) -> Result<Survey, EngineError> {
    serde_json::from_value(survey.clone())
        .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be read").because(e))
}

impl From<DiffError> for EngineError {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Worker(error) => error.into(),
            error @ DiffError::NotATable { .. } => {
                Self::new(ErrorKind::Unsupported, error.to_string())
            }
        }
    }
}
