//! dbt's own fixtures for adapters (`dbt-tests-adapter`), played as releases on PostgreSQL: what dbt
//! tests of every warehouse, also has to go back. Their texts are read from the installed package.

use crate::support::warehouse::{Warehouse, same};
use crate::support::{Output, Scratch, Tools, tools};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::testing::skipped;

const PROJECT: (&str, &str) = (
    "dbt_project.yml",
    "name: test\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
);

/// Prints every text that these modules of the package define, by name.
const TEXTS: &str = "
import importlib, json, sys
try:
    modules = [importlib.import_module('dbt.tests.adapter.' + name) for name in sys.argv[1:]]
except ModuleNotFoundError as missing:
    sys.exit(print('null', missing, sep='\\n'))
texts = {name: text for module in modules for name, text in vars(module).items()}
print(json.dumps({name: text for name, text in texts.items() if isinstance(text, str)}))
";

/// The fixtures in these modules, by name.
pub(super) fn texts(
    scratch: &Scratch,
    tools: &Tools,
    modules: &[&str],
) -> Option<BTreeMap<String, String>> {
    let words = [&["-c", TEXTS], modules].concat();
    let said = scratch.sh(&tools.python, &words);
    let line = said.lines().next().unwrap_or_default();
    let texts: Option<BTreeMap<String, String>> = serde_json::from_str(line).unwrap();
    if texts.is_none() {
        skipped(&format!("the adapters' fixtures cannot be read: {said}"));
    }
    texts
}

/// A project whose files are fixtures.
struct Play {
    warehouse: Warehouse,
    texts: BTreeMap<String, String>,
}

impl Play {
    fn new(tools: &Tools, modules: &[&str]) -> Option<Self> {
        let warehouse = Warehouse::new(tools, [PROJECT])?;
        let texts = texts(&warehouse.scratch, tools, modules)?;
        let play = Self { warehouse, texts };
        play.commit();
        play.warehouse.scratch.ok(&["init"]);
        play.warehouse.scratch.only_tell();
        Some(play)
    }

    fn text(&self, name: &str) -> &str {
        let text = self.texts.get(name);
        text.unwrap_or_else(|| panic!("there is no fixture {name}"))
    }

    /// Writes fixtures to files.
    fn put(&self, files: &[(&str, &str)]) {
        for (path, name) in files {
            self.warehouse.scratch.write(path, self.text(name));
        }
        self.commit();
    }

    fn commit(&self) {
        // The same files may come again.
        self.warehouse
            .scratch
            .sh("git", &["init", "-q", "-b", "main", "."]);
        self.warehouse.scratch.sh("git", &["add", "-A"]);
        let words = ["commit", "-q", "--allow-empty", "-m", "a fixture"];
        self.warehouse.scratch.sh("git", &words);
    }

    fn state(&self) -> BTreeSet<String> {
        self.warehouse.state(&[])
    }

    /// Which of the fixtures' users may do what.
    fn granted(&self) -> Vec<String> {
        let granted = self.warehouse.ask(
            "SELECT relname || ' ' || privilege_type || ' ' || right(grantee::regrole::text, 1) \
             FROM pg_class, aclexplode(relacl) \
             WHERE relnamespace = 'analytics'::regnamespace AND grantee <> relowner ORDER BY 1",
        );
        granted.lines().map(str::to_owned).collect()
    }

    fn build(&self, words: &[&str]) {
        self.warehouse.build(words);
    }

    /// Releases, goes back and forth, and stays forth.
    #[track_caller]
    fn release(&self, words: &[&str]) {
        let scratch = &self.warehouse.scratch;
        let old = self.state();
        self.build(words);
        let new = self.state();
        assert_ne!(old, new, "the release changed nothing");
        scratch.ok(&["rollback"]);
        same(&self.state(), &old);
        scratch.ok(&["verify"]);
        scratch.ok(&["redo"]);
        same(&self.state(), &new);
        scratch.ok(&["undo"]);
        same(&self.state(), &old);
        scratch.ok(&["redo"]);
        same(&self.state(), &new);
        scratch.ok(&["verify"]);
        scratch.ok(&["audit", "verify"]);
    }

    /// The job fails, and production is what it was.
    #[track_caller]
    fn fails(&self, words: &[&str]) -> Output {
        let old = self.state();
        let output = self.warehouse.try_build(words);
        assert_ne!(output.code, 0, "{output:?}");
        same(&self.state(), &old);
        output
    }

