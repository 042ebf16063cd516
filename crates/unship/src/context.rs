//! A project at hand: its configuration, its ledger, its engine, and the right to change things.

use crate::cli::Global;
use crate::config::{self, Config, Env, LedgerPlace};
use crate::dbt_job::DbtJob;
use crate::dbt_package;
use crate::error::{CliError, CliResult, current_dir, exit, io_error};
use crate::iceberg_config::Iceberg;
use crate::ledger_at::LedgerAt;
use crate::pipeline::dbt::connection::Secret;
use crate::render::Terminal;
use crate::renewal::{LEASE, Renewal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unship_core::engine::Engine;
use unship_core::event::Event;
use unship_core::execute::{Notice, Watch, chain};
use unship_core::ident::ReleaseId;
use unship_core::ledger::{Backend, Holder, Lease};
use unship_core::log::{Ledger, LogError};
use unship_core::operate::{Keep, Session};
use unship_core::release::{Operation, Stage};
use unship_engines::duckdb::{DuckDb, Settings, layout::DbFile};
use unship_engines::postgres::build::Wanted;
use unship_engines::postgres::{Postgres, UndoLog, address::Address, connect::Connector};

/// What production is where a command did not come to begin anything.
pub const NOT_TOUCHED: &str = "not touched: nothing was begun";

/// A project and one of its environments.
pub struct Context {
    /// The directory of `unship.toml`.
    pub root: PathBuf,
    /// The file.
    pub config: Config,
    /// The environment's name.
    pub env: String,
    global: Global,
}

/// How a PostgreSQL environment is reached. The password is shown by nothing.
#[derive(Debug, Clone)]
pub struct Reached {
    /// A connection string as libpq reads it, without the password.
    pub connection: String,
    /// The password, where the dbt profile gives one; else the environment or a password file may.
    pub password: Option<Secret>,
    /// The role that jobs take on: what they build belongs to it.
    pub role: Option<String>,
    /// The rest of the environment's configuration.
    pub postgres: config::Postgres,
}

impl Reached {
    /// The way to it.
    pub fn connector(&self) -> CliResult<Connector> {
        let wrong = |e: &dyn std::error::Error| CliError::usage(chain(e));
        let mut address = Address::parse(&self.connection).map_err(|e| wrong(&e))?;
        if let Some(password) = &self.password {
            let password = password.reveal();
            address.set("password", password).map_err(|e| wrong(&e))?;
        }
        Ok(Connector::new(address)?.as_role(self.role.clone()))
    }
}

/// An environment at work: what commands act on.
pub struct Workbench {
    /// The warehouse.
    pub engine: Box<dyn Engine>,
    /// The ledger.
    pub ledger: Ledger,
    /// Who watches.
    pub terminal: Terminal,
    lease: Option<Renewal>,
    /// How many of the engine's statements are written down already.
    counted: u64,
    /// The schema in which the dbt package keeps its restore points, and the newest release that is
    /// among them or was made before.
    recorded: Option<(String, Option<ReleaseId>)>,
}

impl Context {
    /// Finds the project.
    pub fn find(global: &Global) -> CliResult<Self> {
        let start = match &global.project {
            Some(dir) => absolute(dir)?,
            None => current_dir()?,
        };
        let root = config::find_root(&start).ok_or_else(|| {
            CliError::usage(format!(
                "there is no {} in {} or above it",
                config::FILE,
                start.display()
            ))
            .hint("`unship init` writes one")
        })?;
        Self::at(root, global)
    }

    /// The project in a directory.
    pub fn at(root: PathBuf, global: &Global) -> CliResult<Self> {
        let config = Config::read(&root)?;
        let env = config.env(global.env.as_deref())?.0.to_owned();
        Ok(Self {
            root,
            config,
            env,
            global: global.clone(),
        })
    }

    /// Means another environment from now on.
    pub fn switch(&mut self, env: &str) -> CliResult<()> {
        self.env = self.config.env(Some(env))?.0.to_owned();
        Ok(())
    }

    /// The same project, and another of its environments.
    pub fn elsewhere(&self, env: &str) -> CliResult<Self> {
        let mut there = Self {
            root: self.root.clone(),
            config: self.config.clone(),
            env: String::new(),
            global: self.global.clone(),
        };
        there.switch(env)?;
        Ok(there)
    }

    /// The same project, with one environment more, which is meant.
    pub(crate) fn with(&self, name: &str, env: Env) -> CliResult<Self> {
        let mut there = Self {
            root: self.root.clone(),
            config: self.config.clone(),
            env: String::new(),
            global: self.global.clone(),
        };
        there.config.envs.insert(name.to_owned(), env);
        there.switch(name)?;
        Ok(there)
    }

    /// Whether standard output is one document for machines.
    pub fn json(&self) -> bool {
        self.global.json
    }

    /// The directory of the ledger and the logs.
    pub fn home(&self) -> PathBuf {
        self.root.join(".unship")
    }

    fn ledger_at(&self) -> CliResult<LedgerAt> {
        let file = self.home().join("ledger.sqlite");
        Ok(match self.config.env(Some(&self.env))?.1 {
            Env::Postgres(postgres) if postgres.ledger == LedgerPlace::Database => {
                let env = self.env_as_file();
                LedgerAt::Database {
                    connector: Box::new(self.postgres()?.connector()?),
                    replica: self.home().join(format!("replica-{env}.sqlite")),
                }
            }
            Env::Estate(estate) => match &estate.ledger {
                Some(holder) => self.member(holder)?.ledger_at()?,
                None => LedgerAt::File(file),
            },
            _ => LedgerAt::File(file),
        })
    }

    /// The ledger, to be read.
    pub fn read(&self) -> CliResult<Ledger> {
        let store = self.ledger_at()?.open(&self.env)?;
        Ok(Ledger::new(store, &self.env, actor()))
    }

    fn create_ledger(&self) -> CliResult<Ledger> {
        let home = self.home();
        std::fs::create_dir_all(&home).map_err(|e| {
            CliError::failed(format!("cannot create {}: {e}", home.display()))
                .hint("run unship as the user who may write there")
        })?;
        let ignore = self.home().join(".gitignore");
        // An empty one is what a full disk left of it.
        if std::fs::metadata(&ignore).map_or(true, |m| m.len() == 0) {
            std::fs::write(&ignore, "*\n").map_err(io_error("write", &ignore))?;
        }
        let store = self.ledger_at()?.create()?;
        Ok(Ledger::new(store, &self.env, actor()))
    }

    /// How the environment's PostgreSQL database is reached.
    pub fn postgres(&self) -> CliResult<Reached> {
        let postgres = match self.config.env(Some(&self.env))?.1 {
            Env::Postgres(postgres) => postgres.clone(),
            other => {
                return Err(CliError::usage(format!(
                    "the environment `{}` is {}, not a PostgreSQL database",
                    self.env,
                    other.what()
                )));
            }
        };
        let (connection, password, role) = match (&postgres.target, &postgres.connection) {
            (Some(target), _) => {
                let job = self.dbt_target(target)?;
                let target = job.postgres()?;
                let password = target.password.clone();
                (target.keywords(), password, target.role.clone())
            }
            (None, connection) => (connection.clone().unwrap_or_default(), None, None),
        };
        Ok(Reached {
            connection,
            password,
            role,
            postgres,
        })
    }

    /// A target of the project's dbt profile, from wherever unship is run.
    pub(crate) fn dbt_target(&self, target: &str) -> CliResult<DbtJob> {
        let dbt = self.config.dbt.as_ref();
        let project = dbt.map_or(Path::new("."), |dbt| &dbt.project_dir);
        let profiles = dbt.and_then(|dbt| dbt.profiles_dir.as_ref());
        let profiles = profiles.map(|dir| self.root.join(dir));
        DbtJob::of_target(&self.root.join(project), profiles.as_deref(), target)
    }

    fn duckdb_config(&self) -> CliResult<&config::DuckDb> {
        match self.config.env(Some(&self.env))?.1 {
            Env::DuckDb(duckdb) => Ok(duckdb),
            other => Err(CliError::usage(format!(
                "the environment `{}` is {} and has no files",
                self.env,
                other.what()
            ))),
        }
    }

    /// The database files of the environment.
    pub fn files(&self) -> CliResult<Vec<DbFile>> {
        let duckdb = self.duckdb_config()?;
        let main = absolute_in(&self.root, &duckdb.path)?;
        let stem = main
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut files = vec![DbFile {
            catalog: stem,
            path: main,
        }];
        for attach in &duckdb.attach {
            files.push(DbFile {
                catalog: attach.alias.clone(),
                path: absolute_in(&self.root, &attach.path)?,
            });
        }
        Ok(files)
    }

    /// Whether the environment is database files of this machine, or some of it is.
    pub fn has_files(&self) -> CliResult<bool> {
        let (_, env) = self.config.env(Some(&self.env))?;
        Ok(match env {
            Env::Estate(estate) => (estate.members.values()).any(|m| matches!(m, Env::DuckDb(_))),
            env => matches!(env, Env::DuckDb(_)),
        })
    }

    /// Whether the environment is a PostgreSQL database.
    pub fn is_postgres(&self) -> CliResult<bool> {
        let (_, env) = self.config.env(Some(&self.env))?;
        Ok(matches!(env, Env::Postgres(_)))
    }

    /// Whether the environment is an Iceberg catalog.
    pub fn is_iceberg(&self) -> CliResult<bool> {
        Ok(self.iceberg_config()?.is_some())
    }

    /// The environment's configuration, where it is an Iceberg catalog.
    pub fn iceberg_config(&self) -> CliResult<Option<&Iceberg>> {
        let (_, env) = self.config.env(Some(&self.env))?;
        Ok(match env {
            Env::Iceberg(iceberg) => Some(iceberg),
            _ => None,
        })
    }

    /// Whether the environment is a directory of Delta tables.
    pub fn is_delta(&self) -> CliResult<bool> {
        let (_, env) = self.config.env(Some(&self.env))?;
        Ok(matches!(env, Env::Delta(_)))
    }

    /// Where dbt keeps, for unship, what it has parsed.
    pub fn dbt_home(&self) -> PathBuf {
        self.home().join("dbt").join(self.env_as_file())
    }

    /// What a job locks that is about to start.
    pub fn turn(&self) -> PathBuf {
        self.home().join("jobs").join(self.env_as_file())
    }

    /// The environment's name as a file's name, and no two as the same.
    fn env_as_file(&self) -> String {
        let mut name = String::new();
        for c in self.env.chars() {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                name.push(c);
            } else {
                name.push_str(&format!("%{:X}", u32::from(c)));
            }
        }
        name
    }

    /// The engine of the environment.
    pub fn engine(&self, job_program: Option<&Path>) -> CliResult<Box<dyn Engine>> {
        match self.config.env(Some(&self.env))?.1 {
            Env::Postgres(_) => self.postgres_engine(Wanted::default()),
            Env::DuckDb(_) => Ok(Box::new(self.duckdb(job_program)?)),
            Env::Iceberg(iceberg) => {
                let home = self.home().join("iceberg").join(self.env_as_file());
                Ok(Box::new(iceberg.engine(&self.root, home)?))
            }
            Env::Delta(delta) => {
                let home = self.home().join("delta").join(self.env_as_file());
                delta.engine(&self.root, home, &self.config.keep.parse()?)
            }
            Env::Snowflake(_) => Ok(Box::new(self.snowflake_engine(Default::default())?)),
            Env::Estate(estate) => self.estate_engine(estate, job_program, BTreeMap::new()),
        }
    }

    /// The engine of a PostgreSQL environment, with what a job is about to build.
    pub fn postgres_engine(&self, build: Wanted) -> CliResult<Box<dyn Engine>> {
        let reached = self.postgres()?;
        Ok(Box::new(self.with_undo_log(&reached, build)?))
    }

    fn with_undo_log(&self, reached: &Reached, build: Wanted) -> CliResult<Postgres> {
        let guarded = reached.postgres.schemas.iter().cloned().collect();
        let undo = UndoLog {
            tables: reached.postgres.logged()?.into_iter().collect(),
            keep: Some(self.config.keep.parse()?.within),
        };
        Ok(Postgres::new(reached.connector()?, guarded, build).with_undo_log(undo))
    }

    /// The engine, where only PostgreSQL will do.
    pub fn only_postgres(&self) -> CliResult<Postgres> {
        self.with_undo_log(&self.postgres()?, Wanted::default())
    }

    /// The same, where only DuckDB will do.
    pub fn duckdb(&self, job_program: Option<&Path>) -> CliResult<DuckDb> {
        let duckdb = self.duckdb_config()?;
        let named = duckdb.python.as_ref().map(|python| self.root.join(python));
        Ok(DuckDb::new(Settings {
            files: self.files()?,
            python: self.global.python.clone().or(named),
            job_program: job_program.map(Path::to_owned),
            freeze_writers: duckdb.freeze_writers,
            memory_limit: duckdb.memory_limit.clone(),
        }))
    }

    /// Ledger and engine, to be looked at.
    pub fn look(&self) -> CliResult<Workbench> {
        Ok(Workbench {
            ledger: self.read()?,
            engine: self.engine(self.last_program().as_deref())?,
            terminal: Terminal::new(self.global.json),
            lease: None,
            counted: 0,
            recorded: None,
        })
    }

    /// Ledger and engine with the lease on the environment: nobody else changes it meanwhile.
    pub fn take(&self, job_program: Option<&Path>, command: &str) -> CliResult<Workbench> {
        let untouched = |e: CliError| e.standing(NOT_TOUCHED.to_owned(), None);
        let mut ledger = self.create_ledger().map_err(untouched)?;
        let holder = Holder::current(actor(), command);
        let lease = ledger.store().take_lease(&self.env, &holder, LEASE);
        let lease = lease.map_err(|e| untouched(e.into()))?;
        ledger.fenced(lease.fence());
        let renewal = Renewal::start(self.ledger_at()?, lease);
        let program = job_program
            .map(Path::to_owned)
            .or_else(|| self.last_program());
        let newest = ledger.history(|h| h.releases(&self.env, None, 1))?;
        let newest = newest.first().map(|release| release.id);
        let dbt = self.config.dbt.as_ref();
        let schema = dbt.and_then(|dbt| dbt.restore_points.clone());
        Ok(Workbench {
            ledger,
            engine: self.engine(program.as_deref())?,
            terminal: Terminal::new(self.global.json),
            lease: Some(renewal),
            counted: 0,
            recorded: schema.map(|schema| (schema, newest)),
        })
    }

    /// Keeps a lease while something long is done.
    pub fn renewing(&self, lease: Lease) -> CliResult<Renewal> {
        Ok(Renewal::start(self.ledger_at()?, lease))
    }

    /// An error of a command that may change production, with what production is according to the
    /// ledger. That there was nothing to do leaves no doubt about it.
    pub fn told(&self, error: CliError) -> CliError {
        if error.code == exit::NOTHING || error.production.is_some() {
            return error;
        }
        match self.standing() {
            Ok((production, hint)) => error.standing(production, hint),
            Err(_) => error.standing("not known: the ledger cannot be read".to_owned(), None),
        }
    }

    fn standing(&self) -> CliResult<(String, Option<&'static str>)> {
        let env = &self.env;
        let ledger = match self.read() {
            Err(e) if e.code == exit::NOTHING => {
                return Ok((NOT_TOUCHED.to_owned(), None));
            }
            ledger => ledger?,
        };
        let Some(live) = ledger.history(|h| h.live(env))?.map(|live| live.release) else {
            return Ok((NOT_TOUCHED.to_owned(), None));
        };
        let Some(open) = ledger.history(|h| h.open(env))? else {
            if let Some(staging) = ledger.history(|h| h.staging(env))? {
                let standing = crate::cmd::stages::standing(&staging);
                let hint = "`unship resume` goes on; `unship undo` takes the stages back";
                return Ok((format!("{live}: {standing}"), Some(hint)));
            }
            return Ok((format!("{live} is live; nothing is unfinished"), None));
        };
        let release = open.release;
        let made_by = ledger.history(|h| h.release(release))?.map(|r| r.operation);
        Ok(match (open.plan, made_by) {
            (Some(_), _) => (
                format!("between {live} and {release}: `unship status` shows which steps are done"),
                Some("mend the cause and run `unship resume`"),
            ),
            (None, Some(Operation::Run { aside: false, .. })) => (
                format!("what the job of {release} left in it"),
                Some("`unship resume` records that, and `unship rollback` then goes back"),
            ),
            (None, _) => (
                format!("{live} is live, untouched; {release} is unfinished"),
                Some("`unship resume` drops what was prepared"),
            ),
        })
    }

    /// The program of the last job: the Python behind it has the right DuckDB.
    pub fn last_program(&self) -> Option<PathBuf> {
        let ledger = self.read().ok()?;
        let releases = ledger.history(|h| h.releases(&self.env, None, 20)).ok()?;
        let job = releases.into_iter().find_map(|r| r.job)?;
        job.program
            .or_else(|| job.command.first().cloned())
            .map(PathBuf::from)
    }
}

