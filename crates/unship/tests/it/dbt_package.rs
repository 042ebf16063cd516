//! The dbt package in `dbt/unship`, for those who can run nothing beside dbt: real dbt, on DuckDB what
//! it writes down, and on the stand-in for Snowflake the way back.

use crate::support::tiny::tiny;
use crate::support::warehouse::Warehouse;
use crate::support::{Scratch, Tools, repository, tools};
use serde_json::{Value, json};
use std::path::PathBuf;
use unship_core::testing::skipped;

/// Two models, with the package.
fn with_package(tools: &Tools) -> Scratch {
    let mut shop = tiny(tools);
    let package = repository().join("dbt/unship").canonicalize().unwrap();
    shop.write(
        "p/packages.yml",
        format!("packages:\n  - local: {}\n", package.display()),
    );
    shop.write(
        "p/models/b.sql",
        "{{ config(schema='marts') }} select 1 / release as part from {{ ref('a') }}",
    );
    shop.set("DBT_PROFILES_DIR", shop.path("profiles"));
    shop.cwd = shop.path("p");
    shop
}

/// Every row of a query, as DuckDB gives it.
fn ask(shop: &Scratch, tools: &Tools, sql: &str) -> Value {
    let program = "import duckdb, json, os, sys\n\
         rows = duckdb.connect(os.environ['TINY_DB']).execute(sys.argv[1]).fetchall()\n\
         print(json.dumps(rows, default=str))";
    serde_json::from_str(&shop.sh(&tools.python, &["-c", program, sql])).unwrap()
}

