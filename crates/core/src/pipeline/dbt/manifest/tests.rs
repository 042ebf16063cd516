use super::*;
use crate::pipeline::dbt::run_results::RunResults;
use proptest::prelude::*;
use serde_json::json;

fn parse(nodes: Value, sources: Value) -> Manifest {
    let text = json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "dbt_version": "1.11.16", "project_name": "shop", "adapter_type": "duckdb",
            "generated_at": "2026-11-21T01:59:42.448989Z", "invocation_id": "i"
        },
        "macros": {"macro.x": {"anything": [1, 2]}},
        "nodes": nodes,
        "sources": sources,
        "groups": {"group.shop.fin": {"name": "fin", "owner": {"name": null, "email": ["a@b", "c@d"]}}},
        "exposures": {"exposure.shop.board": {
            "resource_type": "exposure", "name": "board", "package_name": "shop", "type": "dashboard",
            "label": "Board", "owner": {"email": "bi@shop", "name": null}, "maturity": "high",
            "url": "https://bi", "depends_on": {"nodes": ["model.shop.a"]}, "fqn": ["shop", "board"]}},
    });
    Manifest::parse(text.to_string().as_bytes()).unwrap()
}

#[test]
fn a_node_becomes_the_relation_its_parts_name() {
    let manifest = parse(
        json!({
            "model.shop.a": {"resource_type": "model", "name": "a", "alias": "A b", "database": "w",
                "schema": "main", "relation_name": "\"w\".\"main\".\"A b\"", "tags": "daily",
                "version": 2, "latest_version": 3.0, "meta": {"owner": {"email": "x@y"}},
                "config": {"materialized": "incremental", "unique_key": ["d", "k"],
                           "full_refresh": false, "post-hook": [{"sql": "grant"}], "pre-hook": [],
                           "on_schema_change": "append_new_columns"},
                "patch_path": "shop://models/schema.yml"},
            "model.shop.e": {"resource_type": "model", "name": "e", "alias": "e", "database": "w",
                "schema": "main", "relation_name": null, "config": {"materialized": "ephemeral"}},
            "model.shop.off": {"resource_type": "model", "name": "off", "config": {"enabled": false}},
            "model.shop.x": {"resource_type": "model", "name": "x", "alias": "x", "database": "w",
                "schema": "main", "relation_name": "\"w\".\"main\".\"x\"",
                "config": {"materialized": "external", "location": "out/x.parquet"}},
        }),
        json!({
            "source.shop.raw.o": {"resource_type": "source", "name": "o", "identifier": "raw_o",
                "source_name": "raw", "database": "w", "schema": "raw",
                "relation_name": "\"w\".\"raw\".\"raw_o\""},
            "source.shop.raw.f": {"resource_type": "source", "name": "f", "identifier": "f",
                "source_name": "raw", "database": "w", "schema": "raw", "relation_name": "x",
                "meta": {"external_location": "s3://b/{name}.parquet"}},
        }),
    );
    let a = &manifest.nodes["model.shop.a"];
    assert_eq!(a.relation, Some(RelationName::new("w", "main", "A b")));
    assert_eq!(a.unique_key, ["d", "k"]);
    assert_eq!(a.full_refresh, Some(false));
    assert_eq!((a.has_pre_hook, a.has_post_hook), (false, true));
    assert_eq!(a.version.as_deref(), Some("2"));
    assert_eq!(a.owner.as_deref(), Some("x@y"));
    assert_eq!(a.tags, ["daily"]);
    assert_eq!(a.patch_path.as_deref(), Some("models/schema.yml"));
    assert_eq!(manifest.nodes["model.shop.e"].relation, None);
    assert!(!manifest.nodes.contains_key("model.shop.off"));
    assert_eq!(
        manifest.nodes["model.shop.x"]
            .external
            .as_ref()
            .unwrap()
            .location
            .as_deref(),
        Some("out/x.parquet")
    );
    assert_eq!(
        manifest.nodes["source.shop.raw.o"].relation,
        Some(RelationName::new("w", "raw", "raw_o"))
    );
    let file = &manifest.nodes["source.shop.raw.f"];
    assert!(file.relation.is_none() && file.external.is_some());
    assert_eq!(manifest.groups["fin"].label(), Some("a@b"));
    assert_eq!(
        manifest.exposures["exposure.shop.board"].owner.label(),
        Some("bi@shop")
    );
}

