use super::*;
use crate::pipeline::dbt::Location;
use std::collections::BTreeMap;

/// A project in `p/`, with files where dbt might look for profiles.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Surroundings) {
    let dir = tempfile::tempdir().unwrap();
    let project = (
        "p/dbt_project.yml",
        "name: shop\nprofile: \"{{ env_var('P', 'shop') }}\"\n",
    );
    for (name, text) in std::iter::once(&project).chain(files) {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let home = dir.path().join("home").to_str().unwrap().to_owned();
    let at = Surroundings {
        directory: dir.path().join("p"),
        env: BTreeMap::from([("HOME".to_owned(), home)]),
    };
    (dir, at)
}

const SHOP: &str = "
config: {send_anonymous_usage_stats: false}
shop:
  target: \"{{ env_var('T', 'dev') }}\"
  outputs:
    dev: &dev
      type: duckdb
      path: \"{{ env_var('DB', 'data/w.duckdb') }}\"
      attach: [{path: \"{{ var('other', 'o.db') }}\", alias: other}]
      settings: {password: \"{{ env_var('UNSET_SECRET') }}\"}
    prod: {<<: *dev, path: prod.duckdb, schema: live}
    odd: 3
    pg: {type: redshift, dbname: wh, schema: s, password: \"{{ broken\"}
other: {outputs: {default: {type: duckdb}}}
";

fn target(at: &Surroundings, options: &Options) -> Result<DbtTarget, ProfileError> {
    Located::find(options, at)?.target(options, at)
}

#[test]
fn profiles_are_found_where_dbt_finds_them() {
    let (dir, mut at) = tree(&[
        ("p/profiles.yml", SHOP),
        ("p/models/x.sql", ""),
        ("home/.dbt/profiles.yml", SHOP),
        ("flag/profiles.yml", SHOP),
        ("env/profiles.yml", SHOP),
    ]);
    let found = |at: &Surroundings, flag: Option<&str>| {
        let options = Options {
            profiles_dir: flag.map(str::to_owned),
            ..Options::default()
        };
        let located = Located::find(&options, at).unwrap();
        assert_eq!(located.project_dir, dir.path().join("p"));
        let file = located.profiles_file.strip_prefix(dir.path()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    assert_eq!(found(&at, None), "p/profiles.yml");
    assert_eq!(found(&at, Some("../flag")), "p/../flag/profiles.yml");
    at.directory = dir.path().join("p/models");
    assert_eq!(
        found(&at, None),
        "home/.dbt/profiles.yml",
        "dbt looks in the job's directory only"
    );
    at.env.insert(
        "DBT_PROFILES_DIR".into(),
        dir.path().join("env").to_str().unwrap().into(),
    );
    assert_eq!(found(&at, None), "env/profiles.yml");
    assert_eq!(
        found(&at, Some("../../flag")),
        "p/models/../../flag/profiles.yml"
    );
}

#[test]
fn a_target_is_resolved_as_dbt_resolves_it() {
    let (dir, mut at) = tree(&[("p/profiles.yml", SHOP)]);
    let file = |name: &str| Location::File(dir.path().join("p").join(name));
    let dev = target(&at, &Options::default()).unwrap();
    assert_eq!((dev.profile.as_str(), dev.target.as_str()), ("shop", "dev"));
    assert_eq!(dev.schema.as_deref(), Some("main"));
    assert_eq!(dev.database.as_deref(), Some("w"));
    let duckdb = dev.duckdb.unwrap();
    assert_eq!(duckdb.location, file("data/w.duckdb"));
    assert_eq!(duckdb.attach[0].location, file("o.db"));

    at.env.insert("T".into(), "prod".into());
    let options = Options {
        vars: Some("{other: /abs/x.db}".into()),
        ..Options::default()
    };
    let prod = target(&at, &options).unwrap();
    assert_eq!(
        (prod.target.as_str(), prod.schema.as_deref()),
        ("prod", Some("live"))
    );
    assert_eq!(
        prod.duckdb.unwrap().attach[0].location,
        Location::File("/abs/x.db".into())
    );

    at.env.insert("DBT_TARGET".into(), "pg".into());
    let pg = target(&at, &Options::default()).unwrap();
    assert_eq!(
        (pg.adapter.as_str(), pg.database.as_deref()),
        ("redshift", Some("wh"))
    );
    assert_eq!(pg.duckdb, None);

    at.env.insert("P".into(), "other".into());
    at.env.remove("DBT_TARGET");
    let other = target(&at, &Options::default()).unwrap();
    assert_eq!(other.target, "default");
    assert_eq!(other.duckdb.unwrap().location, Location::Memory);
}

#[test]
fn what_is_missing_is_named() {
    let (_dir, at) = tree(&[("p/profiles.yml", SHOP)]);
    let with = |profile: Option<&str>, target: Option<&str>, vars: Option<&str>| Options {
        profile: profile.map(str::to_owned),
        target: target.map(str::to_owned),
        vars: vars.map(str::to_owned),
        ..Options::default()
    };
    let says = |options: &Options| target(&at, options).unwrap_err().to_string();
    assert!(
        says(&with(Some("shp"), None, None)).contains("no profile named `shp`; it has other, shop")
    );
    assert!(
        says(&with(None, Some("x"), None))
            .contains("no target named `x`; it has dev, odd, pg, prod")
    );
    assert!(says(&with(None, Some("odd"), None)).contains("`odd` must be a mapping of settings"));
    assert!(
        says(&with(None, None, Some("[1]")))
            .contains("--vars is not a YAML mapping, as in --vars '{day")
    );

    let (_dir, at) = tree(&[(
        "p/profiles.yml",
        "shop:\n  target: dev\n  outputs:\n    dev:\n      \
        type: duckdb\n      path: \"{{ env_var('NO_SUCH') }}\"\n",
    )]);
    let error = target(&at, &Options::default()).unwrap_err().to_string();
    assert!(
        error.contains("`path`: the environment variable NO_SUCH is not set"),
        "{error}"
    );

    let (dir, mut at) = tree(&[]);
    assert!(
        target(&at, &Options::default())
            .unwrap_err()
            .to_string()
            .contains("cannot read")
    );
    std::fs::write(dir.path().join("p/profiles.yml"), "").unwrap();
    assert!(
        target(&at, &Options::default())
            .unwrap_err()
            .to_string()
            .contains("is empty")
    );
    std::fs::write(dir.path().join("p/profiles.yml"), "a: 1\nb: [\n").unwrap();
    assert!(
        target(&at, &Options::default())
            .unwrap_err()
            .to_string()
            .contains("profiles.yml: line 2")
    );
    at.directory = dir.path().to_owned();
    assert!(
        target(&at, &Options::default())
            .unwrap_err()
            .to_string()
            .contains("no dbt_project.yml in")
    );
}
