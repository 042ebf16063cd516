//! The three, a job that writes them one from the other, and somebody who looks at all of them.

use crate::rig::line::{End, Line};
use crate::support::warehouse::Warehouse;
use crate::support::{Output, Tools, repository, tools};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use unship_core::testing::skipped;

/// Every member is made from what the one before has, not from the number.
const JOB: &str = r#"
set -eu
n=$("$LAKE_PYTHON" "$NIGHT" write "$1")
psql -Xqc "CREATE TABLE $UNSHIP_MARTS_SCHEMA.revenue AS SELECT $n AS n"
m=$(psql -XqAtc "SELECT n FROM $UNSHIP_MARTS_SCHEMA.revenue")
"$PYTHON" -c 'import duckdb, sys
c = duckdb.connect(sys.argv[1])
c.execute("CREATE OR REPLACE TABLE top AS SELECT " + sys.argv[2] + " AS n")
' "$UNSHIP_EXTRACT_DATABASE" "$m"
"#;

/// Reads the extract for each line that comes in; while unship renames it, it may be locked.
const READ_EXTRACT: &str = r#"
import duckdb, sys, time
for line in sys.stdin:
    for _ in range(500):
        try:
            with duckdb.connect("extract.duckdb", read_only=True) as file:
                print(file.execute("SELECT max(n) FROM top").fetchone()[0], flush=True)
            break
        except duckdb.IOException:
            time.sleep(0.01)
    else:
        print("-1", flush=True)
"#;

pub struct Three {
    pub at: Warehouse,
    pub tools: Tools,
    pub lake_python: String,
    pub lake_py: String,
    pub lake: Line,
    pub marts: Line,
}

/// What the three show; of the lake it is two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub lake: (i64, i64),
    pub marts: i64,
    pub extract: i64,
}

impl Shown {
    pub fn all(n: i64) -> Self {
        Self {
            lake: (n, n),
            marts: n,
            extract: n,
        }
    }

    /// A lake's tables go in one commit, and a consumer never is ahead of its source.
    #[track_caller]
    pub fn is_lawful(self, at: &str) {
        let one = self.lake.0 == self.lake.1;
        let lags = self.extract <= self.marts && self.marts <= self.lake.0;
        assert!(one && lags, "{at}: {self:?}");
    }
}

/// A program that answers a line with a line.
pub struct Served {
    pub child: Child,
    pub ask: ChildStdin,
    pub answers: BufReader<ChildStdout>,
}

impl Served {
    pub fn new(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            ask: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub fn ask(&mut self) -> String {
        writeln!(self.ask).unwrap();
        self.answer()
    }

    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It is gone already, or it goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who looks, and knows nothing of unship.
pub struct Eyes {
    pub lake: Served,
    pub marts: Served,
    pub extract: Served,
}

impl Eyes {
    pub fn lake(&mut self) -> (i64, i64) {
        serde_json::from_str(&self.lake.ask()).unwrap()
    }

    pub fn marts(&mut self) -> i64 {
        writeln!(self.marts.ask, "SELECT n FROM marts.revenue;").unwrap();
        self.marts.answer().parse().unwrap()
    }

    pub fn extract(&mut self) -> i64 {
        let n = self.extract.ask().parse().unwrap();
        assert_ne!(n, -1, "the extract cannot be read");
        n
    }

    pub fn look(&mut self) -> Shown {
        Shown {
            extract: self.extract(),
            marts: self.marts(),
            lake: self.lake(),
        }
    }

    /// Looks while everything moves: a consumer is ahead if it is so before and after its source was
    /// looked at.
    pub fn look_amidst(&mut self) {
        let before = (self.extract(), self.marts());
        let lake = self.lake();
        let after = (self.marts(), self.extract());
        let (extract, marts) = (before.0.min(after.1), before.1.min(after.0));
        assert_eq!(lake.0, lake.1, "the lake's tables go together");
        assert!(marts <= lake.0, "{before:?} {lake:?} {after:?}");
        assert!(extract <= before.1.max(after.0), "{before:?} {after:?}");
    }
}

impl Three {
    pub fn new(name: &str) -> Option<Self> {
        let tools = tools()?;
        let variable = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                skipped(&format!(
                    "{name} is not set: scripts/rest-catalog run sets it"
                ));
            }
            value
        };
        let uri = variable("UNSHIP_TEST_REST_CATALOG")?;
        let token = variable("UNSHIP_TEST_REST_TOKEN")?;
        let lake_python = variable("UNSHIP_TEST_LAKE_PYTHON")?;
        let mut at = Warehouse::new(&tools, [("job.sh", JOB)])?;
        at.sql("CREATE SCHEMA marts; CREATE SCHEMA raw; CREATE TABLE raw.clicks (n int)");
        let database = at.ask("SELECT current_database()");
        let socket = at.ask(
            "SELECT current_setting('unix_socket_directories') || '/.s.PGSQL.' || \
             current_setting('port')",
        );
        let user = at.ask("SELECT current_user");
        let rig = repository().join("crates/unship/tests/it/rig");
        let rig = |name: &str| rig.join(name).display().to_string();
        let namespace = format!("{name}_{}", std::process::id());
        for (variable, value) in [
            ("PYTHON", tools.python.display().to_string()),
            ("LAKE_PYTHON", lake_python.clone()),
            ("NIGHT", rig("night.py")),
            ("LAKE_NAMESPACE", namespace.clone()),
            ("UNSHIP_TEST_REST_CATALOG", uri.clone()),
            ("UNSHIP_TEST_REST_TOKEN", token),
        ] {
            at.scratch.set(variable, value);
        }
        let address = uri.strip_prefix("http://").unwrap().to_owned();
        let lake = Line::to(End::Tcp(address));
        let marts = Line::to(End::Unix(PathBuf::from(socket)));
        at.scratch.write(
            "unship.toml",
            format!(
                "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"estate\"\n\n\
                 [env.prod.reads]\nmarts = [\"lake\"]\nextract = [\"marts\"]\n\n\
                 [env.prod.member.lake]\nengine = \"iceberg\"\nuri = \"http://127.0.0.1:{}\"\n\
                 catalog = \"lake\"\nnamespaces = [\"{namespace}\"]\n\
                 token = {{ env = \"UNSHIP_TEST_REST_TOKEN\" }}\n\n\
                 [env.prod.member.marts]\nengine = \"postgres\"\nschemas = [\"marts\"]\n\
                 connection = \"host=127.0.0.1 port={} user={user} dbname={database}\"\n\n\
                 [env.prod.member.extract]\nengine = \"duckdb\"\npath = \"extract.duckdb\"\n\n\
                 [checks]\nhold = \"never\"\n",
                lake.port, marts.port
            ),
        );
        let three = Self {
            lake_py: rig("lake.py"),
            at,
            tools,
            lake_python,
            lake,
            marts,
        };
        three.others(&json!([["create", "raw", ["id", "value"], [[1, 1]]]]));
        Some(three)
    }

