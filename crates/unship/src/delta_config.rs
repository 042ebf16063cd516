//! `engine = "delta"` in `unship.toml`.

use crate::error::CliResult;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use unship_core::engine::Engine;
use unship_core::operate::Keep;
use unship_engines::iceberg::namespace;

/// What relations begin with where nothing names the catalog.
const CATALOG: &str = "delta";

/// A Delta Lake environment: a directory of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The directory that holds the namespaces, relative to this file: each table is a directory
    /// below one of them.
    pub root: PathBuf,
    /// What relations begin with; `delta` unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// The production namespaces, with those below them, where not all are meant. Parts have dots
    /// between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

impl Delta {
    /// What relations begin with.
    pub fn catalog(&self) -> &str {
        self.catalog.as_deref().unwrap_or(CATALOG)
    }

    /// What is wrong with it, if anything, and where.
    pub fn wrong(&self, env: &str) -> Option<String> {
        if self.root.to_string_lossy().contains("://") {
            return Some(format!(
                "env.{env}.root: {} is no directory of this machine: tables in an object store \
                 cannot be guarded yet",
                self.root.display()
            ));
        }
        let unread = self.namespaces.iter().find(|n| namespace(n).is_none())?;
        Some(format!(
            "env.{env}.namespaces: {unread:?} is no namespace: write its parts with dots between"
        ))
    }

    /// The engine. `root` is where `unship.toml` lies, `home` where it is written down what is
    /// retained, `keep` what is promised of it.
    ///
    /// # Errors
    /// When this unship was built without the feature `delta`.
    #[cfg(not(feature = "delta"))]
    pub fn engine(&self, _root: &Path, _home: PathBuf, _keep: &Keep) -> CliResult<Box<dyn Engine>> {
        Err(
            crate::error::CliError::usage("this unship was built without Delta Lake").hint(
                "it makes the program much larger, and is left out unless it is asked for: \
                 `cargo install --path crates/unship --features delta`",
            ),
        )
    }

    /// The engine. `root` is where `unship.toml` lies, `home` where it is written down what is
    /// retained, `keep` what is promised of it.
    ///
    /// # Errors
    /// When the root has no absolute path.
    #[cfg(feature = "delta")]
    pub fn engine(&self, root: &Path, home: PathBuf, keep: &Keep) -> CliResult<Box<dyn Engine>> {
        use unship_engines::delta::{Delta as Engine, Settings};
        let path = root.join(&self.root);
        let absolute = std::path::absolute(&path).map_err(|e| {
            let text = format!("{} is no path: {e}", path.display());
            crate::error::CliError::usage(text)
        })?;
        Ok(Box::new(Engine::new(Settings {
            root: absolute,
            catalog: self.catalog().to_owned(),
            namespaces: self
                .namespaces
                .iter()
                .filter_map(|n| namespace(n))
                .collect(),
            home,
            promise: keep.within,
        })))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env};

    fn env(text: &str) -> Result<Config, String> {
        Config::parse(&format!(
            "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"delta\"\n{text}"
        ))
    }

    #[test]
    fn a_directory_of_tables_is_read() {
        let config = env("root = \"lake\"\nnamespaces = [\"marts\", \"raw.eu\"]\n").unwrap();
        let Env::Delta(delta) = &config.envs["prod"] else {
            panic!("another engine");
        };
        assert!(config.envs["prod"].has_ledger_file());
        let keep = config.keep.parse().unwrap();
        let made = delta.engine(std::path::Path::new("/project"), "h".into(), &keep);
        match (cfg!(feature = "delta"), made) {
            (true, made) => drop(made.unwrap()),
            (false, Ok(_)) => panic!("there is none"),
            (false, Err(error)) => {
                let hint = error.hint.unwrap();
                assert!(hint.contains("--features delta"), "{hint}");
            }
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for (text, says) in [
            ("root = \"s3://bucket/lake\"\n", "object store"),
            (
                "root = \"lake\"\nnamespaces = [\"a..b\"]\n",
                "is no namespace",
            ),
            ("", "missing field `root`"),
        ] {
            let error = env(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
