//! A job of dbt-postgres or dbt-snowflake, sent to staging schemas: asked beforehand what it would
//! build, and where.

use crate::dbt_job::{DbtJob, private_profile};
use crate::error::{CliError, CliResult, exit, io_error};
use crate::pipeline::dbt::connection::PostgresTarget;
use crate::pipeline::dbt::profile::PROFILES;
use crate::pipeline::dbt::snowflake::SnowflakeTarget;
use crate::pipeline::dbt::staging::dbt::{Dbt, DbtError, View, has_selectors};
use crate::pipeline::dbt::staging::{
    Code, Joined, Naming, Redirect, clones, join, overlay, profile, scan, short, state,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use unship_core::execute::chain;
use unship_core::ident::RelationName;
use unship_core::pipeline::dbt::manifest::{Manifest, ResourceType};

/// A job that will build in staging.
pub struct Staged {
    /// What is built where.
    pub redirect: Redirect,
    /// The command.
    pub command: Vec<String>,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
    _profiles: TempDir,
}

/// The project under both profiles.
struct Seen {
    manifest: Manifest,
    code: Code,
    joined: Joined,
    staging: View,
    overlaid: bool,
}

impl DbtJob {
    /// How the target connects.
    pub fn postgres(&self) -> CliResult<&PostgresTarget> {
        self.target.postgres.as_ref().ok_or_else(|| {
            CliError::usage(format!(
                "the target `{}` is {}, not PostgreSQL",
                self.target.target, self.target.adapter
            ))
        })
    }

    /// How the target connects.
    pub fn snowflake(&self) -> CliResult<&SnowflakeTarget> {
        self.target.snowflake.as_ref().ok_or_else(|| {
            CliError::usage(format!(
                "the target `{}` is {}, not Snowflake",
                self.target.target, self.target.adapter
            ))
        })
    }

    fn naming(&self) -> Naming {
        Naming::of(&self.target.adapter)
    }

    /// Prepares the job to build in staging; `None` for a command that builds nothing. `home` is a
    /// directory of unship's own, where dbt keeps what makes its next parse quick. `database` is the
    /// only one that is guarded, where a job may write to several.
    ///
    /// Nothing is asked of the warehouse, and nothing is changed in the project.
    pub fn staged(
        &self,
        command: &[String],
        home: &Path,
        database: Option<&str>,
    ) -> CliResult<Option<Staged>> {
        let subcommand = match &self.invocation {
            None => None,
            Some(invocation) => match invocation.subcommand.as_deref() {
                Some(word) if !clones::built_by(word).is_empty() => Some(word),
                Some(word @ ("retry" | "run-operation" | "clone")) => return Err(works_on(word)),
                _ => return Ok(None),
            },
        };
        let dbt = Dbt {
            launcher: match &self.invocation {
                Some(invocation) => invocation.launcher().to_vec(),
                None => vec!["dbt".to_owned()],
            },
            directory: self.started_in.clone(),
        };
        std::fs::create_dir_all(home).map_err(io_error("create", home))?;
        let profiles = private_profile(&self.staging_profile(&BTreeSet::new())?)?;
        let production = View {
            project_dir: self.located.project_dir.clone(),
            profiles_dir: match self.located.profiles_file.parent() {
                Some(dir) => dir.to_owned(),
                None => self.at.directory.clone(),
            },
            target_path: home.join("production"),
        };
        let seen = self.see(&dbt, &production, profiles.path(), home)?;
        let picked = self.picked(&dbt, &seen, subcommand)?;
        let redirect = self.decide(&seen, picked.as_ref(), database)?;
        // Only now is it known which schemas of a search path are built.
        let schemas: BTreeSet<String> = redirect.schemas.values().cloned().collect();
        let path = profiles.path().join(PROFILES);
        std::fs::write(&path, self.staging_profile(&schemas)?).map_err(io_error("write", &path))?;
        let state = deferred(&seen, picked.as_ref(), &production, home)?;
        let (command, env) = self.pointed(command, &seen, &state, profiles.path());
        Ok(Some(Staged {
            redirect,
            command,
            env,
            _profiles: profiles,
        }))
    }

    fn staging_profile(&self, schemas: &BTreeSet<String>) -> CliResult<String> {
        profile::profile(&self.located, &self.target, schemas).ok_or_else(|| {
            CliError::usage(format!(
                "the target `{}` has no schema that unship could put `{}` before",
                self.target.target,
                self.naming().prefix("")
            ))
            .hint("give the target a `schema`")
        })
    }

    /// Reads the project under both profiles, through an overlay where its own macros make one
    /// necessary. One that was necessary before is used at once.
    fn see(&self, dbt: &Dbt, production: &View, profiles: &Path, home: &Path) -> CliResult<Seen> {
        let place = home.join("overlay");
        let mut overlaid = place.exists();
        let known = std::fs::read(production.manifest()).ok();
        let known = known.and_then(|bytes| Code::parse(&bytes).ok());
        let mut staging = self.view(profiles, home, false);
        match (overlaid, known) {
            (true, Some(code)) => {
                self.overlay(&code, &place)?;
                staging = self.view(profiles, home, true);
            }
            _ => overlaid = false,
        }
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| dbt.parse(production, &self.options));
            let other = dbt.parse(&staging, &self.options);
            (one.join(), other)
        });
        match one {
            Ok(parsed) => parsed.map_err(told)?,
            Err(_) => return Err(CliError::failed("dbt could not be watched to its end")),
        }
        // What the overlay was made from may have changed since.
        if overlaid && other.is_err() {
            overlaid = false;
            staging = self.view(profiles, home, false);
            dbt.parse(&staging, &self.options).map_err(told)?;
        } else {
            other.map_err(told)?;
        }
        let bytes = manifest_of(production)?;
        let manifest = read(&bytes)?;
        let code = Code::parse(&bytes).map_err(|e| CliError::failed(e.to_string()))?;
        let mut joined = join(&manifest, &read(&manifest_of(&staging)?)?);
        if joined.escapes.values().any(|escape| escape.by_macro()) {
            self.overlay(&code, &place)?;
            overlaid = true;
            staging = self.view(profiles, home, true);
            dbt.parse(&staging, &self.options).map_err(told)?;
            joined = join(&manifest, &read(&manifest_of(&staging)?)?);
        }
        Ok(Seen {
            manifest,
            code,
            joined,
            staging,
            overlaid,
        })
    }

    fn view(&self, profiles: &Path, home: &Path, overlaid: bool) -> View {
        View {
            project_dir: match overlaid {
                true => home.join("overlay"),
                false => self.located.project_dir.clone(),
            },
            profiles_dir: profiles.to_owned(),
            target_path: home.join(if overlaid { "overlaid" } else { "staging" }),
        }
    }

    fn overlay(&self, code: &Code, place: &Path) -> CliResult<()> {
        let project = overlay::Project {
            directory: &self.located.project_dir,
            name: self.located.name(),
            naming: self.naming(),
            settings: &self.located.project,
            code,
            without: &self.written(),
        };
        overlay::make(&project, place)
            .map_err(|e| CliError::new(exit::REFUSED, chain(&e)).production(UNTOUCHED))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        let named = self.located.project.get("log-path");
        let name = named.and_then(|path| path.as_str()).unwrap_or("logs");
        self.located.project_dir.join(name)
    }

    /// What the command builds; `None` where that cannot be told.
    fn picked(
        &self,
        dbt: &Dbt,
        seen: &Seen,
        subcommand: Option<&str>,
    ) -> CliResult<Option<BTreeSet<String>>> {
        let Some(subcommand) = subcommand else {
            return Ok(None);
        };
        let by_variable = ["RESOURCE_TYPES", "EXCLUDE_RESOURCE_TYPES"]
            .iter()
            .any(|name| self.at.setting(name).is_some());
        let named = has_selectors(&self.located.project_dir);
        let own = clones::selected(&seen.manifest, subcommand, &self.options, named);
        if let Some(picked) = own.filter(|_| !by_variable) {
            return Ok(Some(picked));
        }
        let mut picked = dbt.list(&seen.staging, &self.options).map_err(told)?;
        clones::retain_built(&mut picked, &seen.manifest, subcommand, &self.options);
        Ok(Some(picked))
    }

    /// Whether the job may be redirected, and what has to be there for it.
    fn decide(
        &self,
        seen: &Seen,
        picked: Option<&BTreeSet<String>>,
        database: Option<&str>,
    ) -> CliResult<Redirect> {
        let naming = self.naming();
        let Seen {
            manifest,
            code,
            joined,
            ..
        } = seen;
        let concerns = |id: &str| picked.is_none_or(|picked| picked.contains(id));
        let mut refused: Vec<String> = Vec::new();
        let mut warnings = joined.warnings.clone();
        for (id, escape) in &joined.escapes {
            if concerns(id) || escape.kind == ResourceType::Source {
                refused.push(escape.to_string());
            }
        }
        for (id, relation) in joined.redirected.iter().filter(|(id, _)| concerns(id)) {
            if let Some(database) = database.filter(|database| *database != relation.database) {
                refused.push(format!(
                    "{} ({relation}) is built in another database than {database}, which is all \
                     that is guarded here",
                    short(id)
                ));
            }
        }
        let schemas: BTreeMap<String, String> = joined
            .redirected
            .values()
            .map(|relation| (naming.schema(&relation.schema), relation.schema.clone()))
            .collect();
        let redirected: BTreeSet<&String> = schemas.values().collect();
        for (id, node) in &code.nodes {
            let kind = manifest.nodes.get(id).map(|node| &node.resource_type);
            let always = kind == Some(&ResourceType::Operation);
            if !always && !concerns(id) {
                continue;
            }
            let hooks = node.hooks().chain(always.then(|| node.raw()));
            for (schema, name) in hooks.flat_map(|sql| scan::writes(sql, naming)) {
                let says = format!(
                    "a hook of {} writes to {schema}.{name} by that name",
                    short(id)
                );
                match redirected.contains(&schema) {
                    true => refused.push(format!(
                        "{says}, which is production itself; `{{{{ this }}}}` or \
                         `{{{{ target.schema }}}}` would follow the build"
                    )),
                    false => warnings.push(format!(
                        "{says}: that schema is not built aside, so that it is written to at once \
                         and whether or not the build is published"
                    )),
                }
            }
        }
        if !refused.is_empty() {
            refused.sort();
            refused.dedup();
            let what = format!(
                "this job cannot be built aside:\n  - {}",
                refused.join("\n  - ")
            );
            return Err(CliError::new(exit::REFUSED, what)
                .production(UNTOUCHED)
                .hint("leave these out with --exclude, or change what each line says"));
        }
        let everything = || joined.redirected.keys().cloned().collect();
        let considered = picked.cloned().unwrap_or_else(everything);
        let relation = |id: &String| joined.redirected.get(id).cloned();
        let built: BTreeSet<&RelationName> = joined.redirected.values().collect();
        Ok(Redirect {
            naming,
            schemas,
            relations: joined
                .redirected
                .values()
                .map(|relation| (naming.relation(relation), relation.clone()))
                .collect(),
            clones: clones::needed(manifest, joined, code, &considered, self.full_refresh()),
            views: joined
                .sources
                .iter()
                .filter(|source| !built.contains(source))
                .map(|source| (naming.relation(source), source.clone()))
                .collect(),
            selected: picked.map(|picked| picked.iter().filter_map(relation).collect()),
            warnings,
        })
    }

    fn full_refresh(&self) -> bool {
        let set = |value: &str| {
            matches!(
                value.to_ascii_lowercase().as_str(),
                "1" | "true" | "t" | "yes" | "y" | "on"
            )
        };
        self.options.full_refresh || self.at.setting("FULL_REFRESH").is_some_and(set)
    }

    /// The command and the environment that send dbt to staging. What the job does not build is
    /// read from production, whether or not something of its name is in staging.
    fn pointed(
        &self,
        command: &[String],
        seen: &Seen,
        state: &Path,
        profiles: &Path,
    ) -> (Vec<String>, BTreeMap<String, String>) {
        let text = |path: &Path| path.display().to_string();
        let mut values = vec![
            ("--profiles-dir", "PROFILES_DIR", text(profiles)),
            ("--defer-state", "DEFER_STATE", text(state)),
            (
                "--partial-parse-file-path",
                "PARTIAL_PARSE_FILE_PATH",
                text(&seen.staging.partial_parse()),
            ),
        ];
        if seen.overlaid {
            let project = text(&seen.staging.project_dir);
            values.push(("--project-dir", "PROJECT_DIR", project));
            let target = text(&self.artefacts.directory);
            values.push(("--target-path", "TARGET_PATH", target));
            let given = self
                .invocation
                .as_ref()
                .is_some_and(|i| i.gives("--log-path"));
            if !given && self.at.setting("LOG_PATH").is_none() {
                values.push(("--log-path", "LOG_PATH", text(&self.logs())));
            }
        }
        let flags = [
            ("--defer", "DEFER"),
            ("--favor-state", "FAVOR_STATE"),
            ("--write-json", "WRITE_JSON"),
        ];
        let mut env = BTreeMap::new();
        if seen.overlaid {
            env.insert(OVERLAY.to_owned(), text(&seen.staging.project_dir));
        }
        let named = values
            .iter()
            .map(|(_, name, value)| (*name, value.as_str()));
        for (name, value) in named.chain(flags.map(|(_, name)| (name, "true"))) {
            for begin in ["DBT_", "DBT_ENGINE_"] {
                env.insert(format!("{begin}{name}"), value.to_owned());
            }
        }
        let options: Vec<(&str, Option<&str>)> = values
            .iter()
            .map(|(option, _, value)| (*option, Some(value.as_str())))
            .chain(flags.map(|(option, _)| (option, None)))
            .collect();
        let without = [
            "--no-defer",
            "--no-favor-state",
            "--no-write-json",
            "--deprecated-defer",
            "--deprecated-favor-state",
        ];
        let pointed = self.invocation.as_ref();
        let pointed = pointed.and_then(|i| i.with_options(&options, &without));
        (pointed.unwrap_or_else(|| command.to_vec()), env)
    }
}

