use super::*;
use crate::pipeline::dbt::{Surroundings, invocation::Options};
use std::collections::BTreeMap;

mod against_dbt;

const PROFILES: &str = "
config: {send_anonymous_usage_stats: false}
base: &base {type: duckdb, threads: 1, password: 0123456789}
shop:
  target: dev
  outputs:
    dev:
      <<: *base
      path: \"{{ env_var('DB', 'w.duckdb') }}\"
      attach:
        - {path: o.db, alias: other}
        - {path: r.db, read_only: yes}
      secrets: [{type: s3, secret: \"{{ env_var('DBT_ENV_SECRET_X') }}\"}]
    templated: {type: duckdb, path: t.duckdb, attach: \"{{ var('a') | as_native }}\"}
    pg: {type: bigquery}
";

fn located(target: &str) -> (tempfile::TempDir, Located, DbtTarget) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("dbt_project.yml"),
        "name: shop\nprofile: shop\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("profiles.yml"), PROFILES).unwrap();
    let at = Surroundings {
        directory: dir.path().to_owned(),
        env: BTreeMap::new(),
    };
    let options = Options {
        target: Some(target.to_owned()),
        vars: Some("{a: \"[{'path': 'x.db'}]\"}".to_owned()),
        ..Options::default()
    };
    let located = Located::find(&options, &at).unwrap();
    let resolved = located.target(&options, &at).unwrap();
    (dir, located, resolved)
}

#[test]
fn only_the_paths_of_the_target_change() {
    let (dir, located, target) = located("dev");
    let moved = |name: &str| (dir.path().join(name), PathBuf::from("/green").join(name));
    let text = redirect(&located, &target, &[moved("w.duckdb"), moved("o.db")]).unwrap();
    let mut expected = located.profiles.clone();
    let dev = &mut expected["shop"]["outputs"]["dev"];
    dev["path"] = "/green/w.duckdb".into();
    dev["attach"][0]["path"] = "/green/o.db".into();
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read, Value::Object(expected));
    assert!(text.contains("{{ env_var('DBT_ENV_SECRET_X') }}"));
    assert!(text.contains("\"0123456789\""), "a password stays text");
}

#[test]
fn a_copy_that_cannot_stand_in_is_refused() {
    let (dir, from_dev, dev) = located("dev");
    let try_move = |from: &str, to: &str| {
        redirect(&from_dev, &dev, &[(dir.path().join(from), to.into())])
            .unwrap_err()
            .to_string()
    };
    assert!(try_move("w.duckdb", "/green/v.duckdb").contains("by another name"));
    assert!(try_move("x.duckdb", "/green/x.duckdb").contains("is not a database that the target"));
    assert!(try_move("r.db", "/green/r.db").contains("is not a database that the target"));
    assert!(try_move("w.duckdb", "/{{ x }}/w.duckdb").contains("cannot be written into a profile"));
    assert!(try_move("w.duckdb", "green/w.duckdb").contains("cannot be written into a profile"));

    let (dir, templated, target) = located("templated");
    let error = redirect(
        &templated,
        &target,
        &[(dir.path().join("x.db"), "/green/x.db".into())],
    );
    assert!(matches!(error, Err(RedirectError::Template { .. })));
    let (_dir, pg, target) = located("pg");
    assert!(matches!(
        redirect(&pg, &target, &[]),
        Err(RedirectError::NotDuckDb { .. })
    ));
}
