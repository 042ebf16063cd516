//! Iceberg: a release goes back in one commit, whatever its rows are, against the same rollback by
//! pyiceberg, which is what a script does that somebody writes for it: table after table.
//!
//! There are two catalogs: the one that `scripts/rest-catalog run` starts, and one in memory that
//! answers at once. Both are reached through a proxy that counts requests and lets each wait as long
//! as a network would. BENCH_LAKE_TABLES names other numbers of tables, with commas between. Where
//! `scripts/spark run` lends its Spark, its procedures go back on the first catalog, too.

use crate::catalog;
use crate::measure::{Outcome, World, median, run, run_json, timed};
use crate::proxy::Proxy;
use crate::report::Row;
use std::fs;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many tables there are.
const TABLES: [usize; 4] = [1, 10, 100, 1000];

/// How often a release goes back and forth.
const MOVES: usize = 4;

/// What a request waits, in milliseconds, with each catalog.
const AT_ONCE: &[u64] = &[0, 5, 50];
const REAL: &[u64] = &[5];

/// Measures all of it, and tells each part when it is done.
pub fn measure(world: &World, tell: &dyn Fn(&str, Vec<Row>) -> Outcome) -> Outcome {
    let variable = |name| std::env::var(name).ok();
    let (Some(uri), Some(python)) = (
        variable("UNSHIP_TEST_REST_CATALOG"),
        variable("UNSHIP_TEST_LAKE_PYTHON"),
    ) else {
        anstream::println!("scripts/rest-catalog runs no catalog: Iceberg is left out");
        return Ok(());
    };
    let host = uri
        .strip_prefix("http://")
        .ok_or("the catalog is not here")?;
    let address = host.to_socket_addrs()?.next().ok_or("no address")?;
    let tables: Vec<usize> = match variable("BENCH_LAKE_TABLES") {
        Some(text) => text.split(',').map(str::parse).collect::<Result<_, _>>()?,
        None => TABLES.to_vec(),
    };
    let files = world.fresh("lake-files")?;
    let in_memory = catalog::start(files.clone())?;
    let at_once = format!("http://{in_memory}");
    for (catalog, short, uri, address, waits) in [
        (
            "a catalog that answers at once",
            "m",
            at_once,
            in_memory,
            AT_ONCE,
        ),
        ("rustberg, a debug build", "r", uri, address, REAL),
    ] {
        let bench = Bench {
            world,
            proxy: Proxy::start(address)?,
            catalog,
            short,
            uri,
            python: PathBuf::from(&python),
        };
        for count in &tables {
            let what = format!("{count} Iceberg tables, {catalog}");
            tell(&what, bench.moves(*count, waits)?)?;
        }
        tell("Rows of Iceberg tables", bench.rows()?)?;
    }
    crate::measure::remove(&files)
}

struct Bench<'a> {
    world: &'a World,
    proxy: Proxy,
    catalog: &'static str,
    /// What names begin with that belong to it.
    short: &'static str,
    uri: String,
    python: PathBuf,
}

/// What going back and forth took.
#[derive(Default)]
struct Took {
    /// Whole processes, in seconds.
    whole: Vec<f64>,
    /// What unship says of itself: the change, its guards, and all that the ledger records.
    inside: Vec<f64>,
    requests: u64,
}

