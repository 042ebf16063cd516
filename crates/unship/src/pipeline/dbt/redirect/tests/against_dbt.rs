//! The generated profile, read by dbt itself.

use crate::pipeline::dbt::{
    Surroundings, invocation::Invocation, profile::Located, project::artefacts, redirect::redirect,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
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
    (
        "p/dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\nmodels:\n  +materialized: table\n  shop:\n    \
         marts: {+schema: marts}\n",
    ),
    ("profiles/profiles.yml", include_str!("profiles.yml")),
    (
        "p/macros/schema.sql",
        "{% macro generate_schema_name(custom, node) %}{% if target.name == 'dev' %}\
         {{ custom or target.schema }}{% else %}other_{{ custom }}{% endif %}{% endmacro %}",
    ),
    ("p/models/a.sql", "select 1 as id"),
    (
        "p/models/marts/b.sql",
        "select a.* from {{ ref('a') }} a cross join read.main.given",
    ),
    (
        "p/models/c.sql",
        "{{ config(database='other') }} select * from {{ ref('a') }}",
    ),
    (
        "p/models/d.sql",
        "{{ config(database='third', materialized='view') }} select 1 as id",
    ),
    ("cwd/data/.keep", ""),
    ("green/.keep", ""),
    ("generated/.keep", ""),
];

const MAKE_THE_READ_ONLY_ONE: &str = "import duckdb\n\
    duckdb.connect('data/read.duckdb').execute('create table given as select 1 as x')";

const ASK: &str = "import duckdb, sys\n\
    c = duckdb.connect()\n\
    for name in ['warehouse.duckdb', 'other.duckdb', 'third.v1.duckdb']:\n\
    \tc.execute(f\"attach '{sys.argv[1]}/{name}'\")\n\
    print(c.execute('select (select id from warehouse.marts.b), (select id from other.main.c), \
    (select id from third.main.d)').fetchone())";

fn run(program: &Path, args: &[String], at: &Surroundings) -> String {
    let out = Command::new(program)
        .args(args)
        .current_dir(&at.directory)
        .envs(&at.env)
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(out.status.success(), "{args:?}: {said}");
    said
}

#[test]
fn a_redirected_build_lands_in_the_copies_under_the_same_names() {
    let Some(dbt) = dbt() else {
        unship_core::testing::skipped("no dbt on PATH; set UNSHIP_TEST_DBT to a dbt executable");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let at = Surroundings {
        directory: dir.path().join("cwd"),
        env: [
            ("SHOP_TARGET", "dev"),
            ("SHOP_DB", "data/warehouse.duckdb"),
            ("DBT_ENV_SECRET_S3", "never-shown"),
            ("DBT_SEND_ANONYMOUS_USAGE_STATS", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    };
    let python = dbt.with_file_name("python");
    run(&python, &["-c".into(), MAKE_THE_READ_ONLY_ONE.into()], &at);

    // The job runs neither in the project nor where its profiles are.
    let argv: Vec<String> = format!(
        "{} -q build --project-dir ../p --profiles-dir=../profiles --target-path ../out",
        dbt.display()
    )
    .split(' ')
    .map(str::to_owned)
    .collect();
    run(&dbt, &argv[1..], &at);
    let job = Invocation::parse(&argv).unwrap();
    let located = Located::find(&job.options, &at).unwrap();
    let target = located.target(&job.options, &at).unwrap();
    let files = target.duckdb.as_ref().unwrap().files().unwrap();
    let names: Vec<_> = files.iter().map(|file| file.database.as_str()).collect();
    assert_eq!(names, ["warehouse", "other", "third"]);
    let found = artefacts(&located, &target, &job.options, &at).unwrap();
    let relations = || -> BTreeMap<String, Option<String>> {
        let text = std::fs::read(&found.manifest).unwrap();
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        let nodes = manifest["nodes"].as_object().unwrap();
        let name = |node: &Value| node["relation_name"].as_str().map(str::to_owned);
        nodes
            .iter()
            .map(|(id, node)| (id.clone(), name(node)))
            .collect()
    };
    let before = relations();
    let green = dir.path().join("green");
    let moves: Vec<(PathBuf, PathBuf)> = files
        .iter()
        .map(|file| {
            (
                file.path.clone(),
                green.join(file.path.file_name().unwrap()),
            )
        })
        .collect();
    for (from, to) in &moves {
        assert!(from.is_file(), "{from:?} is where dbt wrote");
        std::fs::copy(from, to).unwrap();
    }
    let untouched = std::fs::read(&moves[0].0).unwrap();

    std::fs::write(dir.path().join("p/models/a.sql"), "select 2 as id").unwrap();
    let generated = dir.path().join("generated");
    let text = redirect(&located, &target, &moves).unwrap();
    assert!(!text.contains("never-shown"));
    std::fs::write(generated.join("profiles.yml"), text).unwrap();
    let argv = job.with_profiles_dir(&generated).unwrap();
    run(&dbt, &argv[1..], &at);

    assert_eq!(relations(), before);
    assert_eq!(
        std::fs::read(&moves[0].0).unwrap(),
        untouched,
        "production did not change"
    );
    let answer = |dir: &Path| {
        let dir = dir.to_str().unwrap();
        run(&python, &["-c".into(), ASK.into(), dir.into()], &at)
    };
    assert_eq!(answer(&green).trim(), "(2, 2, 1)");
    assert_eq!(answer(&at.directory.join("data")).trim(), "(1, 1, 1)");
}
