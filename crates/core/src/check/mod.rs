//! Checks: what is looked at in a release before, or right after, it becomes production, and what
//! was found.

mod finding;

pub use finding::{Examples, Finding, Outcome, Severity};
