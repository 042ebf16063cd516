//! dbt projects that nobody here wrote, as dbt-spark builds them of Iceberg tables: dbt's own fixtures
//! for adapters (`dbt-tests-adapter`), and `jaffle_shop`.

use super::adapter_fixtures::texts;
use super::spark::{Seen, Spark};
use super::spark_dbt::{dbt, profiles};
use super::support::{Output, Tools, tools};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use unship_core::testing::skipped;

/// Everything is an Iceberg table. The default strategy of dbt-spark only appends.
const PROJECT: &str = "name: test
version: '1.0'
profile: shop
flags: {send_anonymous_usage_stats: false}
models: {+file_format: iceberg, +incremental_strategy: merge}
seeds: {+file_format: iceberg}
snapshots: {+file_format: iceberg}
";

struct Play {
    spark: Spark,
    dbt: String,
    texts: BTreeMap<String, String>,
}

impl Play {
    fn new(namespace: &str, tools: &Tools, modules: &[&str]) -> Option<Self> {
        let spark = Spark::new(namespace)?;
        let scratch = &spark.lake.scratch;
        let texts = texts(scratch, tools, modules)?;
        scratch.write("dbt_project.yml", PROJECT);
        scratch.write("profiles.yml", profiles(&spark));
        scratch.write(".gitignore", "target\nlogs\n.unship\n");
        scratch.only_tell();
        // Where dbt-spark makes the view that a snapshot is merged from.
        spark.sql(&["create namespace if not exists lake.default"]);
        Some(Self {
            dbt: dbt(&spark),
            spark,
            texts,
        })
    }

    /// Writes fixtures to files.
    fn put(&self, files: &[(&str, &str)]) {
        for (path, name) in files {
            let text = self.texts.get(*name);
            let text = text.unwrap_or_else(|| panic!("there is no fixture {name}"));
            self.spark.lake.scratch.write(path, text);
        }
        self.spark.lake.scratch.commit("fixtures");
    }

    fn build(&self, words: &[&str]) -> Output {
        let command = [&["run", "--in-place", "--", &self.dbt][..], words].concat();
        self.spark.lake.scratch.unship(&command)
    }

    #[track_caller]
    fn is(&self, when: &str, expected: &Seen) {
        same(when, &self.spark.seen(), expected);
    }

    /// Releases, goes back and forth, and stays forth.
    #[track_caller]
    fn release(&self, words: &[&str]) {
        let scratch = &self.spark.lake.scratch;
        let old = self.spark.seen();
        self.build(words).says(0, &["is production"]);
        let new = self.spark.seen();
        assert_ne!(old, new, "the release changed nothing");
        scratch.ok(&["rollback"]);
        self.is("back", &old);
        scratch.ok(&["verify"]);
        scratch.ok(&["undo"]);
        self.is("forth", &new);
        scratch.ok(&["redo"]);
        self.is("back again", &old);
        scratch.ok(&["undo"]);
        self.is("forth again", &new);
        scratch.ok(&["verify"]);
    }

    /// All the way back to the first release.
    #[track_caller]
    fn back_to_the_first(&self, first: &Seen) {
        let scratch = &self.spark.lake.scratch;
        scratch.ok(&["rollback", "--to", "R1"]);
        self.is("back to R1", first);
        scratch.ok(&["verify"]);
        scratch.ok(&["fsck"]);
    }

    fn rows(&self, query: &str) -> Value {
        self.spark.sql(&[query])
    }
}

#[track_caller]
fn same(when: &str, now: &Seen, expected: &Seen) {
    assert_eq!(
        now.pyiceberg, expected.pyiceberg,
        "{when}: seen by pyiceberg"
    );
    assert_eq!(now.spark, expected.spark, "{when}: seen by Spark");
}

