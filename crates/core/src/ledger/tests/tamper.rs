use super::*;
use crate::ledger::verify::{Break, Tampering};

fn broken(scratch: &Scratch) -> Option<Break> {
    let ledger = scratch.open();
    let report = whole_report(&ledger);
    if let Some(broken) = &report.broken {
        // Reading never believes what verification does not.
        let last_good = ledger.read(1, 1000).map_or_else(
            |e| match e {
                LedgerError::Corrupt { seq, .. } => seq,
                other => panic!("{other}"),
            },
            |entries| panic!("read {} entries beside {broken}", entries.len()),
        );
        assert!(last_good == broken.seq || last_good == broken.seq + 1);
    }
    report.broken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_byte_of_any_entry_that_is_changed_is_found(
        events in prop::collection::vec(any_event(), 1..6),
        actor in ".{1,5}",
        pick: prop::sample::Index,
        column in prop::sample::select(vec!["prev", "hash", "at", "actor", "env", "event"]),
        at: prop::sample::Index,
        flip in 1_u8..,
        cut: bool,
    ) {
        let scratch = Scratch::new();
        let drafts: Vec<Draft> = events.into_iter().map(|e| draft(&actor, e)).collect();
        scratch.open().append(&Head::genesis(), &drafts, None).unwrap();
        let seq = pick.index(drafts.len()) as u64 + 1;
        let raw = scratch.raw();
        let mut bytes: Vec<u8> = raw
            .query_row(
                &format!("SELECT CAST({column} AS BLOB) FROM entries WHERE seq = ?1"),
                [seq as i64],
                |row| row.get(0),
            )
            .unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.remove(at);
        } else {
            bytes[at] ^= flip;
        }
        let kind = if column == "prev" || column == "hash" { "BLOB" } else { "TEXT" };
        raw.execute(
            &format!("UPDATE entries SET {column} = CAST(?2 AS {kind}) WHERE seq = ?1"),
            rusqlite::params![seq as i64, bytes],
        )
        .unwrap();
        prop_assert_eq!(broken(&scratch), Some(Break { seq, how: Tampering::Edited }));
    }
}

/// A log of `count` entries, tampered with by `sql`.
fn tampered(count: u64, sql: &str) -> Option<Break> {
    let scratch = Scratch::new();
    append(&mut scratch.open(), numbered(count));
    scratch.raw().execute_batch(sql).unwrap();
    broken(&scratch)
}

#[test]
fn a_replacement_character_cannot_hide_broken_text() {
    let scratch = Scratch::new();
    append(
        &mut scratch.open(),
        [json!({"type": "x", "name": "\u{fffd}"})],
    );
    let sql = "UPDATE entries SET event =
        CAST(replace(CAST(event AS BLOB), x'EFBFBD', x'EFBF') AS TEXT)";
    scratch.raw().execute_batch(sql).unwrap();
    assert_eq!(
        broken(&scratch),
        Some(Break {
            seq: 1,
            how: Tampering::Edited
        })
    );
}

#[test]
fn what_was_done_to_the_log_is_named() {
    let renumber = |from: u64, by: i64| {
        format!(
            "UPDATE entries SET seq = -(seq + {by}) WHERE seq >= {from};
             UPDATE entries SET seq = -seq WHERE seq < 0;"
        )
    };
    let positive = "PRAGMA ignore_check_constraints = on;";
    let found = |sql: String| {
        tampered(9, &format!("{positive}{sql}"))
            .map(|b| b.to_string())
            .unwrap_or_default()
    };
    assert_eq!(
        found("DELETE FROM entries WHERE seq = 4".into()),
        "entry 4 was removed"
    );
    assert_eq!(
        found("DELETE FROM entries WHERE seq BETWEEN 1 AND 3".into()),
        "entries 1 to 3 were removed"
    );
    assert_eq!(
        found(format!(
            "DELETE FROM entries WHERE seq BETWEEN 4 AND 5; {}",
            renumber(6, -2)
        )),
        "entries 4 to 5 were removed"
    );
    let swap = |a: u64, b: u64| {
        format!(
            "UPDATE entries SET seq = -1 WHERE seq = {a}; UPDATE entries SET seq = {a} WHERE seq = {b};
             UPDATE entries SET seq = {b} WHERE seq = -1;"
        )
    };
    assert_eq!(
        found(swap(4, 5)),
        "the order was changed: at place 4 stands the entry appended as 5"
    );
    assert_eq!(
        found(swap(4, 8)),
        "the order was changed: at place 4 stands the entry appended as 8"
    );
    let insert = "INSERT INTO entries SELECT 4, prev, hash, at, 'mallory', env, event
                  FROM entries WHERE seq = 3;";
    assert_eq!(
        found(format!("{} {insert}", renumber(4, 1))),
        "entry 4 was inserted: it was never appended"
    );
    assert_eq!(
        found("UPDATE entries SET actor = 'mallory' WHERE seq = 4".into()),
        "entry 4 was edited: its contents do not have the hash it carries"
    );
    assert_eq!(found("SELECT 1".into()), "");
}

/// An entry that carries a right hash of its own.
fn forge(scratch: &Scratch, seq: u64, prev: &[u8]) {
    let ledger = scratch.open();
    let mut forged = ledger.read_stored(seq, 1).unwrap().remove(0);
    forged.actor = "mallory".to_owned();
    forged.prev = prev.to_vec();
    let hash = forged.hash_at(seq);
    scratch
        .raw()
        .execute(
            "INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            rusqlite::params![
                seq as i64,
                forged.prev,
                hash.as_bytes(),
                forged.at,
                forged.actor,
                forged.env,
                forged.event
            ],
        )
        .unwrap();
}

