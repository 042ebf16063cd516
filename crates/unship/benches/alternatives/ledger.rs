//! A ledger of 100,000 releases of 1,000 relations, of which each release changes five. It is made
//! once and kept: `target/bench-data/ledger`.

use crate::measure::{Outcome, World, median, run, timed};
use crate::report::Row;
use std::fs;
use unship_core::ledger::SqliteLedger;
use unship_core::log::Ledger;
use unship_core::testing::long::{Shape, grow};

const RELEASES: u64 = 100_000;
const SHAPE: Shape = Shape {
    relations: 1_000,
    changes: 5,
};
const ROUNDS: usize = 15;

/// Measures reading it, and its bytes.
pub fn measure(world: &World) -> Outcome<Vec<Row>> {
    let dir = world.data.join("ledger");
    fs::create_dir_all(dir.join(".unship"))?;
    let toml = "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    fs::write(dir.join("unship.toml"), toml)?;
    fs::write(dir.join("warehouse.duckdb"), [0; 4096])?;
    let path = dir.join(".unship/ledger.sqlite");
    let store = SqliteLedger::create(&path, Ledger::views())?;
    let mut ledger = Ledger::new(store, "prod", "bench@localhost");
    let from = ledger.history(|h| h.next_id())?.0;
    let (took, ()) = timed(|| Ok(grow(&mut ledger, SHAPE, from, RELEASES)?))?;
    drop(ledger);
    if from < RELEASES {
        anstream::println!("{} releases appended in {took:.0} s", RELEASES - from);
    }
    let bytes = fs::metadata(&path)?.len() as f64 / RELEASES as f64;
    let each = |args: &[&str]| -> Outcome<f64> {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(timed(|| run(world.unship(&dir, args)))?.0 * 1e3);
        }
        Ok(median(&times))
    };
    Ok(vec![
        Row::alone("status, 100,000 releases", "ms", each(&["status"])?).at_most(100.0),
        Row::alone("log, 100,000 releases", "ms", each(&["log"])?).at_most(100.0),
        Row::alone("show @, 1,000 relations", "ms", each(&["show", "@"])?),
        Row::alone("ledger, bytes a release", "bytes", bytes),
    ])
}
