//! PostgreSQL: a release goes back by moving relations, against what copies rows or computes them
//! again; what readers notice of it; and what a proof costs against counting rows.
//!
//! The server is the one that UNSHIP_TEST_POSTGRES names. BENCH_SQLMESH names the program `sqlmesh`
//! with its PostgreSQL extra; without it that line is left out.

use crate::measure::{Outcome, World, median, run, run_json, timed};
use crate::report::Row;
use postgres::{Client, Config, NoTls};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use unship_core::engine::{Depth, Engine, Place};
use unship_core::ident::RelationName;
use unship_engines::postgres::address::Address;
use unship_engines::postgres::build::Wanted;
use unship_engines::postgres::connect::Connector;

/// How often a release goes back and forth.
const MOVES: usize = 9;

/// What a row of the large tables holds besides its key, so that a gigabyte is not all headers.
const PADDING: usize = 400;

/// Measures all of it, and tells each part when it is done; `gigabytes` is what the relations of a
/// release hold together.
pub fn measure(world: &World, gigabytes: f64, tell: &dyn Fn(&str, Vec<Row>) -> Outcome) -> Outcome {
    let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") else {
        anstream::println!("UNSHIP_TEST_POSTGRES names no server: PostgreSQL is left out");
        return Ok(());
    };
    tell("Readers of PostgreSQL", stalls(world, &server)?)?;
    tell("Proofs in PostgreSQL", proofs(world, &server)?)?;
    tell("One project in PostgreSQL", same_project(world, &server)?)?;
    for count in [10, 100, 1000] {
        let what = format!("{count} relations in PostgreSQL");
        tell(&what, moves(world, &server, count, gigabytes)?)?;
    }
    Ok(())
}

/// A database, and a project that guards its schema `m`.
pub struct Shop {
    pub address: String,
    config: Config,
    name: String,
    pub dir: PathBuf,
}

impl Shop {
    pub fn new(world: &World, server: &str, name: &str) -> Outcome<Self> {
        let config: Config = server.parse()?;
        let mut client = config.connect(NoTls)?;
        for sql in ["DROP DATABASE IF EXISTS", "CREATE DATABASE"] {
            client.batch_execute(&format!("{sql} {name}"))?;
        }
        let words = server.split(' ').filter(|w| !w.starts_with("dbname="));
        let address = format!("{} dbname={name}", words.collect::<Vec<_>>().join(" "));
        let dir = world.fresh(name)?;
        let toml = format!(
            "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"postgres\"\nconnection = \"{address}\"\nschemas = [\"m\"]\n"
        );
        fs::write(dir.join("unship.toml"), toml)?;
        let config = address.parse()?;
        let shop = Self {
            address,
            config,
            name: name.to_owned(),
            dir,
        };
        shop.client()?.batch_execute("CREATE SCHEMA m")?;
        Ok(shop)
    }

    pub fn client(&self) -> Outcome<Client> {
        Ok(self.config.connect(NoTls)?)
    }

    /// A guarded job that makes so many tables of so many rows, each with a key. Every row says
    /// which release it is of.
    fn release(&self, world: &World, release: usize, tables: usize, rows: u64) -> Outcome {
        let job = format!(
            "SELECT format('CREATE TABLE %I.t%s AS SELECT i AS id, {release} AS release, \
                           repeat(chr(65 + i %% 26), {PADDING}) AS more \
                           FROM generate_series(1, {rows}) i; \
                           ALTER TABLE %I.t%s ADD PRIMARY KEY (id)', :'schema', n, :'schema', n) \
             FROM generate_series(1, {tables}) n \\gexec\n"
        );
        fs::write(self.dir.join("job.sql"), job)?;
        let script = format!(
            "psql -X -q -v ON_ERROR_STOP=1 -v schema=\"${{UNSHIP_SCHEMA_PREFIX}}m\" -f job.sql '{}'",
            self.address
        );
        run(world.unship(
            &self.dir,
            &["--json", "run", "--aside", "--", "sh", "-c", &script],
        ))
        .map(drop)
    }

    /// Goes back, or forth, and says what unship says that it took, in milliseconds.
    fn back(&self, world: &World, round: usize) -> Outcome<f64> {
        let word = match round {
            0 => "rollback",
            _ if round % 2 == 1 => "undo",
            _ => "redo",
        };
        let document = run_json(world.unship(&self.dir, &["--json", word, "--no-verify"]))?;
        let took = document
            .get("milliseconds")
            .and_then(serde_json::Value::as_f64);
        took.ok_or_else(|| format!("no milliseconds in {document}").into())
    }

