//! Checks that nobody has to write: a release against the last good ones.
//!
//! What a relation is made from explains how it changes. Raw data grows every night, sometimes by
//! half, and what is built from it grows with it: that is no news. What is compared is therefore a
//! relation's change with the changes of the row counts of all that it is made from and that no job
//! builds (its *inputs*): whatever lies between no change at all and the largest change among the
//! inputs is explained. A join that doubles the revenue is not: nothing that it reads has doubled.

mod columns;
mod inputs;
mod speed;
mod structure;
mod time;
mod volume;

use super::bounds::Scale;
use super::profile::{RelationProfile, Values};
use super::sql;
use super::{Finding, Outcome, Severity};
use crate::ident::{RelationName, ReleaseId};
use crate::lineage::Lineage;
use crate::pipeline::dbt::manifest::ResourceType;
use crate::release::Version;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// How a relation was in a good release.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The release.
    pub release: ReleaseId,
    /// When it was measured.
    pub at: Timestamp,
    /// What was measured.
    pub profile: RelationProfile,
}

/// What a release is compared with, and by.
pub struct Comparison<'a> {
    /// What was measured now, of every relation that changed and has rows.
    pub now: &'a BTreeMap<RelationName, RelationProfile>,
    /// How they were in good releases, the newest first.
    pub past: &'a BTreeMap<RelationName, Vec<Past>>,
    /// When this is.
    pub at: Timestamp,
    /// What the release changes.
    pub changes: &'a BTreeMap<RelationName, Version>,
    /// What stood before it.
    pub before: &'a BTreeMap<RelationName, Version>,
    /// What the job built.
    pub built: &'a BTreeSet<RelationName>,
    /// The lineage of this release, where it is known.
    pub lineage: Option<&'a Lineage>,
    /// The lineage of the last good release.
    pub lineage_before: Option<&'a Lineage>,
}

/// Everything that can be found without asking the warehouse again, what is upstream first.
pub fn findings(comparison: &Comparison<'_>) -> Vec<Finding> {
    let mut all = structure::findings(comparison);
    all.extend(inputs::findings(comparison));
    let none = Vec::new();
    for (name, now) in comparison.now {
        let past = comparison.past.get(name).unwrap_or(&none);
        let keys = keys(comparison.lineage, name);
        let one = Measured {
            name,
            now,
            past,
            at: comparison.at,
            keys: &keys,
            traced: comparison.lineage.is_some() && !now.inputs.is_empty(),
            keeps_history: comparison.lineage.is_some_and(|lineage| {
                let mut nodes = lineage.nodes_of(name);
                nodes.any(|node| node.resource_type == ResourceType::Snapshot)
            }),
        };
        all.extend(volume::findings(&one));
        all.extend(columns::findings(&one));
        all.extend(time::findings(&one));
        all.extend(speed::findings(&one));
    }
    let order = order(comparison.lineage);
    let place = |finding: &Finding| {
        let relation = finding.relation.as_ref();
        relation.and_then(|name| order.get(name).copied())
    };
    all.sort_by_key(|finding| place(finding).unwrap_or(usize::MAX));
    all
}

/// Where each relation comes in an order in which all come after what they read.
pub(super) fn order(lineage: Option<&Lineage>) -> BTreeMap<RelationName, usize> {
    let mut order = BTreeMap::new();
    let Some(lineage) = lineage else { return order };
    let nodes = lineage.topological_order().unwrap_or_default();
    for (at, id) in nodes.into_iter().enumerate() {
        let node = lineage.manifest().nodes.get(id);
        if let Some(relation) = node.and_then(|node| node.relation.clone()) {
            order.entry(relation).or_insert(at);
        }
    }
    order
}

/// The columns that identify rows, here or elsewhere: their sums and means mean nothing.
fn keys(lineage: Option<&Lineage>, relation: &RelationName) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let Some(lineage) = lineage else { return keys };
    let manifest = lineage.manifest();
    for node in lineage.nodes_of(relation) {
        keys.extend(manifest.key_of(&node.unique_id).unwrap_or_default());
        let tests = manifest.nodes.values().filter_map(|n| n.test.as_ref());
        for test in tests.filter(|t| t.attached_node.as_deref() == Some(&node.unique_id)) {
            if matches!(test.name.as_deref(), Some("unique" | "relationships")) {
                keys.extend(test.column.clone());
            }
        }
    }
    keys
}

