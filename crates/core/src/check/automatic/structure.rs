//! What is there, and what it consists of: relations, columns, lineage.

use super::super::{Finding, Outcome, Severity};
use super::Comparison;
use crate::ident::RelationName;
use crate::lineage::Lineage;
use crate::pipeline::dbt::manifest::ResourceType;
use crate::relation::{Column, RelationKind, RelationState};
use crate::release::Version;
use std::collections::BTreeSet;

pub(super) fn findings(of: &Comparison<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, version) in of.changes {
        let before = of.before.get(name).filter(|v| v.owned);
        let then = before.and_then(|v| v.state.as_ref());
        match (then, &version.state) {
            (Some(then), None) if has_rows(then) => all.push(vanished(of, name)),
            (Some(then), Some(now)) => all.extend(columns(of, name, then, now)),
            _ => {}
        }
    }
    all.extend(edges(of));
    all
}

fn has_rows(state: &RelationState) -> bool {
    matches!(
        state.kind,
        RelationKind::Table | RelationKind::MaterializedView | RelationKind::View
    )
}

fn finding(
    check: &str,
    name: &RelationName,
    severity: Severity,
    observed: String,
    expected: String,
) -> Finding {
    Finding {
        check: check.to_owned(),
        relation: Some(name.clone()),
        column: None,
        outcome: Outcome::Fail,
        severity,
        observed,
        expected,
        examples: None,
        sql: None,
    }
}

/// A relation that jobs had built is gone. Where the project has no such model any more and nothing
/// reads it, somebody meant it.
fn vanished(of: &Comparison<'_>, name: &RelationName) -> Finding {
    let declared = of
        .lineage
        .is_none_or(|lineage| lineage.nodes_of(name).next().is_some());
    let readers = Readers::of(of, name);
    let severity = match declared || readers.outside() {
        true => Severity::Critical,
        false => Severity::Low,
    };
    let expected = match readers.words() {
        Some(words) => format!("there, as before: {words}"),
        None => "there, as before".to_owned(),
    };
    finding(
        "vanished",
        name,
        severity,
        "it is gone".to_owned(),
        expected,
    )
}

/// Who reads a relation.
struct Readers {
    /// Relations that this job did not build anew: what they read must still be there.
    standing: BTreeSet<RelationName>,
    /// Relations that the job built anew from what is there now.
    rebuilt: bool,
    /// What reads it outside of the warehouse, as far as the project says.
    exposures: BTreeSet<String>,
}

impl Readers {
    fn of(of: &Comparison<'_>, name: &RelationName) -> Self {
        let mut all = BTreeSet::new();
        let mut exposures = BTreeSet::new();
        for lineage in [of.lineage, of.lineage_before].into_iter().flatten() {
            all.extend(
                lineage
                    .dependents(name)
                    .into_iter()
                    .filter(|n| !is_test(lineage, n)),
            );
            for node in lineage.nodes_of(name) {
                let children = lineage.children(&node.unique_id);
                exposures.extend(
                    children
                        .filter_map(|id| lineage.manifest().exposures.get(id))
                        .map(|exposure| exposure.label.clone().unwrap_or(exposure.name.clone())),
                );
            }
        }
        for version in [of.before.get(name), of.changes.get(name)]
            .into_iter()
            .flatten()
        {
            let state = version.state.as_ref();
            all.extend(state.into_iter().flat_map(|s| s.dependents.iter().cloned()));
        }
        let there = |n: &RelationName| {
            let now = of.changes.get(n).or_else(|| of.before.get(n));
            now.is_some_and(|v: &Version| v.state.is_some())
        };
        let (rebuilt, standing): (BTreeSet<_>, BTreeSet<_>) = all
            .into_iter()
            .filter(there)
            .partition(|n| of.built.contains(n));
        Self {
            rebuilt: !rebuilt.is_empty(),
            standing,
            exposures,
        }
    }

    /// Whether somebody reads it who did not just prove that it can be read: a view or table that
    /// stayed, an exposure, or whoever reads the end of a chain. Nothing in the project reads a
    /// mart, because people do.
    fn outside(&self) -> bool {
        !self.standing.is_empty() || !self.exposures.is_empty() || !self.rebuilt
    }

    fn words(&self) -> Option<String> {
        let names = self.standing.iter().map(ToString::to_string);
        let all: Vec<String> = names.chain(self.exposures.iter().cloned()).collect();
        match all.as_slice() {
            [] => None,
            [first] => Some(format!("{first} reads it")),
            [first, rest @ ..] => Some(format!("{first} and {} more read it", rest.len())),
        }
    }
}

fn is_test(lineage: &Lineage, name: &RelationName) -> bool {
    let mut nodes = lineage.nodes_of(name).peekable();
    nodes.peek().is_some() && nodes.all(|node| node.resource_type == ResourceType::Test)
}

