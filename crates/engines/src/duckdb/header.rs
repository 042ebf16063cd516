//! What the first three pages of a DuckDB file say.
//!
//! Page 0 is the main header, pages 1 and 2 are database headers that DuckDB writes in turn; the one
//! with the larger iteration is active. In an encrypted file the main header is plain and everything
//! after it is not.

/// Size of one header page, in bytes.
pub const PAGE: usize = 4096;
/// Where the blocks begin: after three header pages.
pub const BLOCKS_START: u64 = 3 * PAGE as u64;
/// DuckDB's default block size in bytes, which is also its largest.
pub const DEFAULT_BLOCK_SIZE: u32 = 262_144;
/// The smallest block size that DuckDB accepts, in bytes.
pub const MIN_BLOCK_SIZE: u32 = 16_384;

const ENCRYPTED: u64 = 1;

/// The headers of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The main header's version: 64 and up for DuckDB 1.x, 999 from 2.0, where only
    /// [`DatabaseHeader::storage_version`] tells.
    pub version: u64,
    /// Whether everything after the main header is encrypted.
    pub encrypted: bool,
    /// The DuckDB that created the file, such as `v1.5.5`; empty in old files.
    pub library_version: String,
    /// The active database header; `None` when encrypted.
    pub active: Option<DatabaseHeader>,
}

/// One database header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Counts checkpoints. It goes back when an older file is restored, so an equal iteration does
    /// not prove an unchanged file.
    pub iteration: u64,
    /// Where the catalog begins, as DuckDB's own block pointer.
    pub meta_block: u64,
    /// Where the free list begins, as DuckDB's own block pointer.
    pub free_list: u64,
    /// How many blocks the file had, free ones included. It may have given some at its end back.
    pub block_count: u64,
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Rows in a vector.
    pub vector_size: u64,
    /// From DuckDB 2.0 on, the version of the storage format. Before, a number of its own, which
    /// says with which older DuckDB the file is compatible: ask [`Header::storage_version`].
    pub storage_version: u64,
}

/// What a main header of DuckDB 2.0 says in place of the version.
const VERSION_IS_ELSEWHERE: u64 = 999;

impl Header {
    /// The version of the storage format, as DuckDB names it in its own messages; a DuckDB that
    /// does not know it cannot read the file. `None` where an encrypted file hides it.
    pub fn storage_version(&self) -> Option<u64> {
        match self.version {
            VERSION_IS_ELSEWHERE => self.active.map(|active| active.storage_version),
            version => Some(version),
        }
    }
}

/// Why bytes are not the start of a readable DuckDB file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than the three header pages.
    #[error("the file has {0} bytes; a DuckDB file has at least 12288")]
    TooShort(usize),
    /// The whole main header is zero, as an in-place restore leaves it until its last step.
    #[error(
        "the main header is all zeros: an in-place restore of this file did not finish; \
         run it again"
    )]
    Sealed,
    /// No `DUCK` at offset 8.
    #[error("this is not a DuckDB file")]
    NotDuckDb,
    /// Neither database header has values that DuckDB could have written.
    #[error("both database headers are damaged")]
    NoDatabaseHeader,
}

/// Reads the headers from a file's first bytes. 12,288 are enough; more are ignored.
///
/// # Errors
/// When the bytes are too few, not DuckDB's, sealed by an unfinished restore, or damaged.
pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    let (Some(main), Some(h1), Some(h2)) = (page(bytes, 0), page(bytes, 1), page(bytes, 2)) else {
        return Err(HeaderError::TooShort(bytes.len()));
    };
    if main.iter().all(|&b| b == 0) {
        return Err(HeaderError::Sealed);
    }
    if main.get(8..12) != Some(b"DUCK") {
        return Err(HeaderError::NotDuckDb);
    }
    let encrypted = word(main, 20) & ENCRYPTED != 0;
    let active = match (database_header(h1), database_header(h2)) {
        _ if encrypted => None,
        // DuckDB itself prefers the second header when the iterations are equal.
        (Some(a), Some(b)) => Some(if a.iteration > b.iteration { a } else { b }),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => return Err(HeaderError::NoDatabaseHeader),
    };
    let name = main.get(52..84).unwrap_or_default();
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    Ok(Header {
        version: word(main, 12),
        encrypted,
        library_version: String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned(),
        active,
    })
}