    /// All the way back to the first release.
    #[track_caller]
    fn back_to_the_first(&self, first: &BTreeSet<String>) {
        self.warehouse.scratch.ok(&["rollback", "--to", "R1"]);
        same(&self.state(), first);
        self.warehouse.scratch.ok(&["verify"]);
    }

    fn kinds(&self) -> String {
        self.warehouse.ask(
            "SELECT string_agg(relname || ' ' || relkind::text, ', ' ORDER BY relname) FROM pg_class \
             WHERE relnamespace = 'analytics'::regnamespace AND relkind IN ('r', 'v', 'm')",
        )
    }
}

/// `MaterializedViewBasic`: each of the three materialisations replaces each other.
#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn materialized_views() {
    let Some(tools) = tools() else { return };
    let Some(play) = Play::new(&tools, &["materialized_view.files"]) else {
        return;
    };
    let files = |table, view, materialized| {
        play.put(&[
            ("seeds/my_seed.csv", "MY_SEED"),
            ("models/my_table.sql", table),
            ("models/my_view.sql", view),
            ("models/my_materialized_view.sql", materialized),
        ]);
    };
    let [table, view, materialized] = ["MY_TABLE", "MY_VIEW", "MY_MATERIALIZED_VIEW"];
    files(table, view, materialized);
    play.build(&["build"]);
    let first = play.state();
    assert_eq!(
        play.kinds(),
        "my_materialized_view m, my_seed r, my_table r, my_view v"
    );
    files(materialized, table, view);
    play.release(&["run"]);
    assert_eq!(
        play.kinds(),
        "my_materialized_view v, my_seed r, my_table m, my_view r"
    );
    files(view, materialized, table);
    play.release(&["run", "--full-refresh"]);
    assert_eq!(
        play.kinds(),
        "my_materialized_view r, my_seed r, my_table v, my_view m"
    );
    // The record that the fixture's own test inserts, and a configuration that is changed.
    let seed = format!("{}\n4,400\n", play.text("MY_SEED"));
    play.warehouse.scratch.write("seeds/my_seed.csv", seed);
    let indexed = play.text(materialized).replace(
        "materialized='materialized_view',",
        "materialized='materialized_view', indexes=[{'columns': ['id'], 'unique': true}],",
    );
    play.warehouse.scratch.write("models/my_view.sql", indexed);
    play.commit();
    play.release(&["build"]);
    let counted = play.warehouse.ask("SELECT count(*) FROM analytics.my_view");
    assert_eq!(counted, "4");
    play.back_to_the_first(&first);
}

/// `BaseChangeRelationTypeValidator`, and a materialised view between its steps.
#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn changing_relation_types() {
    let Some(tools) = tools() else { return };
    let Some(play) = Play::new(&tools, &["relations.test_changing_relation_type"]) else {
        return;
    };
    play.put(&[(
        "models/model_mc_modelface.sql",
        "_DEFAULT_CHANGE_RELATION_TYPE_MODEL",
    )]);
    let run = |kind: &str| {
        [
            "run".to_owned(),
            "--vars".to_owned(),
            format!("materialized: {kind}"),
        ]
    };
    play.build(&run("view").each_ref().map(String::as_str));
    let first = play.state();
    for kind in ["table", "view", "incremental", "materialized_view"] {
        play.release(&run(kind).each_ref().map(String::as_str));
    }
    play.release(&["run", "--vars", "materialized: table", "--full-refresh"]);
    play.back_to_the_first(&first);
}

