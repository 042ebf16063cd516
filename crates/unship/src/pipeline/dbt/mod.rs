//! dbt jobs.

pub mod connection;
pub mod invocation;
mod jinja;
pub mod profile;
pub mod project;
pub mod redirect;
pub mod snowflake;
pub mod spark;
pub mod staging;
mod target;
pub mod yaml;

pub use jinja::RenderError;
pub use target::{Attachment, DatabaseFile, DbtTarget, DuckDbTarget, Location, Unprotected};

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What a job sees around itself: dbt reads its settings, and resolves relative paths, by these.
/// It cannot be printed for debugging: an environment holds secrets.
#[derive(Clone)]
pub struct Surroundings {
    /// The directory that the job runs in. dbt and DuckDB resolve relative database paths against
    /// it, not against the project.
    pub directory: PathBuf,
    /// The job's environment.
    pub env: BTreeMap<String, String>,
}

impl Surroundings {
    /// Those of a job that this process would start. Variables that are not Unicode are left out,
    /// as dbt's templates could not name them either.
    ///
    /// # Errors
    /// When the current directory is gone.
    pub fn of_this_process() -> std::io::Result<Self> {
        let unicode = |(key, value): (OsString, OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Self {
            directory: std::env::current_dir()?,
            env: std::env::vars_os().filter_map(unicode).collect(),
        })
    }

    /// A dbt setting that may come from the environment. `DBT_ENGINE_…` comes before `DBT_…`, and
    /// an empty variable is none, as in dbt.
    pub fn setting(&self, name: &str) -> Option<&str> {
        [format!("DBT_ENGINE_{name}"), format!("DBT_{name}")]
            .iter()
            .filter_map(|key| self.env.get(key))
            .map(String::as_str)
            .find(|value| !value.is_empty())
    }

    /// The user's home directory.
    pub fn home(&self) -> Option<&Path> {
        self.env.get("HOME").map(Path::new)
    }
}
