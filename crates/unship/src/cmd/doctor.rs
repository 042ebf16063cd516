//! `unship doctor`

use crate::cli::Global;
use crate::context::Context;
use crate::error::{CliResult, exit};
use crate::render::json;
use crate::render::text::{self, BAD, GOOD, WARN, paint};
use serde::Serialize;
use unship_core::engine::{Capabilities, Diagnosis, Level};

#[derive(Serialize)]
struct Document<'a> {
    env: &'a str,
    diagnoses: &'a [Diagnosis],
    capabilities: &'a Capabilities,
}

/// Looks at everything unship depends on.
pub fn run(global: &Global) -> CliResult {
    let context = Context::find(global)?;
    let program = context.last_program().unwrap_or_else(|| "dbt".into());
    let mut engine = context.engine(Some(&program))?;
    let diagnoses = engine.doctor();
    let capabilities = engine.capabilities();
    if global.json {
        let document = Document {
            env: &context.env,
            diagnoses: &diagnoses,
            capabilities: &capabilities,
        };
        json("unship.doctor/1", &document)?;
    } else {
        print(&diagnoses);
        crate::say!("\nNot protected here:");
        for line in &capabilities.not_protected {
            crate::say!("  - {line}");
        }
        if let Err(why) = &capabilities.relations {
            crate::say!("  - single relations, only whole files: {why}");
        }
    }
    let failed = diagnoses.iter().any(|d| d.level == Level::Error);
    Ok(if failed { exit::FAILED } else { exit::OK })
}

/// Prints diagnoses, one a line, with what to do under it.
pub fn print(diagnoses: &[Diagnosis]) {
    for d in diagnoses {
        let mark = match d.level {
            Level::Ok => paint(GOOD, "ok  "),
            Level::Note => "note".to_owned(),
            Level::Warning => paint(WARN, "warn"),
            Level::Error => paint(BAD, "FAIL"),
        };
        crate::say!("{mark}  {}: {}", d.subject, d.finding);
        if let Some(hint) = &d.hint {
            crate::say!("      {}", paint(text::DIM, hint));
        }
    }
}
