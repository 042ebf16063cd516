//! Every statement that unship sends to Snowflake. None is put together anywhere else, so that one
//! test can list and parse them all; the address beside each is the page that defines it.

mod compare;
mod schema;

pub use crate::quote::{name, names};
pub use compare::*;
pub use schema::*;
use std::time::Duration;
use unship_core::engine::ReleaseRecord;

/// `"database"."schema"."name"`.
pub fn full(place: &Place) -> String {
    format!(
        "{}.{}.{}",
        name(&place.database),
        name(&place.schema),
        name(&place.name)
    )
}

/// A string literal. Snowflake reads a backslash in one as the beginning of an escape.
pub fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Where a relation physically is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The database.
    pub database: String,
    /// The schema, ours or production's.
    pub schema: String,
    /// The relation.
    pub name: String,
}

impl Place {
    /// Puts the three together.
    pub fn new(
        database: impl Into<String>,
        schema: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            database: database.into(),
            schema: schema.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The statements of ours that have not ended, of those whose tags begin so.
/// <https://docs.snowflake.com/en/sql-reference/functions/query_history>
pub fn running(database: &str, tag: &str) -> String {
    format!(
        "SELECT QUERY_ID FROM TABLE({}.INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) \
         WHERE STARTSWITH(QUERY_TAG, {}) AND DATABASE_NAME = {} AND EXECUTION_STATUS IN \
         ('RUNNING', 'QUEUED', 'BLOCKED', 'RESUMING_WAREHOUSE')",
        name(database),
        text(tag),
        text(database)
    )
}

fn schema(database: &str, schema: &str) -> String {
    format!("{}.{}", name(database), name(schema))
}

/// Who we are. <https://docs.snowflake.com/en/sql-reference/functions/current_role>
pub fn session() -> String {
    "SELECT CURRENT_ROLE() AS ROLE, CURRENT_VERSION() AS VERSION, CURRENT_WAREHOUSE() AS WAREHOUSE"
        .to_owned()
}

/// <https://docs.snowflake.com/en/sql-reference/info-schema/schemata>
pub fn schemas(database: &str) -> String {
    format!(
        "SELECT SCHEMA_NAME FROM {}.INFORMATION_SCHEMA.SCHEMATA ORDER BY SCHEMA_NAME",
        name(database)
    )
}

fn among<'a>(schemas: impl IntoIterator<Item = &'a String>) -> String {
    let list: Vec<String> = schemas.into_iter().map(|schema| text(schema)).collect();
    format!("TABLE_SCHEMA IN ({})", list.join(", "))
}

/// The relations of some schemas. <https://docs.snowflake.com/en/sql-reference/info-schema/tables>
pub fn tables<'a>(database: &str, schemas: impl IntoIterator<Item = &'a String>) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IS_TRANSIENT, IS_ICEBERG, IS_DYNAMIC, \
         TABLE_OWNER, CREATED, ROW_COUNT, BYTES, CLUSTERING_KEY, COMMENT \
         FROM {}.INFORMATION_SCHEMA.TABLES WHERE {} ORDER BY TABLE_SCHEMA, TABLE_NAME",
        name(database),
        among(schemas)
    )
}

/// <https://docs.snowflake.com/en/sql-reference/info-schema/columns>
pub fn columns<'a>(database: &str, schemas: impl IntoIterator<Item = &'a String>) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, IS_NULLABLE, \
         CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, COLUMN_DEFAULT, IS_IDENTITY, \
         COLLATION_NAME, COMMENT FROM {}.INFORMATION_SCHEMA.COLUMNS WHERE {} \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        name(database),
        among(schemas)
    )
}

/// <https://docs.snowflake.com/en/sql-reference/info-schema/views>
pub fn views<'a>(database: &str, schemas: impl IntoIterator<Item = &'a String>) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION, IS_SECURE \
         FROM {}.INFORMATION_SCHEMA.VIEWS WHERE {} ORDER BY TABLE_SCHEMA, TABLE_NAME",
        name(database),
        among(schemas)
    )
}

