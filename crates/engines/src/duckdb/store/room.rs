//! Whether the disk has room, asked before anything is changed.

use super::error::{Result, StoreError, io_error};
use nix::sys::statvfs::statvfs;
use std::{io, path::Path};

/// Fails unless the file system at `at` (an existing file or folder) has `needed` free bytes for
/// `file`.
pub(super) fn require(file: &Path, at: &Path, needed: u64) -> Result<()> {
    let stats =
        statvfs(at).map_err(|e| io_error("ask for free space at", at)(io::Error::from(e)))?;
    // Casts, because the widths of these numbers differ between systems.
    let available = (stats.blocks_available() as u64).saturating_mul(stats.fragment_size() as u64);
    if available < needed {
        return Err(StoreError::NoRoom {
            path: file.to_owned(),
            needed,
            available,
        });
    }
    Ok(())
}

/// Whether overwriting bytes of a file takes new space there, as it does where files can share
/// blocks. Where it cannot be told, it is assumed.
#[cfg(target_os = "linux")]
pub(super) fn overwriting_takes_space(path: &Path) -> bool {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, statfs};
    statfs(path).map_or(true, |stats| {
        ![EXT4_SUPER_MAGIC, TMPFS_MAGIC].contains(&stats.filesystem_type())
    })
}

/// Whether overwriting bytes of a file takes new space there: assumed.
#[cfg(not(target_os = "linux"))]
pub(super) fn overwriting_takes_space(_path: &Path) -> bool {
    true
}
