//! unship against what people do without it, in one run on one machine: `make bench`, or
//! `cargo bench -p unship -- [part …]` for some parts of it. Every part is a module and says what it
//! compares. `BENCH_LARGE=0` leaves out the 8 GB file.

mod command;
mod files;
mod ledger;
mod measure;
mod nights;
mod overhead;
mod report;

use measure::{Outcome, World};
use report::Row;

/// The sizes of a database file, in 10^9 bytes, and how often each is measured.
const SMALL: (f64, usize) = (0.3, 7);
const LARGE: (f64, usize) = (8.0, 3);

fn main() -> Outcome {
    // cargo adds an argument of its own; without it this is a test run, which measures nothing.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    let world = World::find()?;
    let file = world.repository.join("target/bench.json");
    let tell = |part: &str, rows: Vec<Row>| {
        anstream::println!("{part}");
        report::publish(&file, &rows)
    };

    if wanted("command") {
        tell("Commands, whole processes", command::measure(&world)?)?;
    }
    if wanted("overhead") {
        tell("A guarded dbt build", overhead::measure(&world)?)?;
    }
    if wanted("nights") {
        tell("Thirty nights", nights::measure(&world)?)?;
    }
    if wanted("ledger") {
        tell(
            "100,000 releases of 1,000 relations",
            ledger::measure(&world)?,
        )?;
    }
    if wanted("files") {
        let small = files::measure(&world, SMALL)?;
        tell("A file of 0.3 GB", small.rows)?;
        if std::env::var_os("BENCH_LARGE").is_none_or(|value| value != "0") {
            let large = files::measure(&world, LARGE)?;
            tell("A file of 8 GB", large.rows)?;
            let growth = [
                Row::alone(
                    "publish by rename, 8 GB against 0.3 GB",
                    "ms",
                    large.publish,
                )
                .beside("0.3 GB", small.publish),
                Row::alone(
                    "rollback by rename, 8 GB against 0.3 GB",
                    "ms",
                    large.rollback,
                )
                .beside("0.3 GB", small.rollback),
            ];
            // The headers of both are read, and nothing else: what is left is the noise of a disk.
            tell(
                "Growth with size",
                growth.map(|row| row.times(0.5)).to_vec(),
            )?;
        }
    }
    anstream::println!("Written to {}", file.display());
    Ok(())
}