#[test]
fn snowflake_spells_what_is_not_quoted_in_capitals() {
    let model = |relation: &str, key: Value| {
        json!({"resource_type": "model", "name": "orders", "alias": "Orders", "database": "shop",
               "schema": "my_marts", "relation_name": relation,
               "config": {"materialized": "incremental", "unique_key": key}})
    };
    let text = json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "adapter_type": "snowflake",
        },
        "nodes": {
            "model.shop.plain": model("shop.my_marts.Orders", json!("id")),
            "model.shop.named": model("shop.my_marts.\"Orders\"", json!(["\"Id\"", "day"])),
            "model.shop.all": model("\"shop\".\"my_marts\".\"Orders\"", json!("id || day")),
            "test.shop.u": {"resource_type": "test", "name": "u", "column_name": "id",
                "test_metadata": {"name": "unique", "kwargs": {"column_name": "id"}}},
        },
    });
    let manifest = Manifest::parse(text.to_string().as_bytes()).unwrap();
    let node = |name: &str| &manifest.nodes[&format!("model.shop.{name}")];
    for (name, relation, key) in [
        (
            "plain",
            RelationName::new("SHOP", "MY_MARTS", "ORDERS"),
            vec!["ID"],
        ),
        (
            "named",
            RelationName::new("SHOP", "MY_MARTS", "Orders"),
            vec!["Id", "DAY"],
        ),
        (
            "all",
            RelationName::new("shop", "my_marts", "Orders"),
            vec!["id || day"],
        ),
    ] {
        assert_eq!(node(name).relation, Some(relation));
        assert_eq!(node(name).unique_key, key);
    }
    let test = manifest.nodes["test.shop.u"].test.as_ref().unwrap();
    assert_eq!(test.column.as_deref(), Some("ID"));
}

#[test]
fn a_key_is_the_configured_one_or_the_tested_one() {
    let test = |name: &str, on: &str, kwargs: Value| {
        json!({"resource_type": "test", "name": name, "attached_node": on,
               "config": {"severity": "warn"},
               "test_metadata": {"name": name, "namespace": "dbt_utils", "kwargs": kwargs}})
    };
    let mut unique = test("unique", "model.shop.b", json!({"column_name": "id"}));
    unique["test_metadata"]["namespace"] = Value::Null;
    let manifest = parse(
        json!({
            "model.shop.a": {"resource_type": "model", "name": "a", "config": {"unique_key": "k"}},
            "model.shop.b": {"resource_type": "model", "name": "b"},
            "model.shop.c": {"resource_type": "model", "name": "c"},
            "test.shop.1": unique,
            "test.shop.2": test("unique_combination_of_columns", "model.shop.c",
                                json!({"combination_of_columns": ["x", "y"]})),
        }),
        json!({}),
    );
    assert_eq!(manifest.key_of("model.shop.a"), Some(vec!["k".to_owned()]));
    assert_eq!(manifest.key_of("model.shop.b"), Some(vec!["id".to_owned()]));
    assert_eq!(
        manifest.key_of("model.shop.c"),
        Some(vec!["x".to_owned(), "y".to_owned()])
    );
    assert_eq!(manifest.key_of("model.shop.nowhere"), None);
    let test = manifest.nodes["test.shop.2"].test.as_ref().unwrap();
    assert_eq!(
        test.name.as_deref(),
        Some("dbt_utils.unique_combination_of_columns")
    );
    assert_eq!(test.severity, Severity::Warn);
}

