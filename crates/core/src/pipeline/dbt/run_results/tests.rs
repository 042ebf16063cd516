use super::*;
use serde_json::{Value, json};

fn node(id: &str, extra: Value) -> (String, Value) {
    let mut parts = id.split('.');
    let (kind, name) = (parts.next().unwrap(), parts.nth(1).unwrap());
    let mut node = json!({"resource_type": kind, "name": name, "alias": name, "database": "w",
                          "schema": "main", "relation_name": "r", "config": {}});
    for (key, value) in extra.as_object().unwrap() {
        node[key] = value.clone();
    }
    (id.to_owned(), node)
}

#[test]
fn built_failed_and_tested_are_told_apart() {
    let nodes: Value = Value::Object(
        [
            node("model.s.good", json!({})),
            node("model.s.bad", json!({})),
            node("model.s.half", json!({})),
            node(
                "model.s.eph",
                json!({"relation_name": null, "config": {"materialized": "ephemeral"}}),
            ),
            node(
                "test.s.warned",
                json!({"relation_name": null, "depends_on": {"nodes": ["model.s.good"]}}),
            ),
            node(
                "test.s.stored",
                json!({"depends_on": {"nodes": ["model.s.good", "model.s.gone"]}}),
            ),
            node("test.s.fine", json!({"relation_name": null})),
        ]
        .into_iter()
        .collect(),
    );
    let manifest = Manifest::parse(
        json!({"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
               "nodes": nodes})
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    let result = |id: &str, status: &str| json!({"unique_id": id, "status": status});
    let run = RunResults::parse(
        json!({
            "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"},
            "args": {"which": "build", "select": []}, "elapsed_time": 3.25,
            "results": [
                {"unique_id": "model.s.good", "status": "success", "execution_time": 0.5,
                 "adapter_response": {"_message": "OK", "rows_affected": 12}},
                {"unique_id": "model.s.bad", "status": "error", "message": "boom",
                 "adapter_response": {"rows_affected": -1}},
                result("model.s.half", "partial success"),
                result("model.s.eph", "success"),
                {"unique_id": "test.s.warned", "status": "warn", "failures": 3},
                {"unique_id": "test.s.stored", "status": "fail", "failures": 2},
                result("test.s.fine", "pass"),
                result("model.s.later", "skipped"),
                result("model.s.unknown", "reused"),
            ],
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    assert_eq!(run.command.as_deref(), Some("build"));
    assert_eq!(run.results[0].rows_affected, Some(12));
    assert_eq!(run.results[1].rows_affected, None);
    assert_eq!(run.results[8].status, Status::Other("reused".into()));

    let outcome = run.outcome(&manifest);
    let name = |n: &str| RelationName::new("w", "main", n);
    assert_eq!(
        outcome.built,
        BTreeSet::from([name("good"), name("stored")])
    );
    let failed: Vec<_> = outcome
        .failed
        .iter()
        .map(|f| (f.unique_id.as_str(), f.partly_built))
        .collect();
    assert_eq!(failed, [("model.s.bad", false), ("model.s.half", true)]);
    assert_eq!(outcome.failed[0].message.as_deref(), Some("boom"));
    assert_eq!(outcome.tests[0].severity, Severity::Warn);
    assert_eq!(outcome.tests[1].severity, Severity::Error);
    assert_eq!(outcome.tests[1].relations, BTreeSet::from([name("good")]));
    assert_eq!(outcome.skipped, ["model.s.later"]);
}
