//! Tables that a job dropped, and that come back from their metadata.

use super::server::{Fault, Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use serde_json::Value;
use unship_core::engine::{Diagnosis, Level};
use unship_core::ident::ReleaseId;
use unship_core::operate::OperateError;
use unship_core::testing::faulty::{Fault as Break, Side};
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Contents, Table, Write};

/// A commit to one table: here only tags are made by one.
const TAGS: &str = "POST /api/v1/namespaces/s/tables/orders";

/// `R1` and `R2` of two tables; `R3` dropped one of them.
struct Story {
    world: World,
    server: Server,
    r2: Contents,
    r3: Contents,
}

fn value(of: &str, value: i64) -> Write {
    Write::Replace(name(of), Table::new(&["id", "value"], [vec![1, value]]))
}

fn told() -> Story {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    let mut run = |writes: Vec<Write>| {
        world.run(&Script::good(writes)).unwrap();
        world.production()
    };
    run(vec![value("orders", 1), value("customers", 1)]);
    let r2 = run(vec![value("orders", 2), value("customers", 2)]);
    let r3 = run(vec![Write::Drop(name("orders"))]);
    Story {
        world,
        server,
        r2,
        r3,
    }
}

impl Story {
    fn faults(&mut self) -> Vec<Diagnosis> {
        let all = self.world.session(|s| s.engine.fsck(&|_, _, _| {}));
        let all = all.unwrap().into_iter();
        all.filter(|d| d.level > Level::Ok).collect()
    }

    fn orders(&self) -> Value {
        let state = self.server.state();
        state.catalog.table(&id(&name("orders"))).unwrap().clone()
    }
}

/// It has the tags that restore points count on, so that the way back to them stays open.
#[test]
fn a_table_that_was_dropped_comes_back_with_its_tags() {
    let mut story = told();
    story.world.back_to(ReleaseId(2)).unwrap();
    assert_eq!(story.world.production(), story.r2);
    let refs = &story.orders()["refs"];
    assert_eq!(
        refs["unship_r2"]["snapshot-id"], refs["main"]["snapshot-id"],
        "{refs}"
    );
    assert_eq!(story.faults(), []);
    story
        .world
        .run(&Script::good([value("orders", 5)]))
        .unwrap();
    story.world.back_to(ReleaseId(2)).unwrap();
    assert_eq!(story.world.production(), story.r2);
}

/// The name is there before the tags are. Wherever unship dies, and whatever becomes of the request
/// that makes them, no restore point is left without the tag that it counts on.
#[test]
fn a_crash_before_the_tags_leaves_no_restore_point_without_them() {
    for n in 1.. {
        let mut story = told();
        let back = |world: &mut World| world.back_to(ReleaseId(2));
        let (_, blown) = story.world.broken(n, Side::Before, Break::Crash, back);
        let Some(at) = blown else { return };
        match story.world.resume(None) {
            Ok(_) | Err(OperateError::NothingToResume) => {}
            Err(error) => panic!("{at}: {error}"),
        }
        if story.world.live().unwrap().release == ReleaseId(4) {
            assert_eq!(story.world.production(), story.r2, "{at}");
        } else {
            assert_eq!(story.world.production(), story.r3, "{at}");
        }
        assert_eq!(story.faults(), [], "{at}");
    }
}

#[test]
fn tags_that_cannot_be_made_are_no_success() {
    let no = "{\"error\": {\"message\": \"no more tags\", \"type\": \"BadRequest\"}}";
    for (fault, done) in [
        (Fault::Says(400, no), false),
        (Fault::Lost, true),
        (Fault::DoesAndLost, true),
    ] {
        let mut story = told();
        story.server.fault(TAGS, fault.clone());
        let back = story.world.back_to(ReleaseId(2));
        assert_eq!(back.is_ok(), done, "{fault:?}: {back:?}");
        let expected = if done { &story.r2 } else { &story.r3 };
        assert_eq!(&story.world.production(), expected, "{fault:?}");
        assert_eq!(story.faults(), [], "{fault:?}");
    }
}

/// A table whose files are gone gets its name again and could not be read: that is no way back.
#[test]
fn a_table_whose_files_are_gone_does_not_come_back() {
    let mut story = told();
    {
        let catalog = &mut story.server.state().catalog;
        for metadata in catalog.files.values_mut() {
            for snapshot in metadata["snapshots"].as_array_mut().unwrap() {
                snapshot["manifest-list"] = "file:///nowhere/at/all.avro".into();
            }
        }
    }
    let refused = story.world.back_to(ReleaseId(2)).unwrap_err();
    assert!(
        matches!(refused, OperateError::TakenBack { .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("s.orders lost the files"),
        "{refused}"
    );
    assert_eq!(story.world.production(), story.r3);
}
