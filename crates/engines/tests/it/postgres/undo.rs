//! The undo log against copies: whatever happens to a table, it can go back to each moment that a
//! copy was taken of, and is then that copy, or the log says why not.

use super::{Database, server};
use postgres::{Client, IsolationLevel};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeSet;
use unship_core::engine::EngineError;
use unship_core::ident::ReleaseId;
use unship_engines::postgres::swap::Name;
use unship_engines::postgres::undo::{self, Known, Position, Scope, Target};

mod histories;

/// A table with an undo log.
struct Logged {
    database: Database,
    name: Name,
    releases: u64,
}

/// What a table held at a moment.
#[derive(Debug, Clone)]
struct Copy {
    position: Position,
    rows: Vec<String>,
}

impl Logged {
    fn new(server: &str, name: &str, make: &str) -> Self {
        let database = Database::new(server);
        database.client().batch_execute(make).unwrap();
        let logged = Self {
            database,
            name: Name::new("s", name),
            releases: 0,
        };
        logged.ensure();
        logged
    }

    fn ensure(&self) -> Vec<String> {
        let wanted = BTreeSet::from([(self.name.schema.clone(), self.name.name.clone())]);
        undo::ensure(&mut self.database.client(), &wanted).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.database.client().batch_execute(sql).unwrap();
    }

    fn known(&self) -> Known {
        let wanted = BTreeSet::from([self.name.clone()]);
        let mut known = undo::known(&mut self.database.client(), &wanted).unwrap();
        known.pop().unwrap()
    }

    /// Rows and position of one moment.
    fn copy(&self) -> Copy {
        self.try_copy().unwrap()
    }

    /// None while somebody keeps all others out.
    fn try_copy(&self) -> Option<Copy> {
        let mut client = self.database.client();
        client.batch_execute("SET lock_timeout = '50ms'").unwrap();
        let mut transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .unwrap();
        let rows = rows(&mut transaction, &self.name)?;
        let positions = undo::positions(&mut transaction).unwrap();
        let position = positions.into_values().next().unwrap();
        Some(Copy { position, rows })
    }

    fn back(&mut self, to: &Position, scope: Scope) -> Result<String, EngineError> {
        self.releases += 1;
        let known = self.known();
        let release = ReleaseId(self.releases);
        let stands = match scope.is_all() {
            true => to.at.clone(),
            false => format!("@{release}"),
        };
        let target = Target {
            table: &known,
            moment: known.moment(to).unwrap(),
            scope,
            stands: stands.clone(),
            take_all: true,
        };
        let statements = undo::statements(&[target], release);
        undo::run(&mut self.database.client(), &statements, &[], &|_, _, _| {})?;
        Ok(stands)
    }

    /// Goes back, and must be what it was.
    fn is_again(&mut self, copy: &Copy) {
        self.back(&copy.position, Scope::default()).unwrap();
        let now = self.copy();
        assert_eq!(now.rows, copy.rows);
        assert_eq!(now.position, copy.position);
    }
}

fn rows(client: &mut impl postgres::GenericClient, name: &Name) -> Option<Vec<String>> {
    let sql = format!(
        "SELECT t::text FROM {}.{} t ORDER BY t::text COLLATE \"C\"",
        name.schema, name.name
    );
    let rows = client.query(&sql, &[]).ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}

#[test]
fn a_table_goes_back_and_forth() {
    let Some(server) = server() else { return };
    let make = "CREATE TABLE s.orders (id int PRIMARY KEY, what text, n numeric);
                INSERT INTO s.orders VALUES (1, 'a', 1.0), (2, 'b', NULL)";
    let mut logged = Logged::new(&server, "orders", make);
    let first = logged.copy();
    logged.execute(
        "UPDATE s.orders SET n = 1.00 WHERE id = 1; INSERT INTO s.orders VALUES (3, NULL, 3)",
    );
    let second = logged.copy();
    logged.execute("TRUNCATE s.orders; INSERT INTO s.orders VALUES (2, 'other', 1)");
    let third = logged.copy();
    assert!(first.rows != second.rows && second.rows != third.rows);
    for copy in [&first, &third, &second, &first, &third] {
        logged.is_again(copy);
    }
}
