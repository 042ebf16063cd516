//! Releases of five schemas that are exchanged whole.

use super::*;
use crate::snowflake::inside::Inside;
use crate::snowflake::sql::{Grant, Grantee, Making};
use crate::snowflake::survey::View;
use unship_core::engine::Steps;

/// Five schemas of production and five that were built, of a table each.
fn world() -> World {
    let mut world = World::begun();
    for n in 0..SCHEMAS {
        let mark = format!("UNSHIP_BUILD_{}", marts(n));
        world.views.insert((mark, "UNSHIP_BUILD".to_owned()));
    }
    world
}

/// A place's relations in one word, as the engine says it of the double.
fn contents(world: &World, schema: &str) -> String {
    let world = Arc::new(Mutex::new(world.clone()));
    let double = Double::new(move |asked| {
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        world.lock().unwrap().run(statement)
    });
    let mut engine = engine(&double);
    engine.fact(&format!("contents {schema}")).unwrap()
}

fn inside(world: &World, schema: &str) -> Inside {
    let mut cleared = world.clone();
    cleared.views.clear();
    let helpers = world.views.iter().filter(|(s, _)| s == schema);
    Inside {
        owner: Some("LOADER".to_owned()),
        contents: contents(&cleared, schema),
        relations: BTreeSet::from(["ORDERS".to_owned()]),
        helpers: helpers.map(|(_, name)| name.clone()).collect(),
        ..Inside::default()
    }
}

fn survey(world: &World) -> Survey {
    Survey {
        role: "LOADER".to_owned(),
        schemas: world.schemas.clone(),
        there: world
            .tables
            .iter()
            .map(|((s, _), created)| there(s, created))
            .collect(),
        whole: world
            .schemas
            .iter()
            .map(|schema| (schema.clone(), inside(world, schema)))
            .collect(),
        ..Survey::default()
    }
}

fn published(survey: &Survey) -> Result<Steps, unship_core::engine::EngineError> {
    let names = || (0..SCHEMAS).map(|n| name(&marts(n)));
    let request = PublishRequest {
        release: ReleaseId(2),
        live: ReleaseId(1),
        live_map: names().map(|name| (name, version(1))).collect(),
        changes: names().map(|name| (name, version(2))).collect(),
        carry: unship_core::engine::Carry::default(),
    };
    plan::publish(survey, &request)
}

fn planned() -> Plan {
    let steps = published(&survey(&world())).unwrap();
    Plan {
        method: steps.method,
        steps: steps.steps,
        notes: steps.notes,
        ..five()
    }
}

fn staged(fault: Fault) -> Stage {
    let stage = stage(fault);
    *stage.world.lock().unwrap() = world();
    stage
}

/// What gave way is kept whole, under its release's name, and written down; nothing is left of
/// staging.
fn kept(world: &World, at: &str) {
    for (n, created) in old().iter().enumerate() {
        let retained = format!("UNSHIP_R1_{}", marts(n));
        assert_eq!(
            world.tables.get(&(retained.clone(), "ORDERS".to_owned())),
            Some(created),
            "{at}"
        );
        assert!(
            world.views.contains(&("UNSHIP".to_owned(), retained)),
            "{at}"
        );
        let staging = format!("UNSHIP_BUILD_{}", marts(n));
        assert!(!world.schemas.contains(&staging), "{at}");
    }
}

#[test]
fn five_schemas_are_exchanged_whole_and_kept() {
    let stage = staged(Fault::None);
    let plan = planned();
    let done = go(&plan, &stage.double, &mut fresh()).unwrap();
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    let world = stage.world.lock().unwrap();
    assert_eq!(world.production(), new());
    kept(&world, "done");
    whole(&world);
    let asked = stage.double.asked();
    let statements: Vec<&str> = asked
        .iter()
        .filter_map(|asked| asked.body["statement"].as_str())
        .filter(|s| s.starts_with("ALTER "))
        .collect();
    assert_eq!(statements.len(), 2 * SCHEMAS, "{statements:?}");
    // All exchanges before anything else, in the order in which the schemas were built.
    for (n, statement) in statements.iter().take(SCHEMAS).enumerate() {
        let swap = format!("ALTER SCHEMA \"DB\".\"{}\" SWAP WITH", marts(n));
        assert!(statement.starts_with(&swap), "{statements:?}");
    }
    let notes = plan.notes.join("\n");
    assert!(
        notes.contains("readers may see schemas of two releases"),
        "{notes}"
    );
    // Nothing of the build is in production.
    assert!(
        !world.views.iter().any(|(_, name)| name == "UNSHIP_BUILD"),
        "{:?}",
        world.views
    );
}

