//! What goes in comes out.

use super::*;
use proptest::prelude::*;
use std::{cell::Cell, os::unix::fs::PermissionsExt, thread::sleep, time::Duration};

#[test]
fn a_point_restores_byte_for_byte_and_equal_blocks_are_stored_once() {
    let s = Scratch::new();
    let first = database(&[1, 2, 3, 2, 1, 2]);
    let report = s.snapshot("R1", &first);
    assert_eq!((report.chunks, report.new_chunks), (7, 4));
    assert_eq!(report.bytes, first.len() as u64);
    assert_eq!(report.new_bytes, 12_288 + 3 * BLOCK as u64);
    assert_eq!(report.same_as, None);

    let second = database(&[1, 2, 5, 2, 1, 2]);
    let report = s.snapshot("R2", &second);
    assert_eq!(report.new_chunks, 2, "the headers and one block");
    assert_eq!(s.restored("R1").unwrap(), first);
    assert_eq!(s.restored("R2").unwrap(), second);
    assert!(damage(&s.store()).is_empty());
}

#[test]
fn sizes_are_what_the_disk_says() {
    let s = Scratch::new();
    let bytes = database(&[1, 2, 3]);
    let one = s.snapshot("R1", &bytes);
    let two = s.snapshot("R2", &database(&[1, 2, 5]));
    let store = Store::open(&s.store()).unwrap();
    let size = store.size().unwrap();
    assert_eq!(size.logical, 2 * bytes.len() as u64);
    assert_eq!(size.stored, one.new_bytes_stored + two.new_bytes_stored);
}

#[test]
fn a_point_may_hold_several_files_under_any_names() {
    let s = Scratch::new();
    let mut writer = s.writer();
    let labels = ["main", "raw data", "../../etc", "Ünï@code", "main.point"];
    for (i, label) in labels.into_iter().enumerate() {
        let path = s.file(&database(&[i as u8]));
        writer.snapshot(&path, "R1", label, &silent).unwrap();
    }
    let listed = writer.store().points().unwrap();
    assert!(listed.damaged.is_empty());
    let mut found: Vec<_> = listed.points.iter().map(|p| p.label.as_str()).collect();
    let mut expected = labels.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for (i, label) in labels.into_iter().enumerate() {
        let to = s.path(&format!("out{i}"));
        writer.store().restore("R1", label, &to, &silent).unwrap();
        assert_eq!(fs::read(&to).unwrap(), database(&[i as u8]));
    }
    for (gone, label) in labels.into_iter().enumerate() {
        writer.forget("R1", label).unwrap();
        let left = writer.store().points().unwrap().points.len();
        assert_eq!(left, labels.len() - gone - 1, "{label} and no other");
    }
}

#[test]
fn files_that_are_no_database_are_kept_too() {
    let s = Scratch::new();
    for (i, length) in [0, 1, 4095, 12_288, 12_289, 300_000]
        .into_iter()
        .enumerate()
    {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let point = format!("R{}", i + 1);
        s.snapshot(&point, &bytes);
        assert_eq!(s.restored(&point).unwrap(), bytes);
        Store::open(&s.store())
            .unwrap()
            .prove(&point, "main", &silent)
            .unwrap();
    }
}

#[test]
fn the_very_same_file_is_not_read_again_once_it_has_rested() {
    let s = Scratch::new();
    let path = s.file(&database(&[1, 2, 3]));
    let mut writer = s.writer();
    let mut take = |point: &str, label: &str| {
        let report = writer.snapshot(&path, point, label, &silent).unwrap();
        assert_eq!(report.new_chunks, if point == "R1" { 4 } else { 0 });
        report.same_as
    };
    assert_eq!(take("R1", "main"), None);
    // Within a tick of the clock a write would not show.
    assert_eq!(take("R2", "main"), None);
    sleep(Duration::from_millis(2100));
    assert_eq!(take("R3", "main"), None);
    assert_eq!(take("R4", "main").as_deref(), Some("R3"));
    assert_eq!(take("R5", "other"), None);
    assert_eq!(s.restored("R4").unwrap(), database(&[1, 2, 3]));

    drop(writer);
    let changed = database(&[1, 2, 5]);
    assert_eq!(s.snapshot("R6", &changed).same_as, None);
    assert_eq!(s.restored("R6").unwrap(), changed);
}

