//! Damage is found, named, and never becomes wrong data.

use super::*;

/// Two points in small packs that mostly compress well.
fn stored() -> (Scratch, [(&'static str, Vec<u8>); 2]) {
    let s = Scratch::new();
    let points = [
        ("R1", database(&[2, 4, 6])),
        ("R2", database(&[2, 4, 8, 1])),
    ];
    for (point, bytes) in &points {
        s.snapshot(point, bytes);
    }
    (s, points)
}

/// Every point restores to exactly itself or not at all. Returns how many restored.
fn no_wrong_data(store: &Path, points: &[(&str, Vec<u8>)]) -> usize {
    let whole = points
        .iter()
        .filter(|(point, bytes)| match restored(store, point) {
            Ok(found) => {
                assert!(found == *bytes, "{point} came back as something else");
                true
            }
            Err(_) => false,
        });
    whole.count()
}

#[test]
fn any_changed_byte_is_found() {
    let (s, points) = stored();
    let packs_and_points = [s.files("packs"), s.files("points")].concat();
    for file in packs_and_points {
        let good = fs::read(&file).unwrap();
        // Every byte of what is small, and some of the long incompressible block.
        let step = if good.len() > 2000 { 97 } else { 1 };
        for at in (0..good.len()).step_by(step) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            fs::write(&file, &bytes).unwrap();
            assert!(
                !damage(&s.store()).is_empty(),
                "byte {at} of {}",
                file.display()
            );
            if at % 7 == 0 {
                no_wrong_data(&s.store(), &points);
            }
        }
        fs::write(&file, &good).unwrap();
    }
    assert!(damage(&s.store()).is_empty());
    let format = s.store().join("format");
    for at in 0..fs::read(&format).unwrap().len() {
        let good = fs::read(&format).unwrap();
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&format, &bytes).unwrap();
        assert!(Store::open(&s.store()).is_err(), "byte {at} of format");
        fs::write(&format, good).unwrap();
    }
}

#[test]
fn a_file_cut_short_anywhere_leaves_the_older_point_whole() {
    let s = Scratch::new();
    let points = [
        ("R1", database(&[2, 4, 6])),
        ("R2", database(&[2, 4, 8, 1])),
    ];
    s.snapshot("R1", &points[0].1);
    let older = s.files("packs");
    s.snapshot("R2", &points[1].1);
    let mut newest = s.files("packs");
    newest.retain(|pack| !older.contains(pack));
    newest.push(s.store().join("points/R2@main.point"));
    assert!(newest.len() >= 2);
    for file in newest {
        let good = fs::read(&file).unwrap();
        let lengths = (0..good.len()).filter(|n| n % 211 == 0 || good.len() - n < 300 || *n < 60);
        for length in lengths {
            fs::write(&file, &good[..length]).unwrap();
            assert_eq!(no_wrong_data(&s.store(), &points), 1, "length {length}");
            assert!(restored(&s.store(), "R1").is_ok());
        }
        assert!(!damage(&s.store()).is_empty());
        fs::write(&file, &good).unwrap();
    }
}

#[test]
fn a_missing_pack_is_told_for_the_points_that_need_it() {
    let (s, points) = stored();
    for pack in s.files("packs") {
        let good = fs::read(&pack).unwrap();
        fs::remove_file(&pack).unwrap();
        let whole = no_wrong_data(&s.store(), &points);
        let incomplete = damage(&s.store()).len();
        assert_eq!(whole + incomplete, 2);
        assert!(incomplete > 0);
        let error = restored(&s.store(), "R2");
        assert!(
            matches!(error, Err(StoreError::MissingChunk { .. })),
            "{error:?}"
        );
        fs::write(&pack, good).unwrap();
    }
}

#[test]
fn a_point_under_another_points_name_does_not_pass_for_it() {
    let (s, _) = stored();
    let points = s.store().join("points");
    fs::copy(points.join("R1@main.point"), points.join("R2@main.point")).unwrap();
    let error = s.restored("R2").unwrap_err();
    assert!(
        error.to_string().contains("it holds restore point R1"),
        "{error}"
    );
    assert!(!damage(&s.store()).is_empty());
    assert_eq!(
        Store::open(&s.store())
            .unwrap()
            .points()
            .unwrap()
            .points
            .len(),
        1
    );
}

#[test]
fn what_damage_lost_is_stored_again_with_the_next_snapshot() {
    let (s, points) = stored();
    for pack in s.files("packs") {
        fs::write(&pack, "garbage").unwrap();
    }
    assert_eq!(no_wrong_data(&s.store(), &points), 0);
    s.snapshot("R3", &points[1].1);
    assert_eq!(s.restored("R3").unwrap(), points[1].1);
    assert_eq!(s.restored("R2").unwrap(), points[1].1);
}

#[test]
fn errors_say_what_happened_and_what_to_do() {
    let (s, _) = stored();
    for pack in s.files("packs") {
        fs::remove_file(pack).unwrap();
    }
    let error = s.restored("R2").unwrap_err().to_string();
    let error = error.split(": chunk").next().unwrap().to_owned();
    assert_eq!(error, "restore point R2 (`main`) cannot be read");
    fs::write(s.store().join("packs/x.pack"), "garbage").unwrap();
    let text = damage(&s.store()).remove(0).to_string();
    assert!(
        text.ends_with("x.pack` is damaged: it has the wrong length"),
        "{text}"
    );
    fs::remove_file(s.store().join("packs/x.pack")).unwrap();
    let finding = damage(&s.store()).remove(0).to_string();
    assert_eq!(
        finding,
        "restore point R1 (`main`) cannot be restored: 4 chunks are missing or damaged"
    );
}
