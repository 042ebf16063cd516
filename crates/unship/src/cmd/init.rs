//! `unship init`: finds what is to be guarded and writes it down.

use crate::cli::{Global, Init};
use crate::config::{self, Attach, Config, Dbt, DuckDb, Env, FORMAT, Keep, Postgres, Signatures};
use crate::context::{Context, absolute};
use crate::dbt_job::DbtJob;
use crate::declared::Checks;
use crate::error::{CliError, CliResult, current_dir, exit};
use crate::pipeline::dbt::invocation::Invocation;
use crate::render::text::{self, GOOD, WARN, paint};
use crate::snowflake_config::Snowflake;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unship_core::decide::Policy;
use unship_core::operate::count;
use unship_engines::duckdb::layout::DbFile;

/// Writes `unship.toml`, or adds an environment to it.
pub fn run(global: &Global, args: &Init) -> CliResult {
    let dir = match &global.project {
        Some(dir) => absolute(dir)?,
        None => current_dir()?,
    };
    if let Some(database) = &args.database {
        let path = absolute(database)?;
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = global.env.clone().unwrap_or_else(|| "prod".to_owned());
        let files = vec![DbFile {
            catalog: stem,
            path,
        }];
        write(&dir, &name, of_files(&dir, &files)?, None, args.force)?;
        say(&dir, &name, &files);
        return Ok(exit::OK);
    }
    let mut argv = vec!["dbt".to_owned(), "build".to_owned()];
    if let Some(target) = &global.env {
        argv.extend(["--target".to_owned(), target.clone()]);
    }
    if global.project.is_some() {
        argv.extend(["--project-dir".to_owned(), dir.display().to_string()]);
    }
    let invocation = Invocation::parse(&argv)
        .ok_or_else(|| CliError::failed("the dbt command line could not be read"))?;
    let dbt = DbtJob::of(invocation, &current_dir()?).map_err(|e| {
        let hint =
            "where there is no dbt project, name the file: `unship init --database shop.duckdb`";
        CliError {
            hint: e.hint.or(Some(hint.to_owned())),
            ..e
        }
    })?;
    let root = dbt.project_dir().to_owned();
    let env = of_dbt(&dbt)?;
    write(&root, dbt.target(), env, Some(project(&dbt)), args.force)?;
    let (place, role) = match (dbt.postgres(), dbt.snowflake()) {
        (Ok(target), _) => (Some(target.place()), target.role.clone()),
        (_, Ok(target)) => (Some(target.place()), target.role.clone()),
        _ => (None, None),
    };
    match place {
        Some(place) => {
            said_where(&root);
            crate::say!("  {}: {place}", dbt.target());
        }
        None => say(&root, dbt.target(), &dbt.files()?),
    }
    if let Some(role) = role {
        crate::say!("  what jobs build belongs to the role {role}");
    }
    protection(&dbt);
    Ok(exit::OK)
}

/// Sets a dbt project up for its first guarded run.
pub fn for_dbt(global: &Global, dbt: &DbtJob) -> CliResult<Context> {
    let root = dbt.project_dir().to_owned();
    write(&root, dbt.target(), of_dbt(dbt)?, Some(project(dbt)), false)?;
    if !global.json {
        crate::say_aside!("unship: wrote {}", root.join(config::FILE).display());
    }
    Context::at(root, global)
}

/// Where the project is; and its profile, if a connection is to be read from it later and dbt would
/// not look there.
fn project(dbt: &DbtJob) -> Dbt {
    let read_later = dbt.postgres().is_ok() || dbt.snowflake().is_ok();
    let elsewhere = read_later.then(|| dbt.profiles_elsewhere()).flatten();
    Dbt {
        project_dir: PathBuf::from("."),
        profiles_dir: elsewhere.map(|dir| relative(dbt.project_dir(), &dir)),
        restore_points: None,
    }
}

/// The environment that a dbt target is.
fn of_dbt(dbt: &DbtJob) -> CliResult<Env> {
    // The connection stays in the profile, and its secrets with it.
    let target = Some(dbt.target().to_owned());
    match (dbt.postgres(), dbt.snowflake()) {
        (Ok(_), _) => Ok(Env::Postgres(Postgres {
            target,
            ..Postgres::default()
        })),
        (_, Ok(_)) => Ok(Env::Snowflake(Box::new(Snowflake {
            target,
            ..Snowflake::default()
        }))),
        _ => of_files(dbt.project_dir(), &dbt.files()?),
    }
}