    pub fn drop(self, world: &World, server: &str) -> Outcome {
        let config: Config = server.parse()?;
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        config.connect(NoTls)?.batch_execute(&sql)?;
        crate::measure::remove(&world.data.join(&self.name))
    }
}

/// Going back with so many relations, against copies of them.
fn moves(world: &World, server: &str, count: usize, gigabytes: f64) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    let shop = Shop::new(world, server, &format!("bench_{count}"))?;
    let each = (gigabytes * 1e9 / (PADDING as f64 + 60.0) / count as f64) as u64;
    shop.release(world, 1, count, each)?;
    shop.release(world, 2, count, each)?;
    let (mut inside, mut whole) = (Vec::new(), Vec::new());
    for round in 0..MOVES {
        let (took, said) = timed(|| shop.back(world, round))?;
        whole.push(took * 1e3);
        inside.push(said);
    }

    let what = format!("{count} relations, {gigabytes} GB");
    let mut client = shop.client()?;
    let (copied, ()) = timed(|| {
        let mut sql = "CREATE SCHEMA copy;".to_owned();
        for n in 1..=count {
            write!(
                sql,
                "CREATE TABLE copy.t{n} AS TABLE m.t{n}; ALTER TABLE copy.t{n} ADD PRIMARY KEY (id);"
            )?;
        }
        Ok(client.batch_execute(&sql)?)
    })?;
    client.batch_execute("DROP SCHEMA copy CASCADE")?;
    drop(client);
    let config: Config = server.parse()?;
    let mut client = config.connect(NoTls)?;
    let aside = format!("{}_aside", shop.name);
    let template = format!("CREATE DATABASE {aside} TEMPLATE {}", shop.name);
    let (templated, ()) = timed(|| Ok(client.batch_execute(&template)?))?;
    client.batch_execute(&format!("DROP DATABASE {aside}; "))?;
    client.batch_execute(&format!("CREATE DATABASE {aside}"))?;
    let to = shop.address.replace(&shop.name, &aside);
    let dump = format!(
        "set -o pipefail; pg_dump -Fc -Z0 -n m '{}' | pg_restore -d '{to}'",
        shop.address
    );
    let (dumped, _) = timed(|| {
        let mut shell = Command::new("bash");
        shell.args(["-c", &dump]);
        run(shell)
    })?;
    client.batch_execute(&format!("DROP DATABASE {aside}"))?;
    for (ours, how, times) in [
        (median(&inside), "publish or roll back", true),
        (median(&whole), "roll back, whole process:", false),
    ] {
        let row = Row::alone(format!("{how} {what}"), "ms", ours);
        for (name, other) in [
            ("CREATE TABLE AS, with keys", copied),
            ("CREATE DATABASE … TEMPLATE", templated),
            ("pg_dump | pg_restore", dumped),
        ] {
            let row = row.clone().beside(name, other * 1e3);
            // The aim is for a thousand, which is what costs.
            rows.push(if times && count == 1000 {
                row.times(50.0)
            } else {
                row
            });
        }
        if times && count == 1000 {
            rows.push(row.at_most(2000.0));
        }
    }
    shop.drop(world, server)?;
    Ok(rows)
}

