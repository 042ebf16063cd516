//! Restore points of jobs in place: what is copied, what is refused, and what becomes of copies.

use super::*;
use unship_core::engine::{EngineError, ErrorKind, Retention};

/// The last of five tables is of a release that is pinned, and retained already.
const COPIED: usize = SCHEMAS - 1;

fn world() -> World {
    let mut world = World::begun();
    let pinned = format!("UNSHIP_R0_{}", marts(COPIED));
    world
        .tables
        .insert(at(&pinned), "2025-12-31T00:00:00".to_owned());
    world.schemas.insert(pinned);
    world
}

fn versions(owned: bool, token: &str) -> BTreeMap<RelationName, Version> {
    let each = old().into_iter().enumerate().map(|(n, created)| {
        let mut version = version(u64::from(n < COPIED));
        version.owned = owned;
        if let Some(state) = &mut version.state {
            state.storage = Some(format!("{created} {token}"));
        }
        (name(&marts(n)), version)
    });
    each.collect()
}

fn knowing(double: &Double, production: &BTreeMap<RelationName, Version>) -> Snowflake {
    let mut engine = engine(double);
    engine.know(production, &BTreeSet::from([ReleaseId(0)]));
    engine
}

fn begin(engine: &mut Snowflake) -> Result<BTreeMap<String, String>, EngineError> {
    let build = engine.begin_build(ReleaseId(2), ReleaseId(1), false, &|_, _, _| {});
    build.map(|build| build.env)
}

fn staged(fault: Fault) -> Stage {
    let stage = stage(fault);
    *stage.world.lock().unwrap() = world();
    stage
}

/// The copies that there are, by the schema that they are of.
fn copies(stage: &Stage) -> BTreeSet<String> {
    let world = stage.world.lock().unwrap();
    let copies = world
        .tables
        .iter()
        .filter(|(_, created)| created.starts_with("copy."));
    copies
        .map(|((schema, _), created)| {
            let of = schema.strip_prefix("UNSHIP_R1_").unwrap();
            let original = &world.tables[&at(of)];
            assert_eq!(*created, format!("copy.{original}"));
            of.to_owned()
        })
        .collect()
}

fn all() -> BTreeSet<String> {
    (0..COPIED).map(marts).collect()
}

fn sent(stage: &Stage, begins: &str) -> Vec<String> {
    let asked = stage.double.asked();
    let statements = asked
        .iter()
        .filter_map(|asked| asked.body["statement"].as_str())
        .filter(|statement| statement.starts_with(begins));
    statements.map(str::to_owned).collect()
}

#[test]
fn a_job_in_place_finds_every_version_retained() {
    let stage = staged(Fault::None);
    let mut engine = knowing(&stage.double, &versions(true, "7"));
    let env = begin(&mut engine).unwrap();
    assert_eq!(env["UNSHIP_SCHEMA_PREFIX"], "");
    assert_eq!(copies(&stage), all());
    let clones = sent(&stage, "CREATE OR REPLACE TABLE");
    assert_eq!(clones.len(), COPIED, "what is pinned is there: {clones:?}");
    assert!(
        clones.iter().all(|sql| sql.ends_with("COPY GRANTS")),
        "{clones:?}"
    );
    engine.prove_point(ReleaseId(1)).unwrap();
    assert_eq!(sent(&stage, "SELECT * FROM").len(), COPIED, "each is read");
    assert_eq!(stage.world.lock().unwrap().production(), old());

    // The job replaces one table: of that the copy stays, and of the others none is needed.
    let replaced = "2026-02-03T00:00:00".to_owned();
    let mut production = versions(true, "7");
    let state = version(2).state.map(|state| RelationState {
        storage: Some(format!("{replaced} 7")),
        ..state
    });
    let new = Version {
        state,
        ..version(2)
    };
    production.insert(name(&marts(0)), new);
    let was = stage
        .world
        .lock()
        .unwrap()
        .tables
        .insert(at(&marts(0)), replaced)
        .unwrap();
    let keep = Retention {
        keep: [0, 1, 2].map(ReleaseId).into(),
        plain: BTreeSet::new(),
    };
    engine.know(&production, &BTreeSet::from([ReleaseId(0)]));
    engine.housekeep(&keep, &|_, _, _| {}).unwrap();
    let world = stage.world.lock().unwrap();
    let retained: Vec<_> = world
        .tables
        .iter()
        .filter(|((schema, _), _)| schema.starts_with("UNSHIP_R"))
        .map(|((schema, _), created)| (schema.as_str(), created.as_str()))
        .collect();
    let copy = format!("copy.{was}");
    assert_eq!(
        retained,
        [
            ("UNSHIP_R0_MARTS4", "2025-12-31T00:00:00"),
            ("UNSHIP_R1_MARTS0", copy.as_str())
        ]
    );
}

/// What somebody wrote since the last look is not yet a version that housekeeping was told of: the
/// copy is the only one of what it was.
#[test]
fn a_copy_of_what_others_wrote_to_since_stays() {
    let stage = staged(Fault::None);
    begin(&mut knowing(&stage.double, &versions(true, "7"))).unwrap();
    let mut engine = knowing(&stage.double, &versions(true, "6"));
    let keep = Retention {
        keep: [0, 1].map(ReleaseId).into(),
        plain: BTreeSet::new(),
    };
    engine.housekeep(&keep, &|_, _, _| {}).unwrap();
    assert_eq!(copies(&stage), all());
}

