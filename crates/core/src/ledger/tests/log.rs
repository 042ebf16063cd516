use super::*;
use std::sync::Barrier;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_was_appended_is_read_back_by_anybody(
        batches in prop::collection::vec(prop::collection::vec(any_event(), 0..4), 0..8),
        actor: String,
        from in 0_u64..40,
        limit in 0_usize..40,
    ) {
        let scratch = Scratch::new();
        let mut ledger = scratch.open();
        let mut all = Vec::new();
        for batch in batches {
            let drafts: Vec<Draft> = batch.into_iter().map(|e| draft(&actor, e)).collect();
            let head = ledger.head().unwrap();
            let entries = ledger.append(&head, &drafts, None).unwrap();
            for (entry, draft) in entries.iter().zip(&drafts) {
                prop_assert_eq!(&entry.actor, &draft.actor);
                prop_assert_eq!(entry.event_type(), draft.event["type"].as_str().unwrap());
            }
            all.extend(entries);
        }
        let expected: Vec<Entry> =
            all.iter().skip(from.max(1) as usize - 1).take(limit).cloned().collect();
        prop_assert_eq!(ledger.read(from, limit).unwrap(), expected.clone());
        drop(ledger);
        let reader = SqliteLedger::open_read_only(&scratch.path(), Vec::new()).unwrap();
        prop_assert_eq!(reader.read(from, limit).unwrap(), expected);
        let report = whole_report(&reader);
        prop_assert!(report.is_good());
        prop_assert_eq!(report.entries, all.len() as u64);
        prop_assert_eq!(report.good, reader.head().unwrap());
    }
}

#[test]
fn whoever_appends_to_an_old_head_is_told_so_and_changes_nothing() {
    let scratch = Scratch::new();
    let (mut a, mut b) = (scratch.open(), scratch.open());
    let old = b.head().unwrap();
    append(&mut a, numbered(3));
    let answer = b.append(&old, &[draft("ben", json!({"type": "x"}))], None);
    assert!(matches!(
        answer,
        Err(LedgerError::HeadMoved {
            expected: 0,
            actual: 3
        })
    ));
    // The same length is not the same log.
    let other = Head {
        hash: Hash::of(b"other"),
        ..b.head().unwrap()
    };
    assert!(matches!(
        b.append(&other, &[], None),
        Err(LedgerError::HeadMoved { .. })
    ));
    assert_eq!(b.head().unwrap().seq, 3);
}

#[test]
fn one_bad_event_keeps_all_of_them_out() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let drafts = [
        draft("a", json!({"type": "x"})),
        draft("a", json!({"no": "type"})),
    ];
    assert!(ledger.append(&Head::genesis(), &drafts, None).is_err());
    assert_eq!(ledger.head().unwrap(), Head::genesis());
}

#[test]
fn of_several_who_append_to_one_head_exactly_one_wins() {
    let scratch = Scratch::new();
    let (threads, rounds) = (4, 15);
    let barrier = Barrier::new(threads);
    let wins: usize = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..threads)
            .map(|i| {
                let (mut ledger, barrier) = (scratch.open(), &barrier);
                scope.spawn(move || {
                    let mut wins = 0;
                    for _ in 0..rounds {
                        barrier.wait();
                        let head = ledger.head().unwrap();
                        barrier.wait();
                        match ledger.append(
                            &head,
                            &[draft(&i.to_string(), json!({"type": "x"}))],
                            None,
                        ) {
                            Ok(_) => wins += 1,
                            Err(LedgerError::HeadMoved { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    wins
                })
            })
            .collect();
        tasks.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(wins, rounds);
    let report = whole_report(&scratch.open());
    assert!(report.is_good() && report.entries == rounds as u64);
}

#[test]
fn the_end_of_a_log_is_proved_by_a_statement_kept_elsewhere() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    append(&mut ledger, numbered(5));
    let head = ledger.head().unwrap();
    let statement = HeadStatement::new("jaffle shop", head, Timestamp::UNIX_EPOCH).unwrap();
    let text = statement.to_string();
    assert_eq!(
        text,
        format!(
            "unship ledger head v1\nproject: jaffle shop\nseq: 5\nhash: {}\nat: 1970-01-01T00:00:00Z\n",
            head.hash
        )
    );
    append(&mut ledger, numbered(2));
    let kept: HeadStatement = text.parse().unwrap();
    assert_eq!(kept, statement);
    assert!(kept.verify(&ledger, verify::Blobs::Skip).unwrap().is_good());

    // Cut off at its end, and grown again: the chain alone shows nothing.
    scratch
        .raw()
        .execute("DELETE FROM entries WHERE seq > 3", [])
        .unwrap();
    assert!(whole_report(&ledger).is_good());
    let report = kept.verify(&ledger, verify::Blobs::Skip).unwrap();
    assert_eq!(
        report.broken.unwrap().to_string(),
        "entry 4 and all after it were removed"
    );
    append(&mut ledger, numbered(4));
    assert!(whole_report(&ledger).is_good());
    let report = kept.verify(&ledger, verify::Blobs::Skip).unwrap();
    assert_eq!(report.broken.unwrap().seq, 5);
    // So does a known good head, at the price of its own entries only.
    let report = verify_chain(&ledger, &head, None, verify::Blobs::Skip).unwrap();
    assert_eq!(report.broken.unwrap().seq, 5);
}

#[test]
fn only_the_canonical_statement_is_one() {
    let statement = HeadStatement::new("p", Head::genesis(), Timestamp::UNIX_EPOCH).unwrap();
    let text = statement.to_string();
    for bad in [
        String::new(),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        text.replace("seq: 0", "seq: 00"),
        text.replace("project: p", "project: p\r"),
        text.replace("00Z", "00.000Z"),
        text.replace('\n', "\r\n"),
        text.to_uppercase(),
    ] {
        assert!(bad.parse::<HeadStatement>().is_err(), "{bad:?}");
    }
    for bad in ["a\nseq: 7", "a\u{0}", "\u{85}"] {
        assert!(matches!(
            HeadStatement::new(bad, Head::genesis(), Timestamp::UNIX_EPOCH),
            Err(LedgerError::BadProject { .. })
        ));
    }
}

proptest! {
    #[test]
    fn no_statement_text_panics(text: String, line in 0_usize..6) {
        let good = HeadStatement::new("p", Head::genesis(), Timestamp::UNIX_EPOCH).unwrap().to_string();
        let mut lines: Vec<&str> = good.split('\n').collect();
        lines[line] = &text;
        if let Ok(read) = lines.join("\n").parse::<HeadStatement>() {
            prop_assert_eq!(read.to_string(), lines.join("\n"));
        }
    }
}
