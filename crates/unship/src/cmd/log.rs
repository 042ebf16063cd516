//! `unship log`

use crate::cli::{Global, Log};
use crate::context::Context;
use crate::dbt_package::{self, Recorded};
use crate::error::{CliError, CliResult, exit};
use crate::render::{json, release as render};
use serde::Serialize;
use unship_core::execute::{Notice, Watch, chain};
use unship_core::ident::ReleaseId;
use unship_core::release::Release;

#[derive(Serialize)]
struct Document<'a> {
    env: &'a str,
    live: Option<ReleaseId>,
    releases: &'a [Release],
    restorable: &'a [ReleaseId],
    recorded_by_dbt: &'a [Recorded],
}

/// Lists the releases.
pub fn run(global: &Global, args: &Log) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let live = bench
        .ledger
        .history(|h| h.live(&context.env))?
        .map(|l| l.release);
    let releases = bench
        .ledger
        .history(|h| h.releases(&context.env, None, args.limit))?;
    let points = bench.engine.points().map_err(CliError::from)?;
    let mut restorable: Vec<_> = points.iter().map(|p| p.release).collect();
    restorable.dedup();
    // The releases are told, whatever becomes of what others wrote down.
    let recorded = match dbt_package::recorded(&context, &mut *bench.engine, args.limit) {
        Ok(recorded) => recorded,
        Err(error) => {
            let note = format!(
                "what the dbt package recorded cannot be read: {}",
                chain(&error)
            );
            bench.terminal.notice(Notice::Note(&note));
            Vec::new()
        }
    };
    if global.json {
        let document = Document {
            env: &context.env,
            live,
            releases: &releases,
            restorable: &restorable,
            recorded_by_dbt: &recorded,
        };
        json("unship.log/1", &document)?;
    } else {
        render::log(&releases, live, &restorable, &recorded);
    }
    Ok(exit::OK)
}
