//! What the catalog says of all relations of some schemas: a handful of queries, however many there
//! are.

pub mod sql;

use super::error::Doing;
use super::layout;
use postgres::GenericClient;
use postgres::types::ToSql;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use unship_core::engine::{EngineError, ErrorKind};

/// A schema, and which production schema it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Its object id.
    pub oid: u32,
    /// Its name.
    pub schema: String,
    /// Its name as PostgreSQL prints it in definitions.
    pub quoted: String,
    /// The production schema; itself, if it is one.
    pub stands_for: String,
}

/// A schema as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    pub oid: u32,
    pub name: String,
    pub quoted: String,
    pub comment: Option<String>,
}

/// A relation as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Relation {
    pub oid: u32,
    pub namespace: u32,
    pub name: String,
    pub kind: String,
    pub persistence: String,
    pub populated: bool,
    pub options: Vec<String>,
    pub method: Option<String>,
    pub tablespace: Option<String>,
    pub replica_identity: String,
    pub row_security: bool,
    pub force_row_security: bool,
    pub comment: Option<String>,
    pub partition_key: Option<String>,
    pub bound: Option<String>,
    pub root: Option<u32>,
    pub of_type: Option<String>,
    pub query: Option<String>,
    pub server: Option<String>,
    pub server_options: Option<Vec<String>>,
    pub storage: Option<String>,
}

/// A column as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Attribute {
    pub relation: u32,
    pub name: String,
    pub data_type: String,
    /// The type's own name, if it is one of PostgreSQL's.
    pub base: Option<String>,
    pub not_null: bool,
    pub identity: String,
    pub generated: String,
    pub default: Option<String>,
    pub collation: Option<String>,
    pub options: Vec<String>,
    pub storage: Option<String>,
    pub compression: Option<String>,
    pub statistics: Option<i32>,
    pub comment: Option<String>,
}

/// Something that hangs on a relation.
#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    pub relation: u32,
    pub name: String,
    pub sort: String,
    pub text: String,
    pub state: String,
    pub comment: Option<String>,
}

/// A view that reads a relation.
#[derive(Debug, Clone, Deserialize)]
pub struct Reader {
    pub relation: u32,
    pub namespace: u32,
    pub name: String,
}

/// A sequence, function or type.
#[derive(Debug, Clone, Deserialize)]
pub struct Other {
    pub namespace: u32,
    pub name: String,
    pub kind: String,
    pub text: String,
    pub comment: Option<String>,
}

/// Everything of some schemas.
#[derive(Debug, Default)]
pub struct Catalog {
    /// All schemas of the database, by object id.
    pub namespaces: BTreeMap<u32, Namespace>,
    /// Tables, views and their like, by object id.
    pub relations: BTreeMap<u32, Relation>,
    /// Columns, by relation, in order.
    pub columns: BTreeMap<u32, Vec<Attribute>>,
    /// What hangs on relations, in the order of a definition.
    pub parts: BTreeMap<u32, Vec<Part>>,
    /// Views that read them.
    pub readers: Vec<Reader>,
    /// Sequences, functions and types.
    pub others: Vec<Other>,
}

/// The rows of a query, each read by its columns' names.
pub fn rows<T: DeserializeOwned>(
    client: &mut impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, EngineError> {
    let wrapped = format!("SELECT row_to_json(q)::text FROM ({sql}) q");
    let rows = client.query(&wrapped, params).doing("read the catalog")?;
    rows.iter()
        .map(|row| {
            let text: &str = row.try_get(0).doing("read the catalog")?;
            serde_json::from_str(text).map_err(|e| {
                EngineError::new(ErrorKind::Query, "the catalog's answer is not understood")
                    .because(e)
            })
        })
        .collect()
}

/// All schemas of the database.
pub fn namespaces(client: &mut impl GenericClient) -> Result<Vec<Namespace>, EngineError> {
    rows(client, sql::NAMESPACES, &[])
}

/// The server's version as one number: 150018 is 15.18.
pub fn server_version(client: &mut impl GenericClient) -> Result<u32, EngineError> {
    let row = client
        .query_one("SELECT current_setting('server_version_num')", &[])
        .doing("ask for the version")?;
    let text: String = row.try_get(0).doing("ask for the version")?;
    text.parse()
        .map_err(|_| EngineError::new(ErrorKind::Query, format!("{text} is no version")))
}

/// Waits until the counters of writers that have ended are in. Before version 15 a process of its own
/// collects them, and answers with what it knew up to half a second before.
pub fn settle(client: &mut impl GenericClient) -> Result<(), EngineError> {
    if server_version(client)? < 150_000 {
        client
            .batch_execute("SELECT pg_sleep(0.6); SELECT pg_stat_clear_snapshot()")
            .doing("wait for the counters")?;
    }
    Ok(())
}

/// Reads everything of these schemas. For one moment's state, call it in a repeatable-read
/// transaction.
pub fn load(client: &mut impl GenericClient, scope: &[Scope]) -> Result<Catalog, EngineError> {
    let oids: Vec<u32> = scope.iter().map(|s| s.oid).collect();
    let compression = match server_version(client)? {
        ..140_000 => "''",
        _ => "a.attcompression",
    };
    let columns = sql::COLUMNS.replace("{compression}", compression);
    let mut catalog = Catalog {
        namespaces: namespaces(client)?
            .into_iter()
            .map(|n| (n.oid, n))
            .collect(),
        ..Catalog::default()
    };
    if oids.is_empty() {
        return Ok(catalog);
    }
    catalog.relations = rows::<Relation>(client, sql::RELATIONS, &[&oids])?
        .into_iter()
        .map(|r| (r.oid, r))
        .collect();
    for column in rows::<Attribute>(client, &columns, &[&oids])? {
        catalog
            .columns
            .entry(column.relation)
            .or_default()
            .push(column);
    }
    for part in rows::<Part>(client, sql::PARTS, &[&oids])? {
        catalog.parts.entry(part.relation).or_default().push(part);
    }
    catalog.readers = rows(client, sql::DEPENDENTS, &[&oids])?;
    catalog.others = rows(client, sql::OTHERS, &[&oids])?;
    Ok(catalog)
}

/// One relation's columns, in order.
pub fn columns_of(
    client: &mut impl GenericClient,
    oid: u32,
) -> Result<Vec<Attribute>, EngineError> {
    let compression = match server_version(client)? {
        ..140_000 => "''",
        _ => "a.attcompression",
    };
    let columns = sql::COLUMNS
        .replace("{compression}", compression)
        .replace("c.relnamespace = ANY($1)", "c.oid = $1");
    rows(client, &columns, &[&oid])
}

/// The production schemas: the named ones that are there, or all that may be.
pub fn production(namespaces: &[Namespace], only: Option<&[String]>) -> Vec<Scope> {
    namespaces
        .iter()
        .filter(|n| match only {
            Some(list) => list.contains(&n.name),
            None => layout::may_be_production(&n.name),
        })
        .map(|n| scope(n, &n.name))
        .collect()
}

/// A schema that stands for another.
pub fn scope(namespace: &Namespace, stands_for: &str) -> Scope {
    Scope {
        oid: namespace.oid,
        schema: namespace.name.clone(),
        quoted: namespace.quoted.clone(),
        stands_for: stands_for.to_owned(),
    }
}
