//! unship against what people do without it, in one run on one machine: `make bench`, or
//! `cargo bench -p unship -- [part …]` for some parts of it. Every part is a module and says what it
//! compares. `BENCH_GIGABYTES` is the size of the large file, 8 unless it says otherwise; 0 leaves
//! it out.

mod catalog;
mod checks;
mod command;
mod files;
mod lake;
mod ledger;
mod measure;
mod nights;
mod overhead;
mod postgres;
mod proxy;
mod report;
mod undo;

use measure::{Outcome, World};
use report::Row;

/// What the relations of a PostgreSQL release hold together, in 10^9 bytes, unless
/// `BENCH_POSTGRES_GIGABYTES` says otherwise.
const RELEASE: f64 = 2.0;

/// The size of the small file, in 10^9 bytes, and how often what is done with it is measured.
const SMALL: (f64, usize) = (0.3, 7);

/// The same of the large one, unless `BENCH_GIGABYTES` names another size.
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
    let began = std::time::Instant::now();
    let large = match std::env::var("BENCH_GIGABYTES") {
        Ok(text) => (text.parse()?, LARGE.1),
        Err(_) => LARGE,
    };
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
    if wanted("postgres") {
        let gigabytes = match std::env::var("BENCH_POSTGRES_GIGABYTES") {
            Ok(text) => text.parse()?,
            Err(_) => RELEASE,
        };
        postgres::measure(&world, gigabytes, &tell)?;
    }
    if wanted("lake") {
        lake::measure(&world, &tell)?;
    }
    if wanted("undo") {
        undo::measure(&world, &tell)?;
    }
    if wanted("checks") {
        tell("Measuring for checks", checks::measure(&world)?)?;
    }
    if wanted("files") {
        let small = files::measure(&world, SMALL)?;
        tell(&format!("A file of {} GB", SMALL.0), small.rows)?;
        if large.0 > 0.0 {
            let big = files::measure(&world, large)?;
            tell(&format!("A file of {} GB", large.0), big.rows)?;
            let sizes = format!("{} GB against {} GB", large.0, SMALL.0);
            let other = format!("{} GB", SMALL.0);
            let growth = [
                Row::alone(format!("publish by rename, {sizes}"), "ms", big.publish)
                    .beside(&other, small.publish),
                Row::alone(format!("roll back by rename, {sizes}"), "ms", big.rollback)
                    .beside(&other, small.rollback),
            ];
            // The headers of both are read, and nothing else: what is left is the noise of a disk.
            tell(
                "Growth with size",
                growth.map(|row| row.within(2.0)).to_vec(),
            )?;
        }
    }
    anstream::println!(
        "{:.0} s. Written to {}",
        began.elapsed().as_secs_f64(),
        file.display()
    );
    Ok(())
}
