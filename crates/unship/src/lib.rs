//! The binary's modules, as a library so that tests can reach them.

/// Prints a line on standard output. A reader that has gone away (`unship log | head`) or a full
/// disk is no reason to stop half-way: the standard library's macro would panic.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stdout(), $($text)*);
    }};
}

/// The same on standard error.
#[macro_export]
macro_rules! say_aside {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stderr(), $($text)*);
    }};
}

pub mod acting;
pub mod aftermath;
pub mod cli;
pub mod cmd;
pub mod compare;
pub mod config;
pub mod context;
pub mod dbt_cloud;
pub mod dbt_job;
mod dbt_package;
pub mod dbt_staged;
pub mod deciding;
pub mod declared;
pub mod delta_config;
pub mod demo;
pub mod error;
pub mod estate_config;
pub mod git;
pub mod http;
pub mod iceberg_config;
pub mod job;
pub mod ledger_at;
pub mod loader;
pub mod notify;
pub mod permit;
pub mod pipeline;
pub mod quarantine;
pub mod refs;
pub mod render;
pub mod renewal;
pub mod report;
pub mod scope;
pub mod secrets;
pub mod signing;
pub mod snowflake_config;
pub mod turn;
pub mod worktree;