/// Requests that never arrive and answers that never come, at each change.
#[test]
fn lost_requests_and_answers_leave_no_mixture_of_schemas() {
    let plan = planned();
    for n in 1..=2 * SCHEMAS {
        for fault in [Fault::Unheard(n), Fault::Unanswered(n), Fault::LostOnce(n)] {
            let stage = staged(fault);
            let outcome = go(&plan, &stage.double, &mut fresh());
            let world = stage.world.lock().unwrap();
            match (&outcome, fault) {
                (Ok(Outcome::Done { .. }), Fault::Unanswered(_) | Fault::LostOnce(_)) => {
                    assert_eq!(world.production(), new(), "{fault:?}");
                    kept(&world, &format!("{fault:?}"));
                }
                (Ok(Outcome::TakenBack { .. }), Fault::Unheard(_)) => {
                    assert_eq!(world.production(), old(), "{fault:?}");
                    // What was built is known again as this release's, to be kept or dropped.
                    for schema in 0..SCHEMAS {
                        let staging = format!("UNSHIP_BUILD_{}", marts(schema));
                        let mark = (staging, "UNSHIP_BUILD".to_owned());
                        assert!(world.views.contains(&mark), "{fault:?}");
                    }
                    let home = |(schema, _): &&(String, String)| schema == "UNSHIP";
                    assert_eq!(world.views.iter().find(home), None, "{fault:?}");
                }
                other => panic!("{other:?}"),
            }
            whole(&world);
        }
    }
}

/// unship dies at every event of its ledger, with every answer to a change lost once, and is resumed
/// by a new process.
#[test]
fn a_crash_between_exchanges_of_schemas_is_resumed() {
    let plan = planned();
    for n in 0.. {
        let stage = staged(Fault::LostOnce(1 + n % (2 * SCHEMAS)));
        let mut events = Events { most: n, ..fresh() };
        let first = go(&plan, &stage.double, &mut events);
        let died = matches!(first, Err(ExecuteError::Record(_)));
        if died {
            let world = stage.world.lock().unwrap();
            let (now, old, new) = (world.production(), old(), new());
            let all = now.iter().zip(old.iter().zip(&new));
            let each = |(now, (old, new)): (&&str, (&String, &String))| now == old || now == new;
            assert!(all.into_iter().all(each), "{n}: {now:?}");
        }
        events.most = usize::MAX;
        let outcome = match died {
            true => go(&plan, &stage.double, &mut events).unwrap(),
            false => first.unwrap(),
        };
        assert!(matches!(outcome, Outcome::Done { .. }), "{n}: {outcome:?}");
        let world = stage.world.lock().unwrap();
        assert_eq!(world.production(), new(), "{n}");
        kept(&world, &n.to_string());
        whole(&world);
        if !died {
            assert!(n > 2 * 3 * SCHEMAS, "every step has two events");
            return;
        }
    }
}

/// What somebody else makes in a schema after it was looked at is not taken along.
#[test]
fn what_comes_into_a_schema_late_stops_its_exchange() {
    for (schema, done) in [(0, false), (3, true)] {
        let stage = staged(Fault::None);
        let mut theirs = world();
        let late = (marts(schema), "THEIRS".to_owned());
        theirs
            .tables
            .insert(late.clone(), "2026-05-05T00:00:00".to_owned());
        *stage.world.lock().unwrap() = theirs;
        let outcome = go(&planned(), &stage.double, &mut fresh());
        match outcome {
            Ok(Outcome::TakenBack { error, .. }) => {
                assert!(
                    error.contains(&format!("contents {}", marts(schema))),
                    "{error}"
                );
            }
            other => panic!("{done}: {other:?}"),
        }
        let world = stage.world.lock().unwrap();
        assert_eq!(world.production(), old());
        assert!(world.tables.contains_key(&late));
    }
}

