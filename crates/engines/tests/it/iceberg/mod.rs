//! Iceberg: the suite over a catalog in memory, faults on the way to it, and a real catalog with an
//! independent writer.

mod aside;
mod catalog;
mod client;
mod faults;
mod order;
mod requests;
mod retention;
mod rows;
mod server;
mod suite;
