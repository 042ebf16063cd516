//! What can go wrong between unship and a worker, in words that say what to do.

use std::path::{Path, PathBuf};

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not there or cannot be run.
    #[error("cannot run {program}: {source}", program = program.display())]
    Spawn {
        /// The interpreter or binary.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A Python without DuckDB.
    #[error("{program} cannot import duckdb ({message}); install it there with `pip install duckdb`", program = program.display())]
    NoDuckDb {
        /// The interpreter.
        program: PathBuf,
        /// Python's own words.
        message: String,
    },
    /// It runs, but is not a worker, or stopped before it said so.
    #[error("{program} did not answer as a worker: {detail}", program = program.display())]
    NotAWorker {
        /// The interpreter or binary.
        program: PathBuf,
        /// What came instead.
        detail: String,
    },
    /// A worker of another unship.
    #[error("{program} speaks worker protocol {theirs} and this unship speaks {ours}; use the worker of the same unship", program = program.display())]
    Protocol {
        /// The binary.
        program: PathBuf,
        /// Its protocol.
        theirs: u32,
        /// The protocol of this unship.
        ours: u32,
    },
    /// No interpreter that can import DuckDB was found.
    #[error(
        "no Python with the duckdb package was found; give one with --python. Tried:\n{}",
        list(tried)
    )]
    NoPython {
        /// Where it was looked for, and why that one would not do.
        tried: Vec<(String, String)>,
    },
}

fn list(tried: &[(String, String)]) -> String {
    let lines: Vec<String> = tried
        .iter()
        .map(|(place, why)| format!("  {place}: {why}"))
        .collect();
    lines.join("\n")
}

/// Why a request to a running worker failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another process holds the database file.
    #[error("{path} is open for writing in {who}; stop that process or wait for it", path = path.display(), who = holder(*pid, program.as_deref()))]
    Locked {
        /// The database file.
        path: PathBuf,
        /// The process that holds it, where DuckDB named it.
        pid: Option<u32>,
        /// Its program, where DuckDB named it.
        program: Option<String>,
    },
    /// The file was written by a DuckDB that this one cannot read.
    #[error("{path} was made by a newer DuckDB than the worker's {duckdb} (its storage version is {found}); use a Python with that newer duckdb (--python)", path = path.display())]
    NewerFile {
        /// The database file.
        path: PathBuf,
        /// The worker's DuckDB.
        duckdb: String,
        /// The storage version, as DuckDB named it.
        found: String,
    },
    /// The file is encrypted and no key, or a wrong one, was given.
    #[error("{path} is encrypted and needs its right key: {message}", path = path.display())]
    Encrypted {
        /// The database file.
        path: PathBuf,
        /// DuckDB's own words.
        message: String,
    },
    /// The write-ahead log beside the file cannot be replayed.
    #[error("the write-ahead log of {path} does not fit the file: {message}. Keep both files as they are: the log may hold committed rows", path = path.display())]
    Wal {
        /// The database file.
        path: PathBuf,
        /// DuckDB's own words.
        message: String,
    },
    /// The file cannot be opened for another reason.
    #[error("cannot open {path}: {message}", path = path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// DuckDB's own words.
        message: String,
    },
    /// DuckDB refused a statement.
    #[error("{message}")]
    Sql {
        /// DuckDB's class of error: `Catalog`, `Binder`, `Constraint`, …
        kind: String,
        /// DuckDB's whole message.
        message: String,
    },
    /// The request was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
    /// The worker is gone.
    #[error(
        "the DuckDB worker ended ({status}) before it answered{}",
        tail(stderr)
    )]
    Died {
        /// How it ended.
        status: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// The pipe to the worker broke, or it answered something that was not asked.
    #[error("the DuckDB worker cannot be understood: {0}")]
    Garbled(String),
}

fn holder(pid: Option<u32>, program: Option<&str>) -> String {
    match (pid, program) {
        (Some(pid), Some(program)) => format!("process {pid} ({program})"),
        (Some(pid), None) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

fn tail(stderr: &str) -> String {
    if stderr.trim().is_empty() {
        String::new()
    } else {
        format!("; it wrote: {}", stderr.trim())
    }
}

impl WorkerError {
    /// Reads a failed statement's message.
    pub(super) fn statement(message: String) -> Self {
        let kind = message
            .split_once(" Error:")
            .map_or("", |(kind, _)| kind)
            .to_owned();
        if kind.eq_ignore_ascii_case("interrupt") {
            return Self::Cancelled;
        }
        Self::Sql { kind, message }
    }

    /// Reads the message of a failed `ATTACH` of `path`.
    pub(super) fn attach(self, path: &Path, duckdb: &str) -> Self {
        let Self::Sql { message, .. } = self else {
            return self;
        };
        let path = path.to_path_buf();
        if message.contains("Could not set lock on file") {
            let pid = between(&message, "(PID ", ")").and_then(|pid| pid.trim().parse().ok());
            let program =
                between(&message, "lock is held in ", " (PID").map(|name| name.to_owned());
            return Self::Locked { path, pid, program };
        }
        if message.contains("we can only read version") {
            let found = between(&message, "version number ", ",").unwrap_or("unknown");
            return Self::NewerFile {
                path,
                duckdb: duckdb.to_owned(),
                found: found.to_owned(),
            };
        }
        let lower = message.to_lowercase();
        if lower.contains("encrypt") {
            return Self::Encrypted { path, message };
        }
        if message.contains("WAL") {
            return Self::Wal { path, message };
        }
        Self::Open { path, message }
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_lock_is_named() {
        let error = WorkerError::statement(
            "IO Error: Could not set lock on file \"/d/x.duckdb\": Conflicting lock is held in \
             /usr/bin/python3.11 (PID 4711) by user me. See also https://duckdb.org"
                .to_owned(),
        )
        .attach(Path::new("/d/x.duckdb"), "1.5.5");
        assert_eq!(
            error.to_string(),
            "/d/x.duckdb is open for writing in process 4711 (/usr/bin/python3.11); stop that \
             process or wait for it"
        );
    }
}
