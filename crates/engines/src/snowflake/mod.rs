//! Snowflake: reached by its SQL API; tables are swapped one by one, or whole
//! schemas, each swap journaled.

mod access;
mod build;
mod catalog;
pub mod client;
mod diff;
mod doctor;
mod engine;
mod exchange;
mod facts;
mod hang;
mod inside;
pub mod layout;
mod level;
mod measure;
mod observe;
mod order;
pub mod plan;
mod planner;
mod point;
mod retained;
mod rights;
mod session;
pub mod sql;
mod survey;
mod tables;
mod unanswered;
mod view;
mod views;
mod whole;

pub use build::Wanted;
pub use engine::Snowflake;
pub use level::Level;

#[cfg(test)]
mod tests;
