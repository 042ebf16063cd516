//! What Snowflake's catalog says of schemas: relations, columns, views, and what changes with every
//! write.

use super::session::{Session, cell, number, text};
use super::sql::{self, Place};
use super::{layout, view};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;
use unship_core::ident::ReleaseId;
use unship_core::relation::{Column, RelationKind};

/// How many tables are asked about in one statement.
const AT_ONCE: usize = 100;

/// A relation as the catalog has it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// What it is.
    pub kind: RelationKind,
    /// A table of a sort that cannot be swapped, in words.
    pub special: Option<&'static str>,
    /// Whether it has no fail-safe and a day of Time Travel at most.
    pub transient: bool,
    /// The role that owns it.
    pub owner: Option<String>,
    /// When it was made, which no two tables of a place have in common: its identity.
    pub created: String,
    /// How many rows it has.
    pub rows: Option<u64>,
    /// Its size.
    pub bytes: Option<u64>,
    /// Its clustering key.
    pub clustering: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its columns.
    pub columns: Vec<Column>,
    /// What of a column is neither its name nor its type, in the columns' order.
    pub details: Vec<String>,
    /// What a view selects, with production's names.
    pub body: Option<String>,
    /// What it selects as it was written, where it names a schema of ours.
    pub raw: Option<String>,
    /// Whether a view hides its text.
    pub secure: bool,
    /// What changes with every write to a table.
    pub token: Option<String>,
}

/// Relations by where they are.
pub type Catalog = BTreeMap<Place, Relation>;

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What stands where.
    Names,
    /// The same, and what views select.
    Views,
    /// Everything.
    All,
}

/// The schemas of the database.
pub fn schemas(session: &Session) -> Result<Vec<String>, EngineError> {
    let rows = session.rows(&sql::schemas(session.database()), "list the schemas")?;
    Ok(rows.iter().filter_map(|row| text(cell(row, 0))).collect())
}

/// The relations of some schemas.
pub fn load(
    session: &Session,
    schemas: &BTreeSet<String>,
    extent: Extent,
) -> Result<Catalog, EngineError> {
    let mut catalog = Catalog::new();
    if schemas.is_empty() {
        return Ok(catalog);
    }
    let database = session.database();
    let place = |row: &super::session::Row| -> Option<Place> {
        Some(Place::new(
            database,
            text(cell(row, 0))?,
            text(cell(row, 1))?,
        ))
    };
    for row in session.rows(&sql::tables(database, schemas), "list the relations")? {
        let Some(at) = place(&row) else { continue };
        let get = |n| text(cell(&row, n));
        let yes = |n| get(n).is_some_and(|text| text == "YES" || text == "true");
        let (kind, special) = sort(&get(2).unwrap_or_default(), yes(4), yes(5));
        catalog.insert(
            at,
            Relation {
                kind,
                special,
                transient: yes(3),
                owner: get(6),
                created: get(7).unwrap_or_default(),
                rows: number(cell(&row, 8)),
                bytes: number(cell(&row, 9)),
                clustering: get(10),
                comment: get(11).filter(|text| !text.is_empty()),
                columns: Vec::new(),
                details: Vec::new(),
                body: None,
                raw: None,
                secure: false,
                token: None,
            },
        );
    }
    if extent == Extent::Names || catalog.is_empty() {
        return Ok(catalog);
    }
    for row in session.rows(&sql::views(database, schemas), "read the views")? {
        if let Some(relation) = place(&row).and_then(|at| catalog.get_mut(&at)) {
            let body = text(cell(&row, 2)).and_then(|text| view::body(&text));
            relation.body = body.as_deref().map(view::in_production);
            relation.raw = body.filter(|raw| relation.body.as_ref() != Some(raw));
            relation.secure = text(cell(&row, 3)).is_some_and(|text| text == "YES");
        }
    }
    if extent == Extent::Views {
        return Ok(catalog);
    }
    for row in session.rows(&sql::columns(database, schemas), "read the columns")? {
        let Some(relation) = place(&row).and_then(|at| catalog.get_mut(&at)) else {
            continue;
        };
        let (column, detail) = column(&row);
        relation.columns.push(column);
        relation.details.push(detail);
    }
    read_tokens(session, &mut catalog)?;
    Ok(catalog)
}

/// Asks of every table what changes with every write.
fn read_tokens(session: &Session, catalog: &mut Catalog) -> Result<(), EngineError> {
    let all: Vec<Place> = catalog
        .iter()
        .filter(|(_, relation)| relation.kind == RelationKind::Table && relation.special.is_none())
        .map(|(place, _)| place.clone())
        .collect();
    for (place, token) in tokens(session, &all)? {
        if let Some(relation) = catalog.get_mut(&place) {
            relation.token = Some(token);
        }
    }
    Ok(())
}

/// What changes with every write, of these tables.
pub fn tokens(session: &Session, places: &[Place]) -> Result<BTreeMap<Place, String>, EngineError> {
    let mut out = BTreeMap::new();
    for some in places.chunks(AT_ONCE) {
        let rows = session.rows(&sql::tokens(some), "look whether anybody wrote")?;
        let cells = rows.into_iter().next().unwrap_or_default();
        let pairs = some.iter().zip(&cells);
        out.extend(pairs.filter_map(|(place, cell)| Some((place.clone(), text(cell)?))));
    }
    Ok(out)
}

