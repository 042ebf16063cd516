//! The format of a pack: many chunks in one file, and an index at its end.
//!
//! ```text
//! header   magic "unshipPK", version u32, zero u32                                  16 bytes
//! body     the stored chunks, one after the other, without gaps
//! index    per chunk: id, offset u32, stored length u32, raw length u32, flags u32  48 bytes each
//! footer   body length u64, chunks u32, zero u32, BLAKE3 of the body,               88 bytes
//!          BLAKE3 of header, index and the footer so far, magic "PKunship"
//! ```
//! Numbers are little-endian. Flag 1 means zstd. Every byte is under one of the two digests, and
//! each chunk under its id as well. A pack is named after its second digest.

use super::{
    chunk::{ChunkId, MAX_CHUNK},
    error::{Problem, Result, StoreError, damaged, io_error},
};
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// The format that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;
/// Bytes before the first chunk.
pub(super) const HEADER: u64 = 16;
const ENTRY: u64 = 48;
const FOOTER: u64 = 88;
const BEGIN: &[u8; 8] = b"unshipPK";
const END: &[u8; 8] = b"PKunship";
const ZSTD: u32 = 1;

/// Where one chunk lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The chunk.
    pub id: ChunkId,
    /// Where its stored bytes begin in the pack.
    pub offset: u32,
    /// How many stored bytes there are.
    pub stored: u32,
    /// How many bytes the chunk has.
    pub raw: u32,
    /// Whether the stored bytes are compressed with zstd.
    pub compressed: bool,
}

/// A pack's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    /// The chunks in the order of the body, which they fill without gaps.
    pub entries: Vec<Entry>,
    /// BLAKE3 of the body.
    pub body_digest: [u8; 32],
    /// Bytes in the body.
    pub body: u64,
}

/// The first bytes of every pack.
pub(super) fn header() -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(BEGIN);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// The bytes after the body, and the name that goes with them.
pub(super) fn trailer(entries: &[Entry], body_digest: [u8; 32], body: u64) -> (Vec<u8>, String) {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY as usize + FOOTER as usize);
    for entry in entries {
        bytes.extend(entry.id.0);
        let flags = if entry.compressed { ZSTD } else { 0 };
        for word in [entry.offset, entry.stored, entry.raw, flags] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.extend(body.to_le_bytes());
    // A pack is rolled over at 64 MiB, far below what would not fit here.
    bytes.extend((entries.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body_digest);
    let digest = index_digest(&header(), &bytes);
    bytes.extend(digest.as_bytes());
    bytes.extend(END);
    let name = digest.to_hex()[..32].to_owned();
    (bytes, name)
}

fn index_digest(header: &[u8], signed: &[u8]) -> blake3::Hash {
    blake3::Hasher::new()
        .update(header)
        .update(signed)
        .finalize()
}

/// Reads the index of a pack that is wholly in memory, checking everything but the body.
///
/// # Errors
/// When the pack is damaged, or newer than this unship. No bytes make it panic, and it allocates
/// no more than a small multiple of their number.
pub fn parse(bytes: &[u8]) -> Result<PackIndex> {
    let read = |at: u64, length: u64| {
        usize::try_from(at)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(at, length)| bytes.get(at..at.checked_add(length)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| damaged(Path::new("pack"), Problem::Length))
    };
    parse_with(Path::new("pack"), bytes.len() as u64, read)
}

/// Reads the index of a pack file, checking everything but the body.
pub(super) fn read_index(file: &File, path: &Path) -> Result<PackIndex> {
    let length = file.metadata().map_err(io_error("look at", path))?.len();
    parse_with(path, length, |at, length| {
        // Lengths were checked against the file's before anything is allocated.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(damaged(path, Problem::Length))
            }
            Err(e) => Err(io_error("read", path)(e)),
        }
    })
}

