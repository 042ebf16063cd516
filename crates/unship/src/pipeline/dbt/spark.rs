//! What is particular about dbt-spark: it names relations by their schema alone.

use serde_json::Value;

/// The adapter's type in a profile.
pub const ADAPTER: &str = "spark";

/// A manifest that names the catalog where dbt named no database: Spark looks into its own default
/// catalog then, and dbt does not know which that is. `None` if there is nothing to add, or if it is
/// no manifest.
pub fn in_catalog(manifest: &[u8], catalog: &str) -> Option<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(manifest).ok()?;
    let mut added = false;
    for list in ["nodes", "sources"] {
        let nodes = manifest.get_mut(list).and_then(Value::as_object_mut);
        for node in nodes.into_iter().flat_map(|nodes| nodes.values_mut()) {
            let Some(node) = node.as_object_mut() else {
                continue;
            };
            let database = node.get("database").and_then(Value::as_str);
            if database.is_none_or(str::is_empty) {
                node.insert("database".to_owned(), catalog.into());
                added = true;
            }
        }
    }
    added.then(|| manifest.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use unship_core::ident::RelationName;
    use unship_core::pipeline::dbt::manifest::Manifest;

    #[test]
    fn what_dbt_spark_names_by_its_schema_is_in_the_catalog() {
        let node = |kind: &str, name: &str, database: Value| {
            json!({
                "resource_type": kind, "name": name, "database": database, "schema": "marts",
                "alias": name, "identifier": name, "relation_name": format!("marts.{name}"),
            })
        };
        let manifest = json!({
            "metadata": {
                "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
                "adapter_type": "spark",
            },
            "nodes": {
                "model.shop.orders": node("model", "orders", Value::Null),
                "model.shop.other": node("model", "other", json!("elsewhere")),
            },
            "sources": {"source.shop.raw.clicks": node("source", "clicks", json!(""))},
        });
        let bytes = in_catalog(manifest.to_string().as_bytes(), "lake").unwrap();
        let read = Manifest::parse(&bytes).unwrap();
        let relation = |id: &str| read.nodes[id].relation.clone().unwrap();
        assert_eq!(
            relation("model.shop.orders"),
            RelationName::new("lake", "marts", "orders")
        );
        assert_eq!(relation("model.shop.other").database, "elsewhere");
        assert_eq!(relation("source.shop.raw.clicks").database, "lake");
        assert_eq!(in_catalog(&bytes, "lake"), None);
        assert_eq!(in_catalog(b"[]", "lake"), None);
        assert_eq!(in_catalog(b"{", "lake"), None);
    }
}
