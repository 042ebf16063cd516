//! How long reading takes in a long history: `cargo bench -p unship-core --bench history --
//! [releases] [relations] [file]`. A file that is there is grown and kept; without one a temporary
//! one is used.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;
use unship_core::ident::ReleaseId;
use unship_core::ledger::SqliteLedger;
use unship_core::log::Ledger;
use unship_core::testing::long::{Shape, grow};

/// Each is measured so often, and the median is printed.
const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo adds an argument of its own; without it this is a test run, which measures nothing.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let given: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let number = |i: usize, default: u64| given.get(i).map_or(Ok(default), |text| text.parse());
    let (releases, relations) = (number(0, 100_000)?, number(1, 1_000)?);
    let dir = tempfile::tempdir()?;
    let path = given
        .get(2)
        .map_or_else(|| dir.path().join("ledger"), PathBuf::from);
    let shape = Shape {
        relations,
        changes: 5,
    };

    let mut ledger = open(&path)?;
    let from = ledger.history(|h| h.next_id())?.0;
    let began = Instant::now();
    grow(&mut ledger, shape, from, releases)?;
    println!(
        "{} releases appended in {:.1} s",
        releases.saturating_sub(from),
        began.elapsed().as_secs_f64()
    );
    drop(ledger);
    let bytes = std::fs::metadata(&path)?.len();
    println!(
        "{releases} releases of {relations} relations, {} changed by each: {} MB, {} bytes a release",
        shape.changes,
        bytes >> 20,
        bytes / releases.max(1)
    );
    measure("open, what is live", || {
        open(&path)?.history(|h| h.live("prod").map(drop))?;
        Ok(())
    })?;
    measure("open, the newest 50 releases", || {
        open(&path)?.history(|h| h.releases("prod", None, 50).map(drop))?;
        Ok(())
    })?;
    for id in [ReleaseId(releases / 2), ReleaseId(releases - 1)] {
        measure(&format!("open, the map of {id}"), || {
            open(&path)?.history(|h| h.map(id).map(drop))?;
            Ok(())
        })?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Ledger, Box<dyn Error>> {
    let store = SqliteLedger::create(path, Ledger::views())?;
    Ok(Ledger::new(store, "prod", "anna"))
}

fn measure(
    what: &str,
    mut work: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        work()?;
        times.push(began.elapsed());
    }
    times.sort();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{what}: {:.2} ms", median.as_secs_f64() * 1e3);
    Ok(())
}
