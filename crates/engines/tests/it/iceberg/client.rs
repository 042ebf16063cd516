//! What a catalog may say, and what follows: a clear error, and production as it was.

use super::server::{Fault, Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use std::collections::BTreeSet;
use unship_core::engine::{Depth, Engine, EngineError, ErrorKind, Level, Observation, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::OperateError;
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Table, Write};
use unship_engines::iceberg::Iceberg;
use unship_engines::iceberg::rest::Login;

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

fn lake(token: &str, login: impl FnOnce(&Server) -> Login) -> Lake {
    let mut lake = Lake::new(
        Manner {
            token: Some(token.to_owned()),
            ..Manner::default()
        },
        Jobs::InPlace,
    );
    lake.login = login(&lake.server);
    lake
}

#[test]
fn a_login_that_is_refused_is_told_without_the_secret() {
    let wrong = lake("right", |_| Login::Token("hunter2-secret".to_owned()));
    wrong.server.fault(
        "config",
        Fault::Says(
            401,
            "{\"error\": {\"message\": \"who is hunter2-secret?\", \"type\": \"NotAuthorized\"}}",
        ),
    );
    let mut engine = Iceberg::new(wrong.settings());
    let error = engine.mark().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    assert!(error.message.contains("who is ***?"), "{error}");
    let shown = format!("{error:?} {:?}", wrong.settings());
    assert!(!shown.contains("hunter2"), "{shown}");
    let doctor = engine.doctor();
    assert_eq!(doctor[0].level, Level::Error);
    assert!(!format!("{doctor:?}").contains("hunter2"));
}

/// A bought token that the catalog no longer takes is bought again.
#[test]
fn an_expired_token_is_bought_again() {
    let lake = lake("first", |server| Login::Credential {
        id: "unship".to_owned(),
        secret: "s3cret".to_owned(),
        server: format!("{}/v1/oauth/tokens", server.uri),
        scope: "catalog".to_owned(),
    });
    let mut engine = Iceberg::new(lake.settings());
    engine.mark().unwrap();
    lake.server.state().manner.token = Some("second".to_owned());
    let doctor = engine.doctor();
    assert!(doctor.iter().all(|d| d.level < Level::Error), "{doctor:?}");
    let bought: Vec<_> = lake
        .server
        .state()
        .asked
        .iter()
        .filter(|(line, _)| line.contains("oauth"))
        .map(|(_, body)| body.as_str().unwrap().to_owned())
        .collect();
    let form = "grant_type=client_credentials&client_id=unship&client_secret=s3cret&scope=catalog";
    assert_eq!(bought, [form, form]);
    lake.server
        .fault("oauth", Fault::Says(400, "s3cret is wrong"));
    let error = Iceberg::new(lake.settings()).mark().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    assert!(!error.message.contains("s3cret"), "{error}");
}

/// Where tokens end while many tables are looked at, each look is refused once and goes on.
#[test]
fn a_token_that_ends_amid_many_looks_stops_none_of_them() {
    let lake = lake("right", |server| Login::Credential {
        id: "unship".to_owned(),
        secret: "s3cret".to_owned(),
        server: format!("{}/v1/oauth/tokens", server.uri),
        scope: "catalog".to_owned(),
    });
    let tables = 64;
    for n in 0..tables {
        let at = id(&name(&format!("orders_{n}")));
        lake.server.state().catalog.replace(&at, &table(1));
        // One for each, and none for what is asked again.
        let path: &'static str = Box::leak(format!("/tables/orders_{n}?").into_boxed_str());
        lake.server.fault(path, Fault::Says(401, ""));
    }
    assert_eq!(seen(&lake).unwrap().len(), tables);
}

/// Many catalogs are older than the list of what a catalog offers, and older than its commit of
/// several tables.
#[test]
fn a_catalog_that_says_nothing_of_transactions_is_asked() {
    let silent = Manner {
        lists: false,
        lacks: vec!["transactions/commit"],
        ..Manner::default()
    };
    let lake = Lake::new(silent, Jobs::InPlace);
    let mut world = World::new(Box::new(lake)).unwrap();
    let both = |n| Script::good([value("orders", n), value("customers", n)]);
    world.run(&both(1)).unwrap();
    let first = world.production();
    world.run(&both(2)).unwrap();
    world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(world.production(), first);
    let doctor = world.session(|s| s.engine.doctor());
    let warned = |d: &unship_core::engine::Diagnosis| {
        d.level == Level::Warning && d.finding.contains("transactions/commit")
    };
    assert!(doctor.iter().any(warned), "{doctor:?}");
}

/// An empty list of what a catalog offers says nothing, as for Iceberg's own client.
#[test]
fn an_empty_list_of_endpoints_is_none() {
    let (mut world, server) = told([
        vec![value("orders", 1)],
        vec![value("orders", 2), value("more", 2)],
    ]);
    let empty = "{\"defaults\": {}, \"overrides\": {}, \"endpoints\": []}";
    server.fault("/config", Fault::Says(200, empty));
    world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(world.production().len(), 1);
}

/// A catalog that does not tell capitals from small letters answers for a namespace that is written
/// otherwise. That must not look as if its tables were gone.
#[test]
fn a_namespace_that_is_written_otherwise_is_told() {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    let orders = id(&name("orders"));
    lake.server.state().catalog.replace(&orders, &table(1));
    let listed = "{\"identifiers\": [{\"namespace\": [\"s\"], \"name\": \"orders\"}]}";
    lake.server
        .fault("namespaces/S/tables?", Fault::Says(200, listed));
    let mut settings = lake.settings();
    settings.namespaces = BTreeSet::from([vec!["S".to_owned()]]);
    let mut engine = Iceberg::new(settings);
    let error = engine
        .observe(Place::Live, &Depth::Catalog, &|_, _, _| ())
        .unwrap_err();
    assert!(error.message.contains("write `namespaces`"), "{error}");
}