/// What changes with every write to a table, for some tables at once.
/// <https://docs.snowflake.com/en/sql-reference/functions/system_last_change_commit_time>
pub fn tokens<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let asked: Vec<String> = places
        .into_iter()
        .enumerate()
        .map(|(n, place)| {
            format!(
                "SYSTEM$LAST_CHANGE_COMMIT_TIME({}) AS T{n}",
                text(&full(place))
            )
        })
        .collect();
    format!("SELECT {}", asked.join(", "))
}

/// What says whose a staging schema is, or that a schema retains something.
/// <https://docs.snowflake.com/en/sql-reference/sql/create-view>
pub fn mark(mark: &Place, release: &str) -> String {
    format!(
        "CREATE OR REPLACE VIEW {} AS SELECT {} AS \"RELEASE\"",
        full(mark),
        text(release)
    )
}

/// <https://docs.snowflake.com/en/sql-reference/sql/create-schema>
pub fn create_schema(database: &str, of: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS {}", schema(database, of))
}

/// Drops a schema that is ours with what is in it. It can be undropped for as long as Time Travel
/// reaches. <https://docs.snowflake.com/en/sql-reference/sql/drop-schema>
pub fn drop_schema(database: &str, of: &str) -> String {
    format!("DROP SCHEMA IF EXISTS {} CASCADE", schema(database, of))
}

/// A copy that shares its rows with the original. One of a transient table is transient.
/// <https://docs.snowflake.com/en/sql-reference/sql/create-clone>
pub fn clone(copy: &Place, of: &Place, transient: bool) -> String {
    format!(
        "CREATE OR REPLACE {}TABLE {} CLONE {}",
        if transient { "TRANSIENT " } else { "" },
        full(copy),
        full(of)
    )
}

/// The same, which whoever may read the original may read.
/// <https://docs.snowflake.com/en/sql-reference/sql/create-table>
pub fn retain(copy: &Place, of: &Place, transient: bool) -> String {
    format!("{} COPY GRANTS", clone(copy, of, transient))
}

/// It can be undropped for as long as Time Travel reaches.
/// <https://docs.snowflake.com/en/sql-reference/sql/drop-table>
pub fn drop_table(place: &Place) -> String {
    format!("DROP TABLE IF EXISTS {}", full(place))
}

/// Exchanges two tables, at once. Everything that hangs on a table goes with it, privileges too.
/// <https://docs.snowflake.com/en/sql-reference/sql/alter-table>
pub fn swap(one: &Place, other: &Place) -> String {
    format!("ALTER TABLE {} SWAP WITH {}", full(one), full(other))
}

/// <https://docs.snowflake.com/en/sql-reference/sql/alter-table>
pub fn rename(old: &Place, new: &Place) -> String {
    format!("ALTER TABLE {} RENAME TO {}", full(old), full(new))
}

/// <https://docs.snowflake.com/en/sql-reference/sql/drop-view>
pub fn drop_view(place: &Place) -> String {
    format!("DROP VIEW IF EXISTS {}", full(place))
}

/// Makes a view, or puts it in the place of another at once; the privileges stay.
/// <https://docs.snowflake.com/en/sql-reference/sql/create-view>
pub fn create_view(place: &Place, view: &ViewText<'_>) -> String {
    let comment = view.comment.map(|c| format!(" COMMENT = {}", text(c)));
    let columns = match view.columns {
        [] => String::new(),
        some => format!(" ({})", list(some, "")),
    };
    format!(
        "CREATE OR REPLACE {}VIEW {}{columns} COPY GRANTS{} AS {}",
        if view.secure { "SECURE " } else { "" },
        full(place),
        comment.unwrap_or_default(),
        view.body
    )
}

/// What a view is.
#[derive(Debug, Clone, Copy)]
pub struct ViewText<'a> {
    /// What it selects.
    pub body: &'a str,
    /// Its columns' names, where they may be others than the query's; none, they are the query's.
    pub columns: &'a [String],
    /// Whether it hides its text.
    pub secure: bool,
    /// Its comment.
    pub comment: Option<&'a str>,
}

