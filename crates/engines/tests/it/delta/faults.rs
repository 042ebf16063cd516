//! What can go wrong with tables: each is told by name, and nothing changes.

use super::suite::{Lake, name};
use super::table::uuid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use unship_core::engine::{Engine, EngineError, ErrorKind, Level, Place};
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, OperateError};
use unship_core::testing::world::{Harness, Script, World};
use unship_core::testing::{Table, Write};

fn table(rows: &[[i64; 2]]) -> Table {
    Table::new(&["id", "value"], rows.iter().map(|row| row.to_vec()))
}

fn write(of: &str, rows: &[[i64; 2]]) -> Write {
    Write::Replace(name(of), table(rows))
}

/// `R1` made `orders` and `customers`, `R2` changed both.
fn told() -> (World, Lake) {
    told_in(false)
}

/// The same, in an object store.
fn told_in(stored: bool) -> (World, Lake) {
    let lake = Lake::new(false, stored);
    // The same directory, seen from outside of the world.
    let outside = Lake::at(&lake);
    let mut world = World::new(Box::new(lake)).unwrap();
    for value in [1, 2] {
        let writes = [
            write("orders", &[[1, value]]),
            write("customers", &[[1, value]]),
        ];
        world.run(&Script::good(writes)).unwrap();
    }
    (world, outside)
}

fn back(world: &mut World) -> Result<(), OperateError> {
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    world.back(&ask, false).map(drop)
}

/// Refused with this in its words, and nothing was changed.
fn refused(world: &mut World, says: &str) {
    let before = world.production();
    let error = back(world).unwrap_err();
    let words = format!("{error:?}");
    assert!(words.contains(says), "{says}: {words}");
    assert_eq!(world.production(), before);
}

/// Changes a table's newest commit, as another writer would have written it.
fn edit(lake: &Lake, of: &str, actions: &[Value]) {
    lake.table(of).commit("SET", actions);
}

#[test]
fn files_that_were_vacuumed_are_named_before_anything_changes() {
    let (mut world, lake) = told();
    lake.table("orders").vacuum();
    refused(&mut world, "lost files of its version 0");
    let found = world.session(|s| s.engine.fsck(&|_, _, _| {})).unwrap();
    let bad: Vec<_> = found.iter().filter(|d| d.level == Level::Error).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(bad[0].subject.contains("R1") && bad[0].finding.contains("s/orders/part-"));
    // What is not lost goes back.
    let some = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: Some(("customers".to_owned(), [name("customers")].into())),
    };
    world.back(&some, false).unwrap();
    assert_eq!(world.production()[&name("customers")], table(&[[1, 1]]));
}

#[test]
fn a_log_that_was_cleaned_up_is_named_before_anything_changes() {
    let (mut world, lake) = told();
    fs::remove_file(lake.table("orders").commit_file(0)).unwrap();
    let error = back(&mut world).unwrap_err();
    let OperateError::Engine(error) = error else {
        panic!("{error:?}");
    };
    assert!(error.message.contains("lake.s.orders"), "{error}");
}

#[test]
fn a_table_that_was_made_anew_is_no_table_to_go_back_in() {
    let (mut world, lake) = told();
    let orders = lake.table("orders");
    fs::remove_dir_all(&orders.0).unwrap();
    orders.replace(&table(&[[7, 7]]));
    let error = world.back(
        &Ask::Rollback {
            to: Some(ReleaseId(1)),
            select: None,
        },
        true,
    );
    let words = format!("{:?}", error.unwrap_err());
    assert!(words.contains("its directory was deleted"), "{words}");
    assert_eq!(world.production()[&name("orders")], table(&[[7, 7]]));
}

/// Somebody commits between the plan and its last step: the tables before go forth again.
#[test]
fn a_commit_in_between_takes_all_of_it_back() {
    let (mut world, lake) = told();
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let before = world.production();
    let plan = world.session(|s| s.plan(&ask)).unwrap();
    let mut engine = lake.engine();
    let steps: Vec<_> = plan.steps.iter().filter(|s| s.production).collect();
    assert_eq!(steps.len(), 2);
    engine.apply(steps[0], None, &|_, _, _| {}).unwrap();
    lake.table("orders").append(&[vec![9, 9]]);
    let late = engine.apply(steps[1], None, &|_, _, _| {}).unwrap_err();
    assert_eq!(late.kind, ErrorKind::Conflict, "{late}");
    assert!(late.message.contains("lake.s.orders"), "{late}");
    engine.revert(steps[0], &|_, _, _| {}).unwrap();
    for fact in &steps[0].guard {
        assert_eq!(engine.fact(&fact.subject).unwrap(), fact.is);
    }
    let mut expected = before;
    expected.insert(name("orders"), table(&[[1, 2], [9, 9]]));
    assert_eq!(world.production(), expected);
}

