//! The JSON of the REST catalog protocol, as far as unship reads and writes it.
//!
//! Schemas, partition specs and sort orders are kept as they are: unship compares them and hands
//! them back, and a type that a newer format version adds must survive that.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `GET /v1/config`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// What counts unless the client says otherwise.
    #[serde(default)]
    pub defaults: BTreeMap<String, Option<String>>,
    /// What counts whatever the client says.
    #[serde(default)]
    pub overrides: BTreeMap<String, Option<String>>,
    /// What the catalog can do; `None` where it does not say.
    pub endpoints: Option<Vec<String>>,
    /// For how long a request may be repeated under the key that it was first sent with.
    pub idempotency_key_lifetime: Option<String>,
}

/// `POST …/oauth/tokens`.
#[derive(Deserialize)]
pub struct Token {
    /// The bearer token.
    pub access_token: String,
    /// Its life in seconds.
    pub expires_in: Option<u64>,
}

/// `{"error": …}`.
#[derive(Debug, Default, Deserialize)]
pub struct Failure {
    /// What it says.
    #[serde(default)]
    pub error: FailureModel,
}

/// What an error response says.
#[derive(Debug, Default, Deserialize)]
pub struct FailureModel {
    /// For a person.
    #[serde(default)]
    pub message: String,
    /// The exception's name.
    #[serde(default)]
    pub r#type: String,
}

/// `GET …/namespaces`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Namespaces {
    /// Each as its parts.
    pub namespaces: Vec<Vec<String>>,
    /// Where to go on.
    pub next_page_token: Option<String>,
}

/// `GET …/tables` and `GET …/views`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identifiers {
    /// Their names.
    pub identifiers: Vec<Identifier>,
    /// Where to go on.
    pub next_page_token: Option<String>,
}

/// A table's or view's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identifier {
    /// The parts of its namespace.
    pub namespace: Vec<String>,
    /// Its own name.
    pub name: String,
}

/// `GET …/tables/{table}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoadTable {
    /// Where its metadata file lies.
    pub metadata_location: Option<String>,
    /// What it says.
    pub metadata: TableMetadata,
}

/// A table's metadata (table specification, "Table Metadata Fields").
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableMetadata {
    /// 1, 2 or 3.
    pub format_version: u8,
    /// Its identity.
    pub table_uuid: String,
    /// Every schema that it has had and keeps.
    #[serde(default)]
    pub schemas: Vec<Value>,
    /// The one that counts.
    #[serde(default)]
    pub current_schema_id: i64,
    /// Every partition spec.
    #[serde(default)]
    pub partition_specs: Vec<Value>,
    /// The one that new files are written by.
    #[serde(default)]
    pub default_spec_id: i64,
    /// Every sort order.
    #[serde(default)]
    pub sort_orders: Vec<Value>,
    /// The one that new files are written by.
    #[serde(default)]
    pub default_sort_order_id: i64,
    /// Table properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The snapshot of `main`; none, or -1, in a table without one.
    pub current_snapshot_id: Option<i64>,
    /// Snapshots, all or those that a reference names.
    #[serde(default)]
    pub snapshots: Vec<Snapshot>,
    /// Branches and tags.
    #[serde(default)]
    pub refs: BTreeMap<String, Reference>,
    /// The metadata file that this one took the place of, where the catalog says it.
    #[serde(
        default,
        rename = "metadata-log",
        skip_serializing,
        deserialize_with = "newest"
    )]
    pub previous: Option<String>,
}

/// The newest entry of a log of metadata files: its last one (table specification,
/// "metadata-log").
fn newest<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Entry {
        metadata_file: String,
    }
    let all = Option::<Vec<Entry>>::deserialize(from)?;
    Ok(all.and_then(|mut all| Some(all.pop()?.metadata_file)))
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// Its identity.
    pub snapshot_id: i64,
    /// What it was made from.
    pub parent_snapshot_id: Option<i64>,
    /// When it was committed, in milliseconds since 1970.
    #[serde(default)]
    pub timestamp_ms: i64,
    /// Where its list of manifests lies.
    pub manifest_list: Option<String>,
    /// The schema that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i64>,
    /// What its writer says of it.
    #[serde(default)]
    pub summary: BTreeMap<String, String>,
}

/// A branch or tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reference {
    /// Where it points.
    pub snapshot_id: i64,
    /// `branch` or `tag`.
    pub r#type: String,
    /// How long snapshot expiry leaves it alone, in milliseconds since its snapshot was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ref_age_ms: Option<i64>,
    /// How long expiry leaves a branch's snapshots alone, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_snapshot_age_ms: Option<i64>,
    /// How many of a branch's snapshots expiry leaves in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_snapshots_to_keep: Option<i64>,
}

impl Reference {
    /// A tag that no expiry takes away by its age.
    pub fn tag(snapshot_id: i64) -> Self {
        Self {
            snapshot_id,
            r#type: "tag".to_owned(),
            max_ref_age_ms: Some(i64::MAX),
            max_snapshot_age_ms: None,
            min_snapshots_to_keep: None,
        }
    }
}

