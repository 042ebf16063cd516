//! The same selections, evaluated by dbt itself.

use super::*;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The dbt to compare with: `UNSHIP_TEST_DBT`, or the one on `PATH`.
fn dbt() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("UNSHIP_TEST_DBT") {
        return Some(named.into());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("dbt"))
        .find(|file| file.is_file())
}

const FILES: &[(&str, &str)] = &[
    ("dbt_project.yml", include_str!("project/dbt_project.yml")),
    ("profiles.yml", include_str!("project/profiles.yml")),
    ("models/schema.yml", include_str!("project/schema.yml")),
    (
        "dbt_packages/tools/dbt_project.yml",
        "name: tools\nversion: '1.0'\n",
    ),
    ("packages.yml", "packages:\n  - local: tools_src\n"),
    ("tools_src/dbt_project.yml", "name: tools\nversion: '1.0'\n"),
    (
        "dbt_packages/tools/models/calendar.sql",
        "{{ config(tags=['util']) }} select 1 as d",
    ),
    (
        "dbt_packages/tools/models/only_here/week.sql",
        "select * from {{ ref('calendar') }}",
    ),
    (
        "dbt_packages/tools/models/staging/stg_tool.sql",
        "select * from {{ ref('calendar') }}",
    ),
    ("seeds/countries.csv", "id,name\n1,a\n"),
    ("seeds/raw_regions.csv", "id,name\n1,a\n"),
    (
        "tests/orders_are_paid.sql",
        "select * from {{ ref('fct_orders') }} where 1 = 0",
    ),
    ("analyses/look.sql", "select * from {{ ref('fct_orders') }}"),
    (
        "snapshots/orders_history.sql",
        "{% snapshot orders_history %}{{ config(unique_key='id', strategy='check', \
         check_cols='all', target_schema='snap') }}select * from {{ ref('stg_orders') }}\
         {% endsnapshot %}",
    ),
    (
        "models/staging/stg_orders.sql",
        "select * from {{ source('raw', 'orders') }}",
    ),
    (
        "models/staging/stg_payments.sql",
        "select * from {{ source('raw', 'payments') }}",
    ),
    (
        "models/staging/stg_customers.sql",
        "select * from {{ source('crm', 'customers') }}",
    ),
    (
        "models/staging/stg_regions.sql",
        "select * from {{ ref('raw_regions') }}",
    ),
    ("models/staging/base/base_events.sql", "select 1 as id"),
    (
        "models/intermediate/int_orders.sql",
        "{{ config(materialized='ephemeral') }} select * from {{ ref('stg_orders') }} \
         cross join {{ ref('stg_payments') }}",
    ),
    (
        "models/intermediate/int_geo.sql",
        "select * from {{ ref('stg_regions') }} cross join {{ ref('countries') }}",
    ),
    (
        "models/intermediate/int_events.sql",
        "{{ config(tags='hourly') }} select * from {{ ref('base_events') }}",
    ),
    (
        "models/marts/fct_orders.sql",
        "{{ config(materialized='incremental', unique_key='id', tags=['daily', 'core']) }} \
         select * from {{ ref('int_orders') }}",
    ),
    (
        "models/marts/dim_customers.sql",
        "{{ config(tags=['daily']) }} select * from {{ ref('stg_customers') }}",
    ),
    (
        "models/marts/dim_geo.sql",
        "select * from {{ ref('int_geo') }} cross join {{ ref('calendar') }}",
    ),
    (
        "models/marts/finance/fct_revenue.sql",
        "{{ config(group='finance', meta={'owner': 'ana', 'tier': 1, 'gold': true}) }} \
         select o.* from {{ ref('fct_orders') }} o cross join {{ ref('dim_customers') }}",
    ),
    (
        "models/marts/finance/fct_margin.sql",
        "select * from {{ ref('fct_revenue') }}",
    ),
    (
        "models/marts/finance/fct_forecast.sql",
        "select * from {{ ref('fct_margin') }} cross join {{ ref('orders_history') }}",
    ),
    (
        "models/marts/web/fct_sessions.sql",
        "{{ config(alias='sessions') }} select * from {{ ref('int_events') }}",
    ),
    (
        "models/marts/web/fct_funnel.sql",
        "select s.* from {{ ref('fct_sessions') }} s cross join {{ ref('fct_orders') }}",
    ),
    ("models/marts/web/dotted.name.sql", "select 1 as id"),
    ("models/marts/dim_product_v1.sql", "select 1 as id"),
    ("models/marts/dim_product_v2.sql", "select 1 as id"),
    ("models/marts/dim_product_v3.sql", "select 1 as id"),
    (
        "models/marts/uses_product.sql",
        "select * from {{ ref('dim_product', v=1) }}",
    ),
    (
        "models/report.sql",
        "select * from {{ ref('fct_funnel') }} cross join {{ ref('dim_geo') }}",
    ),
];

