//! The undo log: what changed in a table that jobs and loaders write where it stands.
//!
//! Statement triggers write down each row that a statement removed or added, in the transaction that
//! did it. A table as it was at an earlier moment is then the table of now, without the rows that
//! were added since and with those that were removed: sums of rows, so that it does not matter in
//! which order transactions that ran at once are taken back. ADR 21 has the argument.

mod back;
mod brief;
mod capture;
pub mod facts;
mod guard;
mod home;
mod known;
mod logs;
mod moments;
pub mod others;
mod position;
mod run;
mod shape;
pub mod slice;
mod steps;
mod trim;
pub mod worth;

pub(crate) use back::REFUSED;
pub use back::{Scope, Statements, Target, statements};
pub use guard::{Guarded, ensure, remove};
pub use home::SCHEMA;
pub use known::{Known, known};
pub use logs::{Log, examine};
pub use moments::{changes, moments};
pub use position::{Position, positions, unchanged};
pub use run::{happened, run};
pub use steps::planned;
pub use trim::trim;
