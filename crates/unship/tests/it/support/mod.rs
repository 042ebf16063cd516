//! What the end-to-end tests share: the tools, a scratch directory, the binary, and its output
//! without what differs from run to run.

pub mod lab;
pub mod oracle;
pub mod shop;
pub mod tiny;
pub mod warehouse;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use unship_core::testing::skipped;

/// The programs that the tests need.
pub struct Tools {
    /// A Python with duckdb.
    pub python: PathBuf,
    /// The dbt beside it.
    pub dbt: PathBuf,
}

/// The tools, or `None` after having said which one is missing.
pub fn tools() -> Option<Tools> {
    let python = named("UNSHIP_TEST_PYTHON", "python3")?;
    let dbt = named("UNSHIP_TEST_DBT", "dbt")?;
    Some(Tools { python, dbt })
}

/// A Python with DuckDB 2, which writes files that DuckDB 1 cannot read.
pub fn python2() -> Option<PathBuf> {
    let python = std::env::var_os("UNSHIP_TEST_PYTHON2").map(PathBuf::from);
    if python.is_none() {
        skipped("UNSHIP_TEST_PYTHON2 names no Python with duckdb 2");
    }
    python
}

fn named(variable: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::var_os(variable).map(PathBuf::from).or_else(|| {
        std::env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|file| file.is_file())
    });
    if found.is_none() {
        skipped(&format!(
            "there is no {program} on the PATH and {variable} names none"
        ));
    }
    found
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A directory of its own for one test, and an environment without the surroundings of whoever
/// runs it.
pub struct Scratch {
    dir: TempDir,
    /// Where commands are started.
    pub cwd: PathBuf,
    path: std::ffi::OsString,
    env: Vec<(String, String)>,
}

impl Scratch {
    /// An empty directory. The tools are on its `PATH`.
    pub fn new(tools: &Tools) -> Self {
        let bins = [tools.python.parent(), tools.dbt.parent()];
        let old = std::env::var_os("PATH").unwrap_or_default();
        let path = bins
            .into_iter()
            .flatten()
            .map(Path::to_owned)
            .chain(std::env::split_paths(&old));
        let path = std::env::join_paths(path).unwrap();
        let dir = tempfile::Builder::new()
            .prefix("unship-it-")
            .tempdir()
            .unwrap();
        let cwd = dir.path().canonicalize().unwrap().join("work");
        fs::create_dir(&cwd).unwrap();
        Self {
            dir,
            cwd,
            path,
            env: Vec::new(),
        }
    }

    /// A copy of a prepared directory.
    pub fn copy_of(tools: &Tools, from: &Path) -> Self {
        let scratch = Self::new(tools);
        copy_all(from, &scratch.cwd);
        scratch
    }

    /// Lets every command from now on find the programs of this directory and no others.
    pub fn only_path(&mut self, dir: &Path) {
        dir.as_os_str().clone_into(&mut self.path);
    }

