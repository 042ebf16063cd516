//! What the blocks of tables hold, read from the file itself.
//!
//! Where a table is stored says little alone: DuckDB takes freed blocks again, so that a table that
//! is loaded twice often stands where it stood before, with other rows in it.

use super::super::header;
use super::catalog::Key;
use super::storage::Stored;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

/// More threads than this would only wait for memory or for the disk.
const MAX_THREADS: usize = 8;

/// Puts the content of every table's blocks into its digest. Every block is read once, in the
/// order of the file.
///
/// # Errors
/// If the file cannot be read.
pub fn witness(path: &Path, tables: &mut BTreeMap<Key, Stored>) -> io::Result<()> {
    let numbers: BTreeSet<u64> = tables
        .values()
        .filter(|stored| stored.digest.is_some())
        .flat_map(|stored| &stored.blocks)
        .copied()
        .collect();
    let numbers: Vec<u64> = numbers.into_iter().collect();
    let contents = contents(path, &numbers)?;
    for stored in tables.values_mut() {
        let Some(digest) = &mut stored.digest else {
            continue;
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(digest.as_bytes());
        for number in &stored.blocks {
            if let Some(content) = contents.get(number) {
                hasher.update(content.as_bytes());
            }
        }
        *digest = hasher.finalize().to_hex().to_string();
    }
    Ok(())
}

fn contents(path: &Path, numbers: &[u64]) -> io::Result<BTreeMap<u64, blake3::Hash>> {
    let file = File::open(path)?;
    let mut head = vec![0; header::BLOCKS_START as usize];
    file.read_exact_at(&mut head, 0)?;
    let size = header::block_size(&head);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = numbers.len().div_ceil(threads.min(MAX_THREADS)).max(1);
    let read = |part: &[u64]| -> io::Result<Vec<(u64, blake3::Hash)>> {
        let mut block = vec![0; size as usize];
        part.iter()
            .map(|number| {
                let at = header::BLOCKS_START + number * u64::from(size);
                file.read_exact_at(&mut block, at)?;
                Ok((*number, blake3::hash(&block)))
            })
            .collect()
    };
    thread::scope(|scope| {
        let parts: Vec<_> = numbers
            .chunks(share)
            .map(|part| scope.spawn(move || read(part)))
            .collect();
        let mut all = BTreeMap::new();
        for part in parts {
            let part = part
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.extend(part?);
        }
        Ok(all)
    })
}
