//! The independent check: demo/verify.py, which shares nothing with unship.

use super::{Scratch, repository};
use std::path::{Path, PathBuf};

/// A state of a database file, written down by the check.
pub struct State {
    file: PathBuf,
}

impl State {
    /// Writes the state of a database file down.
    pub fn of(scratch: &Scratch, database: &Path, name: &str) -> Self {
        Self::by("python", scratch, database, name)
    }

    /// The same, with a Python of its own.
    pub fn by(
        python: impl AsRef<std::ffi::OsStr>,
        scratch: &Scratch,
        database: &Path,
        name: &str,
    ) -> Self {
        // Outside of the project, where git does not see it.
        let file = scratch.path(&format!("../{name}.json"));
        scratch.sh(
            python,
            &[
                verify().to_str().unwrap(),
                "save",
                database.to_str().unwrap(),
                file.to_str().unwrap(),
            ],
        );
        Self { file }
    }

    /// A state that was written down before.
    pub fn saved(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
        }
    }

    /// How another state differs from this one, a line each; empty where they are the same.
    pub fn differences(&self, scratch: &Scratch, other: &Self, more: &[&str]) -> Vec<String> {
        let output = scratch
            .command("python")
            .arg(verify())
            .arg("compare")
            .args([&self.file, &other.file])
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        match output.status.code() {
            Some(0) => Vec::new(),
            Some(1) => text.lines().map(str::to_owned).collect(),
            _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Fails unless the other state differs from this one in these relations only.
    #[track_caller]
    pub fn differs_only_in(&self, scratch: &Scratch, other: &Self, relations: &[&str]) {
        let found = self.differences(scratch, other, &[]);
        let mut names: Vec<_> = found
            .iter()
            .map(|line| line.split(':').next().unwrap())
            .collect();
        names.dedup();
        assert_eq!(names, relations, "{found:#?}");
    }
}

fn verify() -> PathBuf {
    repository().join("demo/verify.py")
}
