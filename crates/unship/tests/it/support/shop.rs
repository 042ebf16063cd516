//! The demo's project at three moments, built once and copied for every test.

use super::oracle::State;
use super::{Scratch, Tools, copy_all, repository};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A moment of the demo's story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// R1 is live.
    R1,
    /// A day later R2 is live.
    R2,
    /// R3, which is bad, is live, and one more day of raw rows has come in.
    R3,
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::R1 => "r1",
            Self::R2 => "r2",
            Self::R3 => "r3",
        }
    }
}

/// The relations that loaders fill; no job of the project owns them.
pub const RAW: [&str; 5] = [
    "raw.customers",
    "raw.order_items",
    "raw.orders",
    "raw.payments",
    "raw.web_events",
];

/// A copy of the project at that moment.
pub fn at(tools: &Tools, moment: Moment) -> Scratch {
    Scratch::copy_of(tools, &prepared(tools).join(moment.name()))
}

/// What the check wrote down of the database at that moment.
pub fn state_at(tools: &Tools, moment: Moment) -> State {
    State::saved(&prepared(tools).join(format!("{}.json", moment.name())))
}

/// Lays a release's files over the project and commits them.
pub fn overlay(scratch: &Scratch, release: &str) {
    copy_all(
        &repository().join("demo/shop-releases").join(release),
        &scratch.cwd,
    );
    scratch.commit(release);
}

/// Lets the loaders bring one more day.
pub fn load_day(scratch: &Scratch) {
    let script = repository().join("demo/load_day.py");
    scratch.sh("python", &[script.to_str().unwrap(), "shop.duckdb"]);
}

/// The directory of the prepared moments. Tests may run as threads or as processes of their own,
/// so it is kept under the target directory until the binary, the tools or the demo change.
fn prepared(tools: &Tools) -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shop");
    fs::create_dir_all(&base).unwrap();
    let lock = File::create(base.join("lock")).unwrap();
    lock.lock().unwrap();
    let dir = base.join(key(tools));
    if !dir.join("done").exists() {
        for old in fs::read_dir(&base).unwrap().map(Result::unwrap) {
            if old.path().is_dir() {
                fs::remove_dir_all(old.path()).unwrap();
            }
        }
        prepare(tools, &dir);
        fs::write(dir.join("done"), "").unwrap();
    }
    dir
}

fn key(tools: &Tools) -> String {
    let mut hasher = DefaultHasher::new();
    (&tools.python, &tools.dbt).hash(&mut hasher);
    let mut dirs = vec![repository().join("demo")];
    let mut files = vec![PathBuf::from(env!("CARGO_BIN_EXE_unship"))];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    for file in files {
        let meta = fs::metadata(&file).unwrap();
        (file, meta.len(), meta.modified().unwrap()).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn prepare(tools: &Tools, dir: &Path) {
    let demo = repository().join("demo");
    let scratch = Scratch::copy_of(tools, &demo.join("shop"));
    scratch.commit("r1");
    let generate = demo.join("generate.py");
    scratch.sh(
        "python",
        &[generate.to_str().unwrap(), "shop.duckdb", "--days", "20"],
    );
    // The story is of a bad release that went live, as it does where checks only tell.
    scratch.ok(&["init"]);
    scratch.only_tell();
    build(&scratch);
    keep(&scratch, dir, Moment::R1);

    load_day(&scratch);
    overlay(&scratch, "r2");
    build(&scratch);
    keep(&scratch, dir, Moment::R2);

    overlay(&scratch, "r3-bad");
    build(&scratch);
    load_day(&scratch);
    keep(&scratch, dir, Moment::R3);
}

/// Guards a build of the project, which must succeed.
pub fn build(scratch: &Scratch) {
    scratch.ok(&["run", "--", "dbt", "--quiet", "build"]);
}

fn keep(scratch: &Scratch, dir: &Path, moment: Moment) {
    let name = moment.name();
    let to = dir.join(name);
    fs::create_dir_all(&to).unwrap();
    copy_all(&scratch.cwd, &to);
    State::of(scratch, &scratch.path("shop.duckdb"), name);
    fs::copy(
        scratch.path(&format!("../{name}.json")),
        dir.join(format!("{name}.json")),
    )
    .unwrap();
}