/// One relation now and in good releases.
struct Measured<'a> {
    name: &'a RelationName,
    now: &'a RelationProfile,
    past: &'a [Past],
    at: Timestamp,
    keys: &'a BTreeSet<String>,
    /// Whether it is known what it is made from.
    traced: bool,
    /// Whether it keeps what things were like: its rows grow with how often they change.
    keeps_history: bool,
}

/// How many good releases tell by themselves how a relation changes.
const LONG: usize = 5;

/// Three quarters more, or as much less, that nothing explains: the logarithm of the ratio.
const RUIN: f64 = 0.56;

/// A figure that never moved further than this, beyond what its inputs explain, is steady.
const STEADY: f64 = 0.1;

impl Measured<'_> {
    /// The newest good release.
    fn last(&self) -> Option<&Past> {
        self.past.first()
    }

    /// What the inputs explain of the change since the newest good release.
    fn scale(&self) -> Scale {
        self.last()
            .map_or(Scale::NONE, |last| explained(&last.profile, self.now))
    }

    /// The absolute sizes of earlier changes of something, as far as the inputs of then do not
    /// explain them.
    fn earlier(&self, of: impl Fn(&RelationProfile) -> Option<f64>) -> Vec<f64> {
        self.past
            .windows(2)
            .filter_map(|pair| {
                let [newer, older] = pair else { return None };
                let scale = explained(&older.profile, &newer.profile);
                let (now, before) = (of(&newer.profile)?, of(&older.profile)?);
                super::bounds::departure(before.abs(), now.abs(), scale).map(f64::abs)
            })
            .collect()
    }

    /// How bad a change is by its size. With a short history, and nothing known of what a relation
    /// is made from, nothing tells a defect from a relation that always changes like that: no
    /// release is held for it.
    fn severity(&self, far: f64, limits: super::bounds::Limits) -> Option<Severity> {
        let sure = self.traced || self.past.len() >= LONG;
        if far.abs() > limits.gross && sure {
            Some(Severity::High)
        } else if far.abs() > limits.odd {
            Some(Severity::Medium)
        } else {
            None
        }
    }

    /// How far a change has to go to be no night's work, however large the night.
    fn ruin(&self) -> f64 {
        RUIN + self.slack()
    }

    /// Whether changes of a figure, as far as nothing explained them, were always small.
    fn steady(&self, earlier: &[f64]) -> bool {
        let limit = STEADY + self.slack();
        !earlier.is_empty() && earlier.iter().all(|far| *far <= limit)
    }

    /// What explains a change, in words.
    fn because(&self, scale: Scale) -> String {
        match (self.traced, scale == Scale::NONE) {
            (true, true) => "what it is made from did not change in size".to_owned(),
            (false, true) => "about what it was before".to_owned(),
            _ => because(scale),
        }
    }

    /// How many of the good releases have something, from the newest on without a gap.
    fn known<T>(&self, of: impl Fn(&RelationProfile) -> Option<T>) -> usize {
        let has = |past: &&Past| of(&past.profile).is_some();
        self.past.iter().take_while(has).count()
    }

    /// What chance does to a figure over so few rows. A long history shows most of it by itself.
    fn slack(&self) -> f64 {
        let part = if self.past.len() >= LONG { 0.3 } else { 1.0 };
        part / (self.now.rows.max(1) as f64).sqrt()
    }

    fn is_key(&self, column: &str) -> bool {
        let name = column.to_lowercase();
        let named = name == "id"
            || ["_id", "_key", "_sk", "_fk"]
                .iter()
                .any(|end| name.ends_with(end));
        named || self.keys.iter().any(|key| key.to_lowercase() == name)
    }

    fn finding(
        &self,
        check: &str,
        column: Option<&str>,
        (outcome, severity): (Outcome, Severity),
        observed: String,
        expected: String,
    ) -> Finding {
        Finding {
            check: check.to_owned(),
            relation: Some(self.name.clone()),
            column: column.map(str::to_owned),
            outcome,
            severity,
            observed,
            expected,
            examples: None,
            sql: (outcome == Outcome::Fail)
                .then(|| sql::figures(self.name, column, self.numbers(column))),
        }
    }

    fn numbers(&self, column: Option<&str>) -> bool {
        let column = column.and_then(|name| self.now.column(name));
        column.is_some_and(|c| matches!(c.values, Some(Values::Numbers { .. })))
    }

    fn pass(&self, check: &str, observed: String) -> Finding {
        let expected = "as in the last good releases".to_owned();
        let passed = (Outcome::Pass, Severity::Low);
        self.finding(check, None, passed, observed, expected)
    }

    fn too_early(&self, check: &str) -> Finding {
        let observed = match self.past.len() {
            0 => "no earlier good release has it".to_owned(),
            _ => "one earlier good release has it".to_owned(),
        };
        let expected = format!(
            "at least {} good releases to compare with",
            super::bounds::ENOUGH
        );
        let unknown = (Outcome::Unknown, Severity::Low);
        self.finding(check, None, unknown, observed, expected)
    }
}

