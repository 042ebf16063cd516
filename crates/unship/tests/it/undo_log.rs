//! Tables that jobs, loaders and people write where they stand, on PostgreSQL: the real binary, and a
//! server that is asked by `psql`.

use crate::support::warehouse::Warehouse;
use crate::support::{Tools, tools};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// What a project with tables of loaders says of itself.
fn configured(warehouse: &Warehouse, tables: &[&str]) {
    let database = warehouse.ask("SELECT current_database()");
    let text = format!(
        "format = 1\ndefault_env = \"prod\"\n\n[env.prod]\nengine = \"postgres\"\n\
         connection = \"dbname={database}\"\nundo_log = {tables:?}\n"
    );
    warehouse.scratch.write("unship.toml", text);
}

/// Two tables of a loader, one with a key and one without, and a third that has no undo log.
fn loaded(tools: &Tools) -> Option<Warehouse> {
    let warehouse = Warehouse::new(tools, [])?;
    warehouse.sql(
        "CREATE SCHEMA loader;
         CREATE TABLE loader.events (id bigint PRIMARY KEY, kind text, payload json);
         CREATE TABLE loader.lines (n int, what text[]);
         CREATE TABLE loader.other (n int);
         INSERT INTO loader.events SELECT i, 'click', '{\"a\": 1}' FROM generate_series(1, 200) i;
         INSERT INTO loader.lines SELECT i % 5, ARRAY['x', NULL] FROM generate_series(1, 50) i",
    );
    configured(&warehouse, &["loader.events", "loader.lines"]);
    Some(warehouse)
}

/// What the tables hold.
fn rows(warehouse: &Warehouse) -> String {
    warehouse.ask(
        "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM loader.events t
         UNION ALL SELECT string_agg(t::text, ';' ORDER BY t::text) FROM loader.lines t",
    )
}

/// A guarded job that is a script of psql.
fn job(warehouse: &Warehouse, sql: &str) {
    let run = [
        "run",
        "--in-place",
        "--",
        "psql",
        "-XqAt",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        sql,
    ];
    warehouse.scratch.ok(&run);
}

