//! What differed between the last good release and a bad one, to find out what went wrong.

use crate::aftermath::in_lineage_order;
use crate::cmd::diff;
use crate::context::{Context, Workbench};
use crate::error::CliResult;
use crate::git::{self, Commit};
use crate::scope;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::check::{Finding, Outcome, Severity};
use unship_core::diff::RelationDiff;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::log::Ledger;
use unship_core::release::Release;
use unship_core::restore::{Map, column_changes, present};

/// So many commits are listed.
const MOST_COMMITS: usize = 50;

/// What differs between two releases.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The good one.
    pub good: ReleaseId,
    /// The bad one.
    pub bad: ReleaseId,
    /// The commits in between, the newest first; `None` where git cannot say.
    pub commits: Option<Vec<Commit>>,
    /// The models whose code differs.
    pub models: Vec<ModelChange>,
    /// The packages whose version differs.
    pub packages: Vec<PackageChange>,
    /// What the models read and no job built, where its rows differ.
    pub upstream: Vec<RowChange>,
    /// What jobs built, where it differs, in lineage order.
    pub relations: Vec<RowChange>,
    /// Where it probably began.
    pub first: Option<First>,
    /// Rows of that relation before and after.
    pub rows: Option<RelationDiff>,
    /// Why there are none, where they were asked for.
    pub no_rows: Option<String>,
    /// Commands that show it again, on copies and on what is retained.
    pub reproduce: Vec<String>,
}

/// A model whose code differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelChange {
    /// dbt's name for it.
    pub unique_id: String,
    /// `added`, `removed`, `changed`, or `compiled`: only what its macros make of it differs.
    pub change: &'static str,
    /// The difference of its SQL, as a unified diff.
    pub diff: String,
}

/// A package whose version differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// The version of the good release.
    pub good: Option<String>,
    /// The version of the bad one.
    pub bad: Option<String>,
}

/// A relation in both releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowChange {
    /// Which, as `schema.name`.
    pub relation: String,
    /// Rows in the good release, if counted and there.
    pub good: Option<u64>,
    /// Rows in the bad one.
    pub bad: Option<u64>,
    /// Columns that appeared (+), vanished (-) or changed type (~).
    pub columns: Vec<String>,
    /// Columns that both have and whose values differ, where both were fingerprinted.
    pub values: Vec<String>,
}

/// Where it probably began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct First {
    /// The relation, as `schema.name`.
    pub relation: String,
    /// Why this one.
    pub because: String,
}

/// Compares what the ledger knows of two releases. No row is read.
pub fn releases(
    context: &Context,
    ledger: &Ledger,
    good: &Release,
    bad: &Release,
    findings: &[Finding],
) -> CliResult<(Comparison, Option<RelationName>)> {
    let (good_run, bad_run) = (ran(ledger, good)?, ran(ledger, bad)?);
    let codes = (
        good_run.as_ref().and_then(|r| r.code.as_ref()),
        bad_run.as_ref().and_then(|r| r.code.as_ref()),
    );
    let commits = match codes {
        (Some(a), Some(b)) => git::between(&context.root, &a.commit, &b.commit, MOST_COMMITS),
        _ => None,
    };
    let models = models(&json(ledger, good.id)?, &json(ledger, bad.id)?);
    let old = ledger.history(|h| h.published_map(good.id))?;
    let old = old.unwrap_or_default();
    let new = match ledger.history(|h| h.published_map(bad.id))? {
        Some(map) => map,
        None => ledger.history(|h| h.map(bad.id))?.unwrap_or_default(),
    };
    let changed: BTreeSet<RelationName> = old
        .keys()
        .chain(new.keys())
        .filter(|name| present(old.get(name)).map(|v| v.id) != present(new.get(name)).map(|v| v.id))
        .cloned()
        .collect();
    let owned = |name: &&RelationName| {
        [&old, &new]
            .iter()
            .any(|map| map.get(*name).is_some_and(|v| v.owned))
    };
    let ordered = in_lineage_order(ledger, bad.id, &changed)?;
    let (built, upstream): (Vec<_>, Vec<_>) = ordered.iter().partition(owned);
    let rows = |names: &[&RelationName]| -> Vec<RowChange> {
        names
            .iter()
            .map(|name| row_change(name, &old, &new))
            .collect()
    };
    let relations = rows(&built);
    let upstream: Vec<_> = rows(&upstream);
    let coded = coded(&models, ledger, bad.id)?;
    let first = first(&built, &relations, findings, &coded);
    let (began, first) = first.map_or((None, None), |(name, f)| (Some(name), Some(f)));
    let comparison = Comparison {
        good: good.id,
        bad: bad.id,
        commits,
        models,
        packages: packages(good_run.as_ref(), bad_run.as_ref()),
        upstream,
        relations,
        first,
        rows: None,
        no_rows: None,
        reproduce: reproduce(good, bad, codes, began.as_ref()),
    };
    Ok((comparison, began))
}

