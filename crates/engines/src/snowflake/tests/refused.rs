//! What a plan is refused for, what it does before and after an exchange, and what hangs on tables.

use super::*;
use crate::snowflake::access;
use crate::snowflake::sql::{self, Grant, Grantee};
use crate::snowflake::survey::View;
use unship_core::engine::RestoreRequest;

/// A survey of one table in production and one built, changed by `with`; what the plan is refused
/// for.
fn refused(with: impl FnOnce(&mut There, &mut There)) -> String {
    let (mut live, mut built) = (there("MARTS", "t1"), there("UNSHIP_BUILD_MARTS", "t2"));
    with(&mut live, &mut built);
    match one(live, built) {
        Err(error) => error.message,
        Ok(steps) => panic!("it was planned: {:?}", steps.steps),
    }
}

fn one(
    live: There,
    built: There,
) -> Result<unship_core::engine::Steps, unship_core::engine::EngineError> {
    let survey = Survey {
        role: "LOADER".to_owned(),
        schemas: ["MARTS", "UNSHIP_BUILD_MARTS"].map(str::to_owned).into(),
        there: vec![live, built],
        ..Survey::default()
    };
    let request = PublishRequest {
        release: ReleaseId(2),
        live: ReleaseId(1),
        live_map: [(name("MARTS"), version(1))].into(),
        changes: [(name("MARTS"), version(2))].into(),
        carry: unship_core::engine::Carry::default(),
    };
    plan::publish(&survey, &request)
}

#[test]
fn what_would_be_lost_is_refused_by_name() {
    let cases: Vec<(String, &str)> = vec![
        (
            refused(|live, _| live.owner = Some("SOMEBODY".to_owned())),
            "it belongs to the role SOMEBODY in production, and to LOADER afterwards",
        ),
        (
            refused(|live, _| {
                live.protection
                    .insert("the policy G.P.MASK of column SSN".to_owned());
            }),
            "the policy G.P.MASK of column SSN would not be on what takes its place",
        ),
        (
            refused(|live, _| {
                live.access
                    .others
                    .push("SELECT of share PARTNER".to_owned())
            }),
            "SELECT of share PARTNER cannot be given again by unship",
        ),
        (
            refused(|live, _| live.table.as_mut().unwrap().transient = false),
            "it is permanent in production and transient afterwards",
        ),
        (
            refused(|live, _| live.table.as_mut().unwrap().created = "t2".to_owned()),
            "made in the same instant",
        ),
        (
            refused(|_, built| {
                built.table = None;
                built.protection.insert("the policy G.P.ROWS".to_owned());
                built.view = Some(View {
                    body: Some("SELECT 1".to_owned()),
                    secure: false,
                    comment: None,
                    columns: Vec::new(),
                    hash: "abc".to_owned(),
                    raw: None,
                    made: String::new(),
                });
            }),
            "the policy G.P.ROWS would not be on the view that is made anew",
        ),
        (
            refused(|live, _| live.refusals.push("the stream S.X reads it".to_owned())),
            "ORDERS: the stream S.X reads it",
        ),
        (
            refused(|_, built| built.refusals.push("it is an Iceberg table".to_owned())),
            "ORDERS: it is an Iceberg table",
        ),
    ];
    for (message, expected) in cases {
        assert!(
            message.contains(expected),
            "{message}\nexpected: {expected}"
        );
        assert!(message.contains("DB.MARTS.ORDERS"), "{message}");
    }
}

#[test]
fn privileges_are_given_before_the_exchange() {
    let (mut live, built) = (there("MARTS", "t1"), there("UNSHIP_BUILD_MARTS", "t2"));
    let reader = Grant::new("SELECT", Grantee::Role("READER".to_owned()), false).unwrap();
    live.access.grants.insert(reader);
    let steps = one(live, built).unwrap().steps;
    let statements: Vec<_> = steps.iter().flat_map(|step| &step.statements).collect();
    let place = |part: &str| statements.iter().position(|s| s.contains(part)).unwrap();
    let grant = "GRANT SELECT ON TABLE \"DB\".\"UNSHIP_BUILD_MARTS\".\"ORDERS\" TO ROLE \"READER\"";
    assert!(place(grant) < place("SWAP WITH"), "{statements:?}");
    assert!(place("CREATE SCHEMA IF NOT EXISTS \"DB\".\"UNSHIP_R1_MARTS\"") < place("SWAP WITH"));
    assert!(place("SWAP WITH") < place("RENAME TO \"DB\".\"UNSHIP_R1_MARTS\".\"ORDERS\""));
}

