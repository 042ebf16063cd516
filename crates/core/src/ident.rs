//! Names: of releases, relations, environments.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A release's number, written `R12`. Numbers grow by one per ledger and are never used again.
/// `R0` is what stood there before unship.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(pub u64);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.0)
    }
}

/// Text that is not a release id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a release: releases are written R0, R1, R2, …")]
pub struct NotARelease(pub String);

impl FromStr for ReleaseId {
    type Err = NotARelease;

    fn from_str(text: &str) -> Result<Self, NotARelease> {
        let digits = text.strip_prefix(['R', 'r']).unwrap_or(text);
        match digits.parse() {
            Ok(n) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(ReleaseId(n)),
            _ => Err(NotARelease(text.to_owned())),
        }
    }
}

impl Serialize for ReleaseId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReleaseId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A relation's full name, unquoted, as the engine's catalog spells it.
///
/// It is serialised as the JSON text of an array of three strings, so that it can be a map's key
/// and no character in a name needs a separator to be escaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationName {
    /// The database or catalog.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The relation itself.
    pub name: String,
}

impl RelationName {
    /// Puts the three parts together.
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

impl fmt::Display for RelationName {
    /// For people: `database.schema.name`, a part quoted where it would be ambiguous. Where nobody
    /// could look into a database, all of it is one relation without a schema and a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema.is_empty() && self.name.is_empty() {
            return write!(f, "{} (the whole file)", self.database);
        }
        for (i, part) in [&self.database, &self.schema, &self.name]
            .into_iter()
            .enumerate()
        {
            if i > 0 {
                f.write_str(".")?;
            }
            let plain = !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == '-');
            if plain {
                f.write_str(part)?;
            } else {
                write!(f, "\"{}\"", part.replace('"', "\"\""))?;
            }
        }
        Ok(())
    }
}

impl Serialize for RelationName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::json!([self.database, self.schema, self.name]).to_string();
        s.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for RelationName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let [database, schema, name]: [String; 3] =
            serde_json::from_str(&text).map_err(serde::de::Error::custom)?;
        Ok(Self {
            database,
            schema,
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn releases_read_as_they_are_written() {
        assert_eq!("R12".parse(), Ok(ReleaseId(12)));
        assert_eq!("r12".parse(), Ok(ReleaseId(12)));
        assert_eq!("12".parse(), Ok(ReleaseId(12)));
        for bad in ["", "R", "R-1", "R1x", "R+1", "X1"] {
            assert!(bad.parse::<ReleaseId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_read_as_people_write_them() {
        let text = |database: &str, schema: &str, name: &str| {
            RelationName::new(database, schema, name).to_string()
        };
        assert_eq!(text("shop", "main", "orders"), "shop.main.orders");
        assert_eq!(text("shop", "a.b", "c\"d"), "shop.\"a.b\".\"c\"\"d\"");
        assert_eq!(text("shop", "", ""), "shop (the whole file)");
    }

    proptest! {
        #[test]
        fn any_name_survives_json(d in ".*", s in ".*", n in ".*") {
            let name = RelationName::new(d, s, n);
            let map = std::collections::BTreeMap::from([(name.clone(), 1)]);
            let text = serde_json::to_string(&map).unwrap();
            let back: std::collections::BTreeMap<RelationName, i32> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, map);
        }
    }
}