/// A job that works on production itself does harm, a person types an UPDATE, a loader goes on: each
/// is taken back by itself, and the rest stays.
#[test]
fn what_is_written_in_place_is_taken_back() {
    let Some(tools) = tools() else { return };
    let Some(warehouse) = loaded(&tools) else {
        return;
    };
    let scratch = &warehouse.scratch;
    let first = rows(&warehouse);
    job(
        &warehouse,
        "DELETE FROM loader.events WHERE id % 3 = 0; UPDATE loader.lines SET what = '{}' WHERE n = 2",
    );
    let bad = rows(&warehouse);
    assert_ne!(first, bad);
    // The loader of the third table neither waits nor loses a row.
    warehouse.sql("INSERT INTO loader.other VALUES (1), (2)");

    let plan = scratch.json("unship.plan/1", &["--json", "plan"]);
    let statements = plan["plan"]["steps"][0]["statements"].as_array().unwrap();
    let lock = statements[0].as_str().unwrap();
    assert!(lock.contains("SHARE ROW EXCLUSIVE"), "{lock}");
    scratch.ok(&["rollback"]);
    assert_eq!(rows(&warehouse), first);
    assert_eq!(warehouse.ask("SELECT count(*) FROM loader.other"), "2");
    scratch.ok(&["verify"]);
    scratch.ok(&["undo"]);
    assert_eq!(rows(&warehouse), bad);
    scratch.ok(&["redo"]);
    assert_eq!(rows(&warehouse), first);

    // Nobody guards what a person types at night, and a loader goes on after it.
    let before = warehouse.ask("SELECT clock_timestamp()");
    scratch.sh(
        "env",
        &[
            "PGAPPNAME=fix it",
            "psql",
            "-XqAt",
            "-c",
            "UPDATE loader.events SET kind = 'oops' WHERE id < 50",
        ],
    );
    warehouse
        .sql("INSERT INTO loader.events SELECT i, 'late', NULL FROM generate_series(1000, 1009) i");
    let timeline = scratch.json(
        "unship.timeline/1",
        &["--json", "timeline", "loader.events"],
    );
    let typed = &timeline["changes"].as_array().unwrap()[1];
    assert_eq!(typed["application"], "fix it", "{timeline:#}");
    assert_eq!(
        (&typed["rows_in"], &typed["rows_out"]),
        (&49.into(), &49.into())
    );
    let deleted = timeline["changes"].as_array().unwrap();
    let of_the_job = |one: &&serde_json::Value| one["what"] == "delete" && one["release"] == "R1";
    assert!(deleted.iter().any(|one| of_the_job(&one)), "{timeline:#}");

    scratch.ok(&["rollback", "--writer", "fix it"]);
    let kinds = "SELECT kind, count(*) FROM loader.events GROUP BY 1 ORDER BY 1";
    assert_eq!(warehouse.ask(kinds), "click|200\nlate|10");
    // Back to the moment before it, all of it, and forth again.
    let at = before.replace("+00", "Z").replace(' ', "T");
    let told = scratch.ok(&["rollback", "--at", &at]).text();
    assert_eq!(rows(&warehouse), first, "{told}");
    scratch.ok(&["undo"]);
    assert_eq!(warehouse.ask(kinds), "click|200\nlate|10");
    scratch.ok(&["audit", "verify"]);

    // A row that somebody changed again is not overwritten.
    scratch.sh(
        "env",
        &[
            "PGAPPNAME=one",
            "psql",
            "-XqAt",
            "-c",
            "UPDATE loader.events SET kind = 'one' WHERE id = 7",
        ],
    );
    scratch.sh(
        "env",
        &[
            "PGAPPNAME=two",
            "psql",
            "-XqAt",
            "-c",
            "UPDATE loader.events SET kind = 'two' WHERE id = 7",
        ],
    );
    scratch.unship(&["rollback", "--writer", "one"]).says(
        70,
        &[
            "1 of the rows of loader.events that would go back were changed again",
            "(two)",
        ],
    );
    assert_eq!(
        warehouse.ask("SELECT kind FROM loader.events WHERE id = 7"),
        "two"
    );
}

