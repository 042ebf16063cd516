//! `unship run`: guards a command.

use crate::acting::{self, Acted};
use crate::cli::{Global, Run};
use crate::context::{Context, Workbench};
use crate::dbt_job::{DbtJob, Left};
use crate::dbt_staged::Staged;
use crate::declared;
use crate::error::{CliError, CliResult, current_dir, exit};
use crate::iceberg_config::Iceberg;
use crate::pipeline::dbt::invocation::Invocation;
use crate::render::text::{self, BAD, BOLD, GOOD, paint};
use crate::render::{findings, json};
use crate::secrets::masked;
use crate::turn::Turn;
use crate::worktree::Worktree;
use crate::{git, job, quarantine};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::path::Path;
use std::time::{Instant, SystemTime};
use unship_core::check::{Finding, gate};
use unship_core::decide::Action;
use unship_core::engine::Build;
use unship_core::ident::ReleaseId;
use unship_core::ledger::BlobRef;
use unship_core::log::Ledger;
use unship_core::operate::{JobResult, OperateError, Ran, RunRequest, count};
use unship_core::release::{Job, JobEnd};

mod aside;

/// What the log calls a job that is dbt.
const DBT: &str = "dbt";

#[derive(Serialize)]
struct Document {
    release: ReleaseId,
    replays: Option<ReleaseId>,
    published: bool,
    exit_code: Option<i32>,
    changed: Vec<String>,
    failures: Vec<String>,
    held: Option<String>,
    findings: Vec<Finding>,
    acted: Option<Acted>,
    overhead_milliseconds: u64,
}

/// A job that is to be guarded.
pub(super) struct Guarded<'a> {
    /// Its command.
    pub command: &'a [String],
    /// Where it is started.
    pub dir: &'a Path,
    /// What is known of it, if it is dbt.
    pub dbt: Option<DbtJob>,
    /// Whether it builds beside production.
    pub aside: bool,
    /// The release whose command this is, where it is run again.
    pub replays: Option<ReleaseId>,
    /// The code that it runs, where that is not what is checked out.
    pub worktree: Option<&'a Worktree>,
}

impl Guarded<'_> {
    /// The name of the program that is started in the end.
    fn program(&self) -> Option<&str> {
        let invocation = self.dbt.as_ref().and_then(|dbt| dbt.invocation.as_ref());
        match invocation {
            Some(invocation) => Some(invocation.program()),
            None => self.command.first().map(String::as_str),
        }
    }

    /// What a path is called for ever: a worktree's are gone with it.
    fn lasting(&self, path: &Path) -> String {
        let lasting = self.worktree.map(|worktree| worktree.in_checkout(path));
        lasting.as_deref().unwrap_or(path).display().to_string()
    }
}

/// Guards a command. A failed job's own exit code is passed on.
pub fn run(global: &Global, args: &Run) -> CliResult {
    let started = Instant::now();
    let dir = current_dir()?;
    let invocation = Invocation::parse(&args.command);
    let dbt = invocation.map(|i| DbtJob::of(i, &dir)).transpose()?;
    let context = context(global, dbt.as_ref())?;
    let job = Guarded {
        command: &args.command,
        dir: &dir,
        aside: if dbt.is_some() {
            !args.in_place
        } else {
            args.aside
        },
        dbt,
        replays: None,
        worktree: None,
    };
    let go = || {
        carry_on(&context)?;
        guard(global, job, &context, started)
    };
    go().map_err(|e| context.told(e))
}

/// Does what an earlier process left undone. A rollback that is due comes before another release is
/// built on what it takes back, and before it is asked whether this code is in quarantine.
fn carry_on(context: &Context) -> CliResult<()> {
    let ledger = match context.read() {
        // Nothing was released yet.
        Err(e) if e.code == exit::NOTHING => return Ok(()),
        ledger => ledger?,
    };
    let checks = declared::checks(context)?;
    if acting::next(&ledger, Timestamp::now())?.is_none() {
        return Ok(());
    }
    drop(ledger);
    let mut bench = context.take(None, "unship run")?;
    let acted = acting::do_due(context, &mut bench, &checks)?;
    bench.terminal.finish();
    if let (Some(acted), false) = (&acted, context.json()) {
        acting::tell(acted);
    }
    bench.done()
}

