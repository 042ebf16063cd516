//! Which file it is, and whether it is still the same.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a file must have rested before its times can be trusted: file systems stamp in ticks
/// of up to two seconds.
const REST: Duration = Duration::from_secs(2);

/// A file as the system knows it. Writing to a file, or replacing it, changes this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// The device that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its bytes were last changed, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// When its bytes or its metadata were last changed, in nanoseconds since 1970. Unlike the
    /// time before, a program cannot set it.
    pub changed_ns: i128,
}

impl FileIdentity {
    /// Bytes that it takes in a point file.
    pub(super) const BYTES: usize = 48;

    /// The identity that a file's metadata gives.
    pub fn of(meta: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether the last change is so far behind `now` that a later one must show.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else {
            return false;
        };
        let rest = now.as_nanos() as i128 - self.changed_ns.max(self.modified_ns);
        rest > REST.as_nanos() as i128
    }

    /// As little-endian numbers; the times as seconds and nanoseconds would be no shorter.
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.device.to_le_bytes());
        out[8..16].copy_from_slice(&self.inode.to_le_bytes());
        out[16..24].copy_from_slice(&self.size.to_le_bytes());
        out[24..36].copy_from_slice(&self.modified_ns.to_le_bytes()[..12]);
        out[36..48].copy_from_slice(&self.changed_ns.to_le_bytes()[..12]);
        out
    }

    /// The reverse of [`FileIdentity::encode`].
    pub(super) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            bytes[at..]
                .first_chunk()
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        let time = |at: usize| {
            let mut wide = [0; 16];
            wide[..12].copy_from_slice(&bytes[at..at + 12]);
            // The sign is in the twelfth byte.
            (i128::from_le_bytes(wide) << 32) >> 32
        };
        Self {
            device: word(0),
            inode: word(8),
            size: word(16),
            modified_ns: time(24),
            changed_ns: time(36),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_encoding_before_1970_too() {
        for ns in [
            0,
            1,
            -1,
            1_763_000_000_123_456_789,
            -62_000_000_000_000_000_001,
        ] {
            let identity = FileIdentity {
                device: u64::MAX,
                inode: 7,
                size: 12_288,
                modified_ns: ns,
                changed_ns: -ns,
            };
            assert_eq!(FileIdentity::decode(identity.encode()), identity);
        }
    }

    #[test]
    fn a_file_of_this_moment_has_not_settled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let identity = FileIdentity::of(&file.as_file().metadata().unwrap());
        let now = SystemTime::now();
        assert!(!identity.is_settled(now));
        assert!(identity.is_settled(now + Duration::from_secs(3)));
        assert!(!identity.is_settled(now - Duration::from_secs(3)));
    }
}