fn sort(table_type: &str, iceberg: bool, dynamic: bool) -> (RelationKind, Option<&'static str>) {
    match table_type {
        "VIEW" => (RelationKind::View, None),
        "MATERIALIZED VIEW" => (RelationKind::MaterializedView, Some("a materialized view")),
        _ if iceberg => (RelationKind::Table, Some("an Iceberg table")),
        _ if dynamic => (RelationKind::Table, Some("a dynamic table")),
        "BASE TABLE" => (RelationKind::Table, None),
        "EXTERNAL TABLE" => (RelationKind::Table, Some("an external table")),
        "EVENT TABLE" => (RelationKind::Table, Some("an event table")),
        "TEMPORARY TABLE" | "LOCAL TEMPORARY" => (RelationKind::Table, Some("a temporary table")),
        _ => (RelationKind::Table, Some("a table of an unknown sort")),
    }
}

fn column(row: &super::session::Row) -> (Column, String) {
    let get = |n| text(cell(row, n));
    let name = get(2).unwrap_or_default();
    let base = get(3).unwrap_or_default();
    let data_type = match (base.as_str(), get(5), get(6), get(7)) {
        ("TEXT", Some(length), _, _) => format!("VARCHAR({length})"),
        ("NUMBER", _, Some(precision), Some(scale)) => format!("NUMBER({precision},{scale})"),
        _ => base,
    };
    let nullable = get(4).is_none_or(|text| text != "NO");
    let mut detail = format!("{} {data_type}", sql::name(&name));
    if !nullable {
        detail.push_str(" NOT NULL");
    }
    let more = [
        ("DEFAULT ", get(8).map(|text| view::in_production(&text))),
        ("COLLATE ", get(10)),
        (
            "COMMENT ",
            get(11).filter(|c| !c.is_empty()).map(|c| sql::text(&c)),
        ),
    ];
    for (word, value) in more {
        if let Some(value) = value {
            detail.push_str(&format!(" {word}{value}"));
        }
    }
    if get(9).is_some_and(|text| text == "YES") {
        detail.push_str(" IDENTITY");
    }
    let column = Column {
        name,
        data_type,
        nullable,
    };
    (column, detail)
}

impl Relation {
    /// The statements that would make it again, as text to compare.
    pub fn definition(&self) -> String {
        let mut text = match self.kind {
            RelationKind::View => format!(
                "CREATE {}VIEW AS {}",
                if self.secure { "SECURE " } else { "" },
                self.body.as_deref().unwrap_or_default()
            ),
            _ => format!(
                "CREATE {}TABLE\n{}",
                if self.transient { "TRANSIENT " } else { "" },
                self.details.join("\n")
            ),
        };
        if let Some(key) = &self.clustering {
            text.push_str(&format!("\nCLUSTER BY {key}"));
        }
        if let Some(comment) = &self.comment {
            text.push_str(&format!("\nCOMMENT {}", sql::text(comment)));
        }
        text
    }

    /// What tells one view from another: all but how its text is laid out.
    pub fn text_hash(&self) -> String {
        self.hash_of(self.body.as_deref())
    }

    /// The same, of the text as it was written: a view that reads one of our schemas is told from
    /// one that reads production.
    pub fn raw_hash(&self) -> String {
        self.hash_of(self.raw.as_deref().or(self.body.as_deref()))
    }

    fn hash_of(&self, body: Option<&str>) -> String {
        view_hash(self.secure, self.comment.as_deref(), body)
    }

    /// A table's identity, and what changes with every write.
    pub fn storage(&self) -> Option<String> {
        let token = self.token.as_ref()?;
        Some(format!("{} {token}", identity(&self.created)))
    }
}

/// What tells one view from another: all but how its text is laid out.
pub fn view_hash(secure: bool, comment: Option<&str>, body: Option<&str>) -> String {
    let body = view::canonical(body.unwrap_or_default());
    let all = serde_json::json!([secure, comment, body]).to_string();
    let hash = blake3::hash(all.as_bytes()).to_hex();
    hash.chars().take(16).collect()
}

/// A creation time in one word.
pub fn identity(created: &str) -> String {
    created.replace(' ', "T")
}

/// The production schemas that are looked at: the named ones, or all.
pub fn production(all: &[String], only: &BTreeSet<String>) -> BTreeSet<String> {
    all.iter()
        .filter(|name| layout::may_be_production(name))
        .filter(|name| only.is_empty() || only.contains(*name))
        .cloned()
        .collect()
}

/// The staging schemas of a release, for the schemas that are guarded: another environment of the
/// same database may be building a release of the same number. Each says whose it is by a view that
/// selects the release.
pub fn staging(
    session: &Session,
    all: &[String],
    only: &BTreeSet<String>,
    release: ReleaseId,
) -> Result<BTreeSet<String>, EngineError> {
    let built: BTreeSet<String> = all
        .iter()
        .filter(|name| {
            layout::parse_build(name).is_some_and(|of| only.is_empty() || only.contains(of))
        })
        .cloned()
        .collect();
    let catalog = load(session, &built, Extent::Views)?;
    let says = sql::text(&release.to_string());
    let ours = |(place, relation): (&Place, &Relation)| {
        let marks = place.name == layout::MARK
            && relation
                .body
                .as_deref()
                .is_some_and(|body| body.contains(&says));
        marks.then(|| place.schema.clone())
    };
    Ok(catalog.iter().filter_map(ours).collect())
}

/// The schemas that retain versions of a release, and the version of each.
pub fn retained(all: &[String], release: ReleaseId) -> BTreeSet<String> {
    let of = |name: &&String| {
        layout::parse_retained(name).is_some_and(|(version, _)| version.release == release)
    };
    all.iter().filter(of).cloned().collect()
}