/// Runs a job under guard, publishes what it built and says so.
pub(super) fn guard(
    global: &Global,
    mut job: Guarded<'_>,
    context: &Context,
    started: Instant,
) -> CliResult {
    let keep = context.config.keep.parse()?;
    let checks = declared::checks(context)?;
    let is_dbt = job.dbt.is_some();
    let retries = |dbt: &DbtJob| dbt.invocation.as_ref().is_some_and(Invocation::is_retry);
    if job.aside && job.dbt.as_ref().is_some_and(retries) {
        return Err(CliError::usage(
            "`dbt retry` builds only what failed last time, and the rest of that build was never \
             published: what it published would be a mixture of both",
        )
        .hint(
            "run the whole build again; where the build that failed worked on production itself, \
             `unship run --in-place -- dbt retry`",
        ));
    }
    if let Some(dbt) = &job.dbt {
        aside::same_warehouse(context, dbt)?;
    } else if let (true, Some(section)) = (job.aside, &context.config.dbt) {
        // A script that starts dbt finds the build through the environment.
        let project = context.root.join(&section.project_dir);
        let project = job
            .worktree
            .map(|worktree| worktree.here(&project))
            .unwrap_or(project);
        job.dbt = Some(DbtJob::of_script(&project, &context.env, job.dir)?);
    }
    for dir in job.dbt.iter().flat_map(DbtJob::written) {
        job.worktree
            .map_or(Ok(()), |worktree| worktree.unlink(&dir))?;
    }
    let path = std::env::var_os("PATH");
    let program = job
        .program()
        .and_then(|name| which::which_in(name, path, job.dir).ok());
    // Others read it in their errors, and the ledger keeps it for ever.
    let shown = masked(job.command);
    let request = RunRequest {
        job: Job {
            command: shown.clone(),
            program: program.as_ref().map(|program| job.lasting(program)),
            directory: job.lasting(job.dir),
            pipeline: is_dbt.then(|| DBT.to_owned()),
        },
        code: git::code(job.dir),
        aside: job.aside,
        replays: job.replays,
        checks: Some(checks),
    };
    let holder = match job.replays {
        Some(release) => format!("unship replay {release}"),
        None => format!("unship run -- {}", shell_words::join(&shown)),
    };
    let mut bench = context.take(program.as_deref(), &holder)?;
    // Whoever names a release to be run again has said so.
    if job.replays.is_none() {
        let pipeline = is_dbt.then_some(DBT);
        quarantine::check(context, &bench, job.dir, pipeline)?;
    }
    let turn = Turn::take(&context.turn())?;
    let staged = match job.aside {
        true => aside::stage(context, &mut bench, &job, program.as_deref())?,
        false => None,
    };
    let launch = Launch {
        context,
        job: &job,
        staged: staged.as_ref(),
        turn: &turn,
    };
    let mut job_took = SignedDuration::ZERO;
    let mut not_started = None;
    let ran = bench.session().run(request, |build, ledger| {
        let (result, took) = launch.go(build, ledger).map_err(|e| {
            let why = OperateError::Job(e.message.clone());
            not_started = Some(e);
            why
        })?;
        job_took = took;
        Ok(result)
    });
    let ran = ran.map_err(|e| match (e, not_started) {
        (OperateError::Job(_), Some(why)) => {
            why.standing("as it was before: the job did not run".to_owned(), None)
        }
        (e @ OperateError::Conflict { .. }, _) if context.has_files().unwrap_or(false) => {
            CliError::from(e).hint("run the job again; with `freeze_writers = true` others wait")
        }
        (e, _) => e.into(),
    })?;
    drop(turn);
    let took = SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    // Of what never became production there is nothing to decide.
    let acted = match ran.published {
        true => acting::on(context, &mut bench, ran.release, &ran.findings),
        false => Ok(None),
    };
    // What the job did and what was found is told, whatever becomes of acting on it.
    let (acted, failed) = match acted {
        Ok(acted) => (acted, None),
        Err(error) => (None, Some(error)),
    };
    let unship_took = took - job_took;
    tell(global, &mut bench, &ran, acted, job.replays, unship_took)?;
    bench.tidy_up(&keep);
    bench.done()?;
    match failed {
        Some(error) => Err(error),
        None => Ok(code(&ran)),
    }
}

