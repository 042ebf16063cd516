//! A dbt project on PostgreSQL, whole: the job's own dbt, the real binary, a real server. What is
//! checked is asked of the server by `psql` and `pg_dump`, which know nothing of unship.

use crate::decisions::{approves, has_ssh_keygen, wants_approval};
use crate::support::warehouse::{Warehouse, same};
use crate::support::{Tools, tools};
use std::collections::BTreeSet;

/// A project in a database of its own, where a loader fills `raw.orders`, and what others made in
/// `bi` reads what the project builds.
struct Shop(Warehouse);

impl std::ops::Deref for Shop {
    type Target = Warehouse;

    fn deref(&self) -> &Warehouse {
        &self.0
    }
}

const PROJECT: &[(&str, &str)] = &[
    (
        "dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\nsnapshots: {shop: {+schema: history}}\n",
    ),
    (
        "models/sources.yml",
        "sources: [{name: raw, schema: raw, tables: [{name: orders}]}]\n",
    ),
    (
        "models/stg_orders.sql",
        "{{ config(materialized='view') }} select id, customer, day, amount from {{ source('raw', 'orders') }}",
    ),
    ("models/fct_orders.sql", FACTS),
    (
        "models/daily.sql",
        "{{ config(materialized='table', schema='marts') }} select day, sum(cents) as cents, count(*) as orders from {{ ref('fct_orders') }} group by day",
    ),
    (
        "snapshots/customers.yml",
        "snapshots: [{name: customers, relation: ref('latest'), config: {unique_key: customer, strategy: check, check_cols: [day]}}]\n",
    ),
    (
        "models/latest.sql",
        "{{ config(materialized='table') }} select customer, max(day) as day from {{ ref('stg_orders') }} group by customer",
    ),
];

/// Only days that are not there yet.
const FACTS: &str = "{{ config(materialized='incremental', unique_key='id') }} \
    select id, customer, day, (amount * 100)::bigint as cents from {{ ref('stg_orders') }} \
    {% if is_incremental() %} where day > (select max(day) from {{ this }}) {% endif %}";

impl Shop {
    fn new(tools: &Tools) -> Option<Self> {
        let shop = Self(Warehouse::new(tools, PROJECT.iter().copied())?);
        shop.sql(
            "CREATE SCHEMA raw; CREATE TABLE raw.orders (id bigint, customer text, day date, amount numeric(10, 2))",
        );
        for day in 1..=3 {
            shop.load(day);
        }
        shop.scratch.commit("good");
        Some(shop)
    }

    /// The loader brings a day.
    fn load(&self, day: u32) {
        self.sql(&format!(
            "INSERT INTO raw.orders SELECT {day} * 1000 + i, 'c' || i % 7, date '2026-01-01' + {day}, i * 1.25 FROM generate_series(1, 100) i"
        ));
    }

    /// Everything but what the loader brings.
    fn state(&self) -> BTreeSet<String> {
        self.0.state(&["raw"])
    }
}

