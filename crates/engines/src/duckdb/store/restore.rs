//! A point, written out as a new file.

use super::{
    Progress,
    chunk::ChunkId,
    durable::{remove_file, sync_dir},
    error::{Result, StoreError, io_error},
    open::Store,
    parallel::in_order,
    point::{Key, Point},
    reader::{Reader, share},
    room,
    snapshot::each_chunk,
};
use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use unship_core::fault::boundary;

/// What a restore wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreReport {
    /// Bytes of the new file.
    pub bytes: u64,
    /// Chunks that make it.
    pub chunks: u64,
}

impl Store {
    /// Whether the file at `path` is, byte for byte, one file of a point.
    ///
    /// # Errors
    /// When there is no such point, it is damaged, or the file cannot be read.
    pub fn equals(
        &self,
        point: &str,
        label: &str,
        path: &Path,
        progress: &dyn Fn(Progress),
    ) -> Result<bool> {
        let key = Key::new(point, label)?;
        let point = Point::read(&self.points, &key)?;
        let file = File::open(path).map_err(io_error("open", path))?;
        let length = file.metadata().map_err(io_error("look at", path))?.len();
        if length != point.info.size {
            return Ok(false);
        }
        Ok(differing_chunks(&file, path, &point, length, "checking", progress)?.is_empty())
    }

    /// Writes one file of a point to the new file `to`.
    ///
    /// It is written as `<to>.part`, synced, read back and compared, and only then renamed: under
    /// its own name it is whole or not there. A `.part` that an earlier attempt left behind is
    /// replaced. Only its owner can read the new file, until the caller gives it the permissions that
    /// it should have.
    ///
    /// # Errors
    /// When `to` exists, the point or one of its chunks is missing or damaged, or the disk fails or
    /// is full. Nothing is then left behind.
    pub fn restore(
        &self,
        point: &str,
        label: &str,
        to: &Path,
        progress: &dyn Fn(Progress),
    ) -> Result<RestoreReport> {
        let key = Key::new(point, label)?;
        let point = Point::read(&self.points, &key)?;
        refuse_existing(to)?;
        let parent = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let part = part_of(to);
        remove_file(&part)?;
        room::require(to, parent, point.info.size)?;
        let written = self
            .write_part(&key, &point, &part, progress)
            .and_then(|()| {
                refuse_existing(to)?;
                boundary("unpacked");
                fs::rename(&part, to).map_err(io_error("rename into place", to))?;
                boundary("unpacked file named");
                Ok(())
            });
        if let Err(e) = written {
            // Best effort: the first error is the one to tell.
            let _ = remove_file(&part);
            return Err(e);
        }
        sync_dir(parent)?;
        Ok(RestoreReport {
            bytes: point.info.size,
            chunks: point.chunks.len() as u64,
        })
    }

    fn write_part(
        &self,
        key: &Key,
        point: &Point,
        part: &Path,
        progress: &dyn Fn(Progress),
    ) -> Result<()> {
        let grid = point.info.grid();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(part)
            .map_err(io_error("create", part))?;
        file.set_len(grid.size).map_err(io_error("resize", part))?;
        in_order(
            grid.chunks(),
            || Reader::new(self, key),
            |reader, chunk| {
                let (from, to) = grid.range(chunk);
                let raw = reader.read(&point.chunks[chunk as usize], to - from)?;
                file.write_all_at(raw, from)
                    .map_err(io_error("write", part))
            },
            &|done| {
                progress(Progress {
                    doing: "writing",
                    done: share(grid.size, done, grid.chunks()),
                    total: grid.size,
                });
            },
        )?;
        file.sync_all().map_err(io_error("sync", part))?;
        let differing = differing_chunks(&file, part, point, grid.size, "checking", progress)?;
        if differing.is_empty() {
            Ok(())
        } else {
            Err(StoreError::NotVerified {
                path: part.to_owned(),
            })
        }
    }
}

/// The chunks of a point that a file of `length` bytes does not hold in their places.
pub(super) fn differing_chunks(
    file: &File,
    path: &Path,
    point: &Point,
    length: u64,
    doing: &'static str,
    progress: &dyn Fn(Progress),
) -> Result<Vec<u64>> {
    let grid = point.info.grid();
    let spans = grid.spans();
    let differing = in_order(
        spans,
        || Ok(Vec::new()),
        |buffer, span| {
            let (first, end) = grid.span(span);
            if grid.range(end.saturating_sub(1)).1 > length {
                // The file ends within or before this span: few such chunks, so do not compare.
                return Ok((first..end).collect::<Vec<_>>());
            }
            let differs = each_chunk(file, path, grid, span, buffer, |chunk, raw| {
                let same = ChunkId::of(raw) == point.chunks[chunk as usize];
                Ok((!same).then_some(chunk))
            })?;
            Ok(differs.into_iter().flatten().collect())
        },
        &|done| {
            progress(Progress {
                doing,
                done: share(grid.size, done, spans),
                total: grid.size,
            });
        },
    )?;
    Ok(differing.into_iter().flatten().collect())
}

fn refuse_existing(to: &Path) -> Result<()> {
    match fs::symlink_metadata(to) {
        Ok(_) => Err(StoreError::TargetExists {
            path: to.to_owned(),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_error("look at", to)(e)),
    }
}

fn part_of(to: &Path) -> PathBuf {
    let mut name = OsString::from(to);
    name.push(".part");
    name.into()
}
