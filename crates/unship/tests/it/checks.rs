//! Checks that nobody had to write, on the demo's shop: the bad release doubles the revenue, and
//! every test of the project passes.

use crate::support::oracle::State;
use crate::support::shop::{self, Moment};
use crate::support::{Scratch, golden, tools};

/// R1 and R2 were good; the commit that doubles the revenue is checked out, and checks hold what is
/// bad, as they do where nothing else is said.
fn before_the_bad_release() -> Option<Scratch> {
    let tools = tools()?;
    let shop = shop::at(&tools, Moment::R2);
    let text = shop.read("unship.toml");
    shop.write(
        "unship.toml",
        text.replace("hold = \"never\"", "hold = \"high\""),
    );
    shop::overlay(&shop, "r3-bad");
    Some(shop)
}

#[test]
fn a_join_that_doubles_the_revenue_is_never_published() {
    let Some(shop) = before_the_bad_release() else {
        return;
    };
    let before = State::of(&shop, &shop.path("shop.duckdb"), "before");
    let mut seen = String::new();
    let ran = shop.unship(&["run", "--", "dbt", "--quiet", "build"]);
    ran.says(76, &["not published", "core.fct_orders", "R2"]);
    seen.push_str(&ran.text());
    let after = State::of(&shop, &shop.path("shop.duckdb"), "after");
    assert_eq!(before.differences(&shop, &after, &[]), [""; 0]);

    let shown = shop.json("unship.release/1", &["show", "R3", "--json"]);
    assert_eq!(shown["release"]["verdict"], "bad");
    let found = shown["findings"].as_array().unwrap();
    let doubled = found.iter().find(|f| {
        f["relation"]
            .as_str()
            .is_some_and(|name| name.contains("fct_orders"))
            && f["column"] == "revenue"
            && f["check"] == "sum"
    });
    let doubled = doubled.unwrap();
    assert_eq!(doubled["outcome"], "fail");
    assert_eq!(doubled["severity"], "critical");
    golden("checks_hold", &seen);

    // Mended, the next one is published.
    shop.sh("git", &["revert", "--no-edit", "HEAD"]);
    shop.ok(&["run", "--", "dbt", "--quiet", "build"])
        .says(0, &["published"]);
}

#[test]
fn in_place_the_same_release_is_marked_bad_and_can_be_taken_back() {
    let Some(shop) = before_the_bad_release() else {
        return;
    };
    let before = State::of(&shop, &shop.path("shop.duckdb"), "before");
    let ran = shop.unship(&["run", "--in-place", "--", "dbt", "--quiet", "build"]);
    ran.says(76, &["marked bad", "core.fct_orders", "unship rollback"]);
    let checked = shop.unship(&["check", "--json"]);
    assert_eq!(checked.code, 76, "{checked:?}");
    shop.ok(&["rollback"]);
    let after = State::of(&shop, &shop.path("shop.duckdb"), "after");
    assert_eq!(before.differences(&shop, &after, &[]), [""; 0]);
    shop.ok(&["check", "R2"]);
    shop.unship(&["check", "R3", "--select", "fct_orders"])
        .says(76, &["revenue", "sum"]);
}

/// With the rules that nobody had to write, in one command.
#[test]
fn in_a_protected_environment_it_is_taken_back_and_proved_by_the_same_command() {
    let Some(shop) = before_the_bad_release() else {
        return;
    };
    let text = shop.read("unship.toml");
    let env = shop.json("unship.status/1", &["status", "--json"]);
    let env = env["env"].as_str().unwrap();
    shop.write(
        "unship.toml",
        format!("{text}\n[policy]\nprotected = [{env:?}]\n"),
    );
    shop.commit("Let rules act");
    let before = State::of(&shop, &shop.path("shop.duckdb"), "before");
    let ran = shop.unship(&["run", "--in-place", "--", "dbt", "--quiet", "build"]);
    ran.says(
        76,
        &[
            "core.fct_orders.revenue  sum",
            "rolled back:",
            "R4 brings back R2",
            "row by row",
            "the rule `critical`",
        ],
    );
    let after = State::of(&shop, &shop.path("shop.duckdb"), "after");
    assert_eq!(before.differences(&shop, &after, &[]), [""; 0]);
    let status = shop.json("unship.status/1", &["status", "--json"]);
    assert_eq!(status["good"], true, "{status}");
    // The next night does not make it again.
    shop.unship(&["run", "--in-place", "--", "dbt", "--quiet", "build"])
        .says(77, &["is in quarantine", "R4 took back"]);
}

#[test]
fn what_a_project_asks_for_is_checked() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R2);
    let text = shop.read("unship.toml");
    let more = r#"
[[check]]
name = "orders_are_paid"
kind = "reconcile"
left = "select sum(revenue) from {core.fct_orders}"
right = "select sum(line_revenue) from fct_order_items"
relative_tolerance = 0.001

[[check]]
name = "no_free_orders"
kind = "acceptance"
severity = "critical"
sql = "select order_id, revenue, 9007199254740993 as large from {core.fct_orders} where order_id % 1000 = 1"

[[check]]
name = "dashboard"
kind = "sample"
sql = "select count(*) from {marts.mart_daily_revenue}"
ceiling = "1m"

[[check]]
name = "enough_models"
kind = "models"
at_least = 1000

[[check]]
name = "smoke"
kind = "command"
command = ["python", "-c", "import os, sys; sys.exit(0 if 'UNSHIP_DATABASE' in os.environ else 3)"]

[[check]]
name = "nonsense"
kind = "acceptance"
sql = "select * from {core.nowhere}"
"#;
    shop.write("unship.toml", text + more);
    let ran = shop.json(
        "unship.run/1",
        &[
            "run",
            "--json",
            "--",
            "dbt",
            "--quiet",
            "build",
            "--select",
            "fct_orders+",
        ],
    );
    let release = ran["release"].as_str().unwrap();
    let shown = shop.json("unship.release/1", &["show", release, "--json"]);
    let found = shown["findings"].as_array().unwrap();
    let of = |name: &str| {
        let finding = found.iter().find(|f| f["check"] == name);
        finding.unwrap_or_else(|| panic!("{name}: {found:#?}"))
    };
    assert_eq!(of("orders_are_paid")["outcome"], "pass");
    assert_eq!(of("no_free_orders")["outcome"], "fail");
    assert_eq!(of("no_free_orders")["severity"], "critical");
    assert_eq!(of("no_free_orders")["examples"]["columns"][1], "revenue");
    assert_eq!(
        of("no_free_orders")["examples"]["rows"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    let rows = of("no_free_orders")["examples"]["rows"].to_string();
    assert!(rows.contains("9007199254740993"), "not rounded: {rows}");
    assert_eq!(of("dashboard")["outcome"], "pass");
    assert_eq!(of("enough_models")["outcome"], "fail");
    assert_eq!(of("smoke")["outcome"], "pass");
    assert_eq!(of("nonsense")["outcome"], "unknown", "never a pass");
}
