//! What hangs on a table and would not go along when another takes its place. All of it is refused
//! by name: none of it can be proved to work on here.
//!
//! Tasks, shares of other databases and views follow the name and need nothing.

use super::session::Session;
use super::sql::{self, Place};
use super::view;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;

/// What hangs on each of these tables, each a sentence. It may be in any database of the account.
pub fn on(
    session: &Session,
    places: &BTreeSet<Place>,
) -> Result<BTreeMap<Place, Vec<String>>, EngineError> {
    let mut out: BTreeMap<Place, Vec<String>> = BTreeMap::new();
    if places.is_empty() {
        return Ok(out);
    }
    for reader in READERS {
        let Reader {
            text, sort, why, ..
        } = reader;
        for row in session.listed(&(reader.list)(), sort)? {
            let get = |name| row.text(name).unwrap_or_default();
            let database = row.text("database_name");
            let database = database.unwrap_or_else(|| session.database().to_owned());
            let home = (database, get("schema_name"));
            let read = read_by(&get(text), &home);
            for place in places.iter().filter(|place| read.contains(*place)) {
                let of = match home.0 == session.database() {
                    true => home.1.clone(),
                    false => format!("{}.{}", home.0, home.1),
                };
                let line = format!("the {sort} {of}.{} {why}", get("name"));
                out.entry(place.clone()).or_default().push(line);
            }
        }
    }
    Ok(out)
}

/// A sort of things that read tables.
struct Reader {
    /// What lists them.
    list: fn() -> String,
    /// The column that says what one reads.
    text: &'static str,
    /// What a person calls one.
    sort: &'static str,
    /// Why it matters.
    why: &'static str,
}

const READERS: [Reader; 4] = [
    Reader {
        list: sql::show_streams,
        text: "table_name",
        sort: "stream",
        why: "reads it: its offset would stay with what gives way",
    },
    Reader {
        list: sql::show_pipes,
        text: "definition",
        sort: "pipe",
        why: "loads into it",
    },
    Reader {
        list: sql::show_dynamic_tables,
        text: "text",
        sort: "dynamic table",
        why: "is made from it, and would be made anew or fail",
    },
    Reader {
        list: sql::show_materialized_views,
        text: "text",
        sort: "materialized view",
        why: "is made from it, and would be invalid",
    },
];

/// The places that a text may read which stands in a schema: names without a database or a schema mean
/// its own.
fn read_by(text: &str, (database, schema): &(String, String)) -> BTreeSet<Place> {
    let names = view::names(text).into_iter();
    names
        .filter_map(|parts| match parts.as_slice() {
            [name] => Some(Place::new(database, schema, name)),
            [schema, name] => Some(Place::new(database, schema, name)),
            [database, schema, name, ..] => Some(Place::new(database, schema, name)),
            [] => None,
        })
        .collect()
}

/// The policies and tags of a relation, each in words that another one can be compared by.
pub fn protection(
    session: &Session,
    place: &Place,
    view: bool,
) -> Result<BTreeSet<String>, EngineError> {
    let mut out = BTreeSet::new();
    let what = format!("see which policies protect {place}");
    for row in session.named(
        &sql::policies(place, if view { "VIEW" } else { "TABLE" }),
        &what,
    )? {
        let get = |name| row.text(name).unwrap_or_default();
        let on = match row.text("ref_column_name") {
            Some(column) => format!(" of column {column}"),
            None => String::new(),
        };
        out.insert(format!(
            "the policy {}.{}.{}{on}",
            get("policy_db"),
            get("policy_schema"),
            get("policy_name")
        ));
    }
    let what = format!("see which tags {place} has");
    for row in session.named(&sql::tags(place), &what)? {
        let get = |name| row.text(name).unwrap_or_default();
        // What a schema or a database gives to all in it, staging has by being in the database.
        if !matches!(get("level").as_str(), "TABLE" | "COLUMN") {
            continue;
        }
        out.insert(format!(
            "the tag {}.{}.{}={} of {}",
            get("tag_database"),
            get("tag_schema"),
            get("tag_name"),
            get("tag_value"),
            row.text("column_name")
                .unwrap_or_else(|| "the table".to_owned())
        ));
    }
    Ok(out)
}