/// The project; a dbt project that has none yet is set up on the way.
fn context(global: &Global, dbt: Option<&DbtJob>) -> CliResult<Context> {
    let mut context = match (Context::find(global), dbt) {
        (Ok(context), _) => context,
        (Err(_), Some(dbt)) if global.project.is_none() => super::init::for_dbt(global, dbt)?,
        (Err(error), _) => return Err(error),
    };
    if let Some(env) = meant(global, &context, dbt) {
        context.switch(env)?;
    }
    Ok(context)
}

/// The environment that is named like a dbt job's target, unless another is named.
pub(super) fn meant<'a>(
    global: &Global,
    context: &Context,
    dbt: Option<&'a DbtJob>,
) -> Option<&'a str> {
    let target = dbt?.target();
    (global.env.is_none() && context.config.envs.contains_key(target)).then_some(target)
}

/// A job that is ready to be started.
struct Launch<'a> {
    context: &'a Context,
    job: &'a Guarded<'a>,
    /// What was asked of dbt beforehand, where it builds in staging schemas.
    staged: Option<&'a Staged>,
    turn: &'a Turn,
}

impl Launch<'_> {
    /// Runs it, and keeps what it left.
    fn go(&self, build: &Build, ledger: &mut Ledger) -> CliResult<(JobResult, SignedDuration)> {
        let job = self.job;
        let redirected = match &job.dbt {
            Some(dbt) if job.aside && dbt.target.duckdb.is_some() && !build.files.is_empty() => {
                Some(dbt.redirected(job.command, &build.files)?)
            }
            _ => None,
        };
        let (argv, own) = match (&redirected, self.staged) {
            (Some(redirected), _) => (&*redirected.command, Some(&redirected.env)),
            (None, Some(staged)) => (&*staged.command, Some(&staged.env)),
            (None, None) => (job.command, None),
        };
        let mut env = build.env.clone();
        env.extend(
            own.into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        if current_dir()? != job.dir {
            // As a shell would have told it.
            env.insert("PWD".to_owned(), job.dir.display().to_string());
        }
        // What the job's sessions say of themselves comes beside what they were told before.
        for options in ["PGOPTIONS", "SPARK_SUBMIT_OPTS"] {
            if let (Some(ours), Ok(theirs)) = (env.get_mut(options), std::env::var(options)) {
                ours.insert_str(0, &format!("{theirs} "));
            }
        }
        let since = SystemTime::now();
        let log = self
            .context
            .home()
            .join("logs")
            .join(format!("{}.log", build.release));
        let ended = job::run(argv, job.dir, &env, &log, self.context.json(), self.turn)?;
        let redirect = self.staged.map(|staged| &staged.redirect);
        let left = match &job.dbt {
            Some(dbt) => {
                let member = aside::member(self.context, dbt)?;
                let context = member.as_ref().unwrap_or(self.context);
                let iceberg = context.iceberg_config()?;
                let left = dbt.collect(since, ledger, redirect, iceberg.map(Iceberg::catalog));
                let unguarded = iceberg.and_then(|i| i.unguarded(&left.built, &context.env));
                if let Some(warning) = unguarded {
                    crate::say_aside!("unship: {warning}");
                }
                left
            }
            None => Left::default(),
        };
        let (mut result, took) = result(ended, &log, left, ledger);
        if result.good {
            let declared = &self.context.config.declared;
            result.findings = declared::outside(declared, &self.context.root, &build.env);
        }
        Ok((result, took))
    }
}