/// Adds rows of the relation where it began, before and after. What keeps them from being read is
/// said, and no reason to say nothing else.
pub fn with_rows(
    comparison: &mut Comparison,
    context: &Context,
    bench: &mut Workbench,
    name: &RelationName,
    examples: usize,
) {
    match rows(comparison, context, bench, name, examples) {
        Ok(diff) => comparison.rows = Some(diff),
        Err(error) => comparison.no_rows = Some(error.message),
    }
}

fn rows(
    comparison: &Comparison,
    context: &Context,
    bench: &mut Workbench,
    name: &RelationName,
    examples: usize,
) -> CliResult<RelationDiff> {
    let (good, bad) = (comparison.good, comparison.bad);
    let map = |bench: &Workbench, id| -> CliResult<Map> {
        Ok(bench.ledger.history(|h| h.map(id))?.unwrap_or_default())
    };
    let (old, new) = (map(bench, good)?, map(bench, bad)?);
    let key = diff::key_of(bench, bad, name)?;
    let places = [
        diff::place(context, bench, good, &old, name)?,
        diff::place(context, bench, bad, &new, name)?,
    ];
    let diff = bench.engine.diff(
        (places[0], name),
        (places[1], name),
        key.as_deref(),
        examples as u64,
        &|_, _, _| {},
    )?;
    Ok(diff)
}

/// The run whose state a release has.
fn ran(ledger: &Ledger, release: &Release) -> CliResult<Option<Release>> {
    match release.job {
        Some(_) => Ok(Some(release.clone())),
        None => Ok(ledger.history(|h| h.release(release.origin))?),
    }
}

fn json(ledger: &Ledger, release: ReleaseId) -> CliResult<Value> {
    let bytes = scope::manifest_bytes(ledger, release)?.map(|(_, bytes)| bytes);
    // One that cannot be read says nothing, and the rest of the comparison still does.
    Ok(bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default())
}

/// The models, snapshots and seeds whose code differs between two manifests.
fn models(good: &Value, bad: &Value) -> Vec<ModelChange> {
    let nodes = |manifest: &Value| -> BTreeMap<String, Value> {
        let made = |id: &str| {
            ["model.", "snapshot."]
                .iter()
                .any(|kind| id.starts_with(kind))
        };
        manifest["nodes"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(id, _)| made(id))
            .map(|(id, node)| (id.clone(), node.clone()))
            .collect()
    };
    let (old, new) = (nodes(good), nodes(bad));
    // Where one side has no manifest everything would seem new, which says nothing.
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let code = |node: Option<&Value>, field: &str| {
        node.and_then(|n| n[field].as_str())
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    };
    let ids: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut out = Vec::new();
    for id in ids {
        let (a, b) = (old.get(id), new.get(id));
        let raw = (code(a, "raw_code"), code(b, "raw_code"));
        let compiled = (code(a, "compiled_code"), code(b, "compiled_code"));
        let both_compiled = !compiled.0.is_empty() && !compiled.1.is_empty();
        let (change, texts) = match (a, b) {
            (None, _) => ("added", raw),
            (_, None) => ("removed", raw),
            _ if raw.0 != raw.1 => ("changed", raw),
            _ if both_compiled && compiled.0 != compiled.1 => ("compiled", compiled),
            _ => continue,
        };
        out.push(ModelChange {
            unique_id: id.clone(),
            change,
            diff: unified(&texts.0, &texts.1),
        });
    }
    out
}

