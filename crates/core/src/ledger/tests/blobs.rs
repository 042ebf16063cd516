use super::*;
use rusqlite::OptionalExtension;

fn stored_bytes(scratch: &Scratch, hash: &Hash) -> (i64, Option<i64>) {
    Connection::open(scratch.path())
        .unwrap()
        .query_row(
            "SELECT length(data), base FROM blobs WHERE hash = ?1",
            [hash.as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .unwrap()
        .unwrap()
}

/// Something like a manifest: much text that does not compress to nothing, and a time in it.
fn manifest(time: u64, nodes: u64) -> Vec<u8> {
    let mut text = format!("{{\"generated_at\":\"{time}\",\"nodes\":[");
    for n in 0..nodes {
        let digest = Hash::of(&n.to_le_bytes());
        text.push_str(&format!("{{\"id\":\"{digest}\",\"created_at\":{time}}},"));
    }
    text.push_str("]}");
    text.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_blob_comes_back(blobs in prop::collection::vec(
        (prop::collection::vec(any::<u8>(), 0..3000), 1_usize..20, "[ab]"), 1..8,
    )) {
        let scratch = Scratch::new();
        let mut ledger = scratch.open();
        let put: Vec<_> = blobs
            .iter()
            .map(|(bytes, times, kind)| {
                let bytes = bytes.repeat(*times);
                (ledger.put_blob(&bytes, kind).unwrap(), bytes)
            })
            .collect();
        for (hash, bytes) in put {
            prop_assert_eq!(hash, Hash::of(&bytes));
            prop_assert_eq!(ledger.get_blob(&hash).unwrap(), bytes);
        }
    }
}

#[test]
fn the_same_bytes_are_stored_once() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let first = ledger.put_blob(b"the same", "manifest").unwrap();
    assert_eq!(ledger.put_blob(b"the same", "sources").unwrap(), first);
    let count: i64 = Connection::open(scratch.path())
        .unwrap()
        .query_row("SELECT count(*) FROM blobs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_manifest_that_hardly_changed_takes_hardly_any_room() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let first = ledger.put_blob(&manifest(1, 3000), "manifest").unwrap();
    let (full, base) = stored_bytes(&scratch, &first);
    assert_eq!(base, None);
    for time in 2..6 {
        let bytes = manifest(time, 3000 + time);
        let hash = ledger.put_blob(&bytes, "manifest").unwrap();
        let (size, base) = stored_bytes(&scratch, &hash);
        assert!(size < full / 4, "{size} of {full}");
        assert_eq!(base, Some(1), "a difference is always from a full blob");
        assert_eq!(ledger.get_blob(&hash).unwrap(), bytes);
    }
    // Another kind, and other contents, stand alone.
    let other = ledger.put_blob(&manifest(7, 2999), "catalog").unwrap();
    assert_eq!(stored_bytes(&scratch, &other).1, None);
    let noise: Vec<u8> = (0..50_000_u64)
        .flat_map(|n| *Hash::of(&(n + 1_000_000).to_be_bytes()).as_bytes())
        .collect();
    let new_base = ledger.put_blob(&noise, "manifest").unwrap();
    assert_eq!(stored_bytes(&scratch, &new_base).1, None);
}

#[test]
fn a_damaged_blob_is_never_handed_out() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let base = ledger.put_blob(&manifest(1, 500), "manifest").unwrap();
    let difference = ledger.put_blob(&manifest(2, 500), "manifest").unwrap();
    assert!(stored_bytes(&scratch, &difference).1.is_some());
    let missing = Hash::of(b"nothing");
    assert!(matches!(
        ledger.get_blob(&missing),
        Err(LedgerError::BlobMissing { hash }) if hash == missing
    ));

    let conn = Connection::open(scratch.path()).unwrap();
    let data: Vec<u8> = conn
        .query_row("SELECT data FROM blobs WHERE id = 1", [], |row| row.get(0))
        .unwrap();
    let mut damaged = 0;
    for at in (0..data.len()).step_by(data.len() / 40) {
        let mut bytes = data.clone();
        bytes[at] ^= 0x55;
        conn.execute("UPDATE blobs SET data = ?1 WHERE id = 1", [bytes])
            .unwrap();
        // A bit that zstd does not use may change without a consequence.
        for (hash, right) in [(base, manifest(1, 500)), (difference, manifest(2, 500))] {
            match ledger.get_blob(&hash) {
                Ok(read) => assert_eq!(read, right),
                Err(LedgerError::BlobCorrupt { hash: named, .. }) => {
                    assert_eq!(named, hash);
                    damaged += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(damaged > 70, "{damaged}");
    // A damaged base is not built upon.
    let next = ledger.put_blob(&manifest(3, 500), "manifest").unwrap();
    assert_eq!(stored_bytes(&scratch, &next).1, None);
    assert_eq!(ledger.get_blob(&next).unwrap(), manifest(3, 500));
}

#[test]
fn a_forged_size_or_base_uses_up_no_memory_and_no_stack() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let hash = ledger.put_blob(&vec![0; 100_000_000], "zeros").unwrap();
    let conn = Connection::open(scratch.path()).unwrap();
    for sql in [
        "UPDATE blobs SET size = 10",
        "UPDATE blobs SET base = id",
        "UPDATE blobs SET hash = zeroblob(32)",
    ] {
        conn.execute_batch("BEGIN").unwrap();
        conn.execute_batch(sql).unwrap();
        conn.execute_batch("COMMIT").unwrap();
        assert!(matches!(
            ledger.get_blob(&hash),
            Err(LedgerError::BlobCorrupt { .. } | LedgerError::BlobMissing { .. })
        ));
    }
}
