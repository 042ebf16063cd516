//! The text of a view: what it selects, and where it reads from.
//!
//! Snowflake keeps a view as the text that made it, names and all. What a job built in staging reads
//! staging by name and must read production when it is there.

use super::layout;

/// What a token of Snowflake's SQL is, as far as names are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Symbol,
    Open,
    Close,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
    depth: usize,
}

/// The tokens of a text; comments and white space are between them. What does not end ends with the
/// text. <https://docs.snowflake.com/en/sql-reference/data-types-text>
fn tokens(sql: &str) -> Vec<Token> {
    let bytes = sql.as_bytes();
    let at = |n: usize| bytes.get(n).copied().unwrap_or(0);
    let find = |from: usize, end: &str| {
        let rest = sql.get(from..).unwrap_or_default();
        rest.find(end).map_or(sql.len(), |n| from + n + end.len())
    };
    let mut out = Vec::new();
    let (mut n, mut depth) = (0usize, 0usize);
    while n < bytes.len() {
        let start = n;
        let kind = match at(n) {
            b if b.is_ascii_whitespace() => {
                n += 1;
                continue;
            }
            b'-' if at(n + 1) == b'-' => {
                n = find(n, "\n");
                continue;
            }
            b'/' if at(n + 1) == b'/' => {
                n = find(n, "\n");
                continue;
            }
            b'/' if at(n + 1) == b'*' => {
                n = find(n + 2, "*/");
                continue;
            }
            b'$' if at(n + 1) == b'$' => {
                n = find(n + 2, "$$");
                Kind::Other
            }
            b'\'' => {
                n += 1;
                while n < bytes.len() {
                    match at(n) {
                        b'\\' => n += 2,
                        b'\'' if at(n + 1) == b'\'' => n += 2,
                        b'\'' => break,
                        _ => n += 1,
                    }
                }
                n = (n + 1).min(bytes.len());
                Kind::Other
            }
            b'"' => {
                n += 1;
                while n < bytes.len() {
                    match at(n) {
                        b'"' if at(n + 1) == b'"' => n += 2,
                        b'"' => break,
                        _ => n += 1,
                    }
                }
                n = (n + 1).min(bytes.len());
                Kind::Quoted
            }
            b'(' => {
                n += 1;
                depth += 1;
                Kind::Open
            }
            b')' => {
                n += 1;
                depth = depth.saturating_sub(1);
                Kind::Close
            }
            b if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => {
                while at(n).is_ascii_alphanumeric() || matches!(at(n), b'_' | b'$') || at(n) >= 0x80
                {
                    n += 1;
                }
                Kind::Word
            }
            _ => {
                n += 1;
                Kind::Symbol
            }
        };
        out.push(Token {
            kind,
            start,
            end: n,
            depth,
        });
    }
    out
}

fn of<'a>(sql: &'a str, token: &Token) -> &'a str {
    sql.get(token.start..token.end).unwrap_or_default()
}

/// The name that a token spells: words fold to capitals.
fn spelled(sql: &str, token: &Token) -> Option<String> {
    let text = of(sql, token);
    match token.kind {
        Kind::Word => Some(text.to_uppercase()),
        Kind::Quoted => {
            let inner = text.strip_prefix('"')?.strip_suffix('"')?;
            Some(inner.replace("\"\"", "\""))
        }
        _ => None,
    }
}

/// What a view selects: all that comes after the first `AS` outside of brackets in the statement
/// that made it. `None` where the text is no such statement.
pub fn body(definition: &str) -> Option<String> {
    let all = tokens(definition);
    let is = |token: &Token, word: &str| {
        token.kind == Kind::Word && of(definition, token).eq_ignore_ascii_case(word)
    };
    all.first().filter(|token| is(token, "CREATE"))?;
    let view = all.iter().position(|token| is(token, "VIEW"))?;
    // A part of the name may be the word itself.
    let after = all.iter().enumerate().skip(view + 1);
    let (n, _) = after.clone().find(|(n, token)| {
        let dotted = |n: Option<usize>| {
            n.and_then(|n| all.get(n))
                .is_some_and(|t| t.kind == Kind::Symbol && of(definition, t) == ".")
        };
        token.depth == 0 && is(token, "AS") && !dotted(n.checked_sub(1)) && !dotted(Some(n + 1))
    })?;
    let from = all.get(n)?.end;
    let body = definition
        .get(from..)?
        .trim()
        .trim_end_matches(';')
        .trim_end();
    (!body.is_empty()).then(|| body.to_owned())
}

/// A text with each name of one of our schemas in place of which production's is meant: staging and
/// retained schemas are only ever unship's.
pub fn in_production(sql: &str) -> String {
    let all = tokens(sql);
    let mut out = String::new();
    let mut copied = 0;
    for (n, token) in all.iter().enumerate() {
        let next = all.get(n + 1);
        let qualifies = next.is_some_and(|t| t.kind == Kind::Symbol && of(sql, t) == ".");
        let Some(schema) = spelled(sql, token).filter(|_| qualifies) else {
            continue;
        };
        let production = layout::parse_build(&schema)
            .or_else(|| layout::parse_retained(&schema).map(|(_, schema)| schema));
        if let Some(production) = production {
            out.push_str(sql.get(copied..token.start).unwrap_or_default());
            out.push_str(&super::sql::name(production));
            copied = token.end;
        }
    }
    out.push_str(sql.get(copied..).unwrap_or_default());
    out
}

