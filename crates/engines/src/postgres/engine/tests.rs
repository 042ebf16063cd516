use super::*;
use crate::postgres::testing::Database;
use unship_core::engine::{Carry, PointMap};
use unship_core::relation::Difference;
use unship_core::release::{Version, VersionId};

const QUIET: OnProgress<'static> = &|_, _, _| {};

type Map = BTreeMap<RelationName, Version>;

/// A warehouse with a table that a view and a stranger's view read.
struct World {
    database: Database,
    engine: Postgres,
    map: Map,
}

const R: fn(u64) -> ReleaseId = ReleaseId;

impl World {
    fn new() -> Option<Self> {
        let database = Database::new()?;
        database
            .client()
            .batch_execute(
                "CREATE SCHEMA marts; CREATE SCHEMA bi;
                 CREATE TABLE marts.orders (id int PRIMARY KEY, total numeric);
                 INSERT INTO marts.orders VALUES (1, 10.0), (2, 20.0);
                 CREATE VIEW marts.totals AS SELECT sum(total) AS total FROM marts.orders;
                 CREATE VIEW bi.report AS SELECT id FROM marts.orders",
            )
            .unwrap();
        let marts = BTreeSet::from(["marts".to_owned()]);
        let wanted = build::Wanted {
            schemas: marts.clone(),
            ..build::Wanted::default()
        };
        let engine = Postgres::new(database.connector(), marts, wanted);
        let mut world = Self {
            database,
            engine,
            map: Map::new(),
        };
        world.map = world.seen(Place::Live, &Depth::AllRows, R(0));
        Some(world)
    }

    fn run(&self, sql: &str) {
        self.database.client().batch_execute(sql).unwrap();
    }

    fn number(&self, sql: &str) -> i64 {
        self.database.client().query_one(sql, &[]).unwrap().get(0)
    }

    fn seen(&mut self, place: Place, depth: &Depth, release: ReleaseId) -> Map {
        let seen = self.engine.observe(place, depth, QUIET).unwrap();
        let id = VersionId { release, drift: 0 };
        seen.into_iter()
            .map(|(name, state)| {
                (
                    name,
                    Version {
                        id,
                        owned: true,
                        state: Some(state),
                    },
                )
            })
            .collect()
    }

    fn apply(&mut self, steps: &Steps) {
        for step in &steps.steps {
            assert_eq!(
                self.engine.unmet(&step.guard).unwrap(),
                None,
                "{}",
                step.explain
            );
            self.engine.apply(step, None, QUIET).unwrap();
            assert_eq!(
                self.engine.unmet(&step.expect).unwrap(),
                None,
                "{}",
                step.explain
            );
        }
    }

    fn steps(&mut self, release: ReleaseId) -> Result<Steps, EngineError> {
        let depth = Depth::AllRows;
        let changes = self.seen(Place::Build(release), &depth, release);
        let survey = self
            .engine
            .survey(release, &changes.keys().cloned().collect())?;
        let request = PublishRequest {
            release,
            live: R(0),
            live_map: self.map.clone(),
            changes: changes.clone(),
            carry: Carry::default(),
        };
        let steps = self.engine.plan_publish(&survey, &request)?;
        self.map.extend(changes);
        Ok(steps)
    }

    /// Builds with these statements, in which `{s}` is the staging schema, and publishes.
    fn publish(&mut self, release: ReleaseId, sql: &str) {
        self.engine.begin_build(release, R(0), true, QUIET).unwrap();
        self.run(&sql.replace("{s}", "unship_build_marts"));
        let steps = self.steps(release).unwrap();
        self.apply(&steps);
        self.engine.discard_build(release).unwrap();
    }