/// A project of a hundred models goes back: unship, dbt, and SQLMesh, each its own way.
fn same_project(world: &World, server: &str) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    const MODELS: usize = 100;
    const ROWS: usize = 10_000;
    let shop = Shop::new(world, server, "bench_project")?;
    let dir = &shop.dir;
    let query = |release: usize| {
        format!("select i as id, {release} as release from generate_series(1, {ROWS}) i")
    };
    let models = |dir: &Path, release: usize, head: &dyn Fn(usize) -> String| -> Outcome {
        fs::create_dir_all(dir.join("models"))?;
        for n in 0..MODELS {
            let text = format!("{}{}\n", head(n), query(release));
            fs::write(dir.join(format!("models/t{n}.sql")), text)?;
        }
        Ok(())
    };
    let host = match shop.config.get_hosts().first() {
        Some(postgres::config::Host::Unix(path)) => path.display().to_string(),
        Some(postgres::config::Host::Tcp(host)) => host.clone(),
        None => "localhost".to_owned(),
    };
    let user = shop.config.get_user().unwrap_or("postgres");
    let (name, port) = (&shop.name, shop.config.get_ports().first().unwrap_or(&5432));
    fs::write(
        dir.join("dbt_project.yml"),
        "name: bench\nversion: '1.0'\nprofile: bench\nmodels: {bench: {+materialized: table}}\n",
    )?;
    fs::write(
        dir.join("profiles.yml"),
        format!(
            "bench:\n  target: prod\n  outputs:\n    prod: {{type: postgres, host: '{host}', port: {port}, user: {user}, \
             password: '', dbname: {name}, schema: m, threads: 4}}\n"
        ),
    )?;
    fs::write(
        dir.join("unship.toml"),
        "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"postgres\"\ntarget = \"prod\"\n",
    )?;
    fs::write(dir.join(".gitignore"), "target\nlogs\n.unship\n")?;
    let git = |args: &[&str]| -> Outcome {
        let mut git = world.command("git", dir);
        git.args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
        git.args(args);
        run(git).map(drop)
    };
    git(&["init", "--quiet"])?;
    for release in 1..=2 {
        models(dir, release, &|_| String::new())?;
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", &format!("--message=R{release}")])?;
        run(world.unship(dir, &["--json", "run", "--", "dbt", "--quiet", "build"]))?;
    }
    let mut whole = Vec::new();
    for round in 0..MOVES {
        whole.push(timed(|| shop.back(world, round))?.0);
    }
    let what = format!("roll back {MODELS} models of {ROWS} rows, whole process");
    let ours = Row::alone(what, "s", median(&whole));
    let (reverted, ()) = timed(|| {
        git(&["revert", "--no-edit", "HEAD"])?;
        let mut build = world.command("dbt", dir);
        build.args(["--quiet", "build"]);
        run(build).map(drop)
    })?;
    rows.push(ours.clone().beside("git revert and dbt build", reverted));

    if let Some(program) = std::env::var_os("BENCH_SQLMESH") {
        let mesh = Shop::new(world, server, "bench_mesh")?;
        let dir = &mesh.dir;
        fs::write(
            dir.join("config.yaml"),
            format!(
                "gateways:\n  prod:\n    connection: {{type: postgres, host: '{host}', port: {port}, user: {user}, password: '', \
                 database: {}, concurrent_tasks: 4}}\ndefault_gateway: prod\nmodel_defaults: {{dialect: postgres}}\ndisable_anonymized_analytics: true\n",
                mesh.name
            ),
        )?;
        let plan = |release: usize| -> Outcome {
            models(dir, release, &|n| {
                format!("MODEL (name m.t{n}, kind FULL);\n")
            })?;
            let mut plan = world.command(&program, dir);
            plan.args(["plan", "--auto-apply", "--no-prompts"]);
            run(plan).map(drop)
        };
        plan(1)?;
        plan(2)?;
        let (flipped, ()) = timed(|| plan(1))?;
        let name = "sqlmesh plan of the old code, which flips views one by one";
        rows.push(ours.beside(name, flipped).times(10.0));
        mesh.drop(world, server)?;
    }
    shop.drop(world, server)?;
    Ok(rows)
}

