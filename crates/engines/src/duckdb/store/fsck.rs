//! Is everything that was stored still there, byte for byte?

use super::{
    Progress,
    chunk::ChunkId,
    codec::Decompressor,
    durable::UNFINISHED,
    error::{Problem, Result, StoreError, damaged, io_error},
    index::{Index, list},
    open::Store,
    pack,
    packer::pack_path,
    parallel::in_order,
    point::Point,
    reader::share,
};
use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// One thing that a check found.
#[derive(Debug)]
pub enum Finding {
    /// A pack or a point file that is not what was written, or cannot be read.
    Damaged(StoreError),
    /// A file of a point that cannot be restored, because chunks are gone.
    Incomplete {
        /// The point.
        point: String,
        /// Which of its files.
        label: String,
        /// How many different chunks are missing or damaged.
        chunks: u64,
    },
    /// Chunks that no point needs. Not damage: gc gives the space back.
    Unreachable {
        /// How many.
        chunks: u64,
        /// Their stored bytes.
        bytes: u64,
    },
    /// An unfinished file of a crash, or of a writer at work. Not damage: gc removes it.
    Leftover {
        /// The file.
        path: PathBuf,
    },
}

impl Finding {
    /// Whether something that was stored is lost.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Incomplete { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The error's own text sends its reader to fsck, and this is fsck.
            Self::Damaged(StoreError::Damaged { path, problem }) => {
                write!(f, "`{}` is damaged: {problem}", path.display())
            }
            Self::Damaged(e) => e.fmt(f),
            Self::Incomplete {
                point,
                label,
                chunks,
            } => write!(
                f,
                "restore point {point} (`{label}`) cannot be restored: {chunks} chunks are missing \
                 or damaged"
            ),
            Self::Unreachable { chunks, bytes } => write!(
                f,
                "{chunks} chunks ({bytes} bytes) belong to no restore point; `unship gc` removes them"
            ),
            Self::Leftover { path } => write!(
                f,
                "`{}` is an unfinished file; `unship gc` removes it",
                path.display()
            ),
        }
    }
}

impl Store {
    /// Checks every pack, every chunk and every point. It needs no lock and changes nothing.
    ///
    /// # Errors
    /// When the folders cannot be read at all; whatever is wrong inside is a finding.
    pub fn fsck(&self, progress: &dyn Fn(Progress)) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        // Points before packs: a point that is seen here had its packs already.
        let points = self.points()?;
        let mut index = Index::load(&self.packs)?;
        findings.extend(points.damaged.into_iter().map(Finding::Damaged));
        let unreadable = std::mem::take(&mut index.unreadable);
        findings.extend(unreadable.into_iter().map(|(_, e)| Finding::Damaged(e)));
        let bad = self.check_packs(&index, &mut findings, progress)?;

        let mut needed = vec![false; index.places().len()];
        for info in &points.points {
            let point = match Point::read(&self.points, &info.key()) {
                Ok(point) => point,
                // Forgotten meanwhile.
                Err(StoreError::NoSuchPoint { .. }) => continue,
                Err(e) => {
                    findings.push(Finding::Damaged(e));
                    continue;
                }
            };
            let mut lost = HashSet::new();
            for id in &point.chunks {
                match index.number(id) {
                    Some(number) => {
                        needed[number] = true;
                        if bad.contains(id) {
                            lost.insert(*id);
                        }
                    }
                    None => {
                        lost.insert(*id);
                    }
                }
            }
            if !lost.is_empty() && info.key().path(&self.points).exists() {
                findings.push(Finding::Incomplete {
                    point: info.point.clone(),
                    label: info.label.clone(),
                    chunks: lost.len() as u64,
                });
            }
        }
        let unreachable = index
            .places()
            .iter()
            .zip(needed)
            .filter(|(_, needed)| !needed);
        let (chunks, bytes) = unreachable.fold((0, 0), |(chunks, bytes), (place, _)| {
            (chunks + 1, bytes + u64::from(place.entry.stored))
        });
        if chunks > 0 {
            findings.push(Finding::Unreachable { chunks, bytes });
        }
        for dir in [&self.packs, &self.points] {
            let leftovers = list(dir, UNFINISHED)?;
            findings.extend(leftovers.into_iter().map(|path| Finding::Leftover { path }));
        }
        Ok(findings)
    }

    /// Checks the bodies of all packs. Returns the chunks that cannot be had.
    fn check_packs(
        &self,
        index: &Index,
        findings: &mut Vec<Finding>,
        progress: &dyn Fn(Progress),
    ) -> Result<HashSet<ChunkId>> {
        let total: u64 = index.packs.iter().map(|pack| pack.body).sum();
        let count = index.packs.len() as u64;
        let checked = in_order(
            count,
            || Decompressor::new(self.dir()),
            |unpack, number| {
                let path = pack_path(&self.packs, &index.packs[number as usize].name);
                Ok(check_pack(&path, unpack))
            },
            &|done| {
                progress(Progress {
                    doing: "checking",
                    done: share(total, done, count),
                    total,
                });
            },
        )?;
        let mut bad = HashSet::new();
        for (number, (error, chunks)) in checked.into_iter().enumerate() {
            findings.extend(error.map(Finding::Damaged));
            // Another pack's copy of a chunk does not count when it is not the one in use.
            bad.extend(chunks.into_iter().filter(|id| {
                index
                    .find(id)
                    .is_some_and(|place| place.pack as usize == number)
            }));
        }
        Ok(bad)
    }
}

/// Checks the body of one pack: the first thing that is wrong, and the chunks that cannot be had.
fn check_pack(path: &Path, unpack: &mut Decompressor) -> (Option<StoreError>, Vec<ChunkId>) {
    let file = match File::open(path) {
        Ok(file) => file,
        // gc of another process took it away since the index was read.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return (None, Vec::new()),
        Err(e) => return (Some(io_error("open", path)(e)), Vec::new()),
    };
    let pack = match pack::read_index(&file, path) {
        Ok(pack) => pack,
        Err(e) => return (Some(e), Vec::new()),
    };
    let mut body = blake3::Hasher::new();
    let mut error = None;
    let mut bad = Vec::new();
    for entry in &pack.entries {
        match unpack.read(&file, path, entry) {
            Ok(chunk) => {
                body.update(chunk.stored);
            }
            Err(e) => {
                error.get_or_insert(e);
                bad.push(entry.id);
            }
        }
    }
    // Compressed bytes can differ and still unpack to the same chunk.
    if error.is_none() && body.finalize().as_bytes() != &pack.body_digest {
        error = Some(damaged(path, Problem::Digest("body")));
    }
    (error, bad)
}
