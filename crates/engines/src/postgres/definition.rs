//! Definitions as text: what must be equal for two relations to have equal schemas.
//!
//! Owner and privileges are left out: whoever is granted access to production does not make another
//! version of it. They are compared where relations are moved.

use super::catalog::{Attribute, Catalog, Part, Relation, Scope};
use super::quote;
use std::fmt::Write;

/// Puts the names of production into texts that name a build or a retained version.
pub struct Names {
    pairs: Vec<(String, String)>,
}

impl Names {
    /// For definitions that are read in these schemas.
    pub fn new(scopes: &[Scope], quoted: impl Fn(&str) -> String) -> Self {
        let pairs = scopes
            .iter()
            .filter(|s| s.schema != s.stands_for)
            .map(|s| {
                (
                    format!("{}.", s.quoted),
                    format!("{}.", quoted(&s.stands_for)),
                )
            })
            .collect();
        Self { pairs }
    }

    /// The text with every schema's name replaced by the one that it stands for.
    pub fn apply(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (from, to) in &self.pairs {
            out = replace_names(&out, from, to);
        }
        out
    }
}

/// Replaces `from` where it begins a name, and not within a longer one.
fn replace_names(text: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let inside = before
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == '"' || c == '.');
        out.push_str(if inside { from } else { to });
        rest = &after[from.len()..];
    }
    out.push_str(rest);
    out
}

/// A name as PostgreSQL prints it where it needs no quotes, and in quotes where it may need them.
pub fn plain_or_quoted(name: &str) -> String {
    let plain = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if plain {
        name.to_owned()
    } else {
        quote::name(name)
    }
}

/// The statements that would make a relation, one a line but for a view's query. A partitioned
/// table's has its whole tree in it.
pub fn of(catalog: &Catalog, relation: &Relation, schema: &str) -> String {
    let full = quote::relation(schema, &relation.name);
    let none = Vec::new();
    let columns = catalog.columns.get(&relation.oid).unwrap_or(&none);
    let mut out = String::new();
    head(&mut out, relation, columns, &full);
    line(&mut out, relation.comment.as_deref(), |text| {
        format!(
            "COMMENT ON {} {full} IS {}",
            word(relation),
            quote::text(text)
        )
    });
    for column in columns {
        column_lines(&mut out, column, &full);
    }
    for part in catalog.parts.get(&relation.oid).into_iter().flatten() {
        part_lines(&mut out, part, &full);
    }
    if relation.row_security {
        let _ = writeln!(out, "ALTER TABLE {full} ENABLE ROW LEVEL SECURITY");
    }
    if relation.force_row_security {
        let _ = writeln!(out, "ALTER TABLE {full} FORCE ROW LEVEL SECURITY");
    }
    if relation.partition_key.is_some() && relation.root.is_none() {
        let mut leaves: Vec<_> = catalog
            .relations
            .values()
            .filter(|leaf| leaf.root == Some(relation.oid))
            .collect();
        leaves.sort_by(|a, b| (&a.name, a.namespace).cmp(&(&b.name, b.namespace)));
        for leaf in leaves {
            let schema = catalog.namespaces.get(&leaf.namespace);
            out.push_str(&of(catalog, leaf, schema.map_or("", |n| &n.name)));
        }
    }
    out
}

fn head(out: &mut String, relation: &Relation, columns: &[Attribute], full: &str) {
    let unlogged = if relation.persistence == "u" {
        "UNLOGGED "
    } else {
        ""
    };
    let _ = write!(out, "CREATE {unlogged}{} {full}", word(relation));
    if let Some(of_type) = &relation.of_type {
        let _ = write!(out, " OF {of_type}");
    }
    if relation.query.is_none() {
        let list: Vec<_> = columns.iter().map(column).collect();
        let _ = write!(out, " ({})", list.join(", "));
    }
    if let Some(key) = &relation.partition_key {
        let _ = write!(out, " PARTITION BY {key}");
    }
    if let Some(bound) = &relation.bound {
        let _ = write!(out, " {bound}");
    }
    if let Some(server) = &relation.server {
        let _ = write!(out, " SERVER {}", quote::name(server));
        let options = relation
            .server_options
            .iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>();
        let _ = write!(out, " OPTIONS ({})", options.join(", "));
    }
    if let Some(method) = &relation.method {
        let _ = write!(out, " USING {}", quote::name(method));
    }
    if !relation.options.is_empty() {
        let _ = write!(out, " WITH ({})", relation.options.join(", "));
    }
    if let Some(tablespace) = &relation.tablespace {
        let _ = write!(out, " TABLESPACE {}", quote::name(tablespace));
    }
    if let Some(query) = &relation.query {
        let _ = write!(out, " AS\n{}", query.trim_end().trim_end_matches(';'));
    }
    out.push('\n');
    let identity = match relation.replica_identity.as_str() {
        "f" => "FULL",
        "n" if relation.query.is_none() => "NOTHING",
        _ => return,
    };
    let _ = writeln!(out, "ALTER TABLE {full} REPLICA IDENTITY {identity}");
}