/// Some rows of tables that are written where they stand: what they were in a release or at a moment,
/// while the rest stays as others wrote it since.
#[test]
fn some_rows_of_a_logged_table_come_back() {
    let Some(tools) = tools() else { return };
    let Some(warehouse) = loaded(&tools) else {
        return;
    };
    let scratch = &warehouse.scratch;
    job(
        &warehouse,
        "UPDATE loader.events SET kind = 'view' WHERE id % 2 = 0",
    );
    let good = rows(&warehouse);
    job(
        &warehouse,
        "UPDATE loader.events SET kind = 'bad', payload = NULL WHERE id <= 20; DELETE FROM loader.events WHERE id = 3;
         UPDATE loader.lines SET what = '{bad}' WHERE n < 3; INSERT INTO loader.events VALUES (-1, 'bad')",
    );
    let before = warehouse.ask("SELECT clock_timestamp()");
    let bad = rows(&warehouse);
    let some = ["--select", "loader.events", "--where", "id <= 10"];
    scratch
        .ok(&[&["plan"], &some[..]].concat())
        .says(0, &["where id <= 10", "10 out", "10 of R1 in"]);
    scratch
        .ok(&[&["rollback", "-m", "a bad load"], &some[..]].concat())
        .says(0, &["10 rows out", "10 rows of R1 in"]);
    let kinds =
        "SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind), count(*) FROM loader.events WHERE id";
    assert_eq!(warehouse.ask(&format!("{kinds} <= 10")), "click view|10");
    assert_eq!(
        warehouse.ask(&format!("{kinds} BETWEEN 11 AND 20")),
        "bad|10"
    );
    let flagged = "SELECT release, from_release, rows_out, rows_back, why, undone_by FROM unship.reconciled WHERE name = 'events'";
    assert_eq!(warehouse.ask(flagged), "3|1|10|10|a bad load|");
    scratch
        .ok(&["show"])
        .says(0, &["where id <= 10 come from R1"]);
    let mixed = rows(&warehouse);
    scratch.ok(&["undo"]);
    assert_eq!(rows(&warehouse), bad);
    assert_eq!(warehouse.ask(flagged), "3|1|10|10|a bad load|4");
    scratch.ok(&["redo"]);
    assert_eq!(rows(&warehouse), mixed);
    assert_eq!(warehouse.ask(flagged), "3|1|10|10|a bad load|");

    // Rows without a key, by a value; and others write to the rest of the table meanwhile.
    let two = [
        "--select",
        "loader.lines",
        "--partition",
        "n=2",
        "--to",
        "R1",
    ];
    warehouse.sql("INSERT INTO loader.lines VALUES (4, '{late}'), (4, NULL)");
    let aside = ["--others", "set-aside"];
    scratch
        .unship(&[&["rollback"], &two[..]].concat())
        .says(73, &["others wrote to 1 relation"]);
    scratch.ok(&[&["rollback"], &two[..], &aside].concat());
    let lines = "SELECT n, count(*), count(DISTINCT what) FROM loader.lines WHERE n IN (1, 2, 4) GROUP BY 1 ORDER BY 1";
    assert_eq!(warehouse.ask(lines), "1|10|1\n2|10|1\n4|12|2");
    let wrong = "SELECT count(*) FROM loader.lines WHERE what = '{bad}'";
    assert_eq!(warehouse.ask(wrong), "20");
    scratch
        .unship(&[&["rollback"], &two[..]].concat())
        .says(75, &["the chosen rows are the same"]);

    // What they were at a moment.
    let at = before.replace("+00", "Z").replace(' ', "T");
    scratch.ok(&[&["rollback", "--at", &at], &some[..]].concat());
    assert_eq!(warehouse.ask(&format!("{kinds} <= 10")), "bad|10");
    scratch.ok(&["undo"]);
    assert_eq!(warehouse.ask(&format!("{kinds} <= 10")), "click view|10");

    // A row that would come has moved to where it is not chosen.
    warehouse.sql("UPDATE loader.events SET kind = 'moved' WHERE id = 50");
    let moved = [
        "--select",
        "loader.events",
        "--where",
        "kind = 'view'",
        "--to",
        "R1",
    ];
    scratch.unship(&[&["plan"], &moved[..]].concat()).says(
        73,
        &["rows of loader.events that would come back have keys that rows have now which do not go"],
    );
    scratch
        .unship(&[
            "plan",
            "--writer",
            "x",
            "--select",
            "loader.events",
            "--where",
            "true",
        ])
        .says(2, &["cannot be used with"]);
    scratch.ok(&["rollback", "--to", "R1", "--others", "set-aside"]);
    assert_eq!(rows(&warehouse), good);
    scratch.ok(&["audit", "verify"]);
}

