//! `unship fsck`

use crate::cli::Global;
use crate::context::Context;
use crate::error::{CliError, CliResult, exit};
use crate::render::json;
use serde::Serialize;
use unship_core::engine::{Diagnosis, Level};
use unship_core::execute::{Notice, Watch};

#[derive(Serialize)]
struct Document<'a> {
    env: &'a str,
    diagnoses: &'a [Diagnosis],
}

/// Checks what is retained, and the ledger's views against its log.
pub fn run(global: &Global) -> CliResult {
    let context = Context::find(global)?;
    check(global, &context).map_err(|e| context.told(e))
}

fn check(global: &Global, context: &Context) -> CliResult {
    let mut bench = context.look()?;
    let terminal = &bench.terminal;
    terminal.notice(Notice::Phase("checking"));
    let mut diagnoses = bench
        .engine
        .fsck(&|what, done, total| terminal.notice(Notice::Progress(what, done, total)))
        .map_err(CliError::from)?;
    let ledger = "the ledger's views";
    let differences = bench.ledger.store().check_views()?;
    if differences.is_empty() {
        diagnoses.push(say(Level::Ok, ledger, "are what the log says"));
    } else {
        bench.ledger.store().rebuild_views()?;
        diagnoses.push(say(
            Level::Warning,
            ledger,
            "were not what the log says, and were rebuilt",
        ));
    }
    bench.terminal.finish();
    if global.json {
        json(
            "unship.fsck/1",
            &Document {
                env: &context.env,
                diagnoses: &diagnoses,
            },
        )?;
    } else {
        super::doctor::print(&diagnoses);
    }
    let damaged = diagnoses.iter().any(|d| d.level == Level::Error);
    Ok(if damaged { exit::NOT_PROVED } else { exit::OK })
}

fn say(level: Level, subject: &str, finding: &str) -> Diagnosis {
    Diagnosis {
        level,
        subject: subject.to_owned(),
        finding: finding.to_owned(),
        hint: None,
    }
}
