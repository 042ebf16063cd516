//! Which schemas are whose: production, builds, retained versions, and unship's own.

use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::ReleaseId;

/// The schema of unship's own tables.
pub const HOME: &str = "unship";

/// What the staging schema of a production schema begins with.
pub const BUILD: &str = "unship_build_";

/// What the schema of a retained version begins with, before the release's number.
const RETAINED: &str = "unship_r";

/// PostgreSQL cuts longer names off without a word.
const LONGEST: usize = 63;

/// The staging schema that stands for a production schema.
pub fn build(schema: &str) -> Result<String, EngineError> {
    fits(format!("{BUILD}{schema}"), schema)
}

/// The schema in which the versions that a release built are retained.
pub fn retained(release: ReleaseId, schema: &str) -> Result<String, EngineError> {
    fits(format!("{RETAINED}{}_{schema}", release.0), schema)
}

fn fits(name: String, schema: &str) -> Result<String, EngineError> {
    if name.len() <= LONGEST {
        return Ok(name);
    }
    Err(EngineError::new(
        ErrorKind::Unsupported,
        format!(
            "the schema {schema} has too long a name: {name} would have more than {LONGEST} bytes"
        ),
    )
    .hint("a schema that unship guards can have up to about 50 bytes"))
}

/// The release and the production schema behind the name of a retained schema.
pub fn parse_retained(name: &str) -> Option<(ReleaseId, &str)> {
    let (number, schema) = name.strip_prefix(RETAINED)?.split_once('_')?;
    let canonical = number == "0" || !number.starts_with('0');
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (digits && canonical && !schema.is_empty())
        .then(|| Some((ReleaseId(number.parse().ok()?), schema)))?
}

/// The production schema behind the name of a staging schema.
pub fn parse_build(name: &str) -> Option<&str> {
    name.strip_prefix(BUILD).filter(|schema| !schema.is_empty())
}

/// Whether production can be in a schema of this name: it is neither the system's nor ours.
pub fn may_be_production(name: &str) -> bool {
    !name.starts_with("pg_")
        && name != "information_schema"
        && name != HOME
        && name != super::undo::SCHEMA
        && parse_build(name).is_none()
        && parse_retained(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_its_schema_is_for() {
        assert_eq!(build("marts").unwrap(), "unship_build_marts");
        assert_eq!(parse_build("unship_build_marts"), Some("marts"));
        let name = retained(ReleaseId(12), "my_marts").unwrap();
        assert_eq!(name, "unship_r12_my_marts");
        assert_eq!(parse_retained(&name), Some((ReleaseId(12), "my_marts")));
        for strange in [
            "unship_r_x",
            "unship_r01_x",
            "unship_r1_",
            "unship_rx_y",
            "unship_r+1_y",
        ] {
            assert_eq!(parse_retained(strange), None, "{strange}");
            assert!(may_be_production(strange));
        }
        for ours in [
            "unship",
            "unship_r0_x",
            "unship_build_x",
            "pg_toast",
            "information_schema",
        ] {
            assert!(!may_be_production(ours), "{ours}");
        }
    }

    #[test]
    fn a_name_that_would_be_cut_off_is_refused() {
        let schema = "ä".repeat(26);
        assert!(retained(ReleaseId(1), &schema).is_ok());
        let error = retained(ReleaseId(1000), &schema).unwrap_err();
        assert!(error.message.contains(&schema), "{error}");
    }
}
