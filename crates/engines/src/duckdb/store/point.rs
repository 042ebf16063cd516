//! The format of a point file: one database file's chunks in order, under a point and a label.
//!
//! ```text
//! head    magic "unshipPT", version u32, block size u32, file size u64, identity 48 bytes,
//!         flags u32, length of point u16, length of label u16, point, label
//! digest  BLAKE3 of the head                                                        32 bytes
//! chunks  their ids in file order                                                   32 bytes each
//! digest  BLAKE3 of head and chunks                                                 32 bytes
//! ```
//! Numbers are little-endian. The head has a digest of its own so that points can be listed without
//! reading megabytes of ids. A point with several files is several such files, named
//! `<point>@<label>.point`.

use super::{
    chunk::{ChunkId, Grid},
    error::{Problem, Result, StoreError, damaged, io_error},
    identity::FileIdentity,
};
use crate::duckdb::header::is_block_size;
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The format that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"unshipPT";
const FIXED: usize = 8 + 4 + 4 + 8 + FileIdentity::BYTES + 4 + 2 + 2;
const DIGEST: usize = 32;
const SETTLED: u32 = 1;
/// Longest file name of a point, in bytes, its ending not counted; file systems allow 255.
const LONGEST_NAME: usize = 240;

/// A point's name and a file's label in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The caller's name of the restore point, such as `R12`.
    pub point: String,
    /// Which of the point's files, such as `main` or an alias.
    pub label: String,
}

impl Key {
    /// Checks that both can be part of a file name.
    pub fn new(point: &str, label: &str) -> Result<Self> {
        let bad = |name: &str, why| {
            Err(StoreError::BadName {
                name: name.to_owned(),
                why,
            })
        };
        if point.is_empty() || label.is_empty() {
            return bad(point, "point and label must not be empty");
        }
        let key = Self {
            point: point.to_owned(),
            label: label.to_owned(),
        };
        if key.stem().len() > LONGEST_NAME {
            return bad(point, "point and label are too long together");
        }
        Ok(key)
    }

    fn stem(&self) -> String {
        format!("{}@{}", escaped(&self.point), escaped(&self.label))
    }

    /// Where the point file lies.
    pub fn path(&self, points: &Path) -> PathBuf {
        points.join(format!("{}.point", self.stem()))
    }

    /// There is no such point.
    pub fn missing(&self) -> StoreError {
        StoreError::NoSuchPoint {
            point: self.point.clone(),
            label: self.label.clone(),
        }
    }
}

/// Letters, digits, `-` and `_` as they are, every other byte as `%XX`: any name becomes one safe
/// file name, and no two names the same one.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            out.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// What a point file says of its database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointInfo {
    /// The caller's name of the restore point.
    pub point: String,
    /// Which of the point's files.
    pub label: String,
    /// The database file's size in bytes.
    pub size: u64,
    /// The size of its blocks in bytes.
    pub block_size: u32,
    /// The file as the system knew it when the point was taken.
    pub identity: FileIdentity,
    /// Whether the file had rested so long that an equal identity later proves equal bytes. Within
    /// one tick of the clock a file can change and keep its times.
    pub settled: bool,
}

impl PointInfo {
    pub(super) fn key(&self) -> Key {
        Key {
            point: self.point.clone(),
            label: self.label.clone(),
        }
    }

    pub(super) fn grid(&self) -> Grid {
        Grid {
            block_size: self.block_size,
            size: self.size,
        }
    }
}

/// One file of a restore point: what it was, and the chunks that make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// What the file was.
    pub info: PointInfo,
    /// Its chunks in file order.
    pub chunks: Vec<ChunkId>,
}

impl Point {
    /// The bytes of the point file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let info = &self.info;
        let mut out = Vec::with_capacity(FIXED + 2 * DIGEST + 480 + 32 * self.chunks.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(info.block_size.to_le_bytes());
        out.extend(info.size.to_le_bytes());
        out.extend(info.identity.encode());
        out.extend(u32::from(info.settled).to_le_bytes());
        // `Key::new` bounds both far below what would not fit.
        out.extend((info.point.len() as u16).to_le_bytes());
        out.extend((info.label.len() as u16).to_le_bytes());
        out.extend(info.point.as_bytes());
        out.extend(info.label.as_bytes());
        let mut digest = blake3::Hasher::new();
        digest.update(&out);
        out.extend(digest.finalize().as_bytes());
        let ids = out.len();
        for id in &self.chunks {
            out.extend(id.0);
        }
        digest.update(&out[ids..]);
        out.extend(digest.finalize().as_bytes());
        out
    }

