//! `unship audit`: proof that the log is what was written.

use crate::cli::{Audit, Global};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit};
use crate::render::json;
use jiff::Timestamp;
use unship_core::ledger::verify::Blobs;
use unship_core::ledger::{Backend, Head, HeadStatement, verify_chain};

/// Verifies the log, or prints its head.
pub fn run(global: &Global, args: &Audit) -> CliResult {
    let context = Context::find(global)?;
    audit(global, args, &context).map_err(|e| context.told(e))
}

fn audit(global: &Global, args: &Audit, context: &Context) -> CliResult {
    let mut ledger = context.read()?;
    match args {
        Audit::Verify => {
            let report = verify_chain(ledger.store(), &Head::genesis(), None, Blobs::Check)?;
            let bad: Vec<String> = report
                .broken
                .iter()
                .map(ToString::to_string)
                .chain(
                    report
                        .bad_blobs
                        .iter()
                        .map(|b| format!("entry {}: {}", b.seq, b.what)),
                )
                .collect();
            if global.json {
                let document = serde_json::json!({
                    "entries": report.entries, "blobs": report.blobs, "problems": bad,
                    "head": report.good.hash.to_string(),
                });
                json("unship.audit/1", &document)?;
            } else if bad.is_empty() {
                crate::say!(
                    "{} entries and {} blobs are what was written; the head is {}",
                    report.entries,
                    report.blobs,
                    report.good.hash
                );
            }
            if bad.is_empty() {
                return Ok(exit::OK);
            }
            Err(CliError::new(
                exit::NOT_PROVED,
                format!("the log was changed: {}", bad.join("; ")),
            )
            .hint("keep the file as it is, and compare it with a backup"))
        }
        Audit::Head => {
            let head = ledger.store().head()?;
            let name = context
                .root
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let statement = HeadStatement::new(name, head, Timestamp::now())?;
            crate::say!("{}", statement.to_string().trim_end());
            Ok(exit::OK)
        }
    }
}