/// `BaseIncremental`, `BaseSnapshotCheckCols` and `BaseSnapshotTimestamp`, whose variable lets them see
/// more rows, and a seed that gets a column.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn incremental_models_and_snapshots() {
    let Some(tools) = tools() else { return };
    let Some(play) = Play::new("spark_basic", &tools, &["basic.files"]) else {
        return;
    };
    play.put(&[
        ("seeds/base.csv", "seeds_base_csv"),
        ("seeds/added.csv", "seeds_added_csv"),
        ("models/incremental.sql", "incremental_sql"),
        ("models/table_model.sql", "base_table_sql"),
        ("models/view_model.sql", "base_view_sql"),
        ("models/schema.yml", "schema_base_yml"),
        ("snapshots/cc_all_snapshot.sql", "cc_all_snapshot_sql"),
        ("snapshots/cc_name_snapshot.sql", "cc_name_snapshot_sql"),
        ("snapshots/ts_snapshot.sql", "ts_snapshot_sql"),
    ]);
    play.build(&["seed"]).says(0, &["R1 is production"]);
    let first = play.spark.seen();
    let counts = "select (select count(*) from incremental), (select count(*) from view_model),
                  (select count(*) from cc_all_snapshot), (select count(*) from ts_snapshot)";
    play.release(&["build", "--exclude", "resource_type:seed"]);
    assert_eq!(play.rows(counts), json!([[10, 10, 10, 10]]));
    let more = [
        "build",
        "--exclude",
        "resource_type:seed",
        "--vars",
        "seed_name: added",
    ];
    play.release(&more);
    assert_eq!(play.rows(counts), json!([[20, 20, 20, 20]]));
    play.put(&[("seeds/base.csv", "seeds_newcolumns_csv")]);
    play.release(&["build"]);
    let initials = "select count(last_initial), count(*) from cc_all_snapshot";
    assert_eq!(play.rows(initials), json!([[10, 30]]));
    play.back_to_the_first(&first);
}

/// `BaseMergeExcludeColumns` and `BaseIncrementalOnSchemaChange`: rows are merged into what is there,
/// tables get columns, and a build stops half-way, on production itself.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn merges_and_columns_that_come() {
    let Some(tools) = tools() else { return };
    let modules = [
        "incremental.fixtures",
        "incremental.test_incremental_merge_exclude_columns",
    ];
    let Some(play) = Play::new("spark_merge", &tools, &modules) else {
        return;
    };
    play.put(&[
        ("models/model_a.sql", "_MODELS__A"),
        (
            "models/append.sql",
            "_MODELS__INCREMENTAL_APPEND_NEW_COLUMNS",
        ),
        ("models/fail.sql", "_MODELS__INCREMENTAL_FAIL"),
        (
            "models/merge_exclude_columns.sql",
            "models__merge_exclude_columns_sql",
        ),
    ]);
    play.build(&["run"]).says(0, &["R1 is production"]);
    let first = play.spark.seen();
    let failed = play.build(&["run"]);
    failed.says(1, &["R2 is live and marked bad", "on_schema_change"]);
    assert_ne!(play.spark.seen(), first, "it stopped half-way");
    play.spark.lake.scratch.ok(&["rollback"]);
    play.is("back from half-way", &first);
    play.spark.lake.scratch.ok(&["verify"]);
    play.release(&["run", "--exclude", "fail"]);
    // As the fixture's own test expects it.
    assert_eq!(
        play.rows("select * from merge_exclude_columns order by id"),
        json!([
            [1, "hello", "blue"],
            [2, "goodbye", "green"],
            [3, "anyway", "purple"]
        ])
    );
    assert_eq!(
        play.rows("select id, field2, field3, field4 from append where id in (3, 4) order by id"),
        json!([[3, "fff", null, null], [4, "hhh", "444", "WWW"]])
    );
    play.release(&["run", "--exclude", "fail", "--full-refresh"]);
    play.back_to_the_first(&first);
}

