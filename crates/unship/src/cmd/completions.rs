//! `unship completions`

use crate::cli::{Cli, Completions};
use crate::error::{CliResult, exit};
use clap::CommandFactory;

/// Prints the script.
pub fn run(args: &Completions) -> CliResult {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "unship",
        &mut std::io::stdout(),
    );
    Ok(exit::OK)
}
