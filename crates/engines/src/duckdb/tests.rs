//! Databases of one folder: they share its `.unship`, and each has a ledger or at least a lease of
//! its own. What is done for one leaves the others' alone.

use super::file;
use super::header::tests::headers;
use super::layout::DbFile;
use super::retained::{pack, packed};
use super::{DuckDb, Settings};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use unship_core::engine::{Engine, Retention};
use unship_core::ident::ReleaseId;

/// One of the databases of a folder.
fn database(folder: &TempDir, name: &str) -> DbFile {
    let file = DbFile {
        catalog: name.to_owned(),
        path: folder.path().join(format!("{name}.duckdb")),
    };
    let mut bytes = headers(16_384);
    bytes.extend(name.bytes().cycle().take(16_384));
    fs::write(&file.path, bytes).unwrap();
    file
}

fn two() -> (TempDir, DbFile, DbFile) {
    let folder = TempDir::new().unwrap();
    let (dev, prod) = (database(&folder, "dev"), database(&folder, "prod"));
    (folder, dev, prod)
}

fn engine(file: &DbFile) -> DuckDb {
    DuckDb::new(Settings {
        files: vec![file.clone()],
        ..Settings::default()
    })
}

fn release(number: u64) -> ReleaseId {
    format!("R{number}").parse().unwrap()
}

fn write(path: PathBuf) -> PathBuf {
    file::make_parent(&path).unwrap();
    fs::write(&path, "of somebody").unwrap();
    path
}

fn packed_points(file: &DbFile) -> Vec<String> {
    packed(file).unwrap().into_iter().map(|p| p.0).collect()
}

#[test]
fn a_packed_point_of_another_database_is_not_dropped() {
    let (_folder, dev, prod) = two();
    for file in [&dev, &prod] {
        pack(file, &file.path, release(3), &|_, _, _| {}).unwrap();
    }
    // Once more, as after a job that changed nothing.
    pack(&dev, &dev.path, release(3), &|_, _, _| {}).unwrap();
    assert_eq!(packed_points(&prod), ["R3"]);
    let keep_none = Retention {
        keep: [].into(),
        plain: [].into(),
    };
    engine(&dev).housekeep(&keep_none, &|_, _, _| {}).unwrap();
    assert_eq!(packed_points(&dev), [""; 0]);
    assert_eq!(packed_points(&prod), ["R3"]);
    engine(&prod).prove_point(release(3)).unwrap();
}

#[test]
fn a_build_of_another_database_is_not_discarded() {
    let (_folder, dev, prod) = two();
    let ours = write(dev.build(release(5)));
    let log = write(super::layout::wal_of(&ours));
    let theirs = write(prod.build(release(5)));
    let assembled = write(super::assemble::bench(&prod.build(release(5))));
    engine(&dev).discard_build(release(5)).unwrap();
    assert!(!ours.exists() && !log.exists());
    assert!(theirs.exists() && assembled.exists());
    engine(&prod).discard_build(release(5)).unwrap();
    assert!(!theirs.parent().unwrap().exists());
    assert!(!assembled.parent().unwrap().exists());
}

#[test]
fn housekeeping_spares_a_build_that_another_database_is_making() {
    let (folder, dev, prod) = two();
    let theirs = [
        prod.build(release(12)),
        super::assemble::bench(&prod.build(release(12))),
        prod.scratch(release(2)),
    ]
    .map(write);
    let link = file::lasting_path(&theirs[0]).unwrap();
    let ours = [
        dev.build(release(12)),
        super::assemble::bench(&dev.build(release(12))),
        dev.scratch(release(2)),
    ]
    .map(write);
    file::lasting_path(&ours[0]).unwrap();
    let keep_none = Retention {
        keep: [].into(),
        plain: [].into(),
    };
    engine(&dev).housekeep(&keep_none, &|_, _, _| {}).unwrap();
    assert!(ours.iter().all(|path| !path.exists()));
    assert!(theirs.iter().all(|path| path.exists()));
    assert_eq!(fs::read_to_string(&link).unwrap(), "of somebody");
    engine(&prod).housekeep(&keep_none, &|_, _, _| {}).unwrap();
    for swept in ["build", "scratch"] {
        assert!(!folder.path().join(".unship").join(swept).exists());
    }
}
