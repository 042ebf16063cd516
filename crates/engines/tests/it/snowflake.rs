//! Snowflake: a database for each story, on the stand-in that `scripts/snowflake-emulator` starts.
//! What passes here moves the right rows; that Snowflake does the same is not shown.

use super::sql;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use unship_core::engine::{Build, Engine, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::testing::conformance::Make;
use unship_core::testing::world::Harness;
use unship_core::testing::{Contents, Table, Write, skipped};
use unship_core::value::Value;
use unship_engines::snowflake::client::{Client, Credentials, Pace, Secret, Settings, Statement};
use unship_engines::snowflake::{Snowflake, Wanted, layout};

const SCHEMA: &str = "S";

/// A database of its own, and a session that knows nothing of unship.
struct Database {
    server: String,
    name: String,
}

impl Database {
    fn new(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = Self {
            server: server.to_owned(),
            name: format!("SUITE_{}_{number}", std::process::id()),
        };
        made.rows(&format!("CREATE DATABASE IF NOT EXISTS \"{}\"", made.name))
            .unwrap();
        made.rows(&format!("CREATE SCHEMA IF NOT EXISTS \"{}\".\"{SCHEMA}\"", made.name))
            .unwrap();
        made
    }

    fn client(&self) -> Client {
        let settings = Settings {
            account: "stand-in".to_owned(),
            base_url: Some(self.server.clone()),
            user: "SUITE".to_owned(),
            credentials: Credentials::AccessToken(Secret::new("none is looked at")),
            role: None,
            warehouse: None,
            database: self.name.clone(),
            schema: Some(SCHEMA.to_owned()),
        };
        let pace = Pace {
            first: Duration::from_millis(10),
            ..Pace::default()
        };
        Client::new(settings, pace)
    }

    fn rows(&self, statement: &str) -> Result<Vec<Vec<Value>>, String> {
        let client = self.client();
        let rows = client.run(&Statement::new(statement, "suite"));
        rows.map_err(|e| e.to_string())?
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())
    }

    fn execute(&self, statements: &[String]) -> Result<(), String> {
        statements.iter().try_for_each(|s| self.rows(s).map(drop))
    }

    /// The name under which a build's job makes it.
    fn staged(name: &RelationName) -> RelationName {
        let schema = layout::build(&name.schema).unwrap();
        RelationName::new(&*name.database, schema, &*name.name)
    }

    fn there(&self, name: &RelationName) -> bool {
        let read = format!("SELECT * FROM {} LIMIT 0", sql::quoted(name));
        self.rows(&read).is_ok()
    }

    fn schemas(&self, like: impl Fn(&str) -> bool) -> Vec<String> {
        let ask = format!(
            "SELECT SCHEMA_NAME FROM \"{}\".INFORMATION_SCHEMA.SCHEMATA",
            self.name
        );
        let rows = self.rows(&ask).unwrap();
        let names = rows.iter().map(|row| row[0].to_string());
        names.filter(|name| like(name)).collect()
    }

    fn read_schema(&self, schema: &str, into: &mut Contents) {
        let ask = format!(
            "SELECT TABLE_NAME FROM \"{}\".INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = '{schema}'",
            self.name
        );
        for row in self.rows(&ask).unwrap() {
            let name = row[0].to_string();
            if name == layout::MARK {
                continue;
            }
            let client = self.client();
            let select = format!("SELECT * FROM \"{schema}\".\"{name}\"");
            let rows = client.run(&Statement::new(&select, "suite")).unwrap();
            let columns: Vec<String> = rows.columns().iter().map(|c| c.name.clone()).collect();
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let rows = rows.map(|row| {
                let cells = row.unwrap();
                cells
                    .iter()
                    .map(|cell| cell.to_string().parse().unwrap())
                    .collect()
            });
            let table = Table::new(&columns, rows);
            into.insert(RelationName::new(&*self.name, SCHEMA, name), table);
        }
    }

    fn of(release: ReleaseId) -> impl Fn(&str) -> bool {
        move |name| {
            layout::parse_retained(name).is_some_and(|(version, _)| version.release == release)
        }
    }
}

impl Harness for Database {
    fn engine(&self) -> Box<dyn Engine> {
        let schemas = BTreeSet::from([SCHEMA.to_owned()]);
        let wanted = Wanted {
            schemas: schemas.clone(),
            ..Wanted::default()
        };
        Box::new(Snowflake::new(self.client(), schemas, wanted))
    }

    fn relation(&self, _database: usize, name: &str) -> RelationName {
        RelationName::new(&*self.name, SCHEMA, name.to_uppercase())
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
            statements.push(format!("CREATE TABLE {copy} CLONE {from}"));
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
        for schema in self.schemas(Self::of(release)) {
            self.execute(&[format!("DROP SCHEMA \"{schema}\" CASCADE")])
                .unwrap();
        }
    }

    fn read(&self, place: Place) -> Contents {
        let mut contents = Contents::new();
        let schemas = match place {
            Place::Live => vec![SCHEMA.to_owned()],
            Place::Build(_) => vec![layout::build(SCHEMA).unwrap()],
            Place::Point(release) => self.schemas(Self::of(release)),
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
                "a job in place is refused",
            ),
            (
                "writers are frozen during a run",
                "nobody can be kept out: what others write is found before a swap, or stays",
            ),
        ]
    }
}

/// Where the stand-in is; none, and a word why, where no one started one.
fn server() -> Option<String> {
    let server = std::env::var("UNSHIP_TEST_SNOWFLAKE").ok();
    if server.is_none() {
        skipped("UNSHIP_TEST_SNOWFLAKE names no server; scripts/snowflake-emulator starts one");
    }
    server
}

/// Plays a case of the suite, where there is a server.
fn play(case: &dyn Fn(Make<'_>)) {
    let Some(server) = server() else { return };
    case(&|| Box::new(Database::new(&server)));
}

unship_core::conformance_tests!(play);
