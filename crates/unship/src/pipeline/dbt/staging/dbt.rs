//! dbt, asked what it would do.

use crate::pipeline::dbt::invocation::Options;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// The job's own dbt.
#[derive(Debug, Clone)]
pub struct Dbt {
    /// What starts it, launchers included.
    pub launcher: Vec<String>,
    /// Where it is started.
    pub directory: PathBuf,
}

/// A project under a profile.
#[derive(Debug, Clone)]
pub struct View {
    /// The project, or its overlay.
    pub project_dir: PathBuf,
    /// The directory of the profile.
    pub profiles_dir: PathBuf,
    /// Where dbt's manifest goes, and what makes its next parse quick.
    pub target_path: PathBuf,
}

impl View {
    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.target_path.join("manifest.json")
    }

    /// What dbt keeps of a parse.
    pub fn partial_parse(&self) -> PathBuf {
        self.target_path.join("partial_parse.msgpack")
    }
}

/// dbt could not answer.
#[derive(Debug, thiserror::Error)]
pub enum DbtError {
    /// It cannot be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It failed.
    #[error("`dbt {subcommand}` failed:\n{said}")]
    Failed {
        /// The sub-command.
        subcommand: &'static str,
        /// The end of what it printed.
        said: String,
    },
}

impl Dbt {
    /// Has dbt write the manifest of a project under a profile. Nothing is asked of the warehouse.
    ///
    /// # Errors
    /// When dbt cannot be started, or refuses the project.
    pub fn parse(&self, view: &View, options: &Options) -> Result<(), DbtError> {
        self.run("parse", view, options, &[]).map(drop)
    }

    /// The `unique_id`s that the command's selection means to dbt.
    ///
    /// # Errors
    /// When dbt cannot be started, or refuses the selection.
    pub fn list(&self, view: &View, options: &Options) -> Result<BTreeSet<String>, DbtError> {
        let mut words = ["--output", "json", "--output-keys", "unique_id"]
            .map(str::to_owned)
            .to_vec();
        for (option, values) in [
            ("--select", &options.select),
            ("--exclude", &options.exclude),
        ] {
            if !values.is_empty() {
                words.push(option.to_owned());
                words.extend(values.iter().cloned());
            }
        }
        for (option, value) in [
            ("--selector", &options.selector),
            ("--state", &options.state),
        ] {
            words.extend(value.iter().flat_map(|v| [option.to_owned(), v.clone()]));
        }
        let said = self.run("ls", view, options, &words)?;
        let id = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line.trim()).ok()?;
            value.get("unique_id")?.as_str().map(str::to_owned)
        };
        Ok(said.lines().filter_map(id).collect())
    }

    fn run(
        &self,
        subcommand: &'static str,
        view: &View,
        options: &Options,
        more: &[String],
    ) -> Result<String, DbtError> {
        let (program, arguments) = match self.launcher.split_first() {
            Some((program, arguments)) => (program.as_str(), arguments),
            None => ("dbt", &[][..]),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args([
                subcommand,
                "--quiet",
                "--no-use-colors",
                "--partial-parse",
                "--write-json",
            ])
            .args(["--log-level-file", "none"]);
        for (option, path) in [
            ("--project-dir", &view.project_dir),
            ("--profiles-dir", &view.profiles_dir),
            ("--target-path", &view.target_path),
            ("--log-path", &view.target_path),
        ] {
            command.arg(option).arg(path);
        }
        for (option, value) in [
            ("--profile", &options.profile),
            ("--target", &options.target),
            ("--vars", &options.vars),
        ] {
            if let Some(value) = value {
                command.arg(option).arg(value);
            }
        }
        let out = command
            .args(more)
            .current_dir(&self.directory)
            .env_remove("DBT_PARTIAL_PARSE_FILE_PATH")
            .env_remove("DBT_ENGINE_PARTIAL_PARSE_FILE_PATH")
            .output()
            .map_err(|source| DbtError::Start {
                program: program.to_owned(),
                source,
            })?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() {
            return Ok(said);
        }
        let said = format!("{said}\n{}", String::from_utf8_lossy(&out.stderr));
        Err(DbtError::Failed {
            subcommand,
            said: tail(&said, 20),
        })
    }
}

/// The last lines that say something.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = all.len().saturating_sub(lines);
    all.get(from..).unwrap_or_default().join("\n")
}

/// Whether the project has named selectors, one of which may be the default.
pub fn has_selectors(project_dir: &Path) -> bool {
    project_dir.join("selectors.yml").exists()
}
