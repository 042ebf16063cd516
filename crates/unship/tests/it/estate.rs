//! One environment of two engines: a DuckDB file, and a PostgreSQL database that is made from it. One
//! job writes both, one command takes both back, and nobody ever sees the database ahead of the file.

use crate::support::warehouse::Warehouse;
use crate::support::{Output, Scratch, Tools, tools};
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Writes its number into a table of each member.
const JOB: &str = r#"
set -eu
"$PYTHON" -c 'import duckdb, sys
c = duckdb.connect(sys.argv[1])
c.execute("CREATE OR REPLACE TABLE orders AS SELECT unnest(range(10)) AS id, " + sys.argv[2] + " AS n")
' "$UNSHIP_LAKE_DATABASE" "$1"
[ "${2:-}" != half ]
if [ "${2:-}" = where ]; then psql -Xqc "UPDATE marts.revenue SET n = $1"; exit; fi
psql -Xqc "CREATE TABLE $UNSHIP_MARTS_SCHEMA.revenue AS SELECT $1 AS n"
[ "${2:-}" != bad ]
"#;

struct Estate {
    at: Warehouse,
    python: String,
}

impl Estate {
    fn new(tools: &Tools) -> Option<Self> {
        let mut at = Warehouse::new(tools, [("job.sh", JOB)])?;
        let python = tools.python.display().to_string();
        at.scratch.set("PYTHON", &python);
        at.sql("CREATE SCHEMA marts; CREATE SCHEMA raw; CREATE TABLE raw.clicks (n int)");
        let database = at.ask("SELECT current_database()");
        at.scratch.write(
            "unship.toml",
            format!(
                "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"estate\"\n\
                 reads = {{ marts = [\"lake\"] }}\n\n\
                 [env.prod.member.lake]\nengine = \"duckdb\"\npath = \"lake.duckdb\"\n\n\
                 [env.prod.member.marts]\nengine = \"postgres\"\n\
                 connection = \"dbname={database}\"\nschemas = [\"marts\"]\n"
            ),
        );
        Some(Self { at, python })
    }

    fn run(&self, n: i64, how: &[&str]) -> Output {
        let n = n.to_string();
        let job = ["run", "--aside", "--", "sh", "job.sh", &n];
        self.at.scratch.unship(&[&job, how].concat())
    }

    /// What somebody finds who reads the file, and then the database.
    fn shown(&self) -> (String, String) {
        let read = "import duckdb; print(duckdb.connect('lake.duckdb', read_only=True)\
                    .execute('SELECT max(n) FROM orders').fetchone()[0])";
        let lake = self.at.scratch.sh(&self.python, &["-c", read]);
        let marts = self.at.ask("SELECT n FROM marts.revenue");
        (lake.trim().to_owned(), marts)
    }

    #[track_caller]
    fn shows(&self, lake: i64, marts: i64) {
        assert_eq!(self.shown(), (lake.to_string(), marts.to_string()));
    }
}

