//! A small file system that fills up.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is part of a test"
)]

use super::skipped;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system in memory. Mounting one needs root.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one on an empty directory, or says why the test is skipped.
    pub fn mount(at: &Path) -> Option<Self> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "unship-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        skipped("mounting a small file system needs root");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it of this size in bytes.
    pub fn resize(&self, bytes: u64) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,size={}k", bytes.div_ceil(1024))])
            .arg(&self.0)
            .status();
        assert!(done.expect("mount runs").success());
    }

    /// What is on it, in bytes.
    pub fn used(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.0).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