    fn back(&mut self, release: ReleaseId, to: &Map) -> Result<(), EngineError> {
        let differs = |(name, version): &(&RelationName, &Version)| {
            self.map.get(*name).map(|v| v.id) != Some(version.id)
        };
        let bring: Map = to
            .iter()
            .filter(differs)
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let remove: BTreeSet<_> = self
            .map
            .keys()
            .filter(|n| !to.contains_key(*n))
            .cloned()
            .collect();
        let relations = bring.keys().chain(&remove).cloned().collect();
        let survey = self.engine.survey(release, &relations)?;
        let request = RestoreRequest {
            writer: None,
            built_in_order: Vec::new(),
            spells: BTreeMap::new(),
            release,
            live: R(1),
            live_map: self.map.clone(),
            bring,
            remove,
            points: Vec::<PointMap>::new(),
            pinned: BTreeSet::new(),
            keep: BTreeMap::new(),
        };
        let steps = self.engine.plan_restore(&survey, &request)?;
        self.apply(&steps);
        self.map = to.clone();
        Ok(())
    }

    fn is(&mut self, map: &Map) {
        let now = self
            .engine
            .observe(Place::Live, &Depth::AllRows, QUIET)
            .unwrap();
        assert_eq!(
            now.keys().collect::<Vec<_>>(),
            map.keys().collect::<Vec<_>>()
        );
        for (name, version) in map {
            let then = version.state.as_ref().unwrap();
            assert_eq!(then.difference(&now[name]), Difference::None, "{name}");
        }
    }
}

const BAD: &str = "CREATE TABLE {s}.orders (id int PRIMARY KEY, total numeric);
    INSERT INTO {s}.orders VALUES (1, 10.0), (2, 20.0), (3, 999.0);
    CREATE VIEW {s}.totals AS SELECT sum(total) AS total FROM {s}.orders;
    CREATE TABLE {s}.fresh AS SELECT 1 AS a";

#[test]
fn a_release_is_published_and_taken_back_and_stays_readable() {
    let Some(mut world) = World::new() else {
        return;
    };
    let before = world.map.clone();
    world.publish(R(1), BAD);
    assert_eq!(world.number("SELECT total::int8 FROM marts.totals"), 1029);
    assert_eq!(
        world.number("SELECT count(*) FROM bi.report"),
        3,
        "a stranger's view follows"
    );
    assert_eq!(
        world.number("SELECT total::int8 FROM unship_r0_marts.totals"),
        30
    );
    assert_eq!(
        world.number("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'unship_build%'"),
        0
    );
    let bad = world.map.clone();

    world.back(R(2), &before).unwrap();
    world.is(&before);
    assert_eq!(world.number("SELECT count(*) FROM bi.report"), 2);
    assert_eq!(
        world.number("SELECT total::int8 FROM unship_r1_marts.totals"),
        1029
    );
    let points = world.engine.points().unwrap();
    let held: Vec<_> = points
        .iter()
        .map(|p| (p.release, p.versions.as_ref().unwrap().len()))
        .collect();
    assert_eq!(held, [(R(1), 3)]);
    world.engine.prove_point(R(1)).unwrap();

    // And forward again.
    world.back(R(3), &bad).unwrap();
    assert_eq!(world.number("SELECT total::int8 FROM marts.totals"), 1029);
    assert_eq!(world.number("SELECT count(*) FROM marts.fresh"), 1);
}

#[test]
fn a_failed_build_is_kept_readable_and_production_untouched() {
    let Some(mut world) = World::new() else {
        return;
    };
    let before = world.map.clone();
    world.engine.begin_build(R(1), R(0), true, QUIET).unwrap();
    world.run(&BAD.replace("{s}", "unship_build_marts"));
    world.engine.keep_build(R(1)).unwrap();
    world.is(&before);
    assert_eq!(
        world.number("SELECT count(*) FROM unship_r1_marts.orders"),
        3
    );
    world.engine.prove_point(R(1)).unwrap();
    // The next build finds nothing of it.
    world.engine.begin_build(R(2), R(0), true, QUIET).unwrap();
    assert!(
        world
            .seen(Place::Build(R(2)), &Depth::AllRows, R(2))
            .is_empty()
    );
    world.run("CREATE TABLE unship_build_marts.half AS SELECT 1 AS a");
    // A crash leaves it, and the same release's build begins anew.
    world.engine.begin_build(R(2), R(0), true, QUIET).unwrap();
    assert!(
        world
            .seen(Place::Build(R(2)), &Depth::AllRows, R(2))
            .is_empty()
    );
}

