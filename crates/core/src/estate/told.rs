//! What a job is told of an estate, and whom a query asks.

use crate::engine::{EngineError, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};

/// What a query's text says of the member that it asks: every address of a relation begins with it.
const OF: &str = "/*unship member ";
const END: &str = "*/";

/// The environment variables that tell a job where it builds.
const OURS: &str = "UNSHIP_";

/// The one that is the same for every member.
const RELEASE: &str = "UNSHIP_RELEASE";

/// How a query names a relation of a member.
pub(super) fn address(member: &str, address: &str) -> String {
    format!("{OF}{member}{END} {address}")
}

/// The one member that a query asks, by the addresses in it.
pub(super) fn asked(sql: &str) -> Result<&str, EngineError> {
    let mut parts = sql.split(OF);
    parts.next();
    let names: BTreeSet<&str> = parts
        .filter_map(|part| part.split_once(END))
        .map(|(name, _)| name)
        .collect();
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => {
            let text = format!("the query asks {one} and {other}, and no engine reads both");
            Err(EngineError::new(ErrorKind::Unsupported, text).hint("ask one member at a time"))
        }
        (None, _) => {
            let text = "the query does not say which member it asks";
            Err(EngineError::new(ErrorKind::Unsupported, text)
                .hint("write its relations in braces, as in {marts.orders}"))
        }
    }
}

/// What a job is told: of each member under its name (`UNSHIP_LAKE_ICEBERG_URI`), and plainly where
/// only one member says it.
pub(super) fn environment(
    told: &[(String, BTreeMap<String, String>)],
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (word, env) in told {
        for (key, value) in env {
            let others = || told.iter().filter(|(other, _)| other != word);
            let alone = !others().any(|(_, env)| env.contains_key(key));
            let ours = key.strip_prefix(OURS).filter(|_| key != RELEASE);
            if let Some(rest) = ours {
                all.insert(format!("{OURS}{word}_{rest}"), value.clone());
            }
            if alone || ours.is_none() {
                let before = all.insert(key.clone(), value.clone());
                if before.is_some_and(|before| before != *value) {
                    let text = format!("two members tell the job different things in {key}");
                    return Err(EngineError::new(ErrorKind::Unsupported, text));
                }
            }
        }
    }
    Ok(all)
}
