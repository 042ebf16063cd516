//! A long history: every map of it is right, and it grows with what changes.

use unship_core::ident::ReleaseId;
use unship_core::ledger::SqliteLedger;
use unship_core::log::Ledger;
use unship_core::testing::long::{Shape, grow, name};

fn ledger(dir: &tempfile::TempDir) -> Ledger {
    let store = SqliteLedger::create(&dir.path().join("ledger"), Ledger::views()).unwrap();
    Ledger::new(store, "prod", "anna")
}

#[test]
fn every_map_of_a_long_history_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = ledger(&dir);
    let shape = Shape {
        relations: 40,
        changes: 3,
    };
    grow(&mut ledger, shape, 0, 300).unwrap();
    for id in [0, 1, 13, 14, 150, 299] {
        let map = ledger.history(|h| h.map(ReleaseId(id))).unwrap().unwrap();
        assert_eq!(map.len(), 40);
        for relation in 0..40 {
            let version = map.get(&name(relation)).unwrap();
            assert_eq!(version.id.release.0, shape.built_by(relation, id), "R{id}");
        }
    }
    let newest = ledger.history(|h| h.releases("prod", None, 50)).unwrap();
    let ids: Vec<_> = newest.iter().map(|r| r.id.0).collect();
    assert_eq!(ids, (250..300).rev().collect::<Vec<_>>());
    let live = ledger.history(|h| h.live("prod")).unwrap().unwrap();
    assert_eq!((live.release, live.cursor), (ReleaseId(299), 299));
}

#[test]
fn a_ledger_grows_with_what_changes_and_not_with_what_there_is() {
    let bytes_for_200_more = |relations| {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger(&dir);
        let shape = Shape {
            relations,
            changes: 3,
        };
        let size = |ledger: &mut Ledger| {
            let bytes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
            let read = ledger
                .store()
                .query(|c| c.query_row(bytes, [], |row| row.get::<_, i64>(0)));
            read.unwrap()
        };
        grow(&mut ledger, shape, 0, 100).unwrap();
        let before = size(&mut ledger);
        grow(&mut ledger, shape, 100, 300).unwrap();
        size(&mut ledger) - before
    };
    let (few, many) = (bytes_for_200_more(30), bytes_for_200_more(600));
    assert!(
        many < few * 5 / 4,
        "{many} bytes with 600 relations, {few} with 30"
    );
}
