//! Snowflake: a schema for each story, on the stand-in that `scripts/snowflake-emulator` starts, or on
//! a real account. What passes on the stand-in moves the right rows; that Snowflake does the same is
//! not shown by it.

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
use unship_engines::snowflake::{Level, Snowflake, Wanted, layout};

/// Where a story is played: the stand-in, which needs no login, or a real account.
#[derive(Clone)]
struct Server {
    account: String,
    url: Option<String>,
    user: String,
    token: String,
    role: Option<String>,
    warehouse: Option<String>,
    database: String,
}

impl Server {
    fn found() -> Option<Self> {
        let get = |name: &str| std::env::var(format!("UNSHIP_TEST_SNOWFLAKE{name}")).ok();
        if let Some(account) = get("_ACCOUNT") {
            let needed = |name: &str| {
                get(name).unwrap_or_else(|| panic!("UNSHIP_TEST_SNOWFLAKE{name} is needed"))
            };
            return Some(Self {
                account,
                url: None,
                user: needed("_USER"),
                token: needed("_TOKEN"),
                role: Some(needed("_ROLE")),
                warehouse: Some(needed("_WAREHOUSE")),
                database: needed("_DATABASE"),
            });
        }
        Some(Self {
            account: "stand-in".to_owned(),
            url: Some(get("")?),
            user: "SUITE".to_owned(),
            token: "none is looked at".to_owned(),
            role: None,
            warehouse: None,
            database: "SUITE".to_owned(),
        })
    }
}

/// Schemas of its own, which go with it and with all that unship made for them.
struct Database {
    server: Server,
    name: String,
    /// Where relations of the first database of a story are, of the second one, and of others; at the
    /// level of tables one for all.
    schemas: [String; 3],
    level: Level,
}

