//! The store after thirty nights: each loads a day of raw rows and rebuilds every table of the
//! demo's project. The alternative is thirty copies.

use crate::measure::{Outcome, World, median, remove, run, timed};
use crate::overhead::project;
use crate::report::Row;
use unship_engines::duckdb::store::StoreWriter;

const NIGHTS: usize = 30;

/// Measures bytes, and what a night's restore point takes.
pub fn measure(world: &World) -> Outcome<Vec<Row>> {
    let dir = project(world, "nights")?;
    let mut dbt = world.command("dbt", &dir);
    dbt.args(["build", "--full-refresh"]);
    run(dbt)?;
    let mut dbt = world.command("dbt", &dir);
    dbt.args(["compile", "--full-refresh"]);
    run(dbt)?;
    let script = world
        .repository
        .join("crates/unship/benches/alternatives/night.py");
    let night = [script.display().to_string(), world.demo("")];
    let database = dir.join("shop.duckdb");
    let mut store = StoreWriter::open(&dir.join("store"))?;
    let (mut copies, mut stored, mut times) = (0, 0, Vec::new());
    for n in 0..NIGHTS {
        run(world.python(&dir, &[&night[0], &night[1]]))?;
        let point = format!("R{n}");
        let (took, report) =
            timed(|| Ok(store.snapshot(&database, &point, "shop.duckdb", &|_| {})?))?;
        copies += report.bytes;
        stored += report.new_bytes_stored;
        times.push(took);
    }
    remove(&dir)?;
    Ok(vec![
        Row::alone(
            "store of 30 nightly releases, bytes",
            "bytes",
            stored as f64,
        )
        .beside("30 copies", copies as f64),
        Row::alone("a night's restore point", "s", median(&times)),
    ])
}
