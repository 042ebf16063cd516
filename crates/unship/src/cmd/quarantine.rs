//! `unship quarantine`

use crate::cli::{Global, Lift, Quarantine};
use crate::context::Context;
use crate::error::{CliResult, exit};
use crate::quarantine::{blamed, named, short};
use crate::render::{json, text};
use jiff::Timestamp;
use unship_core::event::Event;

/// Lists what is held, or lets it go.
pub fn run(global: &Global, args: &Quarantine) -> CliResult {
    let context = Context::find(global)?;
    match args {
        Quarantine::List => list(global, &context),
        Quarantine::Lift(args) => lift(&context, args).map_err(|e| context.told(e)),
    }
}

fn list(global: &Global, context: &Context) -> CliResult {
    let ledger = context.read()?;
    let held = ledger.history(|h| h.quarantine(&context.env))?;
    if global.json {
        let document = serde_json::json!({ "env": context.env, "quarantine": held });
        json("unship.quarantine/1", &document)?;
        return Ok(exit::OK);
    }
    if held.is_empty() {
        crate::say!("nothing is in quarantine in {}", context.env);
        return Ok(exit::OK);
    }
    let now = Timestamp::now();
    let mut table = text::table(["commit", "built", "taken back by", "since", "blamed for"]);
    for one in &held {
        table.add_row([
            short(&one.commit).to_owned(),
            one.release.to_string(),
            one.by.to_string(),
            text::ago(one.since, now),
            blamed(&one.blamed),
        ]);
    }
    text::print_table(&table);
    Ok(exit::OK)
}

fn lift(context: &Context, args: &Lift) -> CliResult {
    let mut ledger = context.read()?;
    let held = ledger.history(|h| h.quarantine(&context.env))?;
    let one = named(held, &args.commit)?;
    ledger.append(&[Event::QuarantineLifted {
        commit: one.commit.clone(),
        reason: args.reason.clone(),
    }])?;
    crate::say!("commit {} may run again", short(&one.commit));
    Ok(exit::OK)
}
