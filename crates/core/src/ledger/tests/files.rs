use super::*;
use std::fs;

fn both(path: &Path) -> [Result<SqliteLedger, LedgerError>; 2] {
    [
        SqliteLedger::open(path, Vec::new()),
        SqliteLedger::open_read_only(path, Vec::new()),
    ]
}

#[test]
fn a_missing_ledger_is_said_to_be_missing_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    for path in [
        dir.path().join("none"),
        dir.path().join("no/directory/at/all"),
    ] {
        for answer in both(&path) {
            assert!(matches!(answer, Err(LedgerError::NotFound { .. })));
        }
        assert!(!path.exists());
    }
    assert!(SqliteLedger::create(&dir.path().join("no/directory"), Vec::new()).is_err());
    for answer in both(dir.path()) {
        assert!(answer.is_err(), "a directory is no ledger");
    }
}

#[test]
fn a_creation_that_was_cut_short_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    fs::write(&path, b"").unwrap();
    for answer in both(&path) {
        assert!(matches!(answer, Err(LedgerError::NotFound { .. })));
    }
    let mut ledger = SqliteLedger::create(&path, Vec::new()).unwrap();
    append(&mut ledger, numbered(1));
    // To create what is there is to open it.
    assert_eq!(
        SqliteLedger::create(&path, Vec::new())
            .unwrap()
            .head()
            .unwrap()
            .seq,
        1
    );
}

#[test]
fn many_who_create_one_ledger_get_one_ledger() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut ledger = SqliteLedger::create(&path, Vec::new()).unwrap();
                    while let Err(e) = ledger.head().and_then(|head| {
                        ledger.append(&head, &[draft("a", json!({"type": "x"}))], None)
                    }) {
                        assert!(matches!(e, LedgerError::HeadMoved { .. }), "{e}");
                    }
                });
            }
        });
        let ledger = SqliteLedger::open(&path, Vec::new()).unwrap();
        assert_eq!(whole_report(&ledger).entries, 4);
    }
}

#[test]
fn somebody_elses_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(
        &text,
        "not a database, and longer than SQLite's header. ".repeat(50),
    )
    .unwrap();
    let database = dir.path().join("database");
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE mine (x)")
        .unwrap();
    for path in [text, database] {
        let before = fs::read(&path).unwrap();
        let create = SqliteLedger::create(&path, Vec::new());
        for answer in both(&path).into_iter().chain([create]) {
            assert!(matches!(answer, Err(LedgerError::NotALedger { .. })));
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let scratch = Scratch::new();
    Connection::open(scratch.path())
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    for answer in both(&scratch.path()) {
        let message = answer.err().unwrap().to_string();
        assert!(
            message.ends_with(
                "ledger has format 7, and this unship knows formats up to 1; \
                 use the newer unship that wrote it"
            ),
            "{message}"
        );
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_wrong_answer() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    append(&mut ledger, numbered(400));
    let right = ledger.read(1, usize::MAX).unwrap();
    drop(ledger);
    let whole = fs::read(scratch.path()).unwrap();
    let mut noticed = 0;
    for (i, at) in (0..whole.len()).step_by(whole.len() / 60).enumerate() {
        let mut bytes = whole.clone();
        if i % 5 == 4 {
            bytes.truncate(at);
        } else {
            let end = (at + 300).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        fs::write(&path, &bytes).unwrap();
        for answer in both(&path) {
            let answer = answer.and_then(|ledger| {
                let entries = ledger.read(1, usize::MAX)?;
                let report =
                    verify_chain(&ledger, &Head::genesis(), Some(400), verify::Blobs::Check)?;
                Ok((entries, report))
            });
            match answer {
                // Entries missing at the end are told by whoever knows how many there were.
                Ok((entries, report)) => {
                    assert_eq!(entries, right[..entries.len()]);
                    assert_eq!(report.is_good(), entries.len() == right.len());
                }
                Err(error) => {
                    noticed += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(noticed > 60, "{noticed}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_ledger_on_a_read_only_file_system_is_read() {
    let Some(mount) = Mount::new("1m") else {
        return;
    };
    let path = mount.dir.path().join("a ledger?#%41");
    append(
        &mut SqliteLedger::create(&path, Vec::new()).unwrap(),
        numbered(5),
    );
    mount.remount("ro");
    let ledger = SqliteLedger::open_read_only(&path, Vec::new()).unwrap();
    assert_eq!(whole_report(&ledger).entries, 5);
    drop(ledger);
    if let Ok(mut ledger) = SqliteLedger::open(&path, Vec::new()) {
        let head = ledger.head().unwrap_or(Head::genesis());
        let error = ledger
            .append(&head, &[draft("a", json!({"type": "x"}))], None)
            .unwrap_err();
        assert!(matches!(error, LedgerError::ReadOnly { .. }), "{error}");
    }

    // A writer was killed: what it left can be read only by who may put it in order.
    mount.remount("rw");
    let kept = tempfile::tempdir().unwrap();
    let mut ledger = SqliteLedger::open(&path, Vec::new()).unwrap();
    append(&mut ledger, numbered(1));
    copy_files(mount.dir.path(), kept.path());
    drop(ledger);
    copy_files(kept.path(), mount.dir.path());
    fs::remove_file(mount.dir.path().join("a ledger?#%41-shm")).unwrap();
    mount.remount("ro");
    match SqliteLedger::open_read_only(&path, Vec::new()) {
        Ok(ledger) => assert_eq!(ledger.head().unwrap().seq, 6),
        Err(error) => assert!(
            error
                .to_string()
                .contains("a process that wrote to it was stopped"),
            "{error}"
        ),
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let Some(mount) = Mount::new("1m") else {
        return;
    };
    let path = mount.dir.path().join("ledger");
    let mut ledger = SqliteLedger::create(&path, Vec::new()).unwrap();
    let text = "x".repeat(3000);
    let mut last = Head::genesis();
    let error = loop {
        match ledger.append(
            &last,
            &[draft("a", json!({"type": "x", "text": text}))],
            None,
        ) {
            Ok(entries) => last = entries[0].head(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::DiskFull { .. }), "{error:?}");
    let noise: Vec<u8> = (0..40_000_u64)
        .flat_map(|n| *Hash::of(&n.to_be_bytes()).as_bytes())
        .collect();
    let error = ledger.put_blob(&noise, "log").unwrap_err();
    assert!(matches!(error, LedgerError::DiskFull { .. }), "{error:?}");
    assert_eq!(ledger.head().unwrap(), last);
    assert!(whole_report(&ledger).is_good());
    drop(ledger);

    let reader = SqliteLedger::open_read_only(&path, Vec::new()).unwrap();
    assert_eq!(whole_report(&reader).good, last);
    drop(reader);

    mount.remount("size=8m");
    let mut ledger = SqliteLedger::open(&path, Vec::new()).unwrap();
    ledger
        .append(&last, &[draft("a", json!({"type": "x"}))], None)
        .unwrap();
    assert_eq!(whole_report(&ledger).entries, last.seq + 1);
}

/// A small file system of its own, for tests that need one to be full or read-only.
#[cfg(target_os = "linux")]
struct Mount {
    dir: tempfile::TempDir,
}

#[cfg(target_os = "linux")]
impl Mount {
    /// `None`, and a line that says so, where this user may not mount.
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            crate::testing::skipped("this user may not mount a file system");
        }
        mounted.then_some(Self { dir })
    }

    fn remount(&self, option: &str) {
        let status = std::process::Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(self.dir.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.dir.path())
            .status();
    }
}