#[test]
fn what_dbt_does_is_recorded_and_goes_back_with_nothing() {
    let Some(tools) = tools() else { return };
    let mut shop = with_package(&tools);
    let db = shop.path("../shop.duckdb");
    shop.set("TINY_DB", &db);
    shop.set("DBT_CLOUD_GIT_SHA", "abc'def");
    shop.sh(&tools.dbt, &["deps", "-q"]);
    shop.sh(&tools.dbt, &["run", "-q"]);
    shop.write(
        "models/b.sql",
        "{{ config(schema='marts') }} select nowhere",
    );
    let failed = shop.command(&tools.dbt).arg("run").output().unwrap();
    assert!(!failed.status.success());
    // What only looks is no run.
    shop.sh(&tools.dbt, &["compile", "-q", "--select", "a"]);
    let all = "select recorded_by, project, target, job, code, schemas, outcome, \
               ended_at >= started_at from main_unship.unship_restore_points order by started_at";
    let both =
        r#"[{"database": "shop", "schema": "main"}, {"database": "shop", "schema": "main_marts"}]"#;
    let row = |schemas: &str, outcome: &str| {
        json!([
            "dbt", "tiny", "prod", "dbt run", "abc'def", schemas, outcome, true
        ])
    };
    assert_eq!(
        ask(&shop, &tools, all),
        json!([row(both, "good"), row(both, "failed")])
    );

    let listed = shop.sh(&tools.dbt, &["run-operation", "unship_restore_points"]);
    assert_eq!(
        listed
            .matches("before dbt run of abc'def (dbt, prod): ")
            .count(),
        2
    );
    // Where schemas cannot be cloned, it says so and does nothing.
    let refused = shop
        .command(&tools.dbt)
        .args(["run-operation", "unship_rollback"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        !refused.status.success() && said.contains("duckdb cannot clone schemas"),
        "{said}"
    );

    // Under unship it keeps quiet: there are restore points already.
    shop.write("models/b.sql", "select * from {{ ref('a') }}");
    shop.ok(&["run", "--", "dbt", "run", "-q"]);
    assert_eq!(ask(&shop, &tools, all).as_array().unwrap().len(), 2);

    // `unship log` shows them between its own releases, once it is told where they are.
    let quiet = shop.json("unship.log/1", &["log", "--json"]);
    assert_eq!(quiet["recorded_by_dbt"], json!([]));
    let config = shop.read("unship.toml");
    let named = config.replacen("[dbt]\n", "[dbt]\nrestore_points = \"main_unship\"\n", 1);
    shop.write("unship.toml", named);
    let log = shop.json("unship.log/1", &["log", "--json"]);
    let outcomes: Vec<_> = (log["recorded_by_dbt"].as_array().unwrap().iter())
        .map(|one| (&one["outcome"], &one["code"]))
        .collect();
    let code = json!("abc'def");
    assert_eq!(
        outcomes,
        [(&json!("failed"), &code), (&json!("good"), &code)]
    );
    let log = shop.ok(&["log"]);
    log.says(0, &["dbt run", "failed", "before it: "]);
    shop.write(
        "unship.toml",
        config.replacen("[dbt]\n", "[dbt]\nrestore_points = \"nowhere\"\n", 1),
    );
    shop.unship(&["log"])
        .says(0, &["R1", "what the dbt package recorded cannot be read"]);
}

/// What unship releases stands in the same table, so that both tell one story.
#[test]
fn releases_are_recorded_where_dbt_records_its_runs() {
    let Some(tools) = tools() else { return };
    let Some(shop) = Warehouse::new(&tools, []) else {
        return;
    };
    let connection = "host=$PGHOST dbname=$PGDATABASE".to_owned();
    let connection = ["PGHOST", "PGDATABASE"]
        .iter()
        .fold(connection, |text, name| {
            let value = shop
                .scratch
                .sh("sh", &["-c", &format!("printf %s \"${name}\"")]);
            text.replace(&format!("${name}"), &value)
        });
    shop.scratch.write(
        "unship.toml",
        format!(
            "format = 1\ndefault_env = \"prod\"\n[dbt]\nproject_dir = \".\"\nrestore_points = \"etl_unship\"\n\
             [env.prod]\nengine = \"postgres\"\nconnection = \"{connection}\"\nschemas = [\"marts\"]\n\
             undo_log = [\"marts.orders\"]\n"
        ),
    );
    let text = "restore_point text, recorded_by text, project text, target text, job text, code text, \
                schemas text, statement text, started_at timestamp, ended_at timestamp, outcome text";
    shop.sql("CREATE SCHEMA marts; CREATE TABLE marts.orders (id int PRIMARY KEY)");
    let add = "INSERT INTO marts.orders SELECT coalesce(max(id), 0) + 1 FROM marts.orders";
    let run = ["run", "--in-place", "--", "psql", "-qc", add];
    // That there is no table yet is told, and no reason for a release to fail.
    shop.scratch
        .unship(&run)
        .says(0, &["the dbt package's restore points lack this release"]);
    shop.sql(&format!(
        "CREATE SCHEMA etl_unship; CREATE TABLE etl_unship.unship_restore_points ({text})"
    ));
    shop.scratch.ok(&run);
    shop.scratch.ok(&["rollback"]);
    let recorded = "SELECT string_agg(concat_ws('|', restore_point, recorded_by, target, job, schemas, outcome, \
                    started_at <= ended_at, now() AT TIME ZONE 'UTC' - started_at < '1 hour'), ';' ORDER BY restore_point) \
                    FROM etl_unship.unship_restore_points";
    let place = format!(
        r#"[{{"database":"{}","schema":"marts"}}]"#,
        shop.ask("SELECT current_database()")
    );
    let row = |id: &str, job: &str| format!("{id}|unship|prod|{job}|{place}|good|t|t");
    assert_eq!(
        shop.ask(recorded),
        [
            row("R2_prod", "unship run"),
            row("R3_prod", "unship rollback")
        ]
        .join(";")
    );
}

/// A run that was bad, another on top of it, and an interruption on the way back: schemas are cloned
/// before each run, and change places with production one after the other.
#[test]
#[ignore = "needs the stand-in: scripts/snowflake-emulator run"]
fn snowflake_schemas_go_back_by_the_package_alone() {
    let (Some(address), Some(python)) = (
        std::env::var("UNSHIP_TEST_SNOWFLAKE").ok(),
        std::env::var("UNSHIP_TEST_SNOWFLAKE_PYTHON")
            .ok()
            .map(PathBuf::from),
    ) else {
        skipped("UNSHIP_TEST_SNOWFLAKE is not set: scripts/snowflake-emulator run sets it");
        return;
    };
    let tools = Tools {
        dbt: python.with_file_name("dbt"),
        python,
    };
    let shop = with_package(&tools);
    let port = address.rsplit(':').next().unwrap().to_owned();
    let database = format!("SHOP{}", std::process::id());
    shop.write(
        "../profiles/profiles.yml",
        format!(
            "tiny:\n  target: prod\n  outputs:\n    prod: {{type: snowflake, account: none, user: u, password: p, \
             role: SYSADMIN, warehouse: W, database: {database}, schema: shop, host: 127.0.0.1, port: {port}, \
             protocol: http, threads: 1}}\n"
        ),
    );
    let ask = |sql: &str| -> Value {
        let program = "import json, os, sys, snowflake.connector as s\n\
             c = s.connect(account='none', user='u', password='p', host='127.0.0.1', port=int(sys.argv[1]), \
             protocol='http', database=sys.argv[2]).cursor()\n\
             print(json.dumps(c.execute(sys.argv[3]).fetchall(), default=str))";
        let out = shop.sh(&tools.python, &["-c", program, &port, &database, sql]);
        serde_json::from_str(&out).unwrap()
    };
    let build = |n: i64| {
        let vars = format!("{{n: {n}, unship_clones: 2}}");
        shop.sh(&tools.dbt, &["build", "-q", "--vars", &vars]);
    };
    let back = || {
        let out = shop
            .command(&tools.dbt)
            .args(["run-operation", "unship_rollback"])
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap())
    };
    let shown = || {
        (
            ask("select release from shop.a"),
            ask("select part from shop_marts.b"),
        )
    };
    let is = |n: i64| (json!([[n]]), json!([[1.0 / n as f64]]));
    shop.sh(&tools.dbt, &["deps", "-q"]);
    build(1);
    ask(&format!(
        "grant usage on schema {database}.shop to role REPORTER"
    ));
    ask(&format!(
        "grant select on future tables in schema {database}.shop to role REPORTER"
    ));
    ask(&format!(
        "comment on schema {database}.shop is 'it''s ours'"
    ));
    build(2);
    build(4);
    assert_eq!(shown().0, is(4).0);

    let plan = shop.sh(&tools.dbt, &["run-operation", "unship_plan_rollback"]);
    assert!(
        plan.contains("swap with") && plan.contains("nothing was changed"),
        "{plan}"
    );
    assert_eq!(shown().0, is(4).0);
    let (done, said) = back();
    assert!(done, "{said}");
    assert_eq!(shown().0, is(2).0, "{said}");

    // What was gone back to once is not taken for done: production may be anything since.
    let gone_back = "select restore_point from shop_unship.unship_restore_points \
                     where outcome = 'rolled back'";
    let again = format!("{{to: {}}}", ask(gone_back)[0][0].as_str().unwrap());
    let again = shop
        .command(&tools.dbt)
        .args(["run-operation", "unship_rollback", "--args", &again])
        .output()
        .unwrap();
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(
        !again.status.success() && said.contains("was gone back to before"),
        "{said}"
    );
    assert_eq!(shown().0, is(2).0);

    // Interrupted between the two schemas: what is done is not done again, which would undo it, and
    // no job runs on top of a half.
    let newest = "select restore_point from shop_unship.unship_restore_points \
                  where outcome <> 'rolled back' order by started_at desc limit 1";
    let whole = ask(newest)[0][0].as_str().unwrap().to_owned();
    let id = whole[..8].to_uppercase();
    ask(&format!(
        "alter schema {database}.shop swap with {database}.UNSHIP_{id}_shop"
    ));
    assert_eq!(shown().0, is(1).0);
    ask(&format!(
        "update shop_unship.unship_restore_points set outcome = 'rolling back' where restore_point = '{whole}'"
    ));
    let refused = shop.command(&tools.dbt).args(["run"]).output().unwrap();
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        !refused.status.success() && said.contains("stopped half-way"),
        "{said}"
    );
    let (done, said) = back();
    assert!(
        done && said.contains("shop was brought back before"),
        "{said}"
    );
    assert_eq!(shown(), (is(1).0, json!([[1.0]])));
    let there = ask("select schema_name from information_schema.schemata");
    let kept = there
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n[0].as_str().unwrap().starts_with("UNSHIP_"));
    assert_eq!(kept.count(), 4, "what gave way stays: {there}");
    assert_eq!(
        ask("select comment from information_schema.schemata where schema_name = 'SHOP'"),
        json!([["it's ours"]])
    );
    // Of what was before the first run there is no clone, and the stand-in has no past.
    let (done, said) = back();
    assert!(!done && said.contains("no past to clone"), "{said}");
    assert_eq!(shown().0, is(1).0);
}