fn unified(old: &str, new: &str) -> String {
    let (old, new) = (format!("{old}\n"), format!("{new}\n"));
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(3)
        .to_string()
}

/// The relations of models whose code differs.
fn coded(
    models: &[ModelChange],
    ledger: &Ledger,
    release: ReleaseId,
) -> CliResult<BTreeSet<RelationName>> {
    let Some(manifest) = scope::manifest(ledger, release)? else {
        return Ok(BTreeSet::new());
    };
    Ok(models
        .iter()
        .filter_map(|m| manifest.nodes.get(&m.unique_id))
        .filter_map(|node| node.relation.clone())
        .collect())
}

fn packages(good: Option<&Release>, bad: Option<&Release>) -> Vec<PackageChange> {
    let of = |release: Option<&Release>| {
        release
            .and_then(|r| r.end.as_ref())
            .map(|end| end.packages.clone())
            .unwrap_or_default()
    };
    let (old, new) = (of(good), of(bad));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
    names
        .into_iter()
        .map(|name| PackageChange {
            good: old.get(&name).cloned(),
            bad: new.get(&name).cloned(),
            name,
        })
        .filter(|p| p.good != p.bad)
        .collect()
}

fn short(name: &RelationName) -> String {
    match (name.schema.is_empty(), name.name.is_empty()) {
        (true, true) => name.database.clone(),
        _ => format!("{}.{}", name.schema, name.name),
    }
}

fn row_change(name: &RelationName, old: &Map, new: &Map) -> RowChange {
    let state = |map: &Map| present(map.get(name)).and_then(|v| v.state.clone());
    let (a, b) = (state(old), state(new));
    RowChange {
        relation: short(name),
        good: a.as_ref().and_then(|s| s.rows),
        bad: b.as_ref().and_then(|s| s.rows),
        columns: match (&a, &b) {
            (Some(a), Some(b)) => column_changes(&a.columns, &b.columns),
            _ => Vec::new(),
        },
        values: match (&a, &b) {
            (Some(a), Some(b)) => diff::value_changes(a, b),
            _ => Vec::new(),
        },
    }
}

/// The first relation in lineage order that a check failed for, warnings only where nothing else did;
/// else the first whose code differs; else the first that differs at all.
fn first(
    ordered: &[&RelationName],
    changes: &[RowChange],
    findings: &[Finding],
    coded: &BTreeSet<RelationName>,
) -> Option<(RelationName, First)> {
    let failed = |name: &RelationName, least: Severity| {
        findings.iter().find(|f| {
            let of_it = f.relation.as_ref() == Some(name);
            f.outcome == Outcome::Fail && f.severity >= least && of_it
        })
    };
    let found = |name: &RelationName, because: String| {
        let relation = short(name);
        (name.clone(), First { relation, because })
    };
    let first = |least| {
        let mut names = ordered.iter();
        names.find_map(|name| Some((name, failed(name, least)?)))
    };
    if let Some((name, finding)) = first(Severity::Medium).or_else(|| first(Severity::Low)) {
        let because = format!("the check {} failed: {}", finding.check, finding.observed);
        return Some(found(name, because));
    }
    if let Some(name) = ordered.iter().find(|n| coded.contains(**n)) {
        let because = "its code differs, and nothing before it has other code".to_owned();
        return Some(found(name, because));
    }
    let differs = |(_, c): &(&&RelationName, &RowChange)| {
        c.good != c.bad || !c.columns.is_empty() || !c.values.is_empty()
    };
    let (name, _) = ordered.iter().zip(changes).find(differs)?;
    let because = "it differs, and nothing before it does".to_owned();
    Some(found(name, because))
}

