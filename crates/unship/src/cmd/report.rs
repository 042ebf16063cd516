//! `unship report`

use crate::cli::{Global, Report};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit, io_error};
use crate::refs;
use crate::render::json;
use crate::report;
use std::io::Write;
use unship_core::incident::Incident;
use unship_core::log::Ledger;

/// Writes the report of an incident.
pub fn run(global: &Global, args: &Report) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let incident = about(&bench.ledger, args.about.as_deref())?;
    let id = incident.id;
    let gathered = report::gather(&context, &mut bench, incident, args.examples)?;
    bench.terminal.finish();
    let report = gathered.ok_or_else(|| {
        CliError::new(
            exit::NOT_PROVED,
            format!("the release of {id} is not in the ledger"),
        )
        .hint("`unship fsck` checks the ledger and rebuilds its views")
    })?;
    if global.json && args.output.is_none() {
        json("unship.report/1", &report)?;
        return Ok(exit::OK);
    }
    // A file's name says what is wanted, unless an option does.
    let named = args.output.as_ref().and_then(|path| path.extension());
    let page = args.html || named.is_some_and(|e| e == "html" || e == "htm");
    let text = match page {
        true => report::html(&report)?,
        false => report::markdown(&report)?,
    };
    match &args.output {
        Some(path) => {
            std::fs::write(path, text).map_err(io_error("write", path))?;
            if !global.json {
                crate::say!("the report of {id} is in {}", path.display());
            }
        }
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(crate::error::system_error("write to standard output"))?,
    }
    Ok(exit::OK)
}

fn about(ledger: &Ledger, text: Option<&str>) -> CliResult<Incident> {
    if let Some(text) = text {
        return refs::incident(ledger, Some(text));
    }
    let newest = ledger.history(|h| h.incidents(ledger.env(), 1))?;
    newest.into_iter().next().ok_or_else(|| {
        CliError::new(
            exit::NOTHING,
            format!("there was no incident in `{}` yet", ledger.env()),
        )
    })
}
