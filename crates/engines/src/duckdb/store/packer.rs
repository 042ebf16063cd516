//! Writes packs.

use super::{
    chunk::ChunkId,
    durable::{UNFINISHED, remove_file, sync_dir},
    error::{Result, io_error},
    pack::{self, Entry},
};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use unship_core::fault::boundary;

/// When a pack is full, in bytes: large enough that a terabyte makes few files, small enough that
/// gc rewrites one cheaply.
pub(super) const PACK_TARGET: u64 = 64 << 20;

/// A pack that is finished and has its name.
#[derive(Debug)]
pub(super) struct NewPack {
    /// Its name, without folder and ending.
    pub name: String,
    /// What it holds.
    pub entries: Vec<Entry>,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Whether an equal pack was there already, which is then not ours to remove.
    pub replaced: bool,
}

/// Takes chunks from several threads and writes them into packs.
///
/// Unless [`Packer::keep`] is called, dropping it removes every pack that it wrote: work that
/// failed for want of space does not keep the space that it took.
pub(super) struct Packer {
    dir: PathBuf,
    target: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Unfinished>,
    started: u32,
    done: Vec<NewPack>,
}

struct Unfinished {
    path: PathBuf,
    out: BufWriter<File>,
    entries: Vec<Entry>,
    body: u64,
    digest: blake3::Hasher,
}

impl Packer {
    /// Writes packs of about `target` bytes into `dir`.
    pub fn new(dir: PathBuf, target: u64) -> Self {
        Self {
            dir,
            target,
            state: Mutex::default(),
        }
    }

    /// Adds one chunk in its stored form.
    pub fn add(&self, id: ChunkId, raw: u32, stored: &[u8], compressed: bool) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = match state.current.take() {
            Some(current) => current,
            None => {
                state.started += 1;
                Unfinished::create(&self.dir, state.started)?
            }
        };
        current.add(id, raw, stored, compressed)?;
        if current.body < self.target {
            state.current = Some(current);
            return Ok(());
        }
        // Making a pack durable takes long; meanwhile other threads fill the next one.
        drop(state);
        let done = current.finish(&self.dir)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done.push(done);
        Ok(())
    }

    /// Finishes the last pack. All packs are durable when this returns.
    pub fn finish(&mut self) -> Result<()> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = state.current.take() {
            let done = last.finish(&self.dir)?;
            state.done.push(done);
        }
        sync_dir(&self.dir)
    }

    /// The packs so far; they stay.
    pub fn keep(mut self) -> Vec<NewPack> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.done)
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for pack in state.done.drain(..).filter(|pack| !pack.replaced) {
            // Best effort: nothing refers to these packs, and gc removes what stays behind.
            let _ = remove_file(&pack_path(&self.dir, &pack.name));
        }
    }
}

impl Unfinished {
    fn create(dir: &Path, number: u32) -> Result<Self> {
        let path = dir.join(format!("new-{number}.{UNFINISHED}"));
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let mut this = Self {
            path,
            out: BufWriter::with_capacity(1 << 18, file),
            entries: Vec::new(),
            body: 0,
            digest: blake3::Hasher::new(),
        };
        this.write(&pack::header())?;
        Ok(this)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(io_error("write", &self.path))
    }

    fn add(&mut self, id: ChunkId, raw: u32, stored: &[u8], compressed: bool) -> Result<()> {
        self.entries.push(Entry {
            id,
            // A pack is rolled over long before four gibibytes.
            offset: (pack::HEADER + self.body) as u32,
            stored: stored.len() as u32,
            raw,
            compressed,
        });
        self.body += stored.len() as u64;
        self.digest.update(stored);
        self.write(stored)
    }

    fn finish(mut self, dir: &Path) -> Result<NewPack> {
        let digest = *self.digest.finalize().as_bytes();
        let (trailer, name) = pack::trailer(&self.entries, digest, self.body);
        self.write(&trailer)?;
        self.out.flush().map_err(io_error("write", &self.path))?;
        self.out
            .get_ref()
            .sync_all()
            .map_err(io_error("sync", &self.path))?;
        let path = pack_path(dir, &name);
        let replaced = path.exists();
        boundary("pack written");
        fs::rename(&self.path, &path).map_err(io_error("rename into place", &path))?;
        boundary("pack named");
        Ok(NewPack {
            name,
            replaced,
            bytes: pack::HEADER + self.body + trailer.len() as u64,
            entries: std::mem::take(&mut self.entries),
        })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a finish there is nothing under this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where a pack lies.
pub(super) fn pack_path(packs: &Path, name: &str) -> PathBuf {
    packs.join(format!("{name}.pack"))
}
