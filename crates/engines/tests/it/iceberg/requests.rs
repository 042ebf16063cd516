//! How often a catalog is asked: each operation looks at each table once before it changes anything
//! and once at what it changed, and changes all tables at once.

use super::server::{Manner, Server};
use super::suite::{Jobs, Lake, name};
use std::collections::BTreeMap;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Table, Write};

/// What was asked for, by sort.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// Looks at one table.
    looks: usize,
    /// Commits.
    commits: usize,
    /// Everything else: the configuration, and names.
    others: usize,
}

fn asked<T>(server: &Server, work: impl FnOnce() -> T) -> (Asked, T) {
    server.state().asked.clear();
    let done = work();
    let state = server.state();
    let count = |is: &dyn Fn(&str) -> bool| state.asked.iter().filter(|(l, _)| is(l)).count();
    let looks = count(&|line| line.starts_with("GET ") && line.contains("/tables/"));
    let commits = count(&|line| line.starts_with("POST "));
    let asked = Asked {
        looks,
        commits,
        others: state.asked.len() - looks - commits,
    };
    drop(state);
    (asked, done)
}

fn orders(n: usize) -> RelationName {
    name(&format!("orders_{n:04}"))
}

fn build(world: &mut World, tables: usize, value: i64) {
    let table = Table::new(&["id", "value"], [vec![1, value]]);
    let writes = (0..tables).map(|n| Write::Replace(orders(n), table.clone()));
    world.run(&Script::good(writes)).unwrap();
}

fn told(manner: Manner, tables: usize) -> (World, Server) {
    let lake = Lake::new(manner, Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    build(&mut world, tables, 1);
    build(&mut world, tables, 2);
    (world, server)
}

#[test]
fn each_table_is_looked_at_once_before_and_once_after() {
    for tables in [1, 10, 100] {
        let (mut world, server) = told(Manner::default(), tables);
        let before = world.production();
        let (rollback, _) = asked(&server, || world.back_to(ReleaseId(1)).unwrap());
        let expected = Asked {
            looks: 2 * tables,
            commits: 1,
            // The configuration, and once which namespaces, tables and views there are.
            others: 5,
        };
        assert_eq!(rollback, expected, "back, {tables} tables");
        let (undo, _) = asked(&server, || world.back_to(ReleaseId(2)).unwrap());
        assert_eq!(undo, expected, "forth, {tables} tables");
        assert_eq!(world.production(), before);
        // Every table has a tag already.
        let (again, ()) = asked(&server, || build(&mut world, tables, 3));
        let expected = Asked {
            looks: 2 * tables,
            commits: 0,
            others: 9,
        };
        assert_eq!(again, expected, "a run, {tables} tables");
        let (fresh, ()) = asked(&server, || build(&mut world, tables, 4));
        let expected = Asked {
            looks: 3 * tables,
            commits: 1,
            others: 9,
        };
        assert_eq!(fresh, expected, "a run with tags, {tables} tables");
    }
}

#[test]
fn one_by_one_takes_a_commit_more_for_each_table() {
    let alone = Manner {
        lacks: vec!["transactions/commit"],
        ..Manner::default()
    };
    for tables in [1, 10] {
        let (mut world, server) = told(alone.clone(), tables);
        let (rollback, _) = asked(&server, || world.back_to(ReleaseId(1)).unwrap());
        let expected = Asked {
            looks: 2 * tables,
            commits: tables,
            others: 5,
        };
        assert_eq!(rollback, expected, "{tables} tables");
    }
}

/// What one table's history says is asked for once more, and only of that table.
#[test]
fn history_is_asked_for_only_where_references_do_not_tell_it() {
    let tables = 10;
    let (mut world, server) = told(Manner::default(), tables);
    let two = Table::new(&["id", "value"], [vec![1, 3]]);
    let twice = [0, 0].map(|n| Write::Replace(orders(n), two.clone()));
    world.run(&Script::good(twice)).unwrap();
    let (rollback, _) = asked(&server, || world.back_to(ReleaseId(1)).unwrap());
    assert_eq!(rollback.looks, 2 * tables + 1);
    let whole: BTreeMap<_, _> = server
        .state()
        .asked
        .iter()
        .filter(|(line, _)| line.starts_with("GET ") && line.contains("/tables/orders"))
        .filter(|(line, _)| !line.contains("snapshots=refs"))
        .cloned()
        .collect();
    let lines: Vec<_> = whole.keys().map(String::as_str).collect();
    assert_eq!(lines, ["GET /api/v1/namespaces/s/tables/orders_0000"]);
}

/// A thousand tables are one commit, and as many looks as there are tables before and after it.
#[test]
#[ignore = "takes seconds"]
fn a_thousand_tables_go_back_in_one_commit() {
    let tables = 1000;
    let (mut world, server) = told(Manner::default(), tables);
    let (rollback, _) = asked(&server, || world.back_to(ReleaseId(1)).unwrap());
    assert_eq!(rollback.commits, 1);
    // On a machine that takes long a look may be too old to be gone by.
    let looks = rollback.looks / tables;
    assert!((2..=4).contains(&looks), "{rollback:?}");
}
