//! Going back and forth: wholly, partly, by a saved plan, and with others at work.

use crate::support::oracle::State;
use crate::support::shop::{self, Moment, RAW};
use crate::support::{Scratch, golden, tools};

fn state(shop: &Scratch, name: &str) -> State {
    State::of(shop, &shop.path("shop.duckdb"), name)
}

fn sql(shop: &Scratch, database: &str, statement: &str) -> String {
    let script = "import duckdb, sys\n\
        rows = duckdb.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()\n\
        print(rows[0][0] if rows else '')";
    let out = shop.sh("python", &["-c", script, database, statement]);
    out.trim().to_owned()
}

#[test]
fn one_mart_and_its_dependents_go_back_and_nothing_else() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let (r2, r3) = (shop::state_at(&tools, Moment::R2), state(&shop, "r3"));
    let mut text = shop
        .ok(&["plan", "--select", "mart_customer_value+"])
        .text();
    text.push_str(
        &shop
            .ok(&["rollback", "--select", "mart_customer_value+"])
            .text(),
    );
    let after = state(&shop, "after");
    r3.differs_only_in(&shop, &after, &["marts.mart_customer_value"]);
    let still: Vec<_> = r2.differences(&shop, &after, &[]);
    assert!(
        !still
            .iter()
            .any(|line| line.starts_with("marts.mart_customer_value")),
        "{still:#?}"
    );

    // A whole branch of the lineage, and from there all the way back.
    text.push_str(
        &shop
            .ok(&["rollback", "--to", "R2", "--select", "fct_orders+"])
            .text(),
    );
    let branch = state(&shop, "branch");
    let changed = r3.differences(&shop, &branch, &[]);
    for line in &changed {
        let known = ["core.fct_orders", "core.revenue_booked", "marts.mart_"]
            .iter()
            .any(|name| line.starts_with(name));
        assert!(known, "{line} is no dependent of fct_orders");
    }
    assert!(
        changed
            .iter()
            .any(|line| line.starts_with("core.fct_orders"))
    );
    shop.ok(&["verify"]);
    // A release without a manifest is no obstacle to a selection by lineage.
    shop.ok(&["plan", "--to", "R0", "--select", "mart_store_performance+"]);
    shop.ok(&["rollback", "--to", "R2"]);
    r2.differs_only_in(&shop, &state(&shop, "whole"), &RAW);
    text.push_str(&shop.ok(&["log"]).text());
    golden("partly", &text);
}

#[test]
fn undo_and_redo_walk_a_stack() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let start = state(&shop, "start");
    shop.ok(&["rollback", "--to", "R2"]);
    let two = state(&shop, "two");
    shop.ok(&["rollback", "--to", "R1"]);
    let one = state(&shop, "one");
    assert_ne!(two.differences(&shop, &one, &[]), [""; 0]);

    shop.ok(&["undo"]);
    assert_eq!(two.differences(&shop, &state(&shop, "a"), &[]), [""; 0]);
    shop.ok(&["undo"]);
    assert_eq!(start.differences(&shop, &state(&shop, "b"), &[]), [""; 0]);
    shop.ok(&["undo"]);
    shop.ok(&["redo"]);
    assert_eq!(start.differences(&shop, &state(&shop, "c"), &[]), [""; 0]);
    shop.ok(&["redo"]);
    assert_eq!(two.differences(&shop, &state(&shop, "d"), &[]), [""; 0]);
    shop.ok(&["redo"]);
    assert_eq!(one.differences(&shop, &state(&shop, "e"), &[]), [""; 0]);
    shop.unship(&["redo"]).says(75, &["nothing to redo"]);
    golden("a_stack", &shop.ok(&["log"]).text());
    shop.ok(&["audit", "verify"]);
    shop.ok(&["fsck"]);
}

#[test]
fn a_saved_plan_is_what_is_carried_out() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    shop.ok(&["plan", "--output", "back.json"]);
    let planned = shop.json("unship.plan/1", &["--json", "plan"]);
    let applied = shop.json("unship.restore/1", &["--json", "apply", "back.json"]);
    assert_eq!(applied["plan"], planned["id"]);
    assert_eq!(applied["proved"], true);
    shop::state_at(&tools, Moment::R2).differs_only_in(&shop, &state(&shop, "back"), &RAW);
    shop.unship(&["apply", "back.json"]).says(
        73,
        &[
            "to make R4 from R3",
            "R4 is live and the next release is R5",
            "nothing was changed",
        ],
    );
}

#[test]
fn a_plan_that_is_not_this_moments_is_refused() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let before = state(&shop, "before");
    shop.ok(&["plan", "--output", "plan.json"]);
    let plan = shop.read("plan.json");
    let mut text = String::new();
    for (name, altered) in [
        ("not json", "once upon a time".to_owned()),
        ("empty", String::new()),
        ("half", plan[..plan.len() / 2].to_owned()),
        (
            "another format",
            plan.replacen("\"format\": 1", "\"format\": 9", 1),
        ),
        ("another file", plan.replace("shop.duckdb", "chop.duckdb")),
        (
            "another method",
            plan.replacen("restore the chosen", "restore the", 1),
        ),
    ] {
        shop.write("altered.json", altered);
        let output = shop.unship(&["apply", "altered.json"]);
        assert_ne!(output.code, 0, "{name}: {output:?}");
        text.push_str(&format!("{name}: {}", output.text()));
    }
    text.push_str(&shop.unship(&["apply", "nowhere.json"]).text());

    // The loaders bring one more day after the plan was made.
    shop::load_day(&shop);
    let moved = shop.unship(&["apply", "plan.json"]);
    moved.says(
        73,
        &[
            "the world moved since this plan was made",
            "nothing was changed",
        ],
    );
    golden("plans_refused", &text);
    before.differs_only_in(&shop, &state(&shop, "after"), &RAW);
    // Nothing is left half-way.
    shop.ok(&["status"]);
    shop.ok(&["rollback"]);
    shop::state_at(&tools, Moment::R2).differs_only_in(&shop, &state(&shop, "back"), &RAW);
}

