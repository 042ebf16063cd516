//! Iceberg: the suite over a catalog in memory, faults on the way to it, and a real catalog with an
//! independent writer.

mod aside;
mod catalog;
mod client;
mod dropped;
mod faults;
mod keep;
mod meanwhile;
mod order;
mod renames;
mod requests;
mod retention;
mod rows;
mod server;
mod spark;
mod suite;

pub(super) use suite::Jobs;

/// A catalog in memory that commits several tables at once.
pub(super) fn lake(jobs: Jobs) -> Box<dyn unship_core::testing::world::Harness> {
    Box::new(suite::Lake::new(server::Manner::default(), jobs))
}
