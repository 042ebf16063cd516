//! `unship dbt-cloud`: jobs of dbt Cloud.

use crate::cli::{self, DbtCloudRollbackJob, DbtCloudRun, DbtCloudTrigger, Global};
use crate::context::Context;
use crate::dbt_cloud::artefacts;
use crate::dbt_cloud::client::{Client, CloudError, Ended, Trigger};
use crate::dbt_cloud::follow::follow;
use crate::dbt_cloud::rollback_job::RollbackJob;
use crate::dbt_job::DbtJob;
use crate::dbt_staged::OVERLAY;
use crate::error::{CliError, CliResult, current_dir, exit, system_error};
use crate::render::json;
use crate::{config, git};
use jiff::Timestamp;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a job is told by whoever guards it while it builds aside.
const ASIDE: &str = "UNSHIP_SCHEMA_PREFIX";

/// Guards a job of dbt Cloud: the command that triggers it is the command that is guarded.
pub fn run(global: &Global, args: &DbtCloudRun) -> CliResult {
    let context = Context::find(global)?;
    if !context.is_postgres()? && !context.is_snowflake()? {
        let what = context.config.env(Some(&context.env))?.1.what();
        return Err(CliError::usage(format!(
            "the environment `{}` is {what}, and jobs of dbt Cloud are guarded in PostgreSQL and \
             Snowflake",
            context.env
        )));
    }
    // What is wrong with the account is said before anything is prepared for the job.
    client(&context)?.job(args.job).map_err(told)?;
    let program = std::env::current_exe().map_err(system_error("find unship's own program"))?;
    let mut command = vec![
        program.display().to_string(),
        "dbt-cloud".to_owned(),
        "trigger".to_owned(),
        "--job".to_owned(),
        args.job.to_string(),
        "--env".to_owned(),
        context.env.clone(),
    ];
    if global.project.is_some() {
        command.extend(["--project".to_owned(), context.root.display().to_string()]);
    }
    super::run::run(
        global,
        &cli::Run {
            in_place: args.in_place,
            aside: !args.in_place,
            command,
        },
    )
}

/// Triggers a job and waits for its end. 0 if it went well, 1 if not.
pub fn trigger(global: &Global, args: &DbtCloudTrigger) -> CliResult {
    let context = Context::find(global)?;
    let client = client(&context)?;
    let dir = current_dir()?;
    let section = context.config.dbt.as_ref().ok_or_else(|| {
        CliError::usage(format!("{} names no dbt project", config::FILE))
            .hint("add `[dbt]` with `project_dir`: what dbt Cloud builds is told by the project")
    })?;
    let project = context.root.join(&section.project_dir);
    let dbt = DbtJob::of_script(&project, &context.env, &dir)?;
    let schema_override = match std::env::var(ASIDE) {
        Err(_) => None,
        Ok(prefix) => Some(staging(&dbt, &prefix)?),
    };
    let code = git::code(&dir);
    if code.as_ref().is_some_and(|code| code.dirty) {
        crate::say_aside!("what is not committed here is not part of what dbt Cloud runs");
    }
    let release = std::env::var("UNSHIP_RELEASE").unwrap_or_else(|_| "by hand".to_owned());
    let trigger = Trigger {
        cause: format!("unship: {release}, {}", Timestamp::now()),
        git_sha: code.map(|code| code.commit),
        schema_override,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(system_error("listen for signals"))?;
    }
    let say = |line: &str| crate::say!("{line}");
    let followed = follow(&client, args.job, &trigger, &stop, say).map_err(|(error, page)| {
        let error = told(error);
        match page {
            Some(page) => error.hint(format!(
                "the run may go on, and write: look at {page}, and stop it there"
            )),
            None => error,
        }
    })?;
    if followed.ended == Ended::Cancelled {
        crate::say_aside!("the run was stopped");
        return Ok(1);
    }
    let steps: Vec<u64> = followed.run.run_steps.iter().map(|s| s.index).collect();
    let place = &dbt.artefacts.directory;
    let fetched = artefacts::fetch(&client, followed.run.id, &steps, place);
    if let (Err(error), Ended::Well) = (&fetched, followed.ended) {
        return Err(CliError::failed(format!(
            "the run went well, but what it built cannot be told: {error}"
        )));
    }
    if followed.ended == Ended::Well {
        return Ok(exit::OK);
    }
    match followed.run.status_message {
        Some(why) => crate::say_aside!("the run failed: {why}"),
        None => crate::say_aside!("the run failed"),
    }
    Ok(1)
}

