//! A disk that is full at any write: a small file system of growing sizes, with production, restore
//! points and the ledger all on it. Needs the right to mount one.

use crate::crash::Walk;
use crate::rig::{Oracle, Ran, World, files_below, python, rounds};
use std::fs;
use std::path::Path;
use std::process::Command;
use unship_core::testing::disk::SmallDisk;

/// Where it is not the size that is tried.
const ROOMY: u64 = 256 << 20;

/// A disk, and the directory that it is mounted on.
struct Disk {
    disk: SmallDisk,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(dir.path())?;
        Some(Self { disk, _dir: dir })
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }

    /// A copy of a project on this disk, with so many bytes left free.
    fn hold(&self, base: &World, free: u64) -> World {
        self.disk.resize(ROOMY);
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        let world = base.copy_to(self.path());
        self.disk.resize(self.disk.used() + free);
        world
    }
}

/// Three releases of a database, and its size before the first.
fn three_releases() -> Option<(Disk, Oracle, World, u64)> {
    let python = python()?;
    let disk = Disk::mount()?;
    let oracle = Oracle::start(&python);
    let world = World::new(&python);
    world.begin(&oracle);
    let size = fs::metadata(world.db()).unwrap().len();
    for release in 1..=3 {
        world.run("--aside", release, &[]).ok();
    }
    Some((disk, oracle, world, size))
}

/// Grows the disk until the command succeeds, and looks at each attempt that did not.
fn grow(
    disk: &Disk,
    oracle: &Oracle,
    base: &World,
    in_place: bool,
    words: impl Fn(&World) -> Vec<String>,
) {
    let before = oracle.look(&base.db()).unwrap();
    let step = rounds("UNSHIP_DISK_STEP", 1 << 20);
    for (refused, free) in (0..).map(|n| n * step).enumerate() {
        assert!(free < ROOMY, "no room is enough");
        let world = disk.hold(base, free);
        let words = words(&world);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = world.unship(&words);
        let here = format!("{words:?} with {free} bytes free");
        let now = oracle.look(&world.db()).unwrap();
        if ran.code == Some(0) {
            println!("{words:?}: {refused} refusals, then done with {free} bytes free");
            assert!(refused > 0, "{here}: never was short of room");
            assert_ne!(now, before, "{here}");
            world.check_healthy();
            return;
        }
        // The job's own failure is the job's; all others are unship's to explain.
        assert!(matches!(ran.code, Some(1 | 70 | 72)), "{here}: {ran}");
        if ran.code != Some(1) {
            let said = [
                "full",
                "No space",
                "MB are free",
                "no room",
                "bytes are free",
            ];
            assert!(said.iter().any(|s| ran.err.contains(s)), "{here}: {ran}");
        }
        assert!(
            in_place || now == before,
            "{here}: production changed: {ran}"
        );

        // Somebody frees some room.
        disk.disk.resize(ROOMY);
        let status = world.unship(&["status"]);
        assert!(matches!(status.code, Some(0 | 72)), "{here}: {status}");
        let resume = world.unship(&["resume"]);
        let taken_back = resume.code == Some(70) && resume.err.contains("as it was before");
        let expected = if status.code == Some(72) { 0 } else { 75 };
        assert!(
            resume.code == Some(expected) || taken_back,
            "{here}: {resume}"
        );
        world.check_healthy();
        world.run("--aside", 9, &[]).ok();
        assert_eq!(oracle.look(&world.db()).unwrap().release(), 9, "{here}");
        let back = world.unship(&["rollback", "--to", "R3"]).ok();
        assert_eq!(oracle.look(&world.db()).unwrap(), before, "{here}: {back}");
    }
}

#[test]
fn a_run_aside() {
    let Some((disk, oracle, base, _)) = three_releases() else {
        return;
    };
    grow(&disk, &oracle, &base, false, |w| w.job("--aside", 4, &[]));
}

#[test]
fn a_run_in_place() {
    let Some((disk, oracle, base, _)) = three_releases() else {
        return;
    };
    grow(&disk, &oracle, &base, true, |w| w.job("--in-place", 4, &[]));
}

#[test]
fn a_rollback_of_relations() {
    let Some((disk, oracle, base, _)) = three_releases() else {
        return;
    };
    oracle.write(&base.db(), "insert into raw_events values (1000, 'late')");
    grow(&disk, &oracle, &base, false, |_| {
        ["rollback", "--to", "R0"].map(str::to_owned).to_vec()
    });
}

/// Room for less than a second file, and nobody reads: blocks are overwritten in place.
#[test]
fn blocks_overwritten_in_place() {
    let Some((disk, oracle, base, size)) = three_releases() else {
        return;
    };
    let free = size - (200 << 10);
    let enough = |disk: &Disk| disk.disk.resize(ROOMY);
    Walk {
        passes: &["patch Seal", "patch MainHeader", "patch SyncMainHeader"],
        may_be_sealed: true,
        copy: Box::new(|base| disk.hold(base, free)),
        mend: Box::new(|_| enough(&disk)),
        ..Walk::new(&oracle, base.copy(), &["rollback", "--to", "R0"])
    }
    .walk();

    // The same with a disk that fails in the middle instead of a crash.
    let world = disk.hold(&base, free);
    let old = oracle.look(&world.db()).unwrap();
    let unship = world.command(&["rollback", "--to", "R0"]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "-"])
        .arg(unship.get_program())
        .args(unship.get_args())
        .current_dir(&world.root);
    for (name, value) in unship.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    let ran = Ran::of(limited.output().unwrap());
    assert_eq!(ran.code, Some(72), "{ran}");
    assert!(ran.err.contains("refuses to open until"), "{ran}");
    let refused = oracle.try_look(&world.db()).unwrap().unwrap_err();
    assert!(!refused.contains("lock"), "{refused}");
    let status = world.unship(&["status"]);
    assert_eq!(status.code, Some(72), "{status}");
    world.unship(&["resume"]).ok();
    let now = oracle.look(&world.db()).unwrap();
    assert_eq!(now.release(), 0);
    world.check_healthy();
    world.unship(&["undo"]).ok();
    assert_eq!(oracle.look(&world.db()).unwrap(), old);
    assert!(files_below(&world.home().join("build")).is_empty());
}
