//! A point, written over the live file: only the blocks that differ.

use super::{
    Progress,
    chunk::ChunkId,
    error::{Result, StoreError, io_error},
    identity::FileIdentity,
    open::Store,
    parallel::in_order,
    point::{Key, Point},
    reader::{Reader, bytes_of},
    restore::differing_chunks,
    room,
};
use crate::duckdb::header::PAGE;
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// How many chunks are unpacked at a time; at most 16 MiB.
const BATCH: usize = 64;

/// The steps of an in-place restore that change the file, in order. The caller's hook hears of each
/// just before it happens; by stopping there it can play a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchPhase {
    /// The main header is about to be zeroed: from here to the end, DuckDB refuses the file.
    Seal,
    /// The zeroed header is about to be made durable.
    SyncSeal,
    /// One differing block is about to be written.
    Block {
        /// How many were written before it.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// The two database headers are about to be written.
    DatabaseHeaders,
    /// The file is about to get the point's length.
    Resize,
    /// Everything but the main header is about to be made durable.
    SyncBlocks,
    /// The main header is about to be written: the file becomes readable again.
    MainHeader,
    /// The main header is about to be made durable.
    SyncMainHeader,
}

/// What an in-place restore did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchReport {
    /// Bytes of the file now.
    pub bytes: u64,
    /// Chunks that were written; 0 when the file was the point's already.
    pub chunks_written: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
}

impl Store {
    /// Makes `live` equal to one file of a point by writing only the chunks that differ.
    ///
    /// The caller holds the exclusive lock on `live`, so that nobody reads or writes it, and sees to
    /// its write-ahead log. A file that was packed as it is, and rested before, is not read again to
    /// find what differs. Before anything changes, the differing chunks are found, each is proved
    /// readable, and the disk is asked for room. Then the main header is zeroed, because DuckDB
    /// would open a mixture of two states without a word; it comes back last. After a crash in
    /// between, DuckDB refuses the file, and running this again finishes the work.
    ///
    /// # Errors
    /// When the point or one of its chunks is missing or damaged, or there is no room: nothing has
    /// then been changed. When writing fails, or `hook` stops it: run it again.
    pub fn patch(
        &self,
        point: &str,
        label: &str,
        live: &Path,
        hook: &mut dyn FnMut(PatchPhase) -> io::Result<()>,
        progress: &dyn Fn(Progress),
    ) -> Result<PatchReport> {
        let key = Key::new(point, label)?;
        let point = Point::read(&self.points, &key)?;
        let grid = point.info.grid();
        let file = File::options()
            .read(true)
            .write(true)
            .open(live)
            .map_err(io_error("open", live))?;
        let meta = file.metadata().map_err(io_error("look at", live))?;
        if !meta.is_file() {
            return Err(StoreError::NotAFile {
                path: live.to_owned(),
            });
        }
        let length = meta.len();
        let identity = FileIdentity::of(&meta);
        let mut needed = match self.same_file(label, identity)? {
            // What it holds was read when it was packed, and it has not been touched since.
            Some(now) if now.info.block_size == point.info.block_size => not_in(&now, &point),
            _ => differing_chunks(&file, live, &point, length, "reading", progress)?,
        };
        if needed.is_empty() && length == grid.size {
            return Ok(PatchReport {
                bytes: length,
                chunks_written: 0,
                bytes_written: 0,
            });
        }
        // The headers are written in any case: they are what seals and unseals the file.
        if needed.first() != Some(&0) && grid.size > 0 {
            needed.insert(0, 0);
        }
        self.prove_chunks(&key, &point, &needed, progress)?;
        let bytes_written = bytes_of(&point, &needed);
        let growth = grid.size.saturating_sub(length);
        let room = if room::overwriting_takes_space(live) {
            growth.max(bytes_written)
        } else {
            growth
        };
        room::require(live, live, room)?;

        Patch {
            store: self,
            key: &key,
            point: &point,
            file: &file,
            live,
            hook,
        }
        .run(&needed, progress)?;
        Ok(PatchReport {
            bytes: grid.size,
            chunks_written: needed.len() as u64,
            bytes_written,
        })
    }
}

