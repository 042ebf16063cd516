//! Names and text inside PostgreSQL's SQL. Every name in a statement goes through here.

pub use crate::quote::{name, names};

/// `"schema"."name"`.
pub fn relation(schema: &str, relation: &str) -> String {
    format!("{}.{}", name(schema), name(relation))
}

/// A string literal that means the same whatever `standard_conforming_strings` is.
pub fn text(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}
