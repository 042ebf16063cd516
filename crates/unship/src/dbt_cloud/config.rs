//! `[dbt_cloud]` in `unship.toml`.

use crate::notify::config::SecretRef;
use serde::{Deserialize, Serialize};

/// The account whose jobs are triggered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbtCloud {
    /// Its number, which the addresses of its pages hold.
    pub account: u64,
    /// Its access URL, which depends on the region and the plan.
    #[serde(default = "usual")]
    pub url: String,
    /// A token that may trigger jobs and read runs (a service token with the permission `Job Admin`).
    #[serde(default = "by_variable")]
    pub token: SecretRef,
}

fn usual() -> String {
    "https://cloud.getdbt.com".to_owned()
}

fn by_variable() -> SecretRef {
    SecretRef::Env("DBT_CLOUD_TOKEN".to_owned())
}
