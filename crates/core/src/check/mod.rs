//! Checks: what is looked at in a release before, or right after, it becomes production, and what
//! was found.

pub(crate) mod access;
pub mod automatic;
pub mod bounds;
pub mod dbt;
pub mod declared;
mod finding;
pub mod gate;
mod profile;
pub mod sql;

pub use access::{Access, Right};
pub use finding::{Examples, Finding, Outcome, Severity};
pub use gate::{Ruling, Tally};
pub use profile::{Answer, ColumnProfile, Detail, RelationProfile, Values};
