//! `unship show`

use super::stages;
use crate::cli::{Global, Show};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit, system_error};
use crate::refs;
use crate::render::text::{self, BAD, BOLD, DIM, paint};
use crate::render::{findings, json, release as render};
use serde::Serialize;
use std::io::Write;
use unship_core::check::Finding;
use unship_core::engine::Point;
use unship_core::history::{BrokenGlass, Decided};
use unship_core::release::{Operation, Release, VersionId};
use unship_core::restore::Map;

#[derive(Serialize)]
struct Document<'a> {
    release: &'a Release,
    point: Option<&'a Point>,
    relations: &'a Map,
    findings: Option<Vec<Finding>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<&'a Decided>,
    /// The rollback in stages that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<stages::Document>,
    #[serde(skip_serializing_if = "Option::is_none")]
    glass_broken: Option<&'a BrokenGlass>,
}

/// Shows one release in full.
pub fn run(global: &Global, args: &Show) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let release = refs::release(&bench.ledger, &args.release)?;
    if args.log {
        let blob = release.end.as_ref().and_then(|end| end.log.as_ref());
        let blob = blob.ok_or_else(|| {
            CliError::new(
                exit::NOTHING,
                format!("{} ran no job that printed anything", release.id),
            )
        })?;
        std::io::stdout()
            .write_all(&bench.ledger.get_blob(&blob.0)?)
            .map_err(system_error("write to standard output"))?;
        return Ok(exit::OK);
    }
    let map = bench
        .ledger
        .history(|h| h.map(release.id))?
        .unwrap_or_default();
    let point = super::pin::retained(&mut bench, release.id)?;
    let live = bench
        .ledger
        .history(|h| h.live(&context.env))?
        .map(|l| l.release);
    let found = bench.session().findings_of(release.id)?;
    let glass = bench.ledger.history(|h| h.broken_glass(release.id))?;
    let decided = bench.ledger.history(|h| h.decided(release.id))?;
    if global.json {
        let staged = match release.operation.stage() {
            Some(stage) => bench.ledger.history(|h| h.staged(stage.first))?,
            None => None,
        };
        let staged = match staged {
            Some(staging) => {
                let plan = stages::plan_of(&bench.ledger, &staging.blob)?;
                Some(stages::Document::of(&staging, &plan, None))
            }
            None => None,
        };
        json(
            "unship.release/1",
            &Document {
                release: &release,
                point: point.as_ref(),
                relations: &map,
                findings: found,
                decided: decided.as_ref(),
                staged,
                glass_broken: glass.as_ref(),
            },
        )?;
        return Ok(exit::OK);
    }
    crate::say!(
        "{} {}",
        paint(BOLD, release.id),
        render::state(&release, live)
    );
    line("what", render::operation(&release));
    if let Operation::Rollback {
        to,
        rows: Some(reconciling),
        ..
    } = &release.operation
    {
        for name in map.iter().filter(|(_, v)| v.id.release == release.id) {
            line(
                "rows",
                format!("{} {} come from {to}", name.0, reconciling.rows),
            );
        }
        if let Some(reason) = &reconciling.reason {
            line("", reason);
        }
    }
    if let Some(stage) = release.operation.stage()
        && let Some(staging) = bench.ledger.history(|h| h.staged(stage.first))?
    {
        line("stage", format!("{stage}; {}", staging.words()));
        for surprise in staging.surprises.get(&stage.number).into_iter().flatten() {
            line("", paint(BAD, surprise));
        }
        if live == Some(release.id) && staging.ended.is_none() {
            line("", stages::next(&staging));
        }
    }
    line("who", &release.actor);
    line("opened", text::moment(release.opened));
    if let Some(closed) = release.closed {
        line("closed", text::moment(closed));
    }
    if let Some(reason) = &release.reason {
        line("why", reason);
    }
    if let Some(glass) = &glass {
        let broken = paint(BAD, "BROKEN");
        line(
            "glass",
            format!("{broken} by {}: {}", glass.actor, glass.reason),
        );
        for passed in &glass.passed {
            line("", format!("passed over: {passed}"));
        }
    }
    if let Some(decided) = &decided {
        let at = text::moment(decided.at);
        line(
            "decided",
            format!("{} ({at})", decided.decision.action.words()),
        );
        for because in &decided.decision.because {
            line("", because);
        }
    }
    if let Some(incident) = bench.ledger.history(|h| h.incident_of(release.id))? {
        let (id, state) = (incident.id, incident.state());
        line(
            "trouble",
            format!("{id} ({state}): `unship report {id}` says what differed"),
        );
    }
    if let Some(code) = &release.code {
        let branch = code.branch.as_deref().unwrap_or("detached");
        line("commit", format!("{} on {branch}", code.commit));
        line("", format!("{} ({})", code.subject, code.author));
        if let Some(diff) = &code.diff {
            line(
                "",
                format!(
                    "with uncommitted changes {}",
                    diff.get(..12).unwrap_or(diff)
                ),
            );
        }
    }
    if let Some(end) = &release.end {
        let how = match (end.exit_code, end.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown".to_owned(),
        };
        let took = i64::try_from(end.milliseconds).unwrap_or(i64::MAX);
        line(
            "job",
            format!(
                "{how} after {}",
                text::span(jiff::SignedDuration::from_millis(took))
            ),
        );
        for failure in &end.failures {
            line("", failure);
        }
        for (package, version) in &end.packages {
            line("", paint(DIM, format!("{package} {version}")));
        }
    }
    if let Some(statements) = release.statements {
        let word = if statements == 1 {
            "statement"
        } else {
            "statements"
        };
        let sent = text::number(statements);
        line(
            "sent",
            format!("{sent} {word} of unship, the job's own not counted"),
        );
    }
    match point {
        Some(point) => line(
            "point",
            format!("{} ({})", point.location, text::bytes(point.bytes)),
        ),
        None if live == Some(release.id) => line("point", "it is production"),
        None => line("point", "none: it cannot be restored as a whole any more"),
    }
    if let Some(found) = &found {
        crate::say!("\n{}", paint(BOLD, "Checks"));
        findings::full(found);
    }
    relations(&release, &map);
    Ok(exit::OK)
}

fn line(label: &str, text: impl std::fmt::Display) {
    crate::say!("  {label:<8}{text}");
}

fn relations(release: &Release, map: &Map) {
    let built_here = |id: &VersionId| id.release == release.id;
    let mut table = text::table(["relation", "kind", "version", "rows", "owner"]);
    for (name, version) in map {
        let Some(state) = &version.state else {
            continue;
        };
        let id = version.id.to_string();
        table.add_row([
            name.to_string(),
            state.kind.word().to_owned(),
            if built_here(&version.id) {
                paint(BOLD, id)
            } else {
                id
            },
            state.rows.map(text::number).unwrap_or_default(),
            if version.owned { "jobs" } else { "others" }.to_owned(),
        ]);
    }
    crate::say!();
    text::print_table(&table);
}
