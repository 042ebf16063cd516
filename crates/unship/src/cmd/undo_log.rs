//! `unship undo-log`

use crate::cli::{Global, UndoLog};
use crate::context::Context;
use crate::error::{CliResult, exit};
use crate::render::{json, text};

/// Turns undo logs on and off, and says how far back they reach.
pub fn run(global: &Global, args: &UndoLog) -> CliResult {
    let context = Context::find(global)?;
    let mut engine = context.only_postgres()?;
    match args {
        UndoLog::List => {}
        UndoLog::Sync => {
            let bench = context.take(None, "unship undo-log sync")?;
            for note in engine.sync_undo_log()? {
                note_of(global, &note);
            }
            bench.done()?;
        }
        UndoLog::Off { forget } => {
            let bench = context.take(None, "unship undo-log off")?;
            for table in engine.undo_log_off(*forget)? {
                note_of(global, &format!("{table} has no undo log any more"));
            }
            bench.done()?;
        }
    }
    let logs = engine.undo_logs()?;
    if global.json {
        json("unship.undo_log/1", &serde_json::json!({ "tables": logs }))?;
    } else if logs.is_empty() {
        crate::say!("no table has an undo log");
    } else {
        let mut table = text::table(["table", "since", "rows kept", "size", "can go back"]);
        for log in &logs {
            table.add_row([
                log.table.clone(),
                log.since.clone(),
                log.rows.to_string(),
                text::bytes(log.bytes),
                match &log.hole {
                    None => "yes".to_owned(),
                    Some(why) => format!("no: {why}"),
                },
            ]);
        }
        text::print_table(&table);
    }
    Ok(exit::OK)
}

fn note_of(global: &Global, note: &str) {
    if !global.json {
        crate::say!("{note}");
    }
}
