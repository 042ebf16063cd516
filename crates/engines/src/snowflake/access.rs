//! Who may do what with a relation.

use super::session::Session;
use super::sql::{self, Grant, Grantee, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::EngineError;

/// The privileges on a relation, its owner's left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Those of roles.
    pub grants: BTreeSet<Grant>,
    /// Those that cannot be given again here, in words: shares, applications, users.
    pub others: Vec<String>,
}

/// Reads who has what.
pub fn read(session: &Session, place: &Place, view: bool) -> Result<Access, EngineError> {
    let what = format!("see who may read {place}");
    let mut access = Access::default();
    for row in session.named(&sql::show_grants(place, view), &what)? {
        let get = |name| row.text(name).unwrap_or_default();
        let (privilege, sort, whom) = (get("privilege"), get("granted_to"), get("grantee_name"));
        if privilege == "OWNERSHIP" {
            continue;
        }
        let to = match (sort.as_str(), whom.split_once('.')) {
            ("ROLE", _) => Some(Grantee::Role(whom.clone())),
            ("DATABASE_ROLE", Some((database, role))) => {
                Some(Grantee::DatabaseRole(database.to_owned(), role.to_owned()))
            }
            ("DATABASE_ROLE", None) => {
                Some(Grantee::DatabaseRole(place.database.clone(), whom.clone()))
            }
            _ => None,
        };
        let grant = to.and_then(|to| Grant::new(&privilege, to, get("grant_option") == "true"));
        match grant {
            Some(grant) => drop(access.grants.insert(grant)),
            None => access
                .others
                .push(format!("{privilege} of {} {whom}", sort.to_lowercase())),
        }
    }
    Ok(access)
}

/// What of `wanted` somebody would not have any more. A privilege that may be passed on is one that
/// may be used.
pub fn lost<'a>(wanted: &'a Access, has: &Access) -> Vec<&'a Grant> {
    let covered = |grant: &&Grant| {
        let passes = Grant {
            option: true,
            ..(*grant).clone()
        };
        has.grants.contains(*grant) || has.grants.contains(&passes)
    };
    wanted.grants.iter().filter(|g| !covered(g)).collect()
}
