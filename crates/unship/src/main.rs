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
                anstream::println!("{:#}", error.json());
            } else {
                anstream::eprint!("{}", error.render());
            }
            ExitCode::from(error.code)
        }
    }
}
