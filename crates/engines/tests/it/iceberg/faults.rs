//! Faults on the way to a catalog, and what others do meanwhile.

use super::catalog::{Id, read};
use super::server::{Fault, Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use unship_core::engine::{Level, Place, Retention};
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, OperateError};
use unship_core::others::Others;
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Contents, Table, Write};

const COMMIT: &str = "POST /api/v1/transactions/commit";

/// `R1` and `R2` of two tables.
struct Story {
    world: World,
    server: Server,
    r1: Contents,
    r2: Contents,
}

fn value(of: &str, value: i64) -> Write {
    Write::Replace(name(of), Table::new(&["id", "value"], [vec![1, value]]))
}

fn told(manner: Manner) -> Story {
    let lake = Lake::new(manner, Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    let run = |world: &mut World, n| {
        let writes = [value("orders", n), value("customers", n)];
        world.run(&Script::good(writes)).unwrap();
        world.production()
    };
    let r1 = run(&mut world, 1);
    let r2 = run(&mut world, 2);
    Story {
        world,
        server,
        r1,
        r2,
    }
}

impl Story {
    /// What is live by the ledger, after everything that was on its way has arrived.
    fn consistent(&mut self, at: &str) -> ReleaseId {
        self.world
            .session(|s| s.engine.mark())
            .unwrap_or_else(|e| panic!("{at}: {e}"));
        let live = self.world.live().unwrap().release;
        let expected = match live {
            ReleaseId(2) => &self.r2,
            _ => &self.r1,
        };
        assert_eq!(&self.world.production(), expected, "{at}: {live} is live");
        live
    }
}

fn table(server: &Server, id: &Id) -> Value {
    server.state().catalog.table(id).unwrap().clone()
}

/// Whatever becomes of the one request that moves production, the ledger and production agree, also
/// when a request that everybody has given up arrives after all.
#[test]
fn a_lost_answer_is_looked_into() {
    let faults = [
        ("a refusal that may be none", Fault::Says(500, "{}"), false),
        (
            "done, and a bad gateway",
            Fault::DoesAndSays(502, "<html>"),
            true,
        ),
        ("a gateway's time is up", Fault::Says(504, ""), false),
        (
            "done, and the catalog's own time is up",
            Fault::DoesAndSays(408, r#"{"error": {"message": "it took too long"}}"#),
            true,
        ),
        (
            "done, and a gateway of another sort",
            Fault::DoesAndSays(524, "<html>"),
            true,
        ),
        (
            "done, and the connection behind a gateway broke",
            Fault::DoesAndSays(503, "upstream connect error"),
            true,
        ),
        (
            "a page in its place",
            Fault::Says(200, "<html>hello"),
            false,
        ),
        (
            "done, and a page in its place",
            Fault::DoesAndSays(200, "<html>hello"),
            true,
        ),
        ("lost on the way there", Fault::Lost, false),
        ("lost on the way back", Fault::DoesAndLost, true),
        ("late", Fault::LostAndDoneLater, true),
    ];
    let alone = Manner {
        lacks: vec!["transactions/commit"],
        ..Manner::default()
    };
    for (manner, on) in [
        (Manner::default(), COMMIT),
        (alone, "POST /api/v1/namespaces/s/tables/orders"),
    ] {
        for (what, fault, done) in &faults {
            let at = format!("{what}, {on}");
            let mut story = told(manner.clone());
            story.server.fault(on, fault.clone());
            let answer = story.world.back_to(ReleaseId(1));
            assert_eq!(answer.is_ok(), *done, "{at}: {answer:?}");
            if !done {
                let resumed = story.world.resume(None);
                let nothing = matches!(resumed, Err(OperateError::NothingToResume));
                assert!(nothing, "{at}: it was taken back: {resumed:?}");
            }
            let live = story.consistent(&at);
            assert_eq!(live == ReleaseId(3), *done, "{at}");
            // Nothing stands in the way of going on.
            let to = if *done { ReleaseId(2) } else { ReleaseId(1) };
            story.world.back_to(to).unwrap();
        }
    }
}

/// The answer is lost, and so is every answer to what asks what became of it.
#[test]
fn a_catalog_that_stays_away_leaves_it_in_doubt() {
    let mut story = told(Manner::default());
    story.server.fault(COMMIT, Fault::DoesAndLost);
    // Each look is repeated; all of them fail.
    for _ in 0..200 {
        story
            .server
            .fault("/namespaces/s/tables/", Fault::Says(400, "{}"));
    }
    // Two looks at the guard come before it.
    let asked = story.server.state().asked.len();
    let plan = story.world.session(|s| {
        s.plan(&Ask::Rollback {
            to: Some(ReleaseId(1)),
            select: None,
        })
    });
    assert!(
        plan.is_err(),
        "a catalog that does not answer is no empty one"
    );
    assert!(story.server.state().asked.len() > asked);
    story.server.state().faults.clear();
    story.consistent("after the catalog came back");
}

/// A commit that is repeated under its key happens once, and is not looked into.
#[test]
fn a_catalog_that_keeps_keys_is_asked_again() {
    let mut story = told(Manner {
        keys: true,
        ..Manner::default()
    });
    story.server.fault(COMMIT, Fault::DoesAndLost);
    let before = story.server.state().asked.len();
    story.world.back_to(ReleaseId(1)).unwrap();
    let asked = story.server.state().asked[before..].to_vec();
    let commits = asked.iter().filter(|(line, _)| line.starts_with(COMMIT));
    assert_eq!(commits.count(), 2);
    assert_eq!(story.consistent("under its key"), ReleaseId(3));
}

/// Two tables, one request, and every table must be the very one at the very snapshot.
#[test]
fn tables_go_back_in_one_request_that_says_what_it_expects() {
    let mut story = told(Manner::default());
    let ids = [id(&name("customers")), id(&name("orders"))];
    let was = ids.clone().map(|id| table(&story.server, &id));
    let before = story.server.state().asked.len();
    story.world.back_to(ReleaseId(1)).unwrap();
    let asked = story.server.state().asked[before..].to_vec();
    let changes: Vec<_> = asked
        .iter()
        .filter(|(line, _)| !line.starts_with("GET"))
        .collect();
    let [(line, body)] = changes[..] else {
        panic!("one request: {changes:?}");
    };
    assert!(line.starts_with(COMMIT), "{line}");
    let commits = body["table-changes"].as_array().unwrap();
    assert_eq!(commits.len(), 2);
    for ((commit, id), was) in commits.iter().zip(ids).zip(was) {
        let main = &was["refs"]["main"]["snapshot-id"];
        let required = commit["requirements"].as_array().unwrap();
        let wanted = [
            json!({"type": "assert-table-uuid", "uuid": was["table-uuid"]}),
            json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": main}),
        ];
        assert!(wanted.iter().all(|w| required.contains(w)), "{required:?}");
        let now = table(&story.server, &id);
        assert_eq!(&now["refs"]["unship_r2"]["snapshot-id"], main);
        assert_eq!(now["refs"]["unship_r2"]["max-ref-age-ms"], i64::MAX);
    }
}

/// Somebody commits between the plan and the commit: nothing of theirs is lost, and nothing is moved
/// until a person has seen it.
#[test]
fn a_commit_in_between_is_never_overwritten() {
    let mut story = told(Manner::default());
    let orders = id(&name("orders"));
    story
        .server
        .fault(COMMIT, Fault::OthersFirst(orders.clone()));
    let refused = story.world.back_to(ReleaseId(1)).unwrap_err();
    assert!(
        matches!(refused, OperateError::TakenBack { conflict: true, .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("requirement failed"),
        "{refused}"
    );
    let theirs = table(&story.server, &orders)["refs"]["main"]["snapshot-id"].clone();
    assert_eq!(story.world.production(), story.r2, "the rows are the same");
    let refused = story.world.back_to(ReleaseId(1)).unwrap_err();
    assert!(
        matches!(refused, OperateError::OthersWrote(_)),
        "{refused:?}"
    );
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = story.world.session(|s| s.plan(&ask)).unwrap();
    assert!(
        plan.notes
            .iter()
            .any(|n| n.contains("lake.s.orders has 2 commits") && n.contains("by tests")),
        "{:?}",
        plan.notes
    );
    story.world.session(|s| s.apply(plan, true)).unwrap();
    assert_eq!(story.world.production(), story.r1);
    let now = table(&story.server, &orders);
    assert_eq!(
        now["refs"]["unship_r2"]["snapshot-id"], theirs,
        "it is set aside"
    );
}

#[test]
fn an_overloaded_catalog_is_waited_for() {
    let mut story = told(Manner::default());
    for status in [429, 503] {
        story
            .server
            .fault("GET /api/v1/namespaces?", Fault::Says(status, ""));
        story.server.fault(COMMIT, Fault::Says(status, ""));
    }
    story.world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(story.consistent("after waiting"), ReleaseId(3));
}

#[test]
fn answers_that_make_no_sense_change_nothing() {
    for (on, says) in [
        (
            "GET /api/v1/config",
            Fault::Says(200, "<html>welcome</html>"),
        ),
        (
            "GET /api/v1/config",
            Fault::Says(404, "<html>not found</html>"),
        ),
        (
            "GET /api/v1/namespaces?",
            Fault::Says(200, "{\"namespaces\": 7}"),
        ),
        ("/tables/orders", Fault::Says(200, "{\"metadata\": {}}")),
        ("/tables/orders", Fault::Says(302, "")),
    ] {
        let mut story = told(Manner::default());
        story.server.fault(on, says.clone());
        let failed = story.world.back_to(ReleaseId(1)).unwrap_err();
        let text = failed.to_string();
        assert!(
            text.contains("the answer is not what an Iceberg REST catalog says"),
            "{on} {says:?}: {text}"
        );
        assert_eq!(story.consistent(on), ReleaseId(2));
        story.world.back_to(ReleaseId(1)).unwrap();
    }
}

#[test]
fn an_expired_snapshot_is_refused_by_name() {
    let mut story = told(Manner::default());
    let orders = id(&name("orders"));
    story.server.state().catalog.edit(&orders, |m| {
        let main = m["refs"]["main"].clone();
        let current = main["snapshot-id"].clone();
        m["refs"] = json!({"main": main});
        let all = m["snapshots"].as_array_mut().unwrap();
        all.retain(|s| s["snapshot-id"] == current);
    });
    let refused = story.world.back_to(ReleaseId(1)).unwrap_err().to_string();
    assert!(
        refused.contains("lake.s.orders cannot go back"),
        "{refused}"
    );
    assert_eq!(story.consistent("expired"), ReleaseId(2));
    let found = story
        .world
        .session(|s| s.engine.fsck(&|_, _, _| {}))
        .unwrap();
    assert!(
        found
            .iter()
            .any(|d| d.level == Level::Error && d.finding.contains("tag"))
    );
    let rest = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: Some(("customers".to_owned(), BTreeSet::from([name("customers")]))),
    };
    story.world.back(&rest, false).unwrap();
}

#[test]
fn what_a_catalog_cannot_do_is_said_before_anything_is_done() {
    let lake = Lake::new(
        Manner {
            lacks: vec!["tables/rename"],
            ..Manner::default()
        },
        Jobs::InPlace,
    );
    let mut world = World::new(Box::new(lake)).unwrap();
    world.run(&Script::good([value("orders", 1)])).unwrap();
    let made = Script::good([value("orders", 2), value("more", 2)]);
    world.run(&made).unwrap();
    let r2 = world.production();
    let refused = world.back_to(ReleaseId(1)).unwrap_err().to_string();
    assert!(
        refused.contains("cannot rename tables, which lake.s.more needs"),
        "{refused}"
    );
    assert_eq!(world.production(), r2);
    let doctor = world.session(|s| s.engine.doctor());
    let warned = doctor
        .iter()
        .any(|d| d.level == Level::Warning && d.finding.contains("rename"));
    assert!(warned, "{doctor:?}");
}

/// Everything that a commit can bring back goes back and forth: partition spec, sort order and
/// properties too, also where the old schema was removed since.
#[test]
fn everything_that_belongs_to_a_table_goes_back_and_forth() {
    let mut story = told(Manner::default());
    let orders = id(&name("orders"));
    let change = |m: &mut Value| {
        m["partition-specs"] = json!([
            {"spec-id": 0, "fields": []},
            {"spec-id": 1, "fields": [
                {"source-id": 1, "field-id": 1000, "name": "by", "transform": "identity"}]},
        ]);
        m["default-spec-id"] = 1.into();
        m["sort-orders"] = json!([
            {"order-id": 0, "fields": []},
            {"order-id": 1, "fields": [{"source-id": 1, "transform": "identity",
                "direction": "asc", "null-order": "nulls-first"}]},
        ]);
        m["default-sort-order-id"] = 1.into();
        m["properties"] = json!({"write.format.default": "orc", "new": "1"});
        m["schemas"] = json!([{"type": "struct", "schema-id": 5, "fields": [
            {"id": 1, "name": "id", "type": "long", "required": true}]}]);
        m["current-schema-id"] = 5.into();
    };
    let before = table(&story.server, &orders);
    story.server.state().catalog.edit(&orders, change);
    let after = table(&story.server, &orders);

    let meaning = |m: &Value| {
        let one = |list: &str, key: &str, number: &Value| {
            let mut one = m[list]
                .as_array()
                .unwrap()
                .iter()
                .find(|x| x[key] == *number)
                .unwrap()
                .clone();
            one.as_object_mut().unwrap().remove(key);
            one
        };
        let mut properties = m["properties"].clone();
        properties.as_object_mut().unwrap().remove("unship.release");
        (
            one("schemas", "schema-id", &m["current-schema-id"]),
            one("partition-specs", "spec-id", &m["default-spec-id"]),
            one("sort-orders", "order-id", &m["default-sort-order-id"]),
            properties,
        )
    };
    assert_ne!(meaning(&before), meaning(&after));
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    story.world.back(&ask, true).unwrap();
    assert_eq!(meaning(&table(&story.server, &orders)), meaning(&before));
    story.world.back(&Ask::Undo, false).unwrap();
    assert_eq!(meaning(&table(&story.server, &orders)), meaning(&after));
}

/// Compaction changes no row, however often: it is nobody's drift, and what is brought back is what
/// was there.
#[test]
fn compaction_is_no_change() {
    let mut story = told(Manner::default());
    let orders = id(&name("orders"));
    let now = read(&table(&story.server, &orders), None);
    for _ in 0..3 {
        story.server.state().catalog.write(&orders, "replace", &now);
    }
    let live = story.world.session(|s| {
        s.see_drift().unwrap();
        s.live().unwrap()
    });
    let map = story.world.ledger.history(|h| h.map(live.release)).unwrap();
    assert_eq!(map.unwrap()[&name("orders")].id.drift, 0);
    story.world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(story.world.production(), story.r1);
    story.world.back_to(ReleaseId(2)).unwrap();
    assert_eq!(story.world.production(), story.r2);
}

/// Housekeeping removes the tags of restore points that nobody keeps, and no other branch or tag.
#[test]
fn housekeeping_removes_only_tags_of_its_own() {
    let mut story = told(Manner::default());
    let orders = id(&name("orders"));
    story.server.state().catalog.edit(&orders, |m| {
        let main = m["refs"]["main"]["snapshot-id"].clone();
        for (theirs, kind) in [("audit", "branch"), ("eoy", "tag"), ("unship_r77", "tag")] {
            m["refs"][theirs] = json!({"snapshot-id": main, "type": kind});
        }
    });
    story
        .world
        .run(&Script::good([value("orders", 3)]))
        .unwrap();
    let refs = |server: &Server| {
        let refs = table(server, &orders)["refs"].as_object().unwrap().clone();
        refs.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let all = [
        "audit",
        "eoy",
        "main",
        "unship_r1",
        "unship_r2",
        "unship_r77",
    ];
    assert_eq!(refs(&story.server), all);
    let keep = Retention {
        keep: BTreeSet::from([ReleaseId(2)]),
        plain: BTreeSet::new(),
    };
    let done = story
        .world
        .session(|s| s.engine.housekeep(&keep, &|_, _, _| {}))
        .unwrap();
    assert_eq!(done.dropped, [ReleaseId(0), ReleaseId(1)]);
    let left = ["audit", "eoy", "main", "unship_r2", "unship_r77"];
    assert_eq!(refs(&story.server), left);
    let points = story.world.session(|s| s.engine.points()).unwrap();
    assert_eq!(points.len(), 1);
    let at = Place::Point(ReleaseId(2));
    let shown = story
        .world
        .session(|s| s.engine.address(at, &name("orders")))
        .unwrap();
    assert_eq!(shown, "s.orders VERSION AS OF 'unship_r2'");
}

/// What others wrote is counted by what their snapshots say. To keep it takes an engine that writes:
/// which statement does, is said.
#[test]
fn what_others_added_is_counted_and_the_way_to_keep_it_is_told() {
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    for (operation, says) in [
        ("append", "CALL system.cherrypick_snapshot('s.orders', 7"),
        ("delete", "they did not only add rows (delete)"),
    ] {
        let mut story = told(Manner::default());
        let orders = id(&name("orders"));
        let theirs = Table::new(&["id", "value"], [vec![1, 2], vec![9, 9]]);
        let write = |operation| {
            let catalog = &mut story.server.state().catalog;
            catalog.write(&orders, operation, &theirs);
        };
        write(operation);
        write("replace");
        let plan = story.world.session(|s| s.plan(&ask)).unwrap();
        let told = &plan.impact.set_aside[&name("orders")];
        assert!(told.contains("1 row added (by tests)"), "{told}");
        let asked = story
            .world
            .session(|s| s.plan_with(&ask, Others::Keep))
            .unwrap_err();
        assert!(matches!(asked, OperateError::CannotKeep(_)), "{asked:?}");
        assert!(asked.to_string().contains(says), "{asked}");
        let names_sql = asked.to_string().contains("`sql = [");
        assert_eq!(names_sql, operation == "append", "{asked}");
    }
}
