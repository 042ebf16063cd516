//! The published story on the stand-in for Snowflake, by real dbt-snowflake and by a job that is not
//! dbt. `scripts/snowflake-emulator run` starts it; `make test-all` does so. What is believed is what
//! Snowflake's own connector reads, and never what the stand-in says of a statement.

use super::support::{Output, Scratch, Tools, repository};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use unship_core::testing::skipped;

/// A project, and a database of its own.
struct Stand {
    scratch: Scratch,
    python: String,
    job: String,
    database: String,
    url: String,
}

impl Stand {
    fn new() -> Option<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                skipped(&format!(
                    "{name} is not set: scripts/snowflake-emulator run sets it"
                ));
            }
            value
        };
        let url = variable("UNSHIP_TEST_SNOWFLAKE")?;
        let python = variable("UNSHIP_TEST_SNOWFLAKE_PYTHON")?;
        let tools = Tools {
            python: PathBuf::from(&python),
            dbt: PathBuf::from(&python),
        };
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let database = format!("SHOP_{}_{number}", std::process::id());
        let mut scratch = Scratch::new(&tools);
        scratch.set("UNSHIP_TEST_SNOWFLAKE", &url);
        scratch.set("SHOP", &database);
        scratch.set("SHOP_TOKEN", "hunter2");
        let job = repository().join("crates/unship/tests/it/rig/snow.py");
        // The stand-in makes a database when somebody names it.
        Some(Self {
            scratch,
            python,
            job: job.display().to_string(),
            database,
            url,
        })
    }

    fn ask(&self, what: &str, text: &str) -> String {
        self.scratch.sh(&self.python, &[&self.job, what, text])
    }

    /// Everything in a schema, as somebody reads it who knows nothing of unship.
    fn show(&self, schema: &str) -> Value {
        serde_json::from_str(&self.ask("show", schema)).unwrap()
    }

    fn schemas(&self) -> Vec<String> {
        let ask = "SELECT SCHEMA_NAME FROM INFORMATION_SCHEMA.SCHEMATA ORDER BY 1";
        let rows: Vec<[String; 1]> = serde_json::from_str(&self.ask("sql", ask)).unwrap();
        rows.into_iter().map(|[name]| name).collect()
    }

    /// A dbt project whose target names the stand-in, in the way of a private endpoint.
    fn project(&self, models: &[(&str, &str)]) {
        let (host, port) = self.url.rsplit_once(':').unwrap();
        let host = host.trim_start_matches("http://");
        self.scratch.write(
            "profiles.yml",
            format!(
                "shop:\n  target: prod\n  outputs:\n    prod:\n      type: snowflake\n      \
                 account: stand-in\n      user: ana\n      authenticator: oauth\n      \
                 token: \"{{{{ env_var('SHOP_TOKEN') }}}}\"\n      host: {host}\n      \
                 port: {port}\n      protocol: http\n      \
                 database: \"{{{{ env_var('SHOP') | lower }}}}\"\n      schema: analytics\n      \
                 threads: 1\n"
            ),
        );
        self.scratch.write(
            "dbt_project.yml",
            "name: shop\nversion: '1.0'\nprofile: shop\nmodels: {+materialized: table}\n",
        );
        for (name, text) in models {
            self.scratch.write(name, text);
        }
        self.scratch.ok(&["init"]);
    }

    fn build(&self, more: &[&str]) -> Output {
        let mut args = vec!["run", "--", "dbt", "build"];
        args.extend(more);
        self.scratch.unship(&args)
    }

    /// Dies at the n-th boundary of an operation, if it comes so far; the boundaries that it passed.
    fn dies(&self, args: &[&str], at: usize) -> Vec<String> {
        let trace = self.scratch.path("trace");
        // There is none before the first time.
        let _ = std::fs::remove_file(&trace);
        let mut command = self.scratch.unship_command(args);
        command
            .env("UNSHIP_FAULT_AT", at.to_string())
            .env("UNSHIP_FAULT_TRACE", &trace);
        let output = self.scratch.finish(args, command);
        let passed = std::fs::read_to_string(&trace).unwrap();
        let passed: Vec<String> = passed.lines().map(str::to_owned).collect();
        let code = if passed.len() < at { 0 } else { -1 };
        assert_eq!(output.code, code, "{output:?}");
        passed
    }
}

