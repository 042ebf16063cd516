//! A real REST catalog, and pyiceberg as the job, as the others who write, and as the reader.
//! `scripts/rest-catalog run` starts the catalog; `make test-all` does so.

use super::meanwhile::{Lakeside, play};
use super::support::{Output, Scratch, Tools, repository};
use serde_json::{Value, json};
use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use unship_core::testing::skipped;

pub(super) struct Lake {
    pub(super) scratch: Scratch,
    /// The namespace that is production.
    pub(super) namespace: String,
    pub(super) python: String,
    pub(super) job: String,
}

impl Lake {
    /// A namespace of its own in the catalog that the tests share.
    pub(super) fn new(namespace: &str) -> Option<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                skipped(&format!(
                    "{name} is not set: scripts/rest-catalog run sets it"
                ));
            }
            value
        };
        let uri = variable("UNSHIP_TEST_REST_CATALOG")?;
        let token = variable("UNSHIP_TEST_REST_TOKEN")?;
        let python = variable("UNSHIP_TEST_LAKE_PYTHON")?;
        let tools = Tools {
            python: PathBuf::from(&python),
            dbt: PathBuf::from(&python),
        };
        let mut scratch = Scratch::new(&tools);
        let namespace = format!("{namespace}_{}", std::process::id());
        scratch.set("UNSHIP_TEST_REST_CATALOG", &uri);
        scratch.set("UNSHIP_TEST_REST_TOKEN", token);
        scratch.set("LAKE_NAMESPACE", &namespace);
        scratch.write(
            "unship.toml",
            format!(
                "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"iceberg\"\n\
                 uri = \"{uri}\"\ncatalog = \"lake\"\nnamespaces = [\"{namespace}\"]\n\
                 token = {{ env = \"UNSHIP_TEST_REST_TOKEN\" }}\n"
            ),
        );
        let job = repository().join("crates/unship/tests/it/rig/lake.py");
        Some(Self {
            scratch,
            namespace,
            python,
            job: job.display().to_string(),
        })
    }

    /// What somebody does who knows nothing of unship.
    pub(super) fn others(&self, operations: &Value) {
        let text = operations.to_string();
        self.scratch.sh(&self.python, &[&self.job, "do", &text]);
    }

    /// What a guarded job does.
    fn run(&self, operations: &Value) -> Output {
        let text = operations.to_string();
        self.scratch
            .unship(&["run", "--", &self.python, &self.job, "do", &text])
    }

    /// What a guarded job does that builds aside.
    fn aside(&self, operations: &Value) -> Output {
        let text = operations.to_string();
        let command = ["run", "--aside", "--", &self.python, &self.job, "do", &text];
        self.scratch.unship(&command)
    }

    /// The branches and tags of a table, and the namespaces of unship's own.
    fn refs(&self, table: &str) -> (Vec<String>, Vec<String>) {
        let out = self.scratch.sh(&self.python, &[&self.job, "refs", table]);
        let (refs, mut spaces): (_, Vec<String>) = serde_json::from_str(&out).unwrap();
        spaces.retain(|space| space.starts_with("unship_r") && space.contains("aside"));
        (refs, spaces)
    }

    pub(super) fn show(&self) -> Value {
        let out = self.scratch.sh(&self.python, &[&self.job, "show"]);
        serde_json::from_str(&out).unwrap()
    }

    /// The ids in a table that some branch or tag still holds.
    pub(super) fn kept(&self, table: &str) -> Vec<i64> {
        let out = self.scratch.sh(&self.python, &[&self.job, "kept", table]);
        serde_json::from_str(&out).unwrap()
    }

    fn start(&self, what: &str, until: &str) -> Running {
        let mut command = self.scratch.command(&self.python);
        command.args([&self.job, what, until]);
        Running(Some(command.stdout(Stdio::piped()).spawn().unwrap()))
    }
}

