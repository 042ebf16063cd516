//! Snowflake: reached by its SQL API; tables are swapped one by one, each swap journaled.

mod access;
mod build;
mod catalog;
pub mod client;
mod diff;
mod doctor;
mod engine;
mod facts;
mod hang;
pub mod layout;
mod measure;
mod observe;
mod order;
pub mod plan;
mod planner;
mod retained;
mod session;
pub mod sql;
mod survey;
mod view;

pub use build::Wanted;
pub use engine::Snowflake;

#[cfg(test)]
mod tests;
