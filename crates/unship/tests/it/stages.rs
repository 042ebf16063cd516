//! Rollbacks that go stage by stage, with a surprise at the third: real dbt, real databases.

use crate::support::shop::{self, Moment, state_at};
use crate::support::warehouse::{Warehouse, same};
use crate::support::{Scratch, golden, oracle, tools};
use oracle::State;
use serde_json::Value;
use std::fmt::Write as _;

/// A check that is well with what is live, and not with what comes back in the third stage: it has
/// fewer days.
const PLANTED: &str = "\n[[check]]\nname = \"as_much_as_before\"\nkind = \"acceptance\"\n\
    sql = \"select sum(revenue) from {marts.mart_product_margin} having sum(revenue) < ";

fn revenue(shop: &Scratch) -> String {
    let script = "import duckdb\nprint(duckdb.connect('shop.duckdb', read_only=True).execute(\
                  'select sum(revenue) from marts.mart_product_margin').fetchone()[0])";
    shop.sh("python", &["-c", script]).trim().to_owned()
}

/// The demo's project of two dozen relations, with the bad release live and the planted check.
fn planted(tools: &crate::support::Tools) -> Scratch {
    let shop = shop::at(tools, Moment::R3);
    let text = shop.read("unship.toml").replace("\"never\"", "\"high\"");
    let check = format!("{PLANTED}{}\"\n", revenue(&shop));
    shop.write("unship.toml", text + &check);
    shop
}

fn states(document: &Value) -> Vec<&str> {
    let stages = document["stages"].as_array().unwrap();
    stages
        .iter()
        .map(|s| s["state"].as_str().unwrap())
        .collect()
}

#[test]
fn a_surprise_at_the_third_stage_holds_the_rest() {
    let Some(tools) = tools() else { return };
    let shop = planted(&tools);
    let marts = ["--to", "R1", "--staged", "--select", "path:models/marts"];
    let plan = shop.json("unship.plan/1", &[&["--json", "plan"], &marts[..]].concat());
    assert_eq!(plan["plan"]["stages"].as_array().unwrap().len(), 7);
    let bad = State::of(&shop, &shop.path("shop.duckdb"), "bad");

    let held = shop.unship(&[&["rollback"], &marts[..]].concat());
    held.says(72, &["error: held at stage 3 of 7", "as_much_as_before"]);
    let mut told = String::new();
    let _ = writeln!(told, "{}", held.text());
    for command in [
        &["status"][..],
        &["run", "--", "true"],
        &["rollback"],
        &["redo"],
        &["gc"],
    ] {
        let output = shop.unship(command);
        assert_eq!(output.code, 72, "{output:?}");
        let _ = writeln!(told, "{}", output.text());
    }
    golden("staged", &told);
    shop.ok(&["show"])
        .says(0, &["stage 3 of 7; held at stage 3, with 3 of 7 back"]);
    let status: Value = serde_json::from_str(&shop.unship(&["--json", "status"]).stdout).unwrap();
    let expected = [
        "back",
        "back",
        "back_and_held",
        "not_back",
        "not_back",
        "not_back",
        "not_back",
    ];
    assert_eq!(states(&status["staged"]), expected);

    // Taken back: what is live is what was live.
    let other = Scratch::copy_of(&tools, &shop.cwd);
    other.ok(&["undo"]).says(0, &["3 relations changed"]);
    let undone = State::of(&other, &other.path("shop.duckdb"), "undone");
    assert_eq!(bad.differences(&other, &undone, &[]), [""; 0]);
    other.ok(&["status"]);

    // Gone on with: the same as a rollback at once, and one operation from then on.
    let done = shop.json("unship.stages/1", &["--json", "resume"]);
    assert_eq!(done["ended"], "done");
    assert_eq!(done["proved"], true);
    assert_eq!(states(&done), ["back"; 7]);
    other.ok(&["rollback", "--to", "R1", "--select", "path:models/marts"]);
    let at_once = State::of(&other, &other.path("shop.duckdb"), "at-once");
    let staged = State::of(&shop, &shop.path("shop.duckdb"), "staged");
    assert_eq!(at_once.differences(&shop, &staged, &[]), [""; 0]);
    shop.ok(&["undo"]).says(0, &["7 relations changed"]);
    let undone = State::of(&shop, &shop.path("shop.duckdb"), "undone");
    assert_eq!(bad.differences(&shop, &undone, &[]), [""; 0]);
    shop.ok(&["redo"]);
    shop.ok(&["audit", "verify"]);
    shop.ok(&["fsck"]);
}

