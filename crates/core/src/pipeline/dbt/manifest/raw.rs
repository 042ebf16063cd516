//! The manifest as dbt writes it. Code, compiled SQL, documentation and macros are most of the
//! bytes and are skipped without being stored.

use super::{Exposure, External, Node, Owner, ResourceType, Severity, Test};
use crate::{ident::RelationName, pipeline::dbt::json::or_default};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The adapter whose warehouse turns names without quotes into capitals.
const SNOWFLAKE: &str = "snowflake";

#[derive(Deserialize)]
pub(super) struct Manifest {
    pub metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    nodes: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    sources: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    exposures: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    metrics: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    semantic_models: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    saved_queries: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    unit_tests: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    functions: BTreeMap<String, RawNode>,
    #[serde(default, deserialize_with = "or_default")]
    groups: BTreeMap<String, RawGroup>,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "or_default")]
    pub dbt_schema_version: String,
    #[serde(default, deserialize_with = "or_default")]
    dbt_version: String,
    generated_at: Option<String>,
    invocation_id: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    project_name: String,
    #[serde(default, deserialize_with = "or_default")]
    adapter_type: String,
}

#[derive(Deserialize)]
struct RawNode {
    resource_type: String,
    name: String,
    alias: Option<String>,
    identifier: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    package_name: String,
    #[serde(default, deserialize_with = "or_default")]
    path: String,
    #[serde(default, deserialize_with = "or_default")]
    original_file_path: String,
    patch_path: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    fqn: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    tags: OneOrMany,
    #[serde(default, deserialize_with = "or_default")]
    meta: Map<String, Value>,
    #[serde(default, deserialize_with = "or_default")]
    config: Map<String, Value>,
    database: Option<String>,
    schema: Option<String>,
    relation_name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    depends_on: DependsOn,
    group: Option<String>,
    access: Option<String>,
    version: Option<Value>,
    latest_version: Option<Value>,
    source_name: Option<String>,
    test_metadata: Option<TestMetadata>,
    column_name: Option<String>,
    attached_node: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Value>,
    label: Option<String>,
    maturity: Option<String>,
    url: Option<String>,
    owner: Option<RawOwner>,
}

#[derive(Deserialize, Default)]
struct DependsOn {
    #[serde(default, deserialize_with = "or_default")]
    nodes: Vec<String>,
}

#[derive(Deserialize)]
struct TestMetadata {
    name: String,
    namespace: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    kwargs: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawGroup {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    owner: RawOwner,
}

#[derive(Deserialize, Default)]
struct RawOwner {
    name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    email: OneOrMany,
}

impl From<RawOwner> for Owner {
    fn from(raw: RawOwner) -> Self {
        Self {
            name: raw.name,
            email: raw.email.into_vec().into_iter().next(),
        }
    }
}

/// A list that may be written as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl Manifest {
    pub(super) fn into_manifest(self, schema_version: u32) -> super::Manifest {
        let folds = self.metadata.adapter_type == SNOWFLAKE;
        let exposures = self
            .exposures
            .iter()
            .map(|(id, raw)| (id.clone(), raw.exposure()))
            .collect();
        let nodes = [
            self.nodes,
            self.sources,
            self.exposures,
            self.metrics,
            self.semantic_models,
            self.saved_queries,
            self.unit_tests,
            self.functions,
        ]
        .into_iter()
        .flatten()
        .filter(|(_, raw)| raw.config.get("enabled") != Some(&Value::Bool(false)))
        .map(|(id, raw)| (id.clone(), raw.into_node(id, folds)))
        .collect();
        super::Manifest {
            schema_version,
            project: self.metadata.project_name,
            adapter: self.metadata.adapter_type,
            dbt_version: self.metadata.dbt_version,
            invocation_id: self.metadata.invocation_id,
            generated_at: self.metadata.generated_at.and_then(|at| at.parse().ok()),
            nodes,
            exposures,
            groups: self
                .groups
                .into_values()
                .map(|group| (group.name, group.owner.into()))
                .collect(),
        }
    }
}

impl RawNode {
    fn exposure(&self) -> Exposure {
        Exposure {
            name: self.name.clone(),
            label: self.label.clone(),
            kind: self.kind.as_ref().and_then(text),
            maturity: self.maturity.clone(),
            url: self.url.clone(),
            owner: self
                .owner
                .as_ref()
                .map_or_else(Owner::default, |raw| Owner {
                    name: raw.name.clone(),
                    email: match &raw.email {
                        OneOrMany::One(one) => Some(one.clone()),
                        OneOrMany::Many(many) => many.first().cloned(),
                    },
                }),
        }
    }

