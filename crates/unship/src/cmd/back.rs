//! `unship rollback`, `apply`, `undo`, `redo`

use super::plan::ask;
use super::{stages, verify};
use crate::cli::{self, Apply, Global, Restore, Rollback};
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::loader;
use crate::notify::live;
use crate::permit;
use crate::render::text::{self, BOLD, GOOD, paint};
use crate::render::{json, plan as render};
use jiff::SignedDuration;
use std::time::Instant;
use unship_core::execute::{Notice, Watch};
use unship_core::operate::{Ask, Done, count};
use unship_core::others::Others;
use unship_core::plan::Plan;

/// Goes back.
pub fn rollback(global: &Global, args: &Rollback) -> CliResult {
    let context = Context::find(global)?;
    let ask = |bench: &mut Workbench| Ok(Some(ask(&context.config, bench, &args.target)?));
    let how = (&args.restore, args.target.staged);
    planned(global, &context, "unship rollback", ask, how)
}

/// Takes the last operation back.
pub fn undo(global: &Global, args: &Restore) -> CliResult {
    let context = Context::find(global)?;
    let ask = |bench: &mut Workbench| {
        // A stage in the middle is brought to its end first: what is back is then taken back.
        bench.session().finish_stage(None)?;
        if bench.session().give_up_stages()? {
            crate::say_aside!(
                "the rollback in stages is given up: nothing of it had gone back, and production is \
                 as it was"
            );
            return Ok(None);
        }
        Ok(Some(Ask::Undo))
    };
    planned(global, &context, "unship undo", ask, (args, false))
}

/// Goes forward again.
pub fn redo(global: &Global, args: &Restore) -> CliResult {
    let context = Context::find(global)?;
    let ask = |_: &mut Workbench| Ok(Some(Ask::Redo));
    planned(global, &context, "unship redo", ask, (args, false))
}

/// Carries out a plan that was made before.
pub fn apply(global: &Global, args: &Apply) -> CliResult {
    let context = Context::find(global)?;
    let plan = super::plan::given(&context, &args.plan)?;
    permit::wait(&context, &args.restore)?;
    let bench = context.take(None, "unship apply")?;
    restore(global, &context, plan, bench, &args.restore).map_err(|e| context.told(e))
}

/// How often it is planned anew because somebody else was faster, where nobody can be kept out.
const AGAIN: u32 = 4;

/// Plans what is asked for, at once or in stages, with the writers frozen, and carries it out at once.
/// Where others were faster, it is planned anew: what they did is then part of what is decided on, by
/// what the person said of it.
fn planned(
    global: &Global,
    context: &Context,
    command: &str,
    ask: impl Fn(&mut Workbench) -> CliResult<Option<Ask>>,
    (args, staged): (&Restore, bool),
) -> CliResult {
    let go = || {
        permit::wait(context, args)?;
        let mut bench = context.take(None, command)?;
        let Some(ask) = ask(&mut bench)? else {
            bench.done()?;
            return Ok(exit::OK);
        };
        bench.session().engine.freeze().map_err(CliError::from)?;
        let mut plan = match staged {
            true => {
                let ties = stages::ties(&context.config, &mut bench, &ask)?;
                let mut session = bench.session();
                session.plan_in_stages(&ask, others(args), &ties)?
            }
            false => bench.session().plan_with(&ask, others(args))?,
        };
        let said = plan.notes.len();
        loader::tell(&context.config, &bench.ledger, &mut plan)?;
        // What the next load will do is to be known also by whoever asked for no plan.
        for note in plan.notes.iter().skip(said) {
            bench.terminal.notice(Notice::Note(note));
        }
        restore(global, context, plan, bench, args)
    };
    let mut again = 0;
    loop {
        match go() {
            Err(error) if error.conflict && again < AGAIN => {
                again += 1;
                crate::say_aside!(
                    "somebody else was faster ({}): planning anew",
                    error.message
                );
            }
            done => return done.map_err(|e| context.told(e)),
        }
    }
}

