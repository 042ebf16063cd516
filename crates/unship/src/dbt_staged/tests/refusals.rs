//! What cannot be built aside is refused by name before anything runs, and only if it is built.

use super::*;

const OLD_SNAPSHOT: &str = "{% snapshot old %}{{ config(target_schema='archive', unique_key='id', \
    strategy='check', check_cols='all') }} select * from {{ ref('a') }}{% endsnapshot %}";

fn rig(more: &[(&str, &str)]) -> Option<Rig> {
    let mut files = vec![
        ("p/dbt_project.yml", PROJECT),
        ("p/models/a.sql", "select 1 as id"),
    ];
    files.extend(more);
    Rig::new(&files)
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_snapshot_with_a_schema_of_its_own_is_refused_where_it_is_taken() {
    let Some(rig) = rig(&[("p/snapshots/old.sql", OLD_SNAPSHOT)]) else {
        return;
    };
    rig.plain("build");
    let before = rig.dump(&["archive", "analytics"]);
    let said = rig.refused("build");
    assert!(said.contains("the snapshot old ("), "{said}");
    assert!(said.contains("archive.old"), "{said}");
    assert!(said.contains("`target_schema`"), "{said}");
    let aside = rig.aside("run");
    assert!(aside.good, "{}", aside.said);
    let without = rig.aside("build --exclude old");
    assert!(without.good, "{}", without.said);
    assert_eq!(without.built, ["analytics.a"]);
    assert_eq!(rig.dump(&["archive", "analytics"]), before);

    // Written with the target's schema, it follows.
    let text = OLD_SNAPSHOT.replace("'archive'", "target.schema ~ '_archive'");
    rig.write("p/snapshots/old.sql", &text);
    let aside = rig.aside("build");
    assert!(
        aside.built.contains(&"analytics_archive.old".to_owned()),
        "{}",
        aside.said
    );
    assert_eq!(rig.dump(&["archive", "analytics"]), before);
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn hooks_that_name_production_are_refused_and_others_are_told() {
    let Some(rig) = rig(&[(
        "p/models/b.sql",
        "{{ config(post_hook=[\"insert into analytics.log select 1\", \
         \"insert into audit.log values (1)\", \"grant select on {{ this }} to public\"]) }} \
         select 1 as id",
    )]) else {
        return;
    };
    let said = rig.refused("build");
    assert!(
        said.contains("a hook of b writes to analytics.log by that name"),
        "{said}"
    );
    assert!(!said.contains("audit"), "{said}");
    let staged = rig.stage("run --select a").unwrap().unwrap();
    assert_eq!(staged.redirect.warnings, Vec::<String>::new());
    rig.write(
        "p/models/b.sql",
        "{{ config(post_hook='insert into audit.log values (1)') }} select 1 as id",
    );
    let staged = rig.stage("build").unwrap().unwrap();
    let warnings = staged.redirect.warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("b writes to audit.log by that name"),
        "{warnings:?}"
    );
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn names_spelled_out_in_models_are_told_after_the_build() {
    let Some(rig) = rig(&[
        (
            "p/models/b.sql",
            "-- {{ ref('a') }}\nselect * from analytics.a",
        ),
        (
            "p/models/c.sql",
            "-- {{ ref('a') }}\nselect * from {{ target.schema }}.a",
        ),
    ]) else {
        return;
    };
    rig.plain("build");
    let aside = rig.aside("build");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(aside.warnings.len(), 1, "{:?}", aside.warnings);
    assert!(aside.warnings[0].starts_with("b reads analytics.a by that name"));
    // Where the other is not built, there is nothing to tell.
    let aside = rig.aside("build --select b");
    assert_eq!(aside.warnings, Vec::<String>::new());
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_project_that_branches_on_its_schema_is_refused() {
    let Some(rig) = rig(&[
        (
            "p/models/b.sql",
            "{{ config(materialized='table' if target.schema == 'analytics' else 'view') }} select 1 as id",
        ),
        (
            "p/models/c.sql",
            "{{ config(enabled=target.schema == 'analytics') }} select 1 as id",
        ),
    ]) else {
        return;
    };
    let said = rig.refused("build");
    assert!(
        said.contains("the model b (") && said.contains("is a table or a view"),
        "{said}"
    );
    assert!(
        said.contains("the model c (") && said.contains("is there or not"),
        "{said}"
    );
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_seed_that_is_a_source_too_is_told() {
    let Some(rig) = rig(&[
        ("p/seeds/s.csv", "id\n1\n"),
        (
            "p/models/sources.yml",
            "version: 2\nsources: [{name: r, schema: analytics_reference, tables: [{name: s}]}]\n",
        ),
        ("p/models/b.sql", "select * from {{ source('r', 's') }}"),
    ]) else {
        return;
    };
    let warnings = rig.stage("build").unwrap().unwrap().redirect.warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("the seed s is also declared as a source"),
        "{warnings:?}"
    );
}

#[test]
fn commands_that_go_on_from_what_is_there_are_refused() {
    let Some(rig) = rig(&[]) else { return };
    for (words, says) in [
        ("retry", "a build aside that fails is never"),
        ("run-operation m", "works on what is there"),
        ("clone", "builds nothing that could be published"),
    ] {
        assert!(rig.refused(words).contains(says), "{words}");
    }
    for words in ["docs generate", "ls", "source freshness", "compile"] {
        assert!(rig.stage(words).unwrap().is_none(), "{words}");
    }
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn what_dbt_says_of_a_broken_project_is_passed_on() {
    let Some(rig) = rig(&[("p/models/b.sql", "select * from {{ ref('nowhere') }}")]) else {
        return;
    };
    let said = rig.refused("build");
    assert!(said.starts_with("`dbt parse` failed:"), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}