/// A request or an answer is lost at each clone: without a restore point there is no job, and nothing
/// is left of it.
#[test]
fn a_restore_point_is_whole_or_there_is_none() {
    for n in 1..=COPIED {
        for fault in [Fault::Unheard(n), Fault::Unanswered(n), Fault::LostOnce(n)] {
            let stage = staged(fault);
            let comes = matches!(fault, Fault::LostOnce(_));
            let patience = if comes { 10_000 } else { 4 };
            let mut engine = patient(&stage.double, Duration::from_millis(patience));
            engine.know(&versions(true, "7"), &BTreeSet::from([ReleaseId(0)]));
            let begun = begin(&mut engine);
            assert_eq!(begun.is_ok(), comes, "{fault:?}: {begun:?}");
            if begun.is_ok() {
                assert_eq!(copies(&stage), all(), "{fault:?}");
            } else {
                engine.discard_build(ReleaseId(2)).unwrap();
                assert_eq!(copies(&stage), BTreeSet::new(), "{fault:?}");
            }
            assert_eq!(stage.world.lock().unwrap().production(), old(), "{fault:?}");
        }
    }
}

/// unship dies after some clones: the next restore point takes them anew, for what they are copies of
/// may have been written to before it died.
#[test]
fn an_interrupted_restore_point_is_taken_anew() {
    for n in 1..=COPIED {
        let stage = staged(Fault::Unanswered(n));
        begin(&mut knowing(&stage.double, &versions(true, "7"))).unwrap_err();
        assert_eq!(copies(&stage).len(), n);
        begin(&mut knowing(&stage.double, &versions(true, "7"))).unwrap();
        assert_eq!(copies(&stage), all());
        assert_eq!(sent(&stage, "DROP TABLE").len(), n);
        assert_eq!(stage.world.lock().unwrap().production(), old());
    }
}

#[test]
fn no_job_runs_where_a_copy_cannot_stand_for_a_table() {
    let stage = staged(Fault::None);
    stage.world.lock().unwrap().streamed = Some("DB.MARTS1.ORDERS".to_owned());
    let refused = begin(&mut knowing(&stage.double, &versions(true, "7"))).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert!(
        refused
            .message
            .contains("MARTS1.ORDERS: the stream RAW.NEWS"),
        "{refused}"
    );
    assert_eq!(copies(&stage), BTreeSet::new());

    // What no job builds is said, and is no obstacle.
    let mut engine = knowing(&stage.double, &versions(false, "7"));
    begin(&mut engine).unwrap();
    let notes = engine.notes().join("\n");
    assert!(notes.contains("not protected: DB.MARTS1.ORDERS"), "{notes}");
    assert_eq!(copies(&stage).len(), COPIED - 1);
}

#[test]
fn no_job_runs_where_others_wrote_since_production_was_looked_at() {
    let stage = staged(Fault::None);
    let busy = begin(&mut knowing(&stage.double, &versions(true, "6"))).unwrap_err();
    assert_eq!(busy.kind, ErrorKind::Busy, "{busy}");
    assert_eq!(copies(&stage), BTreeSet::new());
    // It is told each time.
    let mut untold = engine(&stage.double);
    assert_eq!(begin(&mut untold).unwrap_err().kind, ErrorKind::Unsupported);
}

/// Copies lie where the versions go that give way.
fn beside() -> World {
    let mut world = World::begun();
    for (n, created) in old().iter().enumerate() {
        let retained = format!("UNSHIP_R1_{}", marts(n));
        world
            .tables
            .insert(at(&retained), format!("copy.{created}"));
        world.schemas.insert(retained);
    }
    world
}

fn done(world: &World, at_: &str) {
    assert_eq!(world.production(), new(), "{at_}");
    for (n, created) in old().iter().enumerate() {
        let retained = at(&format!("UNSHIP_R1_{}", marts(n)));
        assert_eq!(world.tables.get(&retained), Some(created), "{at_}");
    }
    assert_eq!(world.tables.len(), 2 * SCHEMAS, "{at_}: {:?}", world.tables);
}

/// A copy gives way to the version itself, whatever is lost on the way.
#[test]
fn a_copy_that_lies_in_the_way_gives_way() {
    let plan = planned_in(&beside());
    // Of each table the same three changes: those of the first one and of the last one.
    let changes = (1..=3).chain(3 * SCHEMAS - 2..=3 * SCHEMAS);
    let each = changes.flat_map(|n| [Fault::Unheard(n), Fault::Unanswered(n), Fault::LostOnce(n)]);
    for fault in each.chain([Fault::None]) {
        let stage = stage(fault);
        *stage.world.lock().unwrap() = beside();
        let mut events = Events {
            all: Vec::new(),
            most: usize::MAX,
        };
        let outcome = go(&plan, &stage.double, &mut events).unwrap();
        let world = stage.world.lock().unwrap();
        match outcome {
            Outcome::Done { .. } => done(&world, &format!("{fault:?}")),
            Outcome::TakenBack { .. } => {
                assert!(matches!(fault, Fault::Unheard(_)), "{fault:?}");
                assert_eq!(world.tables, beside().tables, "{fault:?}");
            }
        }
    }
}

#[test]
fn a_crash_beside_copies_is_resumed() {
    let plan = planned_in(&beside());
    // Every step has two events: each third one is now its first, now its second.
    for n in (0..).step_by(3) {
        let stage = stage(Fault::None);
        *stage.world.lock().unwrap() = beside();
        let mut events = Events {
            all: Vec::new(),
            most: n,
        };
        let died = go(&plan, &stage.double, &mut events).is_err();
        events.most = usize::MAX;
        if died {
            go(&plan, &stage.double, &mut events).unwrap();
        }
        done(&stage.world.lock().unwrap(), &n.to_string());
        if !died {
            return;
        }
    }
}