/// All of it, to the first release, and killed at boundaries all along.
#[test]
#[ignore = "takes minutes: a part of `make test-all`"]
fn the_whole_project_goes_back_in_stages_though_it_is_killed() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let mut command = vec!["rollback", "--to", "R1", "--staged"];
    let mut killed = 0;
    for at in (20..).step_by(37) {
        let mut dying = shop.unship_command(&command);
        dying.env("UNSHIP_FAULT_AT", at.to_string());
        let output = shop.finish(&command, dying);
        if output.code == 0 {
            break;
        }
        assert_eq!(output.code, -1, "{output:?}");
        killed += 1;
        let staged = shop.unship(&["--json", "status"]);
        let staged: Value = serde_json::from_str(&staged.stdout).unwrap();
        command = match staged["staged"].is_null() && staged["interrupted"].is_null() {
            true => vec!["rollback", "--to", "R1", "--staged"],
            false => vec!["resume"],
        };
    }
    assert!(killed > 3, "killed {killed} times");
    let good = state_at(&tools, Moment::R1);
    let now = State::of(&shop, &shop.path("shop.duckdb"), "now");
    let differs = good.differences(&shop, &now, &[]);
    assert!(
        differs.iter().all(|line| line.starts_with("raw.")),
        "what loaders brought since stays, and nothing else differs: {differs:?}"
    );
    shop.ok(&["verify"]);
    shop.ok(&["undo"]);
    shop.ok(&["fsck"]);
}

/// Twenty models: six of the loader's tables are staged, joined, and aggregated.
fn twenty() -> Vec<(String, String)> {
    let mut files = vec![
        (
            "dbt_project.yml".to_owned(),
            "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\nmodels: {+materialized: table}\n"
                .to_owned(),
        ),
        (
            "models/sources.yml".to_owned(),
            "sources: [{name: raw, schema: raw, tables: [{name: orders}]}]\n".to_owned(),
        ),
    ];
    let mut model = |name: String, sql: String| {
        files.push((format!("models/{name}.sql"), sql));
    };
    for i in 1..=8 {
        let sql = format!(
            "select id, id % {i} as part, amount * {{{{ var('factor', 1) }}}} as amount \
             from {{{{ source('raw', 'orders') }}}} where id % 8 < {i}"
        );
        model(format!("stg_{i}"), sql);
    }
    for i in 1..=6 {
        let sql = format!(
            "select a.part, sum(a.amount + b.amount) as amount from {{{{ ref('stg_{i}') }}}} a \
             join {{{{ ref('stg_{}') }}}} b using (id) group by a.part",
            i + 2
        );
        model(format!("int_{i}"), sql);
    }
    for i in 1..=6 {
        let sql = format!("select sum(amount) as amount from {{{{ ref('int_{i}') }}}}");
        model(format!("mart_{i}"), sql);
    }
    files
}

#[test]
#[ignore = "forty stages and three builds of twenty models: a part of `make test-all`"]
fn postgres_holds_at_what_somebody_did_to_a_retained_version() {
    let Some(tools) = tools() else { return };
    let files = twenty();
    let files = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    let Some(warehouse) = Warehouse::new(&tools, files) else {
        return;
    };
    let scratch = &warehouse.scratch;
    warehouse.sql(
        "CREATE SCHEMA raw; CREATE TABLE raw.orders AS
         SELECT i AS id, i * 1.5 AS amount FROM generate_series(1, 800) i",
    );
    scratch.commit("good");
    scratch.ok(&["init"]);
    scratch.only_tell();
    warehouse.build(&["run"]);
    let good = warehouse.state(&[]);
    warehouse.build(&["run", "--vars", "{factor: 100}"]);
    let bad = warehouse.state(&[]);
    let plan = scratch.json("unship.plan/1", &["--json", "plan", "--staged"]);
    let stages = plan["plan"]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 20, "each of the tables is one");
    let name = |stage: &Value| -> String {
        let relation = stage["relations"][0].as_str().unwrap();
        serde_json::from_str::<Vec<String>>(relation).unwrap()[2].clone()
    };
    let order: Vec<String> = stages.iter().map(name).collect();
    for i in 1..=6 {
        let at = |name: String| order.iter().position(|n| *n == name).unwrap();
        let (mart, int) = (at(format!("mart_{i}")), at(format!("int_{i}")));
        assert!(mart < int && int < at(format!("stg_{i}")), "{order:?}");
    }
    let third = &order[2];
    let retained = |name: &str, by: &str| {
        warehouse.sql(&format!(
            "UPDATE unship_r1_analytics.{name} SET amount = amount {by}"
        ));
    };
    retained(third, "+ 1");
    let held = scratch.unship(&["rollback", "--staged"]);
    held.says(
        72,
        &["held at stage 3 of 20", third, "has other values in amount"],
    );
    let shown: Value = serde_json::from_str(&scratch.unship(&["--json", "status"]).stdout).unwrap();
    assert_eq!(shown["staged"]["held"], 3);
    // Somebody has looked, mends it in production, and goes on.
    warehouse.sql(&format!("UPDATE analytics.{third} SET amount = amount - 1"));
    let done = scratch.json("unship.stages/1", &["--json", "resume"]);
    assert_eq!(done["ended"], "done", "{done}");
    same(&warehouse.state(&[]), &good);
    scratch.ok(&["undo", "--others", "set-aside"]);
    same(&warehouse.state(&[]), &bad);

    // The same again, and taken back.
    let fourth = &order[3];
    retained(fourth, "* 2");
    let held = scratch.unship(&["rollback", "--to", "R1", "--staged"]);
    assert_eq!(held.code, 72, "{held:?}");
    scratch
        .unship(&["undo"])
        .says(73, &["others wrote to 2 relations", third, fourth]);
    scratch.ok(&["undo", "--others", "set-aside"]);
    same(&warehouse.state(&[]), &bad);
    scratch.ok(&["status"]);
}
