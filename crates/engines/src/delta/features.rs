//! What tables can have that a version cannot be brought back with.
//!
//! Bringing back a version puts files into the table again and takes others out of it, and writes no
//! row. Most of what a writer must know concerns rows that it writes. What is not listed here is
//! refused: a feature that nobody has thought through must not be half kept.

use super::reader::Version;
use serde_json::Value;
use std::collections::BTreeSet;

/// Features whose rules a commit of unship's keeps: they concern rows that are written, or what is
/// in a version as a whole (deletion vectors stay with their files), or checkpoints and vacuum, which
/// unship leaves to others.
const KEPT: [&str; 15] = [
    "appendOnly",
    "invariants",
    "checkConstraints",
    "generatedColumns",
    "allowColumnDefaults",
    "changeDataFeed",
    "timestampNtz",
    "deletionVectors",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "checkpointProtection",
    "variantType",
    "variantType-preview",
    "variantShredding",
    "variantShredding-preview",
];

/// Features that do nothing until something else turns them on, which is looked at by itself.
const ASLEEP: [&str; 3] = ["columnMapping", "identityColumns", "inCommitTimestamp"];

/// The newest protocol that is known (protocol, "Protocol Evolution").
const READER: i64 = 3;
const WRITER: i64 = 7;

/// The features that a protocol lists.
fn listed(protocol: &Value) -> BTreeSet<&str> {
    let lists = ["readerFeatures", "writerFeatures"];
    let lists = lists.iter().filter_map(|key| protocol[*key].as_array());
    lists.flatten().filter_map(Value::as_str).collect()
}

fn property<'a>(version: &'a Version, key: &str) -> Option<&'a str> {
    version.metadata["configuration"].get(key)?.as_str()
}

/// Why a table cannot go to or from a version, if so: a clause after its name.
pub fn refused(version: &Version) -> Option<String> {
    let protocol = &version.protocol;
    let number = |key: &str| protocol[key].as_i64().unwrap_or(i64::MAX);
    let (reader, writer) = (number("minReaderVersion"), number("minWriterVersion"));
    if reader > READER || writer > WRITER {
        return Some(format!(
            "has protocol {reader}/{writer}, and {READER}/{WRITER} is the newest that is known here"
        ));
    }
    let listed = listed(protocol);
    let mut unknown = listed
        .iter()
        .filter(|f| !KEPT.contains(f) && !ASLEEP.contains(f));
    if let Some(first) = unknown.next() {
        return Some(format!("has the table feature `{first}`"));
    }
    let is = |key: &str, value: &str| {
        property(version, key).is_some_and(|v| v.eq_ignore_ascii_case(value))
    };
    if property(version, "delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return Some("maps its columns (delta.columnMapping.mode)".to_owned());
    }
    if is("delta.enableInCommitTimestamps", "true") {
        return Some("writes timestamps into commits (delta.enableInCommitTimestamps)".to_owned());
    }
    if is("delta.enableRowTracking", "true") {
        return Some("tracks its rows (delta.enableRowTracking)".to_owned());
    }
    let schema = version.metadata["schemaString"].as_str().unwrap_or("");
    if schema.contains("\"delta.identity.") {
        return Some("has identity columns".to_owned());
    }
    None
}

/// Why a table cannot go from one version back to another, if so: a clause after its name.
pub fn refused_between(now: &Version, then: &Version) -> Option<String> {
    if let Some(why) = refused(now).or_else(|| refused(then)) {
        return Some(why);
    }
    let (now_has, then_had) = (listed(&now.protocol), listed(&then.protocol));
    if let Some(lost) = then_had.difference(&now_has).next() {
        // The features of a protocol below 7 are implied by its number.
        if now.protocol["minWriterVersion"].as_i64() == Some(WRITER) {
            return Some(format!(
                "had the table feature `{lost}`, which was taken out of it since"
            ));
        }
    }
    let number = |of: &Version, key: &str| of.protocol[key].as_i64().unwrap_or(0);
    for key in ["minReaderVersion", "minWriterVersion"] {
        if number(now, key) < number(then, key) {
            return Some("had a newer protocol than it has now".to_owned());
        }
    }
    let append_only =
        property(now, "delta.appendOnly").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    append_only.then(|| "is append-only (delta.appendOnly)".to_owned())
}

/// How a person can go on whose table is refused.
pub const HINT: &str = "`--select` leaves this table out; `unship doctor` lists every such table";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(protocol: Value, configuration: Value) -> Version {
        Version {
            number: 1,
            protocol,
            metadata: json!({ "id": "t", "schemaString": "{}", "configuration": configuration }),
            files: Vec::new(),
        }
    }

    fn features(all: &[&str]) -> Value {
        json!({"minReaderVersion": 3, "minWriterVersion": 7,
               "readerFeatures": [], "writerFeatures": all})
    }

    #[test]
    fn what_is_not_known_to_be_safe_is_refused_by_name() {
        for (protocol, configuration, says) in [
            (features(&["rowTracking"]), json!({}), "`rowTracking`"),
            (features(&["clustering"]), json!({}), "`clustering`"),
            (features(&["catalogManaged"]), json!({}), "`catalogManaged`"),
            (features(&["tomorrow"]), json!({}), "`tomorrow`"),
            (
                features(&["columnMapping"]),
                json!({"delta.columnMapping.mode": "name"}),
                "maps its columns",
            ),
            (
                json!({"minReaderVersion": 2, "minWriterVersion": 5}),
                json!({"delta.columnMapping.mode": "id"}),
                "maps its columns",
            ),
            (
                features(&["inCommitTimestamp"]),
                json!({"delta.enableInCommitTimestamps": "true"}),
                "timestamps into commits",
            ),
            (
                json!({"minReaderVersion": 4, "minWriterVersion": 8}),
                json!({}),
                "protocol 4/8",
            ),
            (json!({}), json!({}), "is the newest that is known"),
        ] {
            let why = refused(&version(protocol.clone(), configuration)).unwrap();
            assert!(why.contains(says), "{protocol}: {why}");
        }
        let mut counted = version(features(&["identityColumns"]), json!({}));
        counted.metadata["schemaString"] = r#"{"delta.identity.start":1}"#.into();
        assert_eq!(refused(&counted).unwrap(), "has identity columns");
    }

    #[test]
    fn what_concerns_rows_that_are_written_is_no_obstacle() {
        for protocol in [
            json!({"minReaderVersion": 1, "minWriterVersion": 2}),
            json!({"minReaderVersion": 2, "minWriterVersion": 6}),
            features(&KEPT),
            features(&ASLEEP),
        ] {
            let version = version(protocol, json!({"delta.columnMapping.mode": "none"}));
            assert_eq!(refused_between(&version, &version), None);
        }
    }

    #[test]
    fn what_the_table_could_do_then_it_must_be_able_to_do_now() {
        let plain = version(features(&["appendOnly"]), json!({}));
        let more = version(features(&["appendOnly", "deletionVectors"]), json!({}));
        assert_eq!(refused_between(&more, &plain), None);
        let why = refused_between(&plain, &more).unwrap();
        assert!(why.contains("`deletionVectors`"), "{why}");
        let old = version(
            json!({"minReaderVersion": 1, "minWriterVersion": 2}),
            json!({}),
        );
        assert!(refused_between(&old, &more).is_some());
        assert_eq!(refused_between(&more, &old), None);
        let only = version(
            features(&["appendOnly"]),
            json!({"delta.appendOnly": "true"}),
        );
        assert!(
            refused_between(&only, &only)
                .unwrap()
                .contains("append-only")
        );
    }
}
