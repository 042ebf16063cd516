//! A crash at any write of a snapshot.

use super::*;

/// What the disk can hold after a crash, oldest first: the packs come one by one, then the point;
/// each first under its unfinished name with any number of its bytes.
fn crashes(before: &Path, after: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let known = [files(&before.join("packs")), files(&before.join("points"))].concat();
    let mut states = Vec::new();
    for sub in ["packs", "points"] {
        for file in files(&after.join(sub)) {
            let relative = Path::new(sub).join(file.file_name().unwrap());
            if known.contains(&before.join(&relative)) {
                continue;
            }
            let bytes = fs::read(&file).unwrap();
            for length in (0..=bytes.len()).step_by((bytes.len() / 9).max(1)) {
                let unfinished = relative.with_extension("tmp");
                states.push((unfinished, bytes[..length].to_vec()));
            }
            states.push((relative, bytes));
        }
    }
    states
}

#[test]
fn every_crash_leaves_the_old_points_or_the_new_one_as_well() {
    let s = Scratch::new();
    let (old, new) = (database(&[1, 2, 3]), database(&[1, 5, 7, 9, 11, 4]));
    s.snapshot("R1", &old);
    let before = s.path("before");
    copy_store(&s.store(), &before);
    s.snapshot("R2", &new);

    let states = crashes(&before, &s.store());
    assert!(states.len() > 20, "several packs and a point");
    let crashed = s.path("crashed");
    copy_store(&before, &crashed);
    for (file, bytes) in states {
        let path = crashed.join(&file);
        fs::write(&path, bytes).unwrap();
        if file.extension().is_some_and(|ending| ending != "tmp") {
            fs::remove_file(path.with_extension("tmp")).unwrap();
        }
        assert!(damage(&crashed).is_empty(), "{}", file.display());
        assert!(restored(&crashed, "R1").unwrap() == old);
        match restored(&crashed, "R2") {
            Ok(found) => assert!(found == new),
            Err(e) => assert!(matches!(e, StoreError::NoSuchPoint { .. }), "{e}"),
        }
        // Another process cleans up, and does the work that was cut off.
        let again = s.path("again");
        copy_store(&crashed, &again);
        let mut writer = StoreWriter::open(&again).unwrap();
        writer.gc(&silent).unwrap();
        let path = s.file(&new);
        match writer.snapshot(&path, "R2", "main", &silent) {
            Ok(_) => {}
            Err(e) => assert!(matches!(e, StoreError::PointExists { .. }), "{e}"),
        }
        let findings = writer.store().fsck(&silent).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        assert!(restored(&again, "R1").unwrap() == old);
        assert!(restored(&again, "R2").unwrap() == new);
        fs::remove_dir_all(&again).unwrap();
    }
}

#[test]
fn a_crash_while_the_store_is_made_is_finished_by_the_next_writer() {
    for made in 0..4 {
        let s = Scratch::new();
        for part in ["", "packs", "points"].iter().take(made) {
            fs::create_dir_all(s.store().join(part)).unwrap();
        }
        if made > 0 {
            fs::write(s.store().join("format.tmp"), "unship pa").unwrap();
        }
        s.snapshot("R1", &database(&[1]));
        assert_eq!(s.restored("R1").unwrap(), database(&[1]));
    }
}

#[test]
fn a_half_written_restore_is_replaced_and_never_bears_the_name() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1, 2]));
    let to = s.path("out.duckdb");
    fs::write(s.path("out.duckdb.part"), "half").unwrap();
    let store = Store::open(&s.store()).unwrap();
    store.restore("R1", "main", &to, &silent).unwrap();
    assert_eq!(fs::read(&to).unwrap(), database(&[1, 2]));
    assert!(!s.path("out.duckdb.part").exists());

    fs::remove_file(&to).unwrap();
    for pack in s.files("packs") {
        fs::remove_file(pack).unwrap();
    }
    let store = Store::open(&s.store()).unwrap();
    assert!(store.restore("R1", "main", &to, &silent).is_err());
    assert!(!to.exists() && !s.path("out.duckdb.part").exists());
}
