//! `unship resume`

use super::stages;
use crate::cli::{Assume, Global, Resume};
use crate::context::Context;
use crate::declared;
use crate::error::{CliError, CliResult, exit};
use crate::render::json;
use unship_core::execute;
use unship_core::ident::ReleaseId;
use unship_core::operate::{Resumed, count};
use unship_core::release::Operation;

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
        Resumed::InPart {
            release,
            operation,
            left,
            why,
        } => return Err(in_part(release, &operation, left.len(), &why)),
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

/// An operation that others kept from coming to its end.
fn in_part(release: ReleaseId, operation: &Operation, left: usize, why: &str) -> CliError {
    let text = format!(
        "{release} ended between two members: others kept it from going on ({why}), and what had \
         changed before cannot be taken back"
    );
    let next = match operation.target() {
        Some(target) => format!(
            "`unship rollback --to {target}` plans the rest anew, with what others wrote; `unship \
             plan --to {target}` shows it"
        ),
        None => "run the job again; or `unship rollback` goes back to what was before".to_owned(),
    };
    CliError::failed(text)
        .production(format!(
            "{release} is live, in part: {} stayed as {} before, and what reads lags behind",
            count(left, "relation"),
            if left == 1 { "it was" } else { "they were" }
        ))
        .hint(next)
}
