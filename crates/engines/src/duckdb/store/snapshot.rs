//! Taking a restore point.

use super::{
    Progress,
    chunk::{ChunkId, Grid},
    codec::Compressor,
    durable::{remove_file, write_file},
    error::{Result, StoreError, io_error},
    identity::FileIdentity,
    open::{Store, StoreWriter},
    packer::Packer,
    parallel::in_order,
    point::{Key, Point, PointInfo},
    reader::share,
};
use crate::duckdb::header::{self, BLOCKS_START};
use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// What a snapshot did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Bytes of the file.
    pub bytes: u64,
    /// Chunks that make it.
    pub chunks: u64,
    /// Chunks that the store did not have.
    pub new_chunks: u64,
    /// Bytes of those chunks, before compression.
    pub new_bytes: u64,
    /// Bytes that the snapshot added to the disk: packs and point file.
    pub new_bytes_stored: u64,
    /// The point whose chunks were taken over unread, because the file is the very same (device,
    /// inode, size and times); `None` when the file was read.
    pub same_as: Option<String>,
}

#[derive(Default)]
struct Fresh {
    seen: HashSet<ChunkId>,
    bytes: u64,
}

impl StoreWriter {
    /// Keeps the file at `path` as `label` of restore point `point`.
    ///
    /// The file is streamed through a few threads and never held in memory. Only chunks that the
    /// store does not have are compressed and written. When this returns, the point is durable. The
    /// caller sees to it that nobody writes to the file, and that its write-ahead log is empty or
    /// kept beside it: only this one file is read. A caller that locks the file must do so with an
    /// open-file-description lock: closing the file here drops this process's classic POSIX locks.
    ///
    /// # Errors
    /// When the point exists, the file changes meanwhile, or a disk fails or is full; the store is
    /// then as before.
    pub fn snapshot(
        &mut self,
        path: &Path,
        point: &str,
        label: &str,
        progress: &dyn Fn(Progress),
    ) -> Result<SnapshotReport> {
        let key = Key::new(point, label)?;
        let target = key.path(&self.store.points);
        if target.try_exists().map_err(io_error("look at", &target))? {
            return Err(StoreError::PointExists {
                point: key.point,
                label: key.label,
            });
        }
        // Opening a pipe would wait for ever.
        let meta = fs::metadata(path).map_err(io_error("look at", path))?;
        if !meta.is_file() {
            return Err(StoreError::NotAFile {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(io_error("open", path))?;
        let identity = FileIdentity::of(&file.metadata().map_err(io_error("look at", path))?);
        if let Some(known) = self.store.same_file(label, identity)? {
            let same_as = known.info.point.clone();
            let size = identity.size;
            let chunks = known.chunks.len() as u64;
            let info = PointInfo {
                point: key.point,
                ..known.info
            };
            let new_bytes_stored = write_point(&target, info, known.chunks)?;
            progress(Progress {
                doing: "reading",
                done: size,
                total: size,
            });
            return Ok(SnapshotReport {
                bytes: size,
                chunks,
                new_chunks: 0,
                new_bytes: 0,
                new_bytes_stored,
                same_as: Some(same_as),
            });
        }

        let mut head = vec![0; identity.size.min(BLOCKS_START) as usize];
        read_exact(&file, path, &mut head, 0)?;
        let grid = Grid {
            block_size: header::block_size(&head),
            size: identity.size,
        };
        let mut packer = Packer::new(self.store.packs.clone(), self.pack_target);
        let fresh = Mutex::new(Fresh::default());
        let chunks = self
            .store
            .add_chunks(&file, path, grid, &packer, &fresh, progress)?;
        packer.finish()?;
        let now = fs::metadata(path).map_err(io_error("look at", path))?;
        if FileIdentity::of(&now) != identity {
            return Err(StoreError::Changed {
                path: path.to_owned(),
            });
        }
        let count = chunks.len() as u64;
        let info = PointInfo {
            point: key.point,
            label: key.label,
            size: identity.size,
            block_size: grid.block_size,
            identity,
            settled: identity.is_settled(SystemTime::now()),
        };
        let point_bytes = match write_point(&target, info, chunks) {
            Ok(bytes) => bytes,
            Err(e) => {
                if remove_file(&target).is_err() {
                    // The point may be there although it could not be made durable, and then it
                    // needs its packs.
                    packer.keep();
                    self.store.forget_index();
                }
                return Err(e);
            }
        };
        let packs = packer.keep();
        let pack_bytes: u64 = packs.iter().map(|pack| pack.bytes).sum();
        self.store.learn(packs);
        let fresh = fresh.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(SnapshotReport {
            bytes: identity.size,
            chunks: count,
            new_chunks: fresh.seen.len() as u64,
            new_bytes: fresh.bytes,
            new_bytes_stored: point_bytes + pack_bytes,
            same_as: None,
        })
    }
}

impl Store {
    /// A readable point of the same label whose file was this very file, if all its chunks are here.
    pub(super) fn same_file(&self, label: &str, identity: FileIdentity) -> Result<Option<Point>> {
        let known = self.points()?.points;
        let same = known
            .iter()
            .find(|info| info.label == label && info.settled && info.identity == identity);
        let Some(same) = same else {
            return Ok(None);
        };
        // A point that cannot be read, or not whole, is no reason to fail: read the file instead.
        let Ok(point) = Point::read(&self.points, &same.key()) else {
            return Ok(None);
        };
        let index = self.index()?;
        let whole = point.chunks.iter().all(|id| index.find(id).is_some());
        Ok(whole.then_some(point))
    }

    /// Hashes the file, gives the packer what the store lacks, and returns the chunks in order.
    fn add_chunks(
        &self,
        file: &File,
        path: &Path,
        grid: Grid,
        packer: &Packer,
        fresh: &Mutex<Fresh>,
        progress: &dyn Fn(Progress),
    ) -> Result<Vec<ChunkId>> {
        let index = self.index()?;
        let spans = grid.spans();
        let ids = in_order(
            spans,
            || Ok((Vec::new(), Compressor::new(self.dir())?)),
            |(buffer, compressor), span| {
                each_chunk(file, path, grid, span, buffer, |_, raw| {
                    let id = ChunkId::of(raw);
                    if index.find(&id).is_some() {
                        return Ok(id);
                    }
                    let mut known = fresh.lock().unwrap_or_else(PoisonError::into_inner);
                    if known.seen.insert(id) {
                        known.bytes += raw.len() as u64;
                        drop(known);
                        let (stored, compressed) = compressor.pack(raw);
                        packer.add(id, raw.len() as u32, stored, compressed)?;
                    }
                    Ok(id)
                })
            },
            &|done| {
                progress(Progress {
                    doing: "reading",
                    done: share(grid.size, done, spans),
                    total: grid.size,
                });
            },
        )?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// Adds packs to the index instead of reading them back.
    fn learn(&self, packs: Vec<super::packer::NewPack>) {
        let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match slot.as_mut().and_then(Arc::get_mut) {
            Some(index) => index.extend(packs),
            None => *slot = None,
        }
    }
}

/// Reads one span of a file and calls `work` with the number and the bytes of each chunk in it.
pub(super) fn each_chunk<R>(
    file: &File,
    path: &Path,
    grid: Grid,
    span: u64,
    buffer: &mut Vec<u8>,
    mut work: impl FnMut(u64, &[u8]) -> Result<R>,
) -> Result<Vec<R>> {
    let (first, end) = grid.span(span);
    let from = grid.range(first).0;
    let to = grid.range(end.saturating_sub(1)).1;
    buffer.resize((to - from) as usize, 0);
    read_exact(file, path, buffer, from)?;
    (first..end)
        .map(|chunk| {
            let (start, stop) = grid.range(chunk);
            work(
                chunk,
                &buffer[(start - from) as usize..(stop - from) as usize],
            )
        })
        .collect()
}

/// Reads all of a buffer; a file that ends too early has been changed.
fn read_exact(file: &File, path: &Path, buffer: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(buffer, at).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => StoreError::Changed {
            path: path.to_owned(),
        },
        _ => io_error("read", path)(e),
    })
}

/// Writes the point file and returns its length.
fn write_point(target: &Path, info: PointInfo, chunks: Vec<ChunkId>) -> Result<u64> {
    let bytes = Point { info, chunks }.encode();
    write_file(target, &[&bytes])?;
    Ok(bytes.len() as u64)
}
