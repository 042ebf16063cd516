//! Timing, and the tools that are timed.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// What benchmarks return.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The programs and places that everything here uses.
pub struct World {
    /// The repository.
    pub repository: PathBuf,
    /// Where data lies; on the file system of the repository.
    pub data: PathBuf,
    /// A Python with duckdb; dbt lies beside it.
    pub python: PathBuf,
}

impl World {
    /// Finds them.
    pub fn find() -> Outcome<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()?;
        let python = std::env::var_os("UNSHIP_TEST_PYTHON")
            .map_or_else(|| repository.join(".venv/bin/python"), PathBuf::from);
        if !python.is_file() {
            return Err(format!(
                "{} is no Python; `make setup` makes one, or UNSHIP_TEST_PYTHON names one",
                python.display()
            )
            .into());
        }
        let data = repository.join("target/bench-data");
        fs::create_dir_all(&data)?;
        Ok(Self {
            repository,
            data,
            python,
        })
    }

    /// An empty directory for data.
    pub fn fresh(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.data.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A command in a directory, with Python and dbt on its `PATH`, and without what the caller's
    /// terminal or environment would change about it.
    pub fn command(&self, program: impl Into<OsString>, dir: &Path) -> Command {
        let mut command = Command::new(program.into());
        let old = std::env::var_os("PATH").unwrap_or_default();
        let bin = self.python.parent().map(Path::to_owned);
        let path = bin.into_iter().chain(std::env::split_paths(&old));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        command
            .current_dir(dir)
            .env_remove("VIRTUAL_ENV")
            .env("NO_COLOR", "1")
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
            .stdin(Stdio::null());
        command
    }

    /// unship itself.
    pub fn unship(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_unship"), dir);
        command.args(args);
        command
    }

    /// Python, on one of the repository's scripts or with `-c`.
    pub fn python(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = self.command(&self.python, dir);
        command.args(args);
        command
    }

    /// A script of the demo.
    pub fn demo(&self, name: &str) -> String {
        self.repository
            .join("demo")
            .join(name)
            .display()
            .to_string()
    }
}

/// Runs a command to its end and gives its output; anything but success is an error with all it
/// said.
pub fn run(mut command: Command) -> Outcome<Output> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!(
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

/// The same, for a command that prints one JSON document.
pub fn run_json(command: Command) -> Outcome<serde_json::Value> {
    Ok(serde_json::from_slice(&run(command)?.stdout)?)
}

/// How long something takes, in seconds.
pub fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed().as_secs_f64(), done))
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = sorted
        .len()
        .checked_sub(1)
        .and_then(|last| sorted.get(last / 2));
    lower.map_or(upper, |lower| f64::midpoint(*lower, upper))
}

/// What `cp` takes, in seconds: without waiting for the disk, and with it.
pub struct Copied {
    /// `cp`.
    pub plain: f64,
    /// `cp` and `sync` of the copy, as durable as what unship does.
    pub synced: f64,
}

/// Waits until the file system of a directory has written everything, so that what is measured next
/// does not wait for what was measured before.
pub fn settle(dir: &Path) -> Outcome {
    let mut command = Command::new("sync");
    command.arg("--file-system").arg(dir);
    run(command).map(drop)
}

/// Copies a file over one that is there, as somebody who puts a backup back does.
pub fn cp(from: &Path, to: &Path) -> Outcome<Copied> {
    let dir = to.parent().unwrap_or(Path::new("."));
    settle(dir)?;
    let (plain, ()) = timed(|| run_cp(from, to))?;
    settle(dir)?;
    let (synced, ()) = timed(|| {
        run_cp(from, to)?;
        Ok(File::open(to)?.sync_all()?)
    })?;
    Ok(Copied { plain, synced })
}

fn run_cp(from: &Path, to: &Path) -> Outcome {
    let mut command = Command::new("cp");
    command.arg("--reflink=auto").arg("--").arg(from).arg(to);
    run(command).map(drop)
}

/// Reads a file, so that it lies in the page cache if there is room.
pub fn warm(path: &Path) -> Outcome {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 4 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Removes a directory of data; that it is not there is as good.
pub fn remove(dir: &Path) -> Outcome {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