/// What a person said of what others wrote.
fn others(args: &Restore) -> Others {
    match args.others {
        Some(cli::Others::Keep) => Others::Keep,
        Some(cli::Others::SetAside) => Others::SetAside,
        Some(cli::Others::Drop) => Others::Drop,
        None => Others::Ask,
    }
}

fn restore(
    global: &Global,
    context: &Context,
    plan: Plan,
    mut bench: Workbench,
    args: &Restore,
) -> CliResult {
    let passed = permit::permit(context, &mut bench, &plan, args)?;
    let telling = live::begin(context, &mut bench, &plan);
    let carried = carry_out(global, context, plan, &mut bench, args, &passed);
    if let Some(telling) = telling {
        telling.end(&mut bench.ledger);
    }
    let code = carried?;
    bench.done()?;
    Ok(code)
}

/// Carries a plan out, proves what it brought back, and says so.
fn carry_out(
    global: &Global,
    context: &Context,
    plan: Plan,
    bench: &mut Workbench,
    args: &Restore,
    passed: &[String],
) -> CliResult {
    if !plan.stages.is_empty() {
        return stages::carry_out(context, bench, &plan, others(args), !args.no_verify);
    }
    let keep = context.config.keep.parse()?;
    let said = others(args);
    let goes_on = matches!(said, Others::SetAside | Others::Drop);
    let started = Instant::now();
    let Done { release, plan } = bench.session().apply(plan, goes_on)?;
    let took = SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    bench.terminal.finish();
    if !global.json {
        crate::say!(
            "{} {} is production in {} ({})",
            paint(GOOD, "done:"),
            paint(BOLD, release),
            text::span(took),
            render::what(&plan),
        );
        crate::say!("  {}", plan.method);
        crate::say!(
            "  {} changed, {} stay as they are; what was live before is kept as {}",
            count(plan.impact.changes.len(), "relation"),
            plan.impact.untouched,
            plan.from
        );
        for (name, rows) in &plan.impact.rows {
            crate::say!(
                "  {name}: {} out and kept, {} of {} in",
                count(usize::try_from(rows.out).unwrap_or(usize::MAX), "row"),
                count(usize::try_from(rows.back).unwrap_or(usize::MAX), "row"),
                rows.from,
            );
        }
        for (name, what) in &plan.impact.replayed {
            crate::say!("  {name}: {what}");
        }
        if said != Others::Drop {
            for (name, what) in &plan.impact.set_aside {
                crate::say!("  {name}, set aside in {}: {what}", plan.from);
            }
        }
        for (name, what) in &plan.impact.stay {
            crate::say!("  {name} stays: {what}, and no older copy is kept");
        }
    }
    let proof = if args.no_verify {
        None
    } else {
        let proof = verify::prove(bench, release);
        Some(proof.map_err(|e| {
            e.production(format!(
                "{release}: it was restored, and only the proof is missing"
            ))
        })?)
    };
    bench.tidy_up(&keep);
    if global.json {
        let document = serde_json::json!({
            "release": release,
            "from": plan.from,
            "plan": plan.id()?,
            "method": plan.method,
            "changed": plan.impact.changes.len(),
            "untouched": plan.impact.untouched,
            "milliseconds": took.as_millis() as u64,
            "others": { "kept": plan.impact.replayed, "set_aside": plan.impact.set_aside },
            "glass_broken": passed,
            "proved": proof.as_ref().map(|p| p.differences.is_empty()),
        });
        json("unship.restore/1", &document)?;
    }
    match proof {
        Some(proof) => verify::report(&proof, global.json).map_err(|e| {
            e.production(format!(
                "{release}: it was restored, and does not hold what was recorded"
            ))
            .hint("`unship undo` takes it back; `unship diff` shows what differs")
        }),
        None => Ok(exit::OK),
    }
}
