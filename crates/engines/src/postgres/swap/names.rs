//! Names in PostgreSQL: quoting, and how long one may be.

use super::model::Name;
use std::fmt;

/// The longest name in bytes. PostgreSQL cuts a longer one off without a word.
pub(super) const LONGEST: usize = 63;

/// Schemas that unship made: what is built, and what is retained.
pub(super) fn is_ours(schema: &str) -> bool {
    schema.starts_with("unship_build_")
        || schema
            .strip_prefix("unship_r")
            .and_then(|rest| rest.split_once('_'))
            .is_some_and(|(digits, _)| {
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            })
}

/// An identifier, quoted.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal.
pub(super) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

impl Name {
    /// Puts the two parts together.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// For statements.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

impl fmt::Display for Name {
    /// For people: quoted only where it would be ambiguous.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in [&self.schema, &self.name].into_iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            let plain = !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
            if plain {
                f.write_str(part)?;
            } else {
                f.write_str(&quoted(part))?;
            }
        }
        Ok(())
    }
}
