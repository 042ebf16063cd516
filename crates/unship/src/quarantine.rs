//! Whether the code that a job is about to run is in quarantine.

use crate::config;
use crate::context::{Context, Workbench};
use crate::deciding::findings_of;
use crate::error::{CliError, CliResult, exit};
use crate::render::text;
use crate::{git, scope};
use jiff::Timestamp;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use unship_core::check::Outcome;
use unship_core::execute::{Notice, Watch};
use unship_core::ident::RelationName;
use unship_core::lineage::{Direction, Lineage};
use unship_core::log::Ledger;

use unship_core::quarantine::Quarantine;

/// What a dbt project's models depend on beside their own files.
const SHARED: [&str; 6] = [
    "dbt_project.yml",
    "packages.yml",
    "dependencies.yml",
    "package-lock.yml",
    "macros",
    "seeds",
];

/// Refuses code that built a release which was rolled back, and code that comes after it and does
/// not change what it is blamed for. Jobs of another kind than the one that built it go on: that a
/// dbt build was taken back is no reason to stop the loaders that live in the same repository.
pub fn check(
    context: &Context,
    bench: &Workbench,
    dir: &Path,
    pipeline: Option<&str>,
) -> CliResult<()> {
    let ledger = &bench.ledger;
    let held = ledger.history(|h| h.quarantine(&context.env))?;
    if held.is_empty() {
        return Ok(());
    }
    let Some(code) = git::code(dir) else {
        return Ok(());
    };
    for one in &held {
        let built = ledger.history(|h| h.release(one.release))?;
        let kind = built
            .as_ref()
            .and_then(|r| r.job.as_ref())
            .map(|j| j.pipeline.as_deref());
        if kind.is_some_and(|kind| kind != pipeline) {
            continue;
        }
        match git::comes_after(dir, &one.commit) {
            Some(true) => {}
            Some(false) => continue,
            None => {
                let text = format!(
                    "commit {} is in quarantine, and this clone does not reach back far enough to \
                     tell whether {} comes after it",
                    short(&one.commit),
                    short(&code.commit)
                );
                bench.terminal.notice(Notice::Note(&text));
                continue;
            }
        }
        let (at, files) = files(context, ledger, dir, one)?;
        if git::unchanged_since(&at, &one.commit, &files) {
            return Err(refused(&code.commit, one));
        }
    }
    Ok(())
}

/// The first digits of a commit.
pub fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

fn refused(head: &str, one: &Quarantine) -> CliError {
    let held = short(&one.commit);
    let since = format!(
        "it built {}, which {} took back {} ({})",
        one.release,
        one.by,
        text::ago(one.since, Timestamp::now()),
        text::moment(one.since)
    );
    let message = match head == one.commit {
        true => format!("commit {held} is in quarantine: {since}"),
        false => format!(
            "commit {} comes after {held}, which is in quarantine ({since}), and changes nothing \
             of what {held} is blamed for: {}",
            short(head),
            blamed(&one.blamed)
        ),
    };
    CliError::new(exit::QUARANTINED, message).hint(format!(
        "fix it and commit, or go back to other code; `unship quarantine lift {held} --reason \
         TEXT` lets it run as it is"
    ))
}

/// The first few, and how many there are beside.
pub fn blamed(relations: &BTreeSet<RelationName>) -> String {
    let mut names: Vec<_> = relations.iter().take(3).map(ToString::to_string).collect();
    if let Some(more) = relations.len().checked_sub(3).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    match names.is_empty() {
        true => "all of it".to_owned(),
        false => names.join(", "),
    }
}

/// The files that a fix would change, and the directory that their paths are relative to: those of
/// the models that are blamed; of a job without a lineage, all in the directory that it ran in.
fn files(
    context: &Context,
    ledger: &Ledger,
    dir: &Path,
    one: &Quarantine,
) -> CliResult<(PathBuf, Vec<String>)> {
    let whole = (dir.to_owned(), vec![".".to_owned()]);
    let Some(section) = &context.config.dbt else {
        return Ok(whole);
    };
    let Some(manifest) = scope::manifest(ledger, one.release)? else {
        return Ok(whole);
    };
    let lineage = Lineage::new(manifest);
    let project = &lineage.manifest().project;
    let ids = suspects(ledger, &lineage, one)?;
    let mut files: Vec<String> = SHARED.map(str::to_owned).into();
    for node in ids.iter().filter_map(|id| lineage.manifest().nodes.get(id)) {
        // A package's files are not the project's; which packages there are is in a file that is.
        if node.package != *project {
            continue;
        }
        files.push(node.original_file_path.clone());
        let patch = node.patch_path.as_deref().and_then(|p| p.split_once("://"));
        files.extend(patch.map(|(_, path)| path.to_owned()));
    }
    Ok((context.root.join(&section.project_dir), files))
}

/// The nodes that may have made it bad: what failed and what that was built from, as far as the
/// rollback took it back; all of that where no check says what failed.
fn suspects(ledger: &Ledger, lineage: &Lineage, one: &Quarantine) -> CliResult<BTreeSet<String>> {
    let found = findings_of(ledger, one.release)?.unwrap_or_default();
    let failed: BTreeSet<_> = found
        .into_iter()
        .filter(|finding| finding.outcome == Outcome::Fail)
        .filter_map(|finding| finding.relation)
        .filter(|relation| one.blamed.contains(relation))
        .collect();
    let start = match failed.is_empty() {
        true => &one.blamed,
        false => &failed,
    };
    let ids = start.iter().flat_map(|relation| lineage.nodes_of(relation));
    let ids: BTreeSet<_> = ids.map(|node| node.unique_id.as_str()).collect();
    let mut all = lineage.closure(ids, Direction::Incoming);
    all.retain(|id| {
        let node = lineage.manifest().nodes.get(id);
        node.and_then(|node| node.relation.as_ref())
            .is_none_or(|relation| one.blamed.contains(relation))
    });
    Ok(all)
}

/// The one that a person means by its first digits.
pub fn named(held: Vec<Quarantine>, digits: &str) -> CliResult<Quarantine> {
    let mut fits: Vec<_> = held
        .into_iter()
        .filter(|one| digits.len() >= 4 && one.commit.starts_with(digits))
        .collect();
    match (fits.pop(), fits.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(CliError::usage(format!(
            "more than one commit in quarantine begins with {digits}"
        ))),
        (None, _) => Err(CliError::new(
            exit::NOTHING,
            format!("no commit that begins with `{digits}` is in quarantine"),
        )
        .hint(format!(
            "`unship quarantine list` shows those of the environment, which {} or --env names",
            config::FILE
        ))),
    }
}
