//! A ledger that several machines share. Another SQLite file stands in for the server.

use super::*;

/// A second machine's view of the ledger in `shared`, with its replica in `at`.
fn machine(shared: &Scratch, at: &Scratch) -> Result<Store, LedgerError> {
    Store::shared(Box::new(shared.open()), at.open())
}

fn all(store: &SqliteLedger) -> Vec<Entry> {
    store.read(1, 10_000).unwrap()
}

#[test]
fn every_machine_comes_to_hold_the_whole_log() {
    let (shared, a, b) = (Scratch::new(), Scratch::new(), Scratch::new());
    let mut first = machine(&shared, &a).unwrap();
    let drafts: Vec<Draft> = numbered(2500).map(|e| draft("anna", e)).collect();
    let head = first.append(&Head::genesis(), &drafts, None).unwrap();
    assert_eq!(all(&a.open()), head);

    let mut second = machine(&shared, &b).unwrap();
    assert_eq!(all(&b.open()), all(&shared.open()));
    let head = second.head().unwrap();
    second
        .append(&head, &[draft("ben", json!({"type": "x"}))], None)
        .unwrap();
    // The first one learns of it when it looks at the log again.
    let first = machine(&shared, &a).unwrap();
    assert_eq!(first.head().unwrap().seq, 2501);
    assert_eq!(all(&a.open()), all(&shared.open()));
}

#[test]
fn a_log_that_was_cut_short_is_noticed_by_who_has_seen_it() {
    let (shared, a) = (Scratch::new(), Scratch::new());
    let mut first = machine(&shared, &a).unwrap();
    let drafts: Vec<Draft> = numbered(5).map(|e| draft("anna", e)).collect();
    first.append(&Head::genesis(), &drafts, None).unwrap();
    drop(first);

    let raw = shared.raw();
    raw.execute("DELETE FROM entries WHERE seq = 5", [])
        .unwrap();
    let answer = machine(&shared, &a).map(drop);
    assert!(
        matches!(answer, Err(LedgerError::Diverged { seq: 5 })),
        "{answer:?}"
    );
    // Nor does it help to write another fifth entry.
    append(&mut shared.open(), [json!({"type": "forged"})]);
    let answer = machine(&shared, &a).map(drop);
    assert!(
        matches!(answer, Err(LedgerError::Diverged { seq: 5 })),
        "{answer:?}"
    );
}

#[test]
fn a_seal_is_open_until_its_entries_or_others_are_written() {
    let (shared, a) = (Scratch::new(), Scratch::new());
    let mut store = machine(&shared, &a).unwrap();
    let events = [draft("anna", json!({"type": "published"}))];
    let seal = store.seal(&events, None).unwrap().unwrap();
    assert_eq!(store.sealed(&seal).unwrap(), Sealed::Open);

    // The warehouse writes exactly those entries.
    shared.open().replicate(&seal.entries).unwrap();
    assert_eq!(store.sealed(&seal).unwrap(), Sealed::Written);
    assert_eq!(all(&a.open())[0].event_type(), "published");

    let late = store.seal(&events, None).unwrap().unwrap();
    append(&mut shared.open(), [json!({"type": "pinned"})]);
    assert_eq!(store.sealed(&late).unwrap(), Sealed::Overtaken);
}

#[test]
fn a_file_of_ones_own_seals_nothing() {
    let own = Scratch::new();
    let store = Store::from(own.open());
    let events = [draft("anna", json!({"type": "published"}))];
    assert!(store.seal(&events, None).unwrap().is_none());
}
