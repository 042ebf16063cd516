//! The statements that lock and move relations.

use super::model::{Name, Relation};
use super::names::quoted;
use super::plan::Going;

/// The statements that move one relation, with what PostgreSQL leaves behind.
pub(super) fn steps(going: &Going<'_>) -> Vec<String> {
    let relation = going.relation;
    let word = relation.kind.sql();
    let mut out = Vec::new();
    if relation.schema != going.to.schema {
        out.push(format!(
            "ALTER {word} {} SET SCHEMA {}",
            relation.at().sql(),
            quoted(&going.to.schema)
        ));
        for statistics in &relation.statistics {
            if statistics.schema == relation.schema {
                out.push(format!(
                    "ALTER STATISTICS {} SET SCHEMA {}",
                    Name::new(&*statistics.schema, &*statistics.name).sql(),
                    quoted(&going.to.schema)
                ));
            }
        }
    }
    if relation.name != going.to.name {
        out.push(format!(
            "ALTER {word} {} RENAME TO {}",
            Name::new(&*going.to.schema, &*relation.name).sql(),
            quoted(&going.to.name)
        ));
    }
    out
}

/// Statements that take a lock and change nothing: views first, as a reader takes them, then all
/// tables in one statement. `LOCK TABLE` on a view would lock all that it reads; giving a view to the
/// role that has it locks the view alone.
pub(super) fn locks(relations: &[&Relation], mode: &str) -> Vec<String> {
    let mut out = Vec::new();
    for relation in relations.iter().filter(|r| !r.kind.lockable()) {
        out.push(format!(
            "ALTER {} {} OWNER TO {}",
            relation.kind.sql(),
            relation.at().sql(),
            quoted(&relation.owner)
        ));
    }
    let tables: Vec<String> = relations
        .iter()
        .filter(|r| r.kind.lockable())
        .map(|r| format!("ONLY {}", r.at().sql()))
        .collect();
    if !tables.is_empty() {
        out.push(format!("LOCK TABLE {} IN {mode} MODE", tables.join(", ")));
    }
    out
}
