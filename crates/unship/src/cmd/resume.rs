//! `unship resume`

use super::stages;
use crate::cli::{Assume, Global, Resume};
use crate::context::Context;
use crate::declared;
use crate::error::{CliResult, exit};
use crate::render::json;
use unship_core::execute;
use unship_core::operate::Resumed;

/// Finishes what was interrupted.
pub fn run(global: &Global, args: &Resume) -> CliResult {
    let context = Context::find(global)?;
    resume(global, args, &context).map_err(|e| context.told(e))
}

fn resume(global: &Global, args: &Resume, context: &Context) -> CliResult {
    let checks = declared::checks(context)?;
    let mut bench = context.take(None, "unship resume")?;
    let assume = args.assume.map(|assume| match assume {
        Assume::Applied => execute::Assume::Applied,
        Assume::Untouched => execute::Assume::Untouched,
    });
    if bench.session().staging()?.is_some() {
        bench.session().finish_stage(assume)?;
        let code = stages::go_on(context, &mut bench, true)?;
        bench.done()?;
        return Ok(code);
    }
    let resumed = bench.session().resume(assume, Some(&checks))?;
    bench.count();
    bench.done()?;
    let (release, text) = match resumed {
        Resumed::Finished(r) => (r, format!("{r} is finished, and production")),
        Resumed::Dropped(r) => (
            r,
            format!("{r} was dropped: it had not touched production, which is as it was"),
        ),
        Resumed::LeftInPlace {
            release: r,
            bad: Some(reason),
        } => (
            r,
            format!(
                "{r} is what its job left in production, and is marked bad: {reason}; \
                 `unship rollback` goes back to what was before"
            ),
        ),
        Resumed::LeftInPlace {
            release: r,
            bad: None,
        } => (
            r,
            format!("{r} is production: its job had come to a good end, and no check holds it"),
        ),
    };
    if global.json {
        json(
            "unship.resume/1",
            &serde_json::json!({ "release": release, "text": text }),
        )?;
    } else {
        crate::say!("{text}");
    }
    Ok(exit::OK)
}