#[test]
fn what_is_not_a_manifest_is_refused_with_the_reason() {
    let version = |v: &str| format!(r#"{{"metadata":{{"dbt_schema_version":"{v}"}}}}"#);
    for (text, reason) in [
        (String::new(), "EOF"),
        ("[]".into(), "invalid length 0"),
        ("{}".into(), "missing field `metadata`"),
        (r#"{"metadata":{}}"#.into(), "no dbt_schema_version"),
        (
            version("https://x/dbt/manifest/v13.json"),
            "schema v13; unship reads v10 to v12",
        ),
        (version("https://x/dbt/manifest/v9.json"), "schema v9"),
        (
            version("https://x/dbt/catalog/v1.json"),
            "no dbt_schema_version",
        ),
        (
            version("https://x/dbt/manifest/v99999999999.json"),
            "no dbt_schema_version",
        ),
    ] {
        let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(Manifest::parse(deep.as_bytes()).is_err());
}

/// Where the inputs that nobody here wrote are; they are not part of the repository.
fn inputs() -> Option<std::path::PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/inputs");
    let dir = std::env::var_os("UNSHIP_TEST_INPUTS").map_or_else(|| beside.into(), Into::into);
    std::path::Path::new(&dir)
        .join("states")
        .is_dir()
        .then_some(dir)
}

#[test]
fn real_projects_are_read_whole() {
    let Some(inputs) = inputs() else {
        crate::testing::skipped(
            "no inputs; set UNSHIP_TEST_INPUTS to the directory that holds states/",
        );
        return;
    };
    let read = |name: &str| {
        let run = std::process::Command::new("gzip")
            .arg("-dc")
            .arg(inputs.join("states").join(name))
            .output()
            .unwrap();
        assert!(run.status.success(), "{name}");
        run.stdout
    };
    for (project, relations, tests, built) in [
        ("dataops/duckdb", 9, 100, 9),
        ("dataops/pg", 9, 100, 9),
        ("jaffle_shop_duckdb/duckdb", 9, 20, 9),
        ("jaffle_shop_duckdb/pg", 9, 20, 9),
        ("adventureworks-dbt/pg", 23, 42, 23),
    ] {
        let manifest = Manifest::parse(&read(&format!("{project}.manifest.json.gz"))).unwrap();
        let of = |kind: ResourceType| {
            manifest
                .nodes
                .values()
                .filter(move |n| n.resource_type == kind)
                .count()
        };
        let owned = manifest
            .nodes
            .values()
            .filter(|n| n.resource_type.is_built() && n.relation.is_some())
            .count();
        assert_eq!(
            (owned, of(ResourceType::Test)),
            (relations, tests),
            "{project}"
        );
        assert!(manifest.generated_at.is_some() && manifest.invocation_id.is_some());
        for node in manifest.nodes.values() {
            for parent in &node.depends_on {
                assert!(manifest.nodes.contains_key(parent), "{project}: {parent}");
            }
        }
        let run = RunResults::parse(&read(&format!("{project}.run_results.json.gz"))).unwrap();
        assert_eq!(run.invocation_id, manifest.invocation_id, "{project}");
        let outcome = run.outcome(&manifest);
        assert_eq!(outcome.built.len(), built, "{project}");
        assert!(outcome.failed.is_empty(), "{project}: {:?}", outcome.failed);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        fuzz(&bytes);
        crate::pipeline::dbt::run_results::fuzz(&bytes);
        crate::pipeline::dbt::sources::fuzz(&bytes);
    }

    /// Valid JSON of the wrong shape in a field that matters.
    #[test]
    fn a_field_of_the_wrong_type_never_panics(
        field in "name|alias|fqn|tags|config|meta|depends_on|version|test_metadata|owner|columns",
        value in prop_oneof![Just(json!(null)), Just(json!(1)), Just(json!(-1.5)), Just(json!("x")),
                             Just(json!([])), Just(json!([[1]])), Just(json!({"nodes": 3}))],
    ) {
        let text = json!({
            "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
            "nodes": {"test.a.b": {"resource_type": "test", "name": "b", field: value}},
        });
        fuzz(text.to_string().as_bytes());
    }
}