/// A try that was taken back leaves a restore point behind, and the next one is no worse for it.
#[test]
fn what_an_earlier_try_wrote_down_is_not_written_again() {
    let (mut world, lake) = told();
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = world.session(|s| s.plan(&ask)).unwrap();
    let first = &plan.steps[0];
    assert!(!first.production);
    lake.engine().apply(first, None, &|_, _, _| {}).unwrap();
    let again = world.session(|s| s.plan(&ask)).unwrap();
    assert!(again.steps.iter().all(|step| step.production));
    world.back(&ask, false).unwrap();
    assert_eq!(world.production()[&name("orders")], table(&[[1, 1]]));
    world.back(&Ask::Undo, false).unwrap();
    assert_eq!(world.production()[&name("orders")], table(&[[1, 2]]));
}

/// The answer of a commit is lost: the log itself says that it happened.
#[test]
fn a_commit_is_known_by_what_it_bears() {
    let (mut world, lake) = told();
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = world.session(|s| s.plan(&ask)).unwrap();
    let step = plan.steps.iter().find(|s| s.production).unwrap();
    let says = |engine: &mut dyn Engine| -> Vec<bool> {
        [&step.guard, &step.expect]
            .map(|facts| {
                facts
                    .iter()
                    .all(|f| engine.fact(&f.subject).unwrap() == f.is)
            })
            .to_vec()
    };
    let mut engine = lake.engine();
    assert_eq!(says(&mut *engine), [true, false]);
    engine.apply(step, None, &|_, _, _| {}).unwrap();
    // Whatever others do afterwards.
    lake.table("customers").append(&[vec![9, 9]]);
    assert_eq!(says(&mut *lake.engine()), [false, true]);
    let log = lake.table("customers");
    let info = log.actions(log.latest().unwrap() - 1)[0]["commitInfo"].clone();
    assert_eq!(info["operation"], "RESTORE");
    assert_eq!(info["userMetadata"], "unship R3");
    assert_eq!(info["operationParameters"]["version"], "0");
}

/// A restore that leaves out deletion vectors reports success, and deleted rows are gone or back
/// again (delta-rs#4613).
#[test]
fn a_deletion_vector_comes_and_goes_with_its_file() {
    let (mut world, lake) = told();
    let orders = lake.table("orders");
    edit(
        &lake,
        "orders",
        &[
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}}),
        ],
    );
    let deletes = |vector: Value| {
        let file = orders
            .at(orders.latest().unwrap())
            .files
            .into_values()
            .next()
            .unwrap();
        let (mut gone, mut come) = (file.clone(), file);
        gone.as_object_mut().unwrap().remove("stats");
        come["deletionVector"] = vector;
        let writes = [json!({ "remove": gone }), json!({ "add": come })];
        orders.commit("DELETE", &writes);
    };
    let vector = |place: &str, cardinality: i64| {
        json!({"storageType": "i", "pathOrInlineDv": place, "sizeInBytes": 4,
            "cardinality": cardinality})
    };
    // Rows of one and the same file are deleted, twice.
    let stages = [vector("aaaaa", 0), vector("bbbbb", 1)];
    let versions = |file: &Value| file["deletionVector"]["pathOrInlineDv"].clone();
    let now = |lake: &Lake| {
        let log = lake.table("orders");
        let files = log.at(log.latest().unwrap()).files;
        assert_eq!(files.len(), 1, "a file is in a version once");
        versions(files.values().next().unwrap())
    };
    for stage in &stages {
        deletes(stage.clone());
        world
            .run(&Script::good([write("customers", &[[1, 5]])]))
            .unwrap();
    }
    let (plain, first, second) = (json!(null), json!("aaaaa"), json!("bbbbb"));
    assert_eq!(now(&lake), second);
    let to = |world: &mut World, release: u64| {
        let ask = Ask::Rollback {
            to: Some(ReleaseId(release)),
            select: None,
        };
        world.back(&ask, true).unwrap();
    };
    to(&mut world, 1);
    assert_eq!(now(&lake), plain);
    to(&mut world, 4);
    assert_eq!(now(&lake), second);
    to(&mut world, 2);
    assert_eq!(now(&lake), first);
    let live = world.live().unwrap().release;
    let proof = world.session(|s| s.verify(live)).unwrap();
    assert!(proof.differences.is_empty(), "{proof:?}");
}

