//! unship: production rollbacks for data warehouses.

use clap::Parser;
use std::process::ExitCode;
use unship::cli::Cli;
use unship::cmd;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    match cmd::dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if json {
                unship::say!("{:#}", error.json());
            } else {
                unship::say_aside!("{}", error.render().trim_end());
            }
            ExitCode::from(error.code)
        }
    }
}
