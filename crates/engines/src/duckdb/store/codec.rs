//! One chunk, packed and unpacked.

use super::{
    chunk::{ChunkId, MAX_CHUNK},
    error::{Problem, Result, damaged, io_error},
    pack::Entry,
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use zstd::bulk;

/// Level 1: on DuckDB's own compressed segments the higher ones cost much more time than they save
/// bytes.
const LEVEL: i32 = 1;

/// Packs chunks; one per thread.
pub(super) struct Compressor {
    zstd: bulk::Compressor<'static>,
    out: Vec<u8>,
}

impl Compressor {
    /// A compressor with a buffer for the largest chunk.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            zstd: bulk::Compressor::new(LEVEL).map_err(io_error("prepare compression for", dir))?,
            out: vec![0; MAX_CHUNK as usize],
        })
    }

    /// What to store for a chunk: its bytes compressed, or as they are if that is not smaller.
    pub fn pack<'a>(&'a mut self, raw: &'a [u8]) -> (&'a [u8], bool) {
        // A buffer one byte shorter than the chunk makes zstd itself give up on what does not
        // shrink.
        let room = raw.len().saturating_sub(1).min(self.out.len());
        match self.zstd.compress_to_buffer(raw, &mut self.out[..room]) {
            Ok(length) => (&self.out[..length], true),
            Err(_) => (raw, false),
        }
    }
}

/// Unpacks chunks and proves each; one per thread.
pub(super) struct Decompressor {
    zstd: bulk::Decompressor<'static>,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl Decompressor {
    /// A decompressor with buffers that grow to the largest chunk.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            zstd: bulk::Decompressor::new().map_err(io_error("prepare decompression for", dir))?,
            stored: Vec::new(),
            raw: Vec::new(),
        })
    }

    /// Reads one chunk of a pack. What comes back is what `entry.id` names, or an error does.
    pub fn read(&mut self, pack: &File, path: &Path, entry: &Entry) -> Result<Unpacked<'_>> {
        self.stored.resize(entry.stored as usize, 0);
        pack.read_exact_at(&mut self.stored, entry.offset.into())
            .map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => damaged(path, Problem::Length),
                _ => io_error("read", path)(e),
            })?;
        let raw: &[u8] = if entry.compressed {
            self.raw.resize(entry.raw as usize, 0);
            match self
                .zstd
                .decompress_to_buffer(&self.stored, &mut self.raw[..])
            {
                Ok(length) if length == self.raw.len() => &self.raw,
                _ => return Err(damaged(path, Problem::Chunk(entry.id))),
            }
        } else {
            &self.stored
        };
        if ChunkId::of(raw) != entry.id {
            return Err(damaged(path, Problem::Chunk(entry.id)));
        }
        Ok(Unpacked {
            raw,
            stored: &self.stored,
        })
    }
}

/// A chunk that has been proved.
pub(super) struct Unpacked<'a> {
    /// Its bytes.
    pub raw: &'a [u8],
    /// Its bytes as the pack holds them.
    pub stored: &'a [u8],
}

/// A pack that is open for reading.
#[derive(Debug)]
pub(super) struct OpenPack {
    /// The file.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
}