#[test]
fn what_others_wrote_to_a_jobs_table_is_never_dropped_in_silence() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    sql(
        &shop,
        "shop.duckdb",
        "update core.fct_orders set revenue = -1 where order_id = 100001",
    );
    let edited = state(&shop, "edited");
    let refused = shop.unship(&["rollback"]);
    let mut text = refused.text();
    assert_eq!(refused.code, 73, "{refused:?}");
    assert_eq!(
        edited.differences(&shop, &state(&shop, "same"), &[]),
        [""; 0]
    );
    text.push_str(&shop.unship(&["verify"]).text());
    text.push_str(&shop.ok(&["rollback", "--others", "set-aside"]).text());
    shop::state_at(&tools, Moment::R2).differs_only_in(&shop, &state(&shop, "back"), &RAW);
    let kept = sql(
        &shop,
        ".unship/points/R3/shop.duckdb",
        "select revenue::integer from core.fct_orders where order_id = 100001",
    );
    assert_eq!(kept, "-1", "the edited row is in the retained version");
    golden("edited_by_others", &text);
}

#[test]
fn relations_of_others_stay_as_they_are_now() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    for statement in [
        "create schema theirs",
        "create table theirs.notes as select 1 as id, 'mine' as what",
        "create view theirs.both as select * from theirs.notes",
        "drop table raw.web_events cascade",
    ] {
        sql(&shop, "shop.duckdb", statement);
    }
    let rollback = shop.unship(&["rollback"]);
    // A view of the project reads what was dropped; it was broken before and still is.
    assert_eq!(rollback.code, 0, "{rollback:?}");
    assert_eq!(
        sql(&shop, "shop.duckdb", "select what from theirs.both"),
        "mine"
    );
    let gone = "select count(*) from duckdb_tables() where table_name = 'web_events'";
    assert_eq!(sql(&shop, "shop.duckdb", gone), "0");
}

#[test]
fn a_pin_outlives_the_retention() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let toml = shop.read("unship.toml");
    let short = format!(
        "{}\n[keep]\nlast = 1\nfor = \"0s\"\n",
        toml.split("[keep]").next().unwrap()
    );
    shop.write("unship.toml", short);
    let mut text = shop
        .ok(&["pin", "R1", "--reason", "the last one before the fair"])
        .text();
    text.push_str(&shop.ok(&["gc"]).text());
    text.push_str(&shop.ok(&["log"]).text());
    text.push_str(&shop.unship(&["pin", "R0"]).text());
    text.push_str(&shop.unship(&["rollback", "--to", "R0"]).text());
    shop.ok(&["rollback", "--to", "R1"]);
    let back = state(&shop, "back");
    let r1 = shop::state_at(&tools, Moment::R1);
    let raw_and_r1 = [
        "raw.customers",
        "raw.order_items",
        "raw.orders",
        "raw.payments",
        "raw.products",
        "raw.web_events",
    ];
    let found = r1.differences(&shop, &back, &[]);
    for line in &found {
        assert!(
            raw_and_r1.iter().any(|name| line.starts_with(name)),
            "{line}"
        );
    }
    text.push_str(&shop.ok(&["unpin", "R1"]).text());
    text.push_str(&shop.ok(&["log"]).text());
    golden("pinned", &text);
}

/// A rename takes a pinned release's own file into production and back under another name.
#[test]
fn a_pin_follows_its_data() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let toml = shop.read("unship.toml");
    let short = format!(
        "{}\n[keep]\nlast = 0\nfor = \"0s\"\n",
        toml.split("[keep]").next().unwrap()
    );
    shop.write("unship.toml", short);
    let bad = state(&shop, "bad");
    shop.ok(&["rollback"]);
    shop.ok(&["pin", "R3"]);
    shop.ok(&["redo"]);
    shop.ok(&["undo"]);
    // Other releases push the undone one off the stack.
    for n in 1..=3 {
        let job = format!(
            "import duckdb; duckdb.connect('shop.duckdb').execute('create table t{n} as select {n} as x')"
        );
        shop.ok(&["run", "--in-place", "--", "python", "-c", &job]);
    }
    shop.ok(&["gc"]);
    shop.ok(&["rollback", "--to", "R3"]);
    let found = bad.differences(&shop, &state(&shop, "again"), &[]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn points_that_were_packed_come_back_whole() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    assert!(
        !shop.path(".unship/points/R0").exists(),
        "older points are packed"
    );
    shop.ok(&["rollback", "--to", "R1"]);
    shop.ok(&["undo"]);
    let back = state(&shop, "back");
    shop.ok(&["rollback", "--to", "R0"]);
    let left = sql(
        &shop,
        "shop.duckdb",
        "select string_agg(distinct schema_name, ',' order by schema_name) from duckdb_tables()",
    );
    assert_eq!(left, "raw", "nothing that the project built is left");
    shop.ok(&["undo"]);
    assert_eq!(
        back.differences(&shop, &state(&shop, "undone"), &[]),
        [""; 0]
    );
}