/// A view is put in place after the tables that it reads, and says production's names.
#[test]
fn views_come_after_tables_and_a_rollback_takes_rights_back() {
    let mut view = there("UNSHIP_R1_MARTS", "t9");
    view.at.name = "REPORT".to_owned();
    view.table = None;
    view.view = Some(View {
        body: Some("SELECT * FROM DB.MARTS.ORDERS".to_owned()),
        secure: true,
        comment: None,
        columns: vec!["id".to_owned()],
        hash: "abc".to_owned(),
        raw: None,
        made: String::new(),
    });
    let (live, mut old) = (there("MARTS", "t1"), there("UNSHIP_R1_MARTS", "t2"));
    let gone = Grant::new("SELECT", Grantee::Role("LEFT".to_owned()), false).unwrap();
    old.access.grants.insert(gone);
    let survey = Survey {
        role: "LOADER".to_owned(),
        schemas: ["MARTS", "UNSHIP_R1_MARTS"].map(str::to_owned).into(),
        there: vec![view, live, old],
        ..Survey::default()
    };
    let report = RelationName::new(DATABASE, "MARTS", "REPORT");
    let request = RestoreRequest {
        writer: None,
        built_in_order: Vec::new(),
        spells: BTreeMap::new(),
        release: ReleaseId(3),
        live: ReleaseId(2),
        live_map: [(name("MARTS"), version(2))].into(),
        bring: [(report, version(1)), (name("MARTS"), version(1))].into(),
        remove: BTreeSet::new(),
        points: Vec::new(),
        pinned: BTreeSet::new(),
        keep: BTreeMap::new(),
    };
    let steps = plan::restore(&survey, &request).unwrap().steps;
    let statements: Vec<_> = steps.iter().flat_map(|step| &step.statements).collect();
    let place = |part: &str| statements.iter().position(|s| s.contains(part)).unwrap();
    assert!(
        place("SWAP WITH") < place("CREATE OR REPLACE SECURE VIEW \"DB\".\"MARTS\".\"REPORT\"")
    );
    assert!(place("REVOKE SELECT ON TABLE \"DB\".\"UNSHIP_R1_MARTS\"") < place("SWAP WITH"));
    // What was R2's goes to R2's schema, not to where R1's came from.
    assert!(place("RENAME TO \"DB\".\"UNSHIP_R2_MARTS\".\"ORDERS\"") > place("SWAP WITH"));
    for step in &steps {
        assert!(SfAction::of(&step.action).is_ok(), "{step:?}");
    }
}

/// A role that would lose a privilege after all stops the exchange, and so does a write that came
/// after the last look.
#[test]
fn an_exchange_looks_once_more() {
    let live = Place::new(DATABASE, "MARTS", "ORDERS");
    let other = Place::new(DATABASE, "UNSHIP_BUILD_MARTS", "ORDERS");
    let swap = |token: Option<&str>, grants: &[Grant]| {
        let action = SfAction::Swap {
            live: live.clone(),
            other: other.clone(),
            token: token.map(str::to_owned),
            rows: None,
            access: access::Access {
                grants: grants.iter().cloned().collect(),
                others: Vec::new(),
            },
        };
        let mut plan = five();
        let mut step = plan.steps.remove(0);
        step.action = serde_json::from_value(serde_json::to_value(&action).unwrap()).unwrap();
        let double = Double::new(|asked| match asked.body["statement"].as_str() {
            Some(s) if s.contains("LAST_CHANGE") => Say::rows(&[("T0", "fixed")], &[&[Some("8")]]),
            Some(s) if s.starts_with("SHOW GRANTS") => Say::rows(
                &[
                    ("privilege", "text"),
                    ("granted_to", "text"),
                    ("grantee_name", "text"),
                    ("grant_option", "text"),
                ],
                &[&[
                    Some("OWNERSHIP"),
                    Some("ROLE"),
                    Some("LOADER"),
                    Some("true"),
                ]],
            ),
            Some(s) if s.contains("QUERY_HISTORY") => Say::rows(&[("QUERY_ID", "text")], &[]),
            _ => Say::failed("0", "it must not come to this"),
        });
        let error = engine(&double)
            .apply(&step, None, &|_, _, _| {})
            .unwrap_err();
        assert!(
            double
                .asked()
                .iter()
                .all(|a| !a.body.to_string().contains("SWAP WITH"))
        );
        error.message
    };
    let message = swap(Some("7"), &[]);
    assert_eq!(
        message,
        "others wrote to MARTS.ORDERS after it was looked at"
    );
    let reader = Grant::new("SELECT", Grantee::Role("READER".to_owned()), false).unwrap();
    let message = swap(None, &[reader]);
    assert_eq!(message, "ROLE \"READER\" would lose SELECT on MARTS.ORDERS");
    assert!(sql::swap(&live, &other).contains("SWAP WITH"));
}

