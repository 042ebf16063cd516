//! A dbt job: where it would build, how it is pointed at the build instead, and what it left.

use crate::config::FILE;
use crate::error::{CliError, CliResult, current_dir, io_error, system_error};
use crate::pipeline::dbt::invocation::{Invocation, Options};
use crate::pipeline::dbt::profile::{Located, PROFILES};
use crate::pipeline::dbt::project::{self, Artefacts};
use crate::pipeline::dbt::redirect::redirect;
use crate::pipeline::dbt::spark;
use crate::pipeline::dbt::staging::Redirect;
use crate::pipeline::dbt::{DbtTarget, Surroundings};
use crate::scope::MANIFEST;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;
use unship_core::ident::RelationName;
use unship_core::ledger::BlobRef;
use unship_core::log::Ledger;
use unship_core::pipeline::dbt::manifest::{Manifest, Severity};
use unship_core::pipeline::dbt::run_results::{Outcome, RunResults};
use unship_engines::duckdb::file::lasting_path;
use unship_engines::duckdb::layout::DbFile;

/// What is known of a dbt job before it runs.
pub struct DbtJob {
    pub(crate) invocation: Option<Invocation>,
    pub(crate) started_in: PathBuf,
    pub(crate) options: Options,
    pub(crate) at: Surroundings,
    pub(crate) located: Located,
    pub(crate) target: DbtTarget,
    pub(crate) artefacts: Artefacts,
}

/// How to start the job so that it builds aside. The directory holds the generated profile, which
/// may contain secrets, and goes when this is dropped.
pub struct Redirected {
    /// The command.
    pub command: Vec<String>,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
    pub(crate) _profiles: TempDir,
}

/// What the job left.
#[derive(Default)]
pub struct Left {
    /// The relations that it built.
    pub built: BTreeSet<RelationName>,
    /// What failed, each a sentence.
    pub failures: Vec<String>,
    /// Artefacts, as blobs.
    pub artefacts: BTreeMap<String, BlobRef>,
    /// Versions that matter.
    pub packages: BTreeMap<String, String>,
    /// What a person should know of it, each a sentence.
    pub warnings: Vec<String>,
}

impl DbtJob {
    /// Reads project and profile of a dbt command that is started in `directory`.
    pub fn of(invocation: Invocation, directory: &Path) -> CliResult<Self> {
        let at = invocation.surroundings(&surroundings(directory)?);
        let options = invocation.options.clone();
        Self::found(Some(invocation), directory, &options, &at)
    }

    /// Reads project and profile of a script, started in `directory`, that starts dbt in
    /// `project_dir`.
    pub fn of_script(project_dir: &Path, target: &str, directory: &Path) -> CliResult<Self> {
        let at = surroundings(directory)?;
        let options = Options {
            project_dir: Some(project_dir.display().to_string()),
            target: Some(target.to_owned()),
            ..Options::default()
        };
        Self::found(None, &at.directory, &options, &at)
    }

    /// Reads project and profile for a target's connection, from wherever unship is run.
    pub fn of_target(
        project_dir: &Path,
        profiles_dir: Option<&Path>,
        target: &str,
    ) -> CliResult<Self> {
        let at = surroundings(project_dir)?;
        let options = Options {
            project_dir: Some(project_dir.display().to_string()),
            profiles_dir: profiles_dir.map(|dir| dir.display().to_string()),
            target: Some(target.to_owned()),
            ..Options::default()
        };
        Self::found(None, &at.directory, &options, &at)
    }

    /// The directory of the profile, if dbt would not find it from the project's directory.
    pub fn profiles_elsewhere(&self) -> Option<PathBuf> {
        let dir = self.located.profiles_file.parent().map(canonical)?;
        let usual = self.at.home().map(|home| canonical(&home.join(".dbt")));
        let found = dir == canonical(&self.located.project_dir) || Some(&dir) == usual.as_ref();
        (!found).then_some(dir)
    }

    fn found(
        invocation: Option<Invocation>,
        started_in: &Path,
        options: &Options,
        at: &Surroundings,
    ) -> CliResult<Self> {
        let wrong = |e: &dyn std::error::Error| CliError::usage(unship_core::execute::chain(e));
        let located = Located::find(options, at).map_err(|e| wrong(&e))?;
        let target = located.target(options, at).map_err(|e| wrong(&e))?;
        let artefacts =
            project::artefacts(&located, &target, options, at).map_err(|e| wrong(&e))?;
        Ok(Self {
            invocation,
            started_in: started_in.to_owned(),
            options: options.clone(),
            at: at.clone(),
            located,
            target,
            artefacts,
        })
    }

    /// The target's name: the environment that is meant, unless another is named.
    pub fn target(&self) -> &str {
        &self.target.target
    }

