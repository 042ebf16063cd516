//! `unship plan`

use crate::cli::{Global, Plan, Target};
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::refs;
use crate::render::{json, plan as render};
use crate::scope;
use serde::Deserialize;
use unship_core::operate::Ask;
use unship_core::plan::PlanId;

/// The shape of a plan's document, on standard output and in a file alike.
const SCHEMA: &str = "unship.plan/1";

/// Reads a plan's document. The id that it was printed and approved under must be the plan's own.
pub fn read(bytes: &[u8]) -> CliResult<unship_core::plan::Plan> {
    #[derive(Deserialize)]
    struct Document {
        schema: String,
        id: PlanId,
        plan: serde_json::Value,
    }
    let hint = "`unship plan --output FILE` writes one";
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|e| CliError::usage(format!("this is not a plan: {e}")).hint(hint))?;
    if document.schema != SCHEMA {
        return Err(CliError::usage(format!(
            "this is a document of the schema {}, and this unship reads {SCHEMA}",
            document.schema
        ))
        .hint(hint));
    }
    let plan = unship_core::plan::Plan::parse(document.plan.to_string().as_bytes())?;
    let id = plan.id()?;
    if id != document.id {
        return Err(CliError::new(
            exit::REFUSED,
            format!(
                "this plan was altered: it was made as {}, and what it says now is {}",
                document.id.short(),
                id.short()
            ),
        )
        .production("nothing was changed")
        .hint("make a new plan with `unship plan`"));
    }
    Ok(plan)
}

/// Shows the exact steps of a rollback and changes nothing.
pub fn run(global: &Global, args: &Plan) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let ask = ask(&mut bench, &args.target)?;
    let plan = bench.session().plan(&ask)?;
    bench.terminal.finish();
    let id = plan.id()?;
    let expected = u64::try_from(plan.expected().as_millis()).unwrap_or(u64::MAX);
    let document = serde_json::json!({
        "schema": SCHEMA, "id": id, "plan": plan, "expected_milliseconds": expected,
    });
    if let Some(path) = &args.output {
        std::fs::write(path, format!("{document:#}\n"))
            .map_err(|e| CliError::failed(format!("cannot write {}: {e}", path.display())))?;
    }
    if global.json {
        json(SCHEMA, &document)?;
    } else {
        render::print(&plan, &id);
        if let Some(path) = &args.output {
            crate::say!(
                "\nwritten to {0}; `unship apply {0}` carries it out",
                path.display()
            );
        }
    }
    Ok(exit::OK)
}

/// What the arguments of a rollback ask for.
pub fn ask(bench: &mut Workbench, target: &Target) -> CliResult<Ask> {
    let to = match &target.to {
        Some(text) => Some(refs::release(&bench.ledger, text)?.id),
        None => None,
    };
    let select = if target.select.is_empty() {
        None
    } else {
        // What is selected is looked for in the lineage of both ends.
        let end = match to {
            Some(to) => to,
            None => {
                let session = bench.session();
                let live = session.live()?.release;
                session.newest_good_before(live)?
            }
        };
        Some(scope::relations(
            &bench.ledger,
            end,
            &target.select,
            &target.exclude,
        )?)
    };
    Ok(Ask::Rollback { to, select })
}
