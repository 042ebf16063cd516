//! Names and text inside SQL. Every name in a statement goes through here.

pub use crate::quote::{name, names};
use unship_core::ident::RelationName;

/// `"catalog"."schema"."name"`.
pub fn relation(catalog: &str, schema: &str, relation: &str) -> String {
    format!("{}.{}.{}", name(catalog), name(schema), name(relation))
}

/// [`relation`] of a whole name.
pub fn full(relation_name: &RelationName) -> String {
    relation(
        &relation_name.database,
        &relation_name.schema,
        &relation_name.name,
    )
}

/// A string literal. DuckDB knows no escapes but the doubled quote; a NUL, which the parser would
/// take for the end of the statement, is put together from parts.
pub fn text(text: &str) -> String {
    if text.contains('\0') {
        let parts: Vec<String> = text
            .split('\0')
            .map(|part| format!("'{}'", part.replace('\'', "''")))
            .collect();
        return format!("({})", parts.join(" || chr(0) || "));
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duckdb::worker::{Open, testing};
    use proptest::prelude::*;
    use std::cell::RefCell;

    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[\"'.;a-zA-Z %$\\\\\\[\\](){}?:,\\-/*\n\t]{1,12}",
            2 => "[^\0]{1,12}",
            1 => prop::sample::select(vec![
                "select", "table", "SELECT", "order", "\"", "\"\"", ".", "'", "--", "/*", ";",
                "a\"b", "ä", "名前", "💥", " ", "x".repeat(300).as_str().to_owned().leak(),
            ]).prop_map(str::to_owned),
        ]
    }

    #[test]
    fn duckdb_keeps_hostile_names_and_text_as_they_are() {
        let mut worker = testing::worker();
        worker.open(&Open::default()).unwrap();
        let worker = RefCell::new(worker);
        let config = ProptestConfig {
            cases: 200,
            failure_persistence: None,
            ..Default::default()
        };
        proptest!(config, |(schema in hostile(), table in hostile(), column in hostile(), value in ".*")| {
            let worker = &mut *worker.borrow_mut();
            let schema = format!("{schema}{}", "_");
            let quoted = relation("memory", &schema, &table);
            worker.execute(&format!("CREATE SCHEMA {}", name(&schema)), &[]).unwrap();
            worker.execute(&format!("CREATE TABLE {quoted} ({} VARCHAR)", name(&column)), &[]).unwrap();
            worker.execute(&format!("INSERT INTO {quoted} VALUES ({})", text(&value)), &[]).unwrap();
            let rows = worker.texts(&format!("SELECT {} FROM {quoted}", name(&column)), &[]).unwrap();
            prop_assert_eq!(rows, vec![vec![Some(value)]]);
            let names = worker.texts(
                "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE NOT internal",
                &[],
            ).unwrap();
            worker.execute(&format!("DROP SCHEMA {} CASCADE", name(&schema)), &[]).unwrap();
            prop_assert_eq!(names, vec![vec![Some(schema), Some(table), Some(column)]]);
        });
    }

    #[test]
    fn a_name_that_cannot_be_never_ends_the_statement() {
        let mut worker = testing::worker();
        worker.open(&Open::default()).unwrap();
        for bad in ["", "a\0b", "\0"] {
            let sql = format!("CREATE TABLE {} (a INTEGER)", name(bad));
            let made = worker.execute(&sql, &[]).is_ok();
            let names = worker
                .texts("SELECT table_name FROM duckdb_tables()", &[])
                .unwrap();
            // DuckDB 2.0 takes a NUL as a character like any other; before, it is an error.
            let kept = names == vec![vec![Some(bad.to_owned())]];
            assert!(
                if made { kept } else { names.is_empty() },
                "{bad:?}: {names:?}"
            );
            worker.execute("DROP TABLE IF EXISTS \"a\0b\"", &[]).ok();
            worker.execute("DROP TABLE IF EXISTS \"\0\"", &[]).ok();
        }
    }
}
