//! Who may do what: carrying it to a new relation, and writing it down anew.

use super::model::{Grant, Name, Policy, Relation};
use super::names::{literal, quoted};
use std::collections::{BTreeMap, BTreeSet};

/// A role in a statement.
fn role(name: Option<&String>) -> String {
    name.map_or_else(|| "PUBLIC".to_owned(), |n| quoted(n))
}

/// `GRANT` statements: one for each role. `on` is `TABLE …` or `SEQUENCE …`.
pub(super) fn grants(wanted: &BTreeSet<Grant>, column: Option<&str>, on: &str) -> Vec<String> {
    let mut by_role: BTreeMap<(Option<&String>, bool), Vec<String>> = BTreeMap::new();
    for grant in wanted {
        let privilege = match column {
            Some(column) => format!("{} ({})", grant.privilege, quoted(column)),
            None => grant.privilege.clone(),
        };
        by_role
            .entry((grant.to.as_ref(), grant.grantable))
            .or_default()
            .push(privilege);
    }
    by_role
        .into_iter()
        .map(|((to, grantable), privileges)| {
            format!(
                "GRANT {} ON {on} TO {}{}",
                privileges.join(", "),
                role(to),
                if grantable { " WITH GRANT OPTION" } else { "" }
            )
        })
        .collect()
}

/// `REVOKE` statements: what these roles passed on goes too.
pub(super) fn revokes(taken: &BTreeSet<Grant>, column: Option<&str>, on: &str) -> Vec<String> {
    let statement = |grant: &Grant| {
        let column = column.map_or_else(String::new, |c| format!(" ({})", quoted(c)));
        let from = role(grant.to.as_ref());
        format!(
            "REVOKE {}{column} ON {on} FROM {from} CASCADE",
            grant.privilege
        )
    };
    taken.iter().map(statement).collect()
}

/// What the old grants give and the new ones do not. The owner needs no grant.
pub(super) fn lacking(
    old: Option<&BTreeSet<Grant>>,
    new: Option<&BTreeSet<Grant>>,
    owner: &str,
) -> BTreeSet<Grant> {
    let none = BTreeSet::new();
    let new = new.unwrap_or(&none);
    old.unwrap_or(&none)
        .iter()
        .filter(|g| g.to.as_deref() != Some(owner))
        .filter(|g| {
            !new.iter().any(|n| {
                n.to == g.to && n.privilege == g.privilege && (n.grantable || !g.grantable)
            })
        })
        .cloned()
        .collect()
}

/// Makes a policy.
pub(super) fn create_policy(policy: &Policy, on: &Name) -> Vec<String> {
    let roles = policy
        .roles
        .iter()
        .map(|r| role(r.as_ref()))
        .collect::<Vec<_>>()
        .join(", ");
    let command = match policy.command.as_str() {
        "r" => "SELECT",
        "a" => "INSERT",
        "w" => "UPDATE",
        "d" => "DELETE",
        _ => "ALL",
    };
    let mut out = vec![format!(
        "CREATE POLICY {} ON {} AS {} FOR {command} TO {roles}{}{}",
        quoted(&policy.name),
        on.sql(),
        if policy.permissive {
            "PERMISSIVE"
        } else {
            "RESTRICTIVE"
        },
        clause("USING", policy.sees.as_deref()),
        clause("WITH CHECK", policy.check.as_deref()),
    )];
    if let Some(comment) = &policy.comment {
        out.push(format!(
            "COMMENT ON POLICY {} ON {} IS {}",
            quoted(&policy.name),
            on.sql(),
            literal(comment)
        ));
    }
    out
}

/// ` USING (…)`, or nothing.
pub(super) fn clause(word: &str, expression: Option<&str>) -> String {
    expression.map_or_else(String::new, |e| format!(" {word} ({e})"))
}

/// `COMMENT ON … IS …`.
pub(super) fn comment_on(what: &str, comment: &str) -> String {
    format!("COMMENT ON {what} IS {}", literal(comment))
}

/// Security labels of `relation`, put on what lies at `at`.
pub(super) fn labels(relation: &Relation, at: &Name) -> Vec<String> {
    relation
        .labels
        .iter()
        .map(|l| {
            let what = match &l.column {
                Some(column) => format!("COLUMN {}.{}", at.sql(), quoted(column)),
                None => format!("{} {}", relation.kind.sql(), at.sql()),
            };
            format!(
                "SECURITY LABEL FOR {} ON {what} IS {}",
                quoted(&l.provider),
                literal(&l.label)
            )
        })
        .collect()
}

/// ` WITH (…)` of a view, or nothing.
pub(super) fn with_options(options: &[String]) -> String {
    if options.is_empty() {
        return String::new();
    }
    format!(
        " WITH ({})",
        options
            .iter()
            .map(|o| option(o))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// `key=value` as a statement writes it.
pub(super) fn option(text: &str) -> String {
    match text.split_once('=') {
        Some((key, value)) => format!("{key} = {}", literal(value)),
        None => text.to_owned(),
    }
}
