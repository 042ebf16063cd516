//! What a view or macro reads, from the tree that DuckDB's own parser makes of it.

use super::super::worker::{Worker, WorkerError};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use unship_core::value::Value;

/// A name in a query, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// The catalog, or empty.
    pub catalog: String,
    /// The schema, or empty.
    pub schema: String,
    /// The relation or function.
    pub name: String,
    /// Whether it is called as a function.
    pub function: bool,
}

/// Every relation and function that a query mentions; empty where DuckDB cannot take the query
/// apart (`PIVOT` without a list of values is one), since no other source would be better than a
/// guess.
///
/// # Errors
/// Only if the worker fails.
pub fn mentions(worker: &mut Worker, query: &str) -> Result<BTreeSet<Mention>, WorkerError> {
    let sql = "SELECT CAST(json_serialize_sql(CAST(? AS VARCHAR)) AS VARCHAR)";
    let rows = match worker.texts(sql, &[Value::Text(query.to_owned())]) {
        Ok(rows) => rows,
        Err(WorkerError::Sql { .. }) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeSet::new();
    for text in rows.into_iter().flatten().flatten() {
        if let Ok(tree) = serde_json::from_str(&text) {
            walk(&tree, &mut Vec::new(), &mut found);
        }
    }
    Ok(found)
}

fn walk(tree: &Json, hidden: &mut Vec<String>, found: &mut BTreeSet<Mention>) {
    match tree {
        Json::Array(list) => list.iter().for_each(|node| walk(node, hidden, found)),
        Json::Object(node) => {
            let outer = hidden.len();
            // A common table expression hides a relation of its name from what follows it, not
            // from its own query (unless that is recursive).
            let map = node
                .get("cte_map")
                .and_then(|map| map.get("map"))
                .and_then(Json::as_array);
            for entry in map.into_iter().flatten() {
                let name = entry.get("key").and_then(Json::as_str).unwrap_or_default();
                let query = entry.get("value").unwrap_or(&Json::Null);
                let kind = query.pointer("/query/node/type").and_then(Json::as_str);
                if kind == Some("RECURSIVE_CTE_NODE") {
                    hidden.push(name.to_lowercase());
                    walk(query, hidden, found);
                } else {
                    walk(query, hidden, found);
                    hidden.push(name.to_lowercase());
                }
            }
            mention(node, hidden, found);
            for (key, child) in node {
                if key != "cte_map" {
                    walk(child, hidden, found);
                }
            }
            hidden.truncate(outer);
        }
        _ => {}
    }
}

fn mention(node: &serde_json::Map<String, Json>, hidden: &[String], found: &mut BTreeSet<Mention>) {
    let text = |key: &str| {
        node.get(key)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (function, schema, catalog, name) = match text("type").as_str() {
        "BASE_TABLE" => (
            false,
            text("schema_name"),
            text("catalog_name"),
            text("table_name"),
        ),
        "FUNCTION" => (true, text("schema"), text("catalog"), text("function_name")),
        _ => return,
    };
    if name.is_empty() {
        return;
    }
    let is_hidden = !function
        && schema.is_empty()
        && catalog.is_empty()
        && hidden.contains(&name.to_lowercase());
    if !is_hidden {
        found.insert(Mention {
            catalog,
            schema,
            name,
            function,
        });
    }
}
