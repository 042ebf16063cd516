//! What is retained, and where: one small file for each release, beside the ledger.
//!
//! The tags in the catalog are what keeps data from being expired. The file says which tags and
//! which tables that were set aside belong to a release, so that nobody has to ask for every table
//! to know it; and where the metadata of a table lay that somebody has dropped since.

use super::rest::Identifier;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use unship_core::engine::{EngineError, ErrorKind, FREE_SPACE, Observation, Point};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::RelationState;
use unship_core::release::VersionId;

/// The version of the files' format. A file of a newer one is refused.
const FORMAT: u32 = 1;

/// A release's restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// `FORMAT`.
    pub format: u32,
    /// Whose state it is.
    pub release: ReleaseId,
    /// Its relations.
    pub relations: BTreeMap<RelationName, KeptRelation>,
    /// Their versions, where it holds only what gave way to something else; `None`, it holds all
    /// that its release was.
    pub versions: Option<BTreeMap<RelationName, VersionId>>,
    /// The digests of what it was put together from.
    #[serde(default)]
    pub parts: BTreeSet<String>,
}

/// A relation of a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRelation {
    /// What it was.
    pub state: RelationState,
    /// Where its metadata file lay; `None` for a view.
    pub metadata: Option<String>,
    /// The tag that keeps its snapshot.
    pub tag: Option<String>,
    /// Where it was to be set aside, if it was.
    pub aside: Option<Identifier>,
}

impl Kept {
    /// An empty one.
    pub fn new(release: ReleaseId) -> Self {
        Self {
            format: FORMAT,
            release,
            relations: BTreeMap::new(),
            versions: Some(BTreeMap::new()),
            parts: BTreeSet::new(),
        }
    }

    /// Takes over another one's relations, which are of the same release.
    pub fn add(&mut self, other: Self) -> Result<(), EngineError> {
        self.parts.insert(other.digest()?);
        self.relations.extend(other.relations);
        match (&mut self.versions, other.versions) {
            (Some(own), Some(more)) => own.extend(more),
            // One of them holds everything.
            (own, _) => *own = None,
        }
        Ok(())
    }

    /// BLAKE3 of what it says.
    pub fn digest(&self) -> Result<String, EngineError> {
        Ok(blake3::hash(&self.bytes()?).to_hex().to_string())
    }

    fn bytes(&self) -> Result<Vec<u8>, EngineError> {
        serde_json::to_vec(self).map_err(|e| {
            let text = format!("the restore point of {} cannot be written", self.release);
            EngineError::new(ErrorKind::Io, text).because(e)
        })
    }
}

/// The directory of the files.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

fn io_error(what: &str, path: &Path, error: io::Error) -> EngineError {
    let text = format!("cannot {what} {}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull => EngineError::new(ErrorKind::DiskFull, text).hint(FREE_SPACE),
        io::ErrorKind::PermissionDenied => EngineError::new(ErrorKind::Permission, text),
        _ => EngineError::new(ErrorKind::Io, text),
    }
    .because(error)
}

/// What a file holds, if it is there.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", path, e)),
    }
}

