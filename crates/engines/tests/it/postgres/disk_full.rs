//! A disk that is full at any write of the server's: a tablespace on a small file system of growing
//! sizes. Needs the right to mount one. The server is one of its own: no server can make a checkpoint
//! while one of its disks is full, and other tests wait for theirs.

use super::cluster::Cluster;
use super::kills::Model;
use super::{Database, server};
use postgres::{Client, NoTls};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use tempfile::TempDir;
use unship_core::testing::disk::SmallDisk;

/// Where it is not the size that is tried.
const ROOMY: u64 = 256 << 20;

#[test]
fn a_full_disk_leaves_one_release_whole() {
    if server().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        return;
    };
    let cluster = Cluster::start();
    let server = &cluster.address;
    let mut admin = Client::connect(server, NoTls).unwrap();
    let data: String = admin.query_one("SHOW data_directory", &[]).unwrap().get(0);
    let owner = fs::metadata(Path::new(&data)).unwrap();
    // The server's account walks there, and has a directory of its own.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = dir.path().join("tablespace");
    fs::create_dir(&place).unwrap();
    chown(&place, Some(owner.uid()), Some(owner.gid())).unwrap();
    let name = format!("unship_small_{}", std::process::id());
    let make = format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display());
    admin.batch_execute(&make).unwrap();

    let mut model = Model::new(Database::in_tablespace(server, &name));
    let step = std::env::var("UNSHIP_DISK_STEP");
    let step = step.map_or(1 << 20, |text| text.parse::<u64>().unwrap()) / 16;
    let mut refused = 0;
    // A release, and then the way back.
    for back in [false, true] {
        for (n, free) in (0..).map(|n| n * step).enumerate() {
            assert!(free < ROOMY, "no room is enough");
            let value = 100 + i64::try_from(n).unwrap();
            let what = match back {
                true => "back".to_owned(),
                false => value.to_string(),
            };
            if !back {
                model.remember(value);
            }
            disk.resize(disk.used() + free);
            let done = model.start(&what).wait().unwrap().success();
            disk.resize(ROOMY);
            model.quiet();
            model.checked(&format!("{what} with {free} bytes free"));
            // A job that failed is no error: what it built is not published.
            if done && (back || model.value() == value) {
                break;
            }
            refused += 1;
        }
    }
    println!("{refused} were refused");
    assert!(refused > 0, "the disk was never full");
    drop(model);
    admin
        .batch_execute(&format!("DROP TABLESPACE {name}"))
        .unwrap();
}
