//! The undo log: what writing changes down costs whoever writes, against nothing and against copying
//! the table first; and taking a change back against making it.
//!
//! Costs are the processor time of the server's own process, where the system tells it, and
//! otherwise time as it passes.

use crate::measure::{Outcome, World, median, run, timed};
use crate::postgres::Shop;
use crate::report::Row;
use postgres::Client;
use std::fs;

/// How often each is measured.
const ROUNDS: i64 = 5;

const MAKE: &str =
    "(id bigint PRIMARY KEY, customer int, day date, amount numeric(10, 2), note text)";

const ROWS: &str = "SELECT i, i % 1000, date '2026-01-01' + (i % 300)::int, i * 1.25, 'note ' || i";

/// Measures all of it, and tells it when it is done.
pub fn measure(world: &World, tell: &dyn Fn(&str, Vec<Row>) -> Outcome) -> Outcome {
    let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") else {
        return Ok(());
    };
    let shop = Shop::new(world, &server, "bench_undo")?;
    let path = shop.dir.join("unship.toml");
    let text = fs::read_to_string(&path)? + "undo_log = [\"m.logged\"]\n";
    fs::write(&path, text)?;
    let mut client = shop.client()?;
    for name in ["plain", "logged"] {
        client.batch_execute(&format!(
            "CREATE TABLE m.{name} {MAKE}; INSERT INTO m.{name} {ROWS} FROM generate_series(1, 1000000) i"
        ))?;
        client.batch_execute(&format!("VACUUM ANALYZE m.{name}"))?;
    }
    run(world.unship(&shop.dir, &["undo-log", "sync"]))?;
    let mut rows = Vec::new();
    let copy = "CREATE TABLE m.copy (LIKE m.plain INCLUDING ALL); INSERT INTO m.copy SELECT * FROM m.plain";
    let copied = cost(&mut client, copy)?;
    for (what, most, statement) in OPERATIONS {
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for (took, name) in took.iter_mut().zip(["plain", "logged"]) {
                took.push(cost(&mut client, &statement(name, round))?);
            }
        }
        let [plain, logged] = took.map(|took| median(&took));
        let logged_row = |what: String| Row::alone(what, "ms", logged * 1e3);
        rows.push(
            logged_row(format!("{what} of 1 million, written down"))
                .beside("without an undo log", plain * 1e3)
                .within(most),
        );
        rows.push(
            logged_row(format!("{what} of 1 million, written down"))
                .beside("copying the table first", (plain + copied) * 1e3)
                .times(1.0),
        );
    }
    rows.extend(back(world, &shop)?);
    drop(client);
    shop.drop(world, &server)?;
    tell("Tables that are written where they stand", rows)
}

/// What is done, what it may cost with an undo log, and how, in a table and a round.
type Operation = (&'static str, f64, fn(&str, i64) -> String);

const OPERATIONS: [Operation; 3] = [
    ("insert 100,000 rows", 1.2, |name, round| {
        let from = 2_000_000 + round * 100_000;
        let to = from + 99_999;
        format!("INSERT INTO m.{name} {ROWS} FROM generate_series({from}, {to}) i")
    }),
    ("update 100,000 rows", 1.5, |name, round| {
        format!("UPDATE m.{name} SET amount = amount + 1 WHERE id % 10 = {round} AND id <= 1000000")
    }),
    ("delete 50,000 rows", 1.5, |name, round| {
        format!("DELETE FROM m.{name} WHERE id % 20 = 10 + {round} AND id <= 1000000")
    }),
];

/// Takes an update of 100,000 rows among a million back, against making it, with an undo log and
/// without.
fn back(world: &World, shop: &Shop) -> Outcome<Vec<Row>> {
    let mut client = shop.client()?;
    let (mut plain, mut made, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    let update = |name| {
        format!("UPDATE m.{name} SET amount = amount + 1 WHERE id % 10 = 7 AND id <= 1000000")
    };
    for _ in 0..ROUNDS {
        for (took, name) in [(&mut plain, "plain"), (&mut made, "logged")] {
            took.push(timed(|| Ok(client.batch_execute(&update(name))?))?.0);
        }
        let script = format!("psql -X -q -c '{}' '{}'", update("logged"), shop.address);
        let job = ["--json", "run", "--in-place", "--", "sh", "-c", &script];
        run(world.unship(&shop.dir, &job))?;
        let rollback = ["--json", "rollback", "--no-verify"];
        let document = crate::measure::run_json(world.unship(&shop.dir, &rollback))?;
        let took = document
            .get("milliseconds")
            .and_then(serde_json::Value::as_f64);
        taken.push(took.ok_or_else(|| format!("no milliseconds in {document}"))?);
    }
    let row = || {
        Row::alone(
            "take back an update of 100,000 rows among 1 million",
            "ms",
            median(&taken),
        )
    };
    Ok(vec![
        row()
            .beside("the update itself, written down", median(&made) * 1e3)
            .within(3.0),
        row().beside(
            "the update itself, without an undo log",
            median(&plain) * 1e3,
        ),
    ])
}

/// The processor time that a statement takes, in seconds.
fn cost(client: &mut Client, statement: &str) -> Outcome<f64> {
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])?
        .try_get(0)?;
    let before = processor(pid);
    let (passed, ()) = timed(|| Ok(client.batch_execute(statement)?))?;
    Ok(match (before, processor(pid)) {
        (Some(before), Some(after)) => after - before,
        _ => passed,
    })
}

/// The processor time of a process until now, in seconds; none where the system does not tell.
fn processor(pid: i32) -> Option<f64> {
    let nanoseconds = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds: f64 = nanoseconds.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
