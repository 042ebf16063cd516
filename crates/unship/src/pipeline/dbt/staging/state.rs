//! The state that a job defers to: what it does not build it reads from production.

use super::code::Code;
use serde_json::Value;
use std::collections::BTreeSet;
use unship_core::pipeline::dbt::manifest::Manifest;

/// The nodes that the job builds and that a foreign key of something else it builds may refer to.
///
/// For a `ref` in a query dbt looks into the state only if the node is not selected. For the `ref`
/// of a foreign key it takes the state's relation whenever there is one: the key of what is built in
/// staging would refer to production's relation, which may not have the columns yet, or may not be
/// there at all. Such a node must not be in the state.
pub fn referred(manifest: &Manifest, code: &Code, built: &BTreeSet<String>) -> BTreeSet<String> {
    let keyed = built
        .iter()
        .filter(|id| code.nodes.get(*id).is_some_and(|node| node.refers()));
    keyed
        .filter_map(|id| manifest.nodes.get(id))
        .flat_map(|node| &node.depends_on)
        .filter(|id| built.contains(*id))
        .cloned()
        .collect()
}

/// The manifest without these nodes.
///
/// # Errors
/// When the bytes are not JSON.
pub fn without(manifest: &[u8], nodes: &BTreeSet<String>) -> Result<Vec<u8>, serde_json::Error> {
    let mut manifest: Value = serde_json::from_slice(manifest)?;
    if let Some(all) = manifest.get_mut("nodes").and_then(Value::as_object_mut) {
        all.retain(|id, _| !nodes.contains(id));
    }
    serde_json::to_vec(&manifest)
}