fn word(relation: &Relation) -> &'static str {
    match relation.kind.as_str() {
        "v" => "VIEW",
        "m" => "MATERIALIZED VIEW",
        "f" => "FOREIGN TABLE",
        _ => "TABLE",
    }
}

fn column(column: &Attribute) -> String {
    let mut out = format!("{} {}", quote::name(&column.name), column.data_type);
    if let Some(collation) = &column.collation {
        let _ = write!(out, " COLLATE {collation}");
    }
    if column.not_null {
        out.push_str(" NOT NULL");
    }
    match (column.generated.as_str(), column.identity.as_str()) {
        ("s", _) => {
            let _ = write!(
                out,
                " GENERATED ALWAYS AS ({}) STORED",
                column.default.as_deref().unwrap_or("")
            );
        }
        ("v", _) => {
            let _ = write!(
                out,
                " GENERATED ALWAYS AS ({}) VIRTUAL",
                column.default.as_deref().unwrap_or("")
            );
        }
        (_, "a") => out.push_str(" GENERATED ALWAYS AS IDENTITY"),
        (_, "d") => out.push_str(" GENERATED BY DEFAULT AS IDENTITY"),
        _ => {
            if let Some(default) = &column.default {
                let _ = write!(out, " DEFAULT {default}");
            }
        }
    }
    out
}

fn column_lines(out: &mut String, column: &Attribute, full: &str) {
    let name = quote::name(&column.name);
    let alter = |what: String| format!("ALTER TABLE {full} ALTER COLUMN {name} {what}");
    line(out, column.storage.as_deref(), |s| {
        alter(format!("SET STORAGE {s}"))
    });
    line(out, column.compression.as_deref(), |c| {
        alter(format!("SET COMPRESSION {c}"))
    });
    if let Some(target) = column.statistics {
        line(out, Some(""), |_| alter(format!("SET STATISTICS {target}")));
    }
    if !column.options.is_empty() {
        let options = column.options.join(", ");
        line(out, Some(&options), |o| alter(format!("SET ({o})")));
    }
    line(out, column.comment.as_deref(), |text| {
        format!("COMMENT ON COLUMN {full}.{name} IS {}", quote::text(text))
    });
}

fn part_lines(out: &mut String, part: &Part, full: &str) {
    let name = quote::name(&part.name);
    let (text, state) = (&part.text, &part.state);
    line(out, Some(text), |text| match part.sort.as_str() {
        "constraint" => format!("ALTER TABLE {full} ADD CONSTRAINT {name} {text}"),
        "policy" => format!("CREATE POLICY {name} ON {full} {text}"),
        "parent" => format!("ALTER TABLE {full} INHERIT {text}"),
        "sequence" => format!("SEQUENCE {name} OF {full} {text}"),
        _ => format!("{text}{state}"),
    });
    line(out, part.comment.as_deref(), |comment| {
        match part.sort.as_str() {
            "index" | "statistics" | "sequence" => {
                format!(
                    "COMMENT ON {} {name} IS {}",
                    part.sort.to_uppercase(),
                    quote::text(comment)
                )
            }
            sort => format!(
                "COMMENT ON {} {name} ON {full} IS {}",
                sort.to_uppercase(),
                quote::text(comment)
            ),
        }
    });
}

fn line(out: &mut String, value: Option<&str>, text: impl FnOnce(&str) -> String) {
    if let Some(value) = value {
        out.push_str(&text(value));
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_schema_names_are_replaced() {
        let scope = |schema: &str, quoted: &str, stands_for: &str| Scope {
            oid: 1,
            schema: schema.to_owned(),
            quoted: quoted.to_owned(),
            stands_for: stands_for.to_owned(),
        };
        let scopes = [
            scope("unship_build_order", "unship_build_order", "order"),
            scope("unship_build_My S", "\"unship_build_My S\"", "My S"),
        ];
        let names = Names::new(&scopes, quote::name);
        let text = "SELECT unship_build_order.x FROM unship_build_order.t, \"unship_build_My S\".u, \
                    xunship_build_order.t, nextval('unship_build_order.s'::regclass), unship_build_orders.t";
        let expected = "SELECT \"order\".x FROM \"order\".t, \"My S\".u, \
                        xunship_build_order.t, nextval('\"order\".s'::regclass), unship_build_orders.t";
        assert_eq!(names.apply(text), expected);
    }
}
