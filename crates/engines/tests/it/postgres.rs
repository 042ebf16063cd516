//! PostgreSQL: a database for each story, on the server that `scripts/postgres` starts.

use super::sql;
use postgres::{Client, NoTls};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use unship_core::engine::{Build, Engine, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::testing::conformance::Make;
use unship_core::testing::world::Harness;
use unship_core::testing::{Contents, Table, Write, skipped};
use unship_engines::postgres::Postgres;
use unship_engines::postgres::address::Address;
use unship_engines::postgres::build::Wanted;
use unship_engines::postgres::connect::Connector;
use unship_engines::postgres::layout;

mod cluster;
mod disk_full;
mod kills;
mod login;
mod others;
mod pooled;
mod story;
mod undo;

const SCHEMA: &str = "s";

/// A database that is dropped with this, and a session that knows nothing of unship.
struct Database {
    server: String,
    name: String,
}

impl Database {
    fn new(server: &str) -> Self {
        Self::in_tablespace(server, "pg_default")
    }

    fn in_tablespace(server: &str, tablespace: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = Self {
            server: server.to_owned(),
            name: format!("unship_suite_{}_{number}", std::process::id()),
        };
        made.admin(&format!(
            "CREATE DATABASE {} TABLESPACE {tablespace}",
            made.name
        ));
        made.client().batch_execute("CREATE SCHEMA s").unwrap();
        made
    }

    fn admin(&self, sql: &str) {
        let mut client = Client::connect(&self.server, NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    }

    fn text(&self) -> String {
        // The last setting of a keyword holds.
        format!("{} dbname={}", self.server, self.name)
    }

    fn client(&self) -> Client {
        Client::connect(&self.text(), NoTls).unwrap()
    }

    fn try_client(&self) -> Option<Client> {
        Client::connect(&self.text(), NoTls).ok()
    }

    /// All of it or nothing, as a job's transaction does.
    fn execute(&self, statements: &[String]) -> Result<(), String> {
        let mut client = self.client();
        let sent = client.batch_execute(&statements.join(";\n"));
        sent.map_err(|e| e.to_string())
    }

    /// The name under which a build's job makes it.
    fn staged(name: &RelationName) -> RelationName {
        let schema = layout::build(&name.schema).unwrap();
        RelationName::new(&*name.database, schema, &*name.name)
    }

    fn there(&self, name: &RelationName) -> bool {
        let ask = "SELECT to_regclass($1) IS NOT NULL";
        let row = self.client().query_one(ask, &[&sql::quoted(name)]);
        row.unwrap().get(0)
    }

    fn schemas(&self, like: &str) -> Vec<String> {
        let ask = "SELECT nspname FROM pg_namespace WHERE nspname LIKE $1";
        let rows = self.client().query(ask, &[&like]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn read_schema(&self, schema: &str, into: &mut Contents) {
        let mut client = self.client();
        let ask = "SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace
                   AND relkind IN ('r', 'v', 'm')";
        for row in client.query(ask, &[&schema]).unwrap() {
            let name: String = row.get(0);
            let select = format!("SELECT * FROM \"{schema}\".\"{name}\"");
            let statement = client.prepare(&select).unwrap();
            let columns: Vec<_> = statement.columns().iter().map(|c| c.name()).collect();
            let rows = client.query(&statement, &[]).unwrap();
            let rows = rows
                .iter()
                .map(|row| (0..row.len()).map(|n| row.get::<_, i64>(n)).collect());
            let table = Table::new(&columns, rows);
            into.insert(RelationName::new(&*self.name, SCHEMA, name), table);
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.admin(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

impl Harness for Database {
    fn engine(&self) -> Box<dyn Engine> {
        let schemas = BTreeSet::from([SCHEMA.to_owned()]);
        let wanted = Wanted {
            schemas: schemas.clone(),
            ..Wanted::default()
        };
        let connector = Connector::new(Address::parse(&self.text()).unwrap()).unwrap();
        Box::new(Postgres::new(connector, schemas, wanted))
    }

    fn relation(&self, _database: usize, name: &str) -> RelationName {
        RelationName::new(&*self.name, SCHEMA, name)
    }

    fn job_writes(&self, _build: &Build, write: &Write) -> Result<(), String> {
        let (name, staged) = (write.relation(), Self::staged(write.relation()));
        let staged_write = match write.clone() {
            Write::Replace(_, table) => Write::Replace(staged.clone(), table),
            Write::Insert(_, rows) => Write::Insert(staged.clone(), rows),
            Write::Drop(_) => Write::Drop(staged.clone()),
        };
        let mut statements = Vec::new();
        if matches!(write, Write::Insert(..)) && !self.there(&staged) {
            // It goes on from what there is.
            let (copy, from) = (sql::quoted(&staged), sql::quoted(name));
            statements.push(format!("CREATE TABLE {copy} AS TABLE {from}"));
        }
        statements.extend(sql::statements(&staged_write));
        self.execute(&statements)
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        self.execute(&sql::statements(write))
    }

    fn make_view(
        &self,
        build: Option<&Build>,
        view: &RelationName,
        of: &RelationName,
    ) -> Result<(), String> {
        if build.is_none() {
            return self.execute(&[sql::view(view, of)]);
        }
        // A job reads what it built, and what it did not build from production.
        let of = Some(Self::staged(of))
            .filter(|of| self.there(of))
            .unwrap_or(of.clone());
        self.execute(&[sql::view(&Self::staged(view), &of)])
    }

    fn lose_point(&self, release: ReleaseId) {
        for schema in self.schemas(&format!("unship_r{}_%", release.0)) {
            self.execute(&[format!("DROP SCHEMA \"{schema}\" CASCADE")])
                .unwrap();
        }
    }

    fn read(&self, place: Place) -> Contents {
        let mut contents = Contents::new();
        let schemas = match place {
            Place::Live => vec![SCHEMA.to_owned()],
            Place::Build(_) => vec![layout::build(SCHEMA).unwrap()],
            Place::Point(release) => self.schemas(&format!("unship_r{}_%", release.0)),
        };
        for schema in schemas {
            self.read_schema(&schema, &mut contents);
        }
        contents
    }

    fn whole(&self) -> bool {
        false
    }

    fn without(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "a failed job in place is undone",
                "a job in place is refused: PostgreSQL has no copy of a database that costs nothing",
            ),
            (
                "writers are frozen during a run",
                "nobody is kept out: what others write is found under the lock, or stays",
            ),
        ]
    }
}

/// Where the server is; none, and a word why, where no one started one.
fn server() -> Option<String> {
    let server = std::env::var("UNSHIP_TEST_POSTGRES").ok();
    if server.is_none() {
        skipped("UNSHIP_TEST_POSTGRES names no server; scripts/postgres starts one");
    }
    server
}

/// Ways to make databases, where there is a server.
pub(super) fn database() -> Option<impl Fn() -> Box<dyn Harness>> {
    let server = server()?;
    Some(move || Box::new(Database::new(&server)) as Box<dyn Harness>)
}

/// Plays a case of the suite, where there is a server.
fn play(case: &dyn Fn(Make<'_>)) {
    let Some(server) = server() else { return };
    case(&|| Box::new(Database::new(&server)));
}

unship_core::conformance_tests!(play);
