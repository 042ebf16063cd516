//! Restore points: taken, proved, dropped.

use super::commit;
use super::features;
use super::kept::{self, Kept, KeptRelation, Store};
use super::lake::Lake;
use super::log::Log;
use super::reader::{Reader, Version};
use super::state::{self, Seen};
use std::collections::BTreeMap;
use std::sync::Arc;
use unship_core::engine::{
    Diagnosis, EngineError, ErrorKind, Housekeeping, Level, OnProgress, RestoreRequest, Retention,
};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};

/// Where tables lie, and what reads them.
pub struct Eyes<'a> {
    /// Where tables lie.
    pub lake: &'a Lake,
    /// Reads versions.
    pub reader: &'a mut Reader,
}

impl Eyes<'_> {
    /// Every table of production, as it is now.
    pub fn everything(
        &mut self,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Seen>, EngineError> {
        let tables = self.lake.tables()?;
        let total = u64::try_from(tables.len()).unwrap_or(u64::MAX);
        let mut out = BTreeMap::new();
        for (done, (name, path)) in (1..).zip(tables) {
            // One that went since it was listed is not there.
            if let Some(seen) = self.table(&name.to_string(), &path)? {
                out.insert(name, seen);
            }
            on("tables", done, total);
        }
        Ok(out)
    }

    /// The table in a directory, as it is now; `None` if there is none.
    pub fn table(&mut self, what: &str, path: &str) -> Result<Option<Seen>, EngineError> {
        let dir = self.lake.dir(path);
        let Some(latest) = Log::read(&dir)?.and_then(|log| log.latest()) else {
            return Ok(None);
        };
        let version = self.reader.version(what, &dir, latest)?;
        Ok(Some(Seen {
            path: path.to_owned(),
            id: version.id().to_owned(),
            version: latest,
            state: state::of(self.reader, what, &dir, &version)?,
        }))
    }

    /// Why a table cannot be taken back whatever is done to it, if so.
    pub fn refused(
        &mut self,
        name: &RelationName,
        seen: &Seen,
    ) -> Result<Option<String>, EngineError> {
        let dir = self.lake.dir(&seen.path);
        let version = self.reader.version(&name.to_string(), &dir, seen.version)?;
        Ok(features::refused(&version))
    }

    /// Where the table of a retained relation lies, in production or set aside, and its newest version.
    pub fn lies(
        &mut self,
        name: &RelationName,
        kept: &KeptRelation,
    ) -> Result<Option<(String, Arc<Version>)>, EngineError> {
        let files = kept.state.storage.as_deref().unwrap_or_default();
        let Some(home) = self.lake.path(name) else {
            return Ok(None);
        };
        let aside = self.lake.places(&home)?;
        for path in std::iter::once(home).chain(aside) {
            let dir = self.lake.dir(&path);
            let Some(latest) = Log::read(&dir)?.and_then(|log| log.latest()) else {
                continue;
            };
            let now = self.reader.version(&name.to_string(), &dir, latest)?;
            if files.split(' ').next() == Some(now.id()) {
                return Ok(Some((path, now)));
            }
        }
        Ok(None)
    }

    /// Proves that a retained relation can be read.
    fn prove(&mut self, name: &RelationName, kept: &KeptRelation) -> Result<(), EngineError> {
        let what = name.to_string();
        if let Some((path, now)) = self.lies(name, kept)? {
            let dir = self.lake.dir(&path);
            let files = kept.state.storage.as_deref().unwrap_or_default();
            commit::readable(self.reader, &what, &dir, kept.version, files, &now)?;
            return Ok(());
        }
        Err(EngineError::new(
            ErrorKind::Missing,
            format!(
                "{what} cannot go back: its directory was deleted, and its versions went with it"
            ),
        )
        .hint("put it back from a backup, or leave this table out with `--select`"))
    }
}

/// Writes down which version everything is that production is.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a table that could not be taken back.
pub fn take(
    eyes: &mut Eyes<'_>,
    store: &Store,
    live: ReleaseId,
    seen: &BTreeMap<RelationName, Seen>,
) -> Result<(), EngineError> {
    let mut kept = Kept {
        versions: None,
        ..Kept::new(live)
    };
    for (name, seen) in seen {
        if let Some(why) = eyes.refused(name, seen)? {
            return Err(EngineError::new(
                ErrorKind::Unsupported,
                format!("{name} {why}: unship could not take back what a job does to it"),
            )
            .hint("name in `namespaces` what the job builds, without this table"));
        }
        let one = KeptRelation {
            state: seen.state.clone(),
            version: seen.version,
        };
        kept.relations.insert(name.clone(), one);
    }
    boundary("restore point begun");
    store.write(&kept)
}

/// Proves that what is retained of a release can be read.
pub fn prove(eyes: &mut Eyes<'_>, store: &Store, release: ReleaseId) -> Result<(), EngineError> {
    let Some(kept) = store.read(release)? else {
        return Err(EngineError::new(
            ErrorKind::Missing,
            format!("there is no restore point of {release}"),
        ));
    };
    let mut relations = kept.relations.iter();
    relations.try_for_each(|(name, one)| eyes.prove(name, one))
}

/// Proves that what a request brings back can be read. What is not retained at all is told by planning.
///
/// # Errors
/// The first table whose version is gone, or that cannot be taken back.
pub fn attainable(
    eyes: &mut Eyes<'_>,
    all: &[Kept],
    request: &RestoreRequest,
) -> Result<(), EngineError> {
    for (name, version) in &request.bring {
        let Some(wanted) = &version.state else {
            continue;
        };
        let mut retained = kept::retained(all, name, wanted);
        retained.sort_by_key(|one| one.version);
        let mut found = retained.last().copied();
        for one in retained.iter().rev().copied() {
            // Of a table that is still there, the newest version: planning takes that.
            if eyes.lies(name, one)?.is_some() {
                found = Some(one);
                break;
            }
        }
        if let Some(one) = found {
            eyes.prove(name, one)?;
        }
    }
    Ok(())
}

/// Forgets the restore points that nobody keeps. What they name stays until its tables are vacuumed.
pub fn housekeep(store: &Store, keep: &Retention) -> Result<Housekeeping, EngineError> {
    let mut done = Housekeeping::default();
    for release in store.releases()? {
        if !keep.keep.contains(&release) {
            store.remove(release)?;
            done.dropped.push(release);
        }
    }
    Ok(done)
}

/// Looks at everything that is retained.
pub fn fsck(
    eyes: &mut Eyes<'_>,
    store: &Store,
    on: OnProgress<'_>,
) -> Result<Vec<Diagnosis>, EngineError> {
    let mut out = Vec::new();
    let all = store.all()?;
    let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
    for (done, kept) in (1..).zip(&all) {
        let subject = format!("restore point of {}", kept.release);
        let mut faults = Vec::new();
        for (name, one) in &kept.relations {
            faults.extend(eyes.prove(name, one).err());
        }
        if faults.is_empty() {
            out.push(Diagnosis {
                level: Level::Ok,
                subject: subject.clone(),
                finding: format!("{} tables", kept.relations.len()),
                hint: None,
            });
        }
        out.extend(faults.into_iter().map(|error| Diagnosis {
            level: Level::Error,
            subject: subject.clone(),
            finding: unship_core::execute::chain(&error),
            hint: error.hint,
        }));
        on("restore points", done, total);
    }
    Ok(out)
}