/// Columns that were dropped, got another type, or may hold `NULL` now.
fn columns(
    of: &Comparison<'_>,
    name: &RelationName,
    then: &RelationState,
    now: &RelationState,
) -> Vec<Finding> {
    if !has_rows(then) || then.columns.is_empty() || now.columns.is_empty() {
        return Vec::new();
    }
    let readers = Readers::of(of, name);
    let read = readers.outside();
    let why = readers
        .words()
        .unwrap_or_else(|| "nothing in the project reads it, so that people may".to_owned());
    let mut all = Vec::new();
    for column in &then.columns {
        let same = |c: &&Column| c.name == column.name;
        let found = match now.columns.iter().find(same) {
            None => Some(("column_dropped", "is gone".to_owned(), Severity::Medium)),
            Some(c) if c.data_type != column.data_type => {
                let severity = match widens(&column.data_type, &c.data_type) {
                    true => Severity::Low,
                    false => Severity::Medium,
                };
                let text = format!("is {} and was {}", c.data_type, column.data_type);
                Some(("column_retyped", text, severity))
            }
            Some(c) if c.nullable && !column.nullable => {
                Some(("column_nullable", "may hold NULL".to_owned(), Severity::Low))
            }
            Some(_) => None,
        };
        let Some((check, observed, severity)) = found else {
            continue;
        };
        // A number that became a text is another thing to whoever reads it, by whatever way.
        let other_thing = check == "column_retyped" && severity > Severity::Low;
        let severity = if read || other_thing {
            severity
        } else {
            Severity::Low
        };
        all.push(Finding {
            column: Some(column.name.clone()),
            ..finding(check, name, severity, observed, format!("as before: {why}"))
        });
    }
    all
}

/// Whether every value of one type is a value of the other, so that no reader loses anything.
fn widens(from: &str, to: &str) -> bool {
    let (from, to) = (from.to_lowercase(), to.to_lowercase());
    let rank = |of: &str| match of {
        "tinyint" => Some(1),
        "smallint" | "int2" => Some(2),
        "integer" | "int4" => Some(3),
        "bigint" | "int8" => Some(4),
        "hugeint" => Some(5),
        _ => None,
    };
    if let (Some(a), Some(b)) = (rank(&from), rank(&to)) {
        return a <= b;
    }
    if let (Some(a), Some(b)) = (digits(&from), digits(&to)) {
        return a.1 <= b.1 && a.0.saturating_sub(a.1) <= b.0.saturating_sub(b.1);
    }
    let text =
        |of: &str| of.starts_with("varchar") || of.starts_with("character varying") || of == "text";
    let length =
        |of: &str| -> Option<u32> { of.split_once('(')?.1.strip_suffix(')')?.parse().ok() };
    match (text(&from), text(&to)) {
        (true, true) => length(&to).is_none_or(|b| length(&from).is_some_and(|a| a <= b)),
        _ => matches!(
            (from.as_str(), to.as_str()),
            ("float" | "real", "double" | "double precision")
        ),
    }
}

/// Precision and scale of a decimal type.
fn digits(of: &str) -> Option<(u32, u32)> {
    let inside = of
        .strip_prefix("decimal(")
        .or_else(|| of.strip_prefix("numeric("))?
        .strip_suffix(')')?;
    let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// Who reads whom, where that is not what it was in the last good release.
fn edges(of: &Comparison<'_>) -> Vec<Finding> {
    let (Some(now), Some(before)) = (of.lineage, of.lineage_before) else {
        return Vec::new();
    };
    let relations = |lineage: &Lineage| -> BTreeSet<RelationName> {
        let nodes = lineage.manifest().nodes.values();
        let of_models = nodes.filter(|n| n.resource_type != ResourceType::Test);
        of_models.filter_map(|n| n.relation.clone()).collect()
    };
    let (here, there) = (relations(now), relations(before));
    let mut all = Vec::new();
    for name in here.intersection(&there) {
        let common = |lineage: &Lineage| -> BTreeSet<RelationName> {
            let readers = lineage.dependents(name).into_iter();
            readers
                .filter(|n| here.contains(n) && there.contains(n))
                .collect()
        };
        let (reads, read) = (common(now), common(before));
        for (reader, observed, expected) in reads
            .difference(&read)
            .map(|reader| (reader, "reads", "did not read it before"))
            .chain(
                read.difference(&reads)
                    .map(|reader| (reader, "no longer reads", "read it before")),
            )
        {
            all.push(finding(
                "lineage",
                reader,
                Severity::Low,
                format!("{observed} {name}"),
                expected.to_owned(),
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_type_loses_no_reader_anything() {
        for (from, to) in [
            ("INTEGER", "BIGINT"),
            ("DECIMAL(12,2)", "DECIMAL(18,2)"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("character varying(10)", "text"),
            ("FLOAT", "DOUBLE"),
        ] {
            assert!(widens(from, to), "{from} to {to}");
            assert!(!widens(to, from), "{to} to {from}");
        }
        assert!(!widens("INTEGER", "VARCHAR"));
        assert!(
            !widens("numeric(10,2)", "numeric(10,4)"),
            "fewer digits before the point"
        );
    }
}
