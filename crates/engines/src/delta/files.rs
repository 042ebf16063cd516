//! The files that a version needs, and which of them are gone.

use super::reader::{File, Version};
use percent_encoding::percent_decode_str;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use unship_core::engine::{EngineError, ErrorKind};
use url::Url;

/// How many characters of a deletion vector's place are a UUID in base 85.
const ENCODED_UUID: usize = 20;

/// How many files are named that are gone.
const NAMED: usize = 3;

/// A path of a log as a file: relative to the table, or a URI.
fn place(table: &Path, raw: &str) -> Option<PathBuf> {
    let has_scheme = raw.split_once(":/").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if has_scheme {
        return Url::parse(raw).ok()?.to_file_path().ok();
    }
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    Some(table.join(&*decoded))
}

/// The file of a deletion vector (protocol, "Deletion Vector Descriptor Schema"): a UUID in base 85
/// after an optional directory, or a path. `Ok(None)` for one that stands in the log itself.
fn vector_place(table: &Path, file: &File) -> Result<Option<PathBuf>, ()> {
    let Some(vector) = file.deletion_vector() else {
        return Ok(None);
    };
    let at = vector["pathOrInlineDv"].as_str().ok_or(())?;
    match vector["storageType"].as_str() {
        Some("i") => Ok(None),
        Some("p") => place(table, at).map(Some).ok_or(()),
        Some("u") => {
            let split = at.len().checked_sub(ENCODED_UUID).ok_or(())?;
            let (prefix, encoded) = at.split_at_checked(split).ok_or(())?;
            let bytes = z85::decode(encoded).map_err(drop)?;
            let uuid = uuid::Uuid::from_slice(&bytes).map_err(drop)?;
            let name = format!("deletion_vector_{uuid}.bin");
            Ok(Some(table.join(prefix).join(name)))
        }
        _ => Err(()),
    }
}

/// What tells a file of a version from all others: path and deletion vector.
pub type Key = (String, Option<String>);

/// The files of a version by what tells them apart.
pub fn keys(version: &Version) -> BTreeSet<Key> {
    version.files.iter().map(key).collect()
}

/// What tells a file apart.
pub fn key(file: &File) -> Key {
    (file.path(), file.vector_id())
}

/// Proves that what an older version needs and the current one does not have is still there.
///
/// # Errors
/// [`ErrorKind::Missing`] with the names of some that are gone.
pub fn there(what: &str, table: &Path, then: &Version, now: &Version) -> Result<(), EngineError> {
    let held = keys(now);
    let mut gone = Vec::new();
    for file in then.files.iter().filter(|file| !held.contains(&key(file))) {
        let elsewhere = || {
            let text = format!(
                "{what} has a file that cannot be looked at from here: {}",
                file.raw_path()
            );
            EngineError::new(ErrorKind::Unsupported, text).hint(super::features::HINT)
        };
        let data = place(table, file.raw_path()).ok_or_else(elsewhere)?;
        let vector = vector_place(table, file).map_err(|()| elsewhere())?;
        let lost = [Some(data), vector].into_iter().flatten();
        gone.extend(lost.filter(|path| !path.is_file()));
    }
    if gone.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = gone
        .iter()
        .take(NAMED)
        .map(|p| p.display().to_string())
        .collect();
    let more = match gone.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(EngineError::new(
        ErrorKind::Missing,
        format!(
            "{what} lost files of its version {}: {}{more}",
            then.number,
            names.join(", ")
        ),
    )
    .hint(
        "somebody vacuumed the table or deleted files: put them back, or leave the table out with \
         `--select`; `unship doctor` says how to keep files long enough",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn file(add: Value) -> File {
        File {
            add: add.as_object().unwrap().clone(),
        }
    }

    fn version(files: Vec<File>) -> Version {
        Version {
            number: 4,
            protocol: json!({}),
            metadata: json!({}),
            files,
        }
    }

    /// The example of the protocol, "Deletion Vector Descriptor Schema".
    #[test]
    fn a_deletion_vector_lies_where_the_protocol_says() {
        let table = Path::new("/t");
        let one = file(json!({"path": "a", "deletionVector": {
            "storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4}}));
        assert_eq!(
            vector_place(table, &one),
            Ok(Some(PathBuf::from(
                "/t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
            )))
        );
        assert_eq!(one.vector_id().unwrap(), "uab^-aqEH.-t@S}K{vb[*k^@4");
        for broken in ["", "short", "é^-aqEH.-t@S}K{vb[*k^é"] {
            let one = file(json!({"path": "a", "deletionVector": {
                "storageType": "u", "pathOrInlineDv": broken}}));
            assert_eq!(vector_place(table, &one), Err(()), "{broken}");
        }
    }

    #[test]
    fn only_what_is_needed_again_is_looked_for_and_what_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path();
        std::fs::create_dir(table.join("p=a b")).unwrap();
        std::fs::write(table.join("p=a b/1.parquet"), "x").unwrap();
        let at = Url::from_file_path(table.join("p=a b/1.parquet")).unwrap();
        let there_is = file(json!({"path": "p=a%20b/1.parquet"}));
        let absolute = file(json!({"path": at.as_str()}));
        let live = file(json!({"path": "2.parquet"}));
        let vacuumed = file(json!({"path": "3.parquet"}));
        let now = version(vec![live.clone()]);
        let check = |files| there("lake.s.t", table, &version(files), &now);
        check(vec![there_is.clone(), absolute, live]).unwrap();
        let lost = check(vec![there_is.clone(), vacuumed]).unwrap_err();
        assert_eq!(lost.kind, ErrorKind::Missing);
        assert!(lost.message.contains("3.parquet"), "{lost}");
        let vector = file(json!({"path": "2.parquet", "deletionVector": {
            "storageType": "p", "pathOrInlineDv": "gone.bin"}}));
        let lost = check(vec![vector]).unwrap_err();
        assert!(lost.message.contains("gone.bin"), "{lost}");
        let far = check(vec![file(json!({"path": "s3://b/4.parquet"}))]).unwrap_err();
        assert_eq!(far.kind, ErrorKind::Unsupported);
    }
}