/// A program that works beside the test, and ends with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already, or it goes now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_release_of_two_engines_goes_back_and_forth() {
    let Some(tools) = tools() else { return };
    let Some(estate) = Estate::new(&tools) else {
        return;
    };
    let scratch = &estate.at.scratch;
    // The entry of a release goes with the change of the member that holds the ledger.
    let text = scratch.read("unship.toml");
    let text = text.replace("reads = ", "ledger = \"marts\"\nreads = ");
    scratch.write("unship.toml", text);
    estate
        .run(1, &[])
        .says(0, &["R1 is production: 2 relations changed"]);
    estate
        .run(2, &[])
        .says(0, &["R2 is production: 2 relations changed"]);
    estate.shows(2, 2);

    // A job that fails leaves both as they were, wherever it came to.
    estate
        .run(66, &["half"])
        .says(1, &["R3 failed and never became production"]);
    estate
        .run(66, &["bad"])
        .says(1, &["R4 failed and never became production"]);
    estate.shows(2, 2);

    // Killed between its members: the file is new, and what is made from it still lags behind.
    let mut reader = scratch.command("psql");
    let reader = reader
        .arg("-Xq")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut reader = Running(reader.spawn().unwrap());
    let held = "BEGIN; LOCK TABLE marts.revenue IN ACCESS SHARE MODE;\n";
    let mut typing = reader.0.stdin.take().unwrap();
    typing.write_all(held.as_bytes()).unwrap();
    let mut command = scratch.unship_command(&["run", "--aside", "--", "sh", "job.sh", "5"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let killed = Running(command.spawn().unwrap());
    let since = Instant::now();
    while estate.shown().0 != "5" {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "it never came there"
        );
    }
    drop(killed);
    estate.shows(5, 2);
    scratch
        .unship(&["status"])
        .says(72, &["R5", "lake: ", "marts: "]);
    drop((typing, reader));
    scratch.ok(&["resume"]).says(0, &["R5"]);
    estate.shows(5, 5);
    scratch.ok(&["verify"]).says(0, &["R5"]);

    // Going back, what reads moves before what it reads, and what is not atomic is said.
    scratch.ok(&["plan"]).says(
        0,
        &[
            "not atomic between members: they go back one after the other, marts, then lake",
            "look at 2 members once more",
        ],
    );
    let plan = scratch.json("unship.plan/1", &["--json", "plan"]);
    let steps = plan["plan"]["steps"].as_array().unwrap();
    let changing: Vec<_> = steps
        .iter()
        .filter(|step| step["production"] == true)
        .map(|step| step["action"]["args"]["member"].as_str().unwrap())
        .collect();
    assert_eq!(changing, ["marts", "lake"]);
    scratch.ok(&["rollback"]);
    estate.shows(2, 2);
    scratch.ok(&["verify"]);
    scratch.ok(&["undo"]);
    estate.shows(5, 5);

    // One member alone, by a selection.
    scratch.ok(&["rollback", "--to", "R1", "--select", "revenue"]);
    estate.shows(5, 1);
    scratch.ok(&["undo"]);

    // Others wrote meanwhile to what no job owns, in the database.
    estate.at.sql("INSERT INTO raw.clicks VALUES (7)");
    scratch.ok(&["rollback", "--to", "R1"]);
    estate.shows(1, 1);
    assert_eq!(estate.at.ask("SELECT n FROM raw.clicks"), "7");

    scratch.ok(&["gc"]);
    scratch.ok(&["fsck"]);
    scratch.ok(&["log"]).says(0, &["R1", "R5"]);
    scratch.unship(&["doctor"]).says(
        0,
        &[
            "order of members: forward lake, then marts; back the other way",
            "lake: ",
            "marts: ",
            "the moment between two of its members (lake, marts)",
        ],
    );
    scratch.ok(&["audit", "verify"]);
    scratch
        .unship(&["rollback", "--staged"])
        .says(2, &["a rollback in stages is of one warehouse"]);
}

/// A job that works on production itself: the file has a copy of what it was, and the database writes
/// down what changes.
#[test]
fn a_job_in_place_goes_back_in_both() {
    let Some(tools) = tools() else { return };
    let Some(estate) = Estate::new(&tools) else {
        return;
    };
    let scratch = &estate.at.scratch;
    estate.at.sql(
        "CREATE TABLE marts.revenue (id int PRIMARY KEY, n int); \
         INSERT INTO marts.revenue VALUES (1, 0)",
    );
    let in_place = ["run", "--", "sh", "job.sh", "1", "where"];
    scratch.unship(&in_place).says(
        70,
        &[
            "marts: a job that builds in place cannot be taken back in PostgreSQL",
            "`undo_log` of the environment",
        ],
    );
    let text = scratch.read("unship.toml");
    scratch.write("unship.toml", text + "undo_log = [\"marts.revenue\"]\n");
    scratch
        .ok(&in_place)
        .says(0, &["is production: 2 relations changed"]);
    estate.shows(1, 1);
    scratch.ok(&["run", "--", "sh", "job.sh", "2", "where"]);
    estate.shows(2, 2);
    scratch.ok(&["rollback"]);
    estate.shows(1, 1);
    scratch.ok(&["verify"]);
    scratch.ok(&["undo"]);
    estate.shows(2, 2);
}

