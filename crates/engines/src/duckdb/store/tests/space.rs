//! A full disk. It takes a small file system, which only root can mount.

use super::*;
use std::process::Command;

/// A file system of 2 MiB in memory, unmounted when it goes.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            unship_core::testing::skipped(
                "a small file system cannot be mounted here (it takes root)",
            );
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

/// Blocks that do not compress: 16 KiB each.
fn large(blocks: u8) -> Vec<u8> {
    database(&(0..blocks).map(|n| n * 2 + 1).collect::<Vec<_>>())
}

#[test]
fn a_full_disk_is_named_and_the_store_stays_whole_at_every_size() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let s = Scratch::new();
    let store = disk.path("store");
    let small = s.file(&large(2));
    let mut writer = StoreWriter::open(&store).unwrap();
    writer.pack_target = 300_000;
    writer.snapshot(&small, "R1", "main", &silent).unwrap();
    let before = writer.store().size().unwrap();
    let huge = s.file(&large(127));
    // Whatever is left, some write is the first that fails: of a pack, of its index, of the point.
    let ballast = disk.path("ballast");
    for kilobytes in (0..1400).step_by(100).chain(1800..1830) {
        fs::write(&ballast, vec![1; kilobytes * 1024]).unwrap();
        let error = writer.snapshot(&huge, "R2", "main", &silent).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("store/"), "{error}");
        assert_eq!(writer.store().size().unwrap(), before);
        assert!(damage(&store).is_empty());
    }
    fs::remove_file(ballast).unwrap();
    writer
        .snapshot(&s.file(&large(40)), "R2", "main", &silent)
        .unwrap();
    for (point, bytes) in [("R1", large(2)), ("R2", large(40))] {
        let to = s.path(point);
        writer.store().restore(point, "main", &to, &silent).unwrap();
        assert!(fs::read(to).unwrap() == bytes);
    }
}

#[test]
fn restoring_asks_for_room_before_it_begins() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let s = Scratch::new();
    s.snapshot("R1", &large(127));
    let store = Store::open(&s.store()).unwrap();
    fs::write(disk.path("ballast"), vec![1; 512 * 1024]).unwrap();
    let error = store
        .restore("R1", "main", &disk.path("new.duckdb"), &silent)
        .unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
    assert_eq!(files(disk.0.path()).len(), 1, "the ballast");

    let live = disk.path("live.duckdb");
    fs::write(&live, large(60)).unwrap();
    let begun = &mut |_| panic!("must not begin");
    let error = store
        .patch("R1", "main", &live, begun, &silent)
        .unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
    assert!(fs::read(&live).unwrap() == large(60));
}