/// Selections, and what to leave out.
const SELECTIONS: &[(&str, &str)] = &[
    ("", ""),
    ("", "tag:daily"),
    ("fct_orders", ""),
    ("+fct_orders", ""),
    ("fct_orders+", ""),
    ("+fct_orders+", ""),
    ("1+fct_orders", ""),
    ("2+fct_orders+1", ""),
    ("0+fct_orders", ""),
    ("fct_orders+0", ""),
    ("@fct_orders", ""),
    ("@int_events", ""),
    ("@+stg_payments", ""),
    ("int_orders+1", ""),
    ("tag:daily", ""),
    ("tag:dai*", ""),
    ("tag:hourly+", ""),
    ("tag:quality", ""),
    ("tag:nope", ""),
    ("path:models/marts", ""),
    ("models/marts", ""),
    ("models/marts/", ""),
    ("models/marts/*", ""),
    ("models/marts/**", ""),
    ("models/**/fct_*.sql", ""),
    ("./models/staging", ""),
    ("models/schema.yml", ""),
    ("path:models", ""),
    ("path:seeds", ""),
    ("models/only_here", ""),
    ("models/staging", ""),
    ("dbt_packages/tools/models", ""),
    ("models/marts/fct_orders.sql+", ""),
    ("fct_orders.sql", ""),
    ("countries.csv", ""),
    ("file:fct_*", ""),
    ("shop", ""),
    ("shop.marts", ""),
    ("marts", ""),
    ("marts.finance", ""),
    ("marts.finance.*", ""),
    ("shop.marts.*.fct_revenue", ""),
    ("shop.*.fct_revenue", ""),
    ("fct_*", ""),
    ("*orders", ""),
    ("fct_?????s", ""),
    ("fct_[mr]*", ""),
    ("fct_[!mr]*", ""),
    ("sessions", ""),
    ("fct_sessions", ""),
    ("dotted.name", ""),
    ("dotted", ""),
    ("fqn:stg_*", ""),
    ("fqn:*", ""),
    ("package:tools", ""),
    ("package:this", ""),
    ("package:t*", ""),
    ("tools", ""),
    ("tools.calendar+", ""),
    ("source:raw", ""),
    ("source:raw+", ""),
    ("source:raw.orders+", ""),
    ("source:shop.raw.pay*+", ""),
    ("source:*", ""),
    ("exposure:board", ""),
    ("+exposure:board", ""),
    ("1+exposure:*", ""),
    ("exposure:shop.board", ""),
    ("resource_type:snapshot", ""),
    ("resource_type:seed+", ""),
    ("resource_type:exposure", ""),
    ("resource_type:unit_test", ""),
    ("resource_type:test,fct_orders", ""),
    ("config.materialized:incremental", ""),
    ("config.materialized:ephemeral+", ""),
    ("config.materialized:view,marts", ""),
    ("config.meta.owner:ana", ""),
    ("config.meta.gold:true", ""),
    ("config.meta.tier:1", ""),
    ("config.tags:core", ""),
    ("config.severity:WARN", ""),
    ("config.severity:warn", ""),
    ("config.unique_key:id", ""),
    ("config.enabled:true,marts", ""),
    ("config.contract.enforced:false,finance", ""),
    ("config.nothing.here:x", ""),
    ("group:finance", ""),
    ("group:fin*+", ""),
    ("access:public", ""),
    ("access:protected", ""),
    ("version:latest", ""),
    ("version:old", ""),
    ("version:prerelease", ""),
    ("version:none", ""),
    ("dim_product", ""),
    ("dim_product.v1", ""),
    ("dim_product_v1+", ""),
    ("dim_prod*", ""),
    ("test_type:generic", ""),
    ("test_type:singular", ""),
    ("test_type:unit", ""),
    ("test_type:data", ""),
    ("test_name:unique", ""),
    ("test_name:not_*", ""),
    ("test_name:relationships", ""),
    ("unit_test:*", ""),
    ("orders_are_paid", ""),
    ("orders_history+", ""),
    ("look", ""),
    ("fct_orders dim_geo", ""),
    ("tag:daily,tag:core", ""),
    ("tag:daily,marts,config.materialized:view", ""),
    ("+fct_revenue,+fct_funnel", ""),
    ("source:raw+,marts.web tag:hourly", ""),
    ("marts", "finance"),
    ("marts", "marts.finance.*"),
    ("+report", "+fct_orders"),
    ("fct_orders+", "fct_revenue+ test_type:unit"),
    ("tag:daily", "tag:daily,tag:core"),
    ("@dim_geo", "package:tools resource_type:seed"),
    (
        "resource_type:model",
        "models/marts config.materialized:ephemeral",
    ),
    ("*", "fct_*"),
];