/// `GET …/views/{view}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoadView {
    /// What it says.
    pub metadata: ViewMetadata,
}

/// A view's metadata (view specification, "View Metadata").
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ViewMetadata {
    /// Its identity.
    pub view_uuid: String,
    /// The version that counts.
    pub current_version_id: i64,
    /// Every version that it keeps.
    #[serde(default)]
    pub versions: Vec<Value>,
    /// Every schema.
    #[serde(default)]
    pub schemas: Vec<Value>,
    /// View properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// One table's part of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The table.
    pub identifier: Identifier,
    /// What must hold.
    pub requirements: Vec<Requirement>,
    /// What changes.
    pub updates: Vec<Update>,
}

/// What must hold for a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Requirement {
    /// It is this very table.
    AssertTableUuid {
        /// Its identity.
        uuid: String,
    },
    /// A reference points here, or is not there.
    AssertRefSnapshotId {
        /// Its name.
        r#ref: String,
        /// Where it points; `None`, it is not there.
        #[serde(rename = "snapshot-id")]
        snapshot_id: Option<i64>,
    },
    /// This is the schema that counts.
    AssertCurrentSchemaId {
        /// Its number.
        #[serde(rename = "current-schema-id")]
        current_schema_id: i64,
    },
    /// This is the partition spec that counts.
    AssertDefaultSpecId {
        /// Its number.
        #[serde(rename = "default-spec-id")]
        default_spec_id: i64,
    },
    /// This is the sort order that counts.
    AssertDefaultSortOrderId {
        /// Its number.
        #[serde(rename = "default-sort-order-id")]
        default_sort_order_id: i64,
    },
    /// It is this very view.
    AssertViewUuid {
        /// Its identity.
        uuid: String,
    },
}

/// What a commit changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Update {
    /// A schema more.
    AddSchema {
        /// The schema.
        schema: Value,
    },
    /// Which schema counts; -1 is the last one added.
    SetCurrentSchema {
        /// Its number.
        #[serde(rename = "schema-id")]
        schema_id: i64,
    },
    /// A partition spec more.
    AddSpec {
        /// The spec.
        spec: Value,
    },
    /// Which spec counts; -1 is the last one added.
    SetDefaultSpec {
        /// Its number.
        #[serde(rename = "spec-id")]
        spec_id: i64,
    },
    /// A sort order more.
    AddSortOrder {
        /// The sort order.
        #[serde(rename = "sort-order")]
        sort_order: Value,
    },
    /// Which sort order counts; -1 is the last one added.
    SetDefaultSortOrder {
        /// Its number.
        #[serde(rename = "sort-order-id")]
        sort_order_id: i64,
    },
    /// Where a branch or tag points.
    SetSnapshotRef {
        /// Its name.
        #[serde(rename = "ref-name")]
        ref_name: String,
        /// `branch` or `tag`.
        r#type: String,
        /// Where it points.
        #[serde(rename = "snapshot-id")]
        snapshot_id: i64,
        /// As in a [`Reference`].
        #[serde(rename = "max-ref-age-ms", skip_serializing_if = "Option::is_none")]
        max_ref_age_ms: Option<i64>,
        /// As in a [`Reference`].
        #[serde(
            rename = "max-snapshot-age-ms",
            skip_serializing_if = "Option::is_none"
        )]
        max_snapshot_age_ms: Option<i64>,
        /// As in a [`Reference`].
        #[serde(
            rename = "min-snapshots-to-keep",
            skip_serializing_if = "Option::is_none"
        )]
        min_snapshots_to_keep: Option<i64>,
    },
    /// A branch or tag less.
    RemoveSnapshotRef {
        /// Its name.
        #[serde(rename = "ref-name")]
        ref_name: String,
    },
    /// Properties set.
    SetProperties {
        /// Which, and to what.
        updates: BTreeMap<String, String>,
    },
    /// Properties removed.
    RemoveProperties {
        /// Which.
        removals: Vec<String>,
    },
    /// A version of a view more.
    AddViewVersion {
        /// The version.
        #[serde(rename = "view-version")]
        view_version: Value,
    },
    /// Which version of a view counts; -1 is the last one added.
    SetCurrentViewVersion {
        /// Its number.
        #[serde(rename = "view-version-id")]
        view_version_id: i64,
    },
}

impl Update {
    /// Points a reference somewhere, with its retention.
    pub fn point(name: &str, to: &Reference) -> Self {
        Self::SetSnapshotRef {
            ref_name: name.to_owned(),
            r#type: to.r#type.clone(),
            snapshot_id: to.snapshot_id,
            max_ref_age_ms: to.max_ref_age_ms,
            max_snapshot_age_ms: to.max_snapshot_age_ms,
            min_snapshots_to_keep: to.min_snapshots_to_keep,
        }
    }
}
