//! A long history without a warehouse: what the ledger is measured with.

use crate::event::Event;
use crate::ident::{RelationName, ReleaseId};
use crate::log::{Ledger, LogError};
use crate::relation::{Column, Fingerprint, RelationKind, RelationState};
use crate::release::{Job, Operation, Version, VersionId};
use std::collections::BTreeMap;

/// How many releases are appended at once: one sync for all of them, and what they touch of the
/// file is written once.
const BATCH: u64 = 1000;

/// What a history is like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many relations there are.
    pub relations: u64,
    /// How many of them each release changes. The first one builds all.
    pub changes: u64,
}

impl Shape {
    /// The relations that a release changes, by number: always the next ones, in a circle.
    pub fn changed(&self, release: u64) -> impl Iterator<Item = u64> + '_ {
        let first = release * self.changes;
        let count = if release == 0 {
            self.relations
        } else {
            self.changes
        };
        (first..first + count).map(|n| n % self.relations)
    }

    /// The release that built a relation's version in a release.
    pub fn built_by(&self, relation: u64, release: u64) -> u64 {
        let back = (0..=release).rev();
        back.take_while(|r| *r > 0)
            .take(usize::try_from(self.relations / self.changes.max(1) + 1).unwrap_or(usize::MAX))
            .find(|r| self.changed(*r).any(|n| n == relation))
            .unwrap_or(0)
    }
}

/// A relation's name.
pub fn name(relation: u64) -> RelationName {
    RelationName::new("warehouse", "marts", format!("model_{relation:05}"))
}

/// Appends the releases from `from` up to and without `to`.
///
/// # Errors
/// The ledger's.
pub fn grow(ledger: &mut Ledger, shape: Shape, from: u64, to: u64) -> Result<(), LogError> {
    let mut events = Vec::new();
    for n in from..to {
        let release = ReleaseId(n);
        events.push(Event::ReleaseOpened {
            release,
            operation: Operation::Run {
                aside: true,
                replays: None,
            },
            parent: n.checked_sub(1).map(ReleaseId),
            job: Some(Job {
                command: vec!["dbt".to_owned(), "build".to_owned()],
                program: None,
                directory: "/srv/warehouse".to_owned(),
                pipeline: Some("dbt".to_owned()),
            }),
            code: None,
        });
        let changes = shape.changed(n).map(|r| (name(r), version(release, r)));
        events.push(Event::ReleasePublished {
            release,
            changes: changes.collect::<BTreeMap<_, _>>(),
            mark: format!("mark {n}"),
            moved: Default::default(),
        });
        if events.len() as u64 >= 2 * BATCH || n + 1 == to {
            ledger.append(&events)?;
            events.clear();
        }
    }
    Ok(())
}

/// A table of ten columns, as an engine would describe it.
fn version(release: ReleaseId, relation: u64) -> Version {
    let columns: Vec<_> = (0..10)
        .map(|i| Column {
            name: format!("column_{i}"),
            data_type: "DECIMAL(18,3)".to_owned(),
            nullable: i > 0,
        })
        .collect();
    let definition: Vec<_> = columns
        .iter()
        .map(|c| format!("{} {}", c.name, c.data_type))
        .collect();
    // Digits that do not repeat, as digests do not.
    let digest = |salt: u64| {
        let text = format!("{release} {relation} {salt}");
        let hash = blake3::hash(text.as_bytes());
        let mut word = [0; 16];
        word.iter_mut()
            .zip(hash.as_bytes())
            .for_each(|(w, b)| *w = *b);
        u128::from_le_bytes(word).to_string()
    };
    let sums = columns
        .iter()
        .zip(1..)
        .map(|(c, i)| (c.name.clone(), digest(i)));
    Version {
        id: VersionId { release, drift: 0 },
        owned: true,
        state: Some(RelationState {
            kind: RelationKind::Table,
            definition: format!(
                "CREATE TABLE model_{relation:05}({});",
                definition.join(", ")
            ),
            dependents: vec![name(relation + 1)],
            rows: Some(1000 + release.0),
            fingerprint: Some(Fingerprint {
                method: "sum-of-hashes-1".to_owned(),
                rows: 1000 + release.0,
                whole: digest(0),
                columns: sums.collect(),
            }),
            storage: Some(digest(99)),
            columns,
        }),
    }
}
