//! Real databases for tests.

use super::connect::Connector;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A dump below the inputs; `None`, and a word why, where they are not there.
pub(super) fn dump(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/inputs");
    let home = std::env::var_os("UNSHIP_TEST_INPUTS").map_or_else(|| beside.into(), PathBuf::from);
    let path = home.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "skipped: {} is not there; UNSHIP_TEST_INPUTS names another place",
        path.display()
    );
    None
}

/// Loads a dump with psql.
pub(super) fn load(connector: &Connector, path: &PathBuf) {
    let address = connector.address();
    let mut zcat = Command::new("zcat")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = Command::new("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"])
        .args([
            "-h",
            address.get("host").unwrap(),
            "-U",
            address.get("user").unwrap(),
        ])
        .args(["-d", connector.database()])
        .stdin(zcat.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(zcat.wait().unwrap().success());
}
