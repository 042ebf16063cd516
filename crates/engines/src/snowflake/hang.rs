//! What hangs on a table and would not go along when another takes its place. All of it is refused
//! by name: none of it can be proved to work on here.
//!
//! Tasks, shares of other databases and views follow the name and need nothing.

use super::session::Session;
use super::sql::{self, Place};
use super::view;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;

/// What hangs on each of these tables, each a sentence.
pub fn on(
    session: &Session,
    places: &BTreeSet<Place>,
) -> Result<BTreeMap<Place, Vec<String>>, EngineError> {
    let mut out: BTreeMap<Place, Vec<String>> = BTreeMap::new();
    if places.is_empty() {
        return Ok(out);
    }
    let database = session.database();
    for row in session.named(&sql::show_streams(database), "list the streams")? {
        let get = |name| row.text(name).unwrap_or_default();
        for place in places.iter().filter(|p| names(&get("table_name"), p)) {
            out.entry(place.clone()).or_default().push(format!(
                "the stream {}.{} reads it: its offset would stay with what gives way",
                get("schema_name"),
                get("name")
            ));
        }
    }
    let reading = [
        (
            sql::show_pipes(database),
            "definition",
            "pipe",
            "loads into it",
        ),
        (
            sql::show_dynamic_tables(database),
            "text",
            "dynamic table",
            "is made from it, and would be made anew or fail",
        ),
        (
            sql::show_materialized_views(database),
            "text",
            "materialized view",
            "is made from it, and would be invalid",
        ),
    ];
    for (statement, column, sort, why) in reading {
        for row in session.named(&statement, &format!("list each {sort}"))? {
            let get = |name| row.text(name).unwrap_or_default();
            let (text, home) = (get(column), get("schema_name"));
            for place in places.iter().filter(|p| mentions(&text, &home, p)) {
                out.entry(place.clone())
                    .or_default()
                    .push(format!("the {sort} {home}.{} {why}", get("name")));
            }
        }
    }
    Ok(out)
}

/// Whether a full name, as `SHOW` prints one, is that of a place.
fn names(full: &str, place: &Place) -> bool {
    let read = view::reads(full);
    let wanted = (place.schema.clone(), place.name.clone());
    read.contains(&wanted)
}

/// Whether a statement mentions a place: by its schema and name, or by its name alone in its schema.
fn mentions(text: &str, home: &str, place: &Place) -> bool {
    names(text, place) || (home == place.schema && view::words(text).contains(&place.name))
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
