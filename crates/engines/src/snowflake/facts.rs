//! What is true of places: the guards and expectations of steps.

use super::access;
use super::catalog::{self, Extent};
use super::inside;
use super::session::Session;
use super::sql::{Grant, Place};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::plan::Fact;
use unship_core::relation::RelationKind;

fn of(sort: &str, place: &Place, is: &str) -> Fact {
    let subject = serde_json::json!([place.database, place.schema, place.name]);
    Fact::new(format!("{sort} {subject}"), is)
}

/// Which table lies where; `None`, nothing lies there.
pub fn table(place: &Place, created: Option<&str>) -> Fact {
    of("table", place, created.unwrap_or("absent"))
}

/// What was last written to a table.
pub fn written(place: &Place, token: &str) -> Fact {
    of("written", place, token)
}

/// Which view lies where.
pub fn view(place: &Place, hash: Option<&str>) -> Fact {
    of("view", place, hash.unwrap_or("absent"))
}

/// Which view lies where, by its text as it was written: names of our schemas count.
pub fn text(place: &Place, raw: &str) -> Fact {
    of("text", place, raw)
}

/// What is in a schema; `None`, there is no such schema.
pub fn contents(schema: &str, are: Option<&str>) -> Fact {
    Fact::new(format!("contents {schema}"), are.unwrap_or("absent"))
}

/// Whether somebody has a privilege on a schema itself.
pub fn granted_on_schema(schema: &str, grant: &Grant, is: bool) -> Fact {
    let subject = serde_json::json!([schema, grant]);
    Fact::new(format!("schema-grant {subject}"), yes(is))
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// That a relation was made.
pub fn made(place: &Place) -> Fact {
    of("made", place, "yes")
}

/// That a schema is there.
pub fn schema(name: &str) -> Fact {
    Fact::new(format!("schema {name}"), "yes")
}

/// Whether somebody has a privilege.
pub fn granted(place: &Place, view: bool, grant: &Grant, is: bool) -> Fact {
    let subject = serde_json::json!([place, view, grant]);
    Fact::new(format!("grant {subject}"), yes(is))
}

enum Subject {
    Table(Place),
    Written(Place),
    View(Place),
    Text(Place),
    Made(Place),
    Schema(String),
    Contents(String),
    Grant(Place, bool, Grant),
    SchemaGrant(String, Grant),
}

fn parse(subject: &str) -> Option<Subject> {
    let (sort, rest) = subject.split_once(' ')?;
    let place = || -> Option<Place> {
        let [database, schema, name]: [String; 3] = serde_json::from_str(rest).ok()?;
        Some(Place::new(database, schema, name))
    };
    Some(match sort {
        "table" => Subject::Table(place()?),
        "written" => Subject::Written(place()?),
        "view" => Subject::View(place()?),
        "made" => Subject::Made(place()?),
        "text" => Subject::Text(place()?),
        "schema" => Subject::Schema(rest.to_owned()),
        "contents" => Subject::Contents(rest.to_owned()),
        "schema-grant" => {
            let (schema, grant): (String, Grant) = serde_json::from_str(rest).ok()?;
            let grant = Grant::new(&grant.privilege, grant.to, grant.option)?;
            Subject::SchemaGrant(schema, grant)
        }
        "grant" => {
            let (place, view, grant): (Place, bool, Grant) = serde_json::from_str(rest).ok()?;
            // What it says goes into no statement unless it is a privilege.
            let grant = Grant::new(&grant.privilege, grant.to, grant.option)?;
            Subject::Grant(place, view, grant)
        }
        _ => return None,
    })
}

/// What is true now of each subject.
pub fn now(session: &Session, subjects: &[&str]) -> Result<Vec<String>, EngineError> {
    let parsed: Vec<Subject> = subjects
        .iter()
        .map(|subject| {
            parse(subject).ok_or_else(|| {
                let text = format!("the plan asks for {subject:?}");
                EngineError::new(ErrorKind::Unsupported, text)
                    .hint("it may come from a newer unship")
            })
        })
        .collect::<Result<_, _>>()?;
    let mut schemas = BTreeSet::new();
    let (mut extent, mut named) = (Extent::Names, false);
    for subject in &parsed {
        match subject {
            Subject::View(place) | Subject::Text(place) => {
                extent = Extent::Views;
                schemas.insert(place.schema.clone());
            }
            Subject::Table(place) | Subject::Made(place) | Subject::Written(place) => {
                schemas.insert(place.schema.clone());
            }
            Subject::Contents(schema) => {
                (extent, named) = (Extent::Views, true);
                schemas.insert(schema.clone());
            }
            Subject::Schema(_) => named = true,
            Subject::Grant(..) | Subject::SchemaGrant(..) => {}
        }
    }
    let there = catalog::load(session, &schemas, extent)?;
    let all = match named {
        true => catalog::schemas(session)?,
        false => Vec::new(),
    };
    let asked: Vec<Place> = parsed
        .iter()
        .filter_map(|subject| match subject {
            Subject::Written(place) if there.contains_key(place) => Some(place.clone()),
            _ => None,
        })
        .collect();
    let tokens = catalog::tokens(session, &asked)?;
    let mut granted = BTreeMap::new();
    let mut on_schemas = BTreeMap::new();
    let holds = |has: Option<&access::Access>, grant: &Grant| {
        let wanted = access::Access {
            grants: BTreeSet::from([grant.clone()]),
            others: Vec::new(),
        };
        yes(has.is_some_and(|has| access::lost(&wanted, has).is_empty()))
    };
    let absent = || "absent".to_owned();
    parsed
        .iter()
        .map(|subject| {
            Ok(match subject {
                Subject::Schema(name) => yes(all.contains(name)),
                Subject::Made(place) => yes(there.contains_key(place)),
                Subject::Written(place) => tokens.get(place).cloned().unwrap_or_else(absent),
                Subject::Contents(schema) if !all.contains(schema) => absent(),
                Subject::Contents(schema) => {
                    inside::contents(there.iter().filter(|(at, _)| at.schema == *schema))
                }
                Subject::Text(place) => match there.get(place) {
                    None => absent(),
                    Some(r) if r.kind == RelationKind::View => r.raw_hash(),
                    Some(_) => "a table".to_owned(),
                },
                Subject::Table(place) => match there.get(place) {
                    None => absent(),
                    Some(r) if r.kind == RelationKind::View => "a view".to_owned(),
                    Some(relation) => catalog::identity(&relation.created),
                },
                Subject::View(place) => match there.get(place) {
                    None => absent(),
                    Some(r) if r.kind == RelationKind::View => r.text_hash(),
                    Some(_) => "a table".to_owned(),
                },
                Subject::Grant(place, view, grant) => {
                    let key = (place.clone(), *view);
                    if !granted.contains_key(&key) {
                        granted.insert(key.clone(), access::read(session, place, *view)?);
                    }
                    holds(granted.get(&key), grant)
                }
                Subject::SchemaGrant(schema, grant) => {
                    if !on_schemas.contains_key(schema) {
                        let has = access::of_schema(session, schema)?;
                        on_schemas.insert(schema.clone(), has);
                    }
                    holds(on_schemas.get(schema), grant)
                }
            })
        })
        .collect()
}
