//! How every dbt artefact is read: bytes in, a typed error or a value out.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use std::ops::RangeInclusive;

/// Why an artefact could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// The bytes are not the JSON that dbt writes.
    #[error(
        "this is not a dbt {artefact}: {source}; run the dbt command again, or point unship at the \
         project's target directory"
    )]
    Malformed {
        /// Which artefact was expected.
        artefact: &'static str,
        /// What the JSON reader says, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The artefact does not say which schema it follows.
    #[error(
        "this is not a dbt {artefact}: its metadata has no dbt_schema_version (it says {found:?})"
    )]
    NoVersion {
        /// Which artefact was expected.
        artefact: &'static str,
        /// What stands in its place.
        found: String,
    },
    /// The artefact follows a schema that unship was not written for.
    #[error(
        "this dbt {artefact} follows schema v{found}; unship reads v{oldest} to v{newest}. \
         Use a dbt version that writes one of these, or a newer unship"
    )]
    Unsupported {
        /// Which artefact was expected.
        artefact: &'static str,
        /// Its version.
        found: u32,
        /// The oldest version that can be read.
        oldest: u32,
        /// The newest version that can be read.
        newest: u32,
    },
}

/// Reads one artefact.
pub(super) fn read<T: DeserializeOwned>(
    artefact: &'static str,
    bytes: &[u8],
) -> Result<T, ArtefactError> {
    serde_json::from_slice(bytes).map_err(|source| ArtefactError::Malformed { artefact, source })
}

/// Takes the version out of `https://schemas.getdbt.com/dbt/manifest/v12.json` and checks it.
///
/// # Errors
/// When the text names another artefact, no version, or one out of `supported`.
pub(super) fn schema_version(
    artefact: &'static str,
    url: &str,
    supported: RangeInclusive<u32>,
) -> Result<u32, ArtefactError> {
    let mut parts = url.rsplit('/');
    let version = parts
        .next()
        .and_then(|last| last.strip_suffix(".json"))
        .and_then(|last| last.strip_prefix('v'))
        .and_then(|digits| digits.parse().ok());
    let named = parts.next() == Some(artefact);
    match version {
        Some(found) if named && supported.contains(&found) => Ok(found),
        Some(found) if named => Err(ArtefactError::Unsupported {
            artefact,
            found,
            oldest: *supported.start(),
            newest: *supported.end(),
        }),
        _ => Err(ArtefactError::NoVersion {
            artefact,
            found: url.to_owned(),
        }),
    }
}

/// dbt writes `null` where it has nothing to say; that is the default, as an absent field is.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