fn result(
    ended: job::Ended,
    log: &Path,
    left: Left,
    ledger: &mut Ledger,
) -> (JobResult, SignedDuration) {
    let took = SignedDuration::try_from(ended.took).unwrap_or_default();
    // The job has run. What cannot be kept of it must not make it pass for one that did not.
    let log_blob = (!ended.log.is_empty())
        .then(|| ledger.put_blob(&ended.log, "log").ok().map(BlobRef))
        .flatten();
    // It is in the ledger now.
    let _ = std::fs::remove_file(log);
    let good = ended.exit_code == Some(0);
    let end = JobEnd {
        exit_code: ended.exit_code,
        signal: ended.signal,
        milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        log: log_blob,
        artefacts: left.artefacts,
        packages: left.packages,
        failures: left.failures,
    };
    let result = JobResult {
        end,
        built: left.built,
        good,
        findings: Vec::new(),
    };
    (result, took)
}

fn tell(
    global: &Global,
    bench: &mut Workbench,
    ran: &Ran,
    acted: Option<Acted>,
    replays: Option<ReleaseId>,
    overhead: SignedDuration,
) -> CliResult<()> {
    bench.terminal.finish();
    let end = &ran.result.end;
    if global.json {
        return json(
            "unship.run/1",
            &Document {
                release: ran.release,
                replays,
                published: ran.published,
                exit_code: end.exit_code,
                changed: ran.changes.keys().map(ToString::to_string).collect(),
                failures: end.failures.clone(),
                held: ran.held.clone(),
                findings: gate::failed(&ran.findings).cloned().collect(),
                acted,
                overhead_milliseconds: u64::try_from(overhead.as_millis()).unwrap_or(0),
            },
        );
    }
    let release = paint(BOLD, ran.release);
    let changed = count(ran.changes.len(), "relation");
    let extra = text::span(overhead);
    let more = format!("`unship show {}` shows all of it", ran.release);
    match (ran.published, ran.result.good) {
        (true, true) if ran.held.is_some() => {
            crate::say!(
                "{} checks failed, and the job had worked on production itself; {release} is live \
                 and marked bad: {changed} changed",
                paint(BAD, "bad:")
            );
            findings::brief(&ran.findings, &more);
            let returned = acted.as_ref().and_then(|acted| acted.returned.as_ref());
            if returned.is_none() {
                crate::say!("  `unship rollback` goes back to what was before");
            }
        }
        (false, true) => {
            let live = bench.session().live().map_err(CliError::from)?.release;
            crate::say!(
                "{} checks failed: {release} never became production, which still is {live}",
                paint(BAD, "not published:")
            );
            findings::brief(&ran.findings, &more);
            crate::say!(
                "  what it built is kept: `unship diff {live} {0}`",
                ran.release
            );
        }
        (true, true) => {
            crate::say!(
                "{} {release} is production: {changed} changed (unship took {extra})",
                paint(GOOD, "published:")
            );
            findings::brief(&ran.findings, &more);
        }
        (true, false) => {
            crate::say!(
                "{} the job failed and had worked on production itself; {release} is live and \
                 marked bad: {changed} changed",
                paint(BAD, "bad:")
            );
            crate::say!("  `unship rollback` goes back to what was before");
        }
        (false, _) => {
            let live = bench.session().live().map_err(CliError::from)?.release;
            crate::say!(
                "{} {release} failed and never became production, which still is {live}",
                paint(BAD, "not published:")
            );
            for failure in end.failures.iter().take(10) {
                crate::say!("  - {failure}");
            }
            if !ran.changes.is_empty() {
                crate::say!(
                    "  what it built is kept: `unship show {0}`, `unship diff {live} {0}`",
                    ran.release
                );
            }
        }
    }
    let worth_telling = |acted: &&Acted| acted.decision.action >= Action::Propose;
    if let Some(acted) = acted.as_ref().filter(worth_telling) {
        acting::tell(acted);
    }
    Ok(())
}

fn code(ran: &Ran) -> u8 {
    if ran.held.is_some() {
        return exit::CHECKS;
    }
    let end = &ran.result.end;
    match (end.exit_code, end.signal) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit::FAILED),
        // As shells say it.
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(exit::FAILED),
        (None, None) => exit::FAILED,
    }
}
