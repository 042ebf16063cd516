//! Forgetting, and giving space back.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn space_comes_back_and_kept_points_stay_whole() {
    let s = Scratch::new();
    let keep = database(&[1, 2, 3]);
    s.snapshot("R1", &database(&[1, 5, 7, 9, 11, 13]));
    s.snapshot("R2", &keep);
    let mut writer = s.writer();
    let nothing = writer.gc(&silent).unwrap();
    assert_eq!(nothing, GcReport::default());

    let before = writer.store().size().unwrap();
    writer.forget("R1", "main").unwrap();
    let point_gone = writer.store().size().unwrap().stored;
    let report = writer.gc(&silent).unwrap();
    let after = writer.store().size().unwrap();
    assert!(report.packs_removed > 0, "{report:?}");
    assert_eq!(report.bytes_freed, point_gone - after.stored);
    assert!(after.stored < before.stored / 2, "{before:?} {after:?}");
    assert_eq!(s.restored("R2").unwrap(), keep);
    assert!(damage(&s.store()).is_empty());
    writer.forget("R1", "main").unwrap();
}

#[test]
fn forgetting_a_point_spares_those_with_longer_names() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    s.snapshot("R12", &database(&[2]));
    s.writer().forget("R1", "main").unwrap();
    assert_eq!(s.restored("R12").unwrap(), database(&[2]));
}

#[test]
fn a_pack_that_is_mostly_garbage_is_written_anew() {
    let s = Scratch::new();
    let mut writer = s.writer();
    // One pack for all: the block that R2 needs shares it with nine that it does not.
    writer.pack_target = 1 << 20;
    let path = s.file(&database(&[1, 3, 5, 7, 9, 11, 13, 15, 17, 19]));
    writer.snapshot(&path, "R1", "main", &silent).unwrap();
    let path = s.file(&database(&[19]));
    writer.snapshot(&path, "R2", "main", &silent).unwrap();
    writer.forget("R1", "main").unwrap();
    let report = writer.gc(&silent).unwrap();
    assert_eq!(report.packs_rewritten, 1);
    assert!(report.bytes_freed > 8 * BLOCK as u64);
    assert_eq!(s.restored("R2").unwrap(), database(&[19]));
    assert_eq!(writer.gc(&silent).unwrap(), GcReport::default());
}

#[test]
fn a_reader_goes_on_while_gc_moves_its_chunks() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1, 3, 5, 7, 9]));
    s.snapshot("R2", &database(&[9, 11]));
    let reader = Store::open(&s.store()).unwrap();
    reader.prove("R2", "main", &silent).unwrap();
    let mut writer = s.writer();
    writer.forget("R1", "main").unwrap();
    writer.gc(&silent).unwrap();
    let to = s.path("out");
    reader.restore("R2", "main", &to, &silent).unwrap();
    assert_eq!(fs::read(&to).unwrap(), database(&[9, 11]));
    let path = s.file(&database(&[21]));
    writer.snapshot(&path, "R3", "main", &silent).unwrap();
    reader.prove("R3", "main", &silent).unwrap();
}

#[test]
fn a_damaged_point_stops_gc_until_it_is_forgotten() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    s.snapshot("R2", &database(&[3]));
    fs::write(s.store().join("points/R2@main.point"), "garbage").unwrap();
    let mut writer = s.writer();
    assert!(matches!(
        writer.gc(&silent),
        Err(StoreError::Damaged { .. })
    ));
    writer.forget("R2", "main").unwrap();
    assert!(writer.gc(&silent).unwrap().packs_removed > 0);
    assert_eq!(s.restored("R1").unwrap(), database(&[1]));
}

#[test]
fn a_damaged_pack_stays_while_a_point_may_need_it() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&[1]));
    let pack = s.files("packs").remove(0);
    fs::write(&pack, "garbage").unwrap();
    let mut writer = s.writer();
    assert_eq!(writer.gc(&silent).unwrap().packs_damaged, 1);
    assert!(pack.exists());
    writer.forget("R1", "main").unwrap();
    assert_eq!(writer.gc(&silent).unwrap().packs_removed, 1);
    assert!(!pack.exists());
}

#[derive(Debug, Clone)]
enum Op {
    Snapshot(Vec<u8>),
    /// A snapshot that dies before its point is written, and leaves an unfinished file.
    DiedInSnapshot(Vec<u8>),
    Forget(usize),
    Gc,
    /// A collection that dies before it has removed all that it would; the number chooses what.
    DiedInGc(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let blocks = || prop::collection::vec(0..12_u8, 0..6);
    prop_oneof![
        4 => blocks().prop_map(Op::Snapshot),
        1 => blocks().prop_map(Op::DiedInSnapshot),
        3 => any::<usize>().prop_map(Op::Forget),
        2 => Just(Op::Gc),
        2 => any::<u32>().prop_map(Op::DiedInGc),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_history_breaks_a_kept_point(ops in prop::collection::vec(op(), 1..14)) {
        let s = Scratch::new();
        s.writer();
        let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (number, op) in ops.into_iter().enumerate() {
            let point = format!("R{number}");
            match op {
                Op::Snapshot(blocks) => {
                    s.snapshot(&point, &database(&blocks));
                    kept.insert(point, database(&blocks));
                }
                Op::DiedInSnapshot(blocks) => {
                    s.snapshot(&point, &database(&blocks));
                    let file = s.store().join(format!("points/{point}@main.point"));
                    fs::rename(&file, file.with_extension("tmp")).unwrap();
                    fs::write(s.store().join("packs/new-1.tmp"), "half a pa").unwrap();
                }
                Op::Forget(which) => {
                    let Some(point) = kept.keys().nth(which % kept.len().max(1)).cloned() else {
                        continue;
                    };
                    s.writer().forget(&point, "main").unwrap();
                    kept.remove(&point);
                }
                Op::Gc => {
                    s.writer().gc(&silent).unwrap();
                    let findings = Store::open(&s.store()).unwrap().fsck(&silent).unwrap();
                    let clean = findings.iter().all(|f| matches!(f, Finding::Unreachable { .. }));
                    prop_assert!(clean, "{findings:?}");
                }
                Op::DiedInGc(which) => {
                    let before = s.path("before");
                    copy_store(&s.store(), &before);
                    s.writer().gc(&silent).unwrap();
                    for (i, pack) in files(&before.join("packs")).into_iter().enumerate() {
                        let name = pack.file_name().unwrap();
                        if which >> (i % 32) & 1 == 1 {
                            fs::copy(&pack, s.store().join("packs").join(name)).unwrap();
                        }
                    }
                    fs::remove_dir_all(before).unwrap();
                }
            }
            prop_assert!(damage(&s.store()).is_empty());
        }
        for (point, bytes) in &kept {
            prop_assert!(s.restored(point).unwrap() == *bytes);
        }
        let listed = Store::open(&s.store()).unwrap().points().unwrap().points.len();
        prop_assert_eq!(listed, kept.len());
    }
}