/// Others go on writing to what a bad job wrote to. What they wrote stays, all of it, or all of it is
/// set aside; a row that they built on what the job wrote is a conflict with their name.
#[test]
fn what_others_wrote_to_a_logged_table_is_kept() {
    let Some(tools) = tools() else { return };
    let Some(warehouse) = loaded(&tools) else {
        return;
    };
    let scratch = &warehouse.scratch;
    job(
        &warehouse,
        "UPDATE loader.events SET kind = 'view' WHERE id % 2 = 0",
    );
    let good = rows(&warehouse);
    job(
        &warehouse,
        "DELETE FROM loader.events WHERE id BETWEEN 101 AND 150; UPDATE loader.events SET kind = 'bad' WHERE id > 150;
         INSERT INTO loader.events VALUES (900, 'bad', NULL); UPDATE loader.lines SET what = '{bad}' WHERE n < 3",
    );
    let as_loader = |sql: &str| {
        let words = [
            "PGAPPNAME=loader",
            "psql",
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ];
        scratch.sh("env", &words);
    };
    as_loader(
        "INSERT INTO loader.events SELECT i, 'late', NULL FROM generate_series(1001, 1010) i;
         UPDATE loader.events SET payload = NULL WHERE id <= 5; DELETE FROM loader.events WHERE id = 6;
         INSERT INTO loader.lines VALUES (7, '{late}'); DELETE FROM loader.lines WHERE n = 4",
    );
    let refused = scratch.unship(&["rollback"]);
    refused.says(73, &["others wrote to 2 relations", "loader.events"]);
    scratch.ok(&["plan", "--others", "keep"]).says(
        0,
        &[
            "10 rows added and 6 rows changed or deleted (by ",
            "(loader))",
        ],
    );
    scratch.ok(&["rollback", "--others", "keep"]);
    let events = "SELECT kind, count(*), count(payload) FROM loader.events GROUP BY 1 ORDER BY 1";
    assert_eq!(warehouse.ask(events), "click|100|97\nlate|10|0\nview|99|97");
    let lines = "SELECT n, count(*), count(*) FILTER (WHERE what = '{bad}') FROM loader.lines GROUP BY 1 ORDER BY 1";
    assert_eq!(
        warehouse.ask(lines),
        "0|10|0\n1|10|0\n2|10|0\n3|10|0\n7|1|0"
    );
    let kept = rows(&warehouse);
    scratch.ok(&["verify"]);
    scratch.ok(&["undo"]);
    assert_eq!(
        warehouse.ask("SELECT count(*) FROM loader.events WHERE kind = 'bad'"),
        "51"
    );
    // It holds what they wrote, and nothing of it is lost by going there.
    scratch.ok(&["redo", "--others", "set-aside"]);
    assert_eq!(rows(&warehouse), kept);
    scratch.ok(&["undo"]);

    // On a row of the job somebody builds.
    as_loader("UPDATE loader.events SET payload = '{}' WHERE id = 160");
    scratch
        .unship(&["rollback", "--to", "R1", "--others", "keep"])
        .says(
            73,
            &[
                "1 of the rows of loader.events that would go back were changed again since, by",
                "(loader)",
            ],
        );
    scratch.ok(&["rollback", "--to", "R1", "--others", "set-aside"]);
    assert_eq!(rows(&warehouse), good);
    scratch.ok(&["audit", "verify"]);
}

/// A loader copies rows into tables while a guarded job works in place. They are no part of what the job
/// did, and are not taken back with it unless that is said.
#[test]
fn a_loader_that_copies_during_a_job_loses_nothing() {
    let Some(tools) = tools() else { return };
    let Some(warehouse) = loaded(&tools) else {
        return;
    };
    let scratch = &warehouse.scratch;
    job(
        &warehouse,
        "UPDATE loader.events SET kind = 'view' WHERE id % 2 = 0",
    );
    let copy = |table: &str, rows: &str| {
        format!(
            "printf '{rows}' | env -u PGOPTIONS PGAPPNAME=loader psql -XqAt -c '\\copy {table} from stdin csv'"
        )
    };
    let script = format!(
        "set -e; {}; psql -XqAt -c \"UPDATE loader.events SET kind = 'bad' WHERE id < 100\"; {}",
        copy("loader.lines", "7,\n7,\n8,\n"),
        copy("loader.events", "1001,late,\n1002,late,\n")
    );
    scratch.ok(&["run", "--in-place", "--", "sh", "-c", &script]);
    let events = "SELECT kind, count(*) FROM loader.events GROUP BY 1 ORDER BY 1";
    assert_eq!(warehouse.ask(events), "bad|99\nclick|50\nlate|2\nview|51");
    scratch.unship(&["rollback"]).says(
        73,
        &[
            "loader.events (while releases were made since then: 2 rows added (by ",
            "loader.lines (while releases were made since then: 3 rows added (by ",
            "(loader)",
        ],
    );
    scratch.ok(&["rollback", "--others", "keep"]);
    assert_eq!(warehouse.ask(events), "click|100\nlate|2\nview|100");
    let lines = "SELECT count(*) FROM loader.lines WHERE n > 6";
    assert_eq!(warehouse.ask(lines), "3");
    scratch.ok(&["undo"]);
    assert_eq!(warehouse.ask(events), "bad|99\nclick|50\nlate|2\nview|51");
    scratch.ok(&["rollback", "--to", "R1", "--others", "set-aside"]);
    assert_eq!(warehouse.ask(events), "click|100\nview|100");
    assert_eq!(warehouse.ask(lines), "0");
    scratch.ok(&["undo"]);
    assert_eq!(warehouse.ask(lines), "3");
}

