//! A ledger of 100,000 releases of 1,000 relations, of which each release changes five. It is made
//! once and kept: `target/bench-data/ledger`.

use crate::measure::{Outcome, World, median, run, timed};
use crate::report::Row;
use std::fs;
use std::path::Path;
use unship_core::ident::ReleaseId;
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
    let mut ledger = open(&path)?;
    let from = ledger.history(|h| h.next_id())?.0;
    let (took, ()) = timed(|| Ok(grow(&mut ledger, SHAPE, from, RELEASES)?))?;
    drop(ledger);
    if from < RELEASES {
        anstream::println!("{} releases appended in {took:.0} s", RELEASES - from);
    }
    let all = fs::metadata(&path)?.len() as f64;
    let first = first_release(world)?;
    let whole = |args: &[&str]| times(|| run(world.unship(&dir, args)).map(drop));
    let middle = ReleaseId(RELEASES / 2);
    let inside = |ask: &dyn Fn(&Ledger) -> Outcome| times(|| ask(&open(&path)?));
    Ok(vec![
        Row::alone("status, 100,000 releases", "ms", whole(&["status"])?).at_most(100.0),
        Row::alone("log, 100,000 releases", "ms", whole(&["log"])?).at_most(100.0),
        Row::alone("show @, 1,000 relations", "ms", whole(&["show", "@"])?),
        Row::alone(
            "ledger of 100,000 releases: open it, what is live",
            "ms",
            inside(&|l| Ok(l.history(|h| h.live("prod").map(drop))?))?,
        ),
        Row::alone(
            "ledger of 100,000 releases: open it, the newest 50",
            "ms",
            inside(&|l| Ok(l.history(|h| h.releases("prod", None, 50).map(drop))?))?,
        ),
        Row::alone(
            "ledger of 100,000 releases: open it, the whole map of the middle one",
            "ms",
            inside(&|l| Ok(l.history(|h| h.map(middle).map(drop))?))?,
        ),
        Row::alone(
            "ledger, bytes a release that changes 5 of 1,000 relations",
            "bytes",
            (all - first) / (RELEASES - 1) as f64,
        )
        .beside("writing down all 1,000", first),
    ])
}

fn open(path: &Path) -> Outcome<Ledger> {
    let store = SqliteLedger::create(path, Ledger::views())?;
    Ok(Ledger::new(store, "prod", "bench@localhost"))
}

/// The bytes of a ledger of one release, which builds all relations.
fn first_release(world: &World) -> Outcome<f64> {
    let dir = world.fresh("first-release")?;
    let path = dir.join("ledger.sqlite");
    let mut ledger = open(&path)?;
    grow(&mut ledger, SHAPE, 0, 1)?;
    drop(ledger);
    let bytes = fs::metadata(&path)?.len();
    fs::remove_dir_all(&dir)?;
    Ok(bytes as f64)
}

/// The median, in milliseconds.
fn times(mut work: impl FnMut() -> Outcome) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(timed(&mut work)?.0 * 1e3);
    }
    Ok(median(&times))
}