/// Each right that the role lacks is named, with the statement that gives it; what it has from
/// another role is not.
#[test]
fn the_doctor_names_each_missing_right_and_the_grant_that_gives_it() {
    let double = Double::new(|asked| {
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        let columns = ["privilege", "granted_on", "name"].map(|name| (name, "text"));
        match statement {
            s if s.starts_with("SELECT CURRENT_ROLE") => {
                let columns = ["R", "V", "W"].map(|name| (name, "text"));
                Say::rows(&columns, &[&[Some("LOADER"), Some("9"), Some("WH")]])
            }
            "SHOW GRANTS TO ROLE \"LOADER\"" => Say::rows(
                &columns,
                &[
                    &[Some("USAGE"), Some("DATABASE"), Some("DB")],
                    &[Some("USAGE"), Some("ROLE"), Some("BUILDER")],
                ],
            ),
            "SHOW GRANTS TO ROLE \"BUILDER\"" => Say::rows(
                &columns,
                &[
                    &[Some("USAGE"), Some("ROLE"), Some("LOADER")],
                    &[Some("USAGE"), Some("SCHEMA"), Some("DB.MARTS0")],
                    &[Some("CREATE VIEW"), Some("SCHEMA"), Some("DB.MARTS0")],
                ],
            ),
            s => {
                let mut world = World::default();
                world.schemas.insert("MARTS0".to_owned());
                world.tables.insert(at("MARTS0"), "t1".to_owned());
                world.run(s)
            }
        }
    });
    let mut engine = engine(&double).at_level(crate::snowflake::Level::Schema);
    let said: Vec<String> = engine
        .doctor()
        .into_iter()
        .filter_map(|line| line.hint)
        .filter(|hint| hint.starts_with("GRANT"))
        .collect();
    assert_eq!(
        said,
        [
            "GRANT CREATE SCHEMA ON DATABASE \"DB\" TO ROLE \"LOADER\"",
            "GRANT USAGE ON WAREHOUSE \"WH\" TO ROLE \"LOADER\"",
            "GRANT CREATE TABLE ON SCHEMA \"DB\".\"MARTS0\" TO ROLE \"LOADER\"",
            "GRANT OWNERSHIP ON SCHEMA \"DB\".\"MARTS0\" TO ROLE \"LOADER\" COPY CURRENT GRANTS",
            "GRANT OWNERSHIP ON TABLE \"DB\".\"MARTS0\".\"ORDERS\" TO ROLE \"LOADER\" COPY CURRENT GRANTS",
        ]
    );
}

/// A table that is new in a schema with future grants was not made there.
#[test]
fn future_grants_reach_a_table_that_arrives() {
    let built = there("UNSHIP_BUILD_MARTS", "t2");
    let grant = Grant::new("SELECT", Grantee::Role("BI".to_owned()), false).unwrap();
    let future = crate::snowflake::inside::Future { view: false, grant };
    let survey = Survey {
        role: "LOADER".to_owned(),
        schemas: ["MARTS", "UNSHIP_BUILD_MARTS"].map(str::to_owned).into(),
        there: vec![built],
        future: [("MARTS".to_owned(), [future].into())].into(),
        ..Survey::default()
    };
    let request = PublishRequest {
        release: ReleaseId(2),
        live: ReleaseId(1),
        live_map: BTreeMap::new(),
        changes: [(name("MARTS"), version(2))].into(),
        carry: unship_core::engine::Carry::default(),
    };
    let steps = plan::publish(&survey, &request).unwrap().steps;
    let statements: Vec<_> = steps.iter().flat_map(|step| &step.statements).collect();
    let place = |part: &str| statements.iter().position(|s| s.contains(part)).unwrap();
    let grant = "GRANT SELECT ON TABLE \"DB\".\"UNSHIP_BUILD_MARTS\".\"ORDERS\" TO ROLE \"BI\"";
    assert!(place(grant) < place("RENAME TO"), "{statements:?}");
}