    pub fn eyes(&self) -> Eyes {
        let scratch = &self.at.scratch;
        let mut extract = scratch.command(&self.tools.python);
        extract.args(["-c", READ_EXTRACT]);
        let mut lake = scratch.command(&self.lake_python);
        lake.args([
            &self.lake_py.replace("lake.py", "night.py"),
            &"serve".to_owned(),
        ]);
        let mut marts = scratch.command("psql");
        marts.arg("-XqAt");
        Eyes {
            lake: Served::new(lake),
            marts: Served::new(marts),
            extract: Served::new(extract),
        }
    }

    /// What somebody does to the lake who knows nothing of unship.
    pub fn others(&self, operations: &serde_json::Value) {
        let text = operations.to_string();
        let words = [self.lake_py.as_str(), "do", &text];
        self.at.scratch.sh(&self.lake_python, &words);
    }

    pub fn run(&self, n: i64) -> Output {
        let n = n.to_string();
        let words = ["run", "--aside", "--", "sh", "job.sh", &n];
        self.at.scratch.unship(&words)
    }

    pub fn two_nights(&self) {
        for n in 1..=2 {
            let says = format!("R{n} is production: 4 relations changed");
            self.run(n).says(0, &[&says]);
        }
    }

    /// Runs a command that dies at a boundary: whether it did, and the boundaries that it came past.
    pub fn dying_at(&self, words: &[&str], at: usize) -> (Output, bool, Vec<String>) {
        let trace = self.at.scratch.path("trace");
        let _ = std::fs::remove_file(&trace);
        let mut command = self.at.scratch.unship_command(words);
        command
            .env("UNSHIP_FAULT_AT", at.to_string())
            .env("UNSHIP_FAULT_TRACE", &trace);
        let output = self.at.scratch.finish(words, command);
        let names = std::fs::read_to_string(&trace).unwrap_or_default();
        let name = |line: &str| Some(line.split_once(' ')?.1.to_owned());
        let names = names.lines().filter_map(name).collect();
        // A process that was killed has no exit code.
        let died = output.code == -1;
        (output, died, names)
    }

    /// Kills it where this is shown, which is looked for from the end.
    pub fn dies_at(&self, walk: &Walk<'_>, shown: Shown, eyes: &mut Eyes) {
        let scratch = &self.at.scratch;
        let (ran, _, names) = self.dying_at(walk.words, usize::MAX);
        assert_eq!(ran.code, 0, "{ran:?}");
        for at in (1..=names.len()).rev() {
            if eyes.look() == Shown::all(walk.new) {
                scratch.ok(walk.restore);
            }
            assert_eq!(eyes.look(), Shown::all(walk.old));
            let (ran, died, _) = self.dying_at(walk.words, at);
            if !died {
                // The first walk had more to look at, and came past more boundaries.
                assert_eq!(ran.code, 0, "{ran:?}");
                continue;
            }
            if eyes.look() == shown {
                return;
            }
            // It may have come to its end.
            let _ = scratch.unship(&["resume"]);
        }
        panic!("{shown:?} is at none of {names:?}");
    }
}

/// One operation that is killed, and how production comes to where it was before.
pub struct Walk<'a> {
    pub words: &'a [&'a str],
    pub old: i64,
    pub new: i64,
    pub restore: &'a [&'a str],
}
