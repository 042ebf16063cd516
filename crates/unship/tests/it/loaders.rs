//! Real loaders, whose cursors go back with what they load. dlt has an environment of its own, which
//! `make test-all` makes.

use crate::support::lab::sql;
use crate::support::{Scratch, Tools, tools};
use std::path::PathBuf;
use unship_core::testing::skipped;

/// Loads what is newer than what it loaded last, up to a number.
const LOAD: &str = r#"
import os, sys, dlt

upto, factor = int(sys.argv[1]), int(sys.argv[2])

@dlt.resource(name="events", primary_key="id", write_disposition="append")
def events(moment=dlt.sources.incremental("moment", initial_value=0)):
    for n in range(moment.start_value + 1, upto + 1):
        yield {"id": n, "moment": n, "value": n * factor}

pipeline = dlt.pipeline(
    pipeline_name="shop", pipelines_dir="working", dataset_name="loaded",
    destination=dlt.destinations.duckdb(os.environ["UNSHIP_DATABASE"]),
)
pipeline.run(events())
"#;

/// A project that dlt has loaded twice.
fn loaded(tools: &Tools) -> Scratch {
    let mut lab = Scratch::new(tools);
    lab.set("RUNTIME__DLTHUB_TELEMETRY", "false");
    lab.ok(&["init", "--database", "lab.duckdb"]);
    lab.only_tell();
    lab.write("load.py", LOAD);
    load(&lab, "10", "1");
    load(&lab, "20", "1");
    lab
}

fn load(lab: &Scratch, upto: &str, factor: &str) {
    let load = ["run", "--aside", "--", "python", "load.py", upto, factor];
    lab.ok(&load);
}

/// What was loaded, each row, and how often dlt wrote its state down.
fn state(lab: &Scratch) -> String {
    let rows = "select string_agg(id || '=' || value, ' ' order by id, value) from loaded.events";
    let states = "select count(*) from loaded._dlt_pipeline_state";
    let ask = |query| sql(lab, "lab.duckdb", &[query]);
    format!("{}, {} states", ask(rows), ask(states))
}

#[test]
#[ignore = "dlt has an environment of its own: a part of `make test-all`"]
fn the_next_load_of_dlt_is_what_it_would_have_been_without_the_bad_one() {
    let Some(tools) = tools() else { return };
    let Some(python) = std::env::var_os("UNSHIP_TEST_DLT_PYTHON").map(PathBuf::from) else {
        skipped("UNSHIP_TEST_DLT_PYTHON names no Python with dlt");
        return;
    };
    let tools = Tools {
        python,
        dbt: tools.dbt,
    };
    let never = loaded(&tools);
    let good = state(&never);
    load(&never, "40", "1");
    let expected = state(&never);

    for staged in [false, true] {
        let lab = loaded(&tools);
        load(&lab, "30", "100");
        assert_ne!(state(&lab), good);
        // Only the rows are named, and what says how far they go comes along.
        let mut back = vec!["rollback", "--select", "events"];
        if staged {
            back.push("--staged");
            let plan = lab.json(
                "unship.plan/1",
                &["--json", "plan", "--staged", "--select", "events"],
            );
            let stages = plan["plan"]["stages"].as_array().unwrap();
            assert_eq!(stages.len(), 1, "they cannot go apart: {stages:?}");
        }
        lab.ok(&back).says(
            0,
            &[
                "dlt keeps a copy of its state where it runs",
                "working directory",
            ],
        );
        assert_eq!(state(&lab), good);
        lab.sh("rm", &["-r", "working"]);
        load(&lab, "40", "1");
        assert_eq!(state(&lab), expected);
    }

    // What that word is about: a copy that is newer than the restored state wins.
    let lab = loaded(&tools);
    load(&lab, "30", "100");
    lab.ok(&["rollback"]);
    load(&lab, "40", "1");
    assert!(!state(&lab).contains("25=25"), "{}", state(&lab));
}
