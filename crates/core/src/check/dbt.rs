//! What dbt itself says: tests, errors, skips, freshness, unit tests, contracts.

use super::{Finding, Outcome, Severity};
use crate::ident::RelationName;
use crate::pipeline::dbt::manifest::{self, Manifest, Node, ResourceType};
use crate::pipeline::dbt::run_results::{NodeResult, RunResults, Status};
use crate::pipeline::dbt::sources::Freshness;

/// SQL longer than this is no help in a report.
const READABLE: usize = 4000;

/// What the results of a dbt command say. Tests that passed are one finding.
pub fn results(results: &RunResults, manifest: &Manifest) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut passed = 0;
    for result in &results.results {
        let node = manifest.nodes.get(&result.unique_id);
        let resource = node.map(|node| &node.resource_type);
        let is_test = match resource {
            Some(kind) => matches!(kind, ResourceType::Test | ResourceType::UnitTest),
            None => result.unique_id.starts_with("test."),
        };
        match (&result.status, is_test) {
            (Status::Pass, true) => passed += 1,
            (Status::Fail | Status::Warn | Status::Error, true) => {
                all.push(test(result, node, manifest));
            }
            (Status::Error | Status::Fail | Status::PartialSuccess, false) => {
                all.push(error(result, node));
            }
            (Status::Skipped, _) => all.push(skipped(result, node)),
            _ => {}
        }
    }
    if passed > 0 {
        let observed = match passed {
            1 => "1 test passed".to_owned(),
            n => format!("{n} tests passed"),
        };
        let expected = "every test passes".to_owned();
        all.push(Finding {
            outcome: Outcome::Pass,
            ..finding("dbt", None, Severity::Low, observed, expected)
        });
    }
    all
}

fn finding(
    check: &str,
    relation: Option<RelationName>,
    severity: Severity,
    observed: String,
    expected: String,
) -> Finding {
    Finding {
        check: check.to_owned(),
        relation,
        column: None,
        outcome: Outcome::Fail,
        severity,
        observed,
        expected,
        examples: None,
        sql: None,
    }
}

/// A node's name without its type and project, and without the hash that ends a generic test's id.
fn short(result: &NodeResult, node: Option<&Node>) -> String {
    match node {
        Some(node) => node.name.clone(),
        None => result
            .unique_id
            .splitn(3, '.')
            .nth(2)
            .unwrap_or_default()
            .to_owned(),
    }
}