#[test]
fn a_file_that_changes_meanwhile_gives_no_point_and_leaves_no_trace() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    let before = s.files("packs");
    let path = s.file(&database(&[3, 5, 7, 9, 11]));
    let mut writer = s.writer();
    let error = writer
        .snapshot(&path, "R2", "main", &|_| {
            fs::write(&path, database(&[13])).unwrap();
        })
        .unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    assert_eq!(s.files("packs"), before);
    assert_eq!(s.files("points").len(), 1);
}

#[test]
fn points_and_restored_files_are_never_overwritten() {
    let s = Scratch::new();
    let path = s.file(&database(&[1]));
    let mut writer = s.writer();
    writer.snapshot(&path, "R1", "main", &silent).unwrap();
    let again = writer.snapshot(&path, "R1", "main", &silent);
    assert!(matches!(again, Err(StoreError::PointExists { .. })));
    let onto = writer.store().restore("R1", "main", &path, &silent);
    assert!(matches!(onto, Err(StoreError::TargetExists { .. })));
    let none = writer.store().restore("R2", "main", &s.path("x"), &silent);
    assert!(matches!(none, Err(StoreError::NoSuchPoint { .. })));
    let folder = writer.snapshot(s.dir.path(), "R3", "main", &silent);
    assert!(matches!(folder, Err(StoreError::NotAFile { .. })));
}

#[test]
fn nobody_else_can_read_what_is_kept_or_restored() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    let to = s.path("out");
    let store = Store::open(&s.store()).unwrap();
    store.restore("R1", "main", &to, &silent).unwrap();
    for private in [s.store(), to] {
        let mode = fs::metadata(&private).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", private.display());
    }
}

#[test]
fn one_writer_at_a_time_and_readers_beside_it() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    let writer = s.writer();
    let second = StoreWriter::open(&s.store());
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    assert_eq!(s.restored("R1").unwrap(), database(&[1]));
    drop(writer);
    s.writer();
}

#[test]
fn a_folder_of_something_else_is_not_taken_over() {
    let s = Scratch::new();
    assert!(matches!(
        Store::open(&s.store()),
        Err(StoreError::NotAStore { .. })
    ));
    fs::create_dir(s.store()).unwrap();
    fs::write(s.store().join("holiday.jpg"), "x").unwrap();
    assert!(matches!(
        StoreWriter::open(&s.store()),
        Err(StoreError::NotAStore { .. })
    ));
    assert_eq!(files(&s.store()).len(), 1);
}

#[test]
fn a_newer_store_is_refused_by_version() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    fs::write(s.store().join("format"), "unship pack store 7\n").unwrap();
    for error in [
        Store::open(&s.store()).unwrap_err(),
        StoreWriter::open(&s.store()).unwrap_err(),
    ] {
        assert!(
            matches!(error, StoreError::NewerFormat { found: 7, .. }),
            "{error}"
        );
    }
}

#[test]
fn progress_reaches_its_total() {
    let s = Scratch::new();
    let path = s.file(&database(&[1, 2, 3]));
    let last = Cell::new(None);
    s.writer()
        .snapshot(&path, "R1", "main", &|p| last.set(Some(p)))
        .unwrap();
    let size = database(&[1, 2, 3]).len() as u64;
    let end = Progress {
        doing: "reading",
        done: size,
        total: size,
    };
    assert_eq!(last.get(), Some(end));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_of_edits_restores_exactly(
        states in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..12), 0..BLOCK, any::<u8>()),
            1..5,
        ),
    ) {
        let s = Scratch::new();
        let mut kept = Vec::new();
        for (number, (blocks, tail, byte)) in states.into_iter().enumerate() {
            let mut bytes = database(&blocks);
            bytes.extend(vec![byte; tail]);
            let point = format!("R{number}");
            s.snapshot(&point, &bytes);
            kept.push((point, bytes));
        }
        for (point, bytes) in kept {
            prop_assert!(s.restored(&point).unwrap() == bytes);
        }
    }
}
