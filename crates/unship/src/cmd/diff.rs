//! `unship diff`

use crate::cli::{Diff, Global};
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::render::json;
use crate::render::text::{self, BOLD, DIM, paint};
use crate::{refs, scope};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::diff::{Cells, Change, RelationDiff};
use unship_core::engine::Place;
use unship_core::execute::{Notice, Watch};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::lineage::select_relations;
use unship_core::relation::RelationState;
use unship_core::release::Version;
use unship_core::restore::{Map, column_changes, present};

#[derive(Serialize)]
struct Summary {
    from: ReleaseId,
    to: ReleaseId,
    relations: BTreeMap<String, Entry>,
}

#[derive(Serialize)]
struct Entry {
    change: &'static str,
    rows_from: Option<u64>,
    rows_to: Option<u64>,
    columns: Vec<String>,
    /// Columns whose values differ, where both sides have fingerprints.
    values: Vec<String>,
}

#[derive(Serialize)]
struct Rows<'a> {
    from: ReleaseId,
    to: ReleaseId,
    relation: String,
    diff: &'a RelationDiff,
}

/// What differs between two releases.
pub fn run(global: &Global, args: &Diff) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let from = refs::release(&bench.ledger, &args.from)?.id;
    let to = refs::release(&bench.ledger, &args.to)?.id;
    let (old, new) = (map(&bench, from)?, map(&bench, to)?);
    match &args.relation {
        None => summary(global, from, to, &old, &new),
        Some(text) => {
            let name = one_relation(text, &old, &new)?;
            rows(
                global,
                &context,
                &mut bench,
                args,
                (from, &old),
                (to, &new),
                &name,
            )
        }
    }
}

fn map(bench: &Workbench, release: ReleaseId) -> CliResult<Map> {
    bench.ledger.history(|h| h.map(release))?.ok_or_else(|| {
        CliError::new(
            exit::NOTHING,
            format!("nothing is known of what {release} held"),
        )
    })
}

fn summary(global: &Global, from: ReleaseId, to: ReleaseId, old: &Map, new: &Map) -> CliResult {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut relations = BTreeMap::new();
    for name in names {
        let (before, after) = (present(old.get(name)), present(new.get(name)));
        if before.map(|v| v.id) != after.map(|v| v.id) {
            relations.insert(name.to_string(), entry(before, after));
        }
    }
    if global.json {
        json(
            "unship.diff/1",
            &Summary {
                from,
                to,
                relations,
            },
        )?;
        return Ok(exit::OK);
    }
    if relations.is_empty() {
        crate::say!("{from} and {to} hold the same versions of every relation");
        return Ok(exit::OK);
    }
    let mut table = text::table([
        "relation",
        "change",
        &format!("rows {from}"),
        &format!("rows {to}"),
        "columns",
        "values",
    ]);
    let count = |n: Option<u64>| n.map(text::number).unwrap_or_default();
    for (name, entry) in &relations {
        table.add_row([
            name.clone(),
            entry.change.to_owned(),
            count(entry.rows_from),
            count(entry.rows_to),
            entry.columns.join(" "),
            entry.values.join(" "),
        ]);
    }
    text::print_table(&table);
    Ok(exit::OK)
}

fn entry(before: Option<&Version>, after: Option<&Version>) -> Entry {
    let before = before.and_then(|v| v.state.as_ref());
    let after = after.and_then(|v| v.state.as_ref());
    let (change, columns, values) = match (before, after) {
        (None, _) => ("added", Vec::new(), Vec::new()),
        (_, None) => ("removed", Vec::new(), Vec::new()),
        (Some(a), Some(b)) => (
            "changed",
            column_changes(&a.columns, &b.columns),
            value_changes(a, b),
        ),
    };
    Entry {
        change,
        rows_from: before.and_then(|s| s.rows),
        rows_to: after.and_then(|s| s.rows),
        columns,
        values,
    }
}