const CUSTOMERS: &str = "select 1 as id, 'ana' as name union all select 2, 'bob'";

const SHOP: &[(&str, &str)] = &[
    ("models/customers.sql", CUSTOMERS),
    (
        "models/orders.sql",
        "{{ config(materialized='incremental', unique_key='id') }}\n\
         select id, 10 * id as amount from {{ ref('customers') }}\n\
         {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}",
    ),
    (
        "models/board.sql",
        "{{ config(materialized='view') }}\nselect c.name, o.amount from {{ ref('customers') }} c \
         join {{ ref('orders') }} o on o.id = c.id",
    ),
    ("seeds/regions.csv", "id,region\n1,north\n2,south\n"),
    (
        "snapshots/history.yml",
        "snapshots:\n  - name: history\n    relation: ref('customers')\n    config: {unique_key: id, \
         strategy: check, check_cols: [name]}\n",
    ),
    (
        "models/schema.yml",
        "models:\n  - name: customers\n    columns: [{name: id, data_tests: [unique, not_null]}]\n",
    ),
];

/// A good release, a bad one, back, forward, a part of it back: after each step what stands there is
/// compared, row by row. A rollback that is killed anywhere is finished or undone by `resume`.
#[test]
#[ignore = "needs the stand-in: scripts/snowflake-emulator run"]
fn the_published_story_plays_with_dbt() {
    let Some(stand) = Stand::new() else { return };
    stand.project(SHOP);
    stand
        .build(&[])
        .says(0, &["R1 is production: 5 relations changed"]);
    let first = stand.show("ANALYTICS");
    assert_eq!(first["ORDERS"]["rows"], json!([["1", "10"], ["2", "20"]]));
    assert_eq!(
        first["BOARD"]["rows"],
        json!([["ana", "10"], ["bob", "20"]])
    );

    // One value is wrong, a row comes, and the incremental model goes on from what it had.
    let bad = "select 1 as id, 'ANA' as name union all select 2, 'bob' union all select 3, 'eve'";
    stand.scratch.write("models/customers.sql", bad);
    stand.build(&[]).says(0, &["R2 is production"]);
    let second = stand.show("ANALYTICS");
    assert_eq!(
        second["ORDERS"]["rows"],
        json!([["1", "10"], ["2", "20"], ["3", "30"]])
    );
    assert_eq!(second["HISTORY"]["rows"].as_array().unwrap().len(), 4);
    assert_ne!(first, second);

    stand
        .scratch
        .ok(&["plan"])
        .says(0, &["SWAP WITH", "not atomic"]);
    stand.scratch.ok(&["rollback"]);
    assert_eq!(stand.show("ANALYTICS"), first);
    stand.scratch.ok(&["redo"]);
    assert_eq!(stand.show("ANALYTICS"), second);
    stand.scratch.ok(&["verify"]);
    stand
        .scratch
        .ok(&["rollback", "--to", "R1", "--select", "orders"]);
    let mut part = second.clone();
    part["ORDERS"] = first["ORDERS"].clone();
    part["BOARD"] = first["BOARD"].clone();
    part["BOARD"]["rows"] = json!([["ANA", "10"], ["bob", "20"]]);
    assert_eq!(stand.show("ANALYTICS"), part);
    stand.scratch.ok(&["undo"]);
    assert_eq!(stand.show("ANALYTICS"), second);
    let diff = stand.scratch.ok(&["diff", "R1", "R2"]);
    diff.says(0, &["ANALYTICS.ORDERS", "added"]);
    stand.scratch.ok(&["status"]);
    stand
        .scratch
        .ok(&["show", "R2"])
        .says(0, &["statements of unship"]);
    stand.scratch.ok(&["gc"]);
    stand.scratch.ok(&["fsck"]);
    let doctor = stand.scratch.unship(&["doctor"]);
    assert!(doctor.stdout.contains("preview"), "{doctor:?}");

    // Once without dying, to know where it exchanges tables.
    let ways: [(&[&str], &Value); 2] = [
        (&["rollback", "--to", "R1"], &first),
        (&["rollback", "--to", "R2"], &second),
    ];
    let passed = stand.dies(ways[0].0, usize::MAX);
    let exchanged = |boundary: &String| boundary.ends_with("tables exchanged");
    let all: Vec<usize> = (1..=passed.len())
        .filter(|n| exchanged(&passed[n - 1]))
        .collect();
    assert!(all.len() >= 3, "{passed:?}");
    let between = [3, all[0], all[1] - 1, all[2] + 1, passed.len()];
    for (at, (args, target)) in between.into_iter().zip(ways.iter().cycle().skip(1)) {
        let there = stand.show("ANALYTICS");
        let passed = stand.dies(args, at);
        // Where nothing was begun, there is nothing to resume.
        stand.scratch.unship(&["resume"]);
        let now = stand.show("ANALYTICS");
        assert!(
            now == there || now == **target,
            "{passed:?}: a mixture: {now}"
        );
        let status = stand.scratch.ok(&["status"]);
        status.says(0, &["nothing is running"]);
        if now != **target {
            stand.scratch.ok(args);
        }
        assert_eq!(stand.show("ANALYTICS"), **target, "{passed:?}");
        stand.scratch.ok(&["verify"]);
    }
}

