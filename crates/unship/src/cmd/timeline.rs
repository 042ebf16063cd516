//! `unship timeline`

use crate::cli::{Global, Timeline};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit};
use crate::render::{json, text};
use jiff::Timestamp;
use serde::Serialize;
use unship_core::engine::Change;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::log::Ledger;
use unship_core::release::{Stage, Version};
use unship_core::restore::present;

/// How many releases are looked through.
const RELEASES: usize = 200;

/// One change of a relation.
#[derive(Debug, Serialize)]
struct Entry {
    at: Timestamp,
    what: String,
    release: Option<String>,
    writer: String,
    application: Option<String>,
    rows_in: Option<u64>,
    rows_out: Option<u64>,
    rows: Option<u64>,
    note: Option<String>,
}

/// Shows every known change of one relation, the newest first.
pub fn run(global: &Global, args: &Timeline) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let name = named(&bench.ledger, &args.relation)?;
    let mut entries = released(&bench.ledger, &name)?;
    let limit = u64::try_from(args.limit).unwrap_or(u64::MAX);
    let changes = bench.engine.changes(&name, limit)?;
    let logged = !changes.is_empty();
    entries.extend(changes.into_iter().map(written));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    entries.truncate(args.limit);
    bench.terminal.finish();
    if global.json {
        let document = serde_json::json!({
            "relation": name.to_string(), "undo_log": logged, "changes": entries,
        });
        json("unship.timeline/1", &document)?;
        return Ok(exit::OK);
    }
    let mut table = text::table(["when", "what", "release", "by", "in", "out", "rows"]);
    let count = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
    for entry in &entries {
        let by = match entry.application.as_deref().filter(|a| !a.is_empty()) {
            Some(application) => format!("{} ({application})", entry.writer),
            None => entry.writer.clone(),
        };
        let what = match &entry.note {
            Some(note) => format!("{}: {note}", entry.what),
            None => entry.what.clone(),
        };
        table.add_row([
            text::moment(entry.at),
            what,
            entry.release.clone().unwrap_or_default(),
            by,
            count(entry.rows_in),
            count(entry.rows_out),
            count(entry.rows),
        ]);
    }
    text::print_table(&table);
    if !logged {
        crate::say!(
            "it has no undo log: what others wrote between releases is not known one by one"
        );
    }
    Ok(exit::OK)
}

/// The relation that is meant, among those that were ever live.
fn named(ledger: &Ledger, text: &str) -> CliResult<RelationName> {
    let live = ledger.history(|h| h.live(ledger.env()))?;
    let live = live.ok_or_else(|| {
        CliError::usage(format!(
            "nothing has been released in `{}` yet",
            ledger.env()
        ))
    })?;
    let map = ledger.history(|h| h.map(live.release))?.unwrap_or_default();
    let means = |name: &&RelationName| {
        let full = format!("{}.{}", name.schema, name.name);
        *name.name == *text || full == text || name.to_string() == text
    };
    let mut found = map.keys().filter(means);
    match (found.next(), found.next()) {
        (Some(name), None) => Ok(name.clone()),
        (Some(one), Some(other)) => Err(CliError::usage(format!(
            "{text} may be {one} or {other}: write it with its schema"
        ))),
        (None, _) => Err(
            CliError::usage(format!("no release knows a relation {text}"))
                .hint("write it like schema.name"),
        ),
    }
}

/// What releases made of it.
fn released(ledger: &Ledger, name: &RelationName) -> CliResult<Vec<Entry>> {
    let env = ledger.env();
    let mut releases = ledger.history(|h| h.releases(env, None, RELEASES))?;
    releases.retain(|release| release.stage == Stage::Published);
    releases.reverse();
    let mut out = Vec::new();
    let mut before: Option<Version> = None;
    for release in releases {
        let map = ledger.history(|h| h.published_map(release.id))?;
        let version = map.and_then(|mut map| map.remove(name));
        let id = |v: Option<&Version>| present(v).map(|v| v.id);
        if id(version.as_ref()) != id(before.as_ref()) {
            let rows = present(version.as_ref())
                .and_then(|v| v.state.as_ref())
                .and_then(|state| state.rows);
            out.push(Entry {
                at: release.closed.unwrap_or(release.opened),
                what: match &version {
                    Some(Version { state: Some(_), .. }) => release.operation.word().to_owned(),
                    _ => format!("{} (gone)", release.operation.word()),
                },
                release: Some(release.id.to_string()),
                writer: release.actor.clone(),
                application: None,
                rows_in: None,
                rows_out: None,
                rows,
                note: None,
            });
        }
        before = version;
    }
    Ok(out)
}

/// What its engine wrote down.
fn written(change: Change) -> Entry {
    let known = |text: &str| text.parse::<ReleaseId>().is_ok();
    Entry {
        at: change.at,
        what: change.operations.join(", "),
        release: change.release.filter(|text| known(text)),
        writer: change.role,
        application: Some(change.application),
        rows_in: Some(change.come),
        rows_out: Some(change.gone),
        rows: None,
        note: change.note,
    }
}