    /// Sets a variable for every command from now on.
    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref().to_string_lossy().into_owned();
        self.env.push((name.to_owned(), value));
    }

    /// A file or directory of the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.cwd.join(name)
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Lets checks hold no release from now on. What a test does to its tables may be as bad as what
    /// they are to find.
    pub fn only_tell(&self) {
        let text = self.read("unship.toml");
        self.write("unship.toml", text + "\n[checks]\nhold = \"never\"\n");
    }

    /// Any command, with this environment and in this directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.dir.path().join("home");
        command
            .current_dir(&self.cwd)
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", home)
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null());
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "Ada")
                .env(format!("GIT_{who}_EMAIL"), "ada@example.org")
                .env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
        }
        // The binary may be instrumented, or be told where to find a library.
        for name in ["LLVM_PROFILE_FILE", "LD_LIBRARY_PATH", "UNSHIP_FAULT"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// unship, ready to be started.
    pub fn unship_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_unship"));
        command.args(args);
        command
    }

    /// Runs unship.
    pub fn unship(&self, args: &[&str]) -> Output {
        self.finish(args, self.unship_command(args))
    }

    /// Runs unship as `command` was prepared.
    pub fn finish(&self, args: &[&str], mut command: Command) -> Output {
        let output = command.output().unwrap();
        Output {
            command: format!("unship {}", args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            dir: self.cwd.clone(),
        }
    }

    /// Runs unship, which must succeed.
    pub fn ok(&self, args: &[&str]) -> Output {
        let output = self.unship(args);
        assert_eq!(output.code, 0, "{output:?}");
        output
    }

    /// Runs unship, which must succeed and print one JSON document of this schema.
    pub fn json(&self, schema: &str, args: &[&str]) -> serde_json::Value {
        let output = self.ok(args);
        let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(value["schema"], schema, "{output:?}");
        assert_eq!(output.stderr, "", "with --json nothing else is told");
        value
    }

    /// Runs a program, which must succeed; its standard output.
    pub fn sh(&self, program: impl AsRef<OsStr>, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {out}\n{err}");
        out
    }

    /// Commits everything that there is.
    pub fn commit(&self, subject: &str) {
        if !self.path(".git").exists() {
            self.sh("git", &["init", "-q", "-b", "main", "."]);
        }
        self.sh("git", &["add", "-A"]);
        self.sh("git", &["commit", "-qm", subject]);
    }
}

/// Copies a directory's content into another, times included: dbt and DuckDB look at them.
pub fn copy_all(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success(), "cannot copy {}", from.display());
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    command: String,
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    dir: PathBuf,
}

impl Output {
    /// Everything, as a golden file holds it: without this machine's paths, times and numbers.
    pub fn text(&self) -> String {
        let mut text = format!("$ {}\nexit code {}\n", self.command, self.code);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                let _ = write!(text, "--- {name}\n{stream}");
            }
        }
        text.replace(&self.dir.display().to_string(), "[dir]")
    }

    /// Fails with everything that was printed unless it ended so and says all of these.
    #[track_caller]
    pub fn says(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            let there = self.stdout.contains(part) || self.stderr.contains(part);
            assert!(there, "{part:?} is not in {self:?}");
        }
    }
}

/// What differs from run to run, and what stands for it. Where tables hold it, as long as it.
const FILTERS: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "YYYY-MM-DD hh:mm:ss"),
    (r"\d+ (second|minute)s? ago", "[ago]"),
    (r"\b\d+ min \d+ s\b|\b\d+(\.\d+)? m?s\b", "[time]"),
    (r"\b[0-9a-f]{64}\b", "[hash]"),
    (r"\b[0-9a-f]{40}\b", "[commit]"),
    (r"\bPlan [0-9a-f]{12}\b", "Plan [id]"),
    (r"\b[0-9a-f]{12}\b", "[digits]"),
    (r"\b[0-9a-f]{8}\b", "hhhhhhhh"),
    (r"\b\d+(\.\d+)? ([KMG]i)?B\b", "[size]"),
    (r"\b\d+ MB\b", "[size]"),
    (r"at line \d+ column \d+", "at line [n] column [n]"),
    (r"EOF while parsing an? \w+", "EOF while parsing [what]"),
    (r"expected \S+:\S+, found", "expected [identity], found"),
    (r"\bprocess \d+ \([^)]*\)", "process [pid] ([program])"),
    (r"  who     \S+", "  who     [actor]"),
    (r"by \S+@\S+ ", "by [actor] "),
    (r"/\S*/(python[\d.]*)\b", "[$1]"),
    (r"/\S*/home/\.dbt/", "[home]/.dbt/"),
    // A file system that shares blocks clones where another renames.
    (
        r"rename a clone of (R\d+)'s file of (\w+)",
        "rename $1's own file of $2",
    ),
];

/// Compares with the golden file of this name.
#[track_caller]
pub fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, with) in FILTERS {
        settings.add_filter(pattern, *with);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}
