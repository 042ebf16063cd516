//! How warehouses name the schema that stands for a production schema.

use unship_core::ident::RelationName;
use unship_engines::snowflake::layout;

/// Whose rules of naming hold. What a job builds where is decided by dbt, which puts a prefix into
/// names without knowing how the warehouse then spells them; this knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Naming {
    /// PostgreSQL's: names as they are, of 63 bytes at most.
    #[default]
    Postgres,
    /// Snowflake's: what is not quoted becomes capitals, the prefix too.
    Snowflake,
}

impl Naming {
    /// That of the adapter that wrote a manifest.
    pub fn of(adapter: &str) -> Self {
        match adapter {
            "snowflake" => Self::Snowflake,
            _ => Self::Postgres,
        }
    }

    /// What dbt is to put before a schema's name, as a profile or a macro writes it.
    ///
    /// In Snowflake its case is that of the name: the warehouse then makes the same of both.
    pub fn prefix(self, schema: &str) -> String {
        match self {
            Self::Snowflake if !schema.chars().any(char::is_lowercase) => layout::BUILD.to_owned(),
            _ => super::PREFIX.to_owned(),
        }
    }

    /// Jinja that puts the prefix before the schema name in the variable `name`, once.
    pub(super) fn prefixed(self) -> String {
        let (small, large) = (super::PREFIX, layout::BUILD);
        let prefix = match self {
            Self::Postgres => format!("'{small}'"),
            Self::Snowflake => format!("('{large}' if name == name.upper() else '{small}')"),
        };
        format!("{prefix} ~ {}", self.bare())
    }

    /// Jinja that takes the prefix out of the variable `name`.
    pub(super) fn bare(self) -> String {
        let (small, large) = (super::PREFIX, layout::BUILD);
        let without = format!("name.replace('{small}', '')");
        match self {
            Self::Postgres => without,
            Self::Snowflake => format!("{without}.replace('{large}', '')"),
        }
    }

    /// The schema where a production schema is built.
    pub fn schema(self, production: &str) -> String {
        format!("{}{production}", self.prefix(production))
    }

    /// The relation that stands for a production relation while it is built.
    pub fn relation(self, production: &RelationName) -> RelationName {
        RelationName {
            schema: self.schema(&production.schema),
            ..production.clone()
        }
    }

    /// A text about staging, put into production's names.
    pub fn in_production(self, text: &str) -> String {
        let text = text.replace(super::PREFIX, "");
        match self {
            Self::Postgres => text,
            Self::Snowflake => text.replace(layout::BUILD, ""),
        }
    }

    /// The name of a schema that is built aside, if it is too long.
    pub fn too_long(self, production: &str) -> bool {
        match self {
            Self::Postgres => self.schema(production).len() > super::LONGEST_NAME,
            Self::Snowflake => layout::build(production).is_err(),
        }
    }

    /// A word of SQL without quotes, as the warehouse reads it.
    pub fn folded(self, word: &str) -> String {
        match self {
            Self::Postgres => word.to_lowercase(),
            Self::Snowflake => word.to_uppercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dbt_and_the_engine_mean_the_same_schema() {
        let engine = |schema: &str| layout::build(schema).unwrap();
        for schema in ["MARTS", "Marts", "marts", "ÄRA", "A_1"] {
            assert_eq!(Naming::Snowflake.schema(schema), engine(schema), "{schema}");
        }
        // Written without quotes, it is in capitals in the end, and so is the prefix.
        let written = Naming::Snowflake.schema("marts").to_uppercase();
        assert_eq!(written, engine("MARTS"));
        assert_eq!(Naming::Postgres.schema("MARTS"), "unship_build_MARTS");
        let text = r#"{"schema": "unship_build_a", "says": "UNSHIP_BUILD_A.B is gone"}"#;
        let expected = r#"{"schema": "a", "says": "A.B is gone"}"#;
        assert_eq!(Naming::Snowflake.in_production(text), expected);
    }
}