#[test]
fn an_entry_that_was_forged_with_its_hash_is_found() {
    for seq in 1..=4 {
        let scratch = Scratch::new();
        let entries = append(&mut scratch.open(), numbered(5));
        forge(&scratch, seq, entries[seq as usize - 1].prev.as_bytes());
        let broken = broken(&scratch).unwrap();
        assert!(broken.how == Tampering::Replaced, "{broken}");
        // The entry after the last cannot vouch for it.
        assert_eq!(broken.seq, if seq == 4 { 5 } else { seq });
    }
    let scratch = Scratch::new();
    append(&mut scratch.open(), numbered(5));
    forge(&scratch, 3, &[7; 32]);
    assert_eq!(
        broken(&scratch),
        Some(Break {
            seq: 3,
            how: Tampering::Replaced
        })
    );
}

#[test]
fn an_insertion_that_was_linked_well_is_found() {
    let scratch = Scratch::new();
    let entries = append(&mut scratch.open(), numbered(5));
    scratch
        .raw()
        .execute_batch(
            "PRAGMA ignore_check_constraints = on;
             UPDATE entries SET seq = -(seq + 1) WHERE seq >= 3;
             UPDATE entries SET seq = -seq WHERE seq < 0;
             INSERT INTO entries SELECT 3, prev, hash, at, actor, env, event
             FROM entries WHERE seq = 2;",
        )
        .unwrap();
    let conn = Connection::open(scratch.path()).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER entries_are_appended BEFORE INSERT ON entries BEGIN SELECT 1; END;
         CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries BEGIN SELECT 1; END;
         CREATE TRIGGER entries_are_not_removed BEFORE DELETE ON entries BEGIN SELECT 1; END;",
    )
    .unwrap();
    forge(&scratch, 3, entries[1].hash.as_bytes());
    assert_eq!(
        broken(&scratch),
        Some(Break {
            seq: 3,
            how: Tampering::Inserted
        })
    );
}

#[test]
fn a_known_good_head_is_looked_at_again() {
    let since = |sql: &str| {
        let scratch = Scratch::new();
        let known = append(&mut scratch.open(), numbered(5))[2].head();
        scratch.raw().execute_batch(sql).unwrap();
        let ledger = scratch.open();
        verify_chain(&ledger, &known, None, verify::Blobs::Skip).unwrap()
    };
    assert_eq!(since("").entries, 2);
    for (sql, how) in [
        (
            "UPDATE entries SET event = '{}' WHERE seq = 3",
            Tampering::Edited,
        ),
        (
            "DELETE FROM entries WHERE seq = 3",
            Tampering::Removed { next: Some(4) },
        ),
        (
            "DELETE FROM entries WHERE seq >= 3",
            Tampering::Removed { next: None },
        ),
    ] {
        assert_eq!(since(sql).broken, Some(Break { seq: 3, how }), "{sql}");
    }
    // What came before is not its matter.
    assert!(since("DELETE FROM entries WHERE seq = 1").is_good());
}

#[test]
fn a_slip_of_the_hand_cannot_change_the_log() {
    let scratch = Scratch::new();
    append(&mut scratch.open(), numbered(3));
    let conn = Connection::open(scratch.path()).unwrap();
    for sql in [
        "UPDATE entries SET actor = 'x'",
        "DELETE FROM entries WHERE seq = 3",
        "INSERT OR REPLACE INTO entries SELECT 2, prev, hash, at, 'x', env, event FROM entries WHERE seq = 2",
        "INSERT INTO entries SELECT 9, prev, hash, at, 'x', env, event FROM entries WHERE seq = 2",
        "DELETE FROM leases",
        "UPDATE leases SET number = number - 1",
    ] {
        conn.execute(
            "INSERT OR IGNORE INTO leases VALUES ('prod', 3, NULL, '')",
            [],
        )
        .unwrap();
        assert!(conn.execute_batch(sql).is_err(), "{sql}");
    }
    assert!(whole_report(&scratch.open()).is_good());
}

#[test]
fn blobs_that_an_entry_names_are_proved_too() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let good = BlobRef(ledger.put_blob(b"good", "log").unwrap());
    let bad = BlobRef(ledger.put_blob(b"will be damaged", "log").unwrap());
    let never = BlobRef(Hash::of(b"never put"));
    append(
        &mut ledger,
        [
            json!({"type": "x", "all": [good, {"deep": bad}]}),
            json!({"type": "x", "again": bad, "plan": Hash::of(b"a plan is not a blob")}),
            json!({"type": "x", "missing": never}),
        ],
    );
    Connection::open(scratch.path())
        .unwrap()
        .execute(
            "UPDATE blobs SET data = x'00' WHERE hash = ?1",
            [bad.0.as_bytes()],
        )
        .unwrap();
    let report = whole_report(&ledger);
    assert!(report.broken.is_none() && !report.is_good());
    assert_eq!((report.entries, report.blobs), (3, 1));
    let found: Vec<_> = report.bad_blobs.iter().map(|b| (b.seq, b.hash)).collect();
    assert_eq!(found, [(1, bad.0), (3, never.0)]);
    assert!(
        verify_chain(&ledger, &Head::genesis(), None, verify::Blobs::Skip)
            .unwrap()
            .is_good()
    );
}
