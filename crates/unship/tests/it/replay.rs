//! After going back, the command of a release is run again: with the code of then, or a fixed one.

use crate::rig::wait_for;
use crate::support::lab::{self, sql};
use crate::support::oracle::State;
use crate::support::shop::{self, Moment};
use crate::support::tiny::tiny;
use crate::support::{Scratch, copy_all, golden, tools};
use std::fs;
use std::process::Command;
use unship_core::testing::skipped;

fn state(shop: &Scratch, name: &str) -> State {
    State::of(shop, &shop.path("shop.duckdb"), name)
}

/// Nothing of a replay stays: no worktree that git knows of, no directory, nothing in the checkout.
fn assert_gone(scratch: &Scratch) {
    let known = scratch.sh("git", &["worktree", "list"]);
    assert_eq!(known.lines().count(), 1, "{known}");
    let left: Vec<_> = fs::read_dir(scratch.path("../tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A temporary directory of its own, to see what is left in it.
fn with_tmp(mut scratch: Scratch) -> Scratch {
    let tmp = scratch.path("../tmp");
    fs::create_dir(&tmp).unwrap();
    let tmp = tmp.canonicalize().unwrap();
    scratch.set("TMPDIR", tmp);
    scratch
}

#[test]
fn a_bad_release_is_run_again_after_its_code_was_fixed() {
    let Some(tools) = tools() else { return };
    let shop = with_tmp(shop::at(&tools, Moment::R3));
    let mut seen = shop.ok(&["rollback"]).text();
    let back = state(&shop, "back");

    // The fix keeps what was good about the release: a mart without a column.
    shop.sh(
        "git",
        &[
            "checkout",
            "-q",
            "HEAD~1",
            "--",
            "models/core",
            "models/staging",
        ],
    );
    shop.sh(
        "git",
        &[
            "rm",
            "-q",
            "models/marts/mart_payment_mix.sql",
            "models/marts/mart_payment_mix.yml",
        ],
    );
    shop.commit("Join payments that are one per order");
    let fresh = Scratch::new(&tools);
    copy_all(&shop.cwd, &fresh.cwd);
    shop::build(&fresh);

    seen.push_str(&shop.ok(&["replay", "R3", "--fixed-code"]).text());
    let replayed = state(&shop, "replayed");
    let built = State::of(&fresh, &fresh.path("shop.duckdb"), "built");
    // The job's own diary says when each ran.
    built.differs_only_in(&shop, &replayed, &["ops.runs"]);
    assert_ne!(
        back.differences(&shop, &replayed, &[]),
        [""; 0],
        "one more day is in"
    );

    for args in [
        &["verify"][..],
        &["status"],
        &["log"],
        &["show"],
        &["replay", "R4"],
        &["replay", "R0", "--fixed-code"],
    ] {
        seen.push_str(&shop.unship(args).text());
    }
    golden("replay", &seen);
    let document = shop.json("unship.release/1", &["--json", "show", "R5"]);
    assert_eq!(document["release"]["operation"]["replays"], "R3");
    assert_eq!(document["release"]["code"]["directory"], "");
    assert_gone(&shop);
}

#[test]
fn without_a_fix_it_is_the_code_of_then() {
    let Some(tools) = tools() else { return };
    let shop = with_tmp(shop::at(&tools, Moment::R2));
    let r2 = state(&shop, "r2");
    shop.ok(&["rollback", "--to", "R1"]);
    // What is checked out now is worse, and what lies about is no part of any commit.
    shop::overlay(&shop, "r3-bad");
    shop.write("models/core/stray.sql", "select 1 as x");
    let files = shop.sh("git", &["status", "--porcelain", "--ignored"]);
    let artefact = fs::metadata(shop.path("target/manifest.json")).unwrap();

    let replay = shop.ok(&["replay", "R2"]);
    replay.says(0, &["replay of R2 in ", "published: R4"]);
    let replayed = state(&shop, "replayed");
    r2.differs_only_in(&shop, &replayed, &["ops.runs"]);
    shop.ok(&["verify"]);
    let show = |release: &str| {
        shop.json("unship.release/1", &["--json", "show", release])["release"].clone()
    };
    let (first, again) = (show("R2"), show("R4"));
    assert_eq!(again["code"]["commit"], first["code"]["commit"]);
    assert_eq!(again["job"]["directory"], shop.cwd.to_str().unwrap());
    for same in ["command", "program", "pipeline"] {
        assert_eq!(again["job"][same], first["job"][same], "{same}");
    }
    assert_eq!(again["end"]["packages"], first["end"]["packages"]);
    // The checkout is as it was, its own artefacts included.
    assert_eq!(
        shop.sh("git", &["status", "--porcelain", "--ignored"]),
        files
    );
    let now = fs::metadata(shop.path("target/manifest.json")).unwrap();
    assert_eq!(now.modified().unwrap(), artefact.modified().unwrap());
    assert_gone(&shop);

    // A replay can be replayed, and taken back like any other run.
    shop.ok(&["undo"]);
    let document = shop.json("unship.run/1", &["--json", "replay", "R4"]);
    assert_eq!(document["replays"], "R4");
    r2.differs_only_in(&shop, &state(&shop, "thrice"), &["ops.runs"]);
    assert_gone(&shop);
}

/// The project lies below the repository's root, its database and a profile beside the repository,
/// and the person stands somewhere else.
#[test]
fn paths_lead_where_they_led() {
    let Some(tools) = tools() else { return };
    let mut tiny = with_tmp(tiny(&tools));
    tiny.set("TINY_DB", "../../data/t.duckdb");
    fs::create_dir(tiny.path("../data")).unwrap();
    tiny.write(
        "../outside/profiles.yml",
        tiny.read("profiles/profiles.yml"),
    );
    tiny.write(
        ".gitignore",
        "target/\nlogs/\n*.duckdb\n.unship/\n.user.yml\n",
    );
    tiny.commit("one");
    let root = tiny.cwd.clone();
    tiny.cwd = root.join("p");
    let build = |n: &str| {
        let vars = format!("{{n: {n}}}");
        let dbt = [
            "run",
            "--",
            "dbt",
            "-q",
            "build",
            "--profiles-dir",
            "../../outside",
        ];
        tiny.ok(&[&dbt[..], &["--vars", &vars]].concat());
    };
    let release = || sql(&tiny, "../../data/t.duckdb", &["select release from b"]);
    build("1");
    build("2");
    tiny.ok(&["rollback"]);
    assert_eq!(release(), "1");
    tiny.write("models/a.sql", "select 77 as release");
    tiny.sh("git", &["commit", "-qam", "worse"]);
    let command = ["-C", "p", "replay", "R2"];
    let mut from_root = tiny.unship_command(&command);
    from_root.current_dir(&root);
    tiny.finish(&command, from_root).says(0, &["published: R4"]);
    assert_eq!(release(), "2", "its variables and its code");
    assert!(!root.join("data").exists());

    tiny.ok(&["rollback", "--to", "R1"]);
    let command = ["-C", "p", "replay", "R2", "--fixed-code"];
    let mut from_root = tiny.unship_command(&command);
    from_root.current_dir(&root);
    tiny.finish(&command, from_root).says(0, &["published: R6"]);
    assert_eq!(release(), "77", "what is checked out");
    assert!(tiny.path("target/manifest.json").exists());
    tiny.cwd = root;
    assert_gone(&tiny);
}

#[test]
fn a_replay_that_cannot_be_the_same_is_refused() {
    let Some(tools) = tools() else { return };
    let lab = with_tmp(lab::new(&tools));
    let mut seen = String::new();
    let mut tell = |what: &str, args: &[&str]| {
        let output = lab.unship(args);
        seen.push_str(&format!("# {what}\n{}\n", output.text()));
        output
    };
    let aside = |more: &[&str]| lab.ok(&[&["run", "--aside", "--"][..], more].concat());
    let job = [
        "python",
        "job.py",
        "create or replace table mart as select 2 as release",
    ];
    tell("no repository", &["replay", "R1"]);
    lab.write(".gitignore", "*.duckdb\n.unship/\n");
    lab.commit("one");
    aside(&job); // R2
    let script = lab.read("job.py");
    lab.write("job.py", format!("{script}# changed\n"));
    aside(&job); // R3
    tell("never committed", &["replay", "R3"]);
    lab.commit("two");
    aside(&[&job[..], &["select 'password=hush'"]].concat()); // R4
    tell("a secret", &["replay", "R4", "--fixed-code"]);
    lab.ok(&["run", "--in-place", "--", "python", "-c", ""]); // R5
    tell("in place", &["replay", "R5"]);
    let absolute = lab.path("job.py").display().to_string();
    aside(&["python", &absolute, job[2]]); // R6
    tell("an absolute path", &["replay", "R6"]);
    tell("no such release", &["replay", "R99"]);
    tell("nothing to run", &["replay", "R0"]);
    tell("it is still there", &["replay", "R6", "--fixed-code"]);

    // A job that fails is not published, and its own exit code is passed on.
    lab.write("job.py", "import sys; sys.exit(9)");
    let failed = tell("it fails", &["replay", "R2", "--fixed-code"]);
    assert_eq!(failed.code, 9);
    assert_eq!(tell("the code of then", &["replay", "R2"]).code, 0);
    assert_gone(&lab);

    // The history that had it is gone.
    fs::remove_dir_all(lab.path(".git")).unwrap();
    lab.commit("anew");
    tell("the commit is gone", &["replay", "R2"]);
    tell(
        "the commit is not needed",
        &["replay", "R2", "--fixed-code"],
    );
    golden("replay_refused", &seen);
    assert_gone(&lab);
}

/// What is unfinished comes first, for a replay as for a run.
#[test]
fn what_is_unfinished_comes_first() {
    let Some(tools) = tools() else { return };
    let lab = with_tmp(lab::new(&tools));
    lab.write(".gitignore", "*.duckdb\n.unship/\n");
    lab.commit("one");
    lab::job(&lab, "create or replace table mart as select 2 as release");
    let args = ["run", "--aside", "--", "sh", "-c", "kill -9 $PPID"];
    assert_eq!(lab.unship(&args).code, -1);
    // The shell may take a moment longer than its unship.
    let run = || lab.unship(&["run", "--aside", "--", "true"]);
    wait_for("the job's end", || run().code == 72);
    let expected = run();
    for more in [&[][..], &["--fixed-code"]] {
        let refused = lab.unship(&[&["replay", "R2"], more].concat());
        assert_eq!(
            (refused.code, &refused.stderr.lines().last()),
            (72, &expected.stderr.lines().last()),
            "{refused:?}"
        );
    }
    assert_gone(&lab);
    lab.ok(&["resume"]);
    lab.ok(&["replay", "R2"]);
}

/// Of everything that is recorded, versions change most easily behind one's back.
#[test]
fn other_versions_are_named() {
    let Some(tools) = tools() else { return };
    let mut tiny = with_tmp(tiny(&tools));
    tiny.set("TINY_DB", "t.duckdb");
    tiny.write(
        ".gitignore",
        "target/\nlogs/\n*.duckdb\n.unship/\n.user.yml\npackage-lock.yml\n",
    );
    tiny.write(
        "p/package-lock.yml",
        "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.3.0\nsha1_hash: x\n",
    );
    tiny.commit("one");
    let options = ["--project-dir", "p", "--profiles-dir", "profiles"];
    tiny.ok(&[&["run", "--", "dbt", "-q", "run"][..], &options].concat());
    tiny.write(
        "p/package-lock.yml",
        "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.1.1\nsha1_hash: x\n",
    );
    let refused = tiny.unship(&["-C", "p", "replay", "R1"]);
    refused.says(
        73,
        &[
            "dbt-labs/dbt_utils 1.3.0 (now 1.1.1)",
            "dbt deps",
            "--fixed-code",
        ],
    );
    let fixed = tiny.unship(&["-C", "p", "replay", "R1", "--fixed-code"]);
    fixed.says(
        0,
        &["dbt-labs/dbt_utils 1.3.0 (now 1.1.1)", "published: R2"],
    );
    let packages = tiny.json("unship.release/1", &["--json", "-C", "p", "show", "R2"]);
    let packages = packages["release"]["end"]["packages"]
        .as_object()
        .unwrap()
        .clone();
    let names: Vec<_> = packages.keys().map(String::as_str).collect();
    assert_eq!(names, ["dbt", "dbt-duckdb", "dbt-labs/dbt_utils", "duckdb"]);
    assert_gone(&tiny);
}

/// The same where a release is built in schemas of the production database.
#[test]
fn on_postgresql_too() {
    let Some(tools) = tools() else { return };
    let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") else {
        return skipped("UNSHIP_TEST_POSTGRES is not set; `scripts/postgres start` prints it");
    };
    let mut tiny = with_tmp(tiny(&tools));
    let word = |key: &str| {
        let mut words = server.split_whitespace();
        words
            .find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let database = format!("unship_replay_{}", std::process::id());
    let psql = |database: &str, sql: &str| {
        let address = format!("{server} dbname={database}");
        let psql = Command::new("psql")
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql, &address])
            .output()
            .unwrap();
        assert!(psql.status.success(), "{psql:?}");
        String::from_utf8(psql.stdout).unwrap().trim().to_owned()
    };
    let admin = word("dbname").unwrap_or_else(|| "postgres".to_owned());
    psql(&admin, &format!("create database {database}"));
    let profile = format!(
        "tiny:\n  target: prod\n  outputs:\n    prod: {{type: postgres, host: {}, port: {}, user: {}, pass: x, \
         dbname: {database}, schema: analytics, threads: 1}}\n",
        word("host").unwrap(),
        word("port").unwrap_or_else(|| "5432".to_owned()),
        word("user").unwrap(),
    );
    // Nobody commits a profile.
    tiny.write("p/profiles.yml", profile);
    tiny.write(
        ".gitignore",
        "target/\nlogs/\n.unship/\n.user.yml\nprofiles.yml\n",
    );
    tiny.write(
        "p/models/a.sql",
        "{{ config(materialized='table') }} select 1 as release",
    );
    tiny.commit("one");
    let root = tiny.cwd.clone();
    tiny.cwd = root.join("p");
    let release = || psql(&database, "select release from analytics.b");
    tiny.ok(&["run", "--", "dbt", "-q", "build"]);
    tiny.write(
        "models/a.sql",
        "{{ config(materialized='table') }} select 2 as release",
    );
    tiny.commit("two");
    tiny.ok(&["run", "--", "dbt", "-q", "build"]);
    tiny.ok(&["rollback"]);
    assert_eq!(release(), "1");
    tiny.write(
        "models/a.sql",
        "{{ config(materialized='table') }} select 77 as release",
    );
    tiny.commit("worse");
    tiny.ok(&["replay", "R2"]).says(0, &["published: R4"]);
    assert_eq!(release(), "2", "the code of then");
    tiny.ok(&["verify"]);
    psql(&admin, &format!("drop database {database} with (force)"));
    tiny.cwd = root;
    assert_gone(&tiny);
}
