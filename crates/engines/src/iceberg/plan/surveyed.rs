//! What a plan is made from.

use crate::iceberg::bring::With;
use crate::iceberg::kept::Kept;
use crate::iceberg::rest::{Identifier, LoadTable, LoadView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use unship_core::ident::RelationName;

/// What planning needs to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Survey {
    /// Tables that are asked for, with the snapshots that planning needs to know.
    #[serde(with = "pairs")]
    pub tables: BTreeMap<RelationName, Arc<LoadTable>>,
    /// Views that are asked for.
    #[serde(with = "pairs")]
    pub views: BTreeMap<RelationName, Arc<LoadView>>,
    /// What a job made aside of them, by the name that it is to have.
    #[serde(with = "pairs", default)]
    pub made: BTreeMap<RelationName, Arc<LoadTable>>,
    /// Where one of them was set aside, and the identity of what lies there.
    pub aside: Vec<(Identifier, String)>,
    /// The restore points, the oldest first.
    pub kept: Vec<Kept>,
    /// What others' rows were brought over to.
    #[serde(default)]
    pub brought: Vec<(RelationName, With)>,
    /// What the catalog can do.
    pub can: Can,
}

/// A map whose keys are no text in JSON. What it holds is text: a thousand tables' metadata as values
/// would take ten times as much room.
mod pairs {
    use super::{Arc, RelationName};
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
    use std::collections::BTreeMap;

    pub fn serialize<S: Serializer, T: Serialize>(
        map: &BTreeMap<RelationName, Arc<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = map
            .iter()
            .map(|(name, one)| Ok((name, serde_json::to_string(&**one)?)));
        let texts: serde_json::Result<Vec<_>> = texts.collect();
        to.collect_seq(texts.map_err(ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: DeserializeOwned>(
        from: D,
    ) -> Result<BTreeMap<RelationName, Arc<T>>, D::Error> {
        let texts = Vec::<(RelationName, String)>::deserialize(from)?;
        let all = texts.into_iter().map(|(name, text)| {
            let one = serde_json::from_str(&text).map_err(de::Error::custom)?;
            Ok((name, Arc::new(one)))
        });
        all.collect()
    }
}

/// What a catalog can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Can {
    /// Change several tables at once.
    pub transaction: bool,
    /// Rename tables.
    pub rename: bool,
    /// Make a table of its metadata file.
    pub register: bool,
    /// Make namespaces.
    pub namespaces: bool,
    /// Change views.
    pub views: bool,
}