#[test]
fn a_table_that_could_not_be_taken_back_is_not_guarded() {
    let (mut world, lake) = told();
    edit(
        &lake,
        "orders",
        &[
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": [], "writerFeatures": ["rowTracking", "domainMetadata"]}}),
        ],
    );
    refused(
        &mut world,
        "lake.s.orders has the table feature `domainMetadata`",
    );
    let run = world.run(&Script::good([write("customers", &[[1, 3]])]));
    let words = format!("{:?}", run.unwrap_err());
    assert!(
        words.contains("could not take back what a job does"),
        "{words}"
    );
    assert_eq!(world.production()[&name("customers")], table(&[[1, 2]]));
    let found = world.session(|s| s.engine.doctor());
    assert!(
        found.iter().any(|d| d.finding.contains("domainMetadata")),
        "{found:?}"
    );
}

#[test]
fn an_append_only_table_stays_as_it_is() {
    let (mut world, lake) = told();
    let log = lake.table("orders");
    let mut metadata = log.at(log.latest().unwrap()).metadata;
    metadata["configuration"] = json!({"delta.appendOnly": "true"});
    edit(&lake, "orders", &[json!({ "metaData": metadata })]);
    let before = world.production();
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let words = format!("{:?}", world.back(&ask, true).unwrap_err());
    assert!(words.contains("is append-only"), "{words}");
    assert_eq!(world.production(), before);
}

/// Spark gives a table another identity with `CREATE OR REPLACE TABLE`, which is how dbt builds one:
/// the log goes on, and every version that it has can come back.
#[test]
fn a_table_that_was_replaced_goes_back_in_its_own_log() {
    for stored in [false, true] {
        let (mut world, lake) = told_in(stored);
        let orders = lake.table("orders");
        let was = orders.at(orders.latest().unwrap()).metadata;
        let good: BTreeMap<_, _> = ["orders", "customers"]
            .map(|of| (name(of), table(&[[1, 1]])))
            .into();
        let replaces = |value: i64| {
            let mut metadata = was.clone();
            metadata["id"] = uuid().into();
            let mut actions = vec![json!({ "metaData": metadata })];
            actions.extend(orders.removals());
            actions.push(json!({ "add": orders.file(&[vec![value, value]]) }));
            orders.commit("CREATE OR REPLACE TABLE AS SELECT", &actions);
        };
        for value in [7, 8] {
            replaces(value);
            world
                .run(&Script::good([write("customers", &[[1, value]])]))
                .unwrap();
        }
        let bad = world.production();
        let first = Ask::Rollback {
            to: Some(ReleaseId(1)),
            select: None,
        };
        world.back(&first, true).unwrap();
        assert_eq!(world.production(), good);
        assert_eq!(orders.at(orders.latest().unwrap()).metadata, was);
        world.back(&Ask::Undo, false).unwrap();
        assert_eq!(world.production(), bad);
        let live = world.live().unwrap().release;
        let proof = world.session(|s| s.verify(live)).unwrap();
        assert!(proof.differences.is_empty(), "{proof:?}");
    }
}

