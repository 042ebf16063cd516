//! `unship status`: is production good, since when, which release, is anything running or stuck.
//!
//! It is asked at 3 a.m. and by monitoring, so it reads the ledger's views and the file's identity
//! and nothing else; and where production does not answer, the ledger's views alone.

use super::stages;
use crate::cli::Global;
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::render::text::{self, BAD, BOLD, DIM, GOOD, WARN, paint};
use crate::render::{json, plan as plan_render, release as render};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use unship_core::history::Open;
use unship_core::journal::Status as StepStatus;
use unship_core::ledger::{Backend, LeaseState};
use unship_core::plan::Plan;
use unship_core::release::{Release, Verdict};

#[derive(Serialize)]
struct Status {
    env: String,
    release: Release,
    since: Timestamp,
    good: bool,
    /// Whether production is what it was when unship last looked; not known where it does not answer.
    untouched: Option<bool>,
    /// Why production could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<String>,
    running: Option<Running>,
    interrupted: Option<Interrupted>,
    /// The rollback in stages that has not ended.
    staged: Option<stages::Document>,
    /// How many restore points there are; not known where production does not answer.
    points: Option<usize>,
    /// When the policy takes the release back, unless somebody decides before.
    deadline: Option<Timestamp>,
}

#[derive(Serialize)]
struct Running {
    holder: String,
    since: Timestamp,
}

#[derive(Serialize)]
struct Interrupted {
    release: String,
    steps: Vec<String>,
}

/// Shows it.
pub fn run(global: &Global) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let env = context.env.clone();
    let live = bench.session().live().map_err(CliError::from)?;
    let release = bench
        .ledger
        .history(|h| h.release(live.release))?
        .ok_or_else(|| CliError::failed(format!("{} is not in the ledger", live.release)))?;
    // What the ledger knows is told also where production does not answer: it is asked most then.
    let touched = bench.engine.touched(&live.mark).map_err(CliError::from);
    let now = Timestamp::now();
    let lease = bench.ledger.store().lease(&env)?;
    let running = lease
        .filter(|l| l.state(now) == LeaseState::Held)
        .map(|l| Running {
            holder: l.holder.to_string(),
            since: l.holder.since,
        });
    let open = bench.ledger.history(|h| h.open(&env))?;
    let interrupted = match (&running, open) {
        (None, Some(open)) => Some(interrupted(&mut bench, &open)?),
        _ => None,
    };
    let staging = bench.ledger.history(|h| h.staging(&env))?;
    let staging = staging.filter(|_| running.is_none());
    let staged = match &staging {
        Some(staging) => Some((staging, stages::plan_of(&bench.ledger, &staging.blob)?)),
        None => None,
    };
    let points = bench.engine.points().map_err(CliError::from);
    let points = points.map(|all| {
        let releases: BTreeSet<_> = all.iter().map(|point| point.release).collect();
        releases.len()
    });
    let untouched = touched.as_ref().ok().map(|touched| !touched);
    let known = points.as_ref().ok().copied();
    let unseen = touched.err().or(points.err());
    let good = release.verdict == Verdict::Good;
    let decided = bench.ledger.history(|h| h.decided(release.id))?;
    let deadline = decided.and_then(|d| d.decision.deadline).filter(|_| !good);
    let code = if interrupted.is_some() || staged.is_some() {
        exit::UNFINISHED
    } else {
        unseen.as_ref().map_or(exit::OK, |error| error.code)
    };
    let status = Status {
        env,
        since: live.since,
        good,
        untouched,
        unseen: unseen.map(|error| error.message),
        running,
        interrupted,
        staged: (staged.as_ref()).map(|(s, plan)| stages::Document::of(s, plan, None)),
        points: known,
        deadline,
        release,
    };
    if global.json {
        json("unship.status/1", &status)?;
    } else {
        print(&status, now);
        if let Some((staging, plan)) = &staged {
            let text = format!("{}: {}", plan_render::what(plan), staging.words());
            crate::say!("  {}", paint(BAD, text));
            stages::print(staging, plan);
            crate::say!("  {}", stages::next(staging));
        }
    }
    Ok(code)
}

fn interrupted(bench: &mut Workbench, open: &Open) -> CliResult<Interrupted> {
    let mut steps = Vec::new();
    if let Some((id, blob, seq)) = &open.plan {
        let (plan, journal): (Plan, _) = bench.session().interrupted(id, blob, *seq)?;
        for step in &plan.steps {
            let word = match journal.status(step.id) {
                StepStatus::NotStarted => "not started",
                StepStatus::Started => "in doubt",
                StepStatus::Succeeded => "done",
                StepStatus::Failed => "failed",
                StepStatus::UndoStarted => "being taken back, in doubt",
                StepStatus::Undone => "taken back",
                StepStatus::UndoFailed => "could not be taken back",
            };
            steps.push(format!("{}. {word}: {}", step.id, step.explain));
        }
    }
    Ok(Interrupted {
        release: open.release.to_string(),
        steps,
    })
}

fn print(status: &Status, now: Timestamp) {
    let release = &status.release;
    let word = if status.staged.is_some() {
        paint(WARN, "between two states")
    } else if status.good {
        paint(GOOD, "good")
    } else {
        paint(BAD, "bad")
    };
    crate::say!(
        "{} is {word}: {} is live since {} ({})",
        paint(BOLD, &status.env),
        paint(BOLD, release.id),
        text::moment(status.since),
        text::ago(status.since, now),
    );
    crate::say!("  {}", render::operation(release));
    if let Some(code) = &release.code {
        let dirty = if code.dirty {
            ", with uncommitted changes"
        } else {
            ""
        };
        let short = code.commit.get(..8).unwrap_or(&code.commit);
        crate::say!("  commit {short}{dirty}: {}", code.subject);
    }
    if let Some(reason) = release.reason.as_ref().filter(|_| !status.good) {
        crate::say!("  why bad: {reason}");
    }
    if let Some(deadline) = status.deadline {
        let at = format!("the policy takes it back at {}", text::moment(deadline));
        crate::say!(
            "  {}: `unship rollback` does so now, `unship policy keep` keeps it",
            paint(WARN, at)
        );
    }
    if let Some(unseen) = &status.unseen {
        let text = format!("it could not be looked at: {unseen}");
        crate::say!("  {}", paint(BAD, text));
    }
    if status.untouched == Some(false) {
        crate::say!(
            "  {}",
            paint(
                WARN,
                "somebody wrote to it since; `unship plan` or `unship verify` says what"
            )
        );
    }
    match &status.running {
        Some(running) => crate::say!("  running: {}", running.holder),
        None => crate::say!("  {}", paint(DIM, "nothing is running")),
    }
    if let Some(interrupted) = &status.interrupted {
        crate::say!(
            "  {}",
            paint(
                BAD,
                format!(
                    "{} was interrupted; `unship resume` finishes it",
                    interrupted.release
                )
            )
        );
        for step in &interrupted.steps {
            crate::say!("    {step}");
        }
    }
    if let Some(points) = status.points {
        crate::say!("  {}", paint(DIM, format!("{points} restore points")));
    }
}
