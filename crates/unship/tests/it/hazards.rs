//! What bites with DuckDB and dbt, where no other test shows it. The book's page of hazards names
//! the test of each.

use crate::support::lab::{self, sql};
use crate::support::oracle::State;
use crate::support::tiny::tiny;
use crate::support::{Scratch, Tools, golden, tools};

/// DuckDB's own block checksums do not see that two columns changed places: an XOR has no order.
#[test]
fn columns_that_changed_places_are_a_change_and_come_back() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let in_place = |statements: &[&str]| {
        let mut args = vec!["run", "--in-place", "--", "python", "job.py"];
        args.extend(statements);
        lab.ok(&args);
    };
    let state = |name: &str| State::of(&lab, &lab.path("lab.duckdb"), name);
    in_place(&[
        "create table keys as select hash(range) as a, hash(range + 1) as b, \
         range::double as x, -range::double as y from range(50000)",
        "checkpoint",
    ]);
    let good = state("good");
    in_place(&["update keys set a = b, b = a, x = y, y = x", "checkpoint"]);
    assert_ne!(good.differences(&lab, &state("swapped"), &[]), [""; 0]);
    lab.ok(&["diff", "R2", "R3"])
        .says(0, &["lab.main.keys", "changed"]);
    // In place the restore point is packed, so this writes blocks and no whole file.
    lab.ok(&["rollback"]);
    assert_eq!(good.differences(&lab, &state("back"), &[]), [""; 0]);
}

/// Builds the two models; `fails` makes the second one fail.
fn build(project: &Scratch, n: u32, fails: bool) -> i32 {
    let b = if fails {
        "select error('no') as release from {{ ref('a') }}"
    } else {
        "select * from {{ ref('a') }}"
    };
    project.write(
        "models/b.sql",
        format!("{{{{ config(materialized='table') }}}} {b}"),
    );
    let vars = format!("n: {n}");
    let args = ["run", "--", "dbt", "--quiet", "build", "--vars", &vars];
    project.unship(&args).code
}

/// The tiny project, worked in from its own directory, after a first release.
fn released(tools: &Tools) -> Scratch {
    let mut p = tiny(tools);
    p.set("TINY_DB", p.path("tiny.duckdb"));
    p.set("DBT_PROFILES_DIR", p.path("profiles"));
    p.cwd = p.path("p");
    assert_eq!(build(&p, 1, false), 0);
    p
}

#[test]
fn a_retry_never_publishes_half_of_two_builds() {
    let Some(tools) = tools() else { return };
    let p = released(&tools);
    assert_eq!(
        build(&p, 2, true),
        1,
        "b failed, and a of this build is not live"
    );
    build_file_is_mended(&p);
    let retry = p.unship(&["run", "--", "dbt", "retry"]);
    assert_eq!(retry.code, 2, "{retry:?}");
    let both = "select string_agg(release::varchar, ',') from (from a union all from b)";
    assert_eq!(sql(&p, "../tiny.duckdb", &[both]), "1,1");
    // What a full refresh drops and makes anew comes back as any other.
    let full = [
        "run",
        "--",
        "dbt",
        "--quiet",
        "build",
        "--full-refresh",
        "--vars",
        "n: 3",
    ];
    p.ok(&full);
    assert_eq!(sql(&p, "../tiny.duckdb", &[both]), "3,3");
    p.ok(&["rollback"]);
    assert_eq!(sql(&p, "../tiny.duckdb", &[both]), "1,1");
    golden("dbt_retry", &retry.text());
}

fn build_file_is_mended(project: &Scratch) {
    project.write(
        "models/b.sql",
        "{{ config(materialized='table') }} select * from {{ ref('a') }}",
    );
}

/// A hook that spells production's path out is not redirected; production is locked, so that it
/// fails instead of writing there.
#[test]
fn a_hook_that_names_production_itself_cannot_write_to_it() {
    let Some(tools) = tools() else { return };
    let p = released(&tools);
    let before = State::of(&p, &p.path("../tiny.duckdb"), "before");
    p.write(
        "models/a.sql",
        "{{ config(materialized='table', pre_hook=\"attach '\" ~ env_var('TINY_DB') ~ \"' as outside\", \
         post_hook='create table outside.main.escaped as select 1 as x') }} select 2 as release",
    );
    assert_eq!(build(&p, 2, false), 1, "dbt's own exit code");
    let after = State::of(&p, &p.path("../tiny.duckdb"), "after");
    assert_eq!(before.differences(&p, &after, &[]), [""; 0]);
    p.ok(&["show", "R2", "--log"]).says(0, &["lock"]);
}

/// dbt leaves such relations behind when it is killed; they are nobody's, and no obstacle.
#[test]
fn stray_relations_of_an_interrupted_dbt_stay_where_they_are() {
    let Some(tools) = tools() else { return };
    let p = released(&tools);
    let stray = [
        "create table a__dbt_backup as select 1 as release",
        "create view b__dbt_tmp as select 2 as release",
    ];
    sql(&p, "../tiny.duckdb", &stray);
    assert_eq!(build(&p, 2, false), 0);
    p.ok(&["rollback"]);
    assert_eq!(sql(&p, "../tiny.duckdb", &["select release from a"]), "1");
    p.ok(&["verify"]);
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Some(tools) = tools() else { return };
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        println!("skipped: root may read everything");
        return;
    }
    let lab = lab::new(&tools);
    let database = lab.path("lab.duckdb");
    let mode = |mode| std::fs::set_permissions(&database, std::fs::Permissions::from_mode(mode));
    mode(0o000).unwrap();
    let refused = lab.unship(&["rollback"]);
    mode(0o644).unwrap();
    refused.says(
        70,
        &[
            "cannot open",
            "production: R1 is live",
            "hint: run unship as the user",
        ],
    );
}
