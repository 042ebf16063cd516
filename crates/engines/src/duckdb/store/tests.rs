//! The store as its callers see it, on real folders.

mod crash;
mod damage;
mod gc;
mod patch;
mod round_trip;
mod space;

use super::*;
use crate::duckdb::header::tests::headers;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Small blocks keep the tests small.
const BLOCK: usize = 16_384;

/// One block's content: an even seed compresses, an odd one does not.
fn block(seed: u8) -> Vec<u8> {
    let mut bytes = vec![seed; BLOCK];
    if seed % 2 == 1 {
        blake3::Hasher::new()
            .update(&[seed])
            .finalize_xof()
            .fill(&mut bytes);
    }
    bytes
}

/// A database file made of headers and these blocks.
fn database(blocks: &[u8]) -> Vec<u8> {
    let mut bytes = headers(BLOCK as u64);
    // Every state of a database has headers of its own.
    bytes[4096 + 16..4096 + 16 + blocks.len().min(64)]
        .copy_from_slice(&blocks[..blocks.len().min(64)]);
    bytes.extend(blocks.iter().flat_map(|&seed| block(seed)));
    bytes
}

/// A folder with a store in it and a place for files.
struct Scratch {
    dir: TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    fn writer(&self) -> StoreWriter {
        let mut writer = StoreWriter::open(&self.store()).unwrap();
        // So that a few blocks fill a pack.
        writer.pack_target = 40_000;
        writer
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path("live.duckdb");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn snapshot(&self, point: &str, bytes: &[u8]) -> SnapshotReport {
        self.writer()
            .snapshot(&self.file(bytes), point, "main", &silent)
            .unwrap()
    }

    fn restored(&self, point: &str) -> Result<Vec<u8>> {
        restored(&self.store(), point)
    }

    fn files(&self, sub: &str) -> Vec<PathBuf> {
        files(&self.store().join(sub))
    }
}

fn silent(_: Progress) {}

/// What a point restores to, beside the store.
fn restored(store: &Path, point: &str) -> Result<Vec<u8>> {
    let to = store.with_extension(format!("{point}.duckdb"));
    Store::open(store)?.restore(point, "main", &to, &silent)?;
    let bytes = fs::read(&to).unwrap();
    fs::remove_file(&to).unwrap();
    Ok(bytes)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Copies a store, its two folders of files included.
fn copy_store(from: &Path, to: &Path) {
    for sub in ["", "packs", "points"] {
        fs::create_dir_all(to.join(sub)).unwrap();
        for file in files(&from.join(sub))
            .into_iter()
            .filter(|path| path.is_file())
        {
            fs::copy(&file, to.join(sub).join(file.file_name().unwrap())).unwrap();
        }
    }
}

fn damage(store: &Path) -> Vec<Finding> {
    let mut findings = Store::open(store).unwrap().fsck(&silent).unwrap();
    findings.retain(Finding::is_damage);
    findings
}
