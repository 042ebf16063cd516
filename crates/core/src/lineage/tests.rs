use super::*;
use serde_json::{Value, json};

mod against_dbt;

/// `raw` (seed and source at once) → `stg` (view) → `eph` (ephemeral) → `fct` → `board` (exposure),
/// and `other`, which reads the source.
fn shop() -> Lineage {
    let node = |kind: &str, name: &str, reads: &[&str], extra: Value| {
        let mut node = json!({
            "resource_type": kind, "name": name, "alias": name, "package_name": "shop",
            "database": "w", "schema": "main", "relation_name": name,
            "original_file_path": format!("models/marts/{name}.sql"),
            "fqn": ["shop", "marts", name], "depends_on": {"nodes": reads}, "config": {},
        });
        for (key, value) in extra.as_object().unwrap() {
            node[key] = value.clone();
        }
        node
    };
    let text = json!({
        "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
                     "project_name": "shop"},
        "nodes": {
            "seed.shop.raw": node("seed", "raw", &[], json!({})),
            "model.shop.stg": node("model", "stg", &["seed.shop.raw"], json!({"tags": ["daily"]})),
            "model.shop.eph": node("model", "eph", &["model.shop.stg"],
                json!({"relation_name": null, "config": {"materialized": "ephemeral"}})),
            "model.shop.fct": node("model", "fct", &["model.shop.eph", "model.shop.disabled"],
                json!({"meta": {"owner": "ana"}})),
            "model.shop.other": node("model", "other", &["source.shop.s.raw"],
                json!({"group": "fin"})),
            "test.shop.unique_fct": node("test", "unique_fct", &["model.shop.fct"],
                json!({"relation_name": null})),
        },
        "sources": {"source.shop.s.raw": node("source", "raw", &[],
            json!({"source_name": "s", "identifier": "raw"}))},
        "exposures": {"exposure.shop.board": node("exposure", "board", &["model.shop.fct"],
            json!({"relation_name": null, "owner": {"name": "BI", "email": "bi@shop"}}))},
        "groups": {"group.shop.fin": {"name": "fin", "owner": {"name": "Finance"}}},
    });
    Lineage::new(Manifest::parse(text.to_string().as_bytes()).unwrap())
}

fn relation(name: &str) -> RelationName {
    RelationName::new("w", "main", name)
}

fn select(lineage: &Lineage, text: &str) -> Selected<String> {
    lineage.select(&Selector::parse(&[text], &[]).unwrap())
}

#[test]
fn relations_depend_on_each_other_through_ephemeral_models() {
    let lineage = shop();
    assert_eq!(
        lineage.dependents(&relation("stg")),
        BTreeSet::from([relation("fct")])
    );
    assert_eq!(
        lineage.dependents(&relation("raw")),
        BTreeSet::from([relation("other"), relation("stg")]),
        "the seed is also a source"
    );
    assert_eq!(lineage.nodes_of(&relation("raw")).count(), 2);
    assert_eq!(
        lineage.parents("model.shop.fct").collect::<Vec<_>>(),
        ["model.shop.eph"]
    );
    assert_eq!(lineage.children("model.shop.nowhere").count(), 0);
}

#[test]
fn a_blast_radius_names_relations_exposures_and_owners() {
    let radius = shop().blast_radius(&BTreeSet::from([relation("stg")]));
    assert_eq!(radius.relations, BTreeSet::from([relation("fct")]));
    assert_eq!(
        radius.exposures,
        BTreeSet::from(["exposure.shop.board".to_owned()])
    );
    assert_eq!(
        radius.owners,
        BTreeSet::from(["BI".to_owned(), "ana".to_owned()])
    );
    let raw = shop().blast_radius(&BTreeSet::from([relation("raw")]));
    assert!(raw.relations.contains(&relation("other")) && raw.owners.contains("Finance"));
}