impl Database {
    fn new(server: &Server, level: Level) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = Self {
            server: server.clone(),
            // Stories that are compared with each other have one name for their schemas; an account
            // lends only one database to all.
            name: match server.url {
                Some(_) => format!("{}_{}_{number}", server.database, std::process::id()),
                None => server.database.clone(),
            },
            schemas: ["S", "T", "U"].map(|of| {
                let of = if level == Level::Schema { of } else { "S" };
                match server.url {
                    Some(_) => of.to_owned(),
                    None => format!("{of}{}N{number}", std::process::id()),
                }
            }),
            level,
        };
        if server.url.is_some() {
            made.rows(&format!("CREATE DATABASE IF NOT EXISTS \"{}\"", made.name))
                .unwrap();
        }
        for schema in made.own() {
            made.rows(&format!(
                "CREATE SCHEMA IF NOT EXISTS \"{}\".\"{schema}\"",
                made.name
            ))
            .unwrap();
        }
        made
    }

    /// The schemas of production.
    fn own(&self) -> BTreeSet<String> {
        self.schemas.iter().cloned().collect()
    }

    fn client(&self) -> Client {
        let settings = Settings {
            account: self.server.account.clone(),
            base_url: self.server.url.clone(),
            user: self.server.user.clone(),
            credentials: Credentials::AccessToken(Secret::new(&*self.server.token)),
            role: self.server.role.clone(),
            warehouse: self.server.warehouse.clone(),
            database: self.name.clone(),
            schema: Some(self.schemas[0].clone()),
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

    /// The name under which a build's job makes it: where it builds aside, its schemas begin with
    /// something.
    fn made(build: &Build, name: &RelationName) -> RelationName {
        let schema = match build.env.get("UNSHIP_SCHEMA_PREFIX").map(String::as_str) {
            None | Some("") => name.schema.clone(),
            Some(_) => layout::build(&name.schema).unwrap(),
        };
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

    fn read_schema(&self, of: &str, schema: &str, into: &mut Contents) {
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
            into.insert(RelationName::new(&*self.name, of, name), table);
        }
    }

    /// Whether a schema retains what a release built of this story.
    fn retains(&self, name: &str, release: Option<ReleaseId>) -> bool {
        layout::parse_retained(name).is_some_and(|(version, schema)| {
            self.own().contains(schema) && release.is_none_or(|release| version.release == release)
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let own = self.own();
        let ours = |name: &str| {
            let of = layout::parse_build(name).unwrap_or(name);
            own.contains(of) || self.retains(name, None)
        };
        for schema in self.schemas(ours) {
            let _ = self.rows(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"));
            let _ = self.rows(&format!(
                "DROP VIEW IF EXISTS \"{}\".\"{schema}\"",
                layout::HOME
            ));
        }
    }
}

impl Harness for Database {
    fn engine(&self) -> Box<dyn Engine> {
        let schemas = self.own();
        let wanted = Wanted {
            schemas: schemas.clone(),
            ..Wanted::default()
        };
        Box::new(Snowflake::new(self.client(), schemas, wanted).at_level(self.level))
    }

    fn relation(&self, database: usize, name: &str) -> RelationName {
        // What no release of a story replaces, or not each of them, is beside what all replace.
        let [first, second, others] = &self.schemas;
        let schema = match name {
            "raw" | "report" | "gone" => others,
            _ if database == 0 => first,
            _ => second,
        };
        RelationName::new(&*self.name, &**schema, name.to_uppercase())
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        let (name, staged) = (write.relation(), Self::made(build, write.relation()));
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
        let Some(build) = build else {
            return self.execute(&[quoted_view(view, of)]);
        };
        // A job reads what it built, and what it did not build from production.
        let of = Some(Self::made(build, of))
            .filter(|of| self.there(of))
            .unwrap_or(of.clone());
        self.execute(&[quoted_view(&Self::made(build, view), &of)])
    }

    fn lose_point(&self, release: ReleaseId) {
        for schema in self.schemas(|name| self.retains(name, Some(release))) {
            self.execute(&[format!("DROP SCHEMA \"{schema}\" CASCADE")])
                .unwrap();
        }
    }

    fn read(&self, place: Place) -> Contents {
        let mut contents = Contents::new();
        for of in self.own() {
            let schemas = match place {
                Place::Live => vec![of.clone()],
                Place::Build(_) => vec![layout::build(&of).unwrap()],
                Place::Point(release) => self.schemas(|name| {
                    let parsed = layout::parse_retained(name);
                    parsed.is_some_and(|(v, schema)| schema == of && v.release == release)
                }),
            };
            for schema in schemas {
                self.read_schema(&of, &schema, &mut contents);
            }
        }
        contents
    }

    fn whole(&self) -> bool {
        false
    }

    fn without(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "rows of an older version come back",
                "whole relations only, so far",
            ),
            (
                "writers are frozen during a run",
                "nobody can be kept out: what others write is found before a swap, or stays",
            ),
            (
                "a query reads a place and writes nothing",
                "its names have no quotes and are small, which Snowflake reads as capitals",
            ),
        ]
    }
}

/// Names without quotes would be capitals.
fn quoted_view(view: &RelationName, of: &RelationName) -> String {
    format!(
        "CREATE OR REPLACE VIEW {} AS SELECT \"id\", \"value\" FROM {}",
        sql::quoted(view),
        sql::quoted(of)
    )
}

/// Plays a case of the suite, where there is a server.
fn play(level: Level, case: &dyn Fn(Make<'_>)) {
    let Some(server) = Server::found() else {
        skipped("UNSHIP_TEST_SNOWFLAKE names no server; scripts/snowflake-emulator starts one");
        return;
    };
    case(&|| Box::new(Database::new(&server, level)));
}

/// Ways to make schemas of a story's own, where there is a server.
pub(super) fn schemas() -> Option<impl Fn() -> Box<dyn Harness>> {
    let Some(server) = Server::found() else {
        skipped("UNSHIP_TEST_SNOWFLAKE names no server; scripts/snowflake-emulator starts one");
        return None;
    };
    Some(move || Box::new(Database::new(&server, Level::Schema)) as Box<dyn Harness>)
}

/// The cases of the suite. A story is some hundred statements, each of which takes the stand-in 20
/// milliseconds: too long for every change.
macro_rules! cases {
    ($level:expr; $($test:ident)*) => {
        $(
            #[test]
            #[ignore = "takes a minute; `make test-all` plays it"]
            fn $test() {
                play($level, &|make| {
                    unship_core::testing::conformance::play_named(stringify!($test), make);
                });
            }
        )*

        #[test]
        fn every_case_is_played() {
            let names = unship_core::testing::conformance::test_names();
            assert_eq!(names, [$(stringify!($test)),*]);
        }

        /// A crash at a sample of the boundaries of a run, a rollback and a partial rollback.
        #[test]
        #[ignore = "takes minutes; `make test-all` plays it"]
        fn a_crash_anywhere_is_resumed() {
            let every = std::env::var("UNSHIP_SNOWFLAKE_CRASH_EVERY");
            let every = every.map_or(40, |text| text.parse().unwrap());
            play($level, &|make| {
                unship_core::testing::conformance::survives_crashes(make, every);
            });
        }
    };
    ($level:expr) => {
        cases! { $level;
            publish_and_roll_back
            part_of_it
            undo_and_redo_are_a_stack
            what_others_wrote_stays
            what_others_wrote_to_ours_is_set_aside
            a_failed_job_leaves_production
            a_failed_job_in_place_is_undone
            points_are_readable
            tampering_is_found
            a_plan_for_another_moment_is_refused
            writers_are_frozen_during_a_run
            a_plan_is_the_same_each_time
            views_show_what_is_live
            only_what_was_planned_is_published
            what_lies_packed_comes_back
            a_lost_point_is_refused
            versions_are_compared_row_by_row
            relations_are_measured_where_they_lie
            a_query_reads_a_place_and_writes_nothing
            rows_of_an_older_version_come_back
            rows_are_chosen_by_one_expression
            stages_are_one_operation
        }
    };
}

mod by_table {
    use super::*;

    cases! { Level::Table }
}

mod by_schema {
    use super::*;

    cases! { Level::Schema }
}