/// Unfolds a project from what a build of it left behind: the texts of its models and its tests from
/// the manifest, its seeds from the dump of a database.
const UNFOLD: &str = r#"
import csv, gzip, json, pathlib, sys
state = pathlib.Path(sys.argv[1])
nodes = json.load(gzip.open(state / "duckdb.manifest.json.gz"))["nodes"]
tests = {}
for node in nodes.values():
    path = pathlib.Path(node["original_file_path"])
    if node["resource_type"] in ("model", "snapshot"):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = node["raw_code"]
        if node["resource_type"] == "snapshot":
            text = "{% snapshot " + node["name"] + " %}" + text + "{% endsnapshot %}"
        path.write_text(text)
    elif node["resource_type"] == "test":
        said = node["test_metadata"]
        more = {k: v for k, v in said["kwargs"].items() if k not in ("model", "column_name")}
        model = nodes[node["attached_node"]]["name"]
        columns = tests.setdefault(model, {}).setdefault(node["column_name"], [])
        columns.append({said["name"]: {"arguments": more}} if more else said["name"])
models = [
    {"name": model, "columns": [{"name": c, "data_tests": t} for c, t in columns.items()]}
    for model, columns in tests.items()
]
pathlib.Path("models/schema.yml").write_text(json.dumps({"models": models}))
pathlib.Path("seeds").mkdir()
out = None
for line in gzip.open(state / "pg.sql.gz", "rt"):
    if line.startswith("COPY analytics.raw_"):
        name, columns = line[len("COPY analytics."):].split(" (")
        out = csv.writer(open(f"seeds/{name}.csv", "w"))
        out.writerow(columns.split(")")[0].split(", "))
    elif line == "\\.\n":
        out = None
    elif out:
        out.writerow(line.rstrip("\n").split("\t"))
"#;

/// dbt Labs' `jaffle_shop`, of Iceberg tables. Cents become dollars no more, and the snapshot takes it
/// for history.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn jaffle_shop_goes_back_and_forth() {
    let Some(tools) = tools() else { return };
    let Some(inputs) = std::env::var_os("UNSHIP_TEST_INPUTS").map(PathBuf::from) else {
        return skipped("no inputs; set UNSHIP_TEST_INPUTS to the directory that holds states/");
    };
    let Some(play) = Play::new("spark_jaffle", &tools, &[]) else {
        return;
    };
    let scratch = &play.spark.lake.scratch;
    let state = inputs.join("states/jaffle_shop_duckdb");
    let state = state.display().to_string();
    scratch.sh(&tools.python, &["-c", UNFOLD, &state]);
    scratch.commit("jaffle_shop");
    let built = play.build(&["build"]);
    built.says(0, &["R1 is production: 9 relations changed"]);
    let first = play.spark.seen();
    let total = "select sum(customer_lifetime_value), count(*) from customers";
    let good = play.rows(total);
    assert_eq!(good, json!([[1672.0, 100]]));
    let payments = "models/staging/stg_payments.sql";
    let text = scratch.read(payments);
    scratch.write(
        payments,
        text.replace("amount / 100 as amount", "amount as amount"),
    );
    scratch.commit("amounts as they come");
    play.release(&["build"]);
    assert_eq!(play.rows(total), json!([[167_200, 100]]));
    let history = "select count(*), count(dbt_valid_to) from orders_snapshot";
    let versions = play.rows(history);
    assert_ne!(
        versions,
        json!([[99, 0]]),
        "the snapshot took it for history"
    );

    // What comes back by lineage leaves the others as they are.
    scratch.ok(&["rollback", "--to", "R1", "--select", "orders_snapshot"]);
    assert_eq!(play.rows(history), json!([[99, 0]]));
    assert_eq!(play.rows(total), json!([[167_200, 100]]));
    scratch.ok(&["undo"]);
    assert_eq!(play.rows(history), versions);
    play.back_to_the_first(&first);
    assert_eq!(play.rows(total), good);
    play.build(&["build"]).says(77, &["is in quarantine"]);
    play.is("kept out", &first);
}
