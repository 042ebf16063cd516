use super::super::testing::Database;
use super::*;
use serde_json::json;
use std::sync::Barrier;
use unship_core::ledger::verify::{Blobs, Tampering};
use unship_core::ledger::{BlobRef, Sealed, SqliteLedger, Store, verify_chain};

const MINUTE: Duration = Duration::from_secs(60);

fn draft(event: serde_json::Value) -> Draft {
    Draft {
        at: Timestamp::UNIX_EPOCH,
        actor: "anna".to_owned(),
        env: "prod".to_owned(),
        event,
    }
}

fn numbered(count: u64) -> Vec<Draft> {
    (1..=count)
        .map(|n| draft(json!({"type": "test", "n": n, "text": "it's \\ a \u{0} ❤ \"test\""})))
        .collect()
}

fn append(ledger: &mut PostgresLedger, drafts: &[Draft]) -> Vec<Entry> {
    let head = ledger.head().unwrap();
    ledger.append(&head, drafts, None).unwrap()
}

#[test]
fn what_was_appended_is_read_back_by_anybody_and_proved() {
    let Some(db) = Database::new() else { return };
    let missing = PostgresLedger::open(db.connector()).map(drop);
    assert!(
        matches!(missing, Err(LedgerError::NotFound { .. })),
        "{missing:?}"
    );
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    assert_eq!(ledger.head().unwrap(), Head::genesis());
    let blob = ledger.put_blob(b"a manifest", "manifest").unwrap();
    let mut all = append(&mut ledger, &numbered(3));
    all.extend(append(
        &mut ledger,
        &[draft(json!({"type": "ended", "log": BlobRef(blob)}))],
    ));
    let reader = PostgresLedger::open(db.connector()).unwrap();
    assert_eq!(reader.read(1, 10).unwrap(), all);
    assert_eq!(reader.read(2, 2).unwrap(), all[1..3]);
    let report = verify_chain(&reader, &Head::genesis(), None, Blobs::Check).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.entries, report.blobs), (4, 1));
}

#[test]
fn who_comes_second_is_told_and_nobodys_entry_is_lost() {
    let Some(db) = Database::new() else { return };
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    let stale = ledger.head().unwrap();
    append(&mut ledger, &numbered(1));
    let answer = ledger.append(&stale, &numbered(1), None);
    assert!(
        matches!(
            answer,
            Err(LedgerError::HeadMoved {
                expected: 0,
                actual: 1
            })
        ),
        "{answer:?}"
    );

    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut ledger = PostgresLedger::open(db.connector()).unwrap();
                start.wait();
                for _ in 0..10 {
                    loop {
                        let head = ledger.head().unwrap();
                        match ledger.append(&head, &numbered(2), None) {
                            Ok(_) => break,
                            Err(LedgerError::HeadMoved { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            });
        }
    });
    let report = verify_chain(&ledger, &Head::genesis(), None, Blobs::Check).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.entries, 81);
}

#[test]
fn a_lease_keeps_a_second_one_out_and_fences_the_first_one_off() {
    let Some(db) = Database::new() else { return };
    let mut a = PostgresLedger::create(db.connector()).unwrap();
    let mut b = PostgresLedger::open(db.connector()).unwrap();
    let holder = Holder::current("anna", "unship run");
    let first = a.take_lease("prod", &holder, MINUTE).unwrap();
    match b.take_lease("prod", &holder, MINUTE) {
        Err(LedgerError::Held(lease)) => assert_eq!(*lease, first),
        other => panic!("{other:?}"),
    }
    b.take_lease("dev", &holder, MINUTE).unwrap();
    let first = a.renew_lease(&first, Duration::ZERO).unwrap();
    let second = b.take_lease("prod", &holder, MINUTE).unwrap();
    assert!(second.number > first.number);
    let head = a.head().unwrap();
    let late = a.append(&head, &numbered(1), Some(&first.fence()));
    assert!(matches!(late, Err(LedgerError::Fenced { .. })), "{late:?}");
    assert!(matches!(
        a.renew_lease(&first, MINUTE),
        Err(LedgerError::Fenced { .. })
    ));
    a.release_lease(&first).unwrap();
    assert_eq!(b.lease("prod").unwrap(), Some(second.clone()));
    b.append(&head, &numbered(1), Some(&second.fence()))
        .unwrap();
    b.release_lease(&second).unwrap();
    assert_eq!(b.lease("prod").unwrap(), None);
}

