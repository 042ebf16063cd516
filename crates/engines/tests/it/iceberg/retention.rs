//! What goes when nobody keeps it any more, and what stays.

use super::catalog::Id;
use super::server::{Manner, Server};
use super::suite::{Jobs, Lake, name};
use std::collections::BTreeSet;
use unship_core::engine::{Housekeeping, Retention};
use unship_core::ident::ReleaseId;
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Table, Write};

/// `R2` made a table, which `R3`, a rollback to `R1`, set aside.
fn told() -> (World, Server) {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    let value = |of: &str, n| Write::Replace(name(of), Table::new(&["id", "value"], [vec![1, n]]));
    world.run(&Script::good([value("orders", 1)])).unwrap();
    let more = Script::good([value("orders", 2), value("more", 2)]);
    world.run(&more).unwrap();
    world.back_to(ReleaseId(1)).unwrap();
    (world, server)
}

fn aside(of: &str) -> Id {
    (vec!["unship_r2_s".to_owned()], of.to_owned())
}

fn there(server: &Server, id: &Id) -> bool {
    server.state().catalog.tables.contains_key(id)
}

fn keeping(world: &mut World, releases: &[u64]) -> Housekeeping {
    let keep = Retention {
        keep: releases.iter().map(|n| ReleaseId(*n)).collect(),
        plain: BTreeSet::new(),
    };
    let done = world.session(|s| s.engine.housekeep(&keep, &|_, _, _| {}));
    done.unwrap()
}

#[test]
fn a_table_set_aside_goes_with_its_release_and_its_files_stay() {
    let (mut world, server) = told();
    let more = aside("more");
    assert!(there(&server, &more));
    let file = server.state().catalog.tables[&more].clone();
    keeping(&mut world, &[2]);
    assert!(there(&server, &more), "it is still kept");
    assert_eq!(keeping(&mut world, &[]).dropped, [ReleaseId(2)]);
    let state = server.state();
    assert!(!state.catalog.tables.contains_key(&more));
    assert!(!state.catalog.namespaces.contains(&more.0));
    assert!(state.catalog.files.contains_key(&file), "nothing is purged");
    let dropped: Vec<_> = state
        .asked
        .iter()
        .filter(|(line, _)| line.starts_with("DELETE") && line.contains("/tables/"))
        .map(|(line, _)| line.as_str())
        .collect();
    let one = "DELETE /api/v1/namespaces/unship_r2_s/tables/more?purgeRequested=false";
    assert_eq!(dropped, [one]);
}

#[test]
fn what_came_back_and_what_is_others_stays() {
    let (mut world, server) = told();
    let row = Table::new(&["id"], [vec![7]]);
    let theirs = aside("theirs");
    server.state().catalog.replace(&theirs, &row);
    // The table is live again, and what lies where it was is somebody else's.
    world.back_to(ReleaseId(2)).unwrap();
    let more = aside("more");
    assert!(!there(&server, &more));
    server.state().catalog.replace(&more, &row);
    let live = world.production();
    keeping(&mut world, &[]);
    assert!(there(&server, &theirs) && there(&server, &more));
    assert!(server.state().catalog.namespaces.contains(&theirs.0));
    assert_eq!(world.production(), live);
}
