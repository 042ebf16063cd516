//! A dbt-postgres or dbt-snowflake build, sent to staging schemas beside production.
//!
//! Only the target's schema is changed, in a generated profile; which relation that makes of each
//! node is not guessed but read from dbt's own manifests of the project, one under either profile.

pub mod clones;
pub mod code;
pub mod dbt;
pub mod join;
pub mod naming;
pub mod overlay;
pub mod profile;
pub mod scan;
pub mod state;

pub use clones::{Prior, Reason};
pub use code::Code;
pub use join::{Escape, Joined, Way, join};
pub use naming::Naming;

use std::collections::{BTreeMap, BTreeSet};
use unship_core::ident::RelationName;

/// What comes before a production schema's name in the name of the schema where it is built.
pub const PREFIX: &str = "unship_build_";

/// PostgreSQL cuts longer names off without a word.
pub const LONGEST_NAME: usize = 63;

/// Where a job's relations are built, and what they stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// How the warehouse names things.
    pub naming: Naming,
    /// Staging schemas, and the production schema that each stands for. Hooks may make more of
    /// them: any schema whose name begins with the prefix stands for the rest of its name.
    pub schemas: BTreeMap<String, String>,
    /// Staging relations, and the production relation that each stands for: every model, seed,
    /// snapshot and test of the project, built by this job or not.
    pub relations: BTreeMap<RelationName, RelationName>,
    /// What must be in staging before the job starts, because the job goes on from it.
    pub clones: Vec<Prior>,
    /// Sources that the job looks for in staging: the staging name has to be a view of the
    /// production relation while the job runs. Such a view is never published.
    pub views: BTreeMap<RelationName, RelationName>,
    /// The production relations that the command's selection builds; `None` where the command is
    /// not known and may build any.
    pub selected: Option<BTreeSet<RelationName>>,
    /// What a person should know before the job starts, each a sentence.
    pub warnings: Vec<String>,
}

impl Redirect {
    /// Warnings about compiled SQL that names a relation in production which this job builds anew:
    /// it has computed from what was live, not from what was built.
    pub fn spelled_out(&self, manifest: &[u8]) -> Vec<String> {
        let Ok(code) = Code::parse(manifest) else {
            return Vec::new();
        };
        let built: BTreeSet<(String, String)> = self
            .relations
            .values()
            .filter(|relation| self.selected.as_ref().is_none_or(|s| s.contains(relation)))
            .map(|relation| (relation.schema.clone(), relation.name.clone()))
            .collect();
        let mut found = Vec::new();
        for (id, node) in &code.nodes {
            for (schema, name) in scan::mentions(node.compiled(), &built, self.naming) {
                found.push(format!(
                    "{} reads {schema}.{name} by that name and not by `ref`: it was computed from \
                     what was live before, while this run built {name} anew",
                    short(id)
                ));
            }
        }
        found
    }
}

/// A node's name without its sort and package.
pub fn short(unique_id: &str) -> &str {
    unique_id.splitn(3, '.').nth(2).unwrap_or(unique_id)
}
