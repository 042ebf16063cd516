//! Builds aside, and what production is afterwards.

use super::*;

/// Production's schemas have plain names: the target's schema is not in them.
const PLAIN_NAMES: &str = "{% macro other() %}1{% endmacro %}\n\
    {% macro generate_schema_name(custom_schema_name, node) -%}\n\
    {%- if custom_schema_name is none -%}{{ target.schema }}\n\
    {%- elif target.name == 'prod' -%}{{ custom_schema_name | trim }}\n\
    {%- else -%}{{ target.schema }}_{{ custom_schema_name | trim }}{%- endif -%}\n\
    {%- endmacro %}";

fn shop() -> Option<Rig> {
    let rig = Rig::new(&[
        ("p/dbt_project.yml", PROJECT),
        ("p/macros/names/schema.sql", PLAIN_NAMES),
        ("p/seeds/categories.csv", "id,category\n1,drink\n2,food\n"),
        (
            "p/models/sources.yml",
            "version: 2\nsources:\n  - {name: raw, schema: raw, tables: [{name: orders}]}\n  \
             - {name: own, schema: \"{{ target.schema }}\", tables: [{name: loaded}]}\n",
        ),
        (
            "p/models/stg_orders.sql",
            "{{ config(materialized='view') }} select * from {{ source('raw', 'orders') }}",
        ),
        (
            "p/models/marts/booked.sql",
            "{{ config(materialized='incremental') }}\n\
             select id, amount, now() as booked_at from {{ ref('stg_orders') }}\n\
             {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}",
        ),
        (
            "p/models/marts/Total.sql",
            "{{ config(alias='Grand Total') }} select sum(amount) as total, \
             (select count(*) from {{ ref('categories') }}) as categories, \
             (select count(*) from {{ source('own', 'loaded') }}) as loaded \
             from {{ ref('booked') }}",
        ),
        (
            "p/models/marts/marts.yml",
            "version: 2\nmodels:\n  - name: booked\n    columns:\n      - name: id\n        \
             data_tests: [unique, {not_null: {config: {store_failures: true}}}]\n",
        ),
        (
            "p/snapshots/history.yml",
            "snapshots:\n  - name: history\n    relation: source('raw', 'orders')\n    \
             config: {schema: history, unique_key: id, strategy: check, check_cols: [amount]}\n",
        ),
    ])?;
    rig.sql(
        "create schema raw; create schema analytics;
         create table raw.orders (id int, amount int); insert into raw.orders values (1, 10), (2, 20);
         create table analytics.loaded as select 1 as x;",
    );
    rig.plain("build");
    Some(rig)
}

const PRODUCTION: [&str; 6] = [
    "raw",
    "analytics",
    "marts",
    "reference",
    "history",
    "dbt_test__audit",
];

