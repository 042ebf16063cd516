//! Statements about schemas and roles.

use super::{Grantee, name, schema, text};

/// What a schema is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Making {
    /// Whether it and what is made in it has no fail-safe.
    pub transient: bool,
    /// Whether only its owner says who may do what in it.
    pub managed: bool,
    /// How many days of Time Travel it has, where it says so.
    pub days: Option<u32>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A schema made as another was. <https://docs.snowflake.com/en/sql-reference/sql/create-schema>
pub fn create_schema_like(database: &str, of: &str, making: &Making) -> String {
    let mut out = format!(
        "CREATE {}SCHEMA IF NOT EXISTS {}",
        if making.transient { "TRANSIENT " } else { "" },
        schema(database, of)
    );
    if making.managed {
        out.push_str(" WITH MANAGED ACCESS");
    }
    if let Some(days) = making.days {
        out.push_str(&format!(" DATA_RETENTION_TIME_IN_DAYS = {days}"));
    }
    if let Some(comment) = &making.comment {
        out.push_str(&format!(" COMMENT = {}", text(comment)));
    }
    out
}

/// Exchanges two schemas with all that is in them, at once.
/// <https://docs.snowflake.com/en/sql-reference/sql/alter-schema>
pub fn swap_schemas(database: &str, one: &str, other: &str) -> String {
    format!(
        "ALTER SCHEMA {} SWAP WITH {}",
        schema(database, one),
        schema(database, other)
    )
}

/// <https://docs.snowflake.com/en/sql-reference/sql/alter-schema>
pub fn rename_schema(database: &str, old: &str, new: &str) -> String {
    format!(
        "ALTER SCHEMA {} RENAME TO {}",
        schema(database, old),
        schema(database, new)
    )
}

/// The schemas with their owners and what they were made with.
/// <https://docs.snowflake.com/en/sql-reference/sql/show-schemas>
pub fn show_schemas(database: &str) -> String {
    format!("SHOW SCHEMAS IN DATABASE {}", name(database))
}

/// <https://docs.snowflake.com/en/sql-reference/sql/show-grants>
pub fn show_schema_grants(database: &str, of: &str) -> String {
    format!("SHOW GRANTS ON SCHEMA {}", schema(database, of))
}

/// What whoever makes something in a schema gives away with it.
/// <https://docs.snowflake.com/en/sql-reference/sql/show-grants>
pub fn show_future_grants(database: &str, of: &str) -> String {
    format!("SHOW FUTURE GRANTS IN SCHEMA {}", schema(database, of))
}

/// What a role may do, the roles that it has included; not what those may.
/// <https://docs.snowflake.com/en/sql-reference/sql/show-grants>
pub fn show_grants_to(role: &Grantee) -> String {
    format!("SHOW GRANTS TO {role}")
}

/// The sorts of things that are in a schema and are no relations, as `SHOW` calls them and as a
/// person does.
pub const KINDS: [(&str, &str); 12] = [
    ("STREAMS", "stream"),
    ("TASKS", "task"),
    ("PIPES", "pipe"),
    ("STAGES", "stage"),
    ("FILE FORMATS", "file format"),
    ("SEQUENCES", "sequence"),
    ("USER FUNCTIONS", "function"),
    ("USER PROCEDURES", "procedure"),
    ("MASKING POLICIES", "masking policy"),
    ("ROW ACCESS POLICIES", "row access policy"),
    ("TAGS", "tag"),
    ("ALERTS", "alert"),
];

/// What of one of [`KINDS`] there is. <https://docs.snowflake.com/en/sql-reference/sql/show>
pub fn show_kind(database: &str, kind: &str) -> String {
    format!("SHOW {kind} IN DATABASE {}", name(database))
}

/// The tags of a schema, with those that it inherits.
/// <https://docs.snowflake.com/en/sql-reference/functions/tag_references>
pub fn schema_tags(database: &str, of: &str) -> String {
    format!(
        "SELECT TAG_DATABASE, TAG_SCHEMA, TAG_NAME, TAG_VALUE, LEVEL \
         FROM TABLE({}.INFORMATION_SCHEMA.TAG_REFERENCES({}, 'SCHEMA'))",
        name(database),
        text(&schema(database, of))
    )
}

/// <https://docs.snowflake.com/en/sql-reference/sql/grant-privilege>
pub fn grant_on_schema(database: &str, of: &str, grant: &super::Grant) -> String {
    format!(
        "GRANT {} ON SCHEMA {} TO {}{}",
        grant.privilege,
        schema(database, of),
        grant.to,
        if grant.option {
            " WITH GRANT OPTION"
        } else {
            ""
        }
    )
}

/// <https://docs.snowflake.com/en/sql-reference/sql/revoke-privilege>
pub fn revoke_on_schema(database: &str, of: &str, grant: &super::Grant) -> String {
    format!(
        "REVOKE {} ON SCHEMA {} FROM {}",
        grant.privilege,
        schema(database, of),
        grant.to
    )
}

/// What a person is told to run: a privilege on a database, a schema or a warehouse.
/// <https://docs.snowflake.com/en/sql-reference/sql/grant-privilege>
pub fn give(privilege: &str, on: &str, full: &str, role: &str) -> String {
    format!("GRANT {privilege} ON {on} {full} TO ROLE {}", name(role))
}

/// What a person is told to run: the same things may be done by the same roles afterwards.
/// <https://docs.snowflake.com/en/sql-reference/sql/grant-ownership>
pub fn give_ownership(on: &str, full: &str, role: &str) -> String {
    format!(
        "GRANT OWNERSHIP ON {on} {full} TO ROLE {} COPY CURRENT GRANTS",
        name(role)
    )
}
