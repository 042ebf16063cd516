//! The pack store: older restore points of database files, as content-addressed chunks.
//!
//! It never opens a file with a DuckDB library, so it works for every DuckDB version and for
//! encrypted files, and it knows nothing of releases: a *point* is whatever name the caller gives.
//!
//! ```text
//! store/format                        version of the store
//! store/lock                          held by the one writer
//! store/packs/<digest>.pack           chunks, each once
//! store/points/<point>@<label>.point  which chunks make which file
//! ```
//! Every file is written under an unfinished name, synced, renamed, and its folder synced, the point
//! last: after a crash at any moment the store holds exactly the points whose snapshot had returned,
//! and perhaps files that nothing refers to, which [`StoreWriter::gc`] removes. Readers need no lock.

mod chunk;
mod codec;
mod durable;
mod error;
mod fsck;
mod gc;
mod identity;
mod index;
mod open;
mod pack;
mod packer;
mod parallel;
mod patch;
mod point;
mod reader;
mod restore;
mod room;
mod snapshot;
#[cfg(test)]
mod tests;

pub use chunk::ChunkId;
pub use error::{Problem, Result, StoreError};
pub use fsck::Finding;
pub use gc::GcReport;
pub use identity::FileIdentity;
pub use open::{Store, StoreWriter};
pub use pack::{Entry, PackIndex, parse as parse_pack};
pub use patch::{PatchPhase, PatchReport};
pub use point::{Point, PointInfo};
pub use reader::{Points, StoreSize};
pub use restore::RestoreReport;
pub use snapshot::SnapshotReport;

/// How far long work has come. A job may make several passes, each with a total of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What this pass does, as a word for a person: `reading`, `writing`, `checking`.
    pub doing: &'static str,
    /// Bytes done in this pass.
    pub done: u64,
    /// Bytes in this pass.
    pub total: u64,
}
