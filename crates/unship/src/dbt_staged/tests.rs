//! Redirected builds by real dbt-postgres on a real server. What an engine will do (making staging
//! schemas, cloning) is done here in plain SQL.

use super::*;
use crate::pipeline::dbt::invocation::Invocation;
use crate::pipeline::dbt::staging::Reason;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;
use unship_core::ledger::SqliteLedger;
use unship_core::log::Ledger;

mod connect;
mod names;
mod refusals;
mod story;

/// A project, and a database of its own.
struct Rig {
    dir: TempDir,
    dbt: PathBuf,
    server: String,
    database: String,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.database);
        let _ = psql(&self.server, &drop);
    }
}

fn psql(connection: &str, sql: &str) -> Result<String, String> {
    let out = Command::new("psql")
        .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql, connection])
        .output()
        .map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

impl Rig {
    /// `None`, and a word why, where there is no dbt or no server.
    fn new(files: &[(&str, &str)]) -> Option<Self> {
        let skip = |why: &str| {
            unship_core::testing::skipped(why);
            None
        };
        let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") else {
            return skip("UNSHIP_TEST_POSTGRES is not set; `scripts/postgres start` prints it");
        };
        let Ok(dbt) = std::env::var("UNSHIP_TEST_DBT").map(PathBuf::from) else {
            return skip("UNSHIP_TEST_DBT is not set to a dbt executable");
        };
        let has_adapter = Command::new(dbt.with_file_name("python"))
            .args(["-c", "import dbt.adapters.postgres"])
            .output()
            .is_ok_and(|out| out.status.success());
        if !has_adapter {
            return skip("that dbt has no dbt-postgres");
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let database = format!(
            "unship_dbt_{}_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed),
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .subsec_nanos()
        );
        psql(&server, &format!("create database {database}")).unwrap();
        let rig = Self {
            dir: tempfile::tempdir().unwrap(),
            dbt,
            server,
            database,
        };
        for (name, text) in files {
            rig.write(name, text);
        }
        let word = |key: &str| {
            let words = rig.server.split_whitespace();
            let mut values = words.filter_map(|w| w.strip_prefix(key)?.strip_prefix('='));
            values.next().unwrap_or_default().to_owned()
        };
        let port = Some(word("port")).filter(|p| !p.is_empty());
        rig.write(
            "profiles/profiles.yml",
            &format!(
                "shop:\n  target: prod\n  outputs:\n    prod:\n      type: postgres\n      \
                 host: {}\n      port: {}\n      user: {}\n      \
                 pass: \"{{{{ env_var('NO_SUCH_SECRET', 'hunter2') }}}}\"\n      dbname: {}\n      \
                 schema: \"{{{{ 'analytics' }}}}\"\n      threads: 2\n",
                word("host"),
                port.unwrap_or_else(|| "5432".to_owned()),
                word("user"),
                rig.database,
            ),
        );
        Some(rig)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn connection(&self) -> String {
        format!("{} dbname={}", self.server, self.database)
    }

    fn sql(&self, sql: &str) -> String {
        psql(&self.connection(), sql).unwrap()
    }

    fn argv(&self, words: &str) -> Vec<String> {
        let mut argv = vec![self.dbt.display().to_string()];
        argv.extend(words.split_whitespace().map(str::to_owned));
        for (option, dir) in [("--project-dir", "p"), ("--profiles-dir", "profiles")] {
            argv.push(option.to_owned());
            argv.push(self.dir.path().join(dir).display().to_string());
        }
        argv
    }

    /// Runs dbt as anybody would.
    fn plain(&self, words: &str) -> String {
        let (said, good) = run(&self.argv(words), &BTreeMap::new());
        assert!(good, "{said}");
        said
    }

    fn job(&self, words: &str) -> (DbtJob, Vec<String>) {
        let argv = self.argv(words);
        let job = DbtJob::of(Invocation::parse(&argv).unwrap(), self.dir.path()).unwrap();
        (job, argv)
    }

    fn stage(&self, words: &str) -> CliResult<Option<Staged>> {
        let (job, argv) = self.job(words);
        job.staged(&argv, &self.dir.path().join("home"), None)
    }

    /// Why a job cannot be built aside.
    fn refused(&self, words: &str) -> String {
        match self.stage(words) {
            Err(error) => error.message,
            Ok(staged) => panic!("it was redirected: {:?}", staged.map(|s| s.redirect)),
        }
    }

    /// Runs dbt in staging, as the engine will let it; gives what came of it.
    fn aside(&self, words: &str) -> Aside {
        let staged = self.stage(words).unwrap().unwrap();
        self.prepare(&staged.redirect);
        let since = SystemTime::now();
        let (said, good) = run(&staged.command, &staged.env);
        let store = SqliteLedger::create(&self.dir.path().join("ledger"), Ledger::views()).unwrap();
        let mut ledger = Ledger::new(store, "prod", "test".to_owned());
        let (job, _) = self.job(words);
        let left = job.collect(since, &mut ledger, Some(&staged.redirect), None);
        let built = left
            .built
            .iter()
            .map(|r| format!("{}.{}", r.schema, r.name));
        Aside {
            redirect: staged.redirect,
            built: built.collect(),
            failures: left.failures,
            warnings: left.warnings,
            said,
            good,
        }
    }

    /// Fresh staging schemas, and in them what the job goes on from.
    fn prepare(&self, redirect: &Redirect) {
        for schema in redirect.schemas.keys() {
            let schema = quoted(schema);
            self.sql(&format!("drop schema if exists {schema} cascade"));
            self.sql(&format!("create schema {schema}"));
        }
        for prior in &redirect.clones {
            let (from, to) = (
                &prior.production,
                Naming::Postgres.relation(&prior.production),
            );
            let regclass = format!("{}.{}", quoted(&from.schema), quoted(&from.name));
            if self.sql(&format!("select to_regclass('{regclass}') is not null")) == "t" {
                let to = format!("{}.{}", quoted(&to.schema), quoted(&to.name));
                self.sql(&format!("create table {to} as table {regclass}"));
            }
        }
        for (view, of) in &redirect.views {
            self.sql(&format!(
                "create view {}.{} as table {}.{}",
                quoted(&view.schema),
                quoted(&view.name),
                quoted(&of.schema),
                quoted(&of.name)
            ));
        }
    }

    /// Everything in these schemas, definitions and rows.
    fn dump(&self, schemas: &[&str]) -> String {
        let out = Command::new("pg_dump")
            .args(schemas.iter().map(|schema| format!("--schema={schema}")))
            .arg(self.connection())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let text = String::from_utf8_lossy(&out.stdout);
        // A token that is another one in every dump.
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// `schema.name` of every relation, in order.
    fn relations(&self, like: &str) -> Vec<String> {
        let text = self.sql(&format!(
            "select n.nspname || '.' || c.relname from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname like '{like}' and c.relkind in ('r', 'v', 'm') order by 1"
        ));
        text.lines().map(str::to_owned).collect()
    }
}

/// What came of a build aside.
struct Aside {
    redirect: Redirect,
    built: Vec<String>,
    failures: Vec<String>,
    warnings: Vec<String>,
    said: String,
    good: bool,
}

impl Aside {
    fn clones(&self) -> Vec<(String, Reason)> {
        let clones = self.redirect.clones.iter();
        clones
            .map(|c| (c.production.name.clone(), c.reason.clone()))
            .collect()
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn run(argv: &[String], env: &BTreeMap<String, String>) -> (String, bool) {
    let out = Command::new(&argv[0])
        .args(&argv[1..])
        .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
        .envs(env)
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    (
        String::from_utf8_lossy(&said).into_owned(),
        out.status.success(),
    )
}

const PROJECT: &str = "name: shop\nversion: '1.0'\nprofile: shop\n\
    models:\n  +materialized: table\n  shop:\n    marts: {+schema: marts}\n\
    seeds: {shop: {+schema: reference}}\n";
