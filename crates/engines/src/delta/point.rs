//! Restore points: taken, proved, dropped.

use super::commit;
use super::dir::Dir;
use super::features;
use super::kept::{self, Kept, KeptRelation, Store};
use super::lake::{LOG, Lake};
use super::log::{self, Log};
use super::reader::{Reader, Version as Read};
use super::state::{self, Seen};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use unship_core::engine::{
    Diagnosis, EngineError, ErrorKind, Housekeeping, Level, OnProgress, RestoreRequest, Retention,
};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::release::Version;

/// How many tables of an object store are looked at at the same time.
const AT_ONCE: usize = 16;

/// Why a table is refused whose log has traces of such an agreement: a clause after its name.
const ELSEWHERE: &str = "has writers that agree through DynamoDB on who commits (its log has what \
                         they leave there), and would overwrite a commit that was made beside it";

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
        let tables: Vec<_> = self.lake.tables()?.into_iter().collect();
        let total = u64::try_from(tables.len()).unwrap_or(u64::MAX);
        let seen = self.each(
            &tables,
            |done| on("tables", done, total),
            |eyes, (name, path)| eyes.table(&name.to_string(), path),
        )?;
        let named = tables.into_iter().map(|(name, _)| name).zip(seen);
        // One that went since it was listed is not there.
        let there = named.filter_map(|(name, seen)| Some((name, seen?)));
        Ok(there.filter(|(_, seen)| !seen.aside).collect())
    }

    /// Does the same with each of these, several at the same time where they lie in a store: a disk
    /// answers at once, a store lets one wait. `on` is told how many are done.
    pub fn each<T: Sync, R: Send>(
        &mut self,
        items: &[T],
        mut on: impl FnMut(u64),
        work: impl Fn(&mut Eyes<'_>, &T) -> Result<R, EngineError> + Sync,
    ) -> Result<Vec<R>, EngineError> {
        if let Dir::Disk(_) = self.lake.root {
            let one = |(done, item)| {
                let got = work(self, item)?;
                on(done);
                Ok(got)
            };
            return (1..).zip(items).map(one).collect();
        }
        let lanes = AT_ONCE.min(items.len());
        let (lake, known) = (self.lake, self.reader.clone());
        let (send, ended) = mpsc::channel();
        let mut out = BTreeMap::new();
        let readers: Vec<_> = thread::scope(|scope| {
            let (work, known) = (&work, &known);
            let lane = |first: usize| {
                let send = send.clone();
                scope.spawn(move || {
                    let mut reader = known.clone();
                    for (at, item) in items.iter().enumerate().skip(first).step_by(lanes) {
                        let reader = &mut reader;
                        let got = work(&mut Eyes { lake, reader }, item);
                        let goes_on = got.is_ok();
                        if send.send((at, got)).is_err() || !goes_on {
                            break;
                        }
                    }
                    reader
                })
            };
            let threads: Vec<_> = (0..lanes).map(lane).collect();
            drop(send);
            for (done, (at, got)) in (1..).zip(ended) {
                out.insert(at, got);
                on(done);
            }
            let ends = threads.into_iter().map(thread::ScopedJoinHandle::join);
            ends.collect()
        });
        for reader in readers {
            let reader = reader.map_err(|_| {
                let text = format!("could not look into {}", lake.root);
                EngineError::new(ErrorKind::Corrupt, text)
            })?;
            self.reader.learn(reader);
        }
        out.into_values().collect()
    }

    /// The table in a directory, as it is now; `None` if there is none.
    pub fn table(&mut self, what: &str, path: &str) -> Result<Option<Seen>, EngineError> {
        let dir = self.lake.dir(path);
        let Some(log) = Log::read(&dir)? else {
            return Ok(None);
        };
        let Some(latest) = log.latest() else {
            return Ok(None);
        };
        let version = self.reader.version(what, &dir, latest)?;
        Ok(Some(Seen {
            path: path.to_owned(),
            id: version.id().to_owned(),
            version: latest,
            state: state::of(self.reader, what, &dir, &version)?,
            aside: state::set_aside(&dir, &version)?,
            agreed_on_elsewhere: log.agreed_on_elsewhere,
        }))
    }

    /// Why a table cannot be taken back whatever is done to it, if so.
    pub fn refused(
        &mut self,
        name: &RelationName,
        seen: &Seen,
    ) -> Result<Option<String>, EngineError> {
        let dir = self.lake.dir(&seen.path);
        if seen.agreed_on_elsewhere && matches!(dir, Dir::Store(_)) {
            return Ok(Some(ELSEWHERE.to_owned()));
        }
        let version = self.reader.version(&name.to_string(), &dir, seen.version)?;
        Ok(features::refused(&version))
    }

    /// Whether a retained version stands in the log of the table in a directory, though the table has
    /// another identity by now: Spark gives it a new one with `CREATE OR REPLACE TABLE`.
    pub fn holds(
        &mut self,
        what: &str,
        dir: &Dir,
        kept: &KeptRelation,
    ) -> Result<bool, EngineError> {
        if !Log::read(dir)?.is_some_and(|log| log.reaches(kept.version)) {
            return Ok(false);
        }
        match self.reader.version(what, dir, kept.version) {
            Ok(then) => Ok(kept.state.storage == Some(state::digest(&then))),
            Err(e) if matches!(e.kind, ErrorKind::Missing | ErrorKind::Corrupt) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Where the table of a retained relation lies, in production or set aside, and its newest version.
    pub fn lies(
        &mut self,
        name: &RelationName,
        kept: &KeptRelation,
    ) -> Result<Option<(String, Arc<Read>)>, EngineError> {
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
            if files.split(' ').next() == Some(now.id())
                || self.holds(&name.to_string(), &dir, kept)?
            {
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
        if let Dir::Store(prefix) = eyes.lake.dir(&seen.path).join(LOG) {
            prefix.keeps_out(&log::file(seen.version))?;
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
    let relations: Vec<_> = kept.relations.iter().collect();
    let proved = eyes.each(
        &relations,
        |_| (),
        |eyes, (name, one)| eyes.prove(name, one),
    );
    proved.map(drop)
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
    let asked: Vec<_> = request.bring.iter().collect();
    let look = |eyes: &mut Eyes<'_>, (name, version): &(&RelationName, &Version)| {
        let Some(wanted) = &version.state else {
            return Ok(());
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
        match found {
            Some(one) => eyes.prove(name, one),
            None => Ok(()),
        }
    };
    eyes.each(&asked, |_| (), look).map(drop)
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
        let relations: Vec<_> = kept.relations.iter().collect();
        let proved = eyes.each(
            &relations,
            |_| (),
            |eyes, (name, one)| Ok(eyes.prove(name, one).err()),
        )?;
        let faults: Vec<_> = proved.into_iter().flatten().collect();
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