impl Store {
    /// In this directory, which need not be there.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, release: ReleaseId) -> PathBuf {
        self.dir.join(format!("r{}.json", release.0))
    }

    /// Every release that something is retained of, in order.
    pub fn releases(&self) -> Result<BTreeSet<ReleaseId>, EngineError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(e) => return Err(io_error("look into", &self.dir, e)),
        };
        let mut out = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|e| io_error("look into", &self.dir, e))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| {
                let number = name.strip_prefix('r')?.strip_suffix(".json")?;
                number.parse().ok()
            });
            out.extend(number.map(ReleaseId));
        }
        Ok(out)
    }

    /// A release's restore point, if there is one.
    pub fn read(&self, release: ReleaseId) -> Result<Option<Kept>, EngineError> {
        self.part(release)
    }

    /// What of it is asked for. Its relations are most of it.
    fn part<T: DeserializeOwned>(&self, release: ReleaseId) -> Result<Option<T>, EngineError> {
        let path = self.path(release);
        let Some(bytes) = bytes(&path)? else {
            return Ok(None);
        };
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let damaged = |e: serde_json::Error| {
            let text = format!("{} is no record of a restore point", path.display());
            EngineError::new(ErrorKind::Corrupt, text).because(e).hint(
                "put it back from a copy, or take it away: that restore point is lost then, and \
                 its tags stay in the catalog",
            )
        };
        let Probe { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(EngineError::new(
                ErrorKind::Unsupported,
                format!(
                    "{} has format {format}, and this unship reads formats up to {FORMAT}",
                    path.display()
                ),
            ));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// All of them.
    pub fn all(&self) -> Result<Vec<Kept>, EngineError> {
        let releases = self.releases()?.into_iter();
        let read: Result<Vec<_>, _> = releases.map(|release| self.read(release)).collect();
        Ok(read?.into_iter().flatten().collect())
    }

    /// Writes one down, in place of the one that was there. Returning means that it survives a power
    /// loss.
    pub fn write(&self, kept: &Kept) -> Result<(), EngineError> {
        self.write_bytes(&self.path(kept.release), &kept.bytes()?)
    }

    fn write_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
        let failed = |e: io::Error| io_error("write", path, e);
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        self.sync()
    }

    /// Whether a release's restore point was put together from a part with this digest.
    pub fn has_part(&self, release: ReleaseId, digest: &str) -> Result<bool, EngineError> {
        #[derive(Deserialize)]
        struct Parts {
            #[serde(default)]
            parts: BTreeSet<String>,
        }
        let parts = self.part::<Parts>(release)?;
        Ok(parts.is_some_and(|kept| kept.parts.contains(digest)))
    }

    /// Forgets that a part was written down; all of it, where nothing else was.
    pub fn forget(&self, release: ReleaseId, digest: &str) -> Result<(), EngineError> {
        let Some(mut kept) = self.read(release)? else {
            return Ok(());
        };
        kept.parts.remove(digest);
        match kept.parts.is_empty() && kept.versions.is_some() {
            true => self.remove(release),
            false => self.write(&kept),
        }
    }

    /// Forgets one.
    pub fn remove(&self, release: ReleaseId) -> Result<(), EngineError> {
        self.remove_file(&self.path(release))
    }

    fn build_path(&self, release: ReleaseId) -> PathBuf {
        self.dir.join(format!("build-r{}.json", release.0))
    }

    /// Writes down that a release is being built aside, and what production was when that began.
    pub fn begin(&self, release: ReleaseId, production: &Observation) -> Result<(), EngineError> {
        let bytes = serde_json::to_vec(production).map_err(|e| {
            EngineError::new(ErrorKind::Io, "what was seen cannot be written").because(e)
        })?;
        self.write_bytes(&self.build_path(release), &bytes)
    }

    /// What production was when a release began to be built aside; `None`, it is not being built.
    pub fn begun(&self, release: ReleaseId) -> Result<Option<Observation>, EngineError> {
        let path = self.build_path(release);
        let Some(bytes) = bytes(&path)? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|e| {
            let text = format!("{} does not say what production was", path.display());
            EngineError::new(ErrorKind::Corrupt, text).because(e)
        })
    }

    /// Whether a release is being built aside.
    pub fn builds(&self, release: ReleaseId) -> bool {
        self.build_path(release).exists()
    }

    /// Forgets that a release was being built.
    pub fn end(&self, release: ReleaseId) -> Result<(), EngineError> {
        self.remove_file(&self.build_path(release))
    }

    fn remove_file(&self, path: &Path) -> Result<(), EngineError> {
        match fs::remove_file(path) {
            Ok(()) => self.sync(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(io_error("remove", path, e)),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        let dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
        dir.map_err(|e| io_error("write", &self.dir, e))
    }

    /// The retained states.
    pub fn points(&self, catalog: &str) -> Result<Vec<Point>, EngineError> {
        #[derive(Deserialize)]
        struct Head {
            release: ReleaseId,
            versions: Option<BTreeMap<RelationName, VersionId>>,
        }
        let releases = self.releases()?.into_iter();
        let heads: Result<Vec<_>, _> = releases.map(|r| self.part::<Head>(r)).collect();
        Ok(heads?
            .into_iter()
            .flatten()
            .map(|kept| Point {
                release: kept.release,
                location: format!("tags {}{} in {catalog}", super::name::OWN, kept.release.0),
                packed: false,
                bytes: 0,
                databases: BTreeSet::from([catalog.to_owned()]),
                versions: kept.versions,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unship_core::relation::RelationKind;

    fn kept(release: u64, names: &[&str], all: bool) -> Kept {
        let name = |name: &&str| RelationName::new("lake", "s", *name);
        let relation = KeptRelation {
            state: RelationState {
                kind: RelationKind::Table,
                columns: Vec::new(),
                definition: String::new(),
                dependents: Vec::new(),
                rows: None,
                fingerprint: None,
                storage: None,
            },
            metadata: None,
            tag: None,
            aside: None,
        };
        let id = VersionId {
            release: ReleaseId(release),
            drift: 0,
        };
        Kept {
            relations: names.iter().map(|n| (name(n), relation.clone())).collect(),
            versions: (!all).then(|| names.iter().map(|n| (name(n), id)).collect()),
            ..Kept::new(ReleaseId(release))
        }
    }

    #[test]
    fn what_is_written_is_read_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("not/there/yet"));
        assert_eq!(store.points("lake").unwrap(), []);
        let (one, two) = (kept(7, &["a"], true), kept(12, &["a", "b"], false));
        store.write(&two).unwrap();
        store.write(&one).unwrap();
        assert_eq!(store.all().unwrap(), [one.clone(), two]);
        let points = store.points("lake").unwrap();
        assert_eq!(points[0].versions, None);
        assert_eq!(points[1].versions.as_ref().unwrap().len(), 2);
        store.remove(ReleaseId(12)).unwrap();
        store.remove(ReleaseId(12)).unwrap();
        assert_eq!(store.all().unwrap(), [one]);
    }

    #[test]
    fn what_holds_everything_goes_on_holding_everything() {
        let mut some = kept(7, &["a"], false);
        some.add(kept(7, &["b"], false)).unwrap();
        assert_eq!(some.versions.as_ref().unwrap().len(), 2);
        some.add(kept(7, &["c"], true)).unwrap();
        assert_eq!(some.versions, None);
        assert_eq!(some.relations.len(), 3);
    }

    #[test]
    fn what_is_damaged_or_newer_is_told_apart_from_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        let write = |text: &str| fs::write(dir.path().join("r3.json"), text).unwrap();
        assert_eq!(store.read(ReleaseId(3)).unwrap(), None);
        write("{\"format\":1,\"rel");
        assert_eq!(
            store.read(ReleaseId(3)).unwrap_err().kind,
            ErrorKind::Corrupt
        );
        write("{\"format\":2}");
        let newer = store.read(ReleaseId(3)).unwrap_err();
        assert_eq!(newer.kind, ErrorKind::Unsupported, "{newer}");
    }
}