#[test]
fn order_and_closure_follow_the_graph() {
    let lineage = shop();
    let order = lineage.topological_order().unwrap();
    let at = |id: &str| order.iter().position(|o| *o == id).unwrap();
    assert!(
        at("seed.shop.raw") < at("model.shop.stg") && at("model.shop.eph") < at("model.shop.fct")
    );
    let up = lineage.closure(["model.shop.eph"], Direction::Incoming);
    assert_eq!(up.len(), 3);
}

#[test]
fn a_manifest_that_goes_in_circles_is_no_trap() {
    let text = json!({
        "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
        "nodes": {
            "model.a.x": {"resource_type": "model", "name": "x", "alias": "x", "relation_name": "x",
                          "fqn": ["a", "x"], "depends_on": {"nodes": ["model.a.y"]}},
            "model.a.y": {"resource_type": "model", "name": "y", "fqn": ["a", "y"],
                          "depends_on": {"nodes": ["model.a.x", "model.a.y"]}},
        },
    });
    let lineage = Lineage::new(Manifest::parse(text.to_string().as_bytes()).unwrap());
    assert!(lineage.topological_order().is_err());
    assert_eq!(select(&lineage, "@x").picked.len(), 2);
    assert!(
        lineage
            .dependents(&RelationName::new("", "", "x"))
            .is_empty()
    );
}

#[test]
fn a_slip_is_told_and_hinted_at() {
    let lineage = shop();
    for (text, hint) in [
        ("ftc", Some("fct")),
        ("tag:dialy", Some("daily")),
        ("models/mart/fct.sql", Some("models/marts/fct.sql")),
        ("exposure:bord", Some("board")),
        ("group:fim", Some("fin")),
        ("something_else", None),
        ("tag:daily,fct", None),
    ] {
        let unmatched = select(&lineage, text).unmatched;
        assert_eq!(unmatched.len(), 1, "{text}");
        assert_eq!(unmatched[0].closest.as_deref(), hint, "{text}");
    }
    assert_eq!(
        select(&lineage, "stg ftc").unmatched[0].to_string(),
        "`ftc` selects nothing; did you mean `fct`?"
    );
}

#[test]
fn a_selection_of_nodes_becomes_the_relations_a_job_builds() {
    let lineage = shop();
    let picked = select(&lineage, "+fct").picked;
    assert!(picked.contains("test.shop.unique_fct"), "tests come along");
    assert_eq!(
        lineage.built_relations(&picked),
        BTreeSet::from([relation("fct"), relation("raw"), relation("stg")])
    );
    let sources = select(&lineage, "source:s").picked;
    assert!(
        lineage.built_relations(&sources).is_empty(),
        "raw data is not the release's"
    );
}

#[test]
fn relations_are_selectable_without_a_manifest() {
    let all: BTreeSet<_> = [
        ("w", "main", "orders"),
        ("w", "marts", "fct_a"),
        ("x", "marts", "fct_b"),
        ("w", "raw", "csv"),
    ]
    .map(|(d, s, n)| RelationName::new(d, s, n))
    .into();
    let names = |select: &[&str], exclude: &[&str]| -> Vec<String> {
        let selected = select_relations(select, exclude, &all).unwrap();
        selected.picked.into_iter().map(|r| r.name).collect()
    };
    assert_eq!(names(&["orders"], &[]), ["orders"]);
    assert_eq!(names(&["marts.*"], &[]), ["fct_a", "fct_b"]);
    assert_eq!(names(&["w.marts.*"], &[]), ["fct_a"]);
    assert_eq!(names(&["marts.*,*_b orders"], &[]), ["orders", "fct_b"]);
    assert_eq!(names(&["raw.csv"], &[]), ["csv"]);
    assert_eq!(names(&[], &["marts.*"]), ["orders", "csv"]);
    assert_eq!(names(&["a.b.c.d"], &[]), [""; 0]);
    let slip = select_relations(&["oders"], &[], &all).unwrap();
    assert_eq!(slip.unmatched[0].closest.as_deref(), Some("orders"));
    for needs_manifest in ["+orders", "tag:x", "models/a"] {
        let error = select_relations(&[needs_manifest], &[], &all).unwrap_err();
        assert!(
            error.to_string().contains("needs dbt's manifest"),
            "{error}"
        );
    }
}