/// What the inputs of two moments explain.
///
/// An input that is new explains more rows only where the rows are of more things: the rows of a
/// join that fans out grow, and the different values of what had identified a row do not (but for a
/// key that the model itself makes up for each row).
fn explained(before: &RelationProfile, now: &RelationProfile) -> Scale {
    let mut scale = Scale::NONE;
    for (name, rows) in &now.inputs {
        if let Some(then) = before.inputs.get(name) {
            scale = scale.with(*rows as f64 / (*then).max(1) as f64);
        }
    }
    let more = now
        .inputs
        .keys()
        .any(|name| !before.inputs.contains_key(name));
    let total = |of: &RelationProfile| of.inputs.values().sum::<u64>() as f64;
    if more && total(before) > 0.0 && rows_are_of_more_things(before, now) {
        scale = scale.with(total(now) / total(before));
    }
    scale
}

fn rows_are_of_more_things(before: &RelationProfile, now: &RelationProfile) -> bool {
    let (growth, identifying) = growth_of_things(before, now);
    !identifying.is_empty() && identifying.iter().all(|more| *more > 0.75 * growth)
}

/// Whether there are more rows of no more things.
fn same_things_more_often(before: &RelationProfile, now: &RelationProfile) -> bool {
    let (growth, identifying) = growth_of_things(before, now);
    identifying.iter().any(|more| *more <= 0.75 * growth)
}

/// By how much the rows grew, and by how much the different values of each column that had
/// identified nearly all of them.
fn growth_of_things(before: &RelationProfile, now: &RelationProfile) -> (f64, Vec<f64>) {
    let growth = now.rows as f64 / before.rows.max(1) as f64;
    let identifying = before
        .columns
        .iter()
        .filter_map(|column| {
            let most = 0.7 * before.rows as f64;
            let then = column.distinct.filter(|d| *d as f64 > most)?;
            let here = now.column(&column.name)?.distinct?;
            Some(here as f64 / then as f64)
        })
        .collect();
    (growth, identifying)
}

/// A ratio in words.
fn times(ratio: f64) -> String {
    if ratio >= 1.995 {
        format!("{ratio:.1} times")
    } else if ratio >= 1.0 {
        format!("{:.0} % more than", (ratio - 1.0) * 100.0)
    } else {
        format!("{:.0} % less than", (1.0 - ratio) * 100.0)
    }
}

/// What the inputs explain, in words.
fn because(scale: Scale) -> String {
    let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    if scale.low == 1.0 {
        format!(
            "what it is made from grew by at most {}",
            percent(scale.high)
        )
    } else {
        let (low, high) = (percent(scale.low), percent(scale.high));
        format!("what it is made from changed in size by {low} to {high}")
    }
}

/// A figure with as many digits as a person wants to read.
fn figure(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 {
        grouped(value)
    } else if size >= 1000.0 {
        grouped(value.round())
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
