//! Reading points and chunks.

use super::{
    Progress,
    chunk::ChunkId,
    codec::{Decompressor, OpenPack},
    error::{Result, StoreError, io_error},
    index::{Index, list},
    open::Store,
    pack::Entry,
    packer::pack_path,
    parallel::in_order,
    point::{self, Key, Point, PointInfo},
};
use std::{
    fs::{self, File},
    io,
    sync::{Arc, PoisonError},
};

/// How many packs stay open: far below any limit on open files.
const OPEN_PACKS: usize = 64;

/// The points of a store.
#[derive(Debug)]
pub struct Points {
    /// Every file of every readable point, by point and label.
    pub points: Vec<PointInfo>,
    /// Why the others cannot be read.
    pub damaged: Vec<StoreError>,
}

/// How large a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes of all files of all points, as if each were a copy.
    pub logical: u64,
    /// Bytes that the store takes.
    pub stored: u64,
}

impl Store {
    /// Lists the points, reading only their heads.
    ///
    /// # Errors
    /// When the folder cannot be listed. A damaged point is an entry of the answer.
    pub fn points(&self) -> Result<Points> {
        let mut all = Points {
            points: Vec::new(),
            damaged: Vec::new(),
        };
        for path in list(&self.points, "point")? {
            match point::read_info_at(&path) {
                Ok(info) => all.points.push(info),
                // Forgotten since the folder was listed.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(e) => all.damaged.push(e),
            }
        }
        all.points
            .sort_unstable_by(|a, b| (&a.point, &a.label).cmp(&(&b.point, &b.label)));
        Ok(all)
    }

    /// What is known of one file of one point.
    ///
    /// # Errors
    /// When there is no such point ([`StoreError::NoSuchPoint`]) or it is damaged.
    pub fn point(&self, point: &str, label: &str) -> Result<PointInfo> {
        point::read_info(&self.points, &Key::new(point, label)?)
    }

    /// How large the store is. It lists folders and reads heads, no chunks.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn size(&self) -> Result<StoreSize> {
        let logical = self.points()?.points.iter().map(|info| info.size).sum();
        let mut stored = 0;
        for dir in [&self.packs, &self.points] {
            for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
                let entry = entry.map_err(io_error("list", dir))?;
                match entry.metadata() {
                    Ok(meta) => stored += meta.len(),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(io_error("look at", &entry.path())(e)),
                }
            }
        }
        Ok(StoreSize { logical, stored })
    }

    /// Proves that one file of a point can be restored: reads and checks every chunk of it, and
    /// writes nothing. Returns the file's size in bytes.
    ///
    /// # Errors
    /// When there is no such point, or it or one of its chunks is missing or damaged.
    pub fn prove(&self, point: &str, label: &str, progress: &dyn Fn(Progress)) -> Result<u64> {
        let key = Key::new(point, label)?;
        let point = Point::read(&self.points, &key)?;
        let all: Vec<u64> = (0..point.info.grid().chunks()).collect();
        self.prove_chunks(&key, &point, &all, progress)?;
        Ok(point.info.size)
    }

    /// Reads and checks some chunks of a point.
    pub(super) fn prove_chunks(
        &self,
        key: &Key,
        point: &Point,
        chunks: &[u64],
        progress: &dyn Fn(Progress),
    ) -> Result<()> {
        let grid = point.info.grid();
        let total = bytes_of(point, chunks);
        in_order(
            chunks.len() as u64,
            || Reader::new(self, key),
            |reader, number| {
                let chunk = chunks[number as usize];
                let (from, to) = grid.range(chunk);
                reader
                    .read(&point.chunks[chunk as usize], to - from)
                    .map(drop)
            },
            &|done| {
                progress(Progress {
                    doing: "checking",
                    done: share(total, done, chunks.len() as u64),
                    total,
                });
            },
        )?;
        Ok(())
    }

    /// The index, read if need be.
    pub(super) fn index(&self) -> Result<Arc<Index>> {
        let known = self
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match known {
            Some(index) => Ok(index),
            None => self.reload(None),
        }
    }

    /// Reads the index again, unless somebody did since `stale` was got.
    pub(super) fn reload(&self, stale: Option<&Arc<Index>>) -> Result<Arc<Index>> {
        let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*slot
            && !stale.is_some_and(|stale| Arc::ptr_eq(stale, current))
        {
            return Ok(Arc::clone(current));
        }
        let fresh = Arc::new(Index::load(&self.packs)?);
        *slot = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Forgets the index, after packs came or went.
    pub(super) fn forget_index(&self) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.open_packs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Opens a pack, or finds it open; `None` when gc has taken it away.
    pub(super) fn open_pack(&self, name: &str) -> Result<Option<Arc<OpenPack>>> {
        let mut open = self
            .open_packs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pack) = open.get(name) {
            return Ok(Some(Arc::clone(pack)));
        }
        let path = pack_path(&self.packs, name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("open", &path)(e)),
        };
        if open.len() >= OPEN_PACKS {
            open.clear();
        }
        let pack = Arc::new(OpenPack { file, path });
        open.insert(name.to_owned(), Arc::clone(&pack));
        Ok(Some(pack))
    }
}

/// Reads chunks of one point; one per thread.
pub(super) struct Reader<'a> {
    store: &'a Store,
    key: &'a Key,
    index: Arc<Index>,
    unpack: Decompressor,
}

impl<'a> Reader<'a> {
    pub fn new(store: &'a Store, key: &'a Key) -> Result<Self> {
        Ok(Self {
            store,
            key,
            index: store.index()?,
            unpack: Decompressor::new(store.dir())?,
        })
    }

    /// A chunk's bytes, proved, and of the length that its place in the file asks for.
    pub fn read(&mut self, id: &ChunkId, length: u64) -> Result<&[u8]> {
        let (pack, entry) = match self.locate(id)? {
            Some(found) => found,
            // Another process packed or collected since the index was read: look once more.
            None => {
                self.index = self.store.reload(Some(&self.index))?;
                self.locate(id)?.ok_or_else(|| self.missing(id))?
            }
        };
        if u64::from(entry.raw) != length {
            return Err(self.missing(id));
        }
        Ok(self.unpack.read(&pack.file, &pack.path, &entry)?.raw)
    }

    fn locate(&self, id: &ChunkId) -> Result<Option<(Arc<OpenPack>, Entry)>> {
        let Some(place) = self.index.find(id) else {
            return Ok(None);
        };
        let name = &self.index.packs[place.pack as usize].name;
        Ok(self.store.open_pack(name)?.map(|pack| (pack, place.entry)))
    }

    fn missing(&self, id: &ChunkId) -> StoreError {
        StoreError::MissingChunk {
            point: self.key.point.clone(),
            label: self.key.label.clone(),
            chunk: *id,
        }
    }
}

/// Bytes of some chunks of a point.
pub(super) fn bytes_of(point: &Point, chunks: &[u64]) -> u64 {
    let grid = point.info.grid();
    chunks
        .iter()
        .map(|&chunk| {
            let (from, to) = grid.range(chunk);
            to - from
        })
        .sum()
}

/// How many of `total` bytes are done when `done` of `count` pieces are.
pub(super) fn share(total: u64, done: u64, count: u64) -> u64 {
    if count == 0 {
        return total;
    }
    (u128::from(total) * u128::from(done) / u128::from(count)) as u64
}
