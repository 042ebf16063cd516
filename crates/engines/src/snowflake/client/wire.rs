//! What goes over the line, as the SQL API's reference describes it
//! (<https://docs.snowflake.com/en/developer-guide/sql-api/reference>).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The body of a statement.
#[derive(Debug, Serialize)]
pub struct Submit<'a> {
    pub statement: &'a str,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    pub database: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a str>,
    pub parameters: BTreeMap<&'static str, String>,
}

/// A result, or its first partition.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultSet {
    pub statement_handle: String,
    #[serde(default)]
    pub result_set_meta_data: Meta,
    #[serde(default)]
    pub data: Option<Vec<Vec<Option<String>>>>,
}

/// What is known of a result.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    #[serde(default)]
    pub row_type: Vec<RowType>,
    #[serde(default)]
    pub partition_info: Option<Vec<serde::de::IgnoredAny>>,
}

/// A column.
#[derive(Debug, Deserialize)]
pub struct RowType {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub scale: Option<u32>,
}

/// A statement that still runs, or one that failed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub code: Option<String>,
    pub message: Option<String>,
    pub statement_handle: Option<String>,
}
