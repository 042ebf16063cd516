//! Which schemas are whose: production, builds and retained versions. A name says it all: there is
//! no table beside the data that could disagree with it. Only that something was retained once is
//! written down, so that its loss is noticed: by a view of that name in [`HOME`].

use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::ReleaseId;
use unship_core::release::VersionId;

/// What the staging schema of a production schema begins with, in the case of that schema: dbt puts
/// it before a name that Snowflake may then fold to capitals.
pub const BUILD: &str = "UNSHIP_BUILD_";

/// The schema of what unship remembers.
pub const HOME: &str = "UNSHIP";

/// The view in a staging schema that says whose it is.
pub const MARK: &str = "UNSHIP_BUILD";

/// What the schema of a retained version begins with, before the release's number.
const RETAINED: &str = "UNSHIP_R";

/// <https://docs.snowflake.com/en/sql-reference/identifiers>
const LONGEST: usize = 255;

fn is_small(name: &str) -> bool {
    name.chars().any(char::is_lowercase)
}

/// The staging schema that stands for a production schema.
pub fn build(schema: &str) -> Result<String, EngineError> {
    let prefix = match is_small(schema) {
        true => BUILD.to_lowercase(),
        false => BUILD.to_owned(),
    };
    fits(format!("{prefix}{schema}"), schema)
}

/// The schema in which a version is retained: `UNSHIP_R12_MARTS`, and `UNSHIP_R12P1_MARTS` for what
/// others had written to once.
pub fn retained(version: VersionId, schema: &str) -> Result<String, EngineError> {
    let drift = match version.drift {
        0 => String::new(),
        n => format!("P{n}"),
    };
    fits(
        format!("{RETAINED}{}{drift}_{schema}", version.release.0),
        schema,
    )
}

fn fits(name: String, schema: &str) -> Result<String, EngineError> {
    if name.chars().count() <= LONGEST {
        return Ok(name);
    }
    Err(EngineError::new(
        ErrorKind::Unsupported,
        format!("the schema {schema} has too long a name to be built aside or retained"),
    )
    .hint("a schema that unship guards can have up to about 230 characters"))
}

/// The version and the production schema behind the name of a retained schema.
pub fn parse_retained(name: &str) -> Option<(VersionId, &str)> {
    let (number, schema) = name.strip_prefix(RETAINED)?.split_once('_')?;
    let (release, drift) = match number.split_once('P') {
        Some((release, drift)) => (release, canonical(drift).filter(|n| *n > 0)?),
        None => (number, 0),
    };
    let version = VersionId {
        release: ReleaseId(canonical(release)?),
        drift: u32::try_from(drift).ok()?,
    };
    (!schema.is_empty()).then_some((version, schema))
}

fn canonical(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// The production schema behind the name of a staging schema.
pub fn parse_build(name: &str) -> Option<&str> {
    let rest = name.get(BUILD.len()..)?;
    (!rest.is_empty() && build(rest).is_ok_and(|made| made == name)).then_some(rest)
}

/// Whether production can be in a schema of this name: it is neither the system's nor ours.
pub fn may_be_production(name: &str) -> bool {
    name != "INFORMATION_SCHEMA"
        && name != HOME
        && parse_build(name).is_none()
        && parse_retained(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_its_schema_is_for() {
        assert_eq!(build("MARTS").unwrap(), "UNSHIP_BUILD_MARTS");
        assert_eq!(build("Marts").unwrap(), "unship_build_Marts");
        let version = |release, drift| VersionId {
            release: ReleaseId(release),
            drift,
        };
        for (of, name) in [
            (version(12, 0), "UNSHIP_R12_MY_MARTS"),
            (version(0, 3), "UNSHIP_R0P3_MY_MARTS"),
        ] {
            assert_eq!(retained(of, "MY_MARTS").unwrap(), name);
            assert_eq!(parse_retained(name), Some((of, "MY_MARTS")));
            assert!(!may_be_production(name));
        }
        for schema in ["MARTS", "Marts", "ä"] {
            let name = build(schema).unwrap();
            assert_eq!(parse_build(&name), Some(schema), "{name}");
        }
        for strange in [
            "UNSHIP_R_X",
            "UNSHIP_R01_X",
            "UNSHIP_R1_",
            "UNSHIP_R1P0_X",
            "UNSHIP_RX_Y",
            "UNSHIPPED",
            "UNSHIP_BUILD_",
            "UNSHIP_BUILD_marts",
            "ÄÄÄÄÄÄÄÄ",
        ] {
            assert!(may_be_production(strange), "{strange}");
        }
        assert!(!may_be_production("UNSHIP") && !may_be_production("INFORMATION_SCHEMA"));
        assert!(retained(version(1, 0), &"x".repeat(250)).is_err());
    }
}
