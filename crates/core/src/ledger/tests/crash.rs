//! `kill -9` while entries and blobs are written. The child is this very test program, started
//! again with [`DIRECTORY`] set.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const DIRECTORY: &str = "UNSHIP_TEST_CRASH_DIRECTORY";
const ROUNDS: u64 = 30;

/// Appends for ever, and says so on standard output after each acknowledgement. Without the
/// variable it is an ordinary, empty test.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let mut ledger =
        SqliteLedger::create(&Path::new(&directory).join("ledger"), Vec::new()).unwrap();
    let mut out = std::io::stdout();
    for n in 0_u64.. {
        let blob = BlobRef(
            ledger
                .put_blob(&n.to_le_bytes().repeat(2000), "log")
                .unwrap(),
        );
        let head = ledger.head().unwrap();
        let drafts = [
            draft("child", json!({"type": "test", "blob": blob})),
            draft("child", json!({"type": "second of a pair"})),
        ];
        let last = ledger.append(&head, &drafts, None).unwrap()[1].head();
        writeln!(out, "\nacknowledged {} {}", last.seq, last.hash).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_kill_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut acknowledged: Vec<Head> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("ledger::tests::crash::child_that_appends_until_it_is_killed")
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        // Half of the rounds fall anywhere, into the making of the ledger too; the other half after
        // the child has begun to append, however slow this machine is.
        let begun = (round % 2 == 1)
            .then(|| output.find(|line| line.starts_with("acknowledged")))
            .flatten();
        std::thread::sleep(Duration::from_micros(round * 1733));
        child.kill().unwrap();
        for line in begun.into_iter().chain(output) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["acknowledged", seq, hash] = words[..]
                && let (Ok(seq), Ok(hash)) = (seq.parse(), hash.parse())
            {
                acknowledged.push(Head { seq, hash });
            }
        }
        child.wait().unwrap();

        // What the killed process left behind, seen by one who may not write, then by one who may.
        if acknowledged.is_empty() {
            continue;
        }
        for ledger in [
            SqliteLedger::open_read_only(&path, Vec::new()).unwrap(),
            SqliteLedger::open(&path, Vec::new()).unwrap(),
        ] {
            let report = whole_report(&ledger);
            assert!(report.is_good(), "{report:?}");
            assert_eq!(
                report.entries % 2,
                0,
                "a pair is appended together or not at all"
            );
            let last = acknowledged.last().unwrap();
            assert!(report.good.seq >= last.seq);
            assert_eq!(ledger.read(last.seq, 1).unwrap()[0].head(), *last);
        }
    }
    let ledger = SqliteLedger::open(&path, Vec::new()).unwrap();
    let entries = ledger.read(1, usize::MAX).unwrap();
    assert!(!acknowledged.is_empty());
    for head in acknowledged {
        assert_eq!(entries[head.seq as usize - 1].head(), head);
    }
}
