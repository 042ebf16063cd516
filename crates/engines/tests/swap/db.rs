//! A database of a test's own, and publishing and going back in it.

use postgres::{Client, Config, NoTls};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use unship_core::testing::skipped;
use unship_engines::postgres::swap::{
    Event, Move, Name, Request, SwapPlan, build_closure, plan, plan_closure, run, survey,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A database that is dropped at the end, with the roles that were made for it.
pub struct Db {
    config: Config,
    pub name: String,
    pub client: Client,
    roles: Vec<String>,
}

impl Db {
    /// Makes one; `None` where there is no server.
    pub fn new() -> Option<Self> {
        let Ok(address) = std::env::var("UNSHIP_TEST_POSTGRES") else {
            skipped("UNSHIP_TEST_POSTGRES does not say where a server is");
            return None;
        };
        let base: Config = address.parse().unwrap();
        let name = format!(
            "swap_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        base.connect(NoTls)
            .unwrap()
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .unwrap();
        let mut config = base;
        config.dbname(&name);
        let client = config.connect(NoTls).unwrap();
        Some(Self {
            config,
            name,
            client,
            roles: Vec::new(),
        })
    }

    pub fn connect(&self) -> Client {
        self.config.connect(NoTls).unwrap()
    }

    pub fn sql(&mut self, text: &str) {
        self.client
            .batch_execute(text)
            .unwrap_or_else(|e| panic!("{text}\n{:?}", e.as_db_error()));
    }

    /// Makes a role, named after the database, because roles are the whole server's.
    pub fn role(&mut self, name: &str) -> String {
        let role = format!("{}_{name}", self.name);
        self.sql(&format!("CREATE ROLE {role}"));
        self.roles.push(role.clone());
        role
    }

    /// The server's major version. Golden output is that of 15: each version writes views its own way.
    pub fn version(&mut self) -> u32 {
        let number = self.one("SELECT current_setting('server_version_num')::int / 10000");
        number.parse().unwrap()
    }

    /// One value as text.
    pub fn one(&mut self, query: &str) -> String {
        let row = self
            .client
            .query_one(&format!("SELECT ({query})::text"), &[])
            .unwrap_or_else(|e| panic!("{query}\n{:?}", e.as_db_error()));
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// The text without the database's own name.
    pub fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}_", self.name), "")
    }

    /// The schema as `pg_dump` sees it, sorted, without what unship keeps. Nothing where the server is
    /// newer than the `pg_dump` that is installed.
    pub fn dump(&self) -> Vec<String> {
        let host = self
            .config
            .get_hosts()
            .first()
            .map(|h| match h {
                postgres::config::Host::Tcp(host) => host.clone(),
                postgres::config::Host::Unix(path) => path.display().to_string(),
            })
            .unwrap();
        let mut command = Command::new("pg_dump");
        command
            .args(["-s", "-N", "unship*", "-h", &host, "-d", &self.name])
            .args(["-U", self.config.get_user().unwrap()]);
        if let Some(port) = self.config.get_ports().first() {
            command.args(["-p", &port.to_string()]);
        }
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        if said.contains("server version mismatch") {
            println!("the schema is not dumped: {said}");
            return Vec::new();
        }
        assert!(out.status.success(), "{said}");
        let mut lines: Vec<String> = String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    /// Relations outside of unship's schemas, of these kinds.
    pub fn relations(&mut self, kinds: &str) -> Vec<Name> {
        self.client
            .query(
                "SELECT n.nspname::text, c.relname::text FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind::text = ANY(string_to_array($1, NULL)) AND NOT c.relispartition
                     AND n.nspname !~ '^(pg_|unship|information_schema)' ORDER BY 1, 2",
                &[&kinds],
            )
            .unwrap()
            .iter()
            .map(|r| Name::new(r.get::<_, String>(0), r.get::<_, String>(1)))
            .collect()
    }

    /// A checksum of the rows of every table and view, by independent SQL. Two views of pagila
    /// concatenate names in no order, and so differ from one plan to another.
    pub fn rows(&mut self) -> Vec<String> {
        self.relations("rpmv")
            .iter()
            .filter(|n| !n.name.ends_with("film_list"))
            .map(|n| {
                let at = format!("\"{}\".\"{}\"", n.schema, n.name);
                let sum = self.one(&format!(
                    "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {at} t"
                ));
                format!("{at} {sum}")
            })
            .collect()
    }

    pub fn plan(&mut self, request: &Request) -> Result<SwapPlan, String> {
        let found = survey(&mut self.client, &request.scope()).unwrap();
        plan(&found, request).map_err(|r| r.to_string())
    }

    /// Plans and runs, what must be rebuilt included.
    pub fn swap(&mut self, mut request: Request) -> SwapPlan {
        self.rebuild(&mut request);
        let plan = self.plan(&request).unwrap_or_else(|e| panic!("{e}"));
        self.run(&plan);
        plan
    }

    /// Builds materialised views anew that are not in the request, and puts them into it.
    pub fn rebuild(&mut self, request: &mut Request) {
        let found = survey(&mut self.client, &request.scope()).unwrap();
        let rebuilds = plan_closure(&found, request);
        for one in &rebuilds {
            for schema in [&one.at.schema, &one.away.schema] {
                self.sql(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""));
            }
            request.moves.extend(one.moves());
        }
        build_closure(&mut self.client, &rebuilds).unwrap_or_else(|e| panic!("{e}"));
    }

    pub fn run(&mut self, plan: &SwapPlan) {
        run(&mut self.client, plan, &[], &|event| {
            if let Event::Afterwards { statement, error } = event {
                panic!("{statement}: {error}");
            }
        })
        .unwrap_or_else(|e| panic!("{e}\n{:?}", e.hint));
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let mut config = self.config.clone();
        config.dbname("postgres");
        if let Ok(mut client) = config.connect(NoTls) {
            for role in &self.roles {
                let _ = self
                    .client
                    .batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}"));
            }
            let _ = client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
            for role in &self.roles {
                let _ = client.batch_execute(&format!("DROP ROLE {role}"));
            }
        }
    }
}

