//! `unship policy explain` and `unship policy test`

mod cases;

use crate::cli::{Explain, Global, KeepRelease, Policy, PolicyTest};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit, io_error};
use crate::refs;
use crate::render::text::{BAD, GOOD, paint};
use crate::render::{decision as render, json};
use crate::{acting, deciding, declared};
use cases::{Case, Checked};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use unship_core::decide::decide;
use unship_core::event::Event;
use unship_core::operate::count;
use unship_core::release::{Stage, Verdict};

/// Where a project has its cases.
const CASES: &str = "policy-tests";

/// Explains a decision, or tries the policy out.
pub fn run(global: &Global, args: &Policy) -> CliResult {
    match args {
        Policy::Explain(args) => explain(global, args),
        Policy::Test(args) => test(global, args),
        Policy::Act => act(global),
        Policy::Keep(args) => keep(global, args),
    }
}

fn act(global: &Global) -> CliResult {
    let context = Context::find(global)?;
    let acted = match is_due(&context)? {
        false => None,
        true => {
            let checks = declared::checks(&context)?;
            let mut bench = context.take(None, "unship policy act")?;
            let acted = acting::do_due(&context, &mut bench, &checks);
            let acted = acted.map_err(|e| context.told(e))?;
            bench.terminal.finish();
            bench.done()?;
            acted
        }
    };
    if global.json {
        json("unship.act/1", &serde_json::json!({ "acted": acted }))?;
    } else {
        match &acted {
            Some(acted) => acting::tell(acted),
            None => crate::say!("nothing is due"),
        }
    }
    Ok(exit::OK)
}

/// Whether anything is due, by the ledger alone: most of the time cron asks in vain, and then nobody
/// who is at work is asked to make room.
fn is_due(context: &Context) -> CliResult<bool> {
    match context.read() {
        Ok(ledger) => Ok(acting::next(&ledger, Timestamp::now())?.is_some()),
        Err(e) if e.code == exit::NOTHING => Ok(false),
        Err(e) => Err(e),
    }
}

fn keep(global: &Global, args: &KeepRelease) -> CliResult {
    let context = Context::find(global)?;
    let head = refs::release(&context.read()?, &args.release)?;
    if head.stage != Stage::Published {
        let text = format!(
            "{} never became production, so no rule takes it back",
            head.id
        );
        return Err(CliError::usage(text).hint("run its job again to publish what it builds"));
    }
    let release = head.id;
    let mut bench = context.take(None, "unship policy keep")?;
    bench.ledger.append(&[Event::ReleaseMarked {
        release,
        verdict: Verdict::Good,
        reason: format!("kept: {}", args.reason),
    }])?;
    bench.terminal.finish();
    if global.json {
        json("unship.keep/1", &serde_json::json!({ "release": release }))?;
    } else {
        crate::say!("{release} is good again, and no rule takes it back");
    }
    bench.done()?;
    Ok(exit::OK)
}

fn explain(global: &Global, args: &Explain) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let release = refs::release(&bench.ledger, &args.release)?;
    let id = release.id;
    let Some(findings) = deciding::findings_of(&bench.ledger, id)? else {
        return Err(
            CliError::new(exit::NOTHING, format!("no check has looked at {id}"))
                .hint("`unship check` does"),
        );
    };
    let facts = deciding::facts(&context, &mut bench, &release, &findings)?;
    let decision = decide(&context.config.policy, &facts).map_err(wrong_policy)?;
    let then = bench.ledger.history(|h| h.decided(id))?;
    bench.terminal.finish();
    if global.json {
        let document = serde_json::json!({
            "release": id, "decision": decision, "facts": facts, "recorded": then,
        });
        json("unship.decision/1", &document)?;
    } else {
        render::print(id, &facts, &decision, then.as_ref());
    }
    Ok(exit::OK)
}

/// A policy that the configuration's reader let pass and that cannot be used.
pub fn wrong_policy(error: impl std::error::Error) -> CliError {
    CliError::usage(format!("policy: {error}"))
}

fn test(global: &Global, args: &PolicyTest) -> CliResult {
    let context = Context::find(global)?;
    let files = match args.files.is_empty() {
        true => found(&context.root.join(CASES))?,
        false => args.files.clone(),
    };
    let mut results = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).map_err(io_error("read", file))?;
        let cases =
            cases::parse(&text).map_err(|e| CliError::usage(format!("{}: {e}", file.display())))?;
        for case in cases {
            let checked = case.check(&context.config.policy);
            results.push((file, case, checked.map_err(wrong_policy)?));
        }
    }
    if results.is_empty() {
        return Err(
            CliError::new(exit::NOTHING, "there are no cases to run").hint(format!(
                "write some into {CASES}/*.toml; the book shows how"
            )),
        );
    }
    let bad = results.iter().filter(|(.., c)| !c.wrong.is_empty()).count();
    if global.json {
        let cases: Vec<_> = results.iter().map(one).collect();
        let document = serde_json::json!({ "cases": cases, "failed": bad });
        json("unship.policy-test/1", &document)?;
    } else {
        for (_, case, checked) in &results {
            tell(case, checked);
        }
        let all = count(results.len(), "case");
        crate::say!("{all}, {bad} not as expected");
    }
    Ok(match bad {
        0 => exit::OK,
        _ => exit::FAILED,
    })
}

fn one((file, case, checked): &(&PathBuf, Case, Checked)) -> serde_json::Value {
    serde_json::json!({
        "file": file.display().to_string(), "name": case.name,
        "wrong": checked.wrong, "decision": checked.decision,
    })
}

fn tell(case: &Case, checked: &Checked) {
    let word = match checked.wrong.is_empty() {
        true => paint(GOOD, "as expected:"),
        false => paint(BAD, "not as expected:"),
    };
    crate::say!("{word} {}", case.name);
    for line in &checked.wrong {
        crate::say!("  {line}");
    }
    if !checked.wrong.is_empty() {
        for line in &checked.decision.because {
            crate::say!("  because {line}");
        }
    }
}

fn found(dir: &Path) -> CliResult<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("read", dir)(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("read", dir))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