/// `BaseIncrementalOnSchemaChange`: the second run adds and removes columns.
#[test]
fn incremental_on_schema_change() {
    let Some(tools) = tools() else { return };
    let Some(play) = Play::new(&tools, &["incremental.fixtures"]) else {
        return;
    };
    play.put(&[
        ("models/model_a.sql", "_MODELS__A"),
        (
            "models/model_a_special_chars.sql",
            "_MODELS__A_SPECIAL_CHARS",
        ),
        (
            "models/sync_remove_only.sql",
            "_MODELS__INCREMENTAL_SYNC_REMOVE_ONLY",
        ),
        (
            "models/sync_all.sql",
            "_MODELS__INCREMENTAL_SYNC_ALL_COLUMNS",
        ),
        ("models/ignore.sql", "_MODELS__INCREMENTAL_IGNORE"),
        (
            "models/append.sql",
            "_MODELS__INCREMENTAL_APPEND_NEW_COLUMNS",
        ),
        (
            "models/append_remove_one.sql",
            "_MODELS__INCREMENTAL_APPEND_NEW_COLUMNS_REMOVE_ONE",
        ),
        (
            "models/append_special.sql",
            "_MODELS__INCREMENTAL_APPEND_NEW_SPECIAL_CHARS",
        ),
        (
            "models/sync_special.sql",
            "_MODELS__INCREMENTAL_SYNC_ALL_SPECIAL_CHARS",
        ),
        ("models/fail.sql", "_MODELS__INCREMENTAL_FAIL"),
    ]);
    play.build(&["run"]);
    let first = play.state();
    play.fails(&["run"]).says(1, &["on_schema_change"]);
    play.release(&["run", "--exclude", "fail"]);
    let columns = play.warehouse.ask(
        "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'analytics.sync_special'::regclass AND attnum > 0 AND NOT attisdropped",
    );
    assert_eq!(
        columns,
        "id,field with space,field-with-dash,field.with.dots"
    );
    play.back_to_the_first(&first);
}

/// `BaseModelGrants`, `BaseIncrementalGrants`, `BaseSeedGrants` and `BaseSnapshotGrants`: nobody loses
/// access by a release or by going back, and that a release would have taken it away is said.
#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn grants() {
    let Some(tools) = tools() else { return };
    let modules = ["model", "incremental", "seed", "snapshot"];
    let modules = modules.map(|m| format!("grants.test_{m}_grants"));
    let Some(mut play) = Play::new(&tools, &modules.each_ref().map(String::as_str)) else {
        return;
    };
    for number in ["1", "2", "3"] {
        let role = play.warehouse.role(number);
        let variable = format!("DBT_TEST_USER_{number}");
        play.warehouse.scratch.set(&variable, role);
    }
    play.put(&[
        ("models/my_model.sql", "my_model_sql"),
        (
            "models/my_incremental_model.sql",
            "my_incremental_model_sql",
        ),
        ("seeds/my_seed.csv", "seeds__my_seed_csv"),
        ("snapshots/my_snapshot.sql", "my_snapshot_sql"),
        ("models/model.yml", "model_schema_yml"),
        ("models/incremental.yml", "incremental_model_schema_yml"),
        ("seeds/schema.yml", "schema_base_yml"),
        ("snapshots/schema.yml", "snapshot_schema_yml"),
    ]);
    play.build(&["build"]);
    let one = [
        "my_incremental_model SELECT 1",
        "my_model SELECT 1",
        "my_seed SELECT 1",
        "my_snapshot SELECT 1",
    ];
    assert_eq!(play.granted(), one);
    let first = play.state();
    play.put(&[
        ("models/model.yml", "user2_model_schema_yml"),
        (
            "models/incremental.yml",
            "user2_incremental_model_schema_yml",
        ),
        ("seeds/schema.yml", "user2_schema_base_yml"),
        ("snapshots/schema.yml", "user2_snapshot_schema_yml"),
    ]);
    let said = play.warehouse.build(&["build"]);
    for name in ["my_incremental_model", "my_model", "my_seed", "my_snapshot"] {
        let kept = "its new version came with grants of its own; kept besides: SELECT for";
        said.says(0, &[&format!("analytics.{name}: {kept}")]);
    }
    let both = [
        "my_incremental_model SELECT 1",
        "my_incremental_model SELECT 2",
        "my_model SELECT 1",
        "my_model SELECT 2",
        "my_seed SELECT 1",
        "my_seed SELECT 2",
        "my_snapshot SELECT 1",
        "my_snapshot SELECT 2",
    ];
    assert_eq!(play.granted(), both);
    // What the second release gave goes with it.
    play.warehouse.scratch.ok(&["rollback"]);
    same(&play.state(), &first);
    assert_eq!(play.granted(), one);
    play.warehouse.scratch.ok(&["redo"]);
    // A view becomes a table, with other rights.
    play.put(&[
        (
            "models/model.yml",
            "multiple_privileges_table_model_schema_yml",
        ),
        ("seeds/schema.yml", "zero_grants_yml"),
    ]);
    play.release(&["build"]);
    let mut more = both.to_vec();
    more.insert(2, "my_model INSERT 2");
    assert_eq!(play.granted(), more);
    play.back_to_the_first(&first);
}