/// What the log cannot take back is refused by name, and says why.
#[test]
fn what_the_undo_log_cannot_take_back_is_refused_by_name() {
    let Some(tools) = tools() else { return };
    let Some(warehouse) = loaded(&tools) else {
        return;
    };
    let scratch = &warehouse.scratch;
    job(&warehouse, "DELETE FROM loader.events WHERE id > 190");
    job(
        &warehouse,
        "ALTER TABLE loader.events ADD COLUMN more int; UPDATE loader.events SET kind = 'x'",
    );
    scratch.unship(&["rollback", "--to", "R1"]).says(
        73,
        &[
            "loader.events cannot go back to R1",
            "the columns of loader.events were altered",
        ],
    );
    assert_eq!(
        warehouse.ask("SELECT count(*) FROM loader.events WHERE kind = 'x'"),
        "190"
    );
    // From here on it can go back again.
    job(&warehouse, "UPDATE loader.events SET kind = 'y'");
    scratch.ok(&["rollback"]);
    assert_eq!(
        warehouse.ask("SELECT count(*) FROM loader.events WHERE kind = 'x'"),
        "190"
    );

    warehouse.sql("ALTER TABLE loader.lines DISABLE TRIGGER ALL; DELETE FROM loader.lines; ALTER TABLE loader.lines ENABLE TRIGGER ALL");
    scratch.unship(&["undo-log", "list"]).says(
        0,
        &[
            "loader.events",
            "the triggers of loader.lines were off for a time, or are",
        ],
    );
    warehouse.sql("CREATE UNLOGGED TABLE loader.fast (n int)");
    configured(&warehouse, &["loader.events", "loader.fast"]);
    scratch
        .unship(&["undo-log", "sync"])
        .says(70, &["loader.fast cannot have an undo log: it is unlogged"]);
    configured(&warehouse, &["loader.events"]);
    scratch.ok(&["undo-log", "sync"]);
    let named = "SELECT count(DISTINCT tgrelid) FROM pg_trigger WHERE tgname LIKE 'unship_undo%'";
    assert_eq!(warehouse.ask(named), "1");
    scratch.ok(&["undo-log", "off", "--forget"]);
    assert_eq!(warehouse.ask(named), "0");
    assert_eq!(
        warehouse.ask("SELECT to_regnamespace('unship_undo') IS NULL"),
        "t"
    );
    // The table can be altered as it likes, and dropped.
    warehouse.sql("ALTER TABLE loader.events DROP COLUMN kind; DROP TABLE loader.events");
}

const PROJECT: &[(&str, &str)] = &[
    (
        "dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
    ),
    (
        "models/sources.yml",
        "sources: [{name: raw, schema: raw, tables: [{name: orders, config: {event_time: at}}]}]\n",
    ),
    (
        "models/appended.sql",
        "{{ config(materialized='incremental', incremental_strategy='append') }} select id, at, amount * {{ var('x', 1) }} as amount from {{ source('raw', 'orders') }} {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}",
    ),
    (
        "models/merged.sql",
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key='id') }} select id % 40 as id, max(amount) * {{ var('x', 1) }} as amount from {{ source('raw', 'orders') }} group by 1",
    ),
    (
        "models/replaced.sql",
        "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id') }} select id % 40 as id, max(amount) * {{ var('x', 1) }} as amount from {{ source('raw', 'orders') }} group by 1",
    ),
    (
        "models/batched.sql",
        "{{ config(materialized='incremental', incremental_strategy='microbatch', unique_key='id', event_time='at', batch_size='day', begin='2026-01-01', lookback=2) }} select id, at, amount * {{ var('x', 1) }} as amount from {{ source('raw', 'orders') }}",
    ),
    (
        "snapshots/prices.yml",
        "snapshots: [{name: prices, relation: \"source('raw', 'orders')\", config: {unique_key: id, strategy: check, check_cols: [amount]}}]\n",
    ),
    ("seeds/rates.csv", "currency,rate\nEUR,1\nUSD,2\n"),
];

const MODELS: [&str; 6] = [
    "appended", "merged", "replaced", "batched", "prices", "rates",
];

