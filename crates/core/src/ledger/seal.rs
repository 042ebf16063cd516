//! Entries that become durable together with the change that they tell of.

use super::{
    entry::{Head, StoredEntry},
    lease::Fence,
};

/// Entries that are appended by whoever changes production, in the same transaction: where the
/// ledger lies in the warehouse itself, neither is ever there without the other.
#[derive(Debug, Clone)]
pub struct Seal {
    /// Where the log must end when they are appended.
    pub expected: Head,
    /// The lease that must still stand.
    pub fence: Option<Fence>,
    /// The entries, linked to `expected`.
    pub entries: Vec<StoredEntry>,
}

/// What became of a [`Seal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// Its entries are in the log, and so is what they tell of in the warehouse.
    Written,
    /// The log still ends where they would be appended.
    Open,
    /// Other entries came before: these can never be appended.
    Overtaken,
}
