//! Where a job builds that builds aside: in staging schemas, which the engine makes; and that it
//! builds in what the environment guards.

use super::Guarded;
use crate::config::FILE;
use crate::context::{Context, Workbench};
use crate::dbt_job::DbtJob;
use crate::dbt_staged::Staged;
use crate::error::{CliError, CliResult};
use crate::pipeline::dbt::snowflake::identifier;
use crate::worktree::Worktree;
use std::collections::BTreeSet;
use std::path::PathBuf;
use unship_core::execute::{Notice, Watch};
use unship_core::ident::RelationName;
use unship_engines::duckdb::layout::DbFile;
use unship_engines::postgres::build::Wanted;
use unship_engines::snowflake;

/// What must be in staging before a job begins: the production schemas that it builds in, what it
/// goes on from, and what it looks for there.
#[derive(Default)]
struct Building {
    schemas: BTreeSet<String>,
    clones: BTreeSet<(String, String)>,
    views: BTreeSet<(String, String)>,
}

/// Sends a job to staging schemas, which the engine will make with what the job goes on from. An
/// engine without schemas of its own for it needs nothing here.
pub(super) fn stage(
    context: &Context,
    bench: &mut Workbench,
    job: &Guarded<'_>,
) -> CliResult<Option<Staged>> {
    if context.is_postgres()? {
        let postgres = context.postgres()?.postgres;
        let guarded = postgres.schemas.iter().cloned().collect();
        let cloned = postgres.cloned()?.into_iter().collect();
        let Some((staged, build)) = building(context, bench, job, guarded, None)? else {
            return Ok(None);
        };
        bench.engine = context.postgres_engine(Wanted {
            job_role: None,
            schemas: build.schemas,
            clones: &build.clones | &cloned,
            views: build.views,
        })?;
        return Ok(staged);
    }
    if context.is_snowflake()? {
        let config = context.snowflake_config()?;
        let cloned = config.cloned()?;
        let database = context.snowflake()?.database;
        let guarded = config.guarded();
        let prepared = building(context, bench, job, guarded, Some(&database))?;
        let Some((staged, build)) = prepared else {
            return Ok(None);
        };
        bench.engine = Box::new(context.snowflake_engine(snowflake::Wanted {
            schemas: build.schemas,
            clones: &build.clones | &cloned,
            views: build.views,
        })?);
        return Ok(staged);
    }
    Ok(None)
}

/// What is to be prepared; none, for a command that builds nothing.
fn building(
    context: &Context,
    bench: &mut Workbench,
    job: &Guarded<'_>,
    guarded: BTreeSet<String>,
    database: Option<&str>,
) -> CliResult<Option<(Option<Staged>, Building)>> {
    let Some(dbt) = &job.dbt else {
        if guarded.is_empty() {
            return Err(CliError::usage(format!(
                "{FILE} does not say which schemas this job builds in"
            ))
            .hint(format!(
                "add `schemas = [\"…\"]` to [env.{}]; the job finds where to build in UNSHIP_SCHEMA",
                context.env
            )));
        }
        let build = Building {
            schemas: guarded,
            ..Building::default()
        };
        return Ok(Some((None, build)));
    };
    bench
        .terminal
        .notice(Notice::Phase("asking dbt what it builds, and where"));
    // What dbt keeps of a parse is of no use to other code.
    let home = job.worktree.map(Worktree::home);
    let home = home.unwrap_or_else(|| context.dbt_home());
    let Some(staged) = dbt.staged(job.command, &home, database)? else {
        return Ok(None);
    };
    for warning in &staged.redirect.warnings {
        bench.terminal.notice(Notice::Note(warning));
    }
    let name = |relation: &RelationName| (relation.schema.clone(), relation.name.clone());
    let schemas: BTreeSet<String> = staged.redirect.schemas.values().cloned().collect();
    if let Some(other) = schemas.difference(&guarded).next()
        && !guarded.is_empty()
    {
        return Err(CliError::usage(format!(
            "this job builds in the schema {other}, and [env.{}] of {FILE} guards others",
            context.env
        ))
        .hint("add it to `schemas` there, or leave `schemas` out to guard all"));
    }
    let clones = staged.redirect.clones.iter();
    let build = Building {
        schemas,
        clones: clones.map(|prior| name(&prior.production)).collect(),
        views: staged.redirect.views.values().map(name).collect(),
    };
    Ok(Some((Some(staged), build)))
}

/// The job must write what the environment guards, and nothing else.
pub(super) fn same_warehouse(context: &Context, dbt: &DbtJob) -> CliResult<()> {
    if context.is_postgres()? {
        return same_database(context, dbt);
    }
    if context.is_snowflake()? {
        return same_account(context, dbt);
    }
    if context.is_iceberg()? {
        // Where its engine's catalog leads is configured in that engine. What it changes is seen.
        return Ok(());
    }
    let (ours, theirs) = (context.files()?, dbt.files()?);
    let paths =
        |files: &[DbFile]| -> BTreeSet<PathBuf> { files.iter().map(|f| f.path.clone()).collect() };
    if paths(&ours) == paths(&theirs) {
        return Ok(());
    }
    let list = |paths: BTreeSet<PathBuf>| {
        let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        paths.join(", ")
    };
    Err(another(
        context,
        dbt,
        &format!("writes {}", list(paths(&theirs))),
        &list(paths(&ours)),
    ))
}

fn another(context: &Context, dbt: &DbtJob, does: &str, ours: &str) -> CliError {
    CliError::usage(format!(
        "the target `{}` {does}, and the environment `{}` of {FILE} guards {ours}",
        dbt.target(),
        context.env,
    ))
    .hint(format!(
        "`unship init --env {}` adds it to {FILE}",
        dbt.target(),
    ))
}

fn same_database(context: &Context, dbt: &DbtJob) -> CliResult<()> {
    let ours = context.postgres()?.connector()?;
    let theirs = dbt.postgres()?;
    let (host, port) = (theirs.host.as_str(), theirs.port.to_string());
    let address = ours.address();
    let same = |key, value: &str, default: &str| address.get(key).unwrap_or(default) == value;
    if same("host", host, "localhost")
        && same("port", &port, "5432")
        && ours.database() == theirs.dbname
    {
        return Ok(());
    }
    let does = format!("builds in {} at {host}:{port}", theirs.dbname);
    Err(another(context, dbt, &does, &address.to_string()))
}

fn same_account(context: &Context, dbt: &DbtJob) -> CliResult<()> {
    let ours = context.snowflake()?;
    let theirs = dbt.snowflake()?;
    // A name in quotes in the project is that name as it is.
    let database =
        identifier(&theirs.database) == ours.database || theirs.database == ours.database;
    let account =
        snowflake::client::host(&theirs.account) == snowflake::client::host(&ours.account);
    if database && account {
        return Ok(());
    }
    let does = format!("builds in {}", theirs.place());
    Err(another(context, dbt, &does, &ours.place()))
}
