//! `unship gc`

use crate::cli::Global;
use crate::context::Context;
use crate::error::{CliResult, exit};
use crate::render::{json, text};
use unship_core::operate::count;

/// Packs older restore points and drops those that nothing keeps.
pub fn run(global: &Global) -> CliResult {
    let context = Context::find(global)?;
    collect(global, &context).map_err(|e| context.told(e))
}

fn collect(global: &Global, context: &Context) -> CliResult {
    let keep = context.config.keep.parse()?;
    let mut bench = context.take(None, "unship gc")?;
    let done = bench.session().housekeep(&keep)?;
    bench.done()?;
    if global.json {
        json("unship.gc/1", &done)?;
    } else {
        crate::say!(
            "{} packed, {} dropped, {} freed",
            count(done.packed.len(), "restore point"),
            done.dropped.len(),
            text::bytes(done.freed)
        );
    }
    Ok(exit::OK)
}