    /// The project's directory.
    pub fn project_dir(&self) -> &Path {
        &self.located.project_dir
    }

    /// The database files that the job may write, the main one first.
    pub fn files(&self) -> CliResult<Vec<DbFile>> {
        let duckdb = self.target.duckdb.as_ref().ok_or_else(|| {
            let name = &self.target.target;
            if self.target.adapter == spark::ADAPTER {
                return CliError::usage(format!(
                    "the target `{name}` is Spark, which does not say to unship where its tables are"
                ))
                .hint(format!(
                    "for Iceberg tables write [env.{name}] with `engine = \"iceberg\"` and the \
                     address of their REST catalog into {FILE}"
                ));
            }
            CliError::usage(match (&self.target.postgres, &self.target.snowflake) {
                (Some(_), _) => {
                    format!("the target `{name}` is a PostgreSQL database and has no files")
                }
                (_, Some(_)) => {
                    format!("the target `{name}` is a Snowflake database and has no files")
                }
                (None, None) => format!(
                    "the target `{name}` is {}, and unship guards DuckDB, PostgreSQL and Snowflake",
                    self.target.adapter
                ),
            })
        })?;
        let files = duckdb.files().map_err(|e| CliError::usage(e.to_string()))?;
        Ok(files
            .into_iter()
            .map(|f| DbFile {
                catalog: f.database,
                path: canonical(&f.path),
            })
            .collect())
    }

    /// Attached databases that cannot be guarded, by name.
    pub fn unprotected(&self) -> Vec<String> {
        let duckdb = self.target.duckdb.iter();
        duckdb
            .flat_map(|d| d.unprotected())
            .map(|a| a.database.clone())
            .collect()
    }

    /// The directories that dbt writes in the project.
    pub fn written(&self) -> [PathBuf; 2] {
        [self.artefacts.directory.clone(), self.logs()]
    }

    /// The versions that matter, by package, as far as they can be told without starting anything:
    /// of dbt, of the target's adapter and of DuckDB, as installed where the job finds dbt, and of
    /// the dbt packages that are locked in a project's directory.
    pub fn versions(&self, project_dir: &Path) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        if let Some(program) = self.program() {
            let adapter = format!("dbt-{}", self.target.adapter);
            for (name, version) in project::installed_versions(&program) {
                match name.as_str() {
                    "dbt-core" => versions.insert("dbt".to_owned(), version),
                    "duckdb" if self.target.duckdb.is_some() => versions.insert(name, version),
                    _ if name == adapter => versions.insert(name, version),
                    _ => None,
                };
            }
        }
        if let Ok(packages) = project::packages(project_dir) {
            for package in packages {
                versions.insert(package.name, package.version.unwrap_or_default());
            }
        }
        versions
    }

    /// The dbt that the job starts, where that can be told.
    fn program(&self) -> Option<PathBuf> {
        let invocation = self.invocation.as_ref()?;
        // These run the dbt of an environment that they choose themselves.
        let chosen = |word: &String| matches!(word.rsplit('/').next(), Some("uv" | "poetry"));
        if invocation.launcher().iter().any(chosen) {
            return None;
        }
        let path = self.at.env.get("PATH");
        which::which_in(invocation.program(), path, &self.at.directory).ok()
    }

    /// The manifest that an earlier invocation left, if any.
    pub fn manifest(&self) -> Option<Manifest> {
        Manifest::parse(&std::fs::read(&self.artefacts.manifest).ok()?).ok()
    }

    /// Points the job at the build, with a generated profile.
    pub fn redirected(
        &self,
        command: &[String],
        moves: &[(PathBuf, PathBuf)],
    ) -> CliResult<Redirected> {
        // The profile may name the file through a link; what it says is what is replaced.
        let said = self.target.duckdb.iter().flat_map(|d| d.files()).flatten();
        let moves: Vec<(PathBuf, PathBuf)> = said
            .filter_map(|file| {
                let real = canonical(&file.path);
                let (_, to) = moves.iter().find(|(from, _)| *from == real)?;
                // Where no link can be made, dbt only takes longer.
                let to = lasting_path(to).unwrap_or_else(|_| to.clone());
                Some((file.path, to))
            })
            .collect();
        let text = redirect(&self.located, &self.target, &moves)
            .map_err(|e| CliError::usage(unship_core::execute::chain(&e)))?;
        let profiles = private_profile(&text)?;
        let command = self
            .invocation
            .as_ref()
            .and_then(|i| i.with_profiles_dir(profiles.path()))
            .unwrap_or_else(|| command.to_vec());
        let dir = profiles.path().display().to_string();
        let env = [
            ("DBT_PROFILES_DIR", dir.clone()),
            ("DBT_ENGINE_PROFILES_DIR", dir),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        Ok(Redirected {
            command,
            env,
            _profiles: profiles,
        })
    }

    /// Reads and keeps what the job left. What is older than its start was left by another. Where
    /// the ledger cannot take it, the entry that says that the job ended cannot be written either,
    /// and that is where it is told.
    ///
    /// What a job left that built in staging schemas speaks of those. It is put into production's
    /// names, in dbt's own files too: whoever reads them next (documentation, a catalog, a
    /// comparison of states) has nothing to look for in staging. `catalog` is where the relations are
    /// that dbt names by their schema alone.
    pub fn collect(
        &self,
        since: SystemTime,
        ledger: &mut Ledger,
        staged: Option<&Redirect>,
        catalog: Option<&str>,
    ) -> Left {
        let mut left = Left::default();
        let mut manifest = None;
        let mut results = None;
        for (name, path) in [
            (MANIFEST, &self.artefacts.manifest),
            ("run_results.json", &self.artefacts.run_results),
            ("sources.json", &self.artefacts.sources),
            ("catalog.json", &self.artefacts.catalog),
        ] {
            let fresh = std::fs::metadata(path)
                .and_then(|m| m.modified())
                .is_ok_and(|modified| modified >= since);
            let Some(mut bytes) = fresh.then(|| std::fs::read(path).ok()).flatten() else {
                continue;
            };
            if let Some(redirect) = staged {
                if name == MANIFEST {
                    left.warnings.extend(redirect.spelled_out(&bytes));
                }
                let text = std::str::from_utf8(&bytes).map(|text| {
                    let cleared = redirect.naming.in_production(text);
                    (cleared != text).then_some(cleared)
                });
                if let Ok(Some(text)) = text {
                    bytes = text.into_bytes();
                    // The ledger has it in any case.
                    let _ = std::fs::write(path, &bytes);
                }
            }
            if let (MANIFEST, Some(catalog)) = (name, catalog) {
                // dbt's own file stays as it is: dbt may compare it with its next one.
                bytes = spark::in_catalog(&bytes, catalog).unwrap_or(bytes);
            }
            if let Ok(blob) = ledger.put_blob(&bytes, name) {
                left.artefacts.insert(name.to_owned(), BlobRef(blob));
            }
            match name {
                MANIFEST => manifest = Manifest::parse(&bytes).ok(),
                "run_results.json" => results = RunResults::parse(&bytes).ok(),
                _ => {}
            }
        }
        left.packages = self.versions(&self.located.project_dir);
        if let Some(manifest) = &manifest {
            left.packages
                .insert("dbt".to_owned(), manifest.dbt_version.clone());
            if let Some(results) = &results {
                let outcome = results.outcome(manifest);
                left.failures = failures(&outcome);
                left.built = outcome.built;
            }
        }
        left
    }
}