pub fn quoted(name: &Name) -> String {
    format!("\"{}\".\"{}\"", name.schema, name.name)
}

pub fn staging(name: &Name) -> Name {
    Name::new(format!("unship_build_{}", name.schema), &*name.name)
}

pub fn retained(release: u32, name: &Name) -> Name {
    Name::new(format!("unship_r{release}_{}", name.schema), &*name.name)
}

/// Staged relations become live; the live ones go to the release that built them.
pub fn publish(names: &[Name], builder_of_live: u32) -> Request {
    let mut request = Request::default();
    for name in names {
        request.moves.push(Move {
            from: name.clone(),
            to: retained(builder_of_live, name),
            carry_from: None,
            access: None,
        });
        request.moves.push(Move {
            from: staging(name),
            to: name.clone(),
            carry_from: Some(name.clone()),
            access: None,
        });
    }
    request
}

/// What `back` built becomes live again; the live ones go to the release that built them.
pub fn restore(names: &[Name], builder_of_live: u32, back: u32) -> Request {
    let mut request = publish(names, builder_of_live);
    for one in &mut request.moves {
        if let Some(name) = &one.carry_from {
            one.from = retained(back, name);
        }
    }
    request
}

/// Schemas for staging and for retained versions.
pub fn schemas(db: &mut Db, names: &[Name], releases: &[u32]) {
    let all: BTreeSet<&String> = names.iter().map(|n| &n.schema).collect();
    for schema in all {
        db.sql(&format!(
            "CREATE SCHEMA IF NOT EXISTS \"unship_build_{schema}\""
        ));
        for release in releases {
            db.sql(&format!(
                "CREATE SCHEMA IF NOT EXISTS \"unship_r{release}_{schema}\""
            ));
        }
    }
}

/// Bare copies in staging, as dbt makes them.
pub fn stage(db: &mut Db, names: &[Name]) {
    for name in names {
        db.sql(&format!(
            "CREATE TABLE {} AS SELECT * FROM {}",
            quoted(&staging(name)),
            quoted(name)
        ));
    }
}

pub fn inputs(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("UNSHIP_TEST_INPUTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/inputs"),
        PathBuf::from,
    );
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{} is not there", path.display()));
    None
}

/// Loads a real database.
pub fn load(db: &Db, file: &str) -> Option<()> {
    let path = inputs(file)?;
    let host = match db.config.get_hosts().first()? {
        postgres::config::Host::Tcp(host) => host.clone(),
        postgres::config::Host::Unix(path) => path.display().to_string(),
    };
    let script = format!(
        "zcat '{}' | psql -q -o /dev/null -v ON_ERROR_STOP=1 -h '{host}' -U '{}' -d {}",
        path.display(),
        db.config.get_user()?,
        db.name
    );
    let out = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(())
}
