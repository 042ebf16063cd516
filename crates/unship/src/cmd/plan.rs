//! `unship plan`

use crate::cli::{Global, Plan, Target};
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::refs;
use crate::render::{json, plan as render};
use crate::scope;
use unship_core::operate::Ask;

/// Shows the exact steps of a rollback and changes nothing.
pub fn run(global: &Global, args: &Plan) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let ask = ask(&bench, &args.target)?;
    let plan = bench.session().plan(&ask)?;
    bench.terminal.finish();
    let id = plan.id()?;
    if let Some(path) = &args.output {
        std::fs::write(path, plan.canonical()?)
            .map_err(|e| CliError::failed(format!("cannot write {}: {e}", path.display())))?;
    }
    if global.json {
        json(
            "unship.plan/1",
            &serde_json::json!({ "id": id, "plan": plan }),
        )?;
    } else {
        render::print(&plan, &id);
        if let Some(path) = &args.output {
            anstream::println!(
                "\nwritten to {0}; `unship apply {0}` carries it out",
                path.display()
            );
        }
    }
    Ok(exit::OK)
}

/// What the arguments of a rollback ask for.
pub fn ask(bench: &Workbench, target: &Target) -> CliResult<Ask> {
    let to = match &target.to {
        Some(text) => Some(refs::release(&bench.ledger, text)?.id),
        None => None,
    };
    let select = if target.select.is_empty() {
        None
    } else {
        Some(scope::relations(
            &bench.ledger,
            to,
            &target.select,
            &target.exclude,
        )?)
    };
    Ok(Ask::Rollback { to, select })
}