/// A directory with a `profiles.yml` that only this user can read.
pub(crate) fn private_profile(text: &str) -> CliResult<TempDir> {
    let place = std::env::temp_dir();
    let profiles = tempfile::Builder::new()
        .prefix("unship-profile-")
        .tempdir_in(&place)
        .map_err(io_error("create a directory in", &place))?;
    let path = profiles.path().join(PROFILES);
    std::fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io_error("write", &path))?;
    Ok(profiles)
}

/// What dbt would find around it in a directory.
fn surroundings(directory: &Path) -> CliResult<Surroundings> {
    // Only the directory can fail, and says so better by itself.
    let here = current_dir()?;
    let mut at = Surroundings::of_this_process().map_err(system_error("look around"))?;
    if directory != here {
        // A shell would have told where it is, had the job been started there.
        let text = directory.display().to_string();
        at.env.insert("PWD".to_owned(), text);
        directory.clone_into(&mut at.directory);
    }
    Ok(at)
}

fn failures(outcome: &Outcome) -> Vec<String> {
    let short = |id: &str| id.split('.').skip(2).collect::<Vec<_>>().join(".");
    let first = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or("it failed");
        text.lines()
            .map(str::trim)
            .find(|l| !l.is_empty())
            .unwrap_or("it failed")
            .to_owned()
    };
    let failed = outcome
        .failed
        .iter()
        .map(|f| format!("{}: {}", short(&f.unique_id), first(&f.message)));
    let tests = outcome
        .tests
        .iter()
        .filter(|t| t.severity == Severity::Error)
        .map(|t| {
            let rows = t
                .failures
                .map_or_else(String::new, |n| format!(" for {n} rows"));
            format!("the test {} failed{rows}", short(&t.unique_id))
        });
    failed.chain(tests).collect()
}

/// A path without links, whether or not the file is there yet.
pub fn canonical(path: &Path) -> PathBuf {
    crate::context::absolute(path).unwrap_or_else(|_| path.to_owned())
}
