//! The manifests of one project under two profiles, put side by side.

use super::{LONGEST_NAME, Naming, PREFIX};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use unship_core::{
    ident::RelationName,
    pipeline::dbt::manifest::{Manifest, Node, ResourceType},
};

/// What became of each node under the staging profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// Production relations of nodes that are built in their staging schema.
    pub redirected: BTreeMap<String, RelationName>,
    /// Nodes that are not.
    pub escapes: BTreeMap<String, Escape>,
    /// Production relations of sources that the job would look for in staging.
    pub sources: BTreeSet<RelationName>,
    /// What a person should know, each a sentence.
    pub warnings: Vec<String>,
}

/// A node that would not be built where it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escape {
    /// The node's name in the project.
    pub name: String,
    /// What it is.
    pub kind: ResourceType,
    /// What it is in production; `None` if only staging has it.
    pub production: Option<RelationName>,
    /// How it gets away.
    pub way: Way,
}

/// How a node gets away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is the same relation under both profiles.
    Stays,
    /// A snapshot names its schema itself, by dbt's older setting.
    TargetSchema,
    /// It becomes another relation than the one that stands for it.
    Elsewhere(RelationName),
    /// One of the two projects does not have it.
    Missing,
    /// It is built in another way.
    Materialized {
        /// In production.
        production: String,
        /// In staging.
        staging: String,
    },
    /// The staging schema's name would be longer than the warehouse takes.
    TooLong(Naming),
    /// It becomes something that cannot change places with a table, in words.
    Special(&'static str),
    /// It is a function, and a function is not a relation that can change places.
    Function,
}

impl Escape {
    /// Whether a wrapper around the project's macros can send it where it should be.
    pub fn by_macro(&self) -> bool {
        matches!(self.way, Way::Stays | Way::Elsewhere(_))
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {}", self.kind, self.name)?;
        if let Some(production) = &self.production {
            write!(f, " ({production})")?;
        }
        match &self.way {
            Way::Stays => write!(
                f,
                " names its schema in a way that no profile and no macro changes, so that it would \
                 be built in production itself"
            ),
            Way::TargetSchema => write!(
                f,
                " names its schema with `target_schema`, so that it would be built in production \
                 itself; since dbt 1.9 `schema` does the same and can be redirected"
            ),
            Way::Elsewhere(staging) => write!(
                f,
                " would be built as {staging}, which does not say what it stands for"
            ),
            Way::Missing => write!(
                f,
                " is there or not depending on the target's schema, so that a build aside would \
                 be another project"
            ),
            Way::Materialized {
                production,
                staging,
            } => write!(
                f,
                " is a {production} or a {staging} depending on the target's schema, so that a \
                 build aside would be another project"
            ),
            Way::TooLong(Naming::Postgres) => write!(
                f,
                " is in a schema whose name is too long: with `{PREFIX}` before it PostgreSQL would \
                 cut it off at {LONGEST_NAME} bytes"
            ),
            Way::TooLong(Naming::Snowflake) => f.write_str(
                " is in a schema whose name is too long: with what unship puts before it, it would \
                 be longer than Snowflake takes",
            ),
            Way::Special(what) => write!(
                f,
                " is {what}, which cannot be exchanged for another: it is not built aside"
            ),
            Way::Function => f.write_str(" is a function, which cannot be built aside"),
        }
    }
}

/// Joins the manifests by node.
pub fn join(production: &Manifest, staging: &Manifest) -> Joined {
    let naming = Naming::of(&production.adapter);
    let mut joined = Joined::default();
    let mut built: BTreeMap<RelationName, &Node> = BTreeMap::new();
    for (id, node) in &production.nodes {
        if !node.resource_type.is_built() {
            continue;
        }
        let twin = staging.nodes.get(id);
        match way(node, twin, naming) {
            Ok(Some(relation)) => {
                joined.redirected.insert(id.clone(), relation.clone());
            }
            Ok(None) => {}
            Err(way) => {
                joined.escapes.insert(id.clone(), escape(node, way));
            }
        }
        if let Some(relation) = &node.relation {
            built.insert(relation.clone(), node);
        }
    }
    let missing = staging
        .nodes
        .iter()
        .filter(|(id, node)| node.resource_type.is_built() && !production.nodes.contains_key(*id));
    for (id, node) in missing {
        let escaped = Escape {
            production: None,
            ..escape(node, Way::Missing)
        };
        joined.escapes.insert(id.clone(), escaped);
    }
    for (id, node) in &production.nodes {
        let (ResourceType::Source, Some(relation)) = (&node.resource_type, &node.relation) else {
            continue;
        };
        let twin = staging
            .nodes
            .get(id)
            .and_then(|twin| twin.relation.as_ref());
        let both = built.get(relation);
        match twin {
            Some(twin) if twin == relation => {
                if let Some(node) = both {
                    joined.warnings.push(format!(
                        "the {} {} is also declared as a source ({relation}): what reads the \
                         source reads what is live now, not what this run builds",
                        node.resource_type, node.name
                    ));
                }
            }
            Some(twin) if *twin == naming.relation(relation) => {
                joined.sources.insert(relation.clone());
            }
            Some(twin) => {
                joined
                    .escapes
                    .insert(id.clone(), escape(node, Way::Elsewhere(twin.clone())));
            }
            None => {
                joined
                    .escapes
                    .insert(id.clone(), escape(node, Way::Missing));
            }
        }
    }
    joined
}