/// The names that a text may read: schema and relation, as far as they are written with a schema.
pub fn reads(sql: &str) -> Vec<(String, String)> {
    let all = tokens(sql);
    all.windows(3)
        .filter_map(|three| {
            let [schema, dot, name] = three else {
                return None;
            };
            let dotted = dot.kind == Kind::Symbol && of(sql, dot) == ".";
            dotted
                .then(|| Some((spelled(sql, schema)?, spelled(sql, name)?)))
                .flatten()
        })
        .collect()
}

/// The names in a text, each with all its parts: `db.schema.name` is one of three. In `db..name` the
/// schema is the one that every database has.
/// <https://docs.snowflake.com/en/sql-reference/name-resolution>
pub fn names(sql: &str) -> Vec<Vec<String>> {
    let mut out: Vec<Vec<String>> = Vec::new();
    // How many dots there were since the last name; none before the first.
    let mut dots = None;
    for token in tokens(sql) {
        match (spelled(sql, &token), of(sql, &token), dots) {
            (Some(name), _, after) => {
                match (after, out.last_mut()) {
                    (Some(1), Some(parts)) => parts.push(name),
                    (Some(2), Some(parts)) => parts.extend(["PUBLIC".to_owned(), name]),
                    _ => out.push(vec![name]),
                }
                dots = Some(0);
            }
            (None, ".", Some(n)) => dots = Some(n + 1),
            _ => dots = None,
        }
    }
    out
}

/// A text in which only what it means is left: names as they are meant, no comments, no white space.
pub fn canonical(sql: &str) -> String {
    let all = tokens(sql);
    let words: Vec<String> = all
        .iter()
        .map(|token| spelled(sql, token).unwrap_or_else(|| of(sql, token).to_owned()))
        .collect();
    words.join(" ")
}

/// Every name in a text.
pub fn words(sql: &str) -> Vec<String> {
    let all = tokens(sql);
    all.iter().filter_map(|token| spelled(sql, token)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_view_is_what_comes_after_as() {
        for (definition, expected) in [
            (
                "create or replace   view S.V\n as (select 1);",
                "(select 1)",
            ),
            (
                "CREATE SECURE VIEW \"as\".\"V\"(A, B) COMMENT='as it is' AS SELECT 1 AS x",
                "SELECT 1 AS x",
            ),
            ("CREATE VIEW AS.V AS SELECT 2", "SELECT 2"),
            (
                "create view v (a comment 'x as y') -- as\n /* as */ as\nwith t as (select 1) select * from t",
                "with t as (select 1) select * from t",
            ),
        ] {
            assert_eq!(body(definition).as_deref(), Some(expected), "{definition}");
        }
        for none in [
            "",
            "SELECT 1 AS x",
            "CREATE VIEW v AS ;",
            "CREATE TABLE t AS SELECT 1",
        ] {
            assert_eq!(body(none), None, "{none}");
        }
    }

    #[test]
    fn names_of_ours_mean_production() {
        let text = "select 'unship_build_marts.x', \"UNSHIP_BUILD_MARTS\" from DB.unship_build_marts.x a \
                    join \"DB\".\"unship_build_Marts\".\"y\" -- unship_build_marts.z\n \
                    join UNSHIP_R1P2_MARTS.w where n = 'it\\'s unship_build_marts.q' and m = $$unship_build_marts.$$";
        let expected = "select 'unship_build_marts.x', \"UNSHIP_BUILD_MARTS\" from DB.\"MARTS\".x a \
                    join \"DB\".\"Marts\".\"y\" -- unship_build_marts.z\n \
                    join \"MARTS\".w where n = 'it\\'s unship_build_marts.q' and m = $$unship_build_marts.$$";
        assert_eq!(in_production(text), expected);
        assert_eq!(in_production(expected), expected);
    }

    #[test]
    fn names_keep_their_parts_together() {
        let read = names("select o.id from db.S.\"t.1\" o, x .. y join 'a.b' . c where 1.5 > n");
        let read: Vec<String> = read.iter().map(|parts| parts.join("|")).collect();
        let expected = [
            "SELECT",
            "O|ID",
            "FROM",
            "DB|S|t.1",
            "O",
            "X|PUBLIC|Y",
            "JOIN",
            "C",
        ];
        assert_eq!(read[..8], expected);
        assert_eq!(read.last().unwrap(), "N");
    }

    #[test]
    fn what_a_text_reads_is_found() {
        let read = reads("select a.b from DB.S.T join \"s\".\"t\" on 'x.y' = 1");
        let has = |schema: &str, name: &str| read.contains(&(schema.to_owned(), name.to_owned()));
        assert!(has("S", "T") && has("s", "t"));
        assert!(!has("X", "Y"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(sql in ".*") {
            let _ = body(&sql);
            let _ = reads(&sql);
            let once = in_production(&sql);
            prop_assert_eq!(in_production(&once), once);
        }
    }
}
