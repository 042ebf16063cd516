//! `unship check`

use crate::cli::{Check, Global};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit};
use crate::render::text::{BAD, BOLD, GOOD, paint};
use crate::render::{findings as render, json};
use crate::{declared, refs, scope};
use serde::Serialize;
use std::collections::BTreeMap;
use unship_core::check::{Finding, Ruling, Tally, gate};
use unship_core::ident::ReleaseId;

#[derive(Serialize)]
struct Document<'a> {
    release: ReleaseId,
    good: bool,
    tally: Tally,
    findings: &'a [Finding],
}

/// Looks again at what a release holds.
pub fn run(global: &Global, args: &Check) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let release = refs::release(&bench.ledger, &args.release)?.id;
    let only = match args.select.is_empty() {
        true => None,
        false => Some(scope::relations(&bench.ledger, release, &args.select, &[])?.1),
    };
    let config = &context.config;
    let checks = declared::checks(&context)?;
    let live = bench.ledger.history(|h| h.live(&context.env))?;
    // A program looks at what is live; of what is retained it knows nothing.
    let is_live = live.is_some_and(|live| live.release == release);
    let more = match is_live && only.is_none() {
        true => declared::outside(&config.declared, &context.root, &BTreeMap::new()),
        false => Vec::new(),
    };
    let findings = bench
        .session()
        .check(release, only.as_ref(), &checks, &more)
        .map_err(CliError::from)?;
    bench.terminal.finish();
    let ruling = gate::rule(&findings, checks.hold);
    let good = ruling == Ruling::Publish;
    if global.json {
        json(
            "unship.check/1",
            &Document {
                release,
                good,
                tally: Tally::of(&findings),
                findings: &findings,
            },
        )?;
    } else {
        let word = match good {
            true => paint(GOOD, "nothing that would hold it"),
            false => paint(BAD, "checks failed"),
        };
        crate::say!("{}: {word}", paint(BOLD, release));
        render::full(&findings);
    }
    Ok(if good { exit::OK } else { exit::CHECKS })
}