/// The block size on whose grid a file's blocks lie, from its first bytes.
///
/// Where the headers do not tell (encrypted, damaged, not a DuckDB file) it is the default: a grid
/// that does not fit costs some deduplication and nothing else.
pub fn block_size(bytes: &[u8]) -> u32 {
    parse(bytes)
        .ok()
        .and_then(|header| header.active)
        .map_or(DEFAULT_BLOCK_SIZE, |active| active.block_size)
}

/// Whether DuckDB could write blocks of this size.
pub fn is_block_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (MIN_BLOCK_SIZE..=DEFAULT_BLOCK_SIZE).contains(&bytes)
}

/// The block that one of DuckDB's block pointers means; its upper byte says where in the block.
pub fn block_of(pointer: u64) -> Option<u64> {
    (pointer != u64::MAX).then_some(pointer & ((1 << 56) - 1))
}

fn page(bytes: &[u8], number: usize) -> Option<&[u8]> {
    bytes.get(number * PAGE..(number + 1) * PAGE)
}

/// The little-endian word at an offset; 0 beyond the end.
fn word(page: &[u8], offset: usize) -> u64 {
    page.get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn database_header(page: &[u8]) -> Option<DatabaseHeader> {
    let block_size = u32::try_from(word(page, 40)).ok()?;
    let vector_size = word(page, 48);
    (is_block_size(block_size) && vector_size.is_power_of_two()).then(|| DatabaseHeader {
        iteration: word(page, 8),
        meta_block: word(page, 16),
        free_list: word(page, 24),
        block_count: word(page, 32),
        block_size,
        vector_size,
        storage_version: word(page, 56),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A database header as DuckDB lays it out.
    fn database_page(iteration: u64, block_size: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let words = [0, iteration, 0, 3, 9, block_size, 2048, 7];
        for (slot, word) in page.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&u64::to_le_bytes(word));
        }
        page
    }

    /// The three headers of a small file with the given block size.
    pub fn headers(block_size: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        bytes[8..12].copy_from_slice(b"DUCK");
        bytes[12] = 68;
        bytes[52..58].copy_from_slice(b"v1.5.5");
        bytes.extend(database_page(4, DEFAULT_BLOCK_SIZE.into()));
        bytes.extend(database_page(5, block_size));
        bytes
    }

    #[test]
    fn the_header_with_the_larger_iteration_is_active() {
        let mut bytes = headers(16_384);
        let header = parse(&bytes).unwrap();
        assert_eq!(header.version, 68);
        assert_eq!(header.library_version, "v1.5.5");
        assert!(!header.encrypted);
        let active = header.active.unwrap();
        assert_eq!((active.iteration, active.block_size), (5, 16_384));
        assert_eq!((active.block_count, active.storage_version), (9, 7));
        assert_eq!(header.storage_version(), Some(68));
        bytes[12..14].copy_from_slice(&999_u16.to_le_bytes());
        assert_eq!(parse(&bytes).unwrap().storage_version(), Some(7));

        bytes[PAGE + 8] = 6;
        assert_eq!(block_size(&bytes), DEFAULT_BLOCK_SIZE);
    }

    #[test]
    fn one_torn_database_header_leaves_the_other() {
        let mut bytes = headers(16_384);
        bytes[PAGE..2 * PAGE].fill(0xff);
        assert_eq!(parse(&bytes).unwrap().active.unwrap().iteration, 5);
        bytes[2 * PAGE..].fill(0xff);
        assert_eq!(parse(&bytes), Err(HeaderError::NoDatabaseHeader));
        assert_eq!(block_size(&bytes), DEFAULT_BLOCK_SIZE);
    }

    #[test]
    fn nothing_after_the_main_header_is_believed_when_encrypted() {
        let mut bytes = headers(16_384);
        bytes[20] = 1;
        let header = parse(&bytes).unwrap();
        assert!(header.encrypted);
        assert_eq!(header.active, None);
        assert_eq!(block_size(&bytes), DEFAULT_BLOCK_SIZE);
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        assert_eq!(parse(b"DUCK"), Err(HeaderError::TooShort(4)));
        let mut bytes = headers(16_384);
        bytes[8] = b'd';
        assert_eq!(parse(&bytes), Err(HeaderError::NotDuckDb));
        bytes[..PAGE].fill(0);
        assert_eq!(parse(&bytes), Err(HeaderError::Sealed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            edits in prop::collection::vec((0..12_288_usize, any::<u8>()), 0..64),
            length in 0..=12_288_usize,
        ) {
            let mut bytes = headers(16_384);
            for (at, value) in edits {
                bytes[at] = value;
            }
            let _ = parse(&bytes[..length]);
            prop_assert!(is_block_size(block_size(&bytes)));
        }
    }
}
