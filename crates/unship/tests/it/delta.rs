//! Delta tables in a directory and in an object store, and the Python package `deltalake` as the job,
//! as the others who write, and as the reader. `scripts/python-env delta` makes the environment that
//! has it, with an S3 server; `make test-all` does so.

mod store;

use super::support::{Output, Scratch, Tools, repository};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use unship_core::testing::skipped;

struct Lake {
    scratch: Scratch,
    python: String,
    job: String,
    server: Option<Server>,
}

/// The S3 server of `rig/s3.py`.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lake {
    /// A lake in a directory, and then one in an object store.
    fn everywhere() -> impl Iterator<Item = Self> {
        let lakes: [fn() -> Option<Self>; 2] = [Self::new, Self::in_store];
        lakes.into_iter().filter_map(|lake| lake())
    }

    fn in_store() -> Option<Self> {
        let mut lake = Self::new()?;
        for (name, value) in [
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "somebody"),
            ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
            ("AWS_REGION", "us-east-1"),
            ("DELTA_ROOT", "s3://lake/tables"),
        ] {
            lake.scratch.set(name, value);
        }
        let server = repository().join("crates/unship/tests/it/rig/s3.py");
        let mut command = lake.scratch.command(&lake.python);
        command.arg(server).arg(lake.scratch.path("fault"));
        let ends = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ends.spawn().unwrap();
        let mut port = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut port).unwrap();
        let url = format!("http://127.0.0.1:{}", port.trim());
        lake.scratch.set("AWS_ENDPOINT_URL", &url);
        lake.server = Some(Server { child, url });
        lake.configure("s3://lake/tables");
        Some(lake)
    }

    fn configure(&self, root: &str) {
        self.scratch.write(
            "unship.toml",
            format!(
                "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"delta\"\n\
                 root = \"{root}\"\ncatalog = \"lake\"\nnamespaces = [\"s\"]\n"
            ),
        );
    }

    fn new() -> Option<Self> {
        let Ok(python) = std::env::var("UNSHIP_TEST_DELTA_PYTHON") else {
            skipped("UNSHIP_TEST_DELTA_PYTHON is not set: scripts/python-env delta makes one");
            return None;
        };
        let tools = Tools {
            python: PathBuf::from(&python),
            dbt: PathBuf::from(&python),
        };
        let mut scratch = Scratch::new(&tools);
        let root = scratch.path("lake");
        std::fs::create_dir_all(root.join("s")).unwrap();
        scratch.set("DELTA_ROOT", &root);
        let job = repository().join("crates/unship/tests/it/rig/delta.py");
        let lake = Self {
            scratch,
            python,
            job: job.display().to_string(),
            server: None,
        };
        lake.configure("lake");
        Some(lake)
    }

    /// What everybody sees when production is `then`, after it was `now`: where nothing can be
    /// renamed, a table that was made meanwhile stays, without its rows.
    fn without(&self, then: &Value, now: &Value) -> Value {
        let mut out = then.clone();
        for (name, table) in now.as_object().unwrap() {
            if self.server.is_some() && then.get(name).is_none() {
                out[name] = table.clone();
                out[name]["rows"] = json!([]);
            }
        }
        out
    }

    fn sh(&self, args: &[&str]) -> Value {
        let mut all = vec![self.job.as_str()];
        all.extend(args);
        let out = self.scratch.sh(&self.python, &all);
        serde_json::from_str(&out).unwrap_or(Value::Null)
    }

    /// What somebody does who knows nothing of unship.
    fn others(&self, operations: &Value) {
        self.sh(&["do", &operations.to_string()]);
    }

    /// What a guarded job does.
    fn run(&self, operations: &Value) -> Output {
        let text = operations.to_string();
        let job = [&self.python, &self.job, "do", &text];
        let mut args = vec!["run", "--"];
        args.extend(job.map(|text| -> &str { text }));
        self.scratch.unship(&args)
    }

    fn show(&self) -> Value {
        self.sh(&["show"])
    }
}

/// A partition's value with everything that a path must encode.
const ODD: &str = "é b/c%41=d";

/// Rows, columns, partitions, properties and constraints change, with checkpoints in between, a table
/// comes: all of it goes back and forth, and an independent reader finds exactly what was there.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn everything_a_job_did_goes_back_and_forth() {
    Lake::everywhere().for_each(|lake| goes_back_and_forth(&lake));
}