/// <https://docs.snowflake.com/en/sql-reference/sql/show-grants>
pub fn show_grants(place: &Place, view: bool) -> String {
    format!("SHOW GRANTS ON {} {}", sort(view), full(place))
}

fn sort(view: bool) -> &'static str {
    if view { "VIEW" } else { "TABLE" }
}

/// <https://docs.snowflake.com/en/sql-reference/sql/grant-privilege>
pub fn grant(place: &Place, view: bool, grant: &Grant) -> String {
    format!(
        "GRANT {} ON {} {} TO {}{}",
        grant.privilege,
        sort(view),
        full(place),
        grant.to,
        if grant.option {
            " WITH GRANT OPTION"
        } else {
            ""
        }
    )
}

/// <https://docs.snowflake.com/en/sql-reference/sql/revoke-privilege>
pub fn revoke(place: &Place, view: bool, grant: &Grant) -> String {
    format!(
        "REVOKE {} ON {} {} FROM {}",
        grant.privilege,
        sort(view),
        full(place),
        grant.to
    )
}

/// A privilege on a relation, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Grant {
    /// The privilege: capitals and spaces, and nothing else.
    pub privilege: String,
    /// Who has it.
    pub to: Grantee,
    /// Whether it may be passed on.
    pub option: bool,
}

impl Grant {
    /// `None` where the privilege's text is not one: it goes into a statement as it is.
    pub fn new(privilege: &str, to: Grantee, option: bool) -> Option<Self> {
        let word = |c: char| c.is_ascii_uppercase() || c == ' ' || c == '_';
        let known = !privilege.is_empty() && privilege.chars().all(word);
        known.then(|| Self {
            privilege: privilege.to_owned(),
            to,
            option,
        })
    }
}

/// Who holds a privilege.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Grantee {
    /// A role of the account.
    Role(String),
    /// A role of a database.
    DatabaseRole(String, String),
}

impl std::fmt::Display for Grantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(role) => write!(f, "ROLE {}", name(role)),
            Self::DatabaseRole(database, role) => {
                write!(f, "DATABASE ROLE {}.{}", name(database), name(role))
            }
        }
    }
}

/// Of every database: what reads a table may be in another one than the table.
/// <https://docs.snowflake.com/en/sql-reference/sql/show-streams>
pub fn show_streams() -> String {
    "SHOW STREAMS IN ACCOUNT".to_owned()
}

/// <https://docs.snowflake.com/en/sql-reference/sql/show-pipes>
pub fn show_pipes() -> String {
    "SHOW PIPES IN ACCOUNT".to_owned()
}

/// <https://docs.snowflake.com/en/sql-reference/sql/show-dynamic-tables>
pub fn show_dynamic_tables() -> String {
    "SHOW DYNAMIC TABLES IN ACCOUNT".to_owned()
}

/// <https://docs.snowflake.com/en/sql-reference/sql/show-materialized-views>
pub fn show_materialized_views() -> String {
    "SHOW MATERIALIZED VIEWS IN ACCOUNT".to_owned()
}

/// The masking and row access policies of a relation.
/// <https://docs.snowflake.com/en/sql-reference/functions/policy_references>
pub fn policies(place: &Place, domain: &str) -> String {
    format!(
        "SELECT POLICY_DB, POLICY_SCHEMA, POLICY_NAME, POLICY_KIND, REF_COLUMN_NAME \
         FROM TABLE({}.INFORMATION_SCHEMA.POLICY_REFERENCES(REF_ENTITY_NAME => {}, \
         REF_ENTITY_DOMAIN => {}))",
        name(&place.database),
        text(&full(place)),
        text(domain)
    )
}

/// The tags of a relation and of its columns; those that it inherits are not its own.
/// <https://docs.snowflake.com/en/sql-reference/functions/tag_references_all_columns>
pub fn tags(place: &Place) -> String {
    format!(
        "SELECT TAG_DATABASE, TAG_SCHEMA, TAG_NAME, TAG_VALUE, LEVEL, COLUMN_NAME \
         FROM TABLE({}.INFORMATION_SCHEMA.TAG_REFERENCES_ALL_COLUMNS({}, 'TABLE'))",
        name(&place.database),
        text(&full(place))
    )
}

