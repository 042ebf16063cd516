//! A small project in a directory of its own, and an oracle that reads its database without unship.

pub mod line;

use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use unship_core::testing::skipped;

/// The Python of the tests, or `None` after saying that the test is skipped.
pub fn python() -> Option<PathBuf> {
    match std::env::var_os("UNSHIP_TEST_PYTHON") {
        Some(python) => Some(python.into()),
        None => {
            skipped("UNSHIP_TEST_PYTHON names no Python that has duckdb");
            None
        }
    }
}

/// A number from the environment, for the long variants of tests.
pub fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().expect("a number of rounds"))
}

/// What a user sees in a database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Equal exactly when all definitions and rows are.
    pub digest: String,
    /// The same of each table and view.
    pub digests: BTreeMap<String, String>,
    /// Rows of each table and view.
    pub rows: BTreeMap<String, u64>,
    /// The release numbers that each table holds.
    pub releases: BTreeMap<String, Vec<i64>>,
}

impl Seen {
    /// The one release number that all tables hold.
    pub fn release(&self) -> i64 {
        let mut all: Vec<i64> = self.releases.values().flatten().copied().collect();
        all.dedup();
        assert_eq!(all.len(), 1, "a mixture: {:?}", self.releases);
        all[0]
    }
}

/// A Python process that looks into files.
pub struct Oracle {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Oracle {
    pub fn start(python: &Path) -> Self {
        let mut child = Command::new(python)
            .args(["-I", "-c", include_str!("oracle.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipes = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        Self {
            child,
            pipes: RefCell::new(pipes),
        }
    }

    fn ask(&self, request: &Value) -> Value {
        let mut pipes = self.pipes.borrow_mut();
        writeln!(pipes.0, "{request}").unwrap();
        let mut line = String::new();
        pipes.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// What stands in a file, or why DuckDB does not open it. `None` if there is no file.
    pub fn try_look(&self, file: &Path) -> Option<Result<Seen, String>> {
        if !file.exists() {
            return None;
        }
        let answer = self.ask(&json!({ "file": file }));
        Some(match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(Seen {
                digest: answer["digest"].as_str().unwrap().to_owned(),
                digests: serde_json::from_value(answer["digests"].clone()).unwrap(),
                rows: serde_json::from_value(answer["rows"].clone()).unwrap(),
                releases: serde_json::from_value(answer["releases"].clone()).unwrap(),
            }),
        })
    }

    /// What stands in a file that must open.
    pub fn look(&self, file: &Path) -> Option<Seen> {
        self.try_look(file)
            .map(|seen| seen.unwrap_or_else(|e| panic!("{} does not open: {e}", file.display())))
    }

    /// Writes as somebody else does.
    pub fn write(&self, file: &Path, sql: &str) {
        let answer = self.ask(&json!({ "file": file, "sql": sql }));
        assert!(answer["error"].is_null(), "{answer}");
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A project directory.
pub struct World {
    pub root: PathBuf,
    python: PathBuf,
    job: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n{}{}", self.code, self.out, self.err)
    }
}

/// Tables that a loader fills and no job builds.
const RAW: &str =
    "create table raw_events as select i as id, 'event ' || i as text from range(500) t(i)";

impl World {
    /// A project without a database, in a new directory.
    pub fn new(python: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self::at(dir.path(), python);
        world._dir = Some(dir);
        world
    }

    /// A project without a database, in this directory.
    pub fn at(root: &Path, python: &Path) -> Self {
        let root = root.canonicalize().unwrap();
        let job = root.join("job.py");
        fs::write(&job, include_str!("job.py")).unwrap();
        let world = Self {
            root,
            python: python.to_owned(),
            job,
            _dir: None,
        };
        world.configure("");
        world
    }

    /// Writes `unship.toml`, with more at its end.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"duckdb\"\npath = \"shop.duckdb\"\n{more}"
        );
        fs::write(self.root.join("unship.toml"), text).unwrap();
    }

    /// Guards `extra.duckdb` too.
    pub fn two_files(&self) {
        self.configure("[[env.prod.attach]]\nalias = \"extra\"\npath = \"extra.duckdb\"\n");
    }

    pub fn db(&self) -> PathBuf {
        self.root.join("shop.duckdb")
    }

    pub fn extra(&self) -> PathBuf {
        self.root.join("extra.duckdb")
    }

    pub fn home(&self) -> PathBuf {
        self.root.join(".unship")
    }

    /// A command that has not been started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unship"));
        command
            .args(args)
            .current_dir(&self.root)
            .env("UNSHIP_PYTHON", &self.python)
            .env("JOB_FILE", self.db())
            .env("NO_COLOR", "1")
            .env_remove("UNSHIP_FAULT_AT")
            .env_remove("UNSHIP_FAULT_TRACE")
            .stdin(Stdio::null());
        command
    }

