//! Whole database files: publishing, rolling back, restoring in place, taking a restore point.
//! The alternative is `cp`: alone, which leaves its bytes in memory, and with a sync of the copy,
//! which is as durable as what unship does. Copies are made in turn with restore points, each in a
//! quiet moment, and stand beside the renames too: copying an unchanged 8 GB anew for each of them
//! would say the same and take ten minutes more.

use crate::measure::{
    Copied, Outcome, World, cp, median, remove, run, run_json, settle, timed, warm,
};
use crate::report::Row;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use unship_engines::duckdb::file;
use unship_engines::duckdb::store::{Store, StoreWriter};

/// DuckDB's block, and where the first one begins.
const BLOCK: u64 = 256 << 10;
const FIRST: u64 = 3 * 4096;

/// In how many runs of neighbouring blocks a change of one per cent lies.
const RUNS: u64 = 10;

/// How often what only renames is measured: it takes no time, and each sync has its own luck.
const RENAMES: usize = 15;

/// How long a file rests before its restore point, as one does between a job and the next: the
/// store trusts the times of a file only then.
const REST: Duration = Duration::from_millis(2100);

/// What a change makes new, so that rows are rebuilt and no raw table is touched.
const JOB: &str = "import duckdb, os; \
    duckdb.connect(os.environ['UNSHIP_DATABASE']).execute('create or replace table main.mart as \
    select store_id, count(*) as orders, random() as tie from raw.orders group by all')";

/// What was measured of a file of one size.
pub struct Measured {
    /// All of it.
    pub rows: Vec<Row>,
    /// Publishing by rename, in milliseconds.
    pub publish: f64,
    /// Rolling back, in milliseconds as unship counts them.
    pub rollback: f64,
}

/// Measures with a file of so many 10^9 bytes.
pub fn measure(world: &World, (gigabytes, rounds): (f64, usize)) -> Outcome<Measured> {
    let name = format!("files-{gigabytes}");
    let dir = world.fresh(&name)?;
    let size = format!("{gigabytes}");
    let live = dir.join("shop.duckdb");
    let path = live.display().to_string();
    run(world.python(
        &dir,
        &[&world.demo("generate.py"), &path, "--gigabytes", &size],
    ))?;
    let mut rows = Vec::new();
    let copies = in_store(&dir, &live, &size, rounds, &mut rows)?;
    let publish = publish(&dir, &live, &size, &copies, &mut rows)?;
    let rollback = rollback(world, &dir, &size, &copies, &mut rows)?;
    remove(&dir)?;
    Ok(Measured {
        rows,
        publish,
        rollback,
    })
}

fn against_cp(rows: &mut Vec<Row>, row: &Row, copies: &[Copied], least: f64) {
    let plain: Vec<f64> = copies.iter().map(|c| c.plain).collect();
    let synced: Vec<f64> = copies.iter().map(|c| c.synced).collect();
    let scale = if row.unit == "ms" { 1e3 } else { 1.0 };
    rows.push(
        row.clone()
            .beside("cp", median(&plain) * scale)
            .times(least),
    );
    rows.push(
        row.clone()
            .beside("cp and sync", median(&synced) * scale)
            .times(least),
    );
}

/// The step that makes a finished build production, and back again, as often.
fn publish(
    dir: &Path,
    live: &Path,
    size: &str,
    copies: &[Copied],
    rows: &mut Vec<Row>,
) -> Outcome<f64> {
    let (build, retired) = (
        dir.join("build/shop.duckdb"),
        dir.join("points/shop.duckdb"),
    );
    file::clone(live, &build, &|_, _, _| {})?;
    let mut times = Vec::new();
    for _ in 0..RENAMES {
        settle(dir)?;
        let (took, ()) = timed(|| Ok(file::swap(live, &build, &retired)?))?;
        times.push(took * 1e3);
        file::rename(&retired, &build)?;
    }
    remove(&dir.join("build"))?;
    let ours = median(&times);
    let name = format!("publish {size} GB by rename, the step itself");
    against_cp(rows, &Row::alone(name, "ms", ours), copies, 100.0);
    Ok(ours)
}

/// A real release and a real rollback, there and back again.
fn rollback(
    world: &World,
    dir: &Path,
    size: &str,
    copies: &[Copied],
    rows: &mut Vec<Row>,
) -> Outcome<f64> {
    let toml = "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"duckdb\"\npath = \"shop.duckdb\"\n";
    fs::write(dir.join("unship.toml"), toml)?;
    let python = world.python.display().to_string();
    let job = ["--json", "run", "--aside", "--", &python, "-c", JOB];
    let (first, _) = timed(|| run(world.unship(dir, &job)))?;
    rows.push(Row::alone(
        format!("first guarded run on {size} GB, every row read once"),
        "s",
        first,
    ));
    let (second, _) = timed(|| run(world.unship(dir, &job)))?;
    rows.push(Row::alone(
        format!("second guarded run on {size} GB, with the clone and packing R0"),
        "s",
        second,
    ));
    let (mut inside, mut whole) = (Vec::new(), Vec::new());
    for round in 0..RENAMES {
        let word = match round {
            0 => "rollback",
            _ if round % 2 == 1 => "undo",
            _ => "redo",
        };
        let args = ["--json", word, "--no-verify"];
        settle(dir)?;
        let (took, document) = timed(|| run_json(world.unship(dir, &args)))?;
        whole.push(took * 1e3);
        inside.push(number(&document, "milliseconds")?);
    }
    let proof = ["--json", "verify"];
    let (proved, _) = timed(|| run(world.unship(dir, &proof)))?;
    let ours = median(&inside);
    let name = format!("roll back {size} GB by rename, with all that the ledger records");
    against_cp(rows, &Row::alone(name, "ms", ours), copies, 100.0);
    let row = Row::alone(
        format!("roll back {size} GB, whole process"),
        "ms",
        median(&whole),
    );
    against_cp(rows, &row, copies, 100.0);
    rows.push(Row::alone(
        format!("prove a rollback of {size} GB, whole process"),
        "ms",
        proved * 1e3,
    ));
    Ok(ours)
}

