//! Schema names that are spelled out in SQL, where no profile can change them.
//!
//! This is a reader of tokens and not of SQL: it tells names from comments and texts, and that is
//! enough to say which relation somebody should look at.

use super::Naming;
use std::collections::BTreeSet;

/// A qualified name, the last two parts of it, as the server spells them.
type Qualified = (String, String);

/// Those of the relations (schema and name) that the SQL names with their schema.
pub fn mentions(sql: &str, relations: &BTreeSet<Qualified>, naming: Naming) -> BTreeSet<Qualified> {
    let tokens = tokens(sql);
    let named = names(&tokens, naming).map(|(_, name)| name);
    named.filter(|name| relations.contains(name)).collect()
}

/// The qualified relations that statements in the SQL write to or define. What templates stand for
/// is not known and left out.
pub fn writes(sql: &str, naming: Naming) -> BTreeSet<Qualified> {
    let tokens = tokens(sql);
    let written =
        names(&tokens, naming).filter(|(at, _)| tokens.get(..*at).is_some_and(written_next));
    written.map(|(_, name)| name).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word; whether it was quoted.
    Word(String, bool),
    /// Anything else but space.
    Sign(char),
}

impl Token {
    fn keyword(&self) -> Option<&str> {
        match self {
            Self::Word(word, false) => Some(word),
            _ => None,
        }
    }
}

/// Whether what comes after these tokens is what a statement writes to.
fn written_next(before: &[Token]) -> bool {
    // Words between the verb and the name that do not say what is done.
    const BETWEEN: &[&str] = &[
        "if",
        "exists",
        "not",
        "only",
        "or",
        "replace",
        "temp",
        "temporary",
        "unlogged",
        "materialized",
        "concurrently",
        "table",
        "view",
        "index",
        "sequence",
        "recursive",
    ];
    let mut words = before.iter().rev();
    let last = loop {
        match words.next().map(Token::keyword) {
            Some(Some(word)) if BETWEEN.contains(&word) => {}
            Some(Some(word)) => break word,
            // A list, as in `truncate a, b`, or the database before the schema.
            _ => return false,
        }
    };
    match last {
        "into" | "update" | "truncate" | "drop" | "alter" | "create" | "refresh" => true,
        "from" => words.next().and_then(Token::keyword) == Some("delete"),
        _ => false,
    }
}

/// Every `schema.name`, and where it begins.
fn names(tokens: &[Token], naming: Naming) -> impl Iterator<Item = (usize, Qualified)> + '_ {
    let word = move |at: usize| match tokens.get(at) {
        Some(Token::Word(word, true)) => Some(word.clone()),
        Some(Token::Word(word, false)) => Some(naming.folded(word)),
        _ => None,
    };
    let dot = |at: usize| tokens.get(at) == Some(&Token::Sign('.'));
    (0..tokens.len()).flat_map(move |at| {
        let begins = (at == 0 || !dot(at - 1)) && dot(at + 1);
        let [first, second, third] = [0, 2, 4].map(|offset| word(at + offset));
        let third = third.filter(|_| dot(at + 3));
        // Three parts are a database's relation or a relation's column: it may mean either.
        [(first, second.clone()), (second, third)]
            .into_iter()
            .filter(move |_| begins)
            .filter_map(move |(schema, name)| Some((at, (schema?, name?))))
    })
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let skip = match c {
            _ if rest.starts_with("--") => end_of(rest, 2, "\n"),
            _ if rest.starts_with("/*") => end_of(rest, 2, "*/"),
            _ if rest.starts_with("{#") => end_of(rest, 2, "#}"),
            _ if rest.starts_with("{{") => {
                found.push(Token::Sign('{'));
                end_of(rest, 2, "}}")
            }
            _ if rest.starts_with("{%") => end_of(rest, 2, "%}"),
            '\'' => end_of(rest, 1, "'"),
            '"' => {
                let end = end_of(rest, 1, "\"");
                let inner = rest.get(1..end.saturating_sub(1)).unwrap_or_default();
                found.push(Token::Word(inner.to_owned(), true));
                end
            }
            c if c.is_whitespace() => c.len_utf8(),
            c if c.is_alphanumeric() || c == '_' => {
                let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
                let word = rest.get(..end).unwrap_or_default().to_lowercase();
                found.push(Token::Word(word, false));
                end
            }
            c => {
                found.push(Token::Sign(c));
                c.len_utf8()
            }
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    found
}

/// Where the text after `from` first has `end`, that included.
fn end_of(text: &str, from: usize, end: &str) -> usize {
    let inner = text.get(from..).unwrap_or_default();
    inner
        .find(end)
        .map_or(text.len(), |at| from + at + end.len())
}

/// Feeds arbitrary text to the reader, for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for naming in [Naming::Postgres, Naming::Snowflake] {
        let _ = mentions(&text, &BTreeSet::new(), naming);
        let _ = writes(&text, naming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(names: &[(&str, &str)]) -> BTreeSet<Qualified> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        names.iter().map(owned).collect()
    }

    #[test]
    fn names_are_found_where_they_are_names() {
        let relations = set(&[("marts", "orders"), ("Marts", "Orders"), ("core", "items")]);
        for (sql, found) in [
            ("select * from marts.orders", &[("marts", "orders")][..]),
            ("select * from MARTS . Orders o", &[("marts", "orders")]),
            (
                r#"from "db"."Marts"."Orders" join core.items"#,
                &[("Marts", "Orders"), ("core", "items")],
            ),
            ("from db.marts.orders", &[("marts", "orders")]),
            (r#"from "db"."unship_build_marts"."orders""#, &[]),
            (
                "-- marts.orders\n/* core.items */ select 'marts.orders', {# core.items #} 1",
                &[],
            ),
            ("select x.marts, orders.core from a", &[]),
            (r#"from "marts.orders""#, &[]),
        ] {
            assert_eq!(
                mentions(sql, &relations, Naming::Postgres),
                set(found),
                "{sql}"
            );
        }
        let large = set(&[("MARTS", "ORDERS"), ("Marts", "Orders")]);
        let sql = "from shop.marts.orders join \"Marts\".\"Orders\" join marts.\"orders\"";
        assert_eq!(mentions(sql, &large, Naming::Snowflake), large);
    }

    #[test]
    fn writes_are_told_from_reads() {
        for (sql, found) in [
            (
                "insert into marts.log select * from marts.orders",
                &[("marts", "log")][..],
            ),
            ("delete from marts.log where 1 = 1", &[("marts", "log")]),
            (
                "select 1; update only marts.log set a = 1",
                &[("marts", "log")],
            ),
            (
                "create table if not exists marts.log (a int)",
                &[("marts", "log")],
            ),
            (
                "create or replace view marts.v as select 1",
                &[("marts", "v")],
            ),
            ("drop table if exists marts.log", &[("marts", "log")]),
            ("grant select on marts.log to bi", &[]),
            (
                "insert into {{ this.schema }}.log select * from marts.log",
                &[],
            ),
            ("insert into {{ this }} select 1 from marts.log", &[]),
            ("insert into audit.log values (1)", &[("audit", "log")]),
            ("analyze marts.log", &[]),
        ] {
            assert_eq!(writes(sql, Naming::Postgres), set(found), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".*", sql in r#"[a-z."'{}%#*/ -]{0,60}"#) {
            fuzz(text.as_bytes());
            fuzz(sql.as_bytes());
        }
    }
}
