//! `engine = "delta"` in `unship.toml`.

use crate::error::CliResult;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use unship_core::engine::Engine;
use unship_core::operate::Keep;
use unship_engines::iceberg::namespace;

/// What relations begin with where nothing names the catalog.
const CATALOG: &str = "delta";

/// The schemes of object stores that tables can lie in.
const SCHEMES: [&str; 6] = ["s3", "s3a", "gs", "az", "abfs", "abfss"];

/// A Delta Lake environment: a directory of tables, on this machine or in an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The directory that holds the namespaces, relative to this file, or the URL of one in an object
    /// store: each table is a directory below one of them.
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

    /// The root, if it is a URL.
    fn url(&self) -> Option<&str> {
        self.root.to_str().filter(|root| root.contains("://"))
    }

    /// What is wrong with it, if anything, and where.
    pub fn wrong(&self, env: &str) -> Option<String> {
        if let Some((scheme, rest)) = self.url().and_then(|url| url.split_once("://")) {
            // What is wrong is not repeated: there may be a password in it.
            if !SCHEMES.contains(&scheme) {
                return Some(format!(
                    "env.{env}.root: no object store is known for {scheme}://; write a directory of \
                     this machine without a scheme, or one of {}",
                    SCHEMES.join(", ")
                ));
            }
            let authority = rest.split('/').next().unwrap_or_default();
            // On Azure, what stands before the account is a container.
            let before = authority.split_once('@').map(|(before, _)| before);
            let is_plain = match before {
                Some(container) => scheme.starts_with("abfs") && !container.contains(':'),
                None => true,
            };
            if authority.is_empty() || !is_plain || rest.contains(['?', '#']) {
                return Some(format!(
                    "env.{env}.root: a URL names a store and a path, and nothing else: credentials \
                     come from the environment"
                ));
            }
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
    /// When the root has no absolute path, or its object store cannot be opened.
    #[cfg(feature = "delta")]
    pub fn engine(&self, root: &Path, home: PathBuf, keep: &Keep) -> CliResult<Box<dyn Engine>> {
        use unship_engines::delta::{Delta as Engine, Dir, Settings};
        let root = match self.url() {
            Some(url) => Dir::open(url)?,
            None => {
                let path = root.join(&self.root);
                let absolute = std::path::absolute(&path).map_err(|e| {
                    let text = format!("{} is no path: {e}", path.display());
                    crate::error::CliError::usage(text)
                })?;
                Dir::Disk(absolute)
            }
        };
        Ok(Box::new(Engine::new(Settings {
            root,
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
            ("root = \"file:///srv/lake\"\n", "without a scheme"),
            ("root = \"https://bucket/lake\"\n", "no object store"),
            ("root = \"s3:///lake\"\n", "names a store"),
            ("root = \"s3://me:hush@bucket/lake\"\n", "come from"),
            ("root = \"abfss://me:hush@account/lake\"\n", "come from"),
            ("root = \"az://lake/x?sig=hush\"\n", "come from"),
            (
                "root = \"lake\"\nnamespaces = [\"a..b\"]\n",
                "is no namespace",
            ),
            ("", "missing field `root`"),
        ] {
            let error = env(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        for root in [
            "s3a://bucket/lake",
            "gs://bucket",
            "abfss://c@a.dfs.core.windows.net/l",
        ] {
            env(&format!("root = \"{root}\"\n")).unwrap();
        }
    }
}