    pub fn unship(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs a command that dies at a boundary, counted from 1: what it said, whether it died, and the
    /// names of the boundaries that it came past.
    pub fn dying_at(&self, words: &[&str], at: usize) -> (Ran, bool, Vec<String>) {
        let trace = self.root.join("trace");
        let output = self
            .command(words)
            .env("UNSHIP_FAULT_AT", at.to_string())
            .env("UNSHIP_FAULT_TRACE", &trace)
            .output()
            .unwrap();
        let died = output.status.signal().is_some();
        let names = fs::read_to_string(&trace).unwrap_or_default();
        let names = names
            .lines()
            .filter_map(|l| Some(l.split_once(' ')?.1.to_owned()));
        (Ran::of(output), died, names.collect())
    }

    /// The words of `unship run` with a job.
    pub fn job(&self, how: &str, release: i64, more: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = ["run", how, "--"].map(str::to_owned).to_vec();
        words.push(self.python.display().to_string());
        words.push(self.job.display().to_string());
        words.push(release.to_string());
        words.extend(more.iter().map(|w| (*w).to_owned()));
        words
    }

    pub fn run(&self, how: &str, release: i64, more: &[&str]) -> Ran {
        let words = self.job(how, release, more);
        self.unship(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A reading command's document.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.unship(args);
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {ran}"))
    }

    /// Puts a database there that has been in use: raw tables, and what a job built of it.
    pub fn begin(&self, oracle: &Oracle) {
        for file in [self.db(), self.extra()] {
            if file == self.db() || self.text("unship.toml").contains("extra") {
                oracle.write(&file, RAW);
            }
        }
        let job = Command::new(&self.python)
            .arg(&self.job)
            .arg("0")
            .env("JOB_FILE", self.db())
            .output()
            .unwrap();
        Ran::of(job).ok();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap()
    }

    /// The same project once more, in a directory of its own.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = self.copy_to(dir.path());
        copy._dir = Some(dir);
        copy
    }

    /// The same project once more, in this directory.
    pub fn copy_to(&self, dir: &Path) -> Self {
        copy_tree(&self.root, dir);
        let copy = Self::at(dir, &self.python);
        fs::write(copy.root.join("unship.toml"), self.text("unship.toml")).unwrap();
        copy
    }

    /// What stands in production, file by file.
    pub fn look(&self, oracle: &Oracle) -> Vec<Option<Seen>> {
        [self.db(), self.extra()]
            .iter()
            .map(|file| oracle.look(file))
            .collect()
    }

    /// What must hold at any moment when nothing is under way.
    #[track_caller]
    pub fn check_healthy(&self) {
        let audit = self.unship(&["audit", "verify"]);
        assert_eq!(audit.code, Some(0), "{audit}");
        let fsck = self.unship(&["fsck", "--json"]);
        assert_eq!(fsck.code, Some(0), "{fsck}");
        assert!(!fsck.out.contains("rebuilt"), "{fsck}");
        let strays = files_below(&self.home().join("build"));
        assert!(strays.is_empty(), "left in the build directory: {strays:?}");
        for file in [self.db(), self.extra()] {
            let Ok(live) = fs::metadata(&file) else {
                continue;
            };
            assert_eq!(live.nlink(), 1, "{} has a second name", file.display());
            assert_ne!(live.mode() & 0o200, 0, "{} is read-only", file.display());
        }
        for point in files_below(&self.home().join("points")) {
            if point.extension().is_some_and(|end| end == "wal") {
                continue;
            }
            let mode = fs::metadata(&point).unwrap().permissions().mode();
            assert_eq!(mode & 0o222, 0, "{} can be written to", point.display());
        }
    }
}

/// What stands in each of the guarded files, where there is one.
pub type State = Vec<Option<Seen>>;

/// What stands in the restore points that are not packed.
pub fn points_of(world: &World, oracle: &Oracle) -> BTreeMap<String, State> {
    let mut points = BTreeMap::new();
    let dirs = fs::read_dir(world.home().join("points"));
    for dir in dirs.into_iter().flatten() {
        let dir = dir.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let files = ["shop.duckdb", "extra.duckdb"].map(|f| dir.join(f));
        points.insert(name, files.iter().map(|f| oracle.look(f)).collect());
    }
    points
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files under a directory, which need not exist.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Waits until something is so; panics if it never is.
pub fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited in vain for {what}");
}
