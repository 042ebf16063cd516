//! Where every chunk lies, in memory.
//!
//! A sorted vector of 52 bytes a chunk: 1.7 MB for 8 GB of database, 200 MB for a terabyte. A hash
//! table would take up to twice that and save a microsecond where hashing a block takes a hundred.

use super::{
    chunk::ChunkId,
    error::{Result, StoreError, io_error},
    pack::{self, Entry},
    packer::NewPack,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// One chunk's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The number of its pack in [`Index::packs`].
    pub pack: u32,
    /// Where it lies there.
    pub entry: Entry,
}

/// One readable pack.
#[derive(Debug)]
pub(super) struct Pack {
    /// Its name, without folder and ending.
    pub name: String,
    /// Bytes of all its chunks as stored, copies of chunks of other packs included.
    pub body: u64,
}

/// All chunks of all readable packs.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: Vec<Place>,
    /// The readable packs.
    pub packs: Vec<Pack>,
    /// The packs whose index cannot be read, with the reason.
    pub unreadable: Vec<(PathBuf, StoreError)>,
}

impl Index {
    /// Reads the index of every pack.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut index = Self::default();
        for name in pack_names(dir)? {
            let path = super::packer::pack_path(dir, &name);
            let read = match File::open(&path) {
                Ok(file) => pack::read_index(&file, &path),
                // gc of another process took it away since the folder was listed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => Err(io_error("open", &path)(e)),
            };
            match read {
                Ok(pack) => index.add(name, &pack.entries),
                Err(e) => index.unreadable.push((path, e)),
            }
        }
        index.sort();
        Ok(index)
    }

    /// Adds packs that were just written.
    pub fn extend(&mut self, packs: Vec<NewPack>) {
        if packs.is_empty() {
            return;
        }
        for pack in packs {
            self.add(pack.name, &pack.entries);
        }
        self.sort();
    }

    fn add(&mut self, name: String, entries: &[Entry]) {
        // Four thousand million packs of 64 MiB are beyond any disk.
        let pack = self.packs.len() as u32;
        self.packs.push(Pack {
            name,
            body: entries.iter().map(|entry| u64::from(entry.stored)).sum(),
        });
        self.places
            .extend(entries.iter().map(|&entry| Place { pack, entry }));
    }

    fn sort(&mut self) {
        self.places
            .sort_unstable_by_key(|place| (place.entry.id, place.pack));
        self.places.dedup_by_key(|place| place.entry.id);
    }

    /// Where a chunk lies.
    pub fn find(&self, id: &ChunkId) -> Option<Place> {
        self.number(id).map(|number| self.places[number])
    }

    /// A chunk's number in [`Index::places`].
    pub fn number(&self, id: &ChunkId) -> Option<usize> {
        self.places
            .binary_search_by_key(id, |place| place.entry.id)
            .ok()
    }

    /// Every chunk once, sorted by id.
    pub fn places(&self) -> &[Place] {
        &self.places
    }
}

/// The names of all finished packs, sorted.
pub(super) fn pack_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = list(dir, "pack")?;
    names.sort_unstable();
    Ok(names
        .into_iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect())
}

/// The files of a folder whose names end in `.extension`.
pub(super) fn list(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    Ok(paths)
}
