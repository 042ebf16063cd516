//! `unship demo`
use crate::cli::{Demo, Global};
use crate::error::CliResult;
/// Plays it.
pub fn run(_: &Global, _: &Demo) -> CliResult {
    Ok(0)
}