/// Says that it is over, when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every way in which dbt writes to a table that is there, a loader's COPY and a hand-typed UPDATE:
/// each is undone exactly, while another table goes on being written.
#[test]
#[ignore = "a minute of dbt"]
fn whatever_dbt_does_in_place_is_undone() {
    let Some(tools) = tools() else { return };
    let Some(warehouse) = Warehouse::new(&tools, PROJECT.iter().copied()) else {
        return;
    };
    let scratch = &warehouse.scratch;
    warehouse.sql(
        "CREATE SCHEMA raw; CREATE TABLE raw.orders (id bigint, at timestamp, amount numeric);
         CREATE SCHEMA busy; CREATE TABLE busy.log (n bigint);
         INSERT INTO raw.orders SELECT i, now()::date - 1 + interval '1 minute' * i, i * 1.50 FROM generate_series(1, 100) i",
    );
    let start = warehouse.ask("SELECT current_date - 3");
    let end = warehouse.ask("SELECT current_date + 1");
    let days = ["--event-time-start", &*start, "--event-time-end", &*end];
    scratch.sh("dbt", &[&["--quiet", "build"], &days[..]].concat());
    let tables: Vec<String> = MODELS.iter().map(|m| format!("analytics.{m}")).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    scratch.write(
        "unship.toml",
        format!(
            "format = 1\ndefault_env = \"prod\"\n\n[dbt]\nproject_dir = \".\"\nprofiles_dir = \".\"\n\n\
             [env.prod]\nengine = \"postgres\"\ntarget = \"prod\"\nschemas = [\"analytics\"]\nundo_log = {tables:?}\n"
        ),
    );
    let content = || {
        let one = |table: &&str| {
            warehouse.ask(&format!(
                "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM {table} t"
            ))
        };
        tables.iter().map(one).collect::<Vec<_>>()
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where something fails: the other would never end.
        let _stop = Stop(&stop);
        let busy = scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                warehouse.sql(&format!("INSERT INTO busy.log VALUES ({n})"));
                sleep(Duration::from_millis(20));
            }
            n
        });
        let mut number = 100;
        for model in MODELS {
            let good = content();
            number += 20;
            warehouse.sql(&format!(
                "INSERT INTO raw.orders SELECT i, now()::date - 1 + interval '1 minute' * i, i FROM generate_series({number}, {number} + 19) i;
                 UPDATE raw.orders SET amount = amount + 1 WHERE id % 7 = 0"
            ));
            scratch.write(
                "seeds/rates.csv",
                format!("currency,rate\nEUR,{number}\nCHF,2\n"),
            );
            let mut words = vec![
                "run",
                "--in-place",
                "--",
                "dbt",
                "--quiet",
                "build",
                "-s",
                model,
                "--vars",
                "x: 100",
            ];
            if model == "batched" {
                words.extend(days);
            }
            scratch.ok(&words);
            let bad = content();
            assert_ne!(good, bad, "{model}");
            scratch.ok(&["rollback"]);
            assert_eq!(content(), good, "{model}");
            scratch.ok(&["undo"]);
            assert_eq!(content(), bad, "{model}");
            scratch.ok(&["redo"]);
            assert_eq!(content(), good, "{model}");
        }
        let good = content();
        let before =
            warehouse.ask("SELECT replace(replace(clock_timestamp()::text, ' ', 'T'), '+00', 'Z')");
        let copy = "psql -Xq -c \"COPY analytics.merged FROM STDIN WITH (FORMAT csv)\"";
        scratch.sh(
            "sh",
            &["-c", &format!("printf '901,1\\n902,\\n902,\\n' | {copy}")],
        );
        warehouse.sql("UPDATE analytics.merged SET amount = 0; DELETE FROM analytics.rates");
        assert_ne!(content(), good);
        scratch.ok(&["rollback", "--at", &before]);
        assert_eq!(content(), good);
        stop.store(true, Ordering::Relaxed);
        let n: u64 = busy.join().unwrap();
        assert_eq!(
            warehouse.ask("SELECT count(*) FROM busy.log"),
            n.to_string()
        );
    });
}
