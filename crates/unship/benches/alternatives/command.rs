//! What answering costs: `unship status` as a whole process, and the start of the worker. The
//! alternative is to ask DuckDB from Python.

use crate::measure::{Outcome, World, median, run, timed};
use crate::overhead::project;
use crate::report::Row;
use unship_engines::duckdb::worker::{Open, find_python};

const ROUNDS: usize = 21;

/// Measures both.
pub fn measure(world: &World) -> Outcome<Vec<Row>> {
    let dir = project(world, "command")?;
    run(world.unship(&dir, &["--json", "run", "--", "dbt", "build"]))?;
    let ask = "import duckdb; duckdb.connect('shop.duckdb', read_only=True).execute('select count(*) from marts.mart_daily_revenue').fetchall()";
    let hello = "import duckdb; duckdb.connect().execute('select 1').fetchall()";
    let (mut status, mut asked) = (Vec::new(), Vec::new());
    let (mut worker, mut python) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        status.push(timed(|| run(world.unship(&dir, &["status"])))?.0 * 1e3);
        asked.push(timed(|| run(world.python(&dir, &["-c", ask])))?.0 * 1e3);
        let (took, _) = timed(|| {
            let mut worker = find_python(None, Some(&world.python))?.worker;
            worker.open(&Open::default())?;
            Ok(worker.texts("SELECT '1'", &[])?)
        })?;
        worker.push(took * 1e3);
        python.push(timed(|| run(world.python(&dir, &["-c", hello])))?.0 * 1e3);
    }
    crate::measure::remove(&dir)?;
    Ok(vec![
        Row::alone("unship status", "ms", median(&status))
            .beside("opening the file with DuckDB from Python", median(&asked))
            .at_most(20.0),
        Row::alone(
            "worker, from its start to its first answer",
            "ms",
            median(&worker),
        )
        .beside("the same query from a Python script", median(&python)),
    ])
}