/// `BaseConstraintsRuntimeDdlEnforcement`, `BaseConstraintsRollback` and `BaseConstraintQuotedColumn`: keys and checks come and go.
#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn constraints() {
    let Some(tools) = tools() else { return };
    let Some(play) = Play::new(&tools, &["constraints.fixtures"]) else {
        return;
    };
    play.put(&[
        ("models/my_model.sql", "my_model_sql"),
        ("models/foreign_key_model.sql", "foreign_key_model_sql"),
        ("models/schema.yml", "model_schema_yml"),
    ]);
    play.build(&["run"]);
    let first = play.state();
    play.put(&[
        (
            "models/my_model.sql",
            "my_model_wrong_order_depends_on_fk_sql",
        ),
        ("models/schema.yml", "model_fk_constraint_schema_yml"),
    ]);
    play.release(&["run"]);
    // Again: keys between what comes and keys between what gives way.
    let keyed = play.state();
    play.build(&["run"]);
    same(&play.state(), &keyed);
    play.put(&[("models/my_model.sql", "my_model_with_nulls_sql")]);
    play.fails(&["run"])
        .says(1, &["violates not-null constraint"]);
    play.put(&[(
        "models/my_model.sql",
        "my_model_incremental_wrong_order_depends_on_fk_sql",
    )]);
    play.release(&["run", "--full-refresh"]);
    play.put(&[
        (
            "models/my_model.sql",
            "my_model_with_quoted_column_name_sql",
        ),
        ("models/schema.yml", "model_quoted_column_schema_yml"),
    ]);
    play.release(&["run", "--full-refresh"]);
    play.put(&[
        ("models/my_model.sql", "my_model_view_sql"),
        ("models/schema.yml", "model_schema_yml"),
    ]);
    play.release(&["run"]);
    play.back_to_the_first(&first);
}

/// `BaseSimpleSnapshot` and `BaseSnapshotCheck`, whose test changes the rows that are looked at.
#[test]
#[ignore = "it starts dbt many times; `make test-all` runs it"]
fn snapshots() {
    let Some(tools) = tools() else { return };
    let modules = ["seeds", "snapshots", "test_snapshot"].map(|m| format!("simple_snapshot.{m}"));
    let Some(play) = Play::new(&tools, &modules.each_ref().map(String::as_str)) else {
        return;
    };
    play.put(&[
        ("seeds/seed.csv", "SEED_CSV"),
        ("models/fact.sql", "MODEL_FACT_SQL"),
        ("snapshots/snapshot.sql", "SNAPSHOT_TIMESTAMP_SQL"),
    ]);
    play.build(&["build"]);
    for changed in [
        "UPDATE analytics.fact SET updated_at = updated_at + interval '1 day' WHERE id BETWEEN 16 AND 20",
        "INSERT INTO analytics.fact SELECT * FROM analytics.seed WHERE id BETWEEN 21 AND 30",
        "DELETE FROM analytics.fact WHERE id BETWEEN 16 AND 20",
        "INSERT INTO analytics.fact SELECT * FROM analytics.seed WHERE id BETWEEN 16 AND 18",
        "ALTER TABLE analytics.fact ADD COLUMN full_name varchar(200) DEFAULT NULL; \
         UPDATE analytics.fact SET full_name = first_name || ' ' || last_name, updated_at = updated_at + interval '1 day' \
         WHERE id BETWEEN 11 AND 20",
    ] {
        play.warehouse.sql(changed);
        play.release(&["snapshot"]);
    }
    play.put(&[("snapshots/snapshot.sql", "SNAPSHOT_CHECK_SQL")]);
    play.warehouse
        .sql("UPDATE analytics.fact SET email = left(email, 3) WHERE id BETWEEN 6 AND 15");
    play.release(&["snapshot"]);
    // Rows that are overwritten where they are, in a table that no release replaced since.
    play.warehouse
        .sql("UPDATE analytics.fact SET email = 'gone' WHERE id = 3");
    let rollback = play.warehouse.scratch.ok(&["rollback", "--to", "R1"]);
    rollback.says(0, &["analytics.fact stays", "no older copy is kept"]);
    let gone = "SELECT email = 'gone' FROM analytics.fact WHERE id = 3";
    assert_eq!(play.warehouse.ask(gone), "t");
    let open = "SELECT count(*) = 20 AND bool_and(dbt_valid_to IS NULL) FROM analytics.snapshot";
    assert_eq!(play.warehouse.ask(open), "t");
}