#[test]
fn a_build_aside_leaves_production_as_it_is() {
    let Some(rig) = shop() else { return };
    let names = rig.relations("%s");
    assert!(names.contains(&"marts.Grand Total".to_owned()), "{names:?}");
    rig.sql(
        "insert into raw.orders values (3, 30); update raw.orders set amount = 11 where id = 1",
    );
    let booked = rig.sql("select min(booked_at) from marts.booked");
    let before = rig.dump(&PRODUCTION);

    let aside = rig.aside("build");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(rig.dump(&PRODUCTION), before);
    assert_eq!(
        rig.relations(r"unship\_build\_%"),
        [
            "unship_build_analytics.loaded",
            "unship_build_analytics.stg_orders",
            "unship_build_dbt_test__audit.not_null_booked_id",
            "unship_build_history.history",
            "unship_build_marts.Grand Total",
            "unship_build_marts.booked",
            "unship_build_reference.categories",
        ]
    );
    assert_eq!(
        aside.built,
        [
            "analytics.stg_orders",
            "dbt_test__audit.not_null_booked_id",
            "history.history",
            "marts.Grand Total",
            "marts.booked",
            "reference.categories",
        ],
        "in production's names, and without the view of a source"
    );
    assert_eq!(
        aside.clones(),
        [
            ("history".to_owned(), Reason::Snapshot),
            ("booked".to_owned(), Reason::Incremental),
        ]
    );
    // The incremental model went on from its history, and so did the snapshot.
    assert_eq!(
        rig.sql("select min(booked_at), sum(amount), count(*) from unship_build_marts.booked"),
        format!("{booked}|60|3")
    );
    assert_eq!(
        rig.sql("select count(*), count(dbt_valid_to) from unship_build_history.history"),
        "4|1"
    );
    assert_eq!(
        rig.sql(r#"select * from unship_build_marts."Grand Total""#),
        "60|2|1"
    );
    assert_eq!(aside.warnings, Vec::<String>::new());
    assert_eq!(aside.failures, Vec::<String>::new());

    // What dbt leaves for others has production's names.
    let manifest = std::fs::read_to_string(rig.dir.path().join("p/target/manifest.json")).unwrap();
    assert!(manifest.contains(r#"\"marts\".\"booked\""#));
    assert!(!manifest.contains("unship_build_"));
    // Nothing was left in the project.
    let mut left: Vec<_> = std::fs::read_dir(rig.dir.path().join("p"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "dbt_project.yml",
            "logs",
            "macros",
            "models",
            "seeds",
            "snapshots",
            "target"
        ]
    );

    // Once more: the overlay is there, and what was built aside before plays no part.
    let again = rig.aside("build");
    assert!(again.good, "{}", again.said);
    assert_eq!(again.built, aside.built);
    assert_eq!(
        rig.sql("select count(*) from unship_build_marts.booked"),
        "3"
    );
    // From nothing.
    let anew = rig.aside("build --full-refresh");
    assert_eq!(anew.clones(), [("history".to_owned(), Reason::Snapshot)]);
    assert_ne!(
        rig.sql("select min(booked_at) from unship_build_marts.booked"),
        booked
    );
    assert_eq!(rig.dump(&PRODUCTION), before);
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_partial_build_reads_the_rest_from_production() {
    let Some(rig) = shop() else { return };
    rig.sql("insert into raw.orders values (3, 30)");
    let before = rig.dump(&PRODUCTION);

    // Of its parents one is a model and one a seed; neither is built.
    let aside = rig.aside("build --select Total --no-defer");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(aside.built, ["marts.Grand Total"]);
    assert_eq!(aside.clones(), []);
    assert_eq!(
        rig.sql(r#"select * from unship_build_marts."Grand Total""#),
        "30|2|1"
    );
    assert_eq!(rig.dump(&PRODUCTION), before);

    // A view in staging is bound to production's relation where that is not built.
    rig.write(
        "p/models/latest.sql",
        "{{ config(materialized='view') }} select max(id) as id from {{ ref('booked') }}",
    );
    let aside = rig.aside("run --select latest");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(rig.sql("select id from unship_build_analytics.latest"), "2");

    // Parent and child: the child reads what the parent becomes, history included.
    let aside = rig.aside("run -s booked+ --exclude resource_type:test");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(
        aside.built,
        ["analytics.latest", "marts.Grand Total", "marts.booked"]
    );
    assert_eq!(aside.clones(), [("booked".to_owned(), Reason::Incremental)]);
    assert_eq!(rig.sql("select id from unship_build_analytics.latest"), "3");

    // Selections that only dbt itself understands are put to dbt.
    rig.write(
        "p/selectors.yml",
        "selectors: [{name: mine, definition: {method: fqn, value: booked}}]\n",
    );
    let aside = rig.aside("run --selector mine");
    assert_eq!(aside.built, ["marts.booked"], "{}", aside.said);
    assert_eq!(aside.clones(), [("booked".to_owned(), Reason::Incremental)]);

    // Tests alone look at production.
    let aside = rig.aside("test --select booked");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(aside.built, ["dbt_test__audit.not_null_booked_id"]);
    assert_eq!(rig.dump(&PRODUCTION), before);
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_build_that_fails_is_told_by_name() {
    let Some(rig) = shop() else { return };
    rig.write(
        "p/models/marts/Total.sql",
        "select 1 / 0 as total from {{ ref('booked') }}",
    );
    let before = rig.dump(&PRODUCTION);
    let aside = rig.aside("build");
    assert!(!aside.good);
    assert!(
        aside.failures[0].starts_with("Total: "),
        "{:?}",
        aside.failures
    );
    assert!(!aside.built.iter().any(|name| name.contains("Total")));
    assert!(aside.built.contains(&"marts.booked".to_owned()));
    assert_eq!(rig.dump(&PRODUCTION), before);
}
