//! What a catalog may say, and what follows: a clear error, and production as it was.

use super::server::{Fault, Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use std::collections::BTreeSet;
use unship_core::engine::{Depth, Engine, EngineError, Observation, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::OperateError;
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Table, Write};
use unship_engines::iceberg::Iceberg;

fn table(value: i64) -> Table {
    Table::new(&["id", "value"], [vec![1, value]])
}

fn value(of: &str, n: i64) -> Write {
    Write::Replace(name(of), table(n))
}

fn told(writes: [Vec<Write>; 2]) -> (World, Server) {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    for writes in writes {
        world.run(&Script::good(writes)).unwrap();
    }
    (world, server)
}

fn seen(lake: &Lake) -> Result<Observation, EngineError> {
    let mut engine = Iceberg::new(lake.settings());
    engine.observe(Place::Live, &Depth::Catalog, &|_, _, _| ())
}

#[test]
fn a_namespace_goes_by_the_separator_that_the_catalog_names() {
    for separator in [None, Some(".")] {
        let lake = Lake::new(
            Manner {
                separator,
                ..Manner::default()
            },
            Jobs::InPlace,
        );
        let parts = |all: &[&str]| {
            all.iter()
                .map(|part| (*part).to_owned())
                .collect::<Vec<_>>()
        };
        {
            let catalog = &mut lake.server.state().catalog;
            catalog.namespaces.insert(parts(&["sales"]));
            let at = (parts(&["sales", "eu"]), "orders".to_owned());
            catalog.replace(&at, &table(1));
        }
        let names: Vec<_> = seen(&lake).unwrap().into_keys().collect();
        let orders = RelationName::new("lake", "sales.eu", "orders");
        assert_eq!(names, [orders], "{separator:?}");
    }
}

/// A list that leads to itself would be read for ever.
#[test]
fn a_page_that_comes_again_is_nonsense() {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    for _ in 0..2 {
        let page = "{\"identifiers\": [], \"next-page-token\": \"again\"}";
        lake.server.fault("/tables?", Fault::Says(200, page));
    }
    let error = seen(&lake).unwrap_err();
    assert!(
        error.message.contains("same page of a list again"),
        "{error}"
    );
}

#[test]
fn a_look_that_a_gateway_spoils_is_repeated() {
    let (mut world, server) = told([vec![value("orders", 1)], vec![value("orders", 2)]]);
    for status in [500, 502, 504] {
        let html = "<html>sorry</html>";
        server.fault("/tables/orders", Fault::Says(status, html));
    }
    world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(world.live().unwrap().release, ReleaseId(3));
}

/// A table that a job dropped comes back from its metadata, which somebody deleted.
#[test]
fn a_metadata_file_that_is_gone_is_told_and_nothing_is_done() {
    let first = vec![value("orders", 1), value("gone", 1)];
    let second = vec![value("orders", 2), Write::Drop(name("gone"))];
    let (mut world, server) = told([first, second]);
    let before = world.production();
    let files = {
        let catalog = &mut server.state().catalog;
        let live: BTreeSet<_> = catalog.tables.values().cloned().collect();
        catalog.files.retain(|location, _| live.contains(location));
        catalog.files.len()
    };
    let refused = world.back_to(ReleaseId(1)).unwrap_err();
    assert!(
        matches!(refused, OperateError::TakenBack { .. }),
        "{refused:?}"
    );
    let text = refused.to_string();
    let said = [
        "register s.gone from memory://gone/",
        "no such metadata file",
    ];
    assert!(said.iter().all(|said| text.contains(said)), "{text}");
    assert_eq!(world.production(), before);
    assert_eq!(
        server.state().catalog.files.len(),
        files,
        "nothing was committed"
    );
    let nothing = world.resume(None);
    assert!(
        matches!(nothing, Err(OperateError::NothingToResume)),
        "{nothing:?}"
    );
    let rest = unship_core::operate::Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: Some(("orders".to_owned(), BTreeSet::from([name("orders")]))),
    };
    world.back(&rest, false).unwrap();
    assert_ne!(world.production(), before);
}

/// Somebody takes a snapshot away between the look and the commit.
#[test]
fn a_snapshot_that_expires_meanwhile_is_told_and_nothing_is_done() {
    let both = |n| vec![value("orders", n), value("customers", n)];
    let (mut world, server) = told([both(1), both(2)]);
    let before = world.production();
    let orders = id(&name("orders"));
    let ask = unship_core::operate::Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let refused = world.session(|s| {
        let plan = s.plan(&ask).unwrap();
        server.state().catalog.edit(&orders, |m| {
            let main = m["refs"]["main"].clone();
            let current = main["snapshot-id"].clone();
            m["refs"] = serde_json::json!({"main": main});
            let all = m["snapshots"].as_array_mut().unwrap();
            all.retain(|s| s["snapshot-id"] == current);
        });
        s.apply(plan, false).unwrap_err()
    });
    assert!(
        matches!(refused, OperateError::TakenBack { .. }),
        "{refused:?}"
    );
    assert_eq!(world.production(), before);
    assert_eq!(world.live().unwrap().release, ReleaseId(2));
}
