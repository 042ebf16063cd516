//! What a user of the ledger would notice, on real files.

mod blobs;
mod crash;
mod files;
mod leases;
mod log;
mod store;
mod tamper;
mod views;

use super::*;
use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A directory with an empty ledger in it.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        SqliteLedger::create(&dir.path().join("ledger"), Vec::new()).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn open(&self) -> SqliteLedger {
        SqliteLedger::open(&self.path(), Vec::new()).unwrap()
    }

    /// What somebody with `sqlite3` and bad intentions has.
    fn raw(&self) -> Connection {
        let conn = Connection::open(self.path()).unwrap();
        conn.execute_batch(
            "DROP TRIGGER entries_are_appended;
             DROP TRIGGER entries_are_not_changed;
             DROP TRIGGER entries_are_not_removed;",
        )
        .unwrap();
        conn
    }
}

fn append(ledger: &mut SqliteLedger, events: impl IntoIterator<Item = Value>) -> Vec<Entry> {
    let drafts: Vec<Draft> = events.into_iter().map(|e| draft("anna", e)).collect();
    let head = ledger.head().unwrap();
    ledger.append(&head, &drafts, None).unwrap()
}

fn numbered(count: u64) -> impl Iterator<Item = Value> {
    (1..=count).map(|n| json!({"type": "test", "n": n}))
}

fn whole_report(ledger: &SqliteLedger) -> ChainReport {
    verify_chain(ledger, &Head::genesis(), None, verify::Blobs::Check).unwrap()
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

pub(super) fn draft(actor: &str, event: Value) -> Draft {
    Draft {
        at: Timestamp::UNIX_EPOCH,
        actor: actor.to_owned(),
        env: "prod".to_owned(),
        event,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53) + 1..1_i64 << 53).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

pub(super) fn any_event() -> impl Strategy<Value = Value> {
    (any::<String>(), any_json()).prop_map(|(kind, data)| json!({"type": kind, "data": data}))
}