    /// Reads a point file that is wholly in memory.
    ///
    /// # Errors
    /// When it is damaged, or newer than this unship. No bytes make it panic.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_at(Path::new("point"), bytes)
    }

    fn parse_at(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (info, head) = parse_head(path, bytes, bytes.len() as u64)?;
        let ids_from = head + DIGEST;
        let ids_to = bytes.len().saturating_sub(DIGEST);
        let (Some(head), Some(ids), Some(digest)) = (
            bytes.get(..head),
            bytes.get(ids_from..ids_to),
            bytes.get(ids_to..),
        ) else {
            return Err(damaged(path, Problem::Length));
        };
        let expected = blake3::Hasher::new().update(head).update(ids).finalize();
        if expected.as_bytes() != digest {
            return Err(damaged(path, Problem::Digest("list of chunks")));
        }
        let chunks = ids
            .chunks_exact(DIGEST)
            .filter_map(|id| id.first_chunk().copied().map(ChunkId))
            .collect();
        Ok(Self { info, chunks })
    }

    /// Reads the point file of `key`.
    pub(super) fn read(points: &Path, key: &Key) -> Result<Self> {
        let path = key.path(points);
        let bytes = std::fs::read(&path).map_err(|e| not_found(e, &path, key))?;
        let point = Self::parse_at(&path, &bytes)?;
        check_key(&path, &point.info, key)?;
        Ok(point)
    }
}

/// Reads what the point file of `key` says, without its chunks.
pub(super) fn read_info(points: &Path, key: &Key) -> Result<PointInfo> {
    let path = key.path(points);
    if !path.try_exists().map_err(io_error("look at", &path))? {
        return Err(key.missing());
    }
    let info = read_info_at(&path)?;
    check_key(&path, &info, key)?;
    Ok(info)
}

/// Reads what a point file says, without its chunks.
pub(super) fn read_info_at(path: &Path) -> Result<PointInfo> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let length = file.metadata().map_err(io_error("look at", path))?.len();
    let mut head = Vec::new();
    file.by_ref()
        .take((FIXED + 2 * LONGEST_NAME + DIGEST) as u64)
        .read_to_end(&mut head)
        .map_err(io_error("read", path))?;
    let (info, _) = parse_head(path, &head, length)?;
    if info.key().path(Path::new("")).file_name() != path.file_name() {
        return Err(other_point(path, &info));
    }
    Ok(info)
}

fn not_found(e: io::Error, path: &Path, key: &Key) -> StoreError {
    if e.kind() == io::ErrorKind::NotFound {
        key.missing()
    } else {
        io_error("read", path)(e)
    }
}

/// A file under another point's name (copied there, or a file system that ignores case) must not
/// pass for that point.
fn check_key(path: &Path, info: &PointInfo, key: &Key) -> Result<()> {
    if info.point == key.point && info.label == key.label {
        Ok(())
    } else {
        Err(other_point(path, info))
    }
}

fn other_point(path: &Path, info: &PointInfo) -> StoreError {
    damaged(
        path,
        Problem::OtherPoint {
            point: info.point.clone(),
            label: info.label.clone(),
        },
    )
}