/// What readers notice while a hundred relations go back and forth.
fn stalls(world: &World, server: &str) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    const TABLES: usize = 100;
    const ROUNDS: usize = 20;
    let shop = Shop::new(world, server, "bench_stalls")?;
    // Autovacuum looks at what was just built, as it does in production after a while.
    let vacuum_every = |setting: &str| -> Outcome {
        // ALTER SYSTEM is no part of a transaction.
        for sql in [setting, "SELECT pg_reload_conf()"] {
            shop.client()?.batch_execute(sql)?;
        }
        Ok(())
    };
    vacuum_every("ALTER SYSTEM SET autovacuum_naptime = 1")?;
    shop.release(world, 1, TABLES, 10_000)?;
    shop.release(world, 2, TABLES, 10_000)?;
    let stop = AtomicBool::new(false);
    let longest = AtomicU64::new(0);
    let quick = |order: [usize; 3]| -> Result<(), String> {
        let mut client = shop.client().map_err(|e| e.to_string())?;
        let [a, b, c] = order;
        let sql = format!(
            "SELECT a.release, b.release, c.release FROM m.t{a} a JOIN m.t{b} b USING (id) JOIN m.t{c} c USING (id) WHERE id = 77"
        );
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let row = client.query_one(&*sql, &[]).map_err(|e| format!("{e:?}"))?;
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            longest.fetch_max(took, Ordering::Relaxed);
            let seen: [i32; 3] = [row.get(0), row.get(1), row.get(2)];
            if seen != [seen[0]; 3] {
                return Err(format!("a mixture of releases: {seen:?}"));
            }
        }
        Ok(())
    };
    let slow = || -> Result<(), String> {
        let mut client = shop.client().map_err(|e| e.to_string())?;
        while !stop.load(Ordering::Relaxed) {
            client
                .batch_execute("SELECT count(*), pg_sleep(4) FROM m.t9")
                .map_err(|e| format!("{e:?}"))?;
            std::thread::sleep(Duration::from_secs(4));
        }
        Ok(())
    };
    std::thread::scope(|threads| -> Outcome {
        let readers: Vec<_> = [[1, 50, 100], [100, 50, 1], [3, 2, 1], [20, 30, 10]]
            .into_iter()
            .map(|order| threads.spawn(move || quick(order)))
            .chain([threads.spawn(slow)])
            .collect();
        let moved = (0..ROUNDS).try_for_each(|round| shop.back(world, round).map(drop));
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().map_err(|_| "a reader panicked")??;
        }
        moved
    })?;
    let what = format!(
        "longest stall of a read with joins, while {TABLES} relations move {ROUNDS} times, beside a 4 s reader and autovacuum"
    );
    rows.push(Row::alone(what, "ms", longest.into_inner() as f64 / 1e3).at_most(150.0));
    vacuum_every("ALTER SYSTEM RESET autovacuum_naptime")?;
    shop.drop(world, server)?;
    Ok(rows)
}

/// Proving a release against counting its rows on one core.
fn proofs(world: &World, server: &str) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (millions, how, most) in [(1, "one connection", 6.0), (8, "in parallel", 3.0)] {
        let shop = Shop::new(world, server, &format!("bench_proof_{millions}"))?;
        let job = format!(
            "CREATE TABLE :\"schema\".t AS SELECT i AS id, i % 7 AS k, (i * 1.5)::numeric(10, 2) AS amount, \
             'name ' || i AS name, timestamp '2026-01-01' + i * interval '1 s' AS at FROM generate_series(1, {millions}000000) i;\n"
        );
        fs::write(shop.dir.join("job.sql"), job)?;
        let script = format!(
            "psql -X -q -v ON_ERROR_STOP=1 -v schema=\"${{UNSHIP_SCHEMA_PREFIX}}m\" -f job.sql '{}'",
            shop.address
        );
        run(world.unship(
            &shop.dir,
            &["--json", "run", "--aside", "--", "sh", "-c", &script],
        ))?;
        let mut client = shop.client()?;
        for sql in ["VACUUM m.t", "SET max_parallel_workers_per_gather = 0"] {
            client.batch_execute(sql)?;
        }
        let connector = Connector::new(Address::parse(&shop.address)?)?;
        let schemas = BTreeSet::from(["m".to_owned()]);
        let mut engine =
            unship_engines::postgres::Postgres::new(connector, schemas, Wanted::default());
        let table = RelationName::new(&*shop.name, "m", "t");
        let depth = Depth::Rows(BTreeSet::from([table]));
        let (mut alone, mut whole, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..5 {
            let read = || Ok(engine.observe(Place::Live, &depth, &|_, _, _| {})?);
            alone.push(timed(read)?.0);
            whole.push(timed(|| run(world.unship(&shop.dir, &["--json", "verify"])))?.0);
            counted.push(timed(|| Ok(client.batch_execute("SELECT count(*) FROM m.t")?))?.0);
        }
        drop(client);
        let what = format!("{millions} million rows of 5 columns");
        let counted = median(&counted);
        let row = |what: String, took: &[f64]| {
            Row::alone(what, "s", median(took)).beside("count(*) on one core", counted)
        };
        rows.push(row(format!("fingerprint {what}, {how}"), &alone).within(most));
        rows.push(row(format!("verify {what}, whole process, {how}"), &whole));
        shop.drop(world, server)?;
    }
    Ok(rows)
}
