//! A database without dbt: a project is one file and a script.

use super::{Scratch, Tools};
use std::io::Read;
use std::process::{Child, Stdio};

const RUN: &str = "import duckdb, sys\n\
    con = duckdb.connect(sys.argv[1])\n\
    for statement in sys.argv[2:]:\n\
    \trows = con.execute(statement).fetchall()\n\
    print(rows[0][0] if rows else '')";

/// An empty project that guards `lab.duckdb`, which does not exist yet.
pub fn empty(tools: &Tools) -> Scratch {
    let lab = Scratch::new(tools);
    lab.ok(&["init", "--database", "lab.duckdb"]);
    lab.only_tell();
    lab
}

/// The same with a table that a loader fills (`raw`) and one that a job built (`mart`): R1 is live.
pub fn new(tools: &Tools) -> Scratch {
    let lab = empty(tools);
    sql(
        &lab,
        "lab.duckdb",
        &["create table raw as select range as id from range(100)"],
    );
    lab.write("job.py", JOB);
    job(
        &lab,
        "create table mart as select sum(id) as total, 1 as release from raw",
    );
    lab
}

const JOB: &str = "import duckdb, os, sys\n\
    con = duckdb.connect(os.environ['UNSHIP_DATABASE'])\n\
    for statement in sys.argv[1:]:\n\
    \tcon.execute(statement)\n";

/// Guards a job of one statement, built aside.
pub fn job(lab: &Scratch, statement: &str) {
    lab.ok(&["run", "--aside", "--", "python", "job.py", statement]);
}

/// Runs statements in a connection of its own; the first value of the last.
pub fn sql(lab: &Scratch, database: &str, statements: &[&str]) -> String {
    let mut args = vec!["-c", RUN, database];
    args.extend(statements);
    lab.sh("python", &args).trim().to_owned()
}

/// A program that has a database open until it is dropped.
pub struct Held(Child);

impl Held {
    /// Opens it and runs statements; returns when they are done.
    pub fn open(lab: &Scratch, program: &str, database: &str, statements: &[&str]) -> Self {
        let script = "import duckdb, sys, time\n\
            con = duckdb.connect(sys.argv[1])\n\
            for statement in sys.argv[2:]:\n\
            \tcon.execute(statement)\n\
            print('ready', flush=True)\n\
            time.sleep(600)";
        let mut child = lab
            .command(program)
            .args(["-c", script, database])
            .args(statements)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .expect("the database is held");
        Self(child)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Held {
    /// Killed, so that its write-ahead log stays behind.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
