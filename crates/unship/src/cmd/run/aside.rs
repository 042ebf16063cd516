//! Where a job builds that builds aside: in staging schemas, which the engine makes; and that it
//! builds in what the environment guards.

use super::Guarded;
use crate::config::FILE;
use crate::context::{Context, Workbench};
use crate::dbt_job::DbtJob;
use crate::dbt_staged::Staged;
use crate::error::{CliError, CliResult};
use crate::pipeline::dbt::snowflake::identifier;
use crate::render::Terminal;
use crate::worktree::Worktree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unship_core::engine::Engine;
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

/// What is known of a job before it is started, and the engine that will make what it builds in.
type Prepared = (Option<Staged>, Box<dyn Engine>);

/// Sends a job to where it is to build. An engine that needs to know nothing of it stays as it is.
pub(super) fn stage(
    context: &Context,
    bench: &mut Workbench,
    job: &Guarded<'_>,
    program: Option<&Path>,
) -> CliResult<Option<Staged>> {
    let Some(estate) = context.estate()? else {
        let prepared = prepared(context, &bench.terminal, job, job.dbt.as_ref())?;
        return Ok(prepared.and_then(|(staged, engine)| {
            bench.engine = engine;
            staged
        }));
    };
    let builder = match &job.dbt {
        Some(dbt) => Some(builder(context, dbt)?),
        None => None,
    };
    let (mut staged, mut made) = (None, BTreeMap::new());
    for (name, member) in context.members()? {
        let dbt = job.dbt.as_ref().filter(|_| builder.as_ref() == Some(&name));
        if let Some((own, engine)) = prepared(&member, &bench.terminal, job, dbt)? {
            staged = staged.or(own);
            made.insert(name, engine);
        }
    }
    let last = context.last_program();
    bench.engine = context.estate_engine(estate, program.or(last.as_deref()), made)?;
    Ok(staged)
}

/// The member of an estate in which a dbt job builds, as if it were an environment itself; none
/// anywhere else.
pub(super) fn member(context: &Context, dbt: &DbtJob) -> CliResult<Option<Context>> {
    match context.estate()? {
        Some(_) => Ok(Some(context.member(&builder(context, dbt)?)?)),
        None => Ok(None),
    }
}

/// The name of the member in which a dbt job builds.
fn builder(context: &Context, dbt: &DbtJob) -> CliResult<String> {
    let mut others = Vec::new();
    let mut found = Vec::new();
    for (name, member) in context.members()? {
        let fits = match &dbt.target {
            target if target.duckdb.is_some() => member.has_files()?,
            target if target.postgres.is_some() => member.is_postgres()?,
            target if target.snowflake.is_some() => member.is_snowflake()?,
            _ => member.is_iceberg()? || member.is_delta()?,
        };
        match fits.then(|| same_warehouse(&member, dbt)) {
            Some(Ok(())) => found.push(name),
            Some(Err(error)) => others.push(error),
            None => {}
        }
    }
    match (found.as_slice(), others.into_iter().next()) {
        ([one], _) => Ok(one.clone()),
        ([], Some(error)) => Err(error),
        ([], None) => Err(CliError::usage(format!(
            "the target `{}` builds with {}, and no member of env.{} in {FILE} does",
            dbt.target(),
            dbt.target.adapter,
            context.env,
        ))),
        (several, _) => Err(CliError::usage(format!(
            "the target `{}` may build in each of {}: which one cannot be told",
            dbt.target(),
            several.join(", "),
        ))),
    }
}

/// Sends a job to staging schemas, which the engine will make with what the job goes on from. An
/// engine without schemas of its own for it needs nothing here.
fn prepared(
    context: &Context,
    terminal: &Terminal,
    job: &Guarded<'_>,
    dbt: Option<&DbtJob>,
) -> CliResult<Option<Prepared>> {
    if context.is_postgres()? {
        let postgres = context.postgres()?.postgres;
        let guarded = postgres.schemas.iter().cloned().collect();
        let cloned = postgres.cloned()?.into_iter().collect();
        let prepared = building(context, terminal, (job, dbt), guarded, None)?;
        let Some((staged, build)) = prepared else {
            return Ok(None);
        };
        let engine = context.postgres_engine(Wanted {
            job_role: None,
            schemas: build.schemas,
            clones: &build.clones | &cloned,
            views: build.views,
        })?;
        return Ok(Some((staged, engine)));
    }
    if context.is_snowflake()? {
        let config = context.snowflake_config()?;
        let cloned = config.cloned()?;
        let database = context.snowflake()?.database;
        let guarded = config.guarded();
        let prepared = building(context, terminal, (job, dbt), guarded, Some(&database))?;
        let Some((staged, build)) = prepared else {
            return Ok(None);
        };
        let engine = context.snowflake_engine(snowflake::Wanted {
            schemas: build.schemas,
            clones: &build.clones | &cloned,
            views: build.views,
        })?;
        return Ok(Some((staged, Box::new(engine))));
    }
    let of_dbt = |dbt: &DbtJob| dbt.invocation.is_some();
    if context.is_iceberg()? && dbt.is_some_and(of_dbt) {
        return Err(CliError::usage(
            "dbt replaces Iceberg tables, and a branch is of the table that was there",
        )
        .hint(
            "let it work on production itself, with a restore point: `unship run --in-place -- …`",
        ));
    }
    Ok(None)
}

/// What is to be prepared; none, for a command that builds nothing.
fn building(
    context: &Context,
    terminal: &Terminal,
    (job, dbt): (&Guarded<'_>, Option<&DbtJob>),
    guarded: BTreeSet<String>,
    database: Option<&str>,
) -> CliResult<Option<(Option<Staged>, Building)>> {
    let Some(dbt) = dbt else {
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
    terminal.notice(Notice::Phase("asking dbt what it builds, and where"));
    // What dbt keeps of a parse is of no use to other code.
    let home = job.worktree.map(Worktree::home);
    let home = home.unwrap_or_else(|| context.dbt_home());
    let Some(staged) = dbt.staged(job.command, &home, database)? else {
        return Ok(None);
    };
    for warning in &staged.redirect.warnings {
        terminal.notice(Notice::Note(warning));
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
    if context.estate()?.is_some() {
        return builder(context, dbt).map(drop);
    }
    if context.is_postgres()? {
        return same_database(context, dbt);
    }
    if context.is_snowflake()? {
        return same_account(context, dbt);
    }
    if context.is_iceberg()? || context.is_delta()? {
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