/// The columns that both have and whose values differ, where both were fingerprinted alike.
pub fn value_changes(a: &RelationState, b: &RelationState) -> Vec<String> {
    match (&a.fingerprint, &b.fingerprint) {
        (Some(x), Some(y)) if x.method == y.method => x
            .columns
            .iter()
            .filter(|(name, sum)| y.columns.get(*name).is_some_and(|other| other != *sum))
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn one_relation(text: &str, old: &Map, new: &Map) -> CliResult<RelationName> {
    let names: BTreeSet<RelationName> = old.keys().chain(new.keys()).cloned().collect();
    let none: [&str; 0] = [];
    let selected =
        select_relations(&[text], &none, &names).map_err(|e| CliError::usage(e.to_string()))?;
    let mut picked = selected.picked.into_iter();
    match (picked.next(), picked.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => Err(
            CliError::usage(format!("neither release has a relation `{text}`"))
                .hint("`unship diff` without it lists what differs"),
        ),
        (Some(a), Some(b)) => {
            Err(CliError::usage(format!("`{text}` may be {a} or {b}")).hint("write `schema.name`"))
        }
    }
}

fn rows(
    global: &Global,
    context: &Context,
    bench: &mut Workbench,
    args: &Diff,
    (from, old): (ReleaseId, &Map),
    (to, new): (ReleaseId, &Map),
    name: &RelationName,
) -> CliResult {
    let key = key_of(bench, to, name)?;
    let places = [
        place(context, bench, from, old, name)?,
        place(context, bench, to, new, name)?,
    ];
    let terminal = &bench.terminal;
    terminal.notice(Notice::Phase("comparing rows"));
    let diff = bench
        .engine
        .diff(
            (places[0], name),
            (places[1], name),
            key.as_deref(),
            args.examples as u64,
            &|what, done, total| terminal.notice(Notice::Progress(what, done, total)),
        )
        .map_err(CliError::from)?;
    terminal.finish();
    if global.json {
        json(
            "unship.diff_rows/1",
            &Rows {
                from,
                to,
                relation: name.to_string(),
                diff: &diff,
            },
        )?;
    } else {
        print(from, to, name, &diff);
    }
    Ok(exit::OK)
}

/// Where a relation's version can be read: production, or any retained state that holds it.
pub fn place(
    context: &Context,
    bench: &mut Workbench,
    release: ReleaseId,
    map: &Map,
    name: &RelationName,
) -> CliResult<Place> {
    let wanted = present(map.get(name)).map(|v| v.id).ok_or_else(|| {
        CliError::usage(format!("{release} has no {name}"))
            .hint("`unship diff` without a relation shows what was added or removed")
    })?;
    let holds = |map: Option<Map>| {
        map.is_some_and(|m| present(m.get(name)).is_some_and(|v| v.id == wanted))
    };
    let live = bench
        .ledger
        .history(|h| h.live(&context.env))?
        .map(|l| l.release);
    if let Some(live) = live
        && holds(bench.ledger.history(|h| h.map(live))?)
    {
        return Ok(Place::Live);
    }
    for point in bench.engine.points().map_err(CliError::from)? {
        let has_file = point.databases.contains(&name.database);
        if has_file && holds(bench.ledger.history(|h| h.map(point.release))?) {
            return Ok(Place::Point(point.release));
        }
    }
    Err(CliError::new(
        exit::NOTHING,
        format!("no restore point holds {name} as it was in {release}"),
    )
    .hint("`unship log` shows which releases still have one"))
}

/// The columns that name a row, as dbt declares them.
pub fn key_of(
    bench: &Workbench,
    release: ReleaseId,
    name: &RelationName,
) -> CliResult<Option<Vec<String>>> {
    let Some(manifest) = scope::manifest(&bench.ledger, release)? else {
        return Ok(None);
    };
    let node = manifest
        .nodes
        .values()
        .find(|n| n.relation.as_ref() == Some(name));
    let Some(node) = node else { return Ok(None) };
    if !node.unique_key.is_empty() {
        return Ok(Some(node.unique_key.clone()));
    }
    let unique = manifest
        .nodes
        .values()
        .filter_map(|n| n.test.as_ref())
        .find(|test| {
            test.name.as_deref() == Some("unique")
                && test.attached_node.as_deref() == Some(node.unique_id.as_str())
        });
    Ok(unique
        .and_then(|test| test.column.clone())
        .map(|column| vec![column]))
}

fn print(from: ReleaseId, to: ReleaseId, name: &RelationName, diff: &RelationDiff) {
    crate::say!("{} {from} → {to}", paint(BOLD, name));
    match (&diff.key, &diff.key_refused) {
        (Some(key), _) => crate::say!("  rows are matched by {}", key.join(", ")),
        (None, Some(why)) => crate::say!("  whole rows are compared: {why}"),
        (None, None) => crate::say!("  whole rows are compared: no key is known"),
    }
    crate::say!(
        "  {} added, {} removed, {} changed, {} unchanged",
        text::number(diff.added),
        text::number(diff.removed),
        text::number(diff.changed),
        text::number(diff.unchanged)
    );
    for column in &diff.schema.added {
        crate::say!("  + column {} {}", column.name, column.data_type);
    }
    for column in &diff.schema.removed {
        crate::say!("  - column {} {}", column.name, column.data_type);
    }
    for column in &diff.schema.retyped {
        crate::say!(
            "  ~ column {}: {} → {}",
            column.name,
            column.old,
            column.new
        );
    }
    for (column, rows) in &diff.columns {
        crate::say!("  {column} differs in {} rows", text::number(*rows));
    }
    for example in &diff.examples {
        let line = match example.change {
            Change::Added => format!("+ {}", cells(&example.new)),
            Change::Removed => format!("- {}", cells(&example.old)),
            Change::Changed => {
                let changed: Vec<_> = example
                    .old
                    .iter()
                    .filter_map(|(name, old)| {
                        let (_, new) = example.new.iter().find(|(n, _)| n == name)?;
                        (old != new).then(|| format!("{name}: {old} → {new}"))
                    })
                    .collect();
                format!("~ {}  {}", cells(&example.key), changed.join(", "))
            }
        };
        crate::say!("    {}", paint(DIM, line));
    }
}

fn cells(cells: &Cells) -> String {
    cells
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}
