//! How a file is cut, and what a piece is called.

use crate::duckdb::header::{BLOCKS_START, DEFAULT_BLOCK_SIZE};
use std::fmt;

/// The largest chunk, in bytes. Nothing longer is ever written, so a longer length in a file is
/// damage and is never allocated.
pub(super) const MAX_CHUNK: u32 = DEFAULT_BLOCK_SIZE;

/// A chunk's name: the BLAKE3 digest of its bytes.
///
/// DuckDB's own block checksums must not stand in for it: they are blind to the order of words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The cuts of one file: the three headers together, then one chunk per block; the last may be
/// short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Bytes in a block.
    pub block_size: u32,
    /// Bytes in the file.
    pub size: u64,
}

impl Grid {
    /// How many chunks there are.
    pub fn chunks(self) -> u64 {
        if self.size == 0 {
            return 0;
        }
        1 + self
            .size
            .saturating_sub(BLOCKS_START)
            .div_ceil(self.block_size.into())
    }

    /// Where chunk `index` begins and ends in the file.
    pub fn range(self, index: u64) -> (u64, u64) {
        let block = u64::from(self.block_size);
        let edge = |chunk: u64| match chunk.checked_sub(1) {
            None => 0,
            Some(blocks) => blocks
                .saturating_mul(block)
                .saturating_add(BLOCKS_START)
                .min(self.size),
        };
        (edge(index), edge(index.saturating_add(1)))
    }

    /// How many neighbouring chunks make one read of about a mebibyte: enough to make the system
    /// call cheap, little enough to stay in a core's cache.
    pub fn chunks_per_span(self) -> u64 {
        const SPAN: u64 = 1 << 20;
        (SPAN / u64::from(self.block_size).max(1)).max(1)
    }

    /// How many such reads cover the file.
    pub fn spans(self) -> u64 {
        self.chunks().div_ceil(self.chunks_per_span())
    }

    /// The chunks of one such read: the first, and the one after the last.
    pub fn span(self, index: u64) -> (u64, u64) {
        let first = index.saturating_mul(self.chunks_per_span());
        let end = first
            .saturating_add(self.chunks_per_span())
            .min(self.chunks());
        (first.min(end), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_come_first_and_blocks_follow_duckdbs_grid() {
        let grid = Grid {
            block_size: 16_384,
            size: 12_288 + 16_384 + 5,
        };
        assert_eq!(grid.chunks(), 3);
        assert_eq!(grid.range(0), (0, 12_288));
        assert_eq!(grid.range(1), (12_288, 28_672));
        assert_eq!(grid.range(2), (28_672, 28_677));
    }

    proptest! {
        #[test]
        fn chunks_and_spans_tile_the_file(size in 0..3_000_000_u64, power in 14..=18_u32) {
            let grid = Grid { block_size: 1 << power, size };
            let mut at = 0;
            let mut next = 0;
            for span in 0..grid.spans() {
                let (first, end) = grid.span(span);
                prop_assert_eq!(first, next);
                prop_assert!(end > first);
                for chunk in first..end {
                    let (from, to) = grid.range(chunk);
                    prop_assert_eq!(from, at);
                    prop_assert!(to > from && to - from <= u64::from(MAX_CHUNK));
                    at = to;
                }
                next = end;
            }
            prop_assert_eq!(at, size);
            prop_assert_eq!(next, grid.chunks());
        }
    }
}
