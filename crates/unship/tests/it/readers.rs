//! Readers that go on all the time see no error and no mixture of releases.

use crate::rig::{Oracle, World, python, rounds, wait_for};
use std::fs;
use std::process::{Child, Command, Stdio};

/// Opens the file anew each time, and reads the release's number from all tables and from the view
/// in one connection, in separate statements with a pause between them.
const READER: &str = "import duckdb, json, os, sys, time
path, go_on, report = sys.argv[1:]
rounds, seen = 0, set()
while os.path.exists(go_on):
    con = duckdb.connect(path, read_only=True)
    numbers = set()
    for table in ['orders', 'customers', 'facts', 'latest']:
        numbers.update(r for (r,) in con.execute(f'select distinct release from {table}').fetchall())
        time.sleep(0.002)
    raw = con.execute('select count(*) from raw_events').fetchone()[0]
    con.close()
    time.sleep(0.01)
    if len(numbers) != 1 or raw < 500:
        sys.exit(f'a mixture after {rounds} rounds: {numbers}, {raw} raw rows')
    seen |= numbers
    rounds += 1
    with open(report + '.new', 'w') as f:
        json.dump([rounds, sorted(seen)], f)
    os.rename(report + '.new', report)
";

struct Reader {
    child: Child,
    report: std::path::PathBuf,
}

impl Reader {
    fn start(world: &World, python: &std::path::Path, number: usize) -> Self {
        let report = world.root.join(format!("reader{number}"));
        let child = Command::new(python)
            .args(["-c", READER])
            .arg(world.db())
            .arg(world.root.join("go-on"))
            .arg(&report)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, report }
    }

    fn report(&self) -> (u64, Vec<i64>) {
        let text = fs::read_to_string(&self.report).unwrap_or_else(|_| "[0, []]".to_owned());
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn readers_see_whole_releases_only() {
    let Some(python) = python() else { return };
    let oracle = Oracle::start(&python);
    let world = World::new(&python);
    world.begin(&oracle);
    world.run("--aside", 1, &[]).ok();
    let late = "insert into raw_events values (1000, 'late')";
    oracle.write(&world.db(), late);
    fs::write(world.root.join("go-on"), "").unwrap();
    let readers = [0, 1].map(|n| Reader::start(&world, &python, n));
    let rounds = rounds("UNSHIP_READER_ROUNDS", 4);
    let mut changes = 0;
    for round in 0..rounds {
        let before = readers.each_ref().map(Reader::report);
        // A release; a way back by rename; a release; a way back of relations, because the loader
        // has written since R0.
        match round % 4 {
            1 => world.unship(&["rollback"]),
            3 => world.unship(&["rollback", "--to", "R0"]),
            _ => world.run("--aside", 2 + round as i64, &[]),
        }
        .ok();
        changes += 1;
        for (reader, before) in readers.iter().zip(before) {
            let text = format!("a reader after change {changes}");
            wait_for(&text, || reader.report().0 > before.0 || ended(reader));
        }
    }
    fs::remove_file(world.root.join("go-on")).unwrap();
    for reader in readers {
        let (times, releases) = reader.report();
        let output = reader.child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        assert!(
            times >= changes && releases.len() > 1,
            "{times}: {releases:?}"
        );
        println!("{changes} changes, read {times} times, releases {releases:?}");
    }
    world.check_healthy();
}

/// A reader that is gone will say so at the end.
fn ended(reader: &Reader) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", reader.child.id()));
    stat.is_ok_and(|text| text.contains(") Z "))
}

/// Writes a row as soon as nobody is in the way, again and again, and says how many it wrote.
const LOADER: &str = "import duckdb, os, sys, time
path, go_on = sys.argv[1:]
written = 0
while os.path.exists(go_on):
    try:
        con = duckdb.connect(path)
        con.execute(f'insert into raw_events values ({100000 + written}, \\'loaded\\')')
        con.close()
        written += 1
        time.sleep(0.05)
    except duckdb.IOException as error:
        if 'lock' not in str(error):
            raise
print(written)
";

#[test]
fn a_loader_that_waits_for_its_turn_loses_no_row() {
    let Some(python) = python() else { return };
    let oracle = Oracle::start(&python);
    let world = World::new(&python);
    world.begin(&oracle);
    world.run("--aside", 1, &[]).ok();
    fs::write(world.root.join("go-on"), "").unwrap();
    let loader = Command::new(&python)
        .args(["-c", LOADER])
        .arg(world.db())
        .arg(world.root.join("go-on"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut release = 1;
    for round in 0..rounds("UNSHIP_READER_ROUNDS", 4) {
        let back = round % 3 == 2;
        wait_for("a moment to begin", || {
            let ran = if back {
                world.unship(&["rollback"])
            } else {
                world.run("--aside", release + 1, &[])
            };
            // 71: the loader was writing.
            assert!(matches!(ran.code, Some(0 | 71)), "{ran}");
            ran.code == Some(0)
        });
        release += i64::from(!back);
    }
    fs::remove_file(world.root.join("go-on")).unwrap();
    let output = loader.wait_with_output().unwrap();
    assert!(output.status.success());
    let written: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap();
    let seen = oracle.look(&world.db()).unwrap();
    assert_eq!(seen.rows["raw_events"], 500 + written);
    assert!(written > 0);
    println!("{written} rows were loaded meanwhile");
    assert_eq!(world.unship(&["resume"]).code, Some(75));
    world.check_healthy();
}