fn goes_back_and_forth(lake: &Lake) {
    lake.others(&json!([["create", "s/raw", ["id"], [[1]]]]));
    lake.run(&json!([
        [
            "create",
            "s/orders",
            ["id", "region"],
            [[1, ODD], [2, "eu"], [3, null]],
            "region"
        ],
        ["create", "s/customers", ["id", "value"], [[1, 1], [2, 2]]],
        [
            "property",
            "s/customers",
            "delta.deletedFileRetentionDuration",
            "interval 40 days"
        ],
        ["checkpoint", "s/orders"],
    ]))
    .says(0, &["R1 is production: 2 relations changed"]);
    let r1 = lake.show();
    lake.run(&json!([
        ["append", "s/orders", [[4, ODD]]],
        ["delete", "s/orders", "id = 1"],
        [
            "append",
            "s/customers",
            [[3, 3, 3]],
            ["id", "value", "extra"]
        ],
        ["constraint", "s/customers", "positive", "value > 0"],
        ["checkpoint", "s/orders"],
        ["create", "s/more", ["id"], [[8]]],
    ]))
    .says(0, &["R2 is production: 3 relations changed"]);
    let r2 = lake.show();
    assert_ne!(r1, r2);
    let r1 = lake.without(&r1, &r2);

    lake.scratch
        .ok(&["plan"])
        .says(0, &["not atomic between tables", "set lake.s.more aside"]);
    lake.scratch.ok(&["rollback"]);
    assert_eq!(lake.show(), r1);
    lake.scratch.ok(&["verify"]);
    let says = lake.sh(&["history", "s/orders"]);
    assert_eq!(
        (&says["operation"], &says["userMetadata"]),
        (&json!("RESTORE"), &json!("unship R3"))
    );
    // What others wrote since stays: they wrote to what no job owns.
    lake.others(&json!([
        ["append", "s/raw", [[2]]],
        ["checkpoint", "s/orders"]
    ]));
    lake.scratch.ok(&["undo"]);
    let mut expected = r2.clone();
    expected["s/raw"]["rows"] = json!([[1], [2]]);
    assert_eq!(lake.show(), expected);
    lake.scratch.ok(&["verify"]);

    // Compaction is nobody's change.
    lake.others(&json!([
        ["append", "s/raw", [[3]]],
        ["compact", "s/raw"],
        ["compact", "s/orders"]
    ]));
    expected["s/raw"]["rows"] = json!([[1], [2], [3]]);
    let mut back = r1;
    back["s/raw"] = expected["s/raw"].clone();
    lake.scratch.ok(&["redo"]);
    assert_eq!(lake.show(), back);
    lake.scratch.ok(&["undo"]);
    assert_eq!(lake.show(), expected);
    lake.scratch.ok(&["fsck"]);

    let failed = lake.run(&json!([
        ["append", "s/customers", [[66, 66, 66]]],
        ["fail", ""]
    ]));
    failed.says(3, &["marked bad"]);
    lake.scratch.ok(&["rollback"]);
    assert_eq!(lake.show(), expected);

    // What was vacuumed is named, and nothing changes.
    lake.others(&json!([["vacuum", "s/orders"]]));
    let refused = lake.scratch.unship(&["rollback", "--to", "R1"]);
    refused.says(refused.code, &["lost files of its version"]);
    assert_ne!(refused.code, 0);
    assert_eq!(lake.show(), expected);
    let doctor = lake.scratch.unship(&["doctor"]);
    doctor.says(
        doctor.code,
        &[
            "ALTER TABLE delta.",
            "delta.deletedFileRetentionDuration",
            "lost files",
        ],
    );
}

/// A table whose directory is deleted is named, and what is left goes back without it.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn a_dropped_table_is_named_and_the_others_go_back() {
    Lake::everywhere().for_each(|lake| a_table_is_dropped(&lake));
}

fn a_table_is_dropped(lake: &Lake) {
    let both = |n: i64| {
        json!([
            ["create", "s/orders", ["id", "value"], [[1, n]]],
            ["create", "s/gone", ["id"], [[n]]],
        ])
    };
    lake.run(&both(1)).says(0, &["R1"]);
    lake.run(&json!([
        ["overwrite", "s/orders", [[2, 2]]],
        ["drop", "s/gone"]
    ]))
    .says(76, &["R2 is live and marked bad", "vanished"]);
    let before = lake.show();
    let refused = lake.scratch.unship(&["rollback"]);
    refused.says(
        refused.code,
        &[
            "lake.s.gone cannot go back: its directory was deleted",
            "--select",
        ],
    );
    assert_eq!(lake.show(), before);
    lake.scratch
        .ok(&["rollback", "--to", "R1", "--select", "lake.s.orders"]);
    assert_eq!(lake.show()["s/orders"]["rows"], json!([[1, 1]]));
}