/// Shows, or makes, a job that goes back by the dbt package.
pub fn rollback_job(global: &Global, args: &DbtCloudRollbackJob) -> CliResult {
    let context = Context::find(global)?;
    let client = client(&context)?;
    let job = RollbackJob::of(&client, args.job).map_err(told)?;
    let made = match args.create {
        true => Some(job.make(&client).map_err(told)?),
        false => None,
    };
    if global.json {
        let document = RollbackJobDocument {
            name: &job.name,
            there: job.there,
            made,
            body: &job.body,
        };
        json("unship.dbt_cloud_rollback_job/1", &document)?;
        return Ok(exit::OK);
    }
    let name = &job.name;
    match (made, job.there) {
        (Some(made), None) => crate::say!("made the job {made}, `{name}`"),
        (Some(made), Some(_)) => crate::say!("the job {made}, `{name}`, is up to date"),
        (None, there) => {
            let pretty = serde_json::to_string_pretty(&job.body).unwrap_or_default();
            crate::say!("{pretty}");
            match there {
                Some(there) => crate::say_aside!("`--create` would send this for the job {there}"),
                None => crate::say_aside!("`--create` would make this job"),
            }
        }
    }
    Ok(exit::OK)
}

#[derive(Serialize)]
struct RollbackJobDocument<'a> {
    name: &'a str,
    there: Option<u64>,
    made: Option<u64>,
    body: &'a serde_json::Value,
}

/// The schema that stands for the target's own while the job builds aside: the profile that it is
/// given names it.
fn staging(dbt: &DbtJob, prefix: &str) -> CliResult<String> {
    let refused = |text: &str| CliError::new(exit::REFUSED, text);
    if std::env::var_os(OVERLAY).is_some() {
        return Err(refused(
            "this project's own macros decide where its models are built, and dbt Cloud cannot be \
             kept from following them into production",
        )
        .hint("let `generate_schema_name` begin with `target.schema`"));
    }
    let schema = dbt.target.schema.as_deref();
    // What a prefix is to Snowflake does not depend on its case.
    let begins = |schema: &&str| {
        let begin = schema.get(..prefix.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    let staged = schema.filter(begins);
    staged.map(str::to_owned).ok_or_else(|| {
        refused("the job is to build aside, and dbt's profile does not say where")
            .hint("start it by `unship dbt-cloud run`")
    })
}

fn client(context: &Context) -> CliResult<Client> {
    let section = context.config.dbt_cloud.as_ref().ok_or_else(|| {
        CliError::usage(format!("{} names no account of dbt Cloud", config::FILE))
            .hint("add `[dbt_cloud]` with `account`, the number in the address of its pages")
    })?;
    let token = section.token.read(&context.root).map_err(|e| {
        CliError::usage(format!("there is no token for dbt Cloud: {e}"))
            .hint("a service token with the permission `Job Admin` is enough")
    })?;
    Client::new(section, token).map_err(CliError::usage)
}

fn told(error: CloudError) -> CliError {
    let hint = match &error {
        CloudError::Refused { status: 401, .. } => {
            "the token is not valid for this account and address"
        }
        CloudError::Refused { status: 403, .. } => "the token needs the permission `Job Admin`",
        CloudError::Refused { status: 404, .. } => {
            "look at the numbers of the account and the job, and at `url`: regions have their own"
        }
        CloudError::InDoubt { .. } => {
            "look at the job's runs, and stop what is there before it is run again"
        }
        _ => "run it again in a while",
    };
    CliError::failed(error.to_string()).hint(hint)
}
