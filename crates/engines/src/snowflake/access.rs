//! Who may do what with a relation.

use super::session::{Named, Session};
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
    listed(session, &sql::show_grants(place, view), &what)
}

/// Reads who has what of a schema itself.
pub fn of_schema(session: &Session, schema: &str) -> Result<Access, EngineError> {
    let what = format!("see who may use the schema {schema}");
    listed(
        session,
        &sql::show_schema_grants(session.database(), schema),
        &what,
    )
}

fn listed(session: &Session, statement: &str, what: &str) -> Result<Access, EngineError> {
    let mut access = Access::default();
    for row in session.named(statement, what)? {
        match one(&row, session.database()) {
            None => {}
            Some(Ok(grant)) => drop(access.grants.insert(grant)),
            Some(Err(other)) => access.others.push(other),
        }
    }
    Ok(access)
}

/// One line of `SHOW GRANTS` or `SHOW FUTURE GRANTS`: a privilege, or in words one that cannot be
/// given again here. `None` for ownership.
pub fn one(row: &Named, database: &str) -> Option<Result<Grant, String>> {
    let get = |name| row.text(name).unwrap_or_default();
    let (privilege, whom) = (get("privilege"), get("grantee_name"));
    let sort = row.text("granted_to").or_else(|| row.text("grant_to"));
    let sort = sort.unwrap_or_default();
    if privilege == "OWNERSHIP" {
        return None;
    }
    let to = match (sort.as_str(), whom.split_once('.')) {
        ("ROLE", _) => Some(Grantee::Role(whom.clone())),
        ("DATABASE_ROLE", Some((database, role))) => {
            Some(Grantee::DatabaseRole(database.to_owned(), role.to_owned()))
        }
        ("DATABASE_ROLE", None) => Some(Grantee::DatabaseRole(database.to_owned(), whom.clone())),
        _ => None,
    };
    let grant = to.and_then(|to| Grant::new(&privilege, to, get("grant_option") == "true"));
    Some(grant.ok_or_else(|| format!("{privilege} of {} {whom}", sort.to_lowercase())))
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
