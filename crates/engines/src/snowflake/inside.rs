//! What is in a schema, all of it: a schema that is exchanged takes everything along.

use super::access::{self, Access};
use super::catalog::{Catalog, Relation};
use super::observe;
use super::session::Session;
use super::sql::{self, Grant, Making, Place};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;
use unship_core::relation::RelationKind;

/// A schema and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The role that owns it.
    pub owner: Option<String>,
    /// What it was made with.
    pub making: Making,
    /// Who may do what with the schema itself.
    pub access: Access,
    /// Its own tags, each in words that another schema's can be compared by.
    pub tags: BTreeSet<String>,
    /// Its relations, in one word to compare. Without what unship put there for the job.
    pub contents: String,
    /// Their names.
    pub relations: BTreeSet<String>,
    /// What unship put there for the job.
    pub helpers: BTreeSet<String>,
    /// What else is in it, each in words.
    pub others: Vec<String>,
}

/// A privilege that whoever makes a relation in a schema gives away with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Future {
    /// Whether it is one on views.
    pub view: bool,
    /// Which, and whose.
    pub grant: Grant,
}

/// The relations of a schema in one word: which table lies under which name, and which view.
pub fn contents<'a>(relations: impl Iterator<Item = (&'a Place, &'a Relation)>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut n = 0u64;
    for (at, relation) in relations {
        let what = match relation.kind {
            RelationKind::View => relation.raw_hash(),
            _ => relation.created.clone(),
        };
        n += 1;
        hasher.update(serde_json::json!([at.name, what]).to_string().as_bytes());
        hasher.update(b"\n");
    }
    let hash = hasher.finalize().to_hex();
    format!(
        "{n} relations {}",
        hash.chars().take(16).collect::<String>()
    )
}

/// The schemas among these that there are: who owns each, and what it was made with.
fn shown(
    session: &Session,
    schemas: &BTreeSet<String>,
) -> Result<BTreeMap<String, (Option<String>, Making)>, EngineError> {
    let mut out = BTreeMap::new();
    for row in session.listed(&sql::show_schemas(session.database()), "schema")? {
        let Some(name) = row.text("name").filter(|name| schemas.contains(name)) else {
            continue;
        };
        let options = row.text("options").unwrap_or_default();
        let has = |word: &str| options.split(',').any(|option| option.trim() == word);
        let making = Making {
            transient: has("TRANSIENT"),
            managed: has("MANAGED ACCESS"),
            days: row.text("retention_time").and_then(|n| n.parse().ok()),
            comment: row.text("comment").filter(|text| !text.is_empty()),
        };
        out.insert(name, (row.text("owner"), making));
    }
    Ok(out)
}

/// What schemas were made with.
pub fn making(
    session: &Session,
    schemas: &BTreeSet<String>,
) -> Result<BTreeMap<String, Making>, EngineError> {
    let all = shown(session, schemas)?.into_iter();
    Ok(all.map(|(name, (_, making))| (name, making)).collect())
}

/// Looks into schemas.
pub fn look(
    session: &Session,
    schemas: &BTreeSet<String>,
    catalog: &Catalog,
) -> Result<BTreeMap<String, Inside>, EngineError> {
    let mut others = others(session, schemas)?;
    let mut out = BTreeMap::new();
    for (name, (owner, making)) in shown(session, schemas)? {
        let here = || catalog.iter().filter(|(at, _)| at.schema == name);
        let is_helper = |one: &(&Place, &Relation)| observe::is_helper(one.0, one.1);
        let named = |(at, _): (&Place, &Relation)| at.name.clone();
        let inside = Inside {
            owner,
            making,
            access: access::of_schema(session, &name)?,
            tags: tags(session, &name)?,
            contents: contents(here().filter(|one| !is_helper(one))),
            relations: here().filter(|one| !is_helper(one)).map(named).collect(),
            helpers: here().filter(is_helper).map(named).collect(),
            others: others.remove(&name).unwrap_or_default(),
        };
        out.insert(name, inside);
    }
    Ok(out)
}

/// What is in schemas and is no relation.
fn others(
    session: &Session,
    schemas: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<String>>, EngineError> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (kind, word) in sql::KINDS {
        for row in session.listed(&sql::show_kind(session.database(), kind), word)? {
            let get = |name| row.text(name).unwrap_or_default();
            let schema = get("schema_name");
            if schemas.contains(&schema) {
                let there = out.entry(schema).or_default();
                there.push(format!("the {word} {}", get("name")));
            }
        }
    }
    Ok(out)
}

fn tags(session: &Session, schema: &str) -> Result<BTreeSet<String>, EngineError> {
    let what = format!("see which tags the schema {schema} has");
    let rows = session.named(&sql::schema_tags(session.database(), schema), &what)?;
    let own = rows
        .iter()
        .filter(|row| row.text("level").as_deref() == Some("SCHEMA"));
    Ok(own
        .map(|row| {
            let get = |name| row.text(name).unwrap_or_default();
            format!(
                "{}.{}.{}={}",
                get("tag_database"),
                get("tag_schema"),
                get("tag_name"),
                get("tag_value")
            )
        })
        .collect())
}

/// What whoever makes a relation in each of these schemas gives away with it. A table that is moved
/// into a schema was not made in it.
pub fn future(
    session: &Session,
    schemas: &BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeSet<Future>>, EngineError> {
    let mut out = BTreeMap::new();
    for schema in schemas {
        let what = format!("see who may read what will be made in {schema}");
        let statement = sql::show_future_grants(session.database(), schema);
        let mut here = BTreeSet::new();
        for row in session.named(&statement, &what)? {
            let view = match row.text("grant_on").as_deref() {
                Some("TABLE") => false,
                Some("VIEW") => true,
                _ => continue,
            };
            if let Some(Ok(grant)) = access::one(&row, session.database()) {
                here.insert(Future { view, grant });
            }
        }
        if !here.is_empty() {
            out.insert(schema.clone(), here);
        }
    }
    Ok(out)
}
