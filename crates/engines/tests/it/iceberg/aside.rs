//! Jobs that build aside: what they change is on branches until it was checked, and what is published
//! is that and nothing else.

use super::catalog::{Id, read};
use super::server::{Fault, Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{Build, Engine, Level, Place, Retention};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::log::Ledger;
use unship_core::operate::{JobResult, OperateError, Ran, RunRequest};
use unship_core::release::{Job, JobEnd};
use unship_core::testing::world::{Harness, Script, World};
use unship_core::testing::{Contents, Table, Write};

const COMMIT: &str = "POST /api/v1/transactions/commit";
const BRANCH: &str = "unship_r2_build";

/// `R1` of two tables, and what a job makes of both.
struct Story {
    world: World,
    server: Server,
    r1: Contents,
}

fn value(of: &str, value: i64) -> Write {
    Write::Replace(name(of), Table::new(&["id", "value"], [vec![1, value]]))
}

fn job(n: i64) -> Script {
    Script::good([value("orders", n), value("customers", n)])
}

fn told(manner: Manner) -> Story {
    let lake = Lake::new(manner, Jobs::OnBranches);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    world.run(&job(1)).unwrap();
    let r1 = world.production();
    Story { world, server, r1 }
}

fn table(server: &Server, id: &Id) -> Value {
    server.state().catalog.table(id).unwrap().clone()
}

fn refs(server: &Server, of: &str) -> Vec<String> {
    let table = table(server, &id(&name(of)));
    table["refs"].as_object().unwrap().keys().cloned().collect()
}

impl Story {
    /// Runs a job that ends with something of its own on the catalog.
    fn run_and(&mut self, then: impl Fn(&mut super::catalog::Catalog) + 'static) -> Ending {
        self.run_of(job(2), then)
    }

    fn run_of(
        &mut self,
        script: Script,
        then: impl Fn(&mut super::catalog::Catalog) + 'static,
    ) -> Ending {
        let before = self.world.production();
        let server = self.server.clone();
        let lake = std::mem::replace(
            &mut self.world.harness,
            Box::new(Lake::new(Manner::default(), Jobs::OnBranches)),
        );
        self.world.harness = Box::new(Then {
            lake,
            server,
            then: Box::new(then),
        });
        Ending {
            answer: self.world.run(&script),
            before,
        }
    }
}

struct Ending {
    answer: Result<Ran, OperateError>,
    before: Contents,
}

/// A lake where something more happens after each table that a job writes.
struct Then {
    lake: Box<dyn Harness>,
    server: Server,
    then: Box<dyn Fn(&mut super::catalog::Catalog)>,
}

impl Harness for Then {
    fn engine(&self) -> Box<dyn Engine> {
        self.lake.engine()
    }

    fn relation(&self, database: usize, of: &str) -> RelationName {
        self.lake.relation(database, of)
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        self.lake.job_writes(build, write)?;
        (self.then)(&mut self.server.state().catalog);
        Ok(())
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        self.lake.others_write(write)
    }

    fn make_view(
        &self,
        build: Option<&Build>,
        view: &RelationName,
        of: &RelationName,
    ) -> Result<(), String> {
        self.lake.make_view(build, view, of)
    }

    fn lose_point(&self, release: ReleaseId) {
        self.lake.lose_point(release);
    }

    fn read(&self, place: Place) -> Contents {
        self.lake.read(place)
    }
}

fn orders() -> Id {
    id(&name("orders"))
}

/// One request publishes all tables, and each must be the very one, with `main` where the job began
/// and the branch where it was checked.
#[test]
fn one_request_publishes_what_was_checked_and_nothing_later() {
    let mut story = told(Manner::default());
    let ids = [id(&name("customers")), orders()];
    let was = ids.clone().map(|id| table(&story.server, &id));
    let before = story.server.state().asked.len();
    story.world.run(&job(2)).unwrap();
    let asked = story.server.state().asked[before..].to_vec();
    let changes: Vec<_> = asked
        .iter()
        .filter(|(line, _)| !line.starts_with("GET"))
        .collect();
    let [(line, body)] = changes[..] else {
        panic!("one request: {changes:?}");
    };
    assert!(line.starts_with(COMMIT), "{line}");
    let commits = body["table-changes"].as_array().unwrap();
    for ((commit, id), was) in commits.iter().zip(ids).zip(was) {
        let main = &was["refs"]["main"]["snapshot-id"];
        let now = table(&story.server, &id);
        let built = &now["refs"]["main"]["snapshot-id"];
        assert_ne!(built, main);
        let required = commit["requirements"].as_array().unwrap();
        for wanted in [
            json!({"type": "assert-table-uuid", "uuid": was["table-uuid"]}),
            json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": main}),
            json!({"type": "assert-ref-snapshot-id", "ref": BRANCH, "snapshot-id": built}),
        ] {
            assert!(required.contains(&wanted), "{wanted}: {required:?}");
        }
        assert_eq!(&now["refs"]["unship_r1"]["snapshot-id"], main);
        assert!(
            now["refs"].get(BRANCH).is_none(),
            "it is of no use any more"
        );
    }
}

/// While a job works and after it failed, production is what it was; what it built is kept under its
/// release's name until housekeeping takes it.
#[test]
fn what_a_failed_job_built_is_kept_under_a_tag_and_goes_with_its_point() {
    let mut story = told(Manner::default());
    let ran = story.world.run(&job(66).failing()).unwrap();
    assert!(!ran.published);
    assert_eq!(story.world.production(), story.r1);
    assert_eq!(refs(&story.server, "orders"), ["main", "unship_r2"]);
    let now = table(&story.server, &orders());
    let kept = now["refs"]["unship_r2"]["snapshot-id"].as_i64();
    assert_eq!(read(&now, kept).rows, [vec![1, 66]]);
    let shown = story.world.session(|s| {
        s.engine.prove_point(ReleaseId(2)).unwrap();
        s.engine
            .address(Place::Point(ReleaseId(2)), &name("orders"))
    });
    assert_eq!(shown.unwrap(), "s.orders VERSION AS OF 'unship_r2'");
    let keep = Retention {
        keep: BTreeSet::new(),
        plain: BTreeSet::new(),
    };
    story
        .world
        .session(|s| s.engine.housekeep(&keep, &|_, _, _| {}))
        .unwrap();
    assert_eq!(refs(&story.server, "orders"), ["main"]);
    let left = &story.server.state().catalog.namespaces;
    assert!(left.iter().all(|n| !n[0].starts_with("unship")), "{left:?}");
}

/// A schema belongs to the table and not to its branches: a job that changes it has changed
/// production, and that is said.
#[test]
fn a_schema_that_changed_under_a_branch_is_refused_by_name() {
    let mut story = told(Manner::default());
    let ended = story.run_and(|catalog| {
        catalog.edit(&orders(), |m| {
            m["schemas"] = json!([
                m["schemas"][0],
                {"type": "struct", "schema-id": 7, "fields": [
                    {"id": 1, "name": "id", "type": "long", "required": false},
                    {"id": 9, "name": "region", "type": "long", "required": false}]},
            ]);
            m["current-schema-id"] = 7.into();
        });
    });
    let error = ended.answer.unwrap_err().to_string();
    assert!(
        error.contains("the schema of lake.s.orders changed while the job worked"),
        "{error}"
    );
    let rows = |all: &Contents| all[&name("orders")].rows.clone();
    assert_eq!(rows(&story.world.production()), rows(&ended.before));
    assert_eq!(
        refs(&story.server, "orders"),
        ["main", "unship_r2"],
        "what was built is kept"
    );
    // It is others' work now, and the next run goes on from it.
    let live = story.world.session(|s| {
        s.see_drift().unwrap();
        s.live().unwrap().release
    });
    assert_eq!(live, ReleaseId(1));
}

/// Somebody commits to a table that only an earlier job built: what this one built is published, and
/// theirs stays.
#[test]
fn what_others_commit_to_what_the_job_does_not_build_stays() {
    let mut story = told(Manner::default());
    let theirs = Table::new(&["id", "value"], [vec![1, 1], vec![9, 9]]);
    let rows = theirs.rows.clone();
    let customers = id(&name("customers"));
    let ended = story.run_of(Script::good([value("orders", 2)]), move |catalog| {
        catalog.write(&customers, "append", &theirs);
    });
    ended.answer.unwrap();
    let now = story.world.production();
    assert_eq!(now[&name("customers")].rows, rows);
    assert_eq!(now[&name("orders")].rows, [[1, 2]]);
    // Nor does it go when what was published goes back.
    story.world.back_to(ReleaseId(1)).unwrap();
    let now = story.world.production();
    assert_eq!(now[&name("customers")].rows, rows);
    assert_eq!(now[&name("orders")], story.r1[&name("orders")]);
}

/// The application that wrote to the branch wrote to production as well: that is no other, but the
/// job, which missed the branch.
#[test]
fn a_job_that_misses_the_branch_in_one_table_is_refused() {
    for (who, refused) in [("app-1", true), ("app-2", false)] {
        let mut story = told(Manner::default());
        let missed = Table::new(&["id", "value"], [vec![1, 1], vec![9, 9]]);
        let (orders, customers) = (orders(), id(&name("customers")));
        let ended = story.run_of(Script::good([value("orders", 2)]), move |catalog| {
            catalog.write(&customers, "append", &missed);
            for (id, branch, app) in [(&orders, BRANCH, "app-1"), (&customers, "main", who)] {
                catalog.edit(id, |m| {
                    let head = m["refs"][branch]["snapshot-id"].clone();
                    let all = m["snapshots"].as_array_mut().unwrap();
                    let head = all.iter_mut().find(|s| s["snapshot-id"] == head).unwrap();
                    head["summary"]["spark.app.id"] = app.into();
                });
            }
        });
        match ended.answer {
            Err(OperateError::Conflict { conflicts, .. }) if refused => {
                assert!(conflicts.contains_key(&name("customers")), "{conflicts:?}");
                assert_eq!(
                    story.world.production()[&name("orders")],
                    story.r1[&name("orders")]
                );
            }
            Ok(_) if !refused => {}
            other => panic!("{who}: {other:?}"),
        }
    }
}

/// Somebody commits to a table that the job builds: nothing of theirs is lost, and the job's is kept.
#[test]
fn what_others_commit_meanwhile_is_never_overwritten() {
    let mut story = told(Manner::default());
    let theirs = Table::new(&["id", "value"], [vec![1, 1], vec![9, 9]]);
    let rows = theirs.rows.clone();
    let ended = story.run_and(move |catalog| catalog.write(&orders(), "append", &theirs));
    let error = ended.answer.unwrap_err();
    assert!(matches!(error, OperateError::Conflict { .. }), "{error:?}");
    assert_eq!(story.world.production()[&name("orders")].rows, rows);
    assert_eq!(refs(&story.server, "orders"), ["main", "unship_r2"]);

    // In the last moment: the commit is refused, all of it.
    let mut story = told(Manner::default());
    story.server.fault(COMMIT, Fault::OthersFirst(orders()));
    let error = story.world.run(&job(2)).unwrap_err();
    assert!(matches!(error, OperateError::TakenBack { .. }), "{error:?}");
    assert!(error.to_string().contains("requirement failed"), "{error}");
    assert_eq!(
        story.world.production(),
        story.r1,
        "they wrote the same rows"
    );
    for of in ["orders", "customers"] {
        assert!(refs(&story.server, of).contains(&"unship_r2".to_owned()));
    }
}

/// A branch that was begun empty has lost every row that was there. It is no version of the table.
#[test]
fn a_branch_that_does_not_go_on_from_main_is_refused() {
    let mut story = told(Manner::default());
    let ended = story.run_and(|catalog| {
        catalog.edit(&orders(), |m| {
            let head = m["refs"][BRANCH]["snapshot-id"].clone();
            for snapshot in m["snapshots"].as_array_mut().unwrap() {
                if snapshot["snapshot-id"] == head {
                    snapshot
                        .as_object_mut()
                        .unwrap()
                        .remove("parent-snapshot-id");
                }
            }
        });
    });
    let error = ended.answer.unwrap_err().to_string();
    assert!(
        error.contains("the branch unship_r2_build of lake.s.orders does not go on from what main"),
        "{error}"
    );
    assert_eq!(story.world.production(), ended.before);
}

/// Compaction of `main` changes no row: what a job built on the state before is as good.
#[test]
fn compaction_meanwhile_is_no_obstacle() {
    let mut story = told(Manner::default());
    let ended = story.run_and(|catalog| {
        let metadata = catalog.table(&orders()).unwrap();
        let already = metadata["refs"][BRANCH]["snapshot-id"].as_i64()
            < metadata["refs"]["main"]["snapshot-id"].as_i64();
        if !already {
            let now = read(metadata, None);
            catalog.write(&orders(), "replace", &now);
        }
    });
    assert!(ended.answer.unwrap().published);
    let production = story.world.production();
    assert_eq!(production[&name("orders")].rows, [vec![1, 2]]);
}

/// A job that knows nothing of branches writes to production. That is no release of its own: it is
/// refused, and what it did counts as others' work.
#[test]
fn a_job_that_does_not_write_to_the_branch_is_refused() {
    let mut story = told(Manner::default());
    let server = story.server.clone();
    let stray = Table::new(&["id", "value"], [vec![5, 5]]);
    let request = RunRequest {
        job: Job {
            command: vec!["build".to_owned()],
            program: None,
            directory: "/project".to_owned(),
            pipeline: None,
        },
        code: None,
        aside: true,
        replays: None,
        checks: None,
    };
    let launch = |_: &Build, _: &mut Ledger| {
        server.state().catalog.write(&orders(), "append", &stray);
        Ok(JobResult {
            end: JobEnd {
                exit_code: Some(0),
                signal: None,
                milliseconds: 1,
                log: None,
                artefacts: BTreeMap::new(),
                packages: BTreeMap::new(),
                failures: Vec::new(),
            },
            built: BTreeSet::new(),
            good: true,
            findings: Vec::new(),
        })
    };
    let refused = story.world.session(|s| s.run(request, launch)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains(
            "the job built nothing aside, and production changed while it worked: lake.s.orders"
        ),
        "{text}"
    );
    story.world.session(|s| s.see_drift()).unwrap();
    assert_eq!(story.world.live().unwrap().release, ReleaseId(1));
    let map = story.world.ledger.history(|h| h.map(ReleaseId(1)));
    assert_eq!(map.unwrap().unwrap()[&name("orders")].id.drift, 1);
}

/// Whatever becomes of the request that publishes, the ledger and production agree.
#[test]
fn a_lost_answer_to_a_publish_is_looked_into() {
    let faults = [
        ("a refusal that may be none", Fault::Says(500, "{}"), false),
        ("done, and a bad gateway", Fault::DoesAndSays(502, ""), true),
        ("lost on the way there", Fault::Lost, false),
        ("lost on the way back", Fault::DoesAndLost, true),
        ("late", Fault::LostAndDoneLater, true),
    ];
    for (what, fault, done) in faults {
        let mut story = told(Manner::default());
        story.server.fault(COMMIT, fault);
        let answer = story.world.run(&job(2));
        assert_eq!(answer.is_ok(), done, "{what}: {answer:?}");
        // Whatever is still on its way arrives.
        story.world.session(|s| s.engine.mark()).unwrap();
        let live = story.world.live().unwrap().release;
        assert_eq!(live, ReleaseId(if done { 2 } else { 1 }), "{what}");
        let expected = if done { 2 } else { 1 };
        let production = story.world.production();
        for of in ["orders", "customers"] {
            assert_eq!(production[&name(of)].rows, [vec![1, expected]], "{what}");
            assert!(
                !refs(&story.server, of).contains(&BRANCH.to_owned()),
                "{what}"
            );
        }
        story.world.run(&job(3)).unwrap();
    }
}

/// A branch of this name that another history left is no part of the build.
#[test]
fn a_branch_that_another_history_left_is_not_published() {
    let mut story = told(Manner::default());
    let stale = Table::new(&["id", "value"], [vec![7, 7]]);
    story
        .server
        .state()
        .catalog
        .write_on(&orders(), BRANCH, "overwrite", &stale);
    let doctor = story.world.session(|s| s.engine.doctor());
    let named = doctor
        .iter()
        .any(|d| d.level == Level::Note && d.finding.contains(BRANCH));
    assert!(named, "{doctor:?}");
    let ran = story
        .world
        .run(&Script::good([value("customers", 2)]))
        .unwrap();
    assert_eq!(
        ran.changes.into_keys().collect::<Vec<_>>(),
        [name("customers")]
    );
    assert_eq!(
        story.world.production()[&name("orders")],
        story.r1[&name("orders")]
    );
    assert_eq!(refs(&story.server, "orders"), ["main"]);
}