fn of_files(root: &Path, files: &[DbFile]) -> CliResult<Env> {
    let [main, attached @ ..] = files else {
        return Err(CliError::usage("there is no database to guard"));
    };
    Ok(Env::DuckDb(DuckDb {
        path: relative(root, &main.path),
        attach: attached
            .iter()
            .map(|f| Attach {
                alias: f.catalog.clone(),
                path: relative(root, &f.path),
            })
            .collect(),
        freeze_writers: true,
        python: None,
        memory_limit: None,
    }))
}

fn write(root: &Path, env: &str, environment: Env, dbt: Option<Dbt>, force: bool) -> CliResult<()> {
    let path = root.join(config::FILE);
    let mut config = if path.exists() && !force {
        let config = Config::read(root)?;
        if config.envs.contains_key(env) {
            return Err(CliError::usage(format!(
                "{} has the environment `{env}` already",
                path.display()
            ))
            .hint("`--force` writes the file anew"));
        }
        config
    } else {
        Config {
            dbt_cloud: None,
            format: FORMAT,
            default_env: env.to_owned(),
            dbt,
            envs: BTreeMap::new(),
            keep: Keep::default(),
            checks: Checks::default(),
            declared: Vec::new(),
            states: Vec::new(),
            policy: Policy::default(),
            roles: BTreeMap::new(),
            signatures: Signatures::default(),
            notify: Vec::new(),
            escalation: None,
        }
    };
    config.envs.insert(env.to_owned(), environment);
    let text = toml::to_string_pretty(&config).map_err(|e| CliError::failed(e.to_string()))?;
    let text = format!(
        "# What unship guards. Every key is described in the book, under Configuration.\n{text}"
    );
    std::fs::write(&path, text)
        .map_err(|e| CliError::failed(format!("cannot write {}: {e}", path.display())))
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    path.strip_prefix(&root)
        .map_or_else(|_| path.to_owned(), Path::to_owned)
}

fn said_where(root: &Path) {
    crate::say!(
        "{} {}",
        paint(GOOD, "wrote"),
        root.join(config::FILE).display()
    );
}

fn say(root: &Path, env: &str, files: &[DbFile]) {
    said_where(root);
    for file in files {
        let size = std::fs::metadata(&file.path).map(|m| text::bytes(m.len()));
        let size = size.unwrap_or_else(|_| "not there yet".to_owned());
        crate::say!("  {env}: {} ({size})", file.path.display());
    }
}

/// What is protected and what is not, as far as the manifest of an earlier build tells.
fn protection(dbt: &DbtJob) {
    for database in dbt.unprotected() {
        crate::say!(
            "  {}",
            paint(
                WARN,
                format!("not protected: the attached database {database} is no file")
            )
        );
    }
    let Some(manifest) = dbt.manifest() else {
        let place = match dbt.files() {
            Err(_) => "that dbt builds",
            Ok(_) => "in these files",
        };
        crate::say!("  every relation {place} is protected from the first run on");
        return;
    };
    let built: Vec<_> = manifest
        .nodes
        .values()
        .filter(|n| n.resource_type.is_built() && n.relation.is_some())
        .collect();
    crate::say!(
        "  protected: {} of {}",
        count(built.len(), "relation"),
        manifest.project
    );
    let history: Vec<_> = built
        .iter()
        .filter(|n| matches!(n.materialized.as_deref(), Some("incremental" | "snapshot")))
        .map(|n| n.name.as_str())
        .collect();
    if !history.is_empty() {
        crate::say!(
            "  cannot be rebuilt from code, only restored: {}",
            history.join(", ")
        );
    }
    for node in built.iter().filter(|n| n.external.is_some()) {
        crate::say!(
            "  {}",
            paint(
                WARN,
                format!(
                    "not protected: {} writes a file outside of the database",
                    node.name
                )
            )
        );
    }
    crate::say!("\nguard a build with: unship run -- dbt build");
}
