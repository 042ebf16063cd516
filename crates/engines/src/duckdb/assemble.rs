//! Restoring chosen relations: in a clone of production, never in production itself. Readers go on
//! undisturbed, the old file stays what it is, and what has been assembled is proved before a
//! rename makes it production.

use super::file;
use super::layout::{DbFile, with_suffix};
use super::plan::Source;
use super::retained::clear;
use super::sessions::Sessions;
use super::sql::others::{self, Added};
use super::sql::restore::{self, RestoreError, Restored};
use super::sql::rows;
use super::worker::Open;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::fault::boundary;
use unship_core::ident::RelationName;

/// The catalog name that a source is attached under.
const SOURCE: &str = "unship_source";

/// How the name of the folder ends in which a file is assembled.
pub(super) const UNFINISHED: &str = ".assembling";

/// Where the file `to` is assembled. DuckDB names the catalog after the file, so the unfinished one
/// lies in a folder of its own.
pub(super) fn bench(to: &Path) -> PathBuf {
    let folder = with_suffix(to.parent().unwrap_or(to), UNFINISHED);
    folder.join(to.file_name().unwrap_or_default())
}

/// What a file is assembled of, beside what it is a clone of.
pub(super) struct Content<'a> {
    /// What is brought.
    pub(super) sources: &'a [Source],
    /// What is removed.
    pub(super) remove: &'a BTreeSet<RelationName>,
    /// What others added to relations that are brought.
    pub(super) keep: &'a BTreeMap<RelationName, Added>,
}

/// Makes the file `to`: a clone of `base` (production, or a build) with `sources`' relations brought
/// in and `remove` removed, one transaction a source. Under its final name it is whole or not there.
pub(super) fn assemble(
    sessions: &mut Sessions,
    file: &DbFile,
    base: &Path,
    to: &Path,
    content: &Content<'_>,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let Content {
        sources,
        remove,
        keep,
    } = *content;
    let bench = bench(to);
    clear(&bench)?;
    file::clone(base, &bench, on)?;
    boundary("assemble cloned");

    let mut removals = remove.clone();
    let nothing = Source {
        path: file.path.clone(),
        relations: Default::default(),
    };
    let only_removals = [nothing];
    let sources = if sources.is_empty() {
        &only_removals
    } else {
        sources
    };
    for (n, source) in sources.iter().enumerate() {
        on("restoring relations", n as u64, sources.len() as u64);
        let removed = std::mem::take(&mut removals);
        restore_from(sessions, &bench, source, &removed)?;
        boundary("assemble restored");
    }
    for (name, added) in keep {
        put_again(sessions, &bench, file, name, added)?;
        boundary("assemble kept");
    }
    if file::has_wal(&bench)? {
        sessions.checkpoint(&bench)?;
    }
    file::sync_file(&bench)?;
    file::make_parent(to)?;
    boundary("assemble checkpointed");
    file::rename(&bench, to)?;
    boundary("assemble named");
    clear(&bench)
}

/// Puts what others added to a relation into the version of it that was brought, and makes sure that
/// it is what was planned.
fn put_again(
    sessions: &mut Sessions,
    bench: &Path,
    file: &DbFile,
    name: &RelationName,
    added: &Added,
) -> Result<(), EngineError> {
    let worker = sessions.must_open(Open::writable(bench).with(&file.path, SOURCE))?;
    let under = |database: &str| RelationName {
        database: database.to_owned(),
        ..name.clone()
    };
    let (relation, now) = (under(worker.database()), under(SOURCE));
    others::put(worker, &relation, &now, added)?;
    let whole = rows::whole(worker, &relation)?;
    worker.close()?;
    if whole == added.after {
        return Ok(());
    }
    let text = format!("{name} with what others added would not be what was planned");
    Err(EngineError::new(ErrorKind::Refused, text).hint("make a new plan"))
}

fn restore_from(
    sessions: &mut Sessions,
    bench: &Path,
    source: &Source,
    remove: &BTreeSet<RelationName>,
) -> Result<(), EngineError> {
    let worker = sessions.must_open(Open::writable(bench).with(&source.path, SOURCE))?;
    let catalog = worker.database().to_owned();
    // Names are recorded under the alias that jobs use; here the catalog is named after the file.
    let here = |name: &RelationName| RelationName {
        database: catalog.clone(),
        ..name.clone()
    };
    let bring: BTreeSet<RelationName> = source.relations.keys().map(here).collect();
    let remove: BTreeSet<RelationName> = remove.iter().map(here).collect();
    let plan = restore::plan(worker, SOURCE, &bring, &remove)?;
    let Restored { proved, broken } = restore::apply(worker, &plan)?;
    for (name, recorded) in &source.relations {
        let (Some(recorded), Some(proved)) = (recorded, proved.get(&here(name))) else {
            continue;
        };
        if recorded.method == proved.method && recorded != proved {
            return Err(EngineError::new(
                ErrorKind::Corrupt,
                format!(
                    "the restore point {} does not hold {name} as it was recorded",
                    source.path.display()
                ),
            )
            .hint("`unship fsck` checks the restore points"));
        }
    }
    if let Some((view, why)) = broken.first() {
        return Err(EngineError::new(
            ErrorKind::Refused,
            format!("the view {view} could not be read any more: {why}"),
        )
        .hint("select it too, or change it first"));
    }
    worker.close()?;
    Ok(())
}

impl From<RestoreError> for EngineError {
    fn from(error: RestoreError) -> Self {
        let kind = match &error {
            RestoreError::Refused(_) => ErrorKind::Refused,
            RestoreError::Differs { .. } => ErrorKind::Corrupt,
            RestoreError::Statement { .. } | RestoreError::InDoubt(_) | RestoreError::Worker(_) => {
                ErrorKind::Query
            }
        };
        let text = error.to_string();
        let hint = match &error {
            RestoreError::Refused(_) => {
                "what belongs to others is not restored along: let them drop that foreign key or \
                 relation first"
            }
            _ => "`unship fsck` checks the restore points; try again, or restore more at once",
        };
        EngineError::new(kind, text).hint(hint)
    }
}
