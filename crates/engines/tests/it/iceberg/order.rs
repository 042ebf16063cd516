//! Where a catalog commits one table at a time: what reads goes back before what it reads.

use super::server::Manner;
use super::suite::{Jobs, Lake, name};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::ident::ReleaseId;
use unship_core::ledger::BlobRef;
use unship_core::operate::{Ask, JobResult, RunRequest, Session};
use unship_core::release::{Job, JobEnd};
use unship_core::testing::world::World;
use unship_core::testing::{Table, Write};

/// Each table, and what it reads; by name it would be the other way round.
const READS: [(&str, &[&str]); 4] = [
    ("d_raw", &[]),
    ("c_orders", &["d_raw"]),
    ("a_customers", &["c_orders"]),
    ("b_report", &["a_customers", "c_orders"]),
];

fn manifest() -> Vec<u8> {
    let id = |of: &str| format!("model.shop.{of}");
    let node = |(of, reads): &(&str, &[&str])| {
        let reads: Vec<_> = reads.iter().map(|of| id(of)).collect();
        let node = json!({
            "resource_type": "model", "name": of, "alias": of, "package_name": "shop",
            "database": "lake", "schema": "s", "relation_name": of, "fqn": ["shop", of],
            "original_file_path": "m.sql", "depends_on": {"nodes": reads}, "config": {},
        });
        (id(of), node)
    };
    let nodes: serde_json::Map<_, _> = READS.iter().map(node).collect();
    let all = json!({
        "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
                     "project_name": "shop"},
        "nodes": nodes, "sources": {}, "exposures": {}, "groups": {},
    });
    all.to_string().into_bytes()
}

fn run(world: &mut World, value: i64, manifest: Option<&[u8]>) {
    let World {
        harness, ledger, ..
    } = world;
    let request = RunRequest {
        job: Job {
            command: vec!["dbt".to_owned()],
            program: None,
            directory: "/project".to_owned(),
            pipeline: None,
        },
        code: None,
        aside: false,
        replays: None,
        checks: None,
    };
    let mut session = Session {
        engine: &mut *harness.engine(),
        ledger,
        watch: &(),
    };
    let ran = session.run(request, |build, ledger| {
        let table = Table::new(&["id", "value"], [vec![1, value]]);
        for (of, _) in READS {
            let write = Write::Replace(name(of), table.clone());
            harness.job_writes(build, &write).unwrap();
        }
        let mut artefacts = BTreeMap::new();
        if let Some(bytes) = manifest {
            let blob = ledger.put_blob(bytes, "manifest").unwrap();
            artefacts.insert("manifest.json".to_owned(), BlobRef(blob));
        }
        Ok(JobResult {
            end: JobEnd {
                exit_code: Some(0),
                signal: None,
                milliseconds: 1,
                log: None,
                artefacts,
                packages: BTreeMap::new(),
                failures: Vec::new(),
            },
            built: BTreeSet::new(),
            findings: Vec::new(),
            good: true,
        })
    });
    ran.unwrap();
}

fn world() -> World {
    let alone = Manner {
        lacks: vec!["transactions/commit"],
        ..Manner::default()
    };
    World::new(Box::new(Lake::new(alone, Jobs::InPlace))).unwrap()
}

fn planned(world: &mut World) -> (Vec<String>, Vec<String>) {
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let plan = world.session(|s| s.plan(&ask)).unwrap();
    let moved = plan.steps.iter().flat_map(|step| &step.relations);
    (moved.map(|name| name.name.clone()).collect(), plan.notes)
}

#[test]
fn what_reads_goes_back_before_what_it_reads() {
    let mut world = world();
    run(&mut world, 1, Some(&manifest()));
    let r1 = world.production();
    run(&mut world, 2, Some(&manifest()));
    let (order, notes) = planned(&mut world);
    assert_eq!(order, ["b_report", "a_customers", "c_orders", "d_raw"]);
    let said = "4 changes follow each other, each table before those that it reads";
    assert!(notes.iter().any(|note| note.contains(said)), "{notes:?}");
    world.back_to(ReleaseId(1)).unwrap();
    assert_eq!(world.production(), r1);
    // What is live now was built by a job two releases ago.
    let ask = Ask::Undo;
    let plan = world.session(|s| s.plan(&ask)).unwrap();
    let first = plan.steps.iter().find_map(|step| step.relations.first());
    assert_eq!(first.unwrap().name, "b_report");
}

#[test]
fn without_lineage_names_decide_and_nothing_is_promised() {
    let mut world = world();
    run(&mut world, 1, None);
    run(&mut world, 2, None);
    let (order, notes) = planned(&mut world);
    assert_eq!(order, ["a_customers", "b_report", "c_orders", "d_raw"]);
    assert!(
        !notes.iter().any(|n| n.contains("that it reads")),
        "{notes:?}"
    );
}
