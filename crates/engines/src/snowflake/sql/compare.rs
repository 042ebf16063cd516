//! Statements that compare two tables.

use super::{Place, full, list, name};

/// How often each row stands in one table and in another, where that differs, and how often in both:
/// a row that stands twice counts twice.
/// <https://docs.snowflake.com/en/sql-reference/constructs/join>
fn matched(old: &Place, new: &Place, columns: &[String]) -> String {
    let grouped = |place: &Place| {
        let cells = list(columns, "");
        format!(
            "SELECT {cells}, COUNT(*) AS UNSHIP_N FROM {} GROUP BY {cells}",
            full(place)
        )
    };
    let same: Vec<String> = columns
        .iter()
        .map(|c| format!("O.{0} IS NOT DISTINCT FROM N.{0}", name(c)))
        .collect();
    format!(
        "({}) AS O FULL OUTER JOIN ({}) AS N ON {}",
        grouped(old),
        grouped(new),
        same.join(" AND ")
    )
}

/// Rows that only one of two tables has, and rows of both.
/// <https://docs.snowflake.com/en/sql-reference/constructs/join>
pub fn difference(old: &Place, new: &Place, columns: &[String]) -> String {
    let (o, n) = ("COALESCE(O.UNSHIP_N, 0)", "COALESCE(N.UNSHIP_N, 0)");
    format!(
        "SELECT COALESCE(SUM(GREATEST({n} - {o}, 0)), 0) AS ADDED, \
         COALESCE(SUM(GREATEST({o} - {n}, 0)), 0) AS REMOVED, \
         COALESCE(SUM(LEAST({o}, {n})), 0) AS UNCHANGED FROM {}",
        matched(old, new, columns)
    )
}

/// Some rows that stand more often in the new table, or in the old one.
/// <https://docs.snowflake.com/en/sql-reference/constructs/join>
pub fn examples(old: &Place, new: &Place, columns: &[String], added: bool, limit: u64) -> String {
    let (side, more, less) = match added {
        true => ("N.", "N.UNSHIP_N", "O.UNSHIP_N"),
        false => ("O.", "O.UNSHIP_N", "N.UNSHIP_N"),
    };
    let order: Vec<String> = (1..=columns.len()).map(|n| n.to_string()).collect();
    format!(
        "SELECT {} FROM {} WHERE COALESCE({more}, 0) > COALESCE({less}, 0) ORDER BY {} LIMIT {limit}",
        list(columns, side),
        matched(old, new, columns),
        order.join(", ")
    )
}

/// The keys of two tables: how many are only in the new one, only in the old one, in both, and how
/// many of those of both have another row.
/// <https://docs.snowflake.com/en/sql-reference/constructs/join>
pub fn by_key(old: &Place, new: &Place, key: &[String], rest: &[String]) -> String {
    let Some(first) = key.first().map(|c| name(c)) else {
        return difference(old, new, rest);
    };
    let same = |columns: &[String], word: &str| {
        let all: Vec<String> = columns
            .iter()
            .map(|c| format!("O.{0} IS NOT DISTINCT FROM N.{0}", name(c)))
            .collect();
        if all.is_empty() {
            "TRUE".to_owned()
        } else {
            all.join(word)
        }
    };
    let mut asked = vec![
        format!("COUNT_IF(O.{first} IS NULL) AS ADDED"),
        format!("COUNT_IF(N.{first} IS NULL) AS REMOVED"),
    ];
    let both = format!("O.{first} IS NOT NULL AND N.{first} IS NOT NULL");
    let equal = same(rest, " AND ");
    asked.push(format!("COUNT_IF({both} AND NOT ({equal})) AS CHANGED"));
    asked.push(format!("COUNT_IF({both} AND {equal}) AS UNCHANGED"));
    asked.extend(rest.iter().enumerate().map(|(n, column)| {
        let cell = name(column);
        format!("COUNT_IF({both} AND O.{cell} IS DISTINCT FROM N.{cell}) AS C{n}")
    }));
    let on: Vec<String> = key
        .iter()
        .map(|c| format!("O.{0} = N.{0}", name(c)))
        .collect();
    format!(
        "SELECT {} FROM {} AS O FULL OUTER JOIN {} AS N ON {}",
        asked.join(", "),
        full(old),
        full(new),
        on.join(" AND ")
    )
}

/// Some rows of the same key that differ: the old row's cells, then the new one's.
/// <https://docs.snowflake.com/en/sql-reference/constructs/join>
pub fn changed(old: &Place, new: &Place, key: &[String], all: &[String], limit: u64) -> String {
    let on: Vec<String> = key
        .iter()
        .map(|c| format!("O.{0} = N.{0}", name(c)))
        .collect();
    let differ: Vec<String> = all
        .iter()
        .map(|c| format!("O.{0} IS DISTINCT FROM N.{0}", name(c)))
        .collect();
    let aliased = |side: &str, mark: &str| -> Vec<String> {
        let cells = all.iter().enumerate();
        cells
            .map(|(n, c)| format!("{side}.{} AS {mark}{n}", name(c)))
            .collect()
    };
    format!(
        "SELECT {}, {} FROM {} AS O JOIN {} AS N ON {} WHERE {} ORDER BY {} LIMIT {limit}",
        aliased("O", "O").join(", "),
        aliased("N", "N").join(", "),
        full(old),
        full(new),
        on.join(" AND "),
        differ.join(" OR "),
        list(key, "O.")
    )
}

/// How many rows have no key, and how many keys stand more than once.
/// <https://docs.snowflake.com/en/sql-reference/constructs/group-by>
pub fn key_faults(place: &Place, key: &[String]) -> String {
    let none: Vec<String> = key.iter().map(|c| format!("{} IS NULL", name(c))).collect();
    let cells = list(key, "");
    format!(
        "SELECT COUNT(*) AS N FROM (SELECT {cells} FROM {} GROUP BY {cells} \
         HAVING COUNT(*) > 1 OR {}) AS UNSHIP_KEYS",
        full(place),
        none.join(" OR ")
    )
}

/// Some rows whose key only the new table has, or only the old one.
/// <https://docs.snowflake.com/en/sql-reference/operators-subquery>
pub fn only(
    old: &Place,
    new: &Place,
    key: &[String],
    all: &[String],
    added: bool,
    limit: u64,
) -> String {
    let (has, lacks) = if added { (new, old) } else { (old, new) };
    let on: Vec<String> = key
        .iter()
        .map(|c| format!("A.{0} = B.{0}", name(c)))
        .collect();
    format!(
        "SELECT {} FROM {} AS A WHERE NOT EXISTS (SELECT 1 FROM {} AS B WHERE {}) ORDER BY {} LIMIT {limit}",
        list(all, "A."),
        full(has),
        full(lacks),
        on.join(" AND "),
        list(key, "A.")
    )
}
