//! `kill -9` while entries and blobs are written. The child is this very test program, started
//! again with [`DIRECTORY`] set.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
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
        let last = match ledger.append(&head, &drafts, None) {
            Ok(entries) => entries[1].head(),
            Err(LedgerError::HeadMoved { .. }) => continue,
            Err(other) => panic!("{other}"),
        };
        writeln!(out, "\nacknowledged {} {}", last.seq, last.hash).unwrap();
        out.flush().unwrap();
    }
}

fn child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("ledger::tests::crash::child_that_appends_until_it_is_killed")
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a line of the child's acknowledges; a line that the kill cut short, nothing.
fn parse(line: &str) -> Option<Head> {
    let mut words = line.strip_prefix("acknowledged ")?.split(' ');
    Some(Head {
        seq: words.next()?.parse().ok()?,
        hash: words.next()?.parse().ok()?,
    })
}

#[test]
fn two_processes_append_to_one_log_and_lose_nothing() {
    let scratch = Scratch::new();
    let mut children: Vec<Child> = (0..2).map(|_| child(scratch.dir.path())).collect();
    let acknowledged: Vec<Head> = children
        .iter_mut()
        .flat_map(|child| {
            let output = BufReader::new(child.stdout.take().unwrap()).lines();
            let heads = output.map_while(Result::ok).filter_map(|line| parse(&line));
            heads.take(15).collect::<Vec<_>>()
        })
        .collect();
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(acknowledged.len(), 30);
    let ledger = scratch.open();
    assert!(whole_report(&ledger).is_good());
    for head in acknowledged {
        assert_eq!(ledger.read(head.seq, 1).unwrap()[0].head(), head);
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_kill_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut acknowledged: Vec<Head> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = child(dir.path());
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
        acknowledged.extend(
            begun
                .into_iter()
                .chain(output)
                .filter_map(|line| parse(&line)),
        );
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
