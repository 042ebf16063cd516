//! Rows that change places: what is refused, and what an engine that fails leaves. That the rows are
//! the right ones is shown by Spark, in the slow tests of `unship` itself.

use super::server::{Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use serde_json::Value;
use std::collections::BTreeSet;
use unship_core::ident::ReleaseId;
use unship_core::operate::Ask;
use unship_core::rows::{Reconciling, Rows};
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Contents, Table, Write};
use unship_engines::iceberg::Sql;

/// Two releases of a table, in a lake whose rows are exchanged by a shell's script.
struct Story {
    world: World,
    server: Server,
    r2: Contents,
}

fn told(script: Option<&str>) -> Story {
    let mut lake = Lake::new(Manner::default(), Jobs::InPlace);
    lake.sql = script.map(|script| Sql {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        directory: lake.home.path().to_owned(),
    });
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    for n in 1..=2 {
        let table = Table::new(&["id", "value"], [vec![1, n]]);
        let write = Write::Replace(name("orders"), table);
        world.run(&Script::good([write])).unwrap();
    }
    let r2 = world.production();
    Story { world, server, r2 }
}

impl Story {
    /// Why rows do not come back. Production is as it was, and no branch is left.
    fn refused(&mut self, rows: Rows) -> String {
        let ask = Ask::Rows {
            to: Some(ReleaseId(1)),
            select: ("orders".to_owned(), BTreeSet::from([name("orders")])),
            reconciling: Reconciling {
                rows,
                at: None,
                reason: None,
            },
        };
        let error = self.world.back(&ask, false).unwrap_err();
        assert_eq!(self.world.production(), self.r2);
        let refs = self.refs();
        assert!(refs.iter().all(|r| !r.contains("rows")), "{refs:?}");
        unship_core::execute::chain(&error)
    }

    fn refs(&self) -> Vec<String> {
        let orders: Value = self
            .server
            .state()
            .catalog
            .table(&id(&name("orders")))
            .unwrap()
            .clone();
        let refs = orders["refs"].as_object().unwrap();
        refs.keys().cloned().collect()
    }
}

fn value(column: &str, value: &str) -> Rows {
    Rows::Value {
        column: column.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn without_an_engine_it_is_said_that_none_is_configured() {
    let said = told(None).refused(value("id", "1"));
    assert!(said.contains("none is configured"), "{said}");
}

#[test]
fn what_cannot_be_meant_safely_is_refused_before_anything_runs() {
    let mut story = told(Some("exit 1"));
    for (rows, why) in [
        (Rows::Where("id = 1".to_owned()), "which rows a predicate"),
        (Rows::Partition("p1".to_owned()), "have no names"),
        (
            value("id", "1'; DROP TABLE x"),
            "cannot be given to Spark safely",
        ),
        (value("id", "a\\b"), "cannot be given to Spark safely"),
        (value("nothing", "1"), "has no column nothing"),
    ] {
        let said = story.refused(rows);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn an_engine_that_fails_leaves_production_and_no_branch() {
    let mut story = told(Some("cat > /dev/null; echo no such table >&2; exit 3"));
    let said = story.refused(value("id", "1"));
    assert!(said.contains("no such table"), "{said}");
    let mut story = told(Some("cat > /dev/null"));
    let said = story.refused(value("id", "1"));
    assert!(said.contains("same"), "nothing was exchanged: {said}");
}

/// What is sent names the branch, quotes every name, and is all that is sent.
#[test]
fn the_statements_write_to_the_branch_alone() {
    let mut story = told(Some("cat > statements; cat statements >&2; exit 1"));
    let said = story.refused(value("id", "1"));
    let table = "`lake`.`s`.`orders`";
    for part in [
        &format!("DELETE FROM {table}.`branch_unship_rows_"),
        &format!("INSERT INTO {table}.`branch_unship_rows_"),
        &format!("SELECT * FROM {table} VERSION AS OF "),
        "WHERE `id` = '1'; / INSERT",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
