//! `unship plan`

use super::stages;
use crate::cli::{self, Global, Plan, Target};
use crate::config::Config;
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::loader;
use crate::permit;
use crate::refs;
use crate::render::{json, plan as render};
use crate::scope;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;
use unship_core::operate::Ask;
use unship_core::others::Others;
use unship_core::plan::PlanId;
use unship_core::rows::{Reconciling, Rows};

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

/// The fewest digits that name a plan.
const DIGITS: usize = 6;

/// The plan that somebody means: a file, standard input (`-`), or the first digits of the id of a
/// plan that somebody asked approvals for.
pub fn given(context: &Context, given: &Path) -> CliResult<unship_core::plan::Plan> {
    let name = given.display();
    if given.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let all = std::io::stdin().read_to_end(&mut bytes);
        all.map_err(|e| CliError::failed(format!("cannot read {name}: {e}")))?;
        return read(&bytes);
    }
    let text = name.to_string();
    let digits = text.len() >= DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    if given.exists() || !digits {
        let bytes = std::fs::read(given);
        return read(&bytes.map_err(|e| CliError::failed(format!("cannot read {name}: {e}")))?);
    }
    let ledger = context.read()?;
    let mut found = ledger.history(|h| h.requests_like(&context.env, &text))?;
    match (found.pop(), found.is_empty()) {
        (Some(request), true) => {
            let bytes = ledger.get_blob(&request.blob.0)?;
            Ok(unship_core::plan::Plan::parse(&bytes)?)
        }
        (Some(_), false) => Err(CliError::usage(format!(
            "more than one plan begins with {text}"
        ))),
        (None, _) => Err(CliError::usage(format!(
            "there is no file {text}, and nobody asked approvals for a plan whose id begins so in \
             `{}`",
            context.env
        ))
        .hint("`unship approvals` lists the plans that wait")),
    }
}

/// Shows the exact steps of a rollback and changes nothing.
pub fn run(global: &Global, args: &Plan) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let ask = ask(&context.config, &mut bench, &args.target)?;
    let others = match args.others {
        Some(cli::Others::Keep) => Others::Keep,
        Some(cli::Others::SetAside) => Others::SetAside,
        Some(cli::Others::Drop) => Others::Drop,
        None => Others::Ask,
    };
    let mut plan = match args.target.staged {
        true => {
            let ties = stages::ties(&context.config, &mut bench, &ask)?;
            bench.session().plan_in_stages(&ask, others, &ties)?
        }
        false => bench.session().plan_with(&ask, others)?,
    };
    loader::tell(&context.config, &bench.ledger, &mut plan)?;
    bench.terminal.finish();
    let id = plan.id()?;
    // Whoever writes a plan down that needs approvals asks for them.
    let need = match &args.output {
        Some(_) => permit::needed(&context, &bench.ledger, &plan)?,
        None => None,
    };
    if need.is_some() {
        permit::requested(&context, &mut bench.ledger, &plan)?;
    }
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
        if let Some(need) = &need {
            let id = id.short();
            crate::say!("it needs {need}: `unship approve {id}`, by somebody else");
        }
    }
    Ok(exit::OK)
}

/// A moment as people write it: with an offset, or with a time zone by its name.
fn moment(text: &str) -> CliResult<Timestamp> {
    let wrong = || {
        CliError::usage(format!("{text:?} is no moment with its time zone"))
            .hint("write it like \"2026-11-20 02:55 Europe/Berlin\" or 2026-11-20T01:55:00Z")
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let (civil, zone) = text.trim().rsplit_once(' ').ok_or_else(wrong)?;
    let civil: DateTime = civil.trim().parse().map_err(|_| wrong())?;
    let zone = TimeZone::get(zone).map_err(|_| wrong())?;
    // An hour that a clock shows twice, or never, is no moment.
    let zoned = zone.to_ambiguous_zoned(civil).unambiguous();
    let zoned = zoned.map_err(|_| {
        CliError::usage(format!(
            "{text:?} is there twice, or not at all: clocks are changed then"
        ))
        .hint("write it with its offset, like 2026-10-25T02:30:00+02:00")
    })?;
    Ok(zoned.timestamp())
}

/// What the arguments of a rollback ask for.
pub fn ask(config: &Config, bench: &mut Workbench, target: &Target) -> CliResult<Ask> {
    let to = match &target.to {
        Some(text) => Some(refs::release(&bench.ledger, text)?.id),
        None => None,
    };
    let select = if target.select.is_empty() {
        None
    } else {
        // What is selected is looked for in the lineage of both ends.
        let of_a_moment = target.at.is_some() || target.writer.is_some();
        let end = match to {
            Some(to) => to,
            None if of_a_moment => bench.session().live()?.release,
            None => {
                let session = bench.session();
                let live = session.live()?.release;
                session.newest_good_before(live)?
            }
        };
        let (text, mut picked) =
            scope::relations(&bench.ledger, end, &target.select, &target.exclude)?;
        // Rows of a loader's state cannot be told from other rows of it; the plan says so.
        if target.predicate.is_none() && target.partition.is_none() {
            let live = bench.session().live()?.release;
            let map = bench.ledger.history(|h| h.map(live))?.unwrap_or_default();
            let states = loader::states(config, &bench.ledger, &map)?;
            picked.extend(loader::along(&states, &picked));
        }
        Some((text, picked))
    };
    let at = target.at.as_deref().map(moment).transpose()?;
    let rows = match (&target.predicate, &target.partition) {
        (Some(predicate), _) => Some(Rows::Where(predicate.clone())),
        (None, Some(partition)) => Some(match partition.split_once('=') {
            Some((column, value)) => Rows::Value {
                column: column.to_owned(),
                value: value.to_owned(),
            },
            None => Rows::Partition(partition.clone()),
        }),
        (None, None) => None,
    };
    if rows.is_none() && (at.is_some() || target.writer.is_some()) {
        return Ok(Ask::Moment {
            to,
            at,
            writer: target.writer.clone(),
            select,
        });
    }
    match (rows, select) {
        (Some(rows), Some(select)) => Ok(Ask::Rows {
            to,
            select,
            reconciling: Reconciling {
                rows,
                at,
                reason: target.reason.clone(),
            },
        }),
        (None, select) if target.reason.is_none() => Ok(Ask::Rollback { to, select }),
        _ => Err(CliError::usage(
            "`--reason` says why only some rows go back, and none are chosen",
        )
        .hint("choose them by `--select` and `--where`, or by `--partition`")),
    }
}