#[test]
fn what_an_incremental_model_goes_on_from_is_copied_whole() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.run(
        r#"CREATE TABLE marts.events (id int GENERATED ALWAYS AS IDENTITY, day date NOT NULL, "N" numeric
             DEFAULT 1 CHECK ("N" > 0), twice numeric GENERATED ALWAYS AS ("N" * 2) STORED,
             CONSTRAINT "Key" PRIMARY KEY (id, day));
           CREATE UNIQUE INDEX "On it" ON marts.events (day, ("N" + 1)) WHERE "N" > 5;
           COMMENT ON COLUMN marts.events.day IS 'when';
           INSERT INTO marts.events (day, "N") SELECT '2024-01-01'::date + i, i FROM generate_series(1, 50) i"#,
    );
    world.engine.wanted.clones = BTreeSet::from([
        ("marts".to_owned(), "events".to_owned()),
        ("marts".to_owned(), "not there yet".to_owned()),
    ]);
    world.engine.begin_build(R(1), R(0), true, QUIET).unwrap();
    let live = world.seen(Place::Live, &Depth::AllRows, R(0));
    let built = world.seen(Place::Build(R(1)), &Depth::AllRows, R(1));
    let [(name, copy)] = built.iter().collect::<Vec<_>>()[..] else {
        panic!("{built:?}")
    };
    let (copy, original) = (
        copy.state.as_ref().unwrap(),
        live[name].state.as_ref().unwrap(),
    );
    assert_eq!(original.definition, copy.definition);
    assert_eq!(original.difference(copy), Difference::None);
    // The next number is the next.
    world.run("INSERT INTO unship_build_marts.events (day) VALUES ('2025-01-01')");
    assert_eq!(
        world.number("SELECT max(id)::int8 FROM unship_build_marts.events"),
        51
    );
}

#[test]
fn what_nobody_keeps_is_dropped_and_strangers_are_named() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.publish(R(1), BAD);
    let again = BAD
        .replace("999.0", "1.0")
        .replace("CREATE TABLE {s}.fresh AS SELECT 1 AS a", "");
    world.publish(R(2), &again);
    world.run("CREATE VIEW bi.curious AS SELECT * FROM unship_r0_marts.orders");
    let keep = |list: &[u64]| Retention {
        keep: list.iter().map(|n| R(*n)).collect(),
        plain: BTreeSet::new(),
    };
    let error = world.engine.housekeep(&keep(&[1]), QUIET).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("bi.curious"), "{error}");
    assert_eq!(world.number("SELECT count(*) FROM bi.curious"), 2);
    assert_eq!(
        world.number("SELECT count(*) FROM unship_r1_marts.orders"),
        3
    );
    world.run("DROP VIEW bi.curious");
    let done = world.engine.housekeep(&keep(&[1]), QUIET).unwrap();
    assert_eq!(done.dropped, [R(0)]);
    assert_eq!(world.engine.points().unwrap().len(), 1);
    assert_eq!(
        world.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'unship_r0_marts'"),
        0
    );
    let found = world.engine.fsck(QUIET).unwrap();
    assert!(
        found
            .iter()
            .all(|d| d.level == unship_core::engine::Level::Ok),
        "{found:?}"
    );
    world.run("DROP TABLE unship_r1_marts.orders CASCADE");
    let found = world.engine.fsck(QUIET).unwrap();
    assert!(found.iter().any(|d| d.finding == "is gone"), "{found:?}");
    assert_eq!(
        world.engine.prove_point(R(1)).unwrap_err().kind,
        ErrorKind::Missing
    );
}