/// The chunks of a point that another one of the same grid does not have in their places.
fn not_in(now: &Point, point: &Point) -> Vec<u64> {
    let wanted = (0..).zip(&point.chunks);
    wanted
        .filter(|(n, id)| now.chunks.get(*n as usize) != Some(id))
        .map(|(n, _)| n)
        .collect()
}

struct Patch<'a> {
    store: &'a Store,
    key: &'a Key,
    point: &'a Point,
    file: &'a File,
    live: &'a Path,
    hook: &'a mut dyn FnMut(PatchPhase) -> io::Result<()>,
}

impl Patch<'_> {
    fn run(&mut self, needed: &[u64], progress: &dyn Fn(Progress)) -> Result<()> {
        let (headers, blocks) = match needed.split_first() {
            Some((0, blocks)) => (self.chunks(&[0])?.pop().unwrap_or_default(), blocks),
            _ => (Vec::new(), needed),
        };
        let (main, database) = headers.split_at(headers.len().min(PAGE));

        self.step(PatchPhase::Seal)?;
        self.write(&[0; PAGE], 0)?;
        self.step(PatchPhase::SyncSeal)?;
        self.sync()?;
        self.write_blocks(blocks, progress)?;
        self.step(PatchPhase::DatabaseHeaders)?;
        self.write(database, PAGE as u64)?;
        self.step(PatchPhase::Resize)?;
        self.file
            .set_len(self.point.info.size)
            .map_err(io_error("resize", self.live))?;
        self.step(PatchPhase::SyncBlocks)?;
        self.sync()?;
        self.check(blocks, database)?;
        self.step(PatchPhase::MainHeader)?;
        self.write(main, 0)?;
        self.step(PatchPhase::SyncMainHeader)?;
        self.sync()
    }

    fn write_blocks(&mut self, blocks: &[u64], progress: &dyn Fn(Progress)) -> Result<()> {
        let grid = self.point.info.grid();
        let total = bytes_of(self.point, blocks);
        let mut written = 0;
        let mut done = 0;
        for batch in blocks.chunks(BATCH) {
            for (&block, raw) in batch.iter().zip(self.chunks(batch)?) {
                self.step(PatchPhase::Block {
                    done,
                    total: blocks.len() as u64,
                })?;
                self.write(&raw, grid.range(block).0)?;
                done += 1;
                written += raw.len() as u64;
            }
            progress(Progress {
                doing: "writing",
                done: written,
                total,
            });
        }
        Ok(())
    }

    /// Unpacks some chunks in parallel.
    fn chunks(&self, numbers: &[u64]) -> Result<Vec<Vec<u8>>> {
        let grid = self.point.info.grid();
        in_order(
            numbers.len() as u64,
            || Reader::new(self.store, self.key),
            |reader, number| {
                let chunk = numbers[number as usize];
                let (from, to) = grid.range(chunk);
                let id = &self.point.chunks[chunk as usize];
                Ok(reader.read(id, to - from)?.to_vec())
            },
            &|_| {},
        )
    }

    /// Reads back what was written, while the file is still sealed.
    fn check(&self, blocks: &[u64], database: &[u8]) -> Result<()> {
        let grid = self.point.info.grid();
        let read = |from: u64, length: u64| {
            let mut bytes = vec![0; length as usize];
            self.file
                .read_exact_at(&mut bytes, from)
                .map_err(io_error("read", self.live))?;
            Ok(bytes)
        };
        let wrong = || StoreError::NotVerified {
            path: self.live.to_owned(),
        };
        if read(PAGE as u64, database.len() as u64)? != database {
            return Err(wrong());
        }
        in_order(
            blocks.len() as u64,
            || Ok(()),
            |(), number| {
                let block = blocks[number as usize];
                let (from, to) = grid.range(block);
                if ChunkId::of(&read(from, to - from)?) == self.point.chunks[block as usize] {
                    Ok(())
                } else {
                    Err(wrong())
                }
            },
            &|_| {},
        )?;
        Ok(())
    }

    fn step(&mut self, phase: PatchPhase) -> Result<()> {
        (self.hook)(phase).map_err(|source| StoreError::Stopped {
            path: self.live.to_owned(),
            source,
        })
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, at)
            .map_err(io_error("write", self.live))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(io_error("sync", self.live))
    }
}
