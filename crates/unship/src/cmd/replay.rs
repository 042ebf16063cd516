//! `unship replay`: the command of an older release, run again under guard.

use super::run::{Guarded, guard, meant};
use crate::cli::{Global, Replay};
use crate::context::Context;
use crate::dbt_job::{DbtJob, canonical};
use crate::error::{CliError, CliResult, current_dir, exit};
use crate::pipeline::dbt::invocation::Invocation;
use crate::render::{Terminal, release as render};
use crate::secrets::lacks_secrets;
use crate::worktree::{Worktree, below};
use crate::{git, refs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use unship_core::execute::{Notice, Watch};
use unship_core::release::{Code, Job, Operation, Release};

/// What helps wherever the code of then is not to be had.
const FIXED: &str = "`--fixed-code` runs the command with the code that is checked out now";

/// Runs the command of a release again. A failed job's own exit code is passed on.
pub fn run(global: &Global, args: &Replay) -> CliResult {
    let started = Instant::now();
    let context = Context::find(global)?;
    replay(global, args, &context, started).map_err(|e| context.told(e))
}

fn replay(global: &Global, args: &Replay, context: &Context, started: Instant) -> CliResult {
    let terminal = Terminal::new(global.json);
    let note = |text: &str| terminal.notice(Notice::Note(text));
    let release = refs::release(&context.read()?, &args.release)?;
    let (id, (job, aside)) = (release.id, recorded(&release)?);
    let (dir, worktree) = if args.fixed_code {
        (now(context, &release, job)?, None)
    } else {
        let (worktree, dir) = then(context, &release, job, aside)?;
        (dir, Some(worktree))
    };
    let invocation = Invocation::parse(&job.command);
    let dbt = invocation.map(|i| DbtJob::of(i, &dir)).transpose()?;
    if let Some(env) = meant(global, context, dbt.as_ref())
        && env != context.env
    {
        return Err(refused(format!(
            "the command of {id} builds for the target `{env}` now, and {id} is a release of `{}`",
            context.env
        ))
        .hint("the target may have come from a variable (DBT_TARGET) that was set then: set it"));
    }
    if let (Some(worktree), Some(dbt)) = (&worktree, &dbt)
        && !canonical(dbt.project_dir()).starts_with(worktree.root())
    {
        return Err(elsewhere(
            &release,
            &dbt.project_dir().display().to_string(),
        ));
    }
    if let Some(dbt) = &dbt {
        let project = dbt.project_dir();
        let project = worktree
            .as_ref()
            .map_or(project.to_owned(), |w| w.in_checkout(project));
        if let Some(other) = other_versions(&release, &dbt.versions(&project)) {
            match args.fixed_code {
                true => note(&other),
                false => {
                    return Err(refused(other).hint(format!(
                        "put those first on the PATH, and `dbt deps` in the checkout for packages; or {FIXED}"
                    )));
                }
            }
        }
    }
    if stands(context, &release)? {
        note(&format!(
            "{id} was not rolled back: its command goes on from what it built"
        ));
    }
    let commit = git::code(&dir).map(|code| {
        let changed = if code.dirty { " with changes" } else { "" };
        format!(" at {}{changed}", short(&code.commit))
    });
    note(&format!(
        "replay of {id} in {}{}: {}",
        worktree
            .as_ref()
            .map_or(dir.clone(), |w| w.in_checkout(&dir))
            .display(),
        commit.unwrap_or_default(),
        shell_words::join(&job.command)
    ));
    let job = Guarded {
        command: &job.command,
        dir: &dir,
        dbt,
        aside,
        replays: Some(id),
        worktree: worktree.as_ref(),
    };
    guard(global, job, context, started)
}

/// Whether production is what a release made of it. Its command then goes on from there, which is
/// no error: somebody may want that.
fn stands(context: &Context, release: &Release) -> CliResult<bool> {
    let ledger = context.read()?;
    let live = ledger.history(|h| h.live(ledger.env()))?;
    let live = live.map(|live| ledger.history(|h| h.release(live.release)));
    let live = live.transpose()?.flatten();
    Ok(live.is_some_and(|live| live.origin == release.id))
}

/// The job of a release, if it can be run again, and whether it built beside production.
fn recorded(release: &Release) -> CliResult<(&Job, bool)> {
    let id = release.id;
    let (Operation::Run { aside, .. }, Some(job)) = (&release.operation, &release.job) else {
        let ran = render::operation(release);
        let error = CliError::usage(format!(
            "{id} ran no command that could be run again: {ran}"
        ));
        return Err(match release.operation.target() {
            Some(target) => error.hint(format!(
                "`unship replay {target}` runs that of {target}, if it ran one"
            )),
            None => error.hint("`unship log` shows which releases ran one"),
        });
    };
    let command = shell_words::join(&job.command);
    if lacks_secrets(&job.command) {
        return Err(refused(format!(
            "the command of {id} was kept without its secrets: {command}"
        ))
        .hint("guard it anew with `unship run -- …`; secrets in the environment or in a file can be replayed"));
    }
    if Invocation::parse(&job.command).is_some_and(|i| i.is_retry()) {
        return Err(refused(format!(
            "{id} went on with a build that had failed (`{command}`), and what was left to do then \
             is not recorded"
        ))
        .hint("replay the release whose build had failed"));
    }
    Ok((job, *aside))
}

/// Where the command is run with the code that is checked out now.
fn now(context: &Context, release: &Release, job: &Job) -> CliResult<PathBuf> {
    let there = PathBuf::from(&job.directory);
    let dir = match &release.code {
        None => there,
        Some(code) => match (checkout(context, job, code)?, git::root(&current_dir()?)) {
            (Some(root), _) => below(&root, &inside(job, code)),
            // A clone without its history does not know the commit.
            (None, Some(root)) if !there.is_dir() => below(&root, &inside(job, code)),
            (None, _) => there,
        },
    };
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(refused(format!(
        "{} ran in {}, which is not there",
        release.id,
        dir.display()
    ))
    .hint("go where its command is to be run, and `unship run -- …`"))
}

/// The code of the commit that the release recorded, and where in it the command is run.
fn then(
    context: &Context,
    release: &Release,
    job: &Job,
    aside: bool,
) -> CliResult<(Worktree, PathBuf)> {
    let id = release.id;
    let code = release.code.as_ref().ok_or_else(|| {
        refused(format!(
            "no commit is recorded for {id}: it did not run in a git repository"
        ))
        .hint(FIXED)
    })?;
    let commit = &code.commit;
    if code.dirty {
        return Err(refused(format!(
            "{id} ran code that was never committed: {} with changes",
            short(commit)
        ))
        .hint(FIXED));
    }
    if !aside && context.has_files()? {
        return Err(refused(format!(
            "the job of {id} worked on production itself, and from a copy of the code it might open \
             another file"
        ))
        .hint(format!("`git checkout {}`, and `--fixed-code`", short(commit))));
    }
    let checkout = checkout(context, job, code)?.ok_or_else(|| {
        refused(format!(
            "the commit {commit}, which {id} ran, is in no repository here"
        ))
        .hint(format!("`git fetch` it, or {FIXED}"))
    })?;
    let worktree = Worktree::of(&checkout, commit)?;
    let inside = inside(job, code);
    // The checkout that it ran in need not be the one that was found.
    let depth = inside.components().count();
    let then = Path::new(&job.directory).ancestors().nth(depth);
    let names_code = |word: &str| {
        let word = word.trim_matches(|c: char| ";&|()".contains(c));
        let value = word.split_once('=').map_or(word, |(_, value)| value);
        let path = Path::new(value);
        let moved = then.and_then(|root| path.strip_prefix(root).ok());
        let path = moved.map_or_else(|| path.to_owned(), |rest| checkout.join(rest));
        path.is_absolute() && worktree.tracks(&path)
    };
    for word in &job.command {
        let words = shell_words::split(word).unwrap_or_default();
        if let Some(word) = words.iter().find(|word| names_code(word)) {
            return Err(elsewhere(release, word));
        }
    }
    let dir = below(worktree.root(), &inside);
    match dir.is_dir() {
        true => Ok((worktree, dir)),
        false => Err(refused(format!(
            "{id} ran in `{}`, which is not in the commit {commit}",
            inside.display()
        ))
        .hint(FIXED)),
    }
}

/// The checkout of the repository that has a release's commit: the one that the person stands in,
/// else the project's, else the one that it ran in.
fn checkout(context: &Context, job: &Job, code: &Code) -> CliResult<Option<PathBuf>> {
    let there = PathBuf::from(&job.directory);
    let places = [current_dir()?, context.root.clone(), there];
    let place = places.iter().find(|dir| git::has(dir, &code.commit));
    Ok(place.and_then(|dir| git::root(dir)))
}

/// Where in the repository the job ran.
fn inside(job: &Job, code: &Code) -> PathBuf {
    let known = code.directory.clone();
    let known = known.or_else(|| git::inside(Path::new(&job.directory)));
    PathBuf::from(known.unwrap_or_default())
}

/// The versions that are not what a release recorded, in words. What cannot be told from here is
/// left out: dbt and its adapter where they are not found, and what older releases did not record.
fn other_versions(release: &Release, now: &BTreeMap<String, String>) -> Option<String> {
    // A job that was interrupted recorded none.
    let then = &release.end.as_ref()?.packages;
    let program = |name: &str| !name.contains('/') && (name == "duckdb" || name.starts_with("dbt"));
    let mut names: Vec<_> = then.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let word = |version: Option<&String>| match version.map(String::as_str) {
        None | Some("") => "none".to_owned(),
        Some(version) => version.to_owned(),
    };
    let differ: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            let (was, is) = (then.get(name), now.get(name));
            let known = was.is_some() && is.is_some();
            let differs = was != is && (known || !program(name));
            differs.then(|| format!("{name} {} (now {})", word(was), word(is)))
        })
        .collect();
    let differ = (!differ.is_empty()).then(|| differ.join(", "))?;
    Some(format!(
        "{} ran with other versions than are installed here: {differ}",
        release.id
    ))
}

fn elsewhere(release: &Release, path: &str) -> CliError {
    refused(format!(
        "the command of {} finds its code at {path}, whatever else is checked out where",
        release.id
    ))
    .hint("`--fixed-code` runs what is there now; check the commit out there first for the code of then")
}

fn refused(message: String) -> CliError {
    CliError::new(exit::REFUSED, message)
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}