/// A failed build never becomes production, and what would escape is refused before anything runs.
#[test]
#[ignore = "needs the stand-in: scripts/snowflake-emulator run"]
fn what_fails_or_escapes_leaves_production_alone() {
    let Some(stand) = Stand::new() else { return };
    stand.project(&[("models/customers.sql", CUSTOMERS)]);
    stand.build(&[]).says(0, &["R1 is production"]);
    let first = stand.show("ANALYTICS");
    stand
        .scratch
        .write("models/broken.sql", "select * from nowhere.at_all");
    stand
        .build(&[])
        .says(1, &["R2 failed and never became production"]);
    stand.scratch.write("models/broken.sql", "select 1 as id");
    for (config, says) in [
        (
            "materialized='dynamic_table', target_lag='1 hour', snowflake_warehouse='w'",
            "is a dynamic table, which cannot be exchanged",
        ),
        ("table_format='iceberg'", "is an Iceberg table"),
        (
            "database='elsewhere'",
            "is built in another database than SHOP",
        ),
    ] {
        let model = format!("{{{{ config({config}) }}}}\nselect 1 as id");
        stand.scratch.write("models/odd.sql", model);
        stand.build(&[]).says(73, &[says, "--exclude"]);
    }
    // Left out, it is nobody's business.
    stand
        .build(&["--exclude", "odd", "broken"])
        .says(0, &["is production"]);
    assert_eq!(stand.show("ANALYTICS"), first);
    let staging = |name: &String| name.starts_with("UNSHIP_BUILD");
    assert!(
        !stand.schemas().iter().any(staging),
        "{:?}",
        stand.schemas()
    );
    // The token is in no file of the project but its owner's.
    let kept = stand.scratch.path(".unship");
    let found = stand
        .scratch
        .command("grep")
        .args(["-rl", "hunter2"])
        .arg(kept)
        .output();
    assert!(found.unwrap().stdout.is_empty());
}

/// A project that quotes its names has them as they are written, and staging follows.
#[test]
#[ignore = "needs the stand-in: scripts/snowflake-emulator run"]
fn names_in_quotes_keep_their_case() {
    let Some(stand) = Stand::new() else { return };
    stand.project(&[
        (
            "models/orders.sql",
            "{{ config(alias='Best Orders') }}\nselect 1 as id",
        ),
        (
            "models/seen.sql",
            "{{ config(materialized='view', schema='Own') }}\nselect * from {{ ref('orders') }}",
        ),
    ]);
    let project = stand.scratch.read("dbt_project.yml");
    let quoting = "quoting: {schema: true, identifier: true}\n";
    stand.scratch.write("dbt_project.yml", project + quoting);
    stand
        .build(&[])
        .says(0, &["R1 is production: 2 relations changed"]);
    let one = json!({"columns": ["ID"], "rows": [["1"]]});
    assert_eq!(stand.show("analytics"), json!({"Best Orders": one}));
    assert_eq!(stand.show("analytics_Own"), json!({"seen": one}));
    stand.scratch.write(
        "models/orders.sql",
        "{{ config(alias='Best Orders') }}\nselect 2 as id",
    );
    stand.build(&[]).says(0, &["R2 is production"]);
    stand.scratch.ok(&["rollback"]);
    assert_eq!(stand.show("analytics"), json!({"Best Orders": one}));
    assert_eq!(stand.show("analytics_Own"), json!({"seen": one}));
}