/// A dbt job builds in the member that its profile means. The other stays as it is.
#[test]
#[ignore = "takes long: a part of `make test-all`"]
fn a_dbt_job_builds_in_the_member_that_its_profile_means() {
    let Some(tools) = tools() else { return };
    let Some(estate) = Estate::new(&tools) else {
        return;
    };
    let scratch = &estate.at.scratch;
    scratch.write(
        "dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
    );
    scratch.write(
        "models/margin.sql",
        "{{ config(materialized='table') }} select 1 as n",
    );
    estate.run(1, &[]).says(0, &["R1 is production"]);
    let text = scratch.read("unship.toml");
    let text = text.replace("[\"marts\"]\n", "[\"marts\", \"analytics\"]\n");
    let text = text.replace("marts = [\"marts\", \"analytics\"]", "marts = [\"lake\"]");
    scratch.write("unship.toml", text);
    let build = ["run", "--", "dbt", "--quiet", "build"];
    scratch
        .ok(&build)
        .says(0, &["R2 is production: 1 relation changed"]);
    scratch.write(
        "models/margin.sql",
        "{{ config(materialized='table') }} select 2 as n",
    );
    scratch
        .ok(&build)
        .says(0, &["R3 is production: 1 relation changed"]);
    let margin = || estate.at.ask("SELECT n FROM analytics.margin");
    assert_eq!(margin(), "2");
    let plan = scratch.json("unship.plan/1", &["--json", "plan"]);
    let steps = plan["plan"]["steps"].as_array().unwrap();
    let all_marts = steps
        .iter()
        .all(|step| step["action"]["args"]["member"] == "marts");
    assert!(all_marts, "{steps:#?}");
    scratch.ok(&["rollback"]);
    assert_eq!(margin(), "1");
    estate.shows(1, 1);
}

/// Writes its number into two files, which have these names in the estate.
const BOTH: &str = r#"
import duckdb, os, sys
for member, table in [("LAKE", "orders"), ("EXTRACT", "top")]:
    with duckdb.connect(os.environ["UNSHIP_" + member + "_DATABASE"]) as file:
        file.execute("CREATE OR REPLACE TABLE " + table + " AS SELECT " + sys.argv[1] + " AS n")
"#;

/// A dbt project in one file that reads another: its manifest puts the two in order. What is said
/// against it counts more.
#[test]
#[ignore = "takes long: a part of `make test-all`"]
fn dbt_tells_which_member_is_made_from_which() {
    let Some(tools) = tools() else { return };
    let scratch = Scratch::new(&tools);
    let config = |reads: &str| {
        format!(
            "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"estate\"\n{reads}\
             [env.prod.member.lake]\nengine = \"duckdb\"\npath = \"lake.duckdb\"\n\
             [env.prod.member.extract]\nengine = \"duckdb\"\npath = \"extract.duckdb\"\n"
        )
    };
    for (path, text) in [
        ("unship.toml", config("").as_str()),
        ("both.py", BOTH),
        (
            "profiles.yml",
            "shop:\n  target: prod\n  outputs:\n    prod:\n      type: duckdb\n      \
             path: extract.duckdb\n      attach: [{path: lake.duckdb, alias: lake, read_only: true}]\n",
        ),
        (
            "dbt_project.yml",
            "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
        ),
        (
            "models/sources.yml",
            "sources:\n- {name: raw, database: lake, schema: main, tables: [{name: orders}]}\n",
        ),
        (
            "models/margin.sql",
            "{{ config(materialized='table') }} select n from {{ source('raw', 'orders') }}",
        ),
    ] {
        scratch.write(path, text);
    }
    let night = |n: &str| {
        let python = tools.python.display().to_string();
        scratch.ok(&["run", "--aside", "--", &python, "both.py", n]);
    };
    night("1");
    // By their names the extract would be first, which is made from the lake.
    scratch
        .ok(&["doctor"])
        .says(0, &["of extract and lake it is not said whether one reads"]);
    scratch
        .ok(&["run", "--", "dbt", "--quiet", "build"])
        .says(0, &["R2 is production: 1 relation changed"]);
    night("3");
    let says = "extract reads lake (model.shop.margin reads source.shop.raw.orders)";
    scratch
        .ok(&["doctor"])
        .says(0, &["forward lake, then extract; back the other way", says]);
    scratch.ok(&["plan"]).says(
        0,
        &["they go back one after the other, extract, then lake", says],
    );
    scratch.ok(&["rollback"]);

    scratch.write("unship.toml", config("reads = { lake = [\"extract\"] }\n"));
    let against = "`reads` says the opposite, and counts";
    scratch
        .ok(&["plan", "--to", "R3"])
        .says(0, &["lake reads extract (`reads`)", says, against]);
    scratch.unship(&["doctor"]).says(0, &[against]);
}
