//! `unship.toml`: what is guarded, and how long restore points are kept.

use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file's name; it lies in the project's root.
pub const FILE: &str = "unship.toml";

/// The version of the file's format.
pub const FORMAT: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`FORMAT`].
    pub format: u32,
    /// The environment that is meant when none is named.
    pub default_env: String,
    /// The dbt project, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbt: Option<Dbt>,
    /// The environments.
    #[serde(rename = "env")]
    pub envs: BTreeMap<String, Env>,
    /// Retention.
    #[serde(default)]
    pub keep: Keep,
}

/// Where the dbt project is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dbt {
    /// Its directory, relative to this file.
    pub project_dir: PathBuf,
}

/// One environment: one warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "engine", rename_all = "lowercase", deny_unknown_fields)]
pub enum Env {
    /// DuckDB files.
    #[serde(rename = "duckdb")]
    DuckDb(DuckDb),
}

/// A DuckDB environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuckDb {
    /// The database file, relative to this file.
    pub path: PathBuf,
    /// Writable databases that jobs attach; they are guarded together with the main one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attach: Vec<Attach>,
    /// Whether others wait while a job builds aside, as they wait for dbt itself. If not, what they
    /// wrote to relations that no job owns is carried over into the build before it is published.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub freeze_writers: bool,
    /// The Python that has `duckdb`, if it is not the one of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PathBuf>,
    /// How much memory DuckDB may use for unship's queries, as DuckDB writes it (`2GB`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
}

fn yes() -> bool {
    true
}

/// An attached database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The name that it is attached under.
    pub alias: String,
    /// Its file, relative to this file.
    pub path: PathBuf,
}

/// Retention. A restore point that any rule keeps stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The newest so many restore points.
    pub last: usize,
    /// Those of releases that were live within this time (`30d`, `12h`).
    #[serde(rename = "for")]
    pub within: String,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            last: 30,
            within: "30d".to_owned(),
        }
    }
}

impl Keep {
    /// The same, as the retention wants it.
    pub fn parse(&self) -> Result<unship_core::operate::Keep, CliError> {
        let hint = "write it like 30d, 12h or 2w";
        let wrong = |why: String| {
            CliError::usage(format!("keep.for = {:?} in {FILE} {why}", self.within)).hint(hint)
        };
        let span: jiff::SignedDuration = self.within.parse().or_else(|_| {
            let span: jiff::Span = self
                .within
                .parse()
                .map_err(|e| wrong(format!("is not a time: {e}")))?;
            // A day of 24 hours: nobody means a retention to depend on daylight saving.
            span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
                .map_err(|_| wrong("has months or years, which differ in length".to_owned()))
        })?;
        if span.is_negative() {
            return Err(wrong("is less than no time".to_owned()));
        }
        Ok(unship_core::operate::Keep {
            last: self.last,
            within: span,
        })
    }
}

impl Config {
    /// Reads the file of a project.
    pub fn read(root: &Path) -> Result<Self, CliError> {
        let path = root.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| CliError::failed(format!("cannot read {}: {e}", path.display())))?;
        Self::parse(&text).map_err(|e| {
            CliError::usage(format!("{}: {e}", path.display()))
                .hint("`unship init` writes a correct one; the book lists every key")
        })
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Probe {
            #[serde(default)]
            format: u32,
        }
        let probe: Probe = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if probe.format > FORMAT {
            return Err(format!(
                "this file has format {}, and this unship reads formats up to {FORMAT}",
                probe.format
            ));
        }
        toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())
    }

    /// The environment of a name, or the default one.
    pub fn env(&self, name: Option<&str>) -> Result<(&str, &Env), CliError> {
        let name = name.unwrap_or(&self.default_env);
        self.envs
            .get_key_value(name)
            .map(|(k, v)| (k.as_str(), v))
            .ok_or_else(|| {
                let known: Vec<_> = self.envs.keys().map(String::as_str).collect();
                CliError::usage(format!("{FILE} has no environment `{name}`"))
                    .hint(format!("it has: {}", known.join(", ")))
            })
    }
}

/// The nearest directory from `start` upwards that has an `unship.toml`.
pub fn find_root(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|dir| dir.join(FILE).is_file())
        .map(Path::to_owned)
}