/// A script finds where to build in its environment.
#[test]
#[ignore = "needs the stand-in: scripts/snowflake-emulator run"]
fn a_job_that_is_not_dbt_builds_aside() {
    let Some(stand) = Stand::new() else { return };
    stand.scratch.write(
        "unship.toml",
        format!(
            "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"snowflake\"\n\
             account = \"stand-in\"\nurl = \"{}\"\ndatabase = \"{}\"\nschemas = [\"marts\"]\n\
             oauth_token = {{ env = \"SHOP_TOKEN\" }}\n",
            stand.url,
            stand.database.to_lowercase(),
        ),
    );
    stand.ask("sql", "CREATE SCHEMA MARTS");
    let both = |n: &str| {
        let one = json!({"columns": ["ID"], "rows": [[n]]});
        json!({"LEFT": one, "RIGHT": one})
    };
    for (n, release) in [("1", "R1"), ("2", "R2")] {
        let job = [
            "run",
            "--aside",
            "--",
            &stand.python,
            &stand.job,
            "build",
            n,
        ];
        stand
            .scratch
            .ok(&job)
            .says(0, &[&format!("{release} is production")]);
        assert_eq!(stand.show("MARTS"), both(n));
    }
    stand.scratch.ok(&["rollback"]);
    assert_eq!(stand.show("MARTS"), both("1"));
    stand.scratch.ok(&["undo"]);
    assert_eq!(stand.show("MARTS"), both("2"));
}

/// dbt works on production itself: what it replaced comes back, whether it failed or was good, and
/// unship may die while it takes the restore point.
#[test]
#[ignore = "needs the stand-in: scripts/snowflake-emulator run"]
fn a_job_in_place_is_taken_back() {
    let Some(stand) = Stand::new() else { return };
    stand.project(SHOP);
    stand.build(&[]).says(0, &["R1 is production"]);
    let first = stand.show("ANALYTICS");
    let other = "select 1 as id, 'ANA' as name union all select 3, 'eve'";
    stand.scratch.write("models/customers.sql", other);
    let one = ["run", "--in-place", "--", "dbt", "run", "-s", "customers"];
    let passed = stand.dies(&one, usize::MAX);
    let second = stand.show("ANALYTICS");
    assert_ne!(second["CUSTOMERS"], first["CUSTOMERS"]);
    assert_eq!(second["ORDERS"], first["ORDERS"]);
    // What the job did not touch needs no copy.
    let retained = stand.show("UNSHIP_R1_ANALYTICS");
    assert_eq!(retained["CUSTOMERS"], first["CUSTOMERS"]);
    assert_eq!(retained["ORDERS"], Value::Null, "{retained}");

    stand.scratch.ok(&["rollback"]);
    assert_eq!(stand.show("ANALYTICS"), first);
    stand.scratch.ok(&["redo"]);
    assert_eq!(stand.show("ANALYTICS"), second);
    stand.scratch.ok(&["verify"]);

    let copied = |boundary: &String| boundary.ends_with("table retained");
    let at = passed.iter().position(copied).unwrap() + 2;
    stand.dies(&one, at);
    assert_eq!(stand.show("ANALYTICS"), second, "no job was run");
    stand.scratch.unship(&["resume"]);
    stand
        .scratch
        .ok(&["status"])
        .says(0, &["nothing is running"]);

    stand.scratch.write("models/customers.sql", CUSTOMERS);
    stand
        .scratch
        .write("models/broken.sql", "select * from nowhere.at_all");
    stand
        .scratch
        .unship(&["run", "--in-place", "--", "dbt", "build"])
        .says(1, &["had worked on production itself"]);
    assert_ne!(stand.show("ANALYTICS"), second);
    stand.scratch.ok(&["rollback"]);
    assert_eq!(stand.show("ANALYTICS"), second);
    stand.scratch.ok(&["verify"]);
    // And aside again, where copies may still lie in the way of what gives way.
    std::fs::remove_file(stand.scratch.path("models/broken.sql")).unwrap();
    stand.build(&[]).says(0, &["is production"]);
    stand.scratch.ok(&["undo"]);
    assert_eq!(stand.show("ANALYTICS"), second);
}
