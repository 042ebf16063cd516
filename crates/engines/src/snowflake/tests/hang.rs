//! What hangs on tables and schemas, as the catalog tells it: found, and refused or named.

use super::*;
use crate::snowflake::{Level, hang, sql};

#[test]
fn what_hangs_on_a_table_is_found() {
    let double = Double::new(|asked| {
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        let row = |columns: &[(&str, &str)], cells: &[&str]| {
            let cells: Vec<Option<&str>> = cells.iter().map(|c| Some(*c)).collect();
            Say::rows(columns, &[&cells])
        };
        let named = [("name", "text"), ("schema_name", "text")];
        match statement {
            s if s.starts_with("SHOW STREAMS") => {
                let columns = [
                    ("database_name", "text"),
                    named[0],
                    named[1],
                    ("table_name", "text"),
                ];
                let rows = [
                    ["DB", "CHANGES", "OPS", "DB.MARTS.ORDERS"],
                    ["LAKE", "THERE", "OPS", "DB.MARTS.ORDERS"],
                    ["LAKE", "ITS_OWN", "OPS", "LAKE.MARTS.ORDERS"],
                ]
                .map(|row| row.map(Some));
                let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| row.as_slice()).collect();
                Say::rows(&columns, &rows)
            }
            s if s.starts_with("SHOW PIPES") => row(
                &[named[0], named[1], ("definition", "text")],
                &["LOAD", "MARTS", "copy into orders from @stage"],
            ),
            s if s.starts_with("SHOW DYNAMIC") => row(
                &[named[0], named[1], ("text", "text")],
                &[
                    "HOURLY",
                    "OPS",
                    "create dynamic table x as select * from db.marts.\"ORDERS\"",
                ],
            ),
            s if s.starts_with("SHOW MATERIALIZED") => row(
                &[named[0], named[1], ("text", "text")],
                &[
                    "TOTALS",
                    "OPS",
                    "create materialized view x as select * from db.other.orders",
                ],
            ),
            _ => Say::failed("0", statement),
        }
    });
    let engine = engine(&double);
    let place = Place::new(DATABASE, "MARTS", "ORDERS");
    let found = hang::on(&engine.session, &[place.clone()].into()).unwrap();
    let said = found[&place].join("\n");
    for expected in [
        "the stream OPS.CHANGES",
        "the stream LAKE.OPS.THERE",
        "the pipe MARTS.LOAD",
        "the dynamic table OPS.HOURLY",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    for of_another_table in ["TOTALS", "ITS_OWN"] {
        assert!(!said.contains(of_another_table), "{said}");
    }
}

#[test]
fn protection_is_read_with_its_columns() {
    let double = Double::new(|asked| {
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        if statement.contains("POLICY_REFERENCES") {
            let columns = [
                "POLICY_DB",
                "POLICY_SCHEMA",
                "POLICY_NAME",
                "POLICY_KIND",
                "REF_COLUMN_NAME",
            ]
            .map(|name| (name, "text"));
            return Say::rows(
                &columns,
                &[
                    &[
                        Some("G"),
                        Some("P"),
                        Some("MASK"),
                        Some("MASKING_POLICY"),
                        Some("SSN"),
                    ],
                    &[
                        Some("G"),
                        Some("P"),
                        Some("ROWS"),
                        Some("ROW_ACCESS_POLICY"),
                        None,
                    ],
                ],
            );
        }
        let columns = [
            "TAG_DATABASE",
            "TAG_SCHEMA",
            "TAG_NAME",
            "TAG_VALUE",
            "LEVEL",
            "COLUMN_NAME",
        ]
        .map(|name| (name, "text"));
        Say::rows(
            &columns,
            &[
                &[
                    Some("G"),
                    Some("P"),
                    Some("PII"),
                    Some("yes"),
                    Some("COLUMN"),
                    Some("SSN"),
                ],
                &[
                    Some("G"),
                    Some("P"),
                    Some("TEAM"),
                    Some("bi"),
                    Some("SCHEMA"),
                    None,
                ],
            ],
        )
    });
    let engine = engine(&double);
    let place = Place::new(DATABASE, "MARTS", "ORDERS");
    let found = hang::protection(&engine.session, &place, false).unwrap();
    let said: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        said,
        [
            "the policy G.P.MASK of column SSN",
            "the policy G.P.ROWS",
            "the tag G.P.PII=yes of SSN"
        ]
    );
}

/// The world, with an answer of one's own to what contains some words.
fn surveyed(
    level: Level,
    schema: usize,
    answer: impl Fn(&str) -> Option<Say> + Send + 'static,
) -> (
    Survey,
    Result<unship_core::engine::Steps, unship_core::engine::EngineError>,
) {
    let mut world = World::begun();
    for n in 0..SCHEMAS {
        let staging = format!("UNSHIP_BUILD_{}", marts(n));
        world.views.insert((staging, "UNSHIP_BUILD".to_owned()));
    }
    let double = Double::new(move |asked| {
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        answer(statement).unwrap_or_else(|| world.run(statement))
    });
    let of = name(&marts(schema));
    let engine = engine(&double);
    let survey = crate::snowflake::survey::survey(
        &engine.session,
        ReleaseId(2),
        &[of.clone()].into(),
        level,
    )
    .unwrap();
    let request = PublishRequest {
        release: ReleaseId(2),
        live: ReleaseId(1),
        live_map: [(of.clone(), version(1))].into(),
        changes: [(of, version(2))].into(),
        carry: unship_core::engine::Carry::default(),
    };
    let steps = plan::publish(&survey, &request);
    (survey, steps)
}