/// The incremental model takes in a day wrongly, another day of raw rows comes in, and only then
/// somebody notices. Building again with the old code would leave the wrong day where it is.
#[test]
fn an_incremental_model_that_took_in_a_bad_day_comes_back() {
    let Some(tools) = tools() else { return };
    let Some(shop) = Shop::new(&tools) else {
        return;
    };
    let scratch = &shop.scratch;
    scratch.ok(&["init"]);
    scratch.only_tell();
    shop.build(&["build"]);
    shop.sql(
        "CREATE SCHEMA bi; CREATE VIEW bi.revenue AS SELECT sum(cents) AS cents FROM analytics_marts.daily;
         CREATE VIEW bi.best AS SELECT customer, sum(cents) AS cents FROM analytics.fct_orders GROUP BY customer;
         GRANT USAGE ON SCHEMA analytics_marts TO pg_monitor; GRANT SELECT ON analytics_marts.daily TO pg_monitor;
         CREATE INDEX by_customer ON analytics.fct_orders (customer);
         COMMENT ON TABLE analytics_marts.daily IS 'for the board'",
    );
    shop.load(4);
    shop.build(&["build"]);
    let good = shop.state();
    let revenue = shop.ask("SELECT cents FROM bi.revenue");
    assert_eq!(revenue, "2525000");

    scratch.write("models/fct_orders.sql", FACTS.replace("* 100", "* 10000"));
    scratch.commit("bad");
    shop.load(5);
    shop.build(&["build"]);
    assert_ne!(shop.ask("SELECT cents FROM bi.revenue"), revenue);
    let bad = shop.state();
    shop.load(6);

    // The ledger is in the database here; the plan that is planned again is the one that was
    // approved.
    if has_ssh_keygen() {
        let before = scratch.read("unship.toml");
        wants_approval(scratch, "prod");
        scratch
            .unship(&["rollback"])
            .says(78, &["needs 1 approval by the role `lead`"]);
        let waiting = scratch.json("unship.approval-list/1", &["--json", "approvals"]);
        let id = waiting["asked"][0]["plan"].as_str().unwrap();
        approves(scratch, "lea", &[id]).says(0, &["lea@example.org approves plan"]);
        scratch.ok(&["rollback"]);
        scratch.write("unship.toml", before);
    } else {
        scratch.ok(&["rollback"]);
    }
    let small = ["run", "--", "dbt", "--quiet", "run", "-s", "latest"];
    scratch
        .unship(&small)
        .says(77, &["it built R3, which R4 took back"]);
    same(&shop.state(), &good);
    assert_eq!(shop.ask("SELECT cents FROM bi.revenue"), revenue);
    assert_eq!(shop.ask("SELECT count(*) FROM raw.orders"), "600");
    scratch.ok(&["verify"]);
    scratch.ok(&["redo"]);
    same(&shop.state(), &bad);
    scratch.ok(&["undo"]);
    same(&shop.state(), &good);
    scratch.ok(&["audit", "verify"]);
    // The bad release is there by name.
    let kept = shop.ask("SELECT sum(cents) FROM unship_r3_analytics.fct_orders");
    assert_eq!(kept, "65650000");

    // With the old code again both days are taken in, as if nothing had been.
    scratch.write("models/fct_orders.sql", FACTS);
    scratch.commit("mended");
    shop.build(&["build"]);
    let counted = "SELECT sum(cents) = (SELECT sum(amount * 100) FROM raw.orders), count(*) FROM analytics.fct_orders";
    assert_eq!(shop.ask(counted), "t|600");

    // A plain `dbt run -s` drops, with its table, what others made above it.
    shop.build(&["run", "-s", "daily"]);
    assert_eq!(shop.ask("SELECT cents FROM bi.revenue"), "3787500");
    assert_eq!(
        shop.ask("SELECT has_table_privilege('pg_monitor', 'analytics_marts.daily', 'SELECT')"),
        "t"
    );
}

/// An unmeant change of unit, with nothing written to find it: what was built aside is held, and
/// production is what it was.
#[test]
fn another_unit_is_held_before_it_is_production() {
    let Some(tools) = tools() else { return };
    let Some(shop) = Shop::new(&tools) else {
        return;
    };
    let scratch = &shop.scratch;
    scratch.ok(&["init"]);
    shop.build(&["build"]);
    // A role is the server's, and other tests have one too.
    let reader = shop.ask("SELECT 'reader_' || md5(current_database())");
    shop.sql(&format!(
        "CREATE ROLE {reader}; GRANT USAGE ON SCHEMA analytics_marts TO {reader};
         GRANT SELECT ON analytics_marts.daily TO {reader}"
    ));
    shop.load(4);
    shop.build(&["build"]);
    let good = shop.state();
    let text = scratch.read("unship.toml");
    let more = "\n[[check]]\nname = \"cents\"\nkind = \"reconcile\"\n\
                 left = \"select sum(cents) from {analytics_marts.daily}\"\n\
                 right = \"select sum(amount) * 100 from stg_orders\"\n";
    scratch.write("unship.toml", text.clone() + more);
    let daily = "models/daily.sql";
    scratch.write(
        daily,
        scratch
            .read(daily)
            .replace("sum(cents)", "sum(cents) * 100"),
    );
    shop.load(5);
    let held = shop.try_build(&["build"]);
    held.says(
        76,
        &[
            "not published",
            "analytics_marts.daily.cents",
            "125.0",
            "times",
        ],
    );
    same(&shop.state(), &good);
    let shown = scratch.json("unship.release/1", &["show", "R3", "--json"]);
    let found = shown["findings"].as_array().unwrap();
    let failed = |name: &str| {
        let of_it = |f: &&serde_json::Value| f["check"] == name && f["outcome"] == "fail";
        found
            .iter()
            .find(of_it)
            .unwrap_or_else(|| panic!("{name}: {found:?}"))
    };
    assert_eq!(failed("sum")["severity"], "critical");
    // What was built is read, and not production: there the two would be the same.
    failed("cents");

    // Somebody makes a table anew by hand, and forgets who read it.
    scratch.write("unship.toml", text);
    scratch.ok(&["check"]);
    shop.sql(
        "ALTER TABLE analytics_marts.daily RENAME TO old;
         CREATE TABLE analytics_marts.daily AS SELECT * FROM analytics_marts.old;
         DROP TABLE analytics_marts.old",
    );
    let says = format!("{reader} may not SELECT it any more");
    scratch
        .unship(&["check"])
        .says(76, &["critical  ", "access", &says]);
    shop.sql(&format!(
        "GRANT SELECT ON analytics_marts.daily TO {reader}"
    ));
    scratch.ok(&["check"]);
    shop.sql(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}"));
}