fn number(document: &serde_json::Value, key: &str) -> Outcome<f64> {
    let number = document.get(key).and_then(serde_json::Value::as_f64);
    number.ok_or_else(|| format!("there is no {key} in {document}").into())
}

/// Restore points in the store after one per cent of the blocks changed, and back in place.
fn in_store(
    dir: &Path,
    live: &Path,
    size: &str,
    rounds: usize,
    rows: &mut Vec<Row>,
) -> Outcome<Vec<Copied>> {
    let (work, copy) = (dir.join("work.duckdb"), dir.join("copy.duckdb"));
    fs::copy(live, &work)?;
    fs::copy(live, &copy)?;
    warm(&work)?;
    let mut store = StoreWriter::open(&dir.join("store"))?;
    let label = "work.duckdb";
    let quiet = |_| {};
    let (first, base) = timed(|| Ok(store.snapshot(&work, "base", label, &quiet)?))?;
    let name = format!("first restore point of {size} GB");
    rows.push(Row::alone(name.clone(), "s", first));
    let bytes = base.new_bytes_stored as f64;
    rows.push(
        Row::alone(format!("{name}, bytes"), "bytes", bytes).beside("a copy", base.bytes as f64),
    );
    let (mut point, mut bytes, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let back = |times: &mut Vec<f64>| -> Outcome {
        let reader = Store::open(&dir.join("store"))?;
        settle(dir)?;
        let (took, report) =
            timed(|| Ok(reader.patch("base", label, &work, &mut |_| Ok(()), &quiet)?))?;
        times.push(took);
        match report.chunks_written {
            0 => Err("the patch had nothing to do".into()),
            _ => Ok(()),
        }
    };
    for round in 0..rounds {
        change(&work, round as u64)?;
        warm(&work)?;
        let name = format!("round{round}");
        settle(dir)?;
        std::thread::sleep(REST);
        let (took, report) = timed(|| Ok(store.snapshot(&work, &name, label, &quiet)?))?;
        point.push(took);
        bytes.push(report.new_bytes_stored as f64);
        copies.push(cp(&work, &copy)?);
        back(&mut known)?;
        change(&work, (rounds + round) as u64)?;
        warm(&work)?;
        back(&mut unknown)?;
    }
    same(&work, live)?;
    let name = format!("restore point of {size} GB after a change of 1 %");
    let row = Row::alone(name.clone(), "s", median(&point));
    against_cp(rows, &row, &copies, 5.0);
    rows.push(
        Row::alone(format!("{name}, bytes"), "bytes", median(&bytes))
            .beside("a copy", base.bytes as f64)
            .times(50.0),
    );
    let name = format!("restore {size} GB in place after a change of 1 %");
    let row = Row::alone(name.clone(), "s", median(&known));
    against_cp(rows, &row, &copies, 5.0);
    let name = format!("{name}, of a file that was not packed before");
    let row = Row::alone(name, "s", median(&unknown));
    against_cp(rows, &row, &copies, 5.0);
    for file in [&work, &copy] {
        fs::remove_file(file)?;
    }
    remove(&dir.join("store"))?;
    Ok(copies)
}

/// Overwrites one per cent of the blocks with bytes that no compression makes smaller.
fn change(path: &Path, seed: u64) -> Outcome {
    let file = File::options().write(true).open(path)?;
    let blocks = (file.metadata()?.len() - FIRST) / BLOCK;
    let each = (blocks / 100 / RUNS).max(1);
    for run in 0..RUNS {
        let begin = blocks * run / RUNS + seed % (blocks / RUNS - each);
        let mut noise = vec![0; (each * BLOCK) as usize];
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&seed.to_le_bytes())
            .update(&run.to_le_bytes());
        hasher.finalize_xof().fill(&mut noise);
        file.write_all_at(&noise, FIRST + begin * BLOCK)?;
    }
    Ok(())
}

/// What came back must be what was there, or the times mean nothing.
fn same(a: &Path, b: &Path) -> Outcome {
    let hash = |path: &Path| -> io::Result<blake3::Hash> {
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 4 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize()),
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            };
        }
    };
    if hash(a)? == hash(b)? {
        return Ok(());
    }
    Err(format!("{} is not {}", a.display(), b.display()).into())
}
