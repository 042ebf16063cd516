//! Statements that make a relation again, put together from what DuckDB's catalog says.
//!
//! The catalog's own text is not enough: it names no catalog (which is ambiguous where a schema is
//! called like the file), keeps a sequence's next value, and has no text at all for types and
//! macros.

use super::catalog::{Index, MacroText, Sequence, Table, View};
use super::lexer::{Kind, Token, dotted, items, keyword, tokens};
use super::quote;

/// `CREATE TABLE`, with `target` (quoted) as the table's name. A foreign key's parent stands in
/// the same schema always, so its name is left without one. `None` if the catalog's text is not
/// understood.
pub fn table(table: &Table, target: &str) -> Option<String> {
    let sql = table.sql.trim_end().trim_end_matches(';');
    let list = tokens(sql);
    let at = keyword(sql, &list, "TABLE")?;
    let (_, open) = dotted(sql, &list, at + 1)?;
    if !list.get(open)?.is_symbol(sql, "(") {
        return None;
    }
    // (from, to, replacement), in the order of the text.
    let mut changes: Vec<(usize, usize, String)> = vec![(
        list.get(at + 1)?.start,
        list.get(open)?.start,
        target.to_owned(),
    )];
    for item in items(sql, &list, open) {
        for (place, token) in item.iter().enumerate() {
            if token.depth == 1 && token.is(sql, "REFERENCES") {
                let (parts, after) = dotted(sql, item, place + 1)?;
                let end = item.get(after - 1)?.end;
                changes.push((item.get(place + 1)?.start, end, quote::name(parts.last()?)));
            }
        }
    }
    Some(replaced(sql, &changes))
}

/// Which of a table's columns are generated, by their places, as the catalog's text says.
pub fn generated(sql: &str) -> Vec<bool> {
    let list = tokens(sql);
    let Some((_, open)) = keyword(sql, &list, "TABLE").and_then(|at| dotted(sql, &list, at + 1))
    else {
        return Vec::new();
    };
    items(sql, &list, open)
        .into_iter()
        .map(|item| {
            // The first token is the column's name, which may be a word like these.
            item.windows(2).skip(1).any(|pair| {
                pair[0].depth == 1 && pair[0].is(sql, "GENERATED") && pair[1].is(sql, "ALWAYS")
            })
        })
        .collect()
}

/// The names of the tables that a table's foreign keys refer to; they are in its own schema.
pub fn parents(sql: &str) -> Vec<String> {
    let list = tokens(sql);
    let mut names = Vec::new();
    for (i, token) in list.iter().enumerate() {
        if token.depth == 1
            && token.is(sql, "REFERENCES")
            && let Some((parts, _)) = dotted(sql, &list, i + 1)
        {
            names.extend(parts.into_iter().next_back());
        }
    }
    names
}

/// Whether the catalog left a hole where a foreign key to the table itself stands: before DuckDB
/// 2.0 it prints nothing for one.
pub fn has_hole(sql: &str) -> bool {
    let list = tokens(sql);
    list.windows(2).any(|pair| {
        pair[0].depth == 1
            && pair[0].is_symbol(sql, ",")
            && (pair[1].is_symbol(sql, ",") || pair[1].is_symbol(sql, ")"))
    })
}

/// The sequences that a table's defaults draw from: the parts of each name.
pub fn sequences(sql: &str) -> Vec<Vec<String>> {
    let list = tokens(sql);
    let mut names = Vec::new();
    for (i, token) in list.iter().enumerate() {
        let argument = list.get(i + 2).filter(|_| token.is(sql, "nextval"));
        if let Some(argument) = argument.filter(|argument| argument.kind == Kind::Text) {
            let text = argument.text(sql).trim_matches('\'').replace("''", "'");
            if let Some((parts, _)) = dotted(&text, &tokens(&text), 0) {
                names.push(parts);
            }
        }
    }
    names
}

/// `CREATE INDEX` on `target` (quoted).
pub fn index(index: &Index, target: &str) -> Option<String> {
    let sql = index.sql.trim_end().trim_end_matches(';');
    let list = tokens(sql);
    let on = keyword(sql, &list, "ON")?;
    let (_, after) = dotted(sql, &list, on + 1)?;
    let end = list.get(after)?.start;
    Some(replaced(
        sql,
        &[(list.get(on + 1)?.start, end, target.to_owned())],
    ))
}

/// `CREATE VIEW` with `target` (quoted) as the view's name.
pub fn view(view: &View, target: &str) -> Option<String> {
    let sql = view.sql.trim_end().trim_end_matches(';');
    let list = tokens(sql);
    let at = keyword(sql, &list, "VIEW")?;
    let (_, after) = dotted(sql, &list, at + 1)?;
    let end = list.get(after)?.start;
    Some(replaced(
        sql,
        &[(list.get(at + 1)?.start, end, format!("{target} "))],
    ))
}

/// The query of a view.
pub fn view_query(view: &View) -> Option<&str> {
    let sql = view.sql.trim_end().trim_end_matches(';');
    let list = tokens(sql);
    let at = keyword(sql, &list, "VIEW")?;
    let (_, after) = dotted(sql, &list, at + 1)?;
    let body = list
        .iter()
        .skip(after)
        .position(|t| t.depth == 0 && t.is(sql, "AS"))?;
    sql.get(list.get(after + body)?.end..)
}

/// Whether two statements say the same. DuckDB prints a statement that it has just been given with
/// other blanks and quotes than the one that it has read back from the file (`DECIMAL(12, 2)` and
/// `DECIMAL(12,2)`).
pub fn same(a: &str, b: &str) -> bool {
    let (of_a, of_b) = (tokens(a), tokens(b));
    let equal = |x: &Token, y: &Token| match (x.name(a), y.name(b)) {
        (Some(x), Some(y)) => x == y,
        _ => x.text(a) == y.text(b),
    };
    of_a.len() == of_b.len() && of_a.iter().zip(&of_b).all(|(x, y)| equal(x, y))
}

/// `CREATE SEQUENCE`; without `start`, the text is the same whatever numbers were drawn.
pub fn sequence(sequence: &Sequence, target: &str, start: bool) -> String {
    let start = if start {
        format!(" START {}", sequence.next)
    } else {
        String::new()
    };
    let cycle = if sequence.cycle { "CYCLE" } else { "NO CYCLE" };
    format!(
        "CREATE SEQUENCE {target} INCREMENT BY {} MINVALUE {} MAXVALUE {}{start} {cycle}",
        sequence.increment, sequence.min, sequence.max
    )
}

/// `CREATE MACRO`, with all its overloads.
pub fn macro_statement(text: &MacroText, target: &str) -> String {
    format!("CREATE MACRO {target} {}", text.overloads.join(", "))
}

fn replaced(sql: &str, changes: &[(usize, usize, String)]) -> String {
    let mut text = String::with_capacity(sql.len() + 64);
    let mut from = 0;
    for (start, end, replacement) in changes {
        text.push_str(sql.get(from..*start).unwrap_or_default());
        text.push_str(replacement);
        from = *end;
    }
    text.push_str(sql.get(from..).unwrap_or_default());
    text
}