#[test]
fn rows_are_compared_by_key_or_as_wholes() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.publish(
        R(1),
        "CREATE TABLE {s}.orders (id int, total numeric, more text);
         INSERT INTO {s}.orders VALUES (1, 10.00, 'x'), (3, 30, NULL), (4, 40, 'y')",
    );
    let name = world
        .map
        .keys()
        .find(|n| n.name == "orders")
        .unwrap()
        .clone();
    let mut diff = |key: Option<&[String]>| {
        world
            .engine
            .diff(
                (Place::Point(R(0)), &name),
                (Place::Live, &name),
                key,
                5,
                QUIET,
            )
            .unwrap()
    };
    let by_key = diff(Some(&["ID".to_owned()]));
    assert_eq!(
        (
            by_key.added,
            by_key.removed,
            by_key.changed,
            by_key.unchanged
        ),
        (2, 1, 1, 0)
    );
    assert_eq!(
        by_key.columns,
        BTreeMap::from([("total".to_owned(), 1)]),
        "10.0 became 10.00"
    );
    assert_eq!(by_key.schema.added.len(), 1);
    assert_eq!(by_key.examples.len(), 4);
    let wholes = diff(None);
    assert_eq!(
        (
            wholes.added,
            wholes.removed,
            wholes.changed,
            wholes.unchanged
        ),
        (3, 2, 0, 0)
    );
    let refused = diff(Some(&["nothing".to_owned()]));
    assert_eq!(refused.key, None);
    assert!(refused.key_refused.unwrap().contains("nothing"));
}

#[test]
fn the_mark_changes_when_anybody_writes() {
    let Some(mut world) = World::new() else {
        return;
    };
    let first = world.engine.mark().unwrap();
    world.run("INSERT INTO marts.orders VALUES (7, 7)");
    let second = world.engine.mark().unwrap();
    assert_ne!(first, second, "rows");
    world.run("ALTER TABLE marts.orders ADD COLUMN more int");
    assert_ne!(second, world.engine.mark().unwrap(), "a definition");
}

#[test]
fn a_view_that_reads_what_stays_behind_is_refused() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.engine.begin_build(R(1), R(0), true, QUIET).unwrap();
    world.run(&BAD.replace("{s}", "unship_build_marts"));
    let mut changes = world.seen(Place::Build(R(1)), &Depth::AllRows, R(1));
    changes.retain(|name, _| name.name == "totals");
    let survey = world
        .engine
        .survey(R(1), &changes.keys().cloned().collect())
        .unwrap();
    let request = PublishRequest {
        release: R(1),
        live: R(0),
        live_map: world.map.clone(),
        changes,
        carry: Carry::default(),
    };
    let error = world.engine.plan_publish(&survey, &request).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(
        error.message.contains("unship_build_marts.orders"),
        "{error}"
    );
}

#[test]
fn doctor_prints_the_grants_that_are_missing() {
    let Some(mut world) = World::new() else {
        return;
    };
    let role = format!("unship doctor {}", std::process::id());
    let quoted = quote::name(&role);
    world.run(&format!("CREATE ROLE {quoted}"));
    world.engine.connector = world.database.connector().as_role(Some(role));
    world.engine.client = None;
    let found = world.engine.doctor();
    let rights = found.iter().find(|d| d.subject == "rights").unwrap();
    let hint = rights.hint.clone().unwrap_or_default();
    for grant in hint.lines() {
        world.run(grant);
    }
    assert!(
        hint.contains("GRANT USAGE, CREATE ON SCHEMA marts"),
        "{hint}"
    );
    let found = world.engine.doctor();
    let rights = found.iter().find(|d| d.subject == "rights").unwrap();
    assert_eq!(rights.level, unship_core::engine::Level::Ok, "{rights:?}");
    world.engine.client = None;
    world.run(&format!(
        "DROP OWNED BY {quoted}; REVOKE postgres FROM {quoted}; DROP ROLE {quoted}"
    ));
}