/// Tells a job that its dbt project has to be run from here to be sent to staging: its own macros
/// would build somewhere else.
pub const OVERLAY: &str = "UNSHIP_DBT_OVERLAY";

const UNTOUCHED: &str = "nothing was changed";

/// Where the manifest is that tells dbt what production has.
fn deferred(
    seen: &Seen,
    picked: Option<&BTreeSet<String>>,
    production: &View,
    home: &Path,
) -> CliResult<PathBuf> {
    let everything = || seen.joined.redirected.keys().cloned().collect();
    let built = picked.cloned().unwrap_or_else(everything);
    let referred = state::referred(&seen.manifest, &seen.code, &built);
    if referred.is_empty() {
        return Ok(production.target_path.clone());
    }
    let manifest = state::without(&manifest_of(production)?, &referred)
        .map_err(|e| CliError::failed(e.to_string()))?;
    let place = home.join("state");
    std::fs::create_dir_all(&place).map_err(io_error("create", &place))?;
    let path = place.join("manifest.json");
    std::fs::write(&path, manifest).map_err(io_error("write", &path))?;
    Ok(place)
}

fn manifest_of(view: &View) -> CliResult<Vec<u8>> {
    let path = view.manifest();
    std::fs::read(&path).map_err(io_error("read", &path))
}

fn read(manifest: &[u8]) -> CliResult<Manifest> {
    Manifest::parse(manifest).map_err(|e| CliError::failed(chain(&e)))
}

fn told(error: DbtError) -> CliError {
    CliError::failed(chain(&error))
        .production(UNTOUCHED)
        .hint("unship asks dbt what it would build before it starts the job; the job itself would fail in the same way")
}

/// Commands that go on from what is in the warehouse, which a build aside does not have.
fn works_on(subcommand: &str) -> CliError {
    let (what, hint) = match subcommand {
        "retry" => (
            "`dbt retry` goes on with a build that failed, and a build aside that fails is never \
             production's",
            "run the whole command again: `unship run -- dbt build`",
        ),
        "clone" => (
            "`dbt clone` fills one environment from another, and builds nothing that could be \
             published",
            "run it without unship",
        ),
        _ => (
            "`dbt run-operation` works on what is there, and a build aside starts empty",
            "run it without unship, or put it into a hook of the build",
        ),
    };
    CliError::new(exit::REFUSED, what)
        .production(UNTOUCHED)
        .hint(hint)
}

#[cfg(test)]
mod tests;
