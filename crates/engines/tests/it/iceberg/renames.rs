//! Tables that a job gave other names: they get theirs back, and are never in the catalog twice.

use super::catalog::Catalog;
use super::server::{Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use std::collections::BTreeSet;
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, JobResult, OperateError, Resumed, RunRequest, Session};
use unship_core::release::{Job, JobEnd};
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::world::World;
use unship_core::testing::{Contents, Table};

fn run(world: &mut World, server: &Server, job: impl FnOnce(&mut Catalog)) -> Contents {
    let World {
        harness, ledger, ..
    } = world;
    let request = RunRequest {
        job: Job {
            command: vec!["rename".to_owned()],
            program: None,
            directory: "/project".to_owned(),
            pipeline: None,
        },
        code: None,
        aside: false,
        replays: None,
        checks: None,
    };
    let mut session = Session {
        engine: &mut *harness.engine(),
        ledger,
        watch: &(),
    };
    let ran = session.run(request, |_, _| {
        job(&mut server.state().catalog);
        Ok(JobResult {
            end: JobEnd {
                exit_code: Some(0),
                signal: None,
                milliseconds: 1,
                log: None,
                artefacts: std::collections::BTreeMap::new(),
                packages: std::collections::BTreeMap::new(),
                failures: Vec::new(),
            },
            built: BTreeSet::new(),
            findings: Vec::new(),
            good: true,
        })
    });
    ran.unwrap();
    world.production()
}

fn rows(n: i64) -> Table {
    Table::new(&["id", "value"], [vec![1, n]])
}

fn rename(catalog: &mut Catalog, from: &str, to: &str) {
    catalog.rename(&id(&name(from)), &id(&name(to))).unwrap();
}

struct Story {
    world: World,
    server: Server,
    r1: Contents,
    r2: Contents,
}

/// `old` gets another name and another row, `left` and `right` each the other's name, and `left` is
/// written to besides.
fn told() -> Story {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    let r1 = run(&mut world, &server, |catalog| {
        for (n, of) in ["old", "left", "right"].into_iter().enumerate() {
            catalog.replace(&id(&name(of)), &rows(i64::try_from(n).unwrap()));
        }
    });
    let r2 = run(&mut world, &server, |catalog| {
        rename(catalog, "old", "new");
        catalog.write(&id(&name("new")), "overwrite", &rows(7));
        rename(catalog, "left", "between");
        rename(catalog, "right", "left");
        rename(catalog, "between", "right");
        catalog.write(&id(&name("left")), "append", &rows(8));
    });
    assert_ne!(r1, r2);
    Story {
        world,
        server,
        r1,
        r2,
    }
}

/// No table is in the catalog under two names: who expired the snapshots of one, would delete the
/// files of the other.
fn once_each(server: &Server) {
    let state = server.state();
    let catalog = &state.catalog;
    let uuids: Vec<_> = catalog
        .tables
        .keys()
        .map(|id| catalog.table(id).unwrap()["table-uuid"].to_string())
        .collect();
    let unique: BTreeSet<_> = uuids.iter().collect();
    assert_eq!(unique.len(), uuids.len(), "{:?}", catalog.tables);
}

#[test]
fn a_table_gets_its_name_back() {
    let mut story = told();
    let world = &mut story.world;
    world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(world.production(), story.r1);
    once_each(&story.server);
    for (ask, expected) in [
        (Ask::Undo, &story.r2),
        (Ask::Redo, &story.r1),
        (Ask::Undo, &story.r2),
    ] {
        world.back(&ask, false).unwrap();
        assert_eq!(&world.production(), expected, "{ask:?}");
        once_each(&story.server);
        let live = world.live().unwrap().release;
        world.session(|s| s.verify(live)).unwrap();
    }
}

#[test]
fn a_crash_leaves_every_table_with_one_name() {
    for side in [Side::Before, Side::After] {
        for n in 1.. {
            let mut story = told();
            let world = &mut story.world;
            let back = |w: &mut World| w.back_to(ReleaseId(1)).map(drop);
            let (answer, blown) = world.broken(n, side, Fault::Crash, back);
            let Some(boundary) = blown else {
                answer.unwrap();
                break;
            };
            let at = format!("crash {side:?} {boundary}");
            let resumed = world.resume(None);
            let expected = match (&resumed, world.live().unwrap().release) {
                (_, ReleaseId(2)) => &story.r2,
                (Ok(Resumed::Finished(_)) | Err(OperateError::NothingToResume), _) => &story.r1,
                (other, _) => panic!("{at}: {other:?}"),
            };
            assert_eq!(&world.production(), expected, "{at}: {resumed:?}");
            once_each(&story.server);
        }
    }
}