/// `unship` dies at each of its boundaries in turn: `resume` finishes or takes back, and nothing is
/// between the old state and the new one.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn a_crash_anywhere_is_resumed() {
    Lake::everywhere().for_each(crashes);
}

fn crashes(mut lake: Lake) {
    lake.run(&json!([
        ["create", "s/orders", ["id"], [[1]]],
        ["create", "s/customers", ["id"], [[1]]]
    ]))
    .says(0, &["R1"]);
    let old = lake.show();
    lake.run(&json!([
        ["append", "s/orders", [[2]]],
        ["overwrite", "s/customers", [[2]]],
        ["create", "s/more", ["id"], [[8]]]
    ]))
    .says(0, &["R2"]);
    let new = lake.show();
    let old = lake.without(&old, &new);
    let stride = std::env::var("UNSHIP_CRASH_STRIDE");
    let stride: usize = stride.map_or(7, |n| n.parse().unwrap());
    let mut crashes = 0;
    for at in (1..).step_by(stride) {
        let now = lake.show();
        // To the other one of the two.
        let to = if now == new { "R1" } else { "R2" };
        lake.scratch.set("UNSHIP_FAULT_AT", at.to_string());
        let ran = lake.scratch.unship(&["rollback", "--to", to]);
        lake.scratch.set("UNSHIP_FAULT_AT", "0");
        if ran.code == 0 {
            break;
        }
        crashes += 1;
        let resumed = lake.scratch.unship(&["resume"]);
        assert!(
            [0, 70, 75].contains(&resumed.code),
            "{at}: {}",
            resumed.text()
        );
        let after = lake.show();
        assert!(after == old || after == new, "{at}: a mixture: {after}");
        lake.scratch.ok(&["verify"]);
        lake.scratch.ok(&["fsck"]);
    }
    assert!(crashes > 1, "it never crashed");
    println!("{crashes} crashes, in a store: {}", lake.server.is_some());
}

/// Others keep committing while production goes back and forth: whatever they were told is committed
/// is in some version, and nothing is overwritten.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn nothing_that_others_commit_meanwhile_is_lost() {
    Lake::everywhere().for_each(|lake| others_go_on(&lake));
}

fn others_go_on(lake: &Lake) {
    let rounds = std::env::var("UNSHIP_LAKE_ROUNDS");
    let rounds: usize = rounds.map_or(10, |n| n.parse().unwrap());
    lake.run(&json!([["create", "s/orders", ["id", "value"], [[1, 1]]]]))
        .says(0, &["R1"]);
    lake.run(&json!([["append", "s/orders", [[2, 2]]]]))
        .says(0, &["R2"]);
    let until = lake.scratch.path("until");
    std::fs::write(&until, "").unwrap();
    let mut writer = lake.scratch.command(&lake.python);
    let until = until.display().to_string();
    writer.args([lake.job.as_str(), "append", &until]);
    let writer = writer.stdout(Stdio::piped()).spawn().unwrap();
    let (mut moved, mut refused) = (0, 0);
    for _ in 0..rounds * 20 {
        let to = if moved % 2 == 0 { "undo" } else { "redo" };
        let out = lake.scratch.unship(&[to, "--others", "set-aside"]);
        match out.code {
            // Others may have committed again before the proof looked: that is told, too.
            0 | 74 => moved += 1,
            _ => {
                out.says(out.code, &["production"]);
                refused += 1;
            }
        }
        if moved >= rounds {
            break;
        }
    }
    std::fs::remove_file(&until).unwrap();
    let written = writer.wait_with_output().unwrap();
    let committed: Vec<i64> = serde_json::from_slice(&written.stdout).unwrap();
    assert!(moved >= rounds, "{moved} of {rounds}, {refused} refused");
    let kept: Vec<i64> = serde_json::from_value(lake.sh(&["kept", "s/orders"])).unwrap();
    let lost: Vec<_> = committed.iter().filter(|id| !kept.contains(id)).collect();
    println!(
        "{moved} moved, {refused} refused, {} committed, in a store: {}",
        committed.len(),
        lake.server.is_some()
    );
    assert!(!committed.is_empty() && lost.is_empty(), "lost: {lost:?}");
}