/// What the head says, and how long it is without its digest. `length` is the whole file's.
fn parse_head(path: &Path, bytes: &[u8], length: u64) -> Result<(PointInfo, usize)> {
    let fail = |problem| Err(damaged(path, problem));
    let mut fields = Fields(bytes);
    if fields.take::<8>() != Some(*MAGIC) {
        return fail(Problem::Mark);
    }
    let version = fields.take().map_or(0, u32::from_le_bytes);
    if version > VERSION {
        return Err(StoreError::NewerFormat {
            path: path.to_owned(),
            found: version,
            supported: VERSION,
        });
    }
    let (Some(block_size), Some(size), Some(identity), Some(flags), Some(point), Some(label)) = (
        fields.take().map(u32::from_le_bytes),
        fields.take().map(u64::from_le_bytes),
        fields.take().map(FileIdentity::decode),
        fields.take().map(u32::from_le_bytes),
        fields.take().map(u16::from_le_bytes),
        fields.take().map(u16::from_le_bytes),
    ) else {
        return fail(Problem::Length);
    };
    let names = usize::from(point) + usize::from(label);
    let head = FIXED + names;
    let (Some(signed), Some(digest)) = (bytes.get(..head), bytes.get(head..head + DIGEST)) else {
        return fail(Problem::Length);
    };
    if blake3::hash(signed).as_bytes() != digest {
        return fail(Problem::Digest("head"));
    }
    let names = &signed[FIXED..];
    let (Ok(point), Ok(label)) = (
        str::from_utf8(&names[..point.into()]),
        str::from_utf8(&names[point.into()..]),
    ) else {
        return fail(Problem::Nonsense("its names"));
    };
    if !is_block_size(block_size) || flags > SETTLED {
        return fail(Problem::Nonsense("its block size or flags"));
    }
    let info = PointInfo {
        point: point.to_owned(),
        label: label.to_owned(),
        size,
        block_size,
        identity,
        settled: flags & SETTLED != 0,
    };
    let ids = info.grid().chunks().checked_mul(DIGEST as u64);
    if ids.and_then(|ids| ids.checked_add((head + 2 * DIGEST) as u64)) != Some(length) {
        return fail(Problem::Length);
    }
    Ok((info, head))
}

/// Bytes read from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point() -> Point {
        Point {
            info: PointInfo {
                point: "R12".to_owned(),
                label: "main".to_owned(),
                size: 12_288 + 16_384,
                block_size: 16_384,
                identity: FileIdentity {
                    device: 1,
                    inode: 2,
                    size: 28_672,
                    modified_ns: 4,
                    changed_ns: -5,
                },
                settled: true,
            },
            chunks: vec![ChunkId::of(b"a"), ChunkId::of(b"b")],
        }
    }

    #[test]
    fn a_point_reads_as_it_was_written() {
        assert_eq!(Point::parse(&point().encode()).unwrap(), point());
    }

    #[test]
    fn every_byte_is_checked() {
        let good = point().encode();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(Point::parse(&bytes).is_err(), "byte {at}");
        }
        for length in 0..good.len() {
            assert!(Point::parse(&good[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_newer_point_is_refused_by_name() {
        let mut bytes = point().encode();
        bytes[8] = 9;
        let error = Point::parse(&bytes).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { found: 9, .. }));
    }

    #[test]
    fn names_that_cannot_be_files_are_refused() {
        assert!(Key::new("", "main").is_err());
        assert!(Key::new("R1", "").is_err());
        assert!(Key::new("R1", &"x".repeat(300)).is_err());
        assert!(Key::new("R1", &"é".repeat(100)).is_err());
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_file(a in "\\PC{1,8}", b in "\\PC{1,8}", c in "\\PC{1,8}", d in "\\PC{1,8}") {
            let (one, two) = (Key::new(&a, &b).unwrap(), Key::new(&c, &d).unwrap());
            prop_assert_eq!(one.path(Path::new("")) == two.path(Path::new("")), one == two);
            prop_assert_eq!(one.path(Path::new("points")).components().count(), 2);
        }

        #[test]
        fn no_signed_nonsense_makes_it_panic(
            edits in prop::collection::vec((8..FIXED, any::<u8>()), 1..6),
        ) {
            let mut bytes = point().encode();
            for (at, value) in edits {
                bytes[at] = value;
            }
            let names = usize::from(bytes[FIXED - 4]) + usize::from(bytes[FIXED - 2]);
            let head = FIXED + names;
            if head + DIGEST <= bytes.len() {
                let digest = blake3::hash(&bytes[..head]);
                bytes[head..head + DIGEST].copy_from_slice(digest.as_bytes());
            }
            let _ = Point::parse(&bytes);
        }
    }
}