#[test]
fn blobs_are_kept_once_and_as_differences() {
    let Some(db) = Database::new() else { return };
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    let mut text: Vec<u8> = (0..20_000u32)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).to_hex().as_bytes().to_vec())
        .collect();
    let first = ledger.put_blob(&text, "manifest").unwrap();
    text[5000] = b'!';
    let second = ledger.put_blob(&text, "manifest").unwrap();
    assert_eq!(ledger.put_blob(&text, "manifest").unwrap(), second);
    assert_eq!(ledger.get_blob(&second).unwrap(), text);
    text[5000] = ledger.get_blob(&first).unwrap()[5000];
    assert_eq!(ledger.get_blob(&first).unwrap(), text);
    let sizes: Vec<i64> = db
        .client()
        .query(
            "SELECT length(data)::int8 FROM unship.blobs ORDER BY id",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(sizes.len() == 2 && sizes[1] * 100 < sizes[0], "{sizes:?}");
    let missing = ledger.get_blob(&Hash::of(b"never put"));
    assert!(matches!(missing, Err(LedgerError::BlobMissing { .. })));
}

#[test]
fn history_is_not_changed_by_a_slip_of_the_hand_and_intent_is_found() {
    let Some(db) = Database::new() else { return };
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    append(&mut ledger, &numbered(5));
    let mut client = db.client();
    for slip in [
        "UPDATE unship.entries SET actor = 'ben' WHERE seq = 3",
        "DELETE FROM unship.entries WHERE seq = 3",
        "TRUNCATE unship.entries",
        "INSERT INTO unship.entries SELECT 9, prev, hash, at, actor, env, event
           FROM unship.entries WHERE seq = 5",
    ] {
        assert!(client.batch_execute(slip).is_err(), "{slip}");
    }
    client
        .batch_execute(
            "ALTER TABLE unship.entries DISABLE TRIGGER ALL;
             UPDATE unship.entries SET actor = 'ben' WHERE seq = 3",
        )
        .unwrap();
    let report = verify_chain(&ledger, &Head::genesis(), None, Blobs::Check).unwrap();
    let broken = report.broken.unwrap();
    assert_eq!((broken.seq, broken.how), (3, Tampering::Edited));
}

/// Runs statements as one transaction, as a swap does.
fn commit(db: &Database, statements: &[String]) -> Result<(), postgres::Error> {
    let batch = format!("BEGIN; {}; COMMIT", statements.join("; "));
    db.client().batch_execute(&batch)
}

#[test]
fn a_seal_commits_with_the_change_or_not_at_all() {
    let Some(db) = Database::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let replica = SqliteLedger::create(&dir.path().join("replica"), Vec::new()).unwrap();
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    append(&mut ledger, &numbered(2));
    let mut store = Store::shared(Box::new(ledger), replica).unwrap();
    let holder = Holder::current("anna", "unship run");
    let lease = store.take_lease("it's prod", &holder, MINUTE).unwrap();
    let change = |n: u32| format!("CREATE TABLE public.changed_{n} ()");
    let changed = |n: u32| {
        let table = format!("public.changed_{n}");
        let row = db
            .client()
            .query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&table])
            .unwrap();
        row.get::<_, bool>(0)
    };
    let sealed = |store: &Store, lease: &Lease, n: u32| {
        let seal = store
            .seal(&numbered(2), Some(&lease.fence()))
            .unwrap()
            .unwrap();
        let mut statements = vec![change(n)];
        statements.extend(seal_statements(&seal));
        (seal, statements)
    };

    let (seal, statements) = sealed(&store, &lease, 1);
    assert_eq!(store.sealed(&seal).unwrap(), Sealed::Open);
    commit(&db, &statements).unwrap();
    assert!(changed(1));
    assert_eq!(store.sealed(&seal).unwrap(), Sealed::Written);
    assert_eq!(store.read(3, 2).unwrap().len(), 2);

    // Somebody else's entry came in between.
    let (seal, statements) = sealed(&store, &lease, 2);
    let head = store.head().unwrap();
    let other = draft(json!({"type": "pinned"}));
    store.append(&head, &[other], None).unwrap();
    assert!(commit(&db, &statements).is_err() && !changed(2));
    assert_eq!(store.sealed(&seal).unwrap(), Sealed::Overtaken);

    // The lease was lost in between.
    let (seal, statements) = sealed(&store, &lease, 3);
    store.release_lease(&lease).unwrap();
    assert!(commit(&db, &statements).is_err() && !changed(3));
    assert_eq!(store.sealed(&seal).unwrap(), Sealed::Open);

    let report = verify_chain(&store, &Head::genesis(), None, Blobs::Check).unwrap();
    assert!(report.is_good() && report.entries == 5, "{report:?}");
}

