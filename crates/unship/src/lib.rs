//! The binary's modules, as a library so that tests can reach them.

pub mod cli;
pub mod cmd;
pub mod config;
pub mod context;
pub mod dbt_job;
pub mod demo;
pub mod error;
pub mod git;
pub mod job;
pub mod pipeline;
pub mod refs;
pub mod render;
pub mod scope;
