//! DuckDB's own Iceberg extension as the job, as the others who write and as a reader, beside
//! pyiceberg as the second one. `make test-all` runs it, with the catalog of `scripts/rest-catalog`.

use super::lake::Lake;
use super::support::{Output, repository};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

impl Lake {
    fn duckdb(&self, args: &[&str]) -> Vec<String> {
        let script = repository().join("crates/unship/tests/it/rig/duck_lake.py");
        let command = [self.python.clone(), script.display().to_string()];
        let args = args.iter().map(|arg| (*arg).to_owned());
        command.into_iter().chain(args).collect()
    }

    /// A guarded job that carries out statements in DuckDB.
    fn run_in_duckdb(&self, statements: &[&str]) -> Output {
        let job = self.duckdb(&[&["do"], statements].concat());
        let job: Vec<&str> = job.iter().map(String::as_str).collect();
        self.scratch.unship(&[&["run", "--"], &*job].concat())
    }

    /// The tables as a new session of DuckDB reads them, and pyiceberg the same.
    fn shown_to_both(&self) -> Value {
        let show = self.duckdb(&["show"]);
        let args: Vec<&str> = show.iter().skip(1).map(String::as_str).collect();
        let to_duckdb: Value = serde_json::from_str(&self.scratch.sh(&show[0], &args)).unwrap();
        let mut to_pyiceberg = self.show();
        for (_, table) in to_pyiceberg.as_object_mut().unwrap() {
            let table = table.as_object_mut().unwrap();
            table.retain(|key, _| key == "columns" || key == "rows");
        }
        assert_eq!(to_duckdb, to_pyiceberg, "two readers");
        to_duckdb
    }
}

/// A session of DuckDB that lives as long as the test.
struct Session {
    child: Child,
    asks: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn begin(lake: &Lake) -> Self {
        let command = lake.duckdb(&["session"]);
        let mut child = lake.scratch.command(&command[0]);
        child.args(&command[1..]);
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            asks,
            answers,
        }
    }

    fn ask(&mut self, statement: &str) -> Value {
        writeln!(self.asks.as_mut().unwrap(), "{statement}").unwrap();
        serde_json::from_str(&self.answers.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It ends with its input.
        self.asks = None;
        let _ = self.child.wait();
    }
}

const ORDERS: &str = "SELECT * FROM orders ORDER BY id";

/// Rows change and go, by deletes that lie beside the data, and tables come, in one transaction of
/// DuckDB's. A session that has read the bad rows finds the good ones after the rollback.
#[test]
#[ignore = "needs a REST catalog: scripts/rest-catalog run"]
fn what_duckdb_wrote_goes_back_and_forth() {
    let Some(lake) = Lake::new("duckdb") else {
        return;
    };
    lake.run_in_duckdb(&[
        "CREATE TABLE orders (id BIGINT, value BIGINT)",
        "INSERT INTO orders SELECT n, n * 10 FROM range(1, 6) t(n)",
        "CREATE TABLE customers (id BIGINT, name VARCHAR)",
        "INSERT INTO customers VALUES (1, 'Ana'), (2, 'Bo')",
    ])
    .says(0, &["R1 is production: 2 relations changed"]);
    let mut session = Session::begin(&lake);
    let good = session.ask(ORDERS);
    let r1 = lake.shown_to_both();
    assert_eq!(good, r1["orders"]["rows"]);

    lake.run_in_duckdb(&[
        "BEGIN",
        "DELETE FROM orders WHERE id > 3",
        "UPDATE orders SET value = -1 WHERE id = 1",
        "INSERT INTO customers VALUES (3, 'Cy')",
        "CREATE TABLE more AS SELECT 8::BIGINT AS id",
        "COMMIT",
    ])
    .says(0, &["R2 is production: 3 relations changed"]);
    let r2 = lake.shown_to_both();
    let bad = serde_json::json!([[1, -1], [2, 20], [3, 30]]);
    assert_eq!(r2["orders"]["rows"], bad);
    assert_eq!(session.ask(ORDERS), bad);

    lake.scratch.ok(&["rollback"]);
    assert_eq!(lake.shown_to_both(), r1);
    assert_eq!(session.ask(ORDERS), good, "a session that saw the bad rows");
    lake.scratch.ok(&["verify"]);
    lake.scratch.ok(&["undo"]);
    assert_eq!(lake.shown_to_both(), r2);
    lake.scratch.ok(&["redo"]);
    assert_eq!(lake.shown_to_both(), r1);

    // The same session writes now, to a table that would change.
    session.ask("INSERT INTO orders VALUES (100, 1000)");
    let written = lake.shown_to_both();
    lake.scratch
        .unship(&["undo"])
        .says(73, &["others wrote to", "orders"]);
    assert_eq!(lake.shown_to_both(), written);
    lake.scratch.ok(&["undo", "--others", "set-aside"]);
    assert_eq!(lake.shown_to_both(), r2);
    assert!(lake.kept("orders").contains(&100), "it lies under a tag");
    lake.scratch.ok(&["redo"]);
    assert_eq!(lake.shown_to_both(), written);
    lake.scratch.ok(&["verify"]);
    lake.scratch.ok(&["fsck"]);
}