/// Nothing can be renamed in an object store: what the release made loses its rows, and its versions
/// stay in its log, from where they come back.
#[test]
fn a_table_that_cannot_be_renamed_is_emptied_and_comes_back() {
    let (mut world, lake) = told_in(true);
    let before = world.production();
    world
        .run(&Script::good([write("made", &[[6, 6]])]))
        .unwrap();
    let after = world.production();
    let made = lake.table("made");
    world.back(&Ask::Undo, false).unwrap();
    assert_eq!(world.production(), before);
    let latest = made.latest().unwrap();
    assert!(made.at(latest).files.is_empty(), "a reader finds no rows");
    let info = &made.actions(latest)[0]["commitInfo"];
    assert_eq!(info["operation"], "DELETE");
    assert_eq!(info["userMetadata"], "unship R4, set aside");
    let live = world.live().unwrap().release;
    let proof = world.session(|s| s.verify(live)).unwrap();
    assert!(proof.differences.is_empty(), "{proof:?}");
    world.back(&Ask::Redo, false).unwrap();
    assert_eq!(world.production(), after);
    world.back(&Ask::Undo, false).unwrap();
    // Somebody writes to it: it is a table of production again.
    made.append(&[vec![9, 9]]);
    let seen = world
        .session(|s| {
            let depth = unship_core::engine::Depth::Catalog;
            s.engine.observe(Place::Live, &depth, &|_, _, _| {})
        })
        .unwrap();
    assert!(seen.contains_key(&name("made")), "{seen:?}");
}

/// A commit that DynamoDB was asked about would overwrite one that was made beside it.
#[test]
fn a_table_whose_writers_agree_elsewhere_is_not_guarded() {
    let (mut world, lake) = told_in(true);
    let waits = lake.table("orders").0.join("_delta_log/.tmp");
    fs::create_dir(&waits).unwrap();
    fs::write(waits.join("00000000000000000001.json.7b3f"), "").unwrap();
    refused(&mut world, "agree through DynamoDB");
    let found = world.session(|s| s.engine.doctor());
    assert!(
        found.iter().any(|d| d.finding.contains("DynamoDB")),
        "{found:?}"
    );
}

/// What a job in place did is taken back, and rows, columns, properties are what they were.
#[test]
fn a_failed_job_is_undone_with_its_properties() {
    let (mut world, lake) = told();
    let before = world.production();
    let log = lake.table("orders");
    let was = log.at(log.latest().unwrap()).metadata;
    let writes = [
        Write::Replace(name("orders"), Table::new(&["id", "other"], [vec![6, 6]])),
        write("half", &[[6, 6]]),
    ];
    world.run(&Script::good(writes).failing()).unwrap();
    world.back(&Ask::Undo, false).unwrap();
    assert_eq!(world.production(), before);
    assert_eq!(log.at(log.latest().unwrap()).metadata, was);
    assert!(
        lake.dir().join("s/unship_r3_half/_delta_log").is_dir(),
        "what it made is set aside"
    );
}

#[test]
fn a_table_that_was_vacuumed_too_early_is_warned_about() {
    let (mut world, lake) = told();
    let log = lake.table("orders");
    let mut metadata = log.at(log.latest().unwrap()).metadata;
    metadata["configuration"] = json!({"delta.deletedFileRetentionDuration": "interval 2 hours"});
    edit(&lake, "orders", &[json!({ "metaData": metadata })]);
    let found = world.session(|s| s.engine.doctor());
    let warned: Vec<_> = found.iter().filter(|d| d.level == Level::Warning).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    let hint = warned[0].hint.as_ref().unwrap();
    assert!(
        hint.ends_with(
            "SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 1 days')"
        ),
        "{hint}"
    );
}

#[test]
fn a_log_that_is_no_log_is_named() {
    let (mut world, lake) = told();
    let log = lake.table("orders");
    fs::write(log.commit_file(log.latest().unwrap()), "{\"add\":").unwrap();
    let error: EngineError = world
        .session(|s| {
            s.engine.observe(
                Place::Live,
                &unship_core::engine::Depth::Catalog,
                &|_, _, _| {},
            )
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    assert!(error.message.contains("lake.s.orders"), "{error}");
}

#[test]
fn a_log_that_may_not_be_written_stops_it_and_nothing_changes() {
    let (mut world, lake) = told();
    let log = lake.table("orders").0.join("_delta_log");
    let set = |mode| fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
    set(0o555);
    if fs::write(log.join(uuid()), "").is_ok() {
        // Whoever may everything is not stopped.
        return set(0o755);
    }
    let before = world.production();
    let error = back(&mut world).unwrap_err();
    set(0o755);
    assert!(matches!(error, OperateError::TakenBack { .. }), "{error:?}");
    assert_eq!(world.production(), before);
}
