//! What a role may do, through all the roles that it has: and what it lacks for its work.

use super::session::Session;
use super::sql::{self, Grantee};
use super::view;
use std::collections::BTreeSet;
use unship_core::engine::EngineError;

/// Privileges: which, on what sort of thing, and its name in parts.
#[derive(Debug, Default)]
pub struct Rights {
    held: BTreeSet<(String, String, Vec<String>)>,
}

impl Rights {
    /// Whether something may be done. Who owns a thing may do anything with it.
    pub fn has(&self, privilege: &str, on: &str, name: &[&str]) -> bool {
        let name: Vec<String> = name.iter().map(|part| (*part).to_owned()).collect();
        let held = |privilege: &str| {
            let one = (privilege.to_owned(), on.to_owned(), name.clone());
            self.held.contains(&one)
        };
        held(privilege) || held("OWNERSHIP")
    }
}

/// What a role may do, with what it has from the roles that were granted to it.
pub fn of(session: &Session, role: &str) -> Result<Rights, EngineError> {
    let mut rights = Rights::default();
    let mut asked = BTreeSet::new();
    let mut ask = vec![Grantee::Role(role.to_owned())];
    while let Some(whose) = ask.pop() {
        if !asked.insert(whose.clone()) {
            continue;
        }
        let what = format!("see what {whose} may do");
        for row in session.named(&sql::show_grants_to(&whose), &what)? {
            let get = |name| row.text(name).unwrap_or_default();
            let (privilege, on) = (get("privilege"), get("granted_on"));
            let name = view::words(&get("name"));
            match (on.as_str(), privilege.as_str(), name.as_slice()) {
                ("ROLE", "USAGE", [role]) => ask.push(Grantee::Role(role.clone())),
                ("DATABASE_ROLE", "USAGE", [database, role]) => {
                    ask.push(Grantee::DatabaseRole(database.clone(), role.clone()));
                }
                _ => drop(rights.held.insert((privilege, on, name))),
            }
        }
    }
    Ok(rights)
}