/// What a table of the catalog is, by its type and whether it is called Iceberg's or dynamic.
fn tables_of(sort: &'static str, iceberg: bool, dynamic: bool) -> impl Fn(&str) -> Option<Say> {
    move |statement| {
        if !statement.contains("INFORMATION_SCHEMA.TABLES") {
            return None;
        }
        let columns: Vec<(String, &str)> = (0..12).map(|n| (format!("C{n}"), "text")).collect();
        let columns: Vec<(&str, &str)> = columns.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        let yes = |is| Some(if is { "YES" } else { "NO" });
        let row = |schema: &'static str, sort, created, special: bool| {
            let mut row = vec![None; 12];
            row[..8].copy_from_slice(&[
                Some(schema),
                Some("ORDERS"),
                Some(sort),
                Some("YES"),
                yes(special && iceberg),
                yes(special && dynamic),
                Some("LOADER"),
                Some(created),
            ]);
            row
        };
        let rows = [
            row("MARTS0", sort, "t1", true),
            row("UNSHIP_BUILD_MARTS0", "BASE TABLE", "t2", false),
        ];
        let rows: Vec<&[Option<&str>]> = rows.iter().map(Vec::as_slice).collect();
        Some(Say::rows(&columns, &rows))
    }
}

/// Tables that cannot be exchanged are found in production and refused, at either level.
#[test]
fn a_table_of_another_sort_is_refused_by_name() {
    for level in [Level::Table, Level::Schema] {
        for (sort, iceberg, dynamic, said) in [
            ("EXTERNAL TABLE", false, false, "it is an external table"),
            ("BASE TABLE", true, false, "it is an Iceberg table"),
            ("BASE TABLE", false, true, "it is a dynamic table"),
            ("EVENT TABLE", false, false, "it is an event table"),
            (
                "MATERIALIZED VIEW",
                false,
                false,
                "it is a materialized view",
            ),
            ("TEMPORARY TABLE", false, false, "it is a temporary table"),
            (
                "HYBRID TABLE",
                false,
                false,
                "it is a table of an unknown sort",
            ),
        ] {
            let (_, steps) = surveyed(level, 0, tables_of(sort, iceberg, dynamic));
            let error = steps.unwrap_err();
            let line = format!("DB.MARTS0.ORDERS: {said}");
            assert!(error.message.contains(&line), "{level:?} {sort}: {error}");
        }
    }
}

/// Everything that would go along with a schema keeps it from being exchanged whole, each sort by
/// name: streams, tasks, pipes, internal stages, sequences and the others.
#[test]
fn what_would_go_along_with_a_schema_keeps_it_from_being_exchanged() {
    for (kind, word) in sql::KINDS {
        let (_, steps) = surveyed(Level::Schema, 0, move |statement| {
            if statement.starts_with("SHOW SCHEMAS") {
                let rows = ["MARTS0", "UNSHIP_BUILD_MARTS0"].map(|s| [Some(s), Some("LOADER")]);
                let columns = [("name", "text"), ("owner", "text")];
                return Some(Say::rows(&columns, &[&rows[0], &rows[1]]));
            }
            let there = ["MARTS0", "THING"].map(Some);
            let columns = [("schema_name", "text"), ("name", "text")];
            let asked = statement == format!("SHOW {kind} IN DATABASE \"DB\"");
            asked.then(|| Say::rows(&columns, &[&there]))
        });
        let notes = steps.unwrap().notes.join("\n");
        let line = format!(
            "the schema MARTS0 is exchanged table by table: the {word} THING is in it, and would go \
             along"
        );
        assert!(notes.contains(&line), "{kind}: {notes}");
    }
}

/// A column that takes its numbers from a sequence in staging would go on taking them there.
#[test]
fn a_sequence_in_staging_is_refused_by_name() {
    let (_, steps) = surveyed(Level::Table, 0, |statement| {
        if !statement.contains("INFORMATION_SCHEMA.COLUMNS") {
            return None;
        }
        let columns: Vec<(String, &str)> = (0..12).map(|n| (format!("C{n}"), "text")).collect();
        let columns: Vec<(&str, &str)> = columns.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        let mut row = vec![None; 12];
        row[..4].copy_from_slice(&["UNSHIP_BUILD_MARTS0", "ORDERS", "ID", "NUMBER"].map(Some));
        row[8] = Some("UNSHIP_BUILD_MARTS0.IDS.NEXTVAL");
        Some(Say::rows(&columns, &[row.as_slice()]))
    });
    let error = steps.unwrap_err();
    assert!(
        error
            .message
            .contains("DB.MARTS0.ORDERS: its column \"ID\" NUMBER"),
        "{error}"
    );
    assert!(
        error.message.contains("takes numbers from a sequence"),
        "{error}"
    );
}
