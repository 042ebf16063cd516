//! SQL that core writes: standard SQL with standard quoting, which every engine here reads.

use crate::ident::RelationName;

/// A name as it must be written to mean exactly it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A relation, with its schema, as a person would name it in production.
pub fn relation(name: &RelationName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.name))
}

/// The figures behind a finding.
pub(super) fn figures(name: &RelationName, column: Option<&str>, numbers: bool) -> String {
    let mut list = vec!["count(*)".to_owned()];
    if let Some(column) = column {
        let cell = quoted(column);
        list.push(format!("count({cell})"));
        list.push(format!("count(DISTINCT {cell})"));
        list.push(format!("min({cell})"));
        list.push(format!("max({cell})"));
        if numbers {
            list.push(format!("avg({cell})"));
            list.push(format!("sum({cell})"));
        }
    }
    format!("SELECT {} FROM {}", list.join(", "), relation(name))
}

/// The values of a key that stand more than once, and how often, the most frequent first. `at` is
/// how the relation is named where it is asked for.
pub fn duplicates(at: &str, key: &[String]) -> String {
    let cells: Vec<String> = key.iter().map(|column| quoted(column)).collect();
    let cells = cells.join(", ");
    let there: Vec<String> = key
        .iter()
        .map(|column| format!("{} IS NOT NULL", quoted(column)))
        .collect();
    format!(
        "SELECT {cells}, count(*) AS rows FROM {at} WHERE {} GROUP BY {cells} HAVING count(*) > 1 \
         ORDER BY count(*) DESC, {cells}",
        there.join(" AND ")
    )
}

/// The values of a column that the column they refer to does not have.
pub fn orphans(at: &str, column: &str, parent: &str, field: &str) -> String {
    let (cell, field) = (quoted(column), quoted(field));
    format!(
        "SELECT child.{cell}, count(*) AS rows FROM {at} child WHERE child.{cell} IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM {parent} parent WHERE parent.{field} = child.{cell}) GROUP BY child.{cell} \
         ORDER BY count(*) DESC, child.{cell}"
    )
}