#[test]
fn a_newer_format_and_somebody_elses_schema_are_left_alone() {
    let Some(db) = Database::new() else { return };
    let mut client = db.client();
    drop(PostgresLedger::create(db.connector()).unwrap());
    client
        .batch_execute("UPDATE unship.format SET version = 7")
        .unwrap();
    let newer = PostgresLedger::create(db.connector()).map(drop);
    assert!(
        matches!(newer, Err(LedgerError::Newer { found: 7, .. })),
        "{newer:?}"
    );
    client
        .batch_execute("DROP TABLE unship.format; DROP TABLE unship.leases")
        .unwrap();
    let strange = PostgresLedger::create(db.connector()).map(drop);
    assert!(
        matches!(strange, Err(LedgerError::NotALedger { .. })),
        "{strange:?}"
    );
}

#[test]
fn a_role_without_rights_is_told_what_it_lacks() {
    let Some(db) = Database::new() else { return };
    let role = format!("unship_reader_{}", std::process::id());
    let mut client = db.client();
    client
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .unwrap();
    let connector = db.connector().as_role(Some(role.clone()));
    let denied = PostgresLedger::create(connector).map(drop);
    client.batch_execute(&format!("DROP ROLE {role}")).unwrap();
    match denied {
        Err(LedgerError::ReadOnly { why, .. }) => {
            assert!(why.contains("permission denied for database"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

/// A restart of the server, or of what lies between, ends connections.
#[test]
fn a_connection_that_was_cut_is_made_again() {
    let Some(db) = Database::new() else { return };
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    append(&mut ledger, &numbered(1));
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    db.client().batch_execute(cut).unwrap();
    while ledger.head().is_err() {}
    assert_eq!(append(&mut ledger, &numbered(1)).len(), 1);
}

/// Whoever owns the schema can alter what unship never would. That is found out, and nothing dies
/// of it.
#[test]
fn a_table_that_somebody_altered_is_called_damaged() {
    let Some(db) = Database::new() else { return };
    let alter = |sql| db.client().batch_execute(sql).unwrap();
    let mut ledger = PostgresLedger::create(db.connector()).unwrap();
    append(&mut ledger, &numbered(2));
    let lease = ledger.take_lease("prod", &Holder::current("anna", "unship run"), MINUTE);
    let lease = lease.unwrap();
    let fence = Fence {
        env: "prod".to_owned(),
        number: lease.number,
    };
    let damaged = |answer: Result<(), LedgerError>| {
        assert!(
            matches!(&answer, Err(LedgerError::Damaged { what, .. }) if !what.is_empty()),
            "{answer:?}"
        );
    };
    alter("ALTER TABLE unship.leases ALTER number TYPE text");
    damaged(ledger.lease("prod").map(drop));
    let head = ledger.head().unwrap();
    damaged(ledger.append(&head, &numbered(1), Some(&fence)).map(drop));
    assert_eq!(ledger.head().unwrap(), head, "nothing was appended");

    alter(
        "ALTER TABLE unship.entries DISABLE TRIGGER USER;
         ALTER TABLE unship.entries ALTER actor DROP NOT NULL;
         UPDATE unship.entries SET actor = NULL WHERE seq = 2",
    );
    damaged(ledger.read(1, 10).map(drop));
    let genesis = Head::genesis();
    damaged(verify_chain(&ledger, &genesis, None, Blobs::Check).map(drop));
    alter("ALTER TABLE unship.entries ALTER hash TYPE text USING encode(hash, 'hex')");
    damaged(ledger.head().map(drop));
    alter("ALTER TABLE unship.blobs ALTER data TYPE text USING ''");
    let blob = ledger.put_blob(b"one", "manifest");
    assert!(blob.is_err(), "{blob:?}");
    alter("ALTER TABLE unship.format ALTER version TYPE text");
    damaged(PostgresLedger::open(db.connector()).map(drop));
}
