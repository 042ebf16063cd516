//! Which profile and target a dbt invocation uses, found and read as dbt does.

use super::{
    Surroundings,
    connection::{self, PostgresTarget},
    invocation::Options,
    jinja::{RenderError, Renderer},
    snowflake::{self, SnowflakeTarget},
    target::{DbtTarget, DuckDbTarget},
    yaml::{self, YamlError},
};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The name of the file that dbt reads its profiles from.
pub const PROFILES: &str = "profiles.yml";

/// A project and its profiles, as they are on disk: templates are text. It cannot be printed for
/// debugging: profiles hold secrets.
#[derive(Clone)]
pub struct Located {
    /// The project's directory.
    pub project_dir: PathBuf,
    /// The content of `dbt_project.yml`.
    pub project: Map<String, Value>,
    /// The `profiles.yml` that dbt reads.
    pub profiles_file: PathBuf,
    /// Its content. It may hold secrets: never log it.
    pub(super) profiles: Map<String, Value>,
    /// What `--vars` gives.
    pub(super) vars: Map<String, Value>,
}

/// Why dbt's target is not known. No variant holds a value from the profile except names.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no project.
    #[error(
        "no dbt_project.yml in {} or any directory above; run unship in the project, or pass \
         --project-dir to dbt", .searched.display()
    )]
    NoProject {
        /// Where the search began.
        searched: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file is not YAML as dbt reads it.
    #[error("{}: {source}", .path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: YamlError,
    },
    /// A file holds something other than keys and values.
    #[error("{} is empty, or is not a mapping of keys to values", .path.display())]
    NotAMapping {
        /// The file.
        path: PathBuf,
    },
    /// `--vars` is not a YAML mapping.
    #[error("--vars is not a YAML mapping, as in --vars '{{day: 2026-01-31}}'")]
    Vars,
    /// Nobody names a profile.
    #[error("{} names no profile; add `profile: NAME`, or pass --profile to dbt", .project.display())]
    NoProfileName {
        /// The project file.
        project: PathBuf,
    },
    /// The profile is not in the file.
    #[error("{} has no profile named `{name}`; it has {}", .file.display(), list(.known))]
    UnknownProfile {
        /// The profiles file.
        file: PathBuf,
        /// The name that was looked for.
        name: String,
        /// The profiles there are.
        known: Vec<String>,
    },
    /// The target is not in the profile.
    #[error("the profile `{profile}` has no target named `{target}`; it has {}", list(.known))]
    UnknownTarget {
        /// The profile.
        profile: String,
        /// The target that was looked for.
        target: String,
        /// The targets there are.
        known: Vec<String>,
    },
    /// A template has no value.
    #[error("in the profile `{profile}`, `{key}`: {source}")]
    Render {
        /// The profile.
        profile: String,
        /// The key whose value is the template.
        key: String,
        /// What is missing.
        #[source]
        source: RenderError,
    },
    /// A template in the project file has no value.
    #[error("in dbt_project.yml, `{key}`: {source}")]
    RenderProject {
        /// The key whose value is the template.
        key: &'static str,
        /// What is missing.
        #[source]
        source: RenderError,
    },
    /// A key that dbt would refuse.
    #[error("in the profile `{profile}`, `{key}` must be {expected}")]
    BadValue {
        /// The profile.
        profile: String,
        /// The key.
        key: String,
        /// What it must hold.
        expected: &'static str,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

/// The keys of a target that say where it builds. Of the others only those are evaluated by which
/// unship itself connects: the rest may hold secrets, and unship has no use for them.
const PLACES: [&str; 9] = [
    "type",
    "path",
    "schema",
    "database",
    "dbname",
    "attach",
    "is_ducklake",
    "remote",
    "external_root",
];

impl Located {
    /// The project's name; empty where the project file gives none, which dbt refuses.
    pub fn name(&self) -> &str {
        let name = self.project.get("name").and_then(Value::as_str);
        name.unwrap_or_default()
    }

    /// Finds the project and the profiles that dbt would use.
    ///
    /// The project is that of `--project-dir`, of `DBT_PROJECT_DIR`, or the nearest one around the
    /// job's directory. The profiles are those of `--profiles-dir`, of `DBT_PROFILES_DIR`, of the
    /// job's directory, or of `~/.dbt`; a `profiles.yml` in a project that the job does not run in
    /// is not looked at, by dbt neither.
    ///
    /// # Errors
    /// When a file is missing, unreadable, or not YAML.
    pub fn find(options: &Options, at: &Surroundings) -> Result<Self, ProfileError> {
        let named = |flag: &Option<String>, setting: &str| {
            flag.as_deref()
                .or_else(|| at.setting(setting))
                .map(|dir| at.directory.join(dir))
        };
        let project_dir = match named(&options.project_dir, "PROJECT_DIR") {
            Some(dir) => dir,
            None => at
                .directory
                .ancestors()
                .find(|dir| dir.join("dbt_project.yml").exists())
                .ok_or_else(|| ProfileError::NoProject {
                    searched: at.directory.clone(),
                })?
                .to_owned(),
        };
        let profiles_dir = match named(&options.profiles_dir, "PROFILES_DIR") {
            Some(dir) => dir,
            None if at.directory.join(PROFILES).exists() => at.directory.clone(),
            None => at.home().unwrap_or(&at.directory).join(".dbt"),
        };
        let profiles_file = profiles_dir.join(PROFILES);
        let vars = match &options.vars {
            None => Map::new(),
            Some(text) => match yaml::parse(text) {
                Ok(Value::Object(vars)) => vars,
                _ => return Err(ProfileError::Vars),
            },
        };
        Ok(Self {
            project: read_mapping(&project_dir.join("dbt_project.yml"))?,
            profiles: read_mapping(&profiles_file)?,
            project_dir,
            profiles_file,
            vars,
        })
    }

    /// The profile and target that dbt would use, with every path made absolute.
    ///
    /// # Errors
    /// When there is no such profile or target, a template has no value, or a key is not what dbt
    /// accepts.
    pub fn target(&self, options: &Options, at: &Surroundings) -> Result<DbtTarget, ProfileError> {
        let renderer = Renderer::new(&at.env, &self.vars, None);
        let profile = match options.profile.as_deref().or_else(|| at.setting("PROFILE")) {
            Some(name) => name.to_owned(),
            None => self.profile_name(&renderer)?,
        };
        let known = |map: &Map<String, Value>| -> Vec<String> {
            map.keys().filter(|key| *key != "config").cloned().collect()
        };
        let Some(Value::Object(found)) = self.profiles.get(&profile) else {
            return Err(ProfileError::UnknownProfile {
                file: self.profiles_file.clone(),
                name: profile,
                known: known(&self.profiles),
            });
        };
        let render = |key: &str, value: &Value| {
            renderer
                .render_all(value)
                .map_err(|source| ProfileError::Render {
                    profile: profile.clone(),
                    key: key.to_owned(),
                    source,
                })
        };
        let bad = |key: &str, expected| ProfileError::BadValue {
            profile: profile.clone(),
            key: key.to_owned(),
            expected,
        };
        let target = match options.target.as_deref().or_else(|| at.setting("TARGET")) {
            Some(name) => name.to_owned(),
            None => match found.get("target") {
                None => "default".to_owned(),
                Some(template) => match render("target", template)? {
                    Value::String(name) => name,
                    _ => return Err(bad("target", "the name of a target")),
                },
            },
        };
        let Some(Value::Object(outputs)) = found.get("outputs") else {
            return Err(bad("outputs", "a mapping of targets"));
        };
        let output = match outputs.get(&target) {
            Some(Value::Object(output)) => output,
            Some(_) => return Err(bad(&target, "a mapping of settings")),
            None => {
                return Err(ProfileError::UnknownTarget {
                    profile,
                    target,
                    known: known(outputs),
                });
            }
        };
        let mut places = Map::new();
        for key in PLACES {
            if let Some(value) = output.get(key) {
                places.insert(key.to_owned(), render(key, value)?);
            }
        }
        let text = |key: &str| places.get(key).and_then(Value::as_str).map(str::to_owned);
        let adapter = text("type").ok_or_else(|| bad("type", "the name of an adapter"))?;
        let duckdb = match adapter.as_str() {
            "duckdb" => Some(
                DuckDbTarget::read(&places, &at.directory, at.home())
                    .map_err(|(key, expected)| bad(&key, expected))?,
            ),
            _ => None,
        };
        let facts = |keys: &[&str]| {
            let mut facts = Map::new();
            for key in keys {
                if let Some(value) = output.get(*key) {
                    facts.insert((*key).to_owned(), render(key, value)?);
                }
            }
            Ok(facts)
        };
        let (mut postgres, mut snowflake) = (None, None);
        match adapter.as_str() {
            "postgres" => {
                let read = PostgresTarget::read(&facts(&connection::KEYS)?);
                postgres = Some(read.map_err(|(key, expected)| bad(&key, expected))?);
            }
            "snowflake" => {
                let read = SnowflakeTarget::read(&facts(&snowflake::KEYS)?);
                snowflake = Some(read.map_err(|(key, expected)| bad(&key, expected))?);
            }
            _ => {}
        }
        let database = text("database").or_else(|| text("dbname"));
        Ok(DbtTarget {
            schema: text("schema").or_else(|| duckdb.as_ref().map(|_| "main".to_owned())),
            database: database.or_else(|| duckdb.as_ref().map(|duckdb| duckdb.database.clone())),
            profile,
            target,
            adapter,
            duckdb,
            postgres,
            snowflake,
        })
    }

    fn profile_name(&self, renderer: &Renderer) -> Result<String, ProfileError> {
        let none = || ProfileError::NoProfileName {
            project: self.project_dir.join("dbt_project.yml"),
        };
        let template = self.project.get("profile").ok_or_else(none)?;
        let rendered =
            renderer
                .render_all(template)
                .map_err(|source| ProfileError::RenderProject {
                    key: "profile",
                    source,
                })?;
        rendered.as_str().map(str::to_owned).ok_or_else(none)
    }
}

/// Reads a YAML file that must be a mapping.
pub(super) fn read_mapping(path: &Path) -> Result<Map<String, Value>, ProfileError> {
    let text = std::fs::read_to_string(path).map_err(|source| ProfileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    match yaml::parse(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ProfileError::NotAMapping {
            path: path.to_owned(),
        }),
        Err(source) => Err(ProfileError::Yaml {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Feeds arbitrary bytes to everything that a profile goes through, for fuzzing: a project, its
/// profiles and what `--vars` gives, separated by zero bytes.
pub fn fuzz(bytes: &[u8]) {
    let mut mappings = bytes.split(|byte| *byte == 0).map(|part| {
        let read = std::str::from_utf8(part).ok().map(yaml::parse);
        match read {
            Some(Ok(Value::Object(map))) => map,
            _ => Map::new(),
        }
    });
    let mut next = || mappings.next().unwrap_or_default();
    let located = Located {
        project_dir: "/p".into(),
        project: next(),
        profiles_file: "/p/profiles.yml".into(),
        profiles: next(),
        vars: next(),
    };
    let at = Surroundings {
        directory: "/p".into(),
        env: [("HOME".to_owned(), "/home".to_owned())].into(),
    };
    let Ok(target) = located.target(&Options::default(), &at) else {
        return;
    };
    let Some(Ok(files)) = target.duckdb.as_ref().map(DuckDbTarget::files) else {
        return;
    };
    let moves: Vec<_> = files
        .into_iter()
        .map(|file| {
            let copy = Path::new("/aside").join(file.path.file_name().unwrap_or_default());
            (file.path, copy)
        })
        .collect();
    let _ = super::redirect::redirect(&located, &target, &moves);
    let _ = super::project::artefacts(&located, &target, &Options::default(), &at);
}

#[cfg(test)]
mod tests;