fn escape(node: &Node, way: Way) -> Escape {
    Escape {
        name: node.name.clone(),
        kind: node.resource_type.clone(),
        production: node.relation.clone(),
        way,
    }
}

/// The production relation of a node that is built where it should be; `None` where it becomes no
/// relation under either profile.
fn way<'a>(
    node: &'a Node,
    twin: Option<&Node>,
    naming: Naming,
) -> Result<Option<&'a RelationName>, Way> {
    let Some(twin) = twin else {
        return Err(Way::Missing);
    };
    if node.materialized != twin.materialized {
        let word = |node: &Node| {
            node.materialized
                .clone()
                .unwrap_or_else(|| "nothing".into())
        };
        return Err(Way::Materialized {
            production: word(node),
            staging: word(twin),
        });
    }
    let (relation, staged) = match (&node.relation, &twin.relation) {
        (None, None) => return Ok(None),
        (Some(relation), Some(staged)) => (relation, staged),
        _ => return Err(Way::Missing),
    };
    let says = |key: &str| node.config.get(key).is_some_and(|value| !value.is_null());
    if let (Naming::Snowflake, Some(what)) = (naming, special(node)) {
        return Err(Way::Special(what));
    }
    match () {
        () if node.resource_type == ResourceType::Function => Err(Way::Function),
        () if naming.too_long(&relation.schema) => Err(Way::TooLong(naming)),
        () if *staged == naming.relation(relation) => Ok(Some(relation)),
        () if node.resource_type == ResourceType::Snapshot && says("target_schema") => {
            Err(Way::TargetSchema)
        }
        () if staged == relation => Err(Way::Stays),
        () => Err(Way::Elsewhere(staged.clone())),
    }
}

/// What dbt-snowflake makes that is no table which Snowflake swaps
/// (<https://docs.getdbt.com/reference/resource-configs/snowflake-configs>).
fn special(node: &Node) -> Option<&'static str> {
    let word = |key: &str| {
        let value = node.config.get(key).and_then(|value| value.as_str());
        value.unwrap_or_default().to_lowercase()
    };
    match node.materialized.as_deref() {
        Some("dynamic_table") => Some("a dynamic table"),
        _ if word("table_format") == "iceberg" => Some("an Iceberg table"),
        // Other catalogs of `catalogs.yml` hold Iceberg tables too.
        _ if !matches!(&*word("catalog_name"), "" | "info_schema") => Some("an Iceberg table"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A project of dbt-snowflake whose target has this schema.
    fn project(schema: &str) -> Manifest {
        let model = |name: &str, schema: &str, quoted: bool, config: serde_json::Value| {
            let relation = match quoted {
                true => format!("shop.\"{schema}\".{name}"),
                false => format!("shop.{schema}.{name}"),
            };
            json!({"resource_type": "model", "name": name, "alias": name, "database": "shop",
                   "schema": schema, "relation_name": relation, "config": config})
        };
        let table = || json!({"materialized": "table"});
        let long = format!("{schema}{}", "x".repeat(250));
        let text = json!({
            "metadata": {
                "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
                "adapter_type": "snowflake",
            },
            "nodes": {
                "model.shop.plain": model("plain", schema, false, table()),
                "model.shop.own": model("own", &format!("{schema}_Own"), true, table()),
                "model.shop.fixed": model("fixed", "core", false, table()),
                "model.shop.lag": model("lag", schema, false, json!({"materialized": "dynamic_table"})),
                "model.shop.ice": model("ice", schema, false,
                    json!({"materialized": "table", "table_format": "Iceberg"})),
                "model.shop.other": model("other", schema, false,
                    json!({"materialized": "table", "catalog_name": "lake"})),
                "model.shop.long": model("long", &long, false, table()),
            },
        });
        Manifest::parse(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_snowflake_builds_is_told_from_what_escapes() {
        let production = project("marts");
        let staging = project(&format!("{}marts", Naming::Snowflake.prefix("marts")));
        let joined = join(&production, &staging);
        let redirected: Vec<String> = joined
            .redirected
            .values()
            .map(ToString::to_string)
            .collect();
        assert_eq!(redirected, ["SHOP.marts_Own.OWN", "SHOP.MARTS.PLAIN"]);
        let ways: Vec<_> = (joined.escapes.values())
            .map(|escape| (escape.name.as_str(), escape.way.clone()))
            .collect();
        assert_eq!(
            ways,
            [
                ("fixed", Way::Stays),
                ("ice", Way::Special("an Iceberg table")),
                ("lag", Way::Special("a dynamic table")),
                ("long", Way::TooLong(Naming::Snowflake)),
                ("other", Way::Special("an Iceberg table")),
            ]
        );
    }
}
