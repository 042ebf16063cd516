//! Where a relation says by itself that it is the one that was looked at.

use crate::ident::RelationName;
use std::collections::BTreeSet;

/// Where a relation's `storage` proves that it is the very same one with the very same rows
/// ([`Capabilities::proves_identity`](super::Capabilities)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Proving {
    /// Nowhere: only the file that holds it says so.
    #[default]
    Nowhere,
    /// In these databases, and not in the others.
    In(BTreeSet<String>),
    /// Everywhere.
    Everywhere,
}

impl Proving {
    /// Whether this relation's does.
    pub fn at(&self, relation: &RelationName) -> bool {
        match self {
            Self::Nowhere => false,
            Self::In(databases) => databases.contains(&relation.database),
            Self::Everywhere => true,
        }
    }

    /// Whether any relation's does.
    pub fn anywhere(&self) -> bool {
        *self != Self::Nowhere
    }
}
