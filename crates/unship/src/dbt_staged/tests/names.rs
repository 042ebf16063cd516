//! Where projects put their relations, and what that becomes in staging.

use super::*;

fn pairs(redirect: &Redirect) -> Vec<(String, String)> {
    let name = |r: &RelationName| format!("{}.{}", r.schema, r.name);
    let all = redirect.relations.iter();
    all.map(|(staging, production)| (name(staging), name(production)))
        .collect()
}

fn assert_pairs(rig: &Rig, expected: &[(&str, &str)]) {
    let staged = rig.stage("build").unwrap().unwrap();
    let expected: Vec<_> = expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    assert_eq!(pairs(&staged.redirect), expected);
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn dbt_starter_is_redirected_without_an_overlay() {
    let Some(rig) = Rig::new(&[]) else { return };
    let ask = "import os, dbt.include.starter_project as s; print(os.path.dirname(s.__file__))";
    let out = Command::new(rig.dbt.with_file_name("python"))
        .args(["-c", ask])
        .output()
        .unwrap();
    let starter = PathBuf::from(String::from_utf8(out.stdout).unwrap().trim());
    let project = std::fs::read_to_string(starter.join("dbt_project.yml")).unwrap();
    let project = project
        .replace("{project_name}", "shop")
        .replace("{profile_name}", "shop");
    rig.write("p/dbt_project.yml", &project);
    for file in [
        "my_first_dbt_model.sql",
        "my_second_dbt_model.sql",
        "schema.yml",
    ] {
        let text = std::fs::read_to_string(starter.join("models/example").join(file)).unwrap();
        rig.write(&format!("p/models/example/{file}"), &text);
    }
    rig.plain("run");
    let before = rig.dump(&["analytics"]);
    let aside = rig.aside("run");
    assert!(aside.good, "{}", aside.said);
    let both = ["my_first_dbt_model", "my_second_dbt_model"];
    assert_eq!(aside.built, both.map(|name| format!("analytics.{name}")));
    assert_eq!(
        rig.relations(r"unship\_build\_%"),
        both.map(|name| format!("unship_build_analytics.{name}"))
    );
    assert!(!rig.dir.path().join("home/overlay").exists());
    assert_eq!(rig.dump(&["analytics"]), before);
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn dbt_own_names_follow_the_target() {
    let Some(rig) = Rig::new(&[
        ("p/dbt_project.yml", PROJECT),
        ("p/models/a.sql", "select 1 as id"),
        (
            "p/models/marts/b.sql",
            "{{ config(alias='bee') }} select * from {{ ref('a') }}",
        ),
        ("p/seeds/s.csv", "id\n1\n"),
    ]) else {
        return;
    };
    assert_pairs(
        &rig,
        &[
            ("unship_build_analytics.a", "analytics.a"),
            ("unship_build_analytics_marts.bee", "analytics_marts.bee"),
            (
                "unship_build_analytics_reference.s",
                "analytics_reference.s",
            ),
        ],
    );
    assert!(!rig.dir.path().join("home/overlay").exists());
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_project_s_own_names_decide_and_get_the_prefix_in_front() {
    // The target's schema within the name, and in the alias; a macro for all adapters' sake.
    let Some(rig) = Rig::new(&[
        ("p/dbt_project.yml", PROJECT),
        (
            "p/macros/schema.sql",
            "{% macro default__generate_schema_name(custom_schema_name, node) %}\n\
             {{ 'x_' ~ target.schema ~ '_' ~ (custom_schema_name or 'base') }}\n{% endmacro %}",
        ),
        (
            "p/macros/alias.sql",
            "{% macro generate_alias_name(custom_alias_name=none, node=none) -%}\
             {{ node.name ~ '_' ~ target.schema }}{%- endmacro %}",
        ),
        ("p/models/a.sql", "select 1 as id"),
        ("p/models/marts/b.sql", "select * from {{ ref('a') }}"),
    ]) else {
        return;
    };
    let expected = [
        (
            "unship_build_x_analytics_base.a_analytics",
            "x_analytics_base.a_analytics",
        ),
        (
            "unship_build_x_analytics_marts.b_analytics",
            "x_analytics_marts.b_analytics",
        ),
    ];
    assert_pairs(&rig, &expected);
    assert!(
        rig.dir
            .path()
            .join("home/overlay/macros/unship_redirect.sql")
            .is_file()
    );
    let aside = rig.aside("build");
    assert!(aside.good, "{}", aside.said);
    assert_eq!(
        rig.relations(r"unship\_build\_%"),
        expected.map(|(staging, _)| staging)
    );

    // The macro changes, and so does what it is wrapped in.
    rig.write("p/macros/schema.sql", "");
    rig.write(
        "p/macros/plain.sql",
        "{% macro generate_schema_name(name, node) %}{{ name or 'base' }}{% endmacro %}",
    );
    assert_pairs(
        &rig,
        &[
            ("unship_build_base.a_analytics", "base.a_analytics"),
            ("unship_build_marts.b_analytics", "marts.b_analytics"),
        ],
    );
}

#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn a_package_s_names_are_its_own() {
    let Some(rig) = Rig::new(&[
        ("p/dbt_project.yml", PROJECT),
        ("p/packages.yml", "packages: [{local: ../tools}]\n"),
        ("p/models/a.sql", "select 1 as id"),
        (
            "p/dbt_packages/tools/dbt_project.yml",
            "name: tools\nversion: '1.0'\n",
        ),
        ("p/dbt_packages/tools/models/t.sql", "select 1 as id"),
        (
            "p/dbt_packages/tools/macros/names.sql",
            "{% macro generate_schema_name(name, node) %}tools{% endmacro %}",
        ),
    ]) else {
        return;
    };
    assert_pairs(
        &rig,
        &[
            ("unship_build_analytics.a", "analytics.a"),
            ("unship_build_tools.t", "tools.t"),
        ],
    );
}
