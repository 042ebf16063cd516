//! Who may do what with a relation, and what of that was lost.

use super::{Examples, Finding, Outcome, Severity, sql};
use crate::ident::RelationName;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One role's right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Right {
    /// The role.
    pub role: String,
    /// What it may do, as the engine calls it: `SELECT`.
    pub privilege: String,
    /// With this column only; with all, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

/// Who may do what with a relation, in effect: by grants, by roles that they are members of, and by
/// ownership. Roles that may do everything are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Which relation it is: another one of the same name has another identity.
    pub identity: String,
    /// All rights.
    pub rights: BTreeSet<Right>,
    /// Whether policies decide which rows each role sees.
    #[serde(default)]
    pub row_security: bool,
}

/// What was lost, given the roles that there are. A relation that was made anew and does not let its
/// readers in, or shows all of them everything, is an accident; a right that was taken away from the
/// same relation may have been meant.
pub(crate) fn findings(
    name: &RelationName,
    before: &Access,
    now: &Access,
    roles: &BTreeSet<String>,
) -> Vec<Finding> {
    let severity = match before.identity == now.identity {
        true => Severity::Medium,
        false => Severity::Critical,
    };
    let finding = |check: &str, observed: String, expected: &str| Finding {
        check: check.to_owned(),
        relation: Some(name.clone()),
        column: None,
        outcome: Outcome::Fail,
        severity,
        observed,
        expected: expected.to_owned(),
        examples: None,
        sql: None,
    };
    let mut all = Vec::new();
    let lost: Vec<&Right> = before
        .rights
        .iter()
        .filter(|right| roles.contains(&right.role) && !may(now, right))
        .collect();
    if !lost.is_empty() {
        let mut by_role: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for right in &lost {
            by_role
                .entry(&right.role)
                .or_default()
                .insert(&right.privilege);
        }
        let words: Vec<String> = by_role
            .iter()
            .map(|(role, privileges)| {
                let privileges: Vec<&str> = privileges.iter().copied().collect();
                format!("{role} may not {} it any more", privileges.join(", "))
            })
            .collect();
        let text = |value: &str| Value::Text(value.to_owned());
        let grants: Vec<String> = lost
            .iter()
            .map(|right| {
                let column = right.column.as_deref().map(sql::quoted);
                let column = column.map_or_else(String::new, |column| format!(" ({column})"));
                format!(
                    "GRANT {}{column} ON {} TO {}",
                    right.privilege,
                    sql::relation(name),
                    sql::quoted(&right.role)
                )
            })
            .collect();
        all.push(Finding {
            examples: Some(Examples {
                columns: ["role", "privilege", "column"].map(str::to_owned).to_vec(),
                rows: lost
                    .iter()
                    .map(|right| {
                        let column = right.column.as_deref();
                        vec![
                            text(&right.role),
                            text(&right.privilege),
                            column.map_or(Value::Null, text),
                        ]
                    })
                    .collect(),
            }),
            sql: Some(grants.join(";\n")),
            ..finding("access", words.join("; "), "who could before still can")
        });
    }
    if before.row_security && !now.row_security {
        all.push(finding(
            "row_security",
            "row security is off: whoever may read it sees every row".to_owned(),
            "on, as before",
        ));
    }
    all
}

/// Whether a right holds still; a right to all columns is one to each.
fn may(now: &Access, right: &Right) -> bool {
    let whole = Right {
        column: None,
        ..right.clone()
    };
    now.rights.contains(right) || now.rights.contains(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(identity: &str, rights: &[(&str, &str, Option<&str>)]) -> Access {
        let right = |(role, privilege, column): &(&str, &str, Option<&str>)| Right {
            role: (*role).to_owned(),
            privilege: (*privilege).to_owned(),
            column: column.map(str::to_owned),
        };
        Access {
            identity: identity.to_owned(),
            rights: rights.iter().map(right).collect(),
            row_security: false,
        }
    }

    #[test]
    fn a_relation_that_was_made_anew_must_let_in_whom_it_let_in() {
        let name = RelationName::new("shop", "marts", "orders");
        let before = access(
            "1",
            &[
                ("bi", "SELECT", None),
                ("gone", "SELECT", None),
                ("web", "SELECT", Some("id")),
            ],
        );
        let roles = ["bi", "web", "etl"].map(str::to_owned).into();
        let now = access("2", &[("web", "SELECT", None), ("etl", "SELECT", None)]);
        let found = findings(&name, &before, &now, &roles);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Critical);
        assert_eq!(found[0].observed, "bi may not SELECT it any more");
        let grant = "GRANT SELECT ON \"marts\".\"orders\" TO \"bi\"";
        assert_eq!(found[0].sql.as_deref(), Some(grant));
        assert!(findings(&name, &before, &before, &roles).is_empty());

        // Somebody revoked it, and may have meant to.
        let revoked = access("1", &[("web", "SELECT", Some("id"))]);
        let found = findings(&name, &before, &revoked, &roles);
        assert_eq!(found[0].severity, Severity::Medium);

        let guarded = Access {
            row_security: true,
            ..now.clone()
        };
        let found = findings(&name, &guarded, &now, &roles);
        assert_eq!(found[0].check, "row_security");
    }
}