    fn into_node(mut self, unique_id: String, folds: bool) -> Node {
        let resource_type = ResourceType::from_word(&self.resource_type);
        let config_text = |key: &str| self.config.get(key).and_then(text);
        let materialized = config_text("materialized");
        let external = self.external(&resource_type, materialized.as_deref());
        let relation = self.relation(&resource_type, materialized.as_deref(), external.is_some());
        let relation = match folds {
            true => relation.map(|relation| self.folded(relation)),
            false => relation,
        };
        let hook = |key: &str| {
            self.config
                .get(key)
                .and_then(Value::as_array)
                .is_some_and(|hooks| !hooks.is_empty())
        };
        let columns = |names: Vec<String>| match folds {
            true => names.into_iter().map(column).collect(),
            false => names,
        };
        let tags = match std::mem::take(&mut self.tags).into_vec() {
            // dbt keeps a unit test's tags in its configuration only.
            none if none.is_empty() => self.config.get("tags").map(texts).unwrap_or_default(),
            tags => tags,
        };
        Node {
            materialized,
            relation,
            unique_key: columns(self.config.get("unique_key").map(texts).unwrap_or_default()),
            on_schema_change: config_text("on_schema_change"),
            full_refresh: self.config.get("full_refresh").and_then(Value::as_bool),
            group: config_text("group").or_else(|| self.group.clone()),
            has_pre_hook: hook("pre-hook"),
            has_post_hook: hook("post-hook"),
            external,
            test: (resource_type == ResourceType::Test).then(|| {
                let test = self.test();
                Test {
                    column: columns(test.column.into_iter().collect()).pop(),
                    columns: columns(test.columns),
                    ..test
                }
            }),
            owner: owner_in(&self.meta)
                .or_else(|| self.config.get("meta")?.as_object().and_then(owner_in)),
            version: self.version.as_ref().and_then(text),
            latest_version: self.latest_version.as_ref().and_then(text),
            unique_id,
            resource_type,
            name: self.name,
            alias: self.alias,
            package: self.package_name,
            path: self.path,
            original_file_path: self.original_file_path,
            patch_path: self.patch_path.map(|path| match path.split_once("://") {
                Some((_, relative)) => relative.to_owned(),
                None => path,
            }),
            fqn: self.fqn,
            tags,
            depends_on: self.depends_on.nodes,
            access: self.access,
            source_name: self.source_name,
            config: self.config,
        }
    }

    /// dbt-duckdb reads a source from a file if its meta or config says so, and leaves the rows of
    /// an `external` model in one.
    fn external(&self, resource: &ResourceType, materialized: Option<&str>) -> Option<External> {
        let setting = |key: &str| {
            self.config
                .get(key)
                .or_else(|| self.meta.get(key))
                .or_else(|| self.config.get("meta")?.get(key))
                .and_then(text)
        };
        match resource {
            ResourceType::Source => setting("external_location").map(|location| External {
                location: Some(location),
                format: None,
            }),
            _ if materialized == Some("external") => Some(External {
                location: setting("location"),
                format: setting("format"),
            }),
            _ => None,
        }
    }

    /// `relation_name` says whether there is a relation; the name itself is taken from its parts,
    /// because the text is quoted in the adapter's own way.
    fn relation(
        &self,
        resource: &ResourceType,
        materialized: Option<&str>,
        external: bool,
    ) -> Option<RelationName> {
        let is_source = *resource == ResourceType::Source;
        let unseen = materialized == Some("ephemeral") || (is_source && external);
        if unseen || self.relation_name.as_deref().is_none_or(str::is_empty) {
            return None;
        }
        let name = match is_source {
            true => self.identifier.as_ref(),
            false => self.alias.as_ref(),
        };
        Some(RelationName::new(
            self.database.as_deref().unwrap_or_default(),
            self.schema.as_deref().unwrap_or_default(),
            name.unwrap_or(&self.name),
        ))
    }

    /// The relation as Snowflake's catalog spells it: what dbt writes without quotes becomes capitals
    /// (<https://docs.snowflake.com/en/sql-reference/identifiers-syntax>), and which parts it quotes
    /// only the rendered name says.
    fn folded(&self, relation: RelationName) -> RelationName {
        let text = self.relation_name.as_deref().unwrap_or_default();
        let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        let mut rest = text;
        let mut next = |part: String| {
            let quoted = quoted(&part);
            let (written, spelled) = match rest.starts_with(&quoted) {
                true => (quoted.len(), part),
                false => (part.len(), part.to_uppercase()),
            };
            rest = rest.get(written..).unwrap_or_default();
            rest = rest.strip_prefix('.').unwrap_or(rest);
            spelled
        };
        RelationName {
            database: next(relation.database),
            schema: next(relation.schema),
            name: next(relation.name),
        }
    }

    fn test(&self) -> Test {
        let kwarg = |key: &str| self.test_metadata.as_ref()?.kwargs.get(key);
        let columns = ["combination_of_columns", "columns"]
            .into_iter()
            .find_map(kwarg)
            .map(texts)
            .unwrap_or_default();
        let warns = self
            .config
            .get("severity")
            .and_then(Value::as_str)
            .is_some_and(|severity| severity.eq_ignore_ascii_case("warn"));
        Test {
            name: self.test_metadata.as_ref().map(|m| match &m.namespace {
                Some(namespace) => format!("{namespace}.{}", m.name),
                None => m.name.clone(),
            }),
            column: self
                .column_name
                .clone()
                .or_else(|| kwarg("column_name").and_then(text)),
            columns,
            attached_node: self.attached_node.clone(),
            severity: match warns {
                true => Severity::Warn,
                false => Severity::Error,
            },
            field: kwarg("field").and_then(text),
        }
    }
}

/// A column as Snowflake's catalog spells it; an expression stays as it is.
fn column(written: String) -> String {
    if let Some(inner) = written.strip_prefix('"').and_then(|w| w.strip_suffix('"')) {
        return inner.replace("\"\"", "\"");
    }
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    match written.chars().all(plain) {
        true => written.to_uppercase(),
        false => written,
    }
}

/// A scalar as text: versions, keys and the like may be written as numbers.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// One or several scalars as texts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(many) => many.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

fn owner_in(meta: &Map<String, Value>) -> Option<String> {
    match meta.get("owner")? {
        Value::Object(owner) => ["name", "email"]
            .into_iter()
            .find_map(|key| owner.get(key).and_then(text)),
        plain => text(plain),
    }
}