/// Rows and digests: of whole rows, and of each column. Cells of a type that cannot be hashed are
/// hashed as text. <https://docs.snowflake.com/en/sql-reference/functions/hash_agg>
pub fn fingerprint(place: &Place, columns: &[(String, String)]) -> String {
    let cell = |(column, data_type): &(String, String)| match data_type.as_str() {
        "GEOGRAPHY" | "GEOMETRY" => format!("ST_ASWKT({})", name(column)),
        _ => name(column),
    };
    let cells: Vec<String> = columns.iter().map(cell).collect();
    let mut asked = vec![
        "COUNT(*) AS N".to_owned(),
        format!("HASH_AGG({}) AS H", cells.join(", ")),
    ];
    let each = cells.iter().enumerate();
    asked.extend(each.map(|(n, cell)| format!("HASH_AGG({cell}) AS H{n}")));
    format!("SELECT {} FROM {}", asked.join(", "), full(place))
}

/// <https://docs.snowflake.com/en/sql-reference/functions/count>
pub fn count(place: &Place) -> String {
    format!("SELECT COUNT(*) AS N FROM {}", full(place))
}

/// Proves that a relation can be read. <https://docs.snowflake.com/en/sql-reference/constructs/limit>
pub fn first_row(place: &Place) -> String {
    format!("SELECT * FROM {} LIMIT 1", full(place))
}

/// Rows, and of each column how many cells are not `NULL`; of numbers and moments about how many
/// values, and the first and last; of numbers the sum.
/// <https://docs.snowflake.com/en/sql-reference/functions/approx_count_distinct>
pub fn profile(place: &Place, columns: &[(String, bool)], numbers: &[bool]) -> String {
    let mut asked = vec!["COUNT(*)".to_owned()];
    for ((column, ordered), number) in columns.iter().zip(numbers) {
        let cell = name(column);
        asked.push(format!("COUNT({cell})"));
        if *ordered {
            asked.push(format!("APPROX_COUNT_DISTINCT({cell})"));
            asked.push(format!("MIN({cell})"));
            asked.push(format!("MAX({cell})"));
        }
        if *number {
            asked.push(format!("SUM({cell})"));
        }
    }
    format!("SELECT {} FROM {}", asked.join(", "), full(place))
}

/// A query of somebody's, of which so many rows are wanted.
/// <https://docs.snowflake.com/en/sql-reference/constructs/limit>
pub fn bounded(query: &str, limit: u64) -> String {
    let query = query.trim().trim_end_matches(';');
    format!("SELECT * FROM (\n{query}\n) AS UNSHIP_QUERY LIMIT {limit}")
}

fn list(columns: &[String], of: &str) -> String {
    let cells: Vec<String> = columns.iter().map(|c| format!("{of}{}", name(c))).collect();
    cells.join(", ")
}

/// Adds a release to the table of restore points that the dbt package keeps, by the clock that wrote
/// the other rows. <https://docs.snowflake.com/en/sql-reference/sql/insert>
pub fn record_release(database: &str, schema: &str, record: &ReleaseRecord) -> String {
    let ago = |ago: Duration| format!("DATEADD(millisecond, -{}, SYSDATE())", ago.as_millis());
    format!(
        "INSERT INTO {} (restore_point, recorded_by, target, job, code, schemas, started_at, ended_at, \
         outcome) SELECT {}, 'unship', {}, {}, {}, {}, {}, {}, 'good'",
        // dbt writes these names without quotes.
        full(&Place::new(
            database,
            schema.to_uppercase(),
            "UNSHIP_RESTORE_POINTS"
        )),
        text(&record.id),
        text(&record.env),
        text(&record.job),
        record.commit.as_deref().map_or("NULL".to_owned(), text),
        text(&record.schemas),
        ago(record.began),
        ago(record.ended),
    )
}

#[cfg(test)]
mod tests;