impl Workbench {
    /// For core's operations.
    pub fn session(&mut self) -> Session<'_> {
        Session {
            engine: &mut *self.engine,
            ledger: &mut self.ledger,
            watch: &self.terminal,
        }
    }

    /// Housekeeping after an operation that is done. Should it fail, the operation still was done,
    /// so that is told and not returned; the next one comes back to it.
    pub fn tidy_up(&mut self, keep: &Keep) {
        if let Err(error) = self.session().housekeep(keep) {
            let note = format!(
                "older restore points could not be packed now: {}",
                chain(&error)
            );
            self.terminal.notice(Notice::Note(&note));
        }
        self.count();
        if let Err(error) = self.try_record() {
            let note = format!(
                "the dbt package's restore points lack this release: {}",
                error.message
            );
            self.terminal.notice(Notice::Note(&note));
        }
    }

    /// Adds the release that was made, if one was, to the restore points of the dbt package.
    fn try_record(&mut self) -> CliResult<()> {
        let Some((schema, before)) = self.recorded.take() else {
            return Ok(());
        };
        let env = self.ledger.env().to_owned();
        let newest = self.ledger.history(|h| h.releases(&env, None, 1))?;
        let made = newest.into_iter().next();
        let made = made.filter(|one| one.stage == Stage::Published && Some(one.id) > before);
        if let Some(release) = &made {
            let map = self.ledger.history(|h| h.published_map(release.id))?;
            let old = release
                .parent
                .map(|parent| self.ledger.history(|h| h.map(parent)));
            let old = old.transpose()?.flatten().unwrap_or_default();
            let map = map.unwrap_or_default().into_iter();
            let changed =
                map.filter(|(name, version)| old.get(name).map(|v| v.id) != Some(version.id));
            let changed = changed.map(|(name, _)| name);
            dbt_package::record(&schema, &mut *self.engine, release, changed)?;
        }
        self.recorded = Some((schema, made.map(|release| release.id).or(before)));
        Ok(())
    }

    /// Writes down how many statements the newest release took. It was done, whether or not that can
    /// be written down.
    pub fn count(&mut self) {
        if let Err(error) = self.try_count() {
            let note = format!("how many statements it took could not be kept: {error}");
            self.terminal.notice(Notice::Note(&note));
        }
    }

    fn try_count(&mut self) -> Result<(), LogError> {
        let Some(sent) = self.engine.statements_sent() else {
            return Ok(());
        };
        let env = self.ledger.env().to_owned();
        let newest = self.ledger.history(|h| h.releases(&env, None, 1))?;
        let Some(release) = newest.first().map(|release| release.id) else {
            return Ok(());
        };
        let counted = Event::StatementsCounted {
            release,
            statements: sent.saturating_sub(self.counted),
        };
        self.ledger.append_soon(&[counted])?;
        self.counted = sent;
        Ok(())
    }

    /// Gives the lease back. Dropping does so too, but cannot say if it failed.
    pub fn done(mut self) -> CliResult<()> {
        self.terminal.finish();
        match self.lease.take() {
            Some(renewal) => {
                let lease = renewal.stop();
                Ok(self.ledger.store().release_lease(&lease)?)
            }
            None => Ok(()),
        }
    }
}

impl Drop for Workbench {
    fn drop(&mut self) {
        self.terminal.finish();
        if let Some(renewal) = self.lease.take() {
            let lease = renewal.stop();
            // It would expire by itself; there is nobody left to tell.
            let _ = self.ledger.store().release_lease(&lease);
        }
    }
}

/// Who acts: `user@host`.
pub fn actor() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}@{}", gethostname::gethostname().to_string_lossy())
}

/// An absolute path without `.` and links in its directory, whether or not the file is there.
pub fn absolute(path: &Path) -> CliResult<PathBuf> {
    absolute_in(&current_dir()?, path)
}

fn absolute_in(base: &Path, path: &Path) -> CliResult<PathBuf> {
    let joined = base.join(path);
    match (joined.canonicalize(), joined.parent(), joined.file_name()) {
        (Ok(path), ..) => Ok(path),
        (Err(_), Some(dir), Some(name)) => Ok(dir
            .canonicalize()
            .unwrap_or_else(|_| dir.to_owned())
            .join(name)),
        _ => Ok(joined),
    }
}