impl Bench<'_> {
    fn script(&self, direct: bool, args: &[&str]) -> Command {
        let script = "crates/unship/benches/alternatives/lake.py";
        let mut command = Command::new(&self.python);
        command.arg(self.world.repository.join(script)).args(args);
        let uri = match direct {
            true => self.uri.clone(),
            false => format!("http://{}", self.proxy.address),
        };
        command.env("LAKE_URI", uri);
        command
    }

    /// A project with two releases of tables, each of which claims so many rows more.
    fn project(&self, space: &str, tables: usize, rows: u64) -> Outcome<PathBuf> {
        let dir = self.world.fresh(space)?;
        run(self.script(true, &["make", space, &tables.to_string()]))?;
        fs::write(
            dir.join("unship.toml"),
            format!(
                "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"iceberg\"\n\
                 uri = \"http://{}\"\ncatalog = \"lake\"\nnamespaces = [\"{space}\"]\n\
                 token = {{ env = \"UNSHIP_TEST_REST_TOKEN\" }}\n",
                self.proxy.address
            ),
        )?;
        for _ in 0..2 {
            let job = self.script(true, &["release", space, &rows.to_string()]);
            let mut guarded = self.world.unship(&dir, &["--json", "run", "--"]);
            guarded.arg(job.get_program()).args(job.get_args());
            guarded.env("LAKE_URI", &self.uri);
            run(guarded)?;
        }
        Ok(dir)
    }

    fn back(&self, dir: &Path, moves: usize) -> Outcome<Took> {
        let mut took = Took::default();
        for n in 0..moves {
            let to = if n % 2 == 0 { "undo" } else { "redo" };
            self.proxy.requests();
            let (whole, said) = timed(|| run_json(self.world.unship(dir, &["--json", to])))?;
            took.requests = self.proxy.requests();
            took.whole.push(whole);
            let inside = said.get("milliseconds").and_then(|ms| ms.as_f64());
            took.inside.push(inside.ok_or("no milliseconds")? / 1e3);
        }
        Ok(took)
    }

    /// A release back and forth, by unship and by pyiceberg, in turn.
    fn moves(&self, tables: usize, waits: &[u64]) -> Outcome<Vec<Row>> {
        let name = |of: &str| format!("{}_{of}_{tables}", self.short);
        let (ours, theirs) = (name("ours"), name("theirs"));
        let dir = self.project(&ours, tables, 1000)?;
        let other = self.project(&theirs, tables, 1000)?;
        let mut rows = Vec::new();
        // A thousand tables take pyiceberg a minute.
        let moves = if tables >= 1000 { 2 } else { MOVES };
        for &wait in waits {
            self.proxy.wait(wait);
            let catalog = self.catalog;
            let what = |how: &str| {
                format!("roll back {tables} Iceberg tables{how}, {wait} ms to {catalog}")
            };
            let took = self.back(&dir, moves)?;
            let (mut scripts, mut asked) = (Vec::new(), 0);
            for n in 0..moves.min(2) {
                let to = if n % 2 == 0 { "back" } else { "forth" };
                self.proxy.requests();
                let said = run_json(self.script(false, &[to, &theirs]))?;
                asked = self.proxy.requests();
                let seconds = said.get("seconds").and_then(|s| s.as_f64());
                scripts.push(seconds.ok_or("no seconds")?);
            }
            let script = "pyiceberg, without Python's start";
            let row = |name, took: &[f64]| {
                let row = Row::alone(name, "s", median(took));
                row.beside(script, median(&scripts))
            };
            let row = row(what(", whole process with its proof"), &took.whole);
            rows.push(match (tables, wait) {
                (100.., 1..) => row.times(20.0),
                _ => row,
            });
            let inside = Row::alone(what(", as unship counts it"), "s", median(&took.inside));
            rows.push(inside.beside(script, median(&scripts)));
            let name = what(", requests");
            let row = Row::alone(name, "requests", took.requests as f64);
            rows.push(row.beside("pyiceberg", asked as f64));
        }
        if let Some(seconds) = self.spark(tables, &theirs)? {
            let what = rows.first().map(|row| (row.name.clone(), row.ours));
            rows.extend(what.map(|(name, ours)| {
                let row = Row::alone(name, "s", ours);
                row.beside("Spark's procedures, without its start", seconds)
                    .times(20.0)
            }));
        }
        self.proxy.wait(0);
        let mut peak = self.script(false, &["peak"]);
        let ours = self.world.unship(&dir, &["--json", "undo"]);
        peak.arg(ours.get_program()).args(ours.get_args());
        peak.current_dir(&dir);
        let peak: f64 = String::from_utf8(run(peak)?.stdout)?.trim().parse()?;
        let what = format!(
            "roll back {tables} Iceberg tables of {}, most memory",
            self.catalog
        );
        rows.push(Row::alone(what, "bytes", peak));
        for dir in [dir, other] {
            crate::measure::remove(&dir)?;
        }
        Ok(rows)
    }

    /// The same by Spark's procedures, in seconds, if there is a Spark, and not for so many tables
    /// that it would take minutes.
    fn spark(&self, tables: usize, space: &str) -> Outcome<Option<f64>> {
        let Ok(python) = std::env::var("UNSHIP_TEST_SPARK_PYTHON") else {
            return Ok(None);
        };
        if tables > 100 || self.short != "r" {
            return Ok(None);
        }
        let script = "crates/unship/benches/alternatives/spark.py";
        let mut took = Vec::new();
        for to in ["back", "forth"] {
            let mut command = Command::new(&python);
            command.arg(self.world.repository.join(script));
            command.args([to, space]);
            command.env("LAKE_URI", format!("http://{}", self.proxy.address));
            let said = run_json(command)?;
            took.push(
                said.get("seconds")
                    .and_then(|s| s.as_f64())
                    .ok_or("no seconds")?,
            );
        }
        Ok(Some(median(&took)))
    }

    /// What a rollback takes must not follow the rows.
    fn rows(&self) -> Outcome<Vec<Row>> {
        const TABLES: usize = 20;
        let few = self.project(&format!("{}_few", self.short), TABLES, 1_000)?;
        let many = self.project(&format!("{}_many", self.short), TABLES, 100_000_000)?;
        let (mut took_few, mut took_many) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            took_few.extend(self.back(&few, 2)?.whole);
            took_many.extend(self.back(&many, 2)?.whole);
        }
        let what = format!(
            "roll back {TABLES} Iceberg tables of 10^8 rows each, {}",
            self.catalog
        );
        let row = Row::alone(what, "s", median(&took_many));
        Ok(vec![
            row.beside("of 10^3 rows", median(&took_few)).within(1.5),
        ])
    }
}
