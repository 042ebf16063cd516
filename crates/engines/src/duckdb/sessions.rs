//! The one worker of a command, started when it is first needed.

use super::engine::Settings;
use super::worker::{Open, StartError, Worker, WorkerError, find_python};
use std::path::Path;
use std::thread::JoinHandle;
use unship_core::engine::{EngineError, ErrorKind};

/// Starts the worker on demand and remembers if there is none.
pub(super) struct Sessions {
    settings: Settings,
    worker: Option<Worker>,
    warming: Option<JoinHandle<Result<Worker, StartError>>>,
    missing: Option<String>,
}

impl Sessions {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            worker: None,
            warming: None,
            missing: None,
        }
    }

    /// The version of the DuckDB that answers, if one was started.
    pub(super) fn version(&self) -> Option<String> {
        self.worker.as_ref().map(|w| w.duckdb_version().to_owned())
    }

    /// The worker.
    pub(super) fn worker(&mut self) -> Result<&mut Worker, EngineError> {
        if self.worker.is_none() {
            if let Some(missing) = &self.missing {
                return Err(no_worker(missing));
            }
            let python = self.settings.python.as_deref();
            // One that could not be started in the background may have been hit by a signal meant
            // for the job, or by what the job installs: only a start of its own says what is wrong.
            let warm = self
                .warming
                .take()
                .and_then(|thread| thread.join().ok()?.ok());
            let warm = warm.and_then(|mut worker| worker.is_running().then_some(worker));
            match warm.map_or_else(|| start(&self.settings), Ok) {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => {
                    let text = error.to_string();
                    self.missing = Some(text.clone());
                    // A Python that was named and does not do is a mistake, not a lack.
                    let kind = match (python, &error) {
                        (None, StartError::NoPython { .. }) => ErrorKind::Missing,
                        _ => ErrorKind::Query,
                    };
                    return Err(EngineError {
                        kind,
                        ..no_worker(&text)
                    });
                }
            }
        }
        self.worker.as_mut().ok_or_else(|| no_worker("it stopped"))
    }

    /// Starts the worker in the background: it takes about a tenth of a second, which passes unseen
    /// while a job runs.
    pub(super) fn warm(&mut self) {
        if self.worker.is_none() && self.warming.is_none() && self.missing.is_none() {
            let settings = self.settings.clone();
            self.warming = Some(std::thread::spawn(move || start(&settings)));
        }
    }

    /// Opens a file, or says with `None` that no DuckDB here can look into it: there is none, the
    /// file is of a newer one, or it is encrypted. What works on the file itself goes on without.
    pub(super) fn open(&mut self, open: Open) -> Result<Option<&mut Worker>, EngineError> {
        let open = self.limited(open);
        let worker = match self.worker() {
            Ok(worker) => worker,
            Err(error) if error.kind == ErrorKind::Missing => return Ok(None),
            Err(error) => return Err(error),
        };
        match worker.open(&open) {
            Ok(()) => Ok(self.worker.as_mut()),
            Err(WorkerError::NewerFile { .. } | WorkerError::Encrypted { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file for work that needs SQL.
    pub(super) fn must_open(&mut self, open: Open) -> Result<&mut Worker, EngineError> {
        let open = self.limited(open);
        let worker = self.worker()?;
        worker.open(&open)?;
        Ok(worker)
    }

    /// Brings what is only in the write-ahead log into the file.
    pub(super) fn checkpoint(&mut self, path: &Path) -> Result<(), EngineError> {
        let worker = self.must_open(Open::writable(path))?;
        worker.execute("CHECKPOINT", &[])?;
        worker.close()?;
        Ok(())
    }

    fn limited(&self, open: Open) -> Open {
        let spill = self
            .settings
            .files
            .first()
            .map(|file| file.home().join("spill"));
        Open {
            memory_limit: self.settings.memory_limit.clone(),
            temp_directory: spill,
            ..open
        }
    }
}

fn start(settings: &Settings) -> Result<Worker, StartError> {
    let found = find_python(settings.job_program.as_deref(), settings.python.as_deref());
    found.map(|found| found.worker).or_else(in_this_binary)
}

/// Where no Python will do, the DuckDB that this binary was built with.
#[cfg(feature = "linked")]
fn in_this_binary(error: StartError) -> Result<Worker, StartError> {
    match (error, std::env::current_exe()) {
        (StartError::NoPython { .. }, Ok(exe)) => super::worker::start_bundled(&exe, &["worker"]),
        (error, _) => Err(error),
    }
}

/// This binary was built without DuckDB.
#[cfg(not(feature = "linked"))]
fn in_this_binary(error: StartError) -> Result<Worker, StartError> {
    Err(error)
}

fn no_worker(why: &str) -> EngineError {
    EngineError::new(ErrorKind::Missing, format!("this needs DuckDB, and none was found: {why}"))
        .hint("name a Python that has duckdb with `python = …` in unship.toml, or activate its environment")
}

impl From<WorkerError> for EngineError {
    fn from(error: WorkerError) -> Self {
        let kind = match &error {
            WorkerError::Locked { .. } => ErrorKind::Busy,
            WorkerError::NewerFile { .. } | WorkerError::Encrypted { .. } => ErrorKind::Unsupported,
            WorkerError::Wal { .. } | WorkerError::Open { .. } => ErrorKind::Corrupt,
            WorkerError::Cancelled => ErrorKind::Interrupted,
            _ => ErrorKind::Query,
        };
        EngineError::new(kind, error.to_string())
    }
}
