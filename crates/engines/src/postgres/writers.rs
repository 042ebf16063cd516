//! Who may write to a relation: nobody but its owner, once it is retained.
//!
//! A job that kept a connection, or that finds a retained relation by name, must not change what a
//! rollback brings back. An owner's rights cannot be taken away.

use super::quote;
use super::swap::{Grant, Name, Relation, Survey};
use std::collections::{BTreeMap, BTreeSet};

const WRITES: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"];

/// Statements that take the right to write away, where a relation lies retained, and that give it
/// back, where it stands in production.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Writers {
    pub revoke: Vec<String>,
    pub grant: Vec<String>,
}

/// The partitions and heirs of each relation.
pub fn children(survey: &Survey) -> BTreeMap<u32, Vec<u32>> {
    let mut out: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for relation in survey.relations.values() {
        for parent in &relation.parents {
            out.entry(*parent).or_default().push(relation.oid);
        }
    }
    out
}

/// Those of a relation and of its partitions, which lie beside it.
pub fn of(survey: &Survey, children: &BTreeMap<u32, Vec<u32>>, oid: u32, away: &Name) -> Writers {
    let mut out = Writers::default();
    let mut todo = vec![oid];
    let mut seen = BTreeSet::new();
    while let Some(oid) = todo.pop() {
        let Some(relation) = survey.relations.get(&oid).filter(|_| seen.insert(oid)) else {
            continue;
        };
        todo.extend(children.get(&oid).into_iter().flatten());
        one(relation, away, &mut out);
    }
    out
}

fn one(relation: &Relation, away: &Name, out: &mut Writers) {
    let at = quote::relation(&relation.schema, &relation.name);
    let away = quote::relation(&away.schema, &relation.name);
    let on_columns = relation.columns.iter().flat_map(|column| {
        let grants = column.grants.iter().flatten();
        grants.map(|grant| (grant, Some(&*column.name)))
    });
    let on_all = relation.grants.iter().flatten().map(|grant| (grant, None));
    let mut who = BTreeSet::new();
    let mut grants: BTreeMap<(String, bool), Vec<String>> = BTreeMap::new();
    for (grant, column) in on_all.chain(on_columns) {
        if !writes(grant) || grant.to.as_deref() == Some(&*relation.owner) {
            continue;
        }
        let role = match &grant.to {
            Some(role) => quote::name(role),
            None => "PUBLIC".to_owned(),
        };
        who.insert(role.clone());
        let privilege = match column {
            Some(column) => format!("{} ({})", grant.privilege, quote::name(column)),
            None => grant.privilege.clone(),
        };
        let of = grants.entry((role, grant.grantable)).or_default();
        of.push(privilege);
    }
    for role in who {
        // What they passed on goes with it.
        let writes = WRITES.join(", ");
        out.revoke
            .push(format!("REVOKE {writes} ON {away} FROM {role} CASCADE"));
    }
    for ((role, grantable), privileges) in grants {
        let option = if grantable { " WITH GRANT OPTION" } else { "" };
        let privileges = privileges.join(", ");
        out.grant
            .push(format!("GRANT {privileges} ON {at} TO {role}{option}"));
    }
}

/// Whether it is a right to change rows.
pub fn writes(grant: &Grant) -> bool {
    WRITES.contains(&grant.privilege.as_str())
}