fn parse_with(
    path: &Path,
    length: u64,
    read: impl Fn(u64, u64) -> Result<Vec<u8>>,
) -> Result<PackIndex> {
    let fail = |problem| Err(damaged(path, problem));
    if length < HEADER + FOOTER {
        return fail(Problem::Length);
    }
    let header = read(0, HEADER)?;
    if !header.starts_with(BEGIN) {
        return fail(Problem::Mark);
    }
    let version = u32_at(&header, 8);
    if version > VERSION {
        return Err(StoreError::NewerFormat {
            path: path.to_owned(),
            found: version,
            supported: VERSION,
        });
    }
    let footer = read(length - FOOTER, FOOTER)?;
    if !footer.ends_with(END) {
        return fail(Problem::Mark);
    }
    let body = u64::from(u32_at(&footer, 0)) | u64::from(u32_at(&footer, 4)) << 32;
    let index_length = u64::from(u32_at(&footer, 8)) * ENTRY;
    if body.checked_add(HEADER + index_length + FOOTER) != Some(length) {
        return fail(Problem::Length);
    }
    let mut signed = read(HEADER + body, index_length)?;
    signed.extend(&footer[..48]);
    if index_digest(&header, &signed).as_bytes() != &footer[48..80] {
        return fail(Problem::Digest("index"));
    }
    let mut entries = Vec::with_capacity(signed.len() / ENTRY as usize);
    let mut at = HEADER;
    for bytes in signed[..signed.len() - 48].chunks_exact(ENTRY as usize) {
        let flags = u32_at(bytes, 44);
        let entry = Entry {
            id: ChunkId(bytes.first_chunk().copied().unwrap_or_default()),
            offset: u32_at(bytes, 32),
            stored: u32_at(bytes, 36),
            raw: u32_at(bytes, 40),
            compressed: flags == ZSTD,
        };
        let sizes_agree = if entry.compressed {
            entry.stored < entry.raw
        } else {
            entry.stored == entry.raw
        };
        if flags > ZSTD || !sizes_agree || entry.raw == 0 || entry.raw > MAX_CHUNK {
            return fail(Problem::Nonsense("a chunk's lengths"));
        }
        if u64::from(entry.offset) != at {
            return fail(Problem::Nonsense("a chunk's place"));
        }
        at += u64::from(entry.stored);
        entries.push(entry);
    }
    if at != HEADER + body {
        return fail(Problem::Nonsense("the body's length"));
    }
    Ok(PackIndex {
        entries,
        body_digest: footer[16..48].try_into().unwrap_or_default(),
        body,
    })
}

/// The little-endian number at an offset; 0 beyond the end.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack() -> Vec<u8> {
        let mut bytes = header().to_vec();
        let mut entries = Vec::new();
        for chunk in [&b"one"[..], b"three"] {
            entries.push(Entry {
                id: ChunkId::of(chunk),
                offset: bytes.len() as u32,
                stored: chunk.len() as u32,
                raw: chunk.len() as u32,
                compressed: false,
            });
            bytes.extend(chunk);
        }
        let digest = *blake3::hash(&bytes[16..]).as_bytes();
        bytes.extend(trailer(&entries, digest, 8).0);
        bytes
    }

    /// Gives edited bytes a right digest again, so that parsing goes beyond it.
    fn sign(bytes: &mut [u8]) {
        let end = bytes.len() - 40;
        let from = end - 48 - 2 * 48;
        let digest = index_digest(&bytes[..16], &bytes[from..end]);
        bytes[end..end + 32].copy_from_slice(digest.as_bytes());
    }

    #[test]
    fn a_pack_reads_as_it_was_written() {
        let index = parse(&pack()).unwrap();
        assert_eq!(index.body, 8);
        assert_eq!(index.entries[1].id, ChunkId::of(b"three"));
        assert_eq!((index.entries[1].offset, index.entries[1].raw), (19, 5));
    }

    #[test]
    fn a_newer_pack_is_refused_by_name() {
        let mut bytes = pack();
        bytes[8] = 2;
        let error = parse(&bytes).unwrap_err().to_string();
        assert!(
            error.contains("format 2") && error.contains("newer unship"),
            "{error}"
        );
    }

    #[test]
    fn every_byte_outside_of_the_body_is_checked() {
        let good = pack();
        for at in (0..good.len()).filter(|at| !(16..24).contains(at)) {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(parse(&bytes).is_err(), "byte {at}");
        }
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "length {length}");
        }
    }

    proptest! {
        #[test]
        fn no_signed_nonsense_makes_it_panic(
            edits in prop::collection::vec((24..168_usize, any::<u8>()), 1..8),
        ) {
            let mut bytes = pack();
            for (at, value) in edits {
                bytes[at] = value;
            }
            sign(&mut bytes);
            if let Ok(index) = parse(&bytes) {
                let end = index.entries.last().map(|e| e.offset + e.stored);
                prop_assert_eq!(end, Some(24));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
