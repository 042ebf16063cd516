//! `unship verify`

use crate::cli::{Global, Verify};
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::refs;
use crate::render::{json, text};
use serde::Serialize;
use unship_core::ident::ReleaseId;
use unship_core::operate::{Proof, count};

#[derive(Serialize)]
struct Document<'a> {
    release: ReleaseId,
    equal: usize,
    foreign: usize,
    differences: std::collections::BTreeMap<String, &'a str>,
}

/// Proves that production is what a release recorded.
pub fn run(global: &Global, args: &Verify) -> CliResult {
    let context = Context::find(global)?;
    let mut bench = context.look()?;
    let release = refs::release(&bench.ledger, &args.release)?.id;
    let proof = prove(&mut bench, release)?;
    if global.json {
        json("unship.verify/1", &document(&proof))?;
    }
    report(&proof, global.json)
}

/// Compares production with a release.
pub fn prove(bench: &mut Workbench, release: ReleaseId) -> CliResult<Proof> {
    let proof = bench.session().verify(release)?;
    bench.terminal.finish();
    Ok(proof)
}

/// The proof, or its failure, in words.
pub fn report(proof: &Proof, quiet: bool) -> CliResult {
    if !proof.differences.is_empty() {
        let list: Vec<_> = proof
            .differences
            .iter()
            .map(|(name, what)| format!("{name} {what}"))
            .collect();
        return Err(CliError::new(
            exit::NOT_PROVED,
            format!(
                "production is not what {} recorded: {}",
                proof.release,
                list.join("; ")
            ),
        )
        .production("as it was found; verifying changes nothing")
        .hint("`unship plan` shows what others wrote; `unship rollback` goes back"));
    }
    if !quiet {
        crate::say!(
            "{} {} equal to what {} recorded, row by row; {} belong to others and are as they are now",
            text::paint(text::GOOD, count(proof.equal, "relation")),
            if proof.equal == 1 { "is" } else { "are" },
            proof.release,
            proof.foreign,
        );
    }
    Ok(exit::OK)
}

fn document(proof: &Proof) -> Document<'_> {
    let differences = proof
        .differences
        .iter()
        .map(|(n, what)| (n.to_string(), what.as_str()))
        .collect();
    Document {
        release: proof.release,
        equal: proof.equal,
        foreign: proof.foreign,
        differences,
    }
}
