//! A dbt project on a PostgreSQL database of its own. What is checked is asked of the server by
//! `psql` and `pg_dump`, which know nothing of unship.

use super::{Output, Scratch, Tools};
use postgres::{Client, Config, NoTls, config::Host};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use unship_core::testing::skipped;

/// The project, and the database that its target `prod` names. Models are built in `analytics`.
pub struct Warehouse {
    /// Where the project is.
    pub scratch: Scratch,
    server: String,
    name: String,
    config: Config,
    roles: Vec<String>,
}

impl Warehouse {
    /// An empty database and a project of these files, or `None` after having said that there is no
    /// server. The files need no profile.
    pub fn new<'a>(
        tools: &Tools,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") else {
            skipped("UNSHIP_TEST_POSTGRES names no server; scripts/postgres starts one");
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("unship_shop_{}_{number}", std::process::id());
        let mut config: Config = server.parse().unwrap();
        let mut admin = config.connect(NoTls).unwrap();
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .unwrap();
        config.dbname(&name);
        let mut scratch = Scratch::new(tools);
        for (path, text) in files {
            scratch.write(path, text);
        }
        let host = match &config.get_hosts()[0] {
            Host::Unix(path) => path.display().to_string(),
            Host::Tcp(host) => host.clone(),
        };
        let (port, user) = (config.get_ports()[0], config.get_user().unwrap());
        scratch.write(
            "profiles.yml",
            format!(
                "shop:\n  target: prod\n  outputs:\n    prod: {{type: postgres, host: '{host}', port: {port}, user: {user}, \
                 password: '', dbname: {name}, schema: analytics, threads: 2}}\n"
            ),
        );
        for (variable, value) in [("PGHOST", &host), ("PGDATABASE", &name)] {
            scratch.set(variable, value);
        }
        scratch.set("PGPORT", port.to_string());
        scratch.set("PGUSER", user);
        Some(Self {
            scratch,
            server,
            name,
            config,
            roles: Vec::new(),
        })
    }

    /// Makes a role that no other test knows of; its name.
    pub fn role(&mut self, word: &str) -> String {
        let role = format!("{}_{word}", self.name);
        self.sql(&format!("CREATE ROLE {role}"));
        self.roles.push(role.clone());
        role
    }

    /// Runs statements, as somebody who knows nothing of unship.
    pub fn sql(&self, sql: &str) {
        let mut client: Client = self.config.connect(NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    }

    /// What psql prints of a query.
    pub fn ask(&self, query: &str) -> String {
        let asked = self.scratch.sh("psql", &["-XqAt", "-c", query]);
        asked.trim().to_owned()
    }

    /// Every row of every table and materialised view outside of these schemas, and every definition
    /// and right. Nothing of it lies in unship's own schemas. A view has no rows of its own.
    pub fn state(&self, without_rows_of: &[&str]) -> BTreeSet<String> {
        let queries = self.ask(
            "SELECT n.nspname || ' ' || format('SELECT %L || count(*) || '' times '' || t::text FROM %s t GROUP BY t::text', \
               c.oid::regclass::text || ' ', c.oid::regclass) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^(unship|pg_|information_schema$)'",
        );
        let queries = queries.lines().filter_map(|line| line.split_once(' '));
        let queries: Vec<_> = queries
            .filter(|(schema, _)| !without_rows_of.contains(schema))
            .map(|(_, query)| query)
            .collect();
        let mut all: BTreeSet<String> = match queries.is_empty() {
            true => BTreeSet::new(),
            false => self
                .ask(&queries.join(" UNION ALL "))
                .lines()
                .map(str::to_owned)
                .collect(),
        };
        let dump = self.scratch.sh("pg_dump", &["-s", "-N", "unship*"]);
        // An object at a time, for equal lines of two tables would be one in a set.
        for object in dump.split("\n--\n-- Name: ") {
            // What is set stays set from an object to the next, wherever those are in the dump.
            let lines = object.lines().filter(|line| {
                !["SET ", "\\", "--"]
                    .iter()
                    .any(|word| line.starts_with(word))
                    && !line.is_empty()
            });
            let lines: Vec<_> = lines.collect();
            all.insert(lines.join("\n"));
        }
        all
    }

    /// A guarded dbt, which must succeed.
    pub fn build(&self, words: &[&str]) -> Output {
        self.scratch
            .ok(&[&["run", "--", "dbt", "--quiet"], words].concat())
    }

    /// A guarded dbt that fails or is refused.
    pub fn try_build(&self, words: &[&str]) -> Output {
        self.scratch
            .unship(&[&["run", "--", "dbt", "--quiet"], words].concat())
    }
}

/// Nothing differs.
#[track_caller]
pub fn same(now: &BTreeSet<String>, before: &BTreeSet<String>) {
    let (gone, new) = (before - now, now - before);
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        let admin = self.server.parse::<Config>().unwrap().connect(NoTls);
        let mut admin = admin.unwrap();
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.batch_execute(&sql).unwrap();
        for role in &self.roles {
            admin.batch_execute(&format!("DROP ROLE {role}")).unwrap();
        }
    }
}
