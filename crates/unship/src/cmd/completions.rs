//! `unship completions`

use crate::cli::{Cli, Completions};
use crate::error::{CliResult, exit};
use clap::CommandFactory;

/// Prints the script.
pub fn run(args: &Completions) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "unship", &mut script);
    crate::say!("{}", String::from_utf8_lossy(&script).trim_end());
    Ok(exit::OK)
}