/// A survey of a schema, changed by `with`: why it is exchanged table by table.
fn by_table(with: impl FnOnce(&mut Survey)) -> String {
    let mut survey = survey(&world());
    with(&mut survey);
    let steps = published(&survey).unwrap();
    let swaps = |step: &unship_core::plan::Step| {
        let one = "ALTER TABLE \"DB\".\"MARTS0\".\"ORDERS\" SWAP WITH";
        step.statements.iter().any(|s| s.starts_with(one))
    };
    assert!(steps.steps.iter().any(swaps), "{:?}", steps.notes);
    let notes = steps.notes.iter();
    notes
        .filter(|note| note.contains("table by table"))
        .cloned()
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_schema_with_more_in_it_than_the_release_replaces_is_exchanged_table_by_table() {
    let live = |survey: &mut Survey, with: &dyn Fn(&mut Inside)| {
        with(survey.whole.get_mut("MARTS0").unwrap());
    };
    let reader = |privilege| Grant::new(privilege, Grantee::Role("BI".to_owned()), false).unwrap();
    let cases: Vec<(String, &str)> = vec![
        (
            by_table(|s| live(s, &|i| i.relations.extend(["THEIRS".to_owned()]))),
            "the release does not replace THEIRS in it",
        ),
        (
            by_table(|s| live(s, &|i| i.others.push("the stream CHANGES".to_owned()))),
            "the stream CHANGES is in it, and would go along",
        ),
        (
            by_table(|s| {
                let built = s.whole.get_mut("UNSHIP_BUILD_MARTS0").unwrap();
                built.others.push("the sequence IDS".to_owned());
            }),
            "the sequence IDS is in it",
        ),
        (
            by_table(|s| live(s, &|i| i.owner = Some("ADMIN".to_owned()))),
            "it belongs to ADMIN",
        ),
        (
            by_table(|s| {
                live(s, &|i| {
                    i.access.grants.insert(reader("CREATE TABLE"));
                });
            }),
            "ROLE \"BI\" may make things in it, which this role might not see",
        ),
        (
            by_table(|s| live(s, &|i| i.access.others.push("USAGE of share P".to_owned()))),
            "USAGE of share P on it cannot be given again",
        ),
        (
            by_table(|s| {
                let future = crate::snowflake::inside::Future {
                    view: false,
                    grant: reader("SELECT"),
                };
                s.future.insert("MARTS0".to_owned(), [future].into());
            }),
            "it has future grants",
        ),
        (
            by_table(|s| {
                live(s, &|i| {
                    i.making = Making {
                        managed: true,
                        ..Making::default()
                    };
                });
            }),
            "it was made otherwise",
        ),
        (
            by_table(|s| live(s, &|i| i.tags.extend(["G.P.PII=yes".to_owned()]))),
            "only one of the two schemas has the tag G.P.PII=yes",
        ),
        (
            by_table(|s| s.schemas.extend(["UNSHIP_R1_MARTS0".to_owned()])),
            "UNSHIP_R1_MARTS0 is there already",
        ),
    ];
    for (notes, expected) in cases {
        let whole = format!("the schema MARTS0 is exchanged table by table: {expected}");
        assert!(notes.starts_with(&whole), "{notes}\nexpected: {whole}");
        assert!(!notes.contains("MARTS1"), "{notes}");
    }
}

/// Who may use the schema and read what is in it may do so afterwards: it is given before.
#[test]
fn privileges_on_the_schema_are_given_before_it_is_exchanged() {
    let mut survey = survey(&world());
    let grant = |privilege| Grant::new(privilege, Grantee::Role("BI".to_owned()), false).unwrap();
    let live = survey.whole.get_mut("MARTS0").unwrap();
    live.access.grants.insert(grant("USAGE"));
    for there in &mut survey.there {
        if there.at.schema == "MARTS0" {
            there.access.grants.insert(grant("SELECT"));
        }
    }
    let steps = published(&survey).unwrap().steps;
    let statements: Vec<_> = steps.iter().flat_map(|step| &step.statements).collect();
    let place = |part: &str| statements.iter().position(|s| s.contains(part)).unwrap();
    let swap = place("ALTER SCHEMA \"DB\".\"MARTS0\" SWAP WITH");
    assert!(place("GRANT USAGE ON SCHEMA \"DB\".\"UNSHIP_BUILD_MARTS0\" TO ROLE \"BI\"") < swap);
    let select = "GRANT SELECT ON TABLE \"DB\".\"UNSHIP_BUILD_MARTS0\".\"ORDERS\" TO ROLE \"BI\"";
    assert!(place(select) < swap);
    for step in &steps {
        assert!(SfAction::of(&step.action).is_ok(), "{step:?}");
    }
}

/// A view that was built reads staging, where the old release is after the exchange.
#[test]
fn a_view_that_reads_staging_is_made_anew() {
    let mut survey = survey(&world());
    let view = |raw: Option<&str>| View {
        body: Some("SELECT * FROM DB.\"MARTS0\".ORDERS".to_owned()),
        raw: raw.map(str::to_owned),
        secure: false,
        comment: None,
        columns: vec!["ID".to_owned()],
        hash: "abc".to_owned(),
        made: "2026-02-03".to_owned(),
    };
    let raw = "SELECT * FROM DB.UNSHIP_BUILD_MARTS0.ORDERS";
    for (schema, raw) in [("MARTS0", None), ("UNSHIP_BUILD_MARTS0", Some(raw))] {
        let mut there = there(schema, "t9");
        there.at.name = "REPORT".to_owned();
        there.table = None;
        there.view = Some(view(raw));
        survey.there.push(there);
        let inside = survey.whole.get_mut(schema).unwrap();
        inside.relations.insert("REPORT".to_owned());
    }
    let names = || {
        [
            name("MARTS0"),
            RelationName::new(DATABASE, "MARTS0", "REPORT"),
        ]
        .into_iter()
    };
    let request = PublishRequest {
        release: ReleaseId(2),
        live: ReleaseId(1),
        live_map: names().map(|name| (name, version(1))).collect(),
        changes: names().map(|name| (name, version(2))).collect(),
        carry: unship_core::engine::Carry::default(),
    };
    let steps = plan::publish(&survey, &request).unwrap().steps;
    let statements: Vec<_> = steps.iter().flat_map(|step| &step.statements).collect();
    let place = |part: &str| statements.iter().position(|s| s.contains(part)).unwrap();
    let make = place("CREATE OR REPLACE VIEW \"DB\".\"MARTS0\".\"REPORT\"");
    assert!(place("SWAP WITH") < make, "{statements:?}");
    assert!(
        make < place("RENAME TO"),
        "it reads staging until then: {statements:?}"
    );
    let step = steps.iter().find(|s| s.explain.contains("read production"));
    let undo = step.unwrap().undo.as_ref().unwrap();
    assert!(undo.args.to_string().contains("UNSHIP_BUILD_MARTS0.ORDERS"));
}