/// The commands that show it again. None of them touches production.
fn reproduce(
    good: &Release,
    bad: &Release,
    codes: (
        Option<&unship_core::release::Code>,
        Option<&unship_core::release::Code>,
    ),
    first: Option<&RelationName>,
) -> Vec<String> {
    let mut out = vec![format!("unship diff {} {}", good.id, bad.id)];
    if let Some(name) = first {
        let relation = shell_words::quote(&short(name)).into_owned();
        out.push(format!(
            "unship diff {} {} {relation} --examples 20",
            good.id, bad.id
        ));
    }
    if let (Some(a), Some(b)) = codes {
        let cut = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
        let (a, b) = (cut(&a.commit), cut(&b.commit));
        if a != b {
            out.push(format!("git diff {a} {b}"));
        }
        out.push(format!("git worktree add ../look-at-{} {b}", bad.id));
        if let Some(job) = &bad.job {
            out.push(format!(
                "cd ../look-at-{} && {}  # with a target that is a copy",
                bad.id,
                shell_words::join(&job.command)
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn models_differ_by_their_own_code_and_else_by_what_macros_make_of_it() {
        let node = |raw: &str, compiled: &str| json!({"raw_code": raw, "compiled_code": compiled});
        let good = json!({"nodes": {
            "model.s.same": node("select 1", "select 1"),
            "model.s.join": node("select a\nfrom b\njoin c using (id)\n", "x"),
            "model.s.macro": node("{{ m() }}", "select 1"),
            "model.s.gone": node("select 1", ""),
            "test.s.t": node("select 1", ""),
        }});
        let bad = json!({"nodes": {
            "model.s.same": node("select 1\n", "select 1"),
            "model.s.join": node("select a\nfrom b\njoin c on true\n", "y"),
            "model.s.macro": node("{{ m() }}", "select 2"),
            "model.s.new": node("select 2", ""),
            "test.s.t": node("select 2", ""),
        }});
        let seen: Vec<_> = models(&good, &bad)
            .into_iter()
            .map(|m| format!("{} {}\n{}", m.unique_id, m.change, m.diff))
            .collect();
        insta::assert_snapshot!(seen.join("\n"));
        assert_eq!(models(&Value::Null, &bad), [], "no manifest says nothing");
    }

    #[test]
    fn it_began_where_a_check_failed_first() {
        let name = |n: &str| RelationName::new("d", "s", n);
        let (a, b, c) = (name("a"), name("b"), name("c"));
        let ordered = [&a, &b, &c];
        let row = |n: &RelationName, bad| RowChange {
            relation: short(n),
            good: Some(1),
            bad: Some(bad),
            columns: Vec::new(),
            values: Vec::new(),
        };
        let changes = [row(&a, 1), row(&b, 2), row(&c, 2)];
        let at = |findings: &[Finding], coded: &[&RelationName]| {
            let coded = coded.iter().map(|n| (*n).clone()).collect();
            first(&ordered, &changes, findings, &coded).unwrap().0
        };
        assert_eq!(at(&[], &[]), b, "rows");
        assert_eq!(at(&[], &[&c]), c, "code");
        let failed = Finding {
            check: "sum".to_owned(),
            relation: Some(a.clone()),
            column: None,
            outcome: Outcome::Fail,
            severity: Severity::High,
            observed: "twice".to_owned(),
            expected: "once".to_owned(),
            examples: None,
            sql: None,
        };
        assert_eq!(at(std::slice::from_ref(&failed), &[&c]), a, "a check");
        let warning = Finding {
            severity: Severity::Low,
            ..failed.clone()
        };
        let failed = Finding {
            relation: Some(b.clone()),
            ..failed
        };
        assert_eq!(at(&[warning.clone(), failed], &[&c]), b, "no warning");
        assert_eq!(at(&[warning], &[&c]), a, "nothing but a warning");
    }
}
