//! Delta Lake tables: an older version becomes the newest one again, and no data is written.

mod act;
mod action;
mod bucket;
mod commit;
mod dir;
mod doctor;
mod engine;
mod features;
mod files;
mod foreign;
pub mod kept;
mod lake;
mod log;
mod plan;
mod point;
mod reader;
mod state;
mod threads;

pub use dir::Dir;
pub use engine::{Delta, Settings};
