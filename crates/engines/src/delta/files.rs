//! The files that a version needs, and which of them are gone.

use super::dir::{Dir, Place};
use super::reader::{File, Version};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind};

/// How many characters of a deletion vector's place are a UUID in base 85.
const ENCODED_UUID: usize = 20;

/// How many files are named that are gone.
const NAMED: usize = 3;

/// The file of a deletion vector (protocol, "Deletion Vector Descriptor Schema"): a UUID in base 85
/// after an optional directory, or a path. `Ok(None)` for one that stands in the log itself.
fn vector_place(table: &Dir, file: &File) -> Result<Option<Place>, ()> {
    let Some(vector) = file.deletion_vector() else {
        return Ok(None);
    };
    let at = vector["pathOrInlineDv"].as_str().ok_or(())?;
    match vector["storageType"].as_str() {
        Some("i") => Ok(None),
        Some("p") => table.place(at).map(Some).ok_or(()),
        Some("u") => {
            let split = at.len().checked_sub(ENCODED_UUID).ok_or(())?;
            let (prefix, encoded) = at.split_at_checked(split).ok_or(())?;
            let bytes = z85::decode(encoded).map_err(drop)?;
            let uuid = uuid::Uuid::from_slice(&bytes).map_err(drop)?;
            let name = match prefix {
                "" => format!("deletion_vector_{uuid}.bin"),
                prefix => format!("{prefix}/deletion_vector_{uuid}.bin"),
            };
            table.below(&name).map(Some).ok_or(())
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
pub fn there(what: &str, table: &Dir, then: &Version, now: &Version) -> Result<(), EngineError> {
    let held = keys(now);
    let mut needed = Vec::new();
    for file in then.files.iter().filter(|file| !held.contains(&key(file))) {
        let elsewhere = || {
            let text = format!(
                "{what} has a file that cannot be looked at from here: {}",
                file.raw_path()
            );
            EngineError::new(ErrorKind::Unsupported, text).hint(super::features::HINT)
        };
        let data = table.place(file.raw_path()).ok_or_else(elsewhere)?;
        let vector = vector_place(table, file).map_err(|()| elsewhere())?;
        needed.extend([Some(data), vector].into_iter().flatten());
    }
    let gone = table.gone(needed)?;
    if gone.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = gone.iter().take(NAMED).map(ToString::to_string).collect();
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
    use url::Url;

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
        let table = &Dir::Disk("/t".into());
        let one = file(json!({"path": "a", "deletionVector": {
            "storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4}}));
        assert_eq!(
            vector_place(table, &one),
            Ok(Some(Place::Disk(
                "/t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin".into()
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
        let dir = Dir::Disk(table.to_owned());
        let check = |files| there("lake.s.t", &dir, &version(files), &now);
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