/// One Python process evaluates everything: dbt takes seconds to start.
const ASK: &str = r#"
import json, sys, logging
from dbt.cli.main import dbtRunner
runner = dbtRunner()
parsed = runner.invoke(["-q", "parse", "--no-partial-parse"])
assert parsed.success, parsed.exception
runner = dbtRunner(manifest=parsed.result)
answers = []
for select, exclude in json.load(open("selections.json")):
    args = ["-q", "ls", "--output", "json", "--output-keys", "unique_id"]
    if select: args += ["--select", *select.split(" ")]
    if exclude: args += ["--exclude", *exclude.split(" ")]
    out = runner.invoke(args)
    assert out.success, (select, out.exception)
    answers.append([json.loads(line)["unique_id"] for line in out.result])
json.dump(answers, open("answers.json", "w"))
"#;

fn ask(dbt: &Path, project: &Path) -> Vec<BTreeSet<String>> {
    for (name, text) in FILES {
        let file = project.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let selections = serde_json::to_string(SELECTIONS).unwrap();
    std::fs::write(project.join("selections.json"), selections).unwrap();
    let bin = std::fs::canonicalize(dbt.parent().unwrap()).unwrap();
    let run = Command::new(bin.join("python"))
        .args(["-c", ASK])
        .current_dir(project)
        .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        run.status.success(),
        "{}{}",
        said(&run.stdout),
        said(&run.stderr)
    );
    let answers = std::fs::read(project.join("answers.json")).unwrap();
    serde_json::from_slice(&answers).unwrap()
}

#[test]
fn every_selection_picks_what_dbt_picks() {
    let Some(dbt) = dbt() else {
        crate::testing::skipped("no dbt on PATH; set UNSHIP_TEST_DBT to a dbt executable");
        return;
    };
    let project = tempfile::tempdir().unwrap();
    let answers = ask(&dbt, project.path());
    let manifest = std::fs::read(project.path().join("target/manifest.json")).unwrap();
    let lineage = Lineage::new(Manifest::parse(&manifest).unwrap());
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let mut wrong = Vec::new();
    for ((select, exclude), expected) in SELECTIONS.iter().zip(&answers) {
        let selector = Selector::parse(&words(select), &words(exclude)).unwrap();
        let picked = lineage.select(&selector).picked;
        if picked != *expected {
            wrong.push(format!(
                "{select:?} without {exclude:?}: missing {:?}, too many {:?}",
                expected - &picked,
                &picked - expected
            ));
        }
    }
    assert!(answers.iter().filter(|set| !set.is_empty()).count() > 80);
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        answers.len(),
        wrong.join("\n")
    );
}