fn first_line(text: Option<&str>) -> Option<String> {
    let lines = text?.lines().map(str::trim);
    lines
        .into_iter()
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

fn test(result: &NodeResult, node: Option<&Node>, manifest: &Manifest) -> Finding {
    let test = node.and_then(|node| node.test.as_ref());
    let unit = node.is_some_and(|node| node.resource_type == ResourceType::UnitTest);
    let of_a_key = test
        .and_then(|t| t.name.as_deref())
        .is_some_and(|name| name == "unique" || name.ends_with("unique_combination_of_columns"));
    let severity = match (&result.status, of_a_key) {
        (Status::Warn, _) => Severity::Low,
        (Status::Fail, true) => Severity::Critical,
        _ => Severity::High,
    };
    let about = test
        .and_then(|test| test.attached_node.as_ref())
        .or_else(|| node.and_then(|node| node.depends_on.first()))
        .and_then(|id| manifest.nodes.get(id));
    let observed = match (&result.status, result.failures) {
        (Status::Error, _) => match first_line(result.message.as_deref()) {
            Some(line) => format!("the test could not be run: {line}"),
            None => "the test could not be run".to_owned(),
        },
        (_, Some(1)) => "1 row fails".to_owned(),
        (_, Some(rows)) => format!("{rows} rows fail"),
        (_, None) => first_line(result.message.as_deref()).unwrap_or("it failed".to_owned()),
    };
    let name = short(result, node);
    let check = match unit {
        true => format!("dbt:unit:{name}"),
        false => format!("dbt:{name}"),
    };
    let expected = match unit {
        true => "the rows that the unit test expects",
        false => "no row fails",
    };
    Finding {
        column: test.and_then(|test| test.column.clone()),
        sql: result
            .compiled
            .as_ref()
            .map(|sql| sql.trim().to_owned())
            .filter(|sql| sql.len() <= READABLE),
        ..finding(
            &check,
            about.and_then(|node| node.relation.clone()),
            severity,
            observed,
            expected.to_owned(),
        )
    }
}

fn error(result: &NodeResult, node: Option<&Node>) -> Finding {
    let message = result.message.as_deref().unwrap_or_default();
    let contract = message.contains("enforced contract");
    let check = match contract {
        true => "dbt:contract".to_owned(),
        false => format!("dbt:{}", short(result, node)),
    };
    let observed = first_line(Some(message)).unwrap_or("it failed".to_owned());
    let expected = match contract {
        true => "the columns that the contract names",
        false => "it is built",
    };
    finding(
        &check,
        node.and_then(|node| node.relation.clone()),
        Severity::High,
        observed,
        expected.to_owned(),
    )
}

fn skipped(result: &NodeResult, node: Option<&Node>) -> Finding {
    finding(
        &format!("dbt:{}", short(result, node)),
        node.and_then(|node| node.relation.clone()),
        Severity::Low,
        "skipped: something before it failed".to_owned(),
        "it is tried".to_owned(),
    )
}

/// How fresh dbt found the sources.
pub fn freshness(freshness: &Freshness, manifest: Option<&Manifest>) -> Vec<Finding> {
    let sources = freshness.sources.iter().map(|source| {
        let node = manifest.and_then(|m| m.nodes.get(&source.unique_id));
        let name = source.unique_id.splitn(3, '.').nth(2).unwrap_or_default();
        let (outcome, severity) = match source.status.as_str() {
            "pass" => (Outcome::Pass, Severity::Low),
            "warn" => (Outcome::Fail, Severity::Low),
            "error" => (Outcome::Fail, Severity::High),
            _ => (Outcome::Unknown, Severity::Medium),
        };
        let observed = match (source.age, &source.error) {
            (Some(age), _) => format!("the newest row is {:.1} hours old", age / 3600.0),
            (None, Some(error)) => error.clone(),
            (None, None) => source.status.clone(),
        };
        Finding {
            outcome,
            ..finding(
                &format!("dbt:freshness:{name}"),
                node.and_then(|node| node.relation.clone()),
                severity,
                observed,
                "as fresh as the source declares".to_owned(),
            )
        }
    });
    sources.collect()
}

/// What a project declares of its data and this run did not test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// These columns together identify a row.
    Key {
        /// The relation.
        relation: RelationName,
        /// The columns.
        columns: Vec<String>,
    },
    /// Each value of a column is one of another relation's column.
    Reference {
        /// The relation.
        relation: RelationName,
        /// Its column.
        column: String,
        /// The relation that is referred to.
        parent: RelationName,
        /// The column there.
        field: String,
        /// Whether dbt would only warn.
        warns: bool,
    },
}

/// Keys and references of a relation that the project declares and that no test of this run looked
/// at: `dbt run` tests nothing, and a test may be deselected.
pub fn untested(
    manifest: &Manifest,
    results: Option<&RunResults>,
    relation: &RelationName,
) -> Vec<Declared> {
    let ran = |id: &str| {
        let mut all = results.into_iter().flat_map(|r| &r.results);
        all.any(|r| {
            r.unique_id == id && matches!(r.status, Status::Pass | Status::Warn | Status::Fail)
        })
    };
    let nodes = manifest
        .nodes
        .values()
        .filter(|n| n.relation.as_ref() == Some(relation) && n.resource_type.is_built());
    let mut all = Vec::new();
    for node in nodes {
        let tests: Vec<(&Node, &manifest::Test)> = manifest
            .nodes
            .values()
            .filter_map(|n| Some((n, n.test.as_ref()?)))
            .filter(|(_, t)| t.attached_node.as_deref() == Some(&node.unique_id))
            .collect();
        if let Some(columns) = manifest.key_of(&node.unique_id) {
            let tested = tests.iter().any(|(n, t)| {
                let of = match &t.column {
                    Some(column) => std::slice::from_ref(column),
                    None => t.columns.as_slice(),
                };
                let unique = t
                    .name
                    .as_deref()
                    .is_some_and(|name| name.contains("unique"));
                unique && of == columns && ran(&n.unique_id)
            });
            // A snapshot's key stands once for each version of a row.
            if !tested && node.resource_type != ResourceType::Snapshot {
                all.push(Declared::Key {
                    relation: relation.clone(),
                    columns,
                });
            }
        }
        for (n, t) in tests {
            let parent = n.depends_on.iter().find(|id| **id != node.unique_id);
            let parent = parent.and_then(|id| manifest.nodes.get(id)?.relation.clone());
            if let (Some("relationships"), Some(column), Some(field), Some(parent), false) = (
                t.name.as_deref(),
                &t.column,
                &t.field,
                parent,
                ran(&n.unique_id),
            ) {
                all.push(Declared::Reference {
                    relation: relation.clone(),
                    column: column.clone(),
                    parent,
                    field: field.clone(),
                    warns: t.severity == manifest::Severity::Warn,
                });
            }
        }
    }
    all
}