/// A program that works beside the test, and ends with it.
pub(super) struct Running(pub(super) Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It is gone already, or it goes now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn told(mut running: Running) -> Value {
    let output = running.0.take().unwrap().wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Rows, columns, partitions and properties change, a table comes and one goes: all of it goes back
/// and forth, and an independent reader finds exactly what was there.
#[test]
#[ignore = "needs a REST catalog: scripts/rest-catalog run"]
fn everything_a_job_did_goes_back_and_forth() {
    let Some(lake) = Lake::new("story") else {
        return;
    };
    lake.others(&json!([["create", "raw", ["id", "value"], [[1, 1]]]]));
    let first = lake.run(&json!([
        ["create", "orders", ["id", "value"], [[1, 1], [2, 2]]],
        ["create", "customers", ["id", "value"], [[1, 1]]],
        ["create", "gone", ["id"], [[7]]],
        ["property", "orders", "owner", "anna"],
    ]));
    first.says(0, &["R1 is production: 3 relations changed"]);
    let r1 = lake.show();
    let second = lake.run(&json!([
        ["overwrite", "orders", [[3, 3]]],
        ["add column", "customers", "region"],
        ["partition by", "customers", "region"],
        ["append", "customers", [[2, 2, 9]]],
        ["property", "orders", "owner", "bert"],
        ["property", "orders", "note", "x"],
        ["create", "more", ["id"], [[8]]],
        ["drop", "gone"],
    ]));
    // That a table vanished is something that checks tell.
    second.says(
        76,
        &[
            "R2 is live and marked bad: 4 relations changed",
            "lake.",
            "vanished",
        ],
    );
    let r2 = lake.show();
    assert_ne!(r1, r2);

    lake.scratch.ok(&["plan"]).says(
        0,
        &["not atomic here: names and views are no part of a commit"],
    );
    lake.scratch.ok(&["rollback"]);
    assert_eq!(lake.show(), r1);
    lake.scratch.ok(&["verify"]);
    // What others wrote since stays: they wrote to what no job owns.
    lake.others(&json!([["append", "raw", [[2, 2]]]]));
    lake.scratch.ok(&["undo"]);
    let mut expected = r2;
    expected["raw"]["rows"] = json!([[1, 1], [2, 2]]);
    assert_eq!(lake.show(), expected);
    lake.scratch.ok(&["verify"]);
    let failed = lake.run(&json!([["append", "orders", [[66, 66]]], ["fail", ""]]));
    failed.says(3, &["marked bad"]);
    lake.scratch.ok(&["rollback"]);
    assert_eq!(lake.show(), expected);
    lake.scratch.ok(&["fsck"]);
    let doctor = lake.scratch.ok(&["doctor"]);
    doctor.says(0, &["transactions/commit"]);
}

/// Tables of pyiceberg's, in a file that says how a reader stands: whether a job is at work on
/// production itself, and which one.
struct Shore {
    lake: Lake,
    until: PathBuf,
    job: Cell<usize>,
}

impl Shore {
    fn pair_and(&self, n: i64, more: &[Value]) -> Value {
        let mut all = vec![
            json!(["overwrite", "left", [[1, n]]]),
            json!(["overwrite", "right", [[1, n]]]),
        ];
        all.extend_from_slice(more);
        Value::from(all)
    }
}

impl Lakeside for Shore {
    fn scratch(&self) -> &Scratch {
        &self.lake.scratch
    }

    fn in_place(&self, n: i64) -> Output {
        let order = json!(["append", "orders", [[n, n]]]);
        self.lake.run(&self.pair_and(n, &[order]))
    }

    fn aside(&self, n: i64) -> Output {
        self.lake.aside(&self.pair_and(n, &[]))
    }

    fn aside_with_orders(&self, n: i64) -> Output {
        let order = json!(["append", "orders", [[n, n]]]);
        self.lake.aside(&self.pair_and(n, &[order]))
    }

    fn pair(&self) -> [i64; 2] {
        let shown = self.lake.show();
        ["left", "right"].map(|side| shown[side]["rows"][0][1].as_i64().unwrap())
    }

    fn at_work(&self, working: bool) {
        let word = if working { "at work" } else { "quiet" };
        self.job.set(self.job.get() + 1);
        // Whoever reads finds the old word or the new one.
        let new = self.until.with_extension("new");
        std::fs::write(&new, format!("{word} {}", self.job.get())).unwrap();
        std::fs::rename(new, &self.until).unwrap();
    }
}

/// Others keep committing while jobs publish, in place and aside, and production goes back and forth:
/// whatever they were told is committed stays reachable, and nobody sees one of two tables go without
/// the other.
#[test]
#[ignore = "needs a REST catalog: scripts/rest-catalog run"]
fn nothing_that_others_commit_meanwhile_is_lost() {
    let Some(lake) = Lake::new("meanwhile") else {
        return;
    };
    let rounds = std::env::var("UNSHIP_LAKE_ROUNDS");
    let rounds: usize = rounds.map_or(10, |n| n.parse().unwrap());
    lake.run(&json!([
        ["create", "left", ["id", "value"], [[1, 1]]],
        ["create", "right", ["id", "value"], [[1, 1]]],
        ["create", "orders", ["id", "value"], [[1, 1]]],
    ]))
    .says(0, &["R1"]);
    let until = lake.scratch.path("until");
    let job = Cell::new(0);
    let shore = Shore { lake, until, job };
    shore.at_work(false);
    let until = shore.until.display().to_string();
    let (writer, reader) = (
        shore.lake.start("append", &until),
        shore.lake.start("read", &until),
    );
    let tally = play(&shore, rounds, || true);
    std::fs::remove_file(&until).unwrap();
    let (committed, seen) = (told(writer), told(reader));
    let kept = shore.lake.kept("orders");
    let committed: Vec<i64> = serde_json::from_value(committed).unwrap();
    let lost: Vec<_> = committed.iter().filter(|id| !kept.contains(id)).collect();
    println!("{tally}; {} committed, {seen} read", committed.len());
    assert!(!committed.is_empty() && lost.is_empty(), "lost: {lost:?}");
    assert_eq!(seen[1], 0, "mixtures seen: {seen}");
    shore.lake.scratch.ok(&["fsck"]);
}

/// On branches and in a namespace of the release's own: nobody sees anything of it before it is
/// published, and then all of it at once.
#[test]
#[ignore = "needs a REST catalog: scripts/rest-catalog run"]
fn a_job_builds_aside() {
    let Some(lake) = Lake::new("aside") else {
        return;
    };
    lake.others(&json!([["create", "raw", ["id", "value"], [[1, 1]]]]));
    let first = lake.aside(&json!([
        ["create", "left", ["id", "value"], [[1, 1]]],
        ["create", "right", ["id", "value"], [[1, 1]]],
    ]));
    first.says(0, &["R1 is production: 2 relations changed"]);
    let r1 = lake.show();
    assert_eq!(lake.refs("left"), (vec!["main".to_owned()], vec![]));

    let second = json!([
        ["overwrite", "left", [[2, 2]]],
        ["append", "right", [[2, 2]]],
        ["create", "more", ["id"], [[7]]],
    ]);
    let mut failing = second.clone();
    failing.as_array_mut().unwrap().push(json!(["fail", ""]));
    lake.aside(&failing).says(3, &["R2"]);
    assert_eq!(lake.show(), r1);
    let refs = ["main", "unship_r2"].map(str::to_owned).to_vec();
    let (left, spaces) = lake.refs("left");
    assert_eq!((left, spaces.len()), (refs, 1), "what was built is kept");
    let ids = lake.scratch.sh(&lake.python, &[&lake.job, "kept", "right"]);
    assert_eq!(ids.trim(), "[1, 2]");

    let published = lake.aside(&second);
    published.says(0, &["R3 is production: 3 relations changed"]);
    let r3 = lake.show();
    assert_eq!(r3["left"]["rows"], json!([[2, 2]]));
    assert_eq!(r3["right"]["rows"], json!([[1, 1], [2, 2]]));
    assert_eq!(r3["more"]["rows"], json!([[7]]));
    lake.scratch.ok(&["verify"]);
    lake.scratch.ok(&["rollback"]);
    assert_eq!(lake.show(), r1);
    lake.scratch.ok(&["undo"]);
    assert_eq!(lake.show(), r3);
    lake.scratch.ok(&["verify"]);
    lake.scratch.ok(&["fsck"]);

    // What would not be what the job built is not published.
    lake.aside(&json!([["append begun empty", "left", [[3, 3]]]]))
        .says(
            73,
            &["does not go on from what main shows", "create_branch"],
        );
    lake.aside(&json!([
        ["append", "left", [[3, 3]]],
        ["append to main", "left", [[4, 4]]]
    ]))
    .says(73, &["others wrote to"]);
    let mut expected = r3;
    expected["left"]["rows"] = json!([[2, 2], [4, 4]]);
    assert_eq!(lake.show(), expected);
    let evolved = json!([
        ["add column", "right", "region"],
        ["append", "right", [[3, 3, 3]]]
    ]);
    lake.aside(&evolved).says(
        73,
        &["the schema of lake.", ".right changed while the job worked"],
    );
    lake.aside(&json!([["append", "right", [[3, 3, 3]]]]))
        .says(0, &["is production: 1 relation changed"]);
}

/// While a reader loads two tables that are built together, jobs publish both, again and again.
#[test]
#[ignore = "needs a REST catalog: scripts/rest-catalog run"]
fn readers_see_all_of_a_build_or_nothing() {
    let Some(lake) = Lake::new("aside_read") else {
        return;
    };
    let pair = |n: i64| {
        json!([
            ["overwrite", "left", [[1, n]]],
            ["overwrite", "right", [[1, n]]],
        ])
    };
    lake.run(&json!([
        ["create", "left", ["id", "value"], [[1, 1]]],
        ["create", "right", ["id", "value"], [[1, 1]]],
    ]))
    .says(0, &["R1"]);
    let until = lake.scratch.path("until");
    std::fs::write(&until, "quiet").unwrap();
    let reader = lake.start("read", &until.display().to_string());
    let rounds = std::env::var("UNSHIP_LAKE_ROUNDS");
    let rounds = rounds.map_or(5, |n| n.parse::<i64>().unwrap() / 5);
    for n in 0..rounds {
        lake.aside(&pair(n + 2)).says(0, &["is production"]);
    }
    std::fs::remove_file(&until).unwrap();
    let seen = told(reader);
    println!("{rounds} published, {seen} read");
    assert!(seen[0].as_i64().unwrap() > 0);
    assert_eq!(seen[1], 0, "mixtures seen: {seen}");
}
