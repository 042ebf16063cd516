//! Every kind of job: aside, in place, good, failed, killed, and dbt in all its invocations.

use crate::rig::wait_for;
use crate::support::lab::{self, job, sql};
use crate::support::oracle::State;
use crate::support::shop::{self, Moment};
use crate::support::tiny::tiny;
use crate::support::{Scratch, golden, tools};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Stdio;

fn release(lab: &Scratch) -> String {
    sql(lab, "lab.duckdb", &["select release from mart"])
}

#[test]
fn a_build_that_fails_never_becomes_production() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let database = shop.path("shop.duckdb");
    let before = State::of(&shop, &database, "before");
    let live = fs::metadata(&database).unwrap().modified().unwrap();
    shop::overlay(&shop, "r3-caught");
    let run = shop.unship(&["run", "--", "dbt", "--quiet", "build"]);
    assert_eq!(run.code, 1, "dbt's own exit code: {run:?}");
    assert_eq!(fs::metadata(&database).unwrap().modified().unwrap(), live);
    let after = State::of(&shop, &database, "after");
    assert_eq!(before.differences(&shop, &after, &[]), [""; 0]);
    let told: Vec<_> = run
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("not published"))
        .collect();
    let mut text = told.join("\n");
    text.push('\n');
    text.push_str(&shop.ok(&["log", "-n", "2"]).text());
    text.push_str(&shop.ok(&["diff", "R3", "R4"]).text());
    text.push_str(&shop.unship(&["rollback", "--to", "R4"]).text());
    golden("caught", &text);
    shop.ok(&["show", "R4", "--log"])
        .says(0, &["orders_match_payments"]);
    // What it built can be looked at.
    let built = sql(
        &shop,
        ".unship/points/R4/shop.duckdb",
        &["select count(*) > 0 from core.fct_orders"],
    );
    assert_eq!(built, "True");
}

#[test]
fn in_place_a_failed_job_can_be_taken_back() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let in_place = ["run", "--in-place", "--", "python", "job.py"];
    let with = |more: &[&'static str]| {
        in_place
            .iter()
            .copied()
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    lab.ok(&with(&["update mart set release = 2"]));
    assert_eq!(release(&lab), "2");
    let failed = lab.unship(&with(&[
        "update mart set release = 3",
        "select * from nowhere",
    ]));
    assert_eq!(failed.code, 1, "the job's own exit code");
    assert_eq!(release(&lab), "3", "it worked on production itself");
    let mut text = failed.stdout.clone();
    text.push_str(&lab.ok(&["status"]).text());
    // Nothing else was touched, so the newest good release before it is R2.
    sql(&lab, "lab.duckdb", &["insert into raw values (500)"]);
    text.push_str(&lab.ok(&["rollback"]).text());
    text.push_str(&lab.ok(&["log"]).text());
    assert_eq!(release(&lab), "2");
    assert_eq!(sql(&lab, "lab.duckdb", &["select max(id) from raw"]), "500");
    golden("in_place", &text);
}

#[test]
fn a_jobs_end_is_passed_on() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let mut text = String::new();
    for (code, script) in [
        (7, "exit 7"),
        (128 + 9, "kill -KILL $$"),
        (128 + 15, "kill -TERM $$"),
        (1, "rm \"$UNSHIP_DATABASE\"; exit 1"),
    ] {
        let output = lab.unship(&["run", "--aside", "--", "sh", "-c", script]);
        assert_eq!(output.code, code, "{output:?}");
        text.push_str(&output.text());
    }
    for args in [
        &[
            "run",
            "--aside",
            "--",
            "sh",
            "-c",
            "rm \"$UNSHIP_DATABASE\"",
        ][..],
        &[
            "run",
            "--aside",
            "--",
            "sh",
            "-c",
            "echo no database > \"$UNSHIP_DATABASE\"",
        ],
        &["run", "--aside", "--", "no-such-program", "--at-all"],
        &["run", "--", "/"],
        &["run", "--"],
        &["run", "--aside", "--in-place", "--", "true"],
    ] {
        let output = lab.unship(args);
        assert_ne!(output.code, 0, "{output:?}");
        text.push_str(&output.text());
    }
    golden("how_jobs_end", &text);
    assert_eq!(release(&lab), "1", "production is what it was");
    lab.ok(&["status"]);
    lab.ok(&["verify"]);
}

#[test]
fn a_job_that_outlives_its_unship_keeps_the_next_one_out() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let script = "sleep 600 & echo $! > pid.new; mv pid.new pid";
    let waits = format!("{script}; wait");
    let args = ["run", "--aside", "--", "sh", "-c", &waits];
    let mut unship = lab.unship_command(&args);
    let unship = unship.stdout(Stdio::null()).stderr(Stdio::null());
    let mut unship = unship.spawn().unwrap();
    wait_for("the job's start", || lab.path("pid").exists());
    unship.kill().unwrap();
    unship.wait().unwrap();
    lab.ok(&["resume"]);
    let next = ["run", "--aside", "--", "true"];
    let refused = lab.unship(&next);
    refused.says(
        71,
        &["still runs: process ", "(sh)", "hint: wait", "R1 is live"],
    );
    let told = refused.stderr.split("process ").nth(1).unwrap();
    let shell = told.split(' ').next().unwrap().parse().unwrap();
    kill(Pid::from_raw(shell), Signal::SIGKILL).unwrap();
    // What it started can still write.
    let refused = lab.unship(&next);
    assert_eq!(refused.code, 71, "{refused:?}");
    let left = lab.read("pid").trim().parse().unwrap();
    kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
    wait_for("its end", || lab.unship(&next).code == 0);

    // What a job left in the background on purpose is nobody's business.
    fs::remove_file(lab.path("pid")).unwrap();
    let leaves = format!("({script}) >/dev/null 2>&1 &");
    lab.ok(&["run", "--aside", "--", "sh", "-c", &leaves]);
    lab.ok(&next);
    wait_for("what was left", || lab.path("pid").exists());
    let left = lab.read("pid").trim().parse().unwrap();
    kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
}

#[test]
fn a_password_on_the_command_line_is_neither_shown_nor_kept() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let secrets = ["postgresql://u:hush1@h/d", "password=hush2"];
    let mut args = vec!["run", "--aside", "--", "sh", "-c"];
    // The job itself gets it. The pattern does not spell it out, for the command is kept.
    args.push(
        "case \"$0 $1\" in *hus[h]1*hus[h]2*) ;; *) exit 9;; esac; echo >pid; exec sleep 600",
    );
    args.extend(secrets);
    let mut unship = lab.unship_command(&args).spawn().unwrap();
    wait_for("the job's start", || lab.path("pid").exists());
    let refused = lab.unship(&["run", "--aside", "--", "true"]);
    refused.says(71, &["postgresql://***@h/d", "password=***"]);
    let shown = lab.unship(&["show", "R2"]);
    shown.says(0, &["postgresql://***@h/d", "password=***"]);
    kill(Pid::from_raw(unship.id() as i32), Signal::SIGTERM).unwrap();
    unship.wait().unwrap();
    let kept = fs::read(lab.path(".unship/ledger.sqlite")).unwrap();
    let hush = kept.windows(4).any(|bytes| bytes == b"hush");
    assert!(!hush && !shown.stdout.contains("hush") && !refused.stderr.contains("hush"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let logs = lab.path(".unship/logs");
    fs::remove_dir_all(&logs).unwrap();
    lab.write(".unship/logs", "in the way");
    let failed = lab.unship(&["run", "--aside", "--", "true"]);
    failed.says(
        70,
        &[logs.to_str().unwrap(), "production: as it was before"],
    );
}

#[test]
fn what_a_job_drops_comes_back_and_what_others_drop_stays_away() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, "drop table raw");
    lab.ok(&["rollback"]);
    assert_eq!(
        sql(&lab, "lab.duckdb", &["select count(*) from raw"]),
        "100"
    );

    job(&lab, "update mart set release = 2");
    sql(
        &lab,
        "lab.duckdb",
        &["create table theirs as select 1 as x", "drop table mart"],
    );
    // There is nothing of theirs to lose in a relation that they dropped.
    let mut text = lab.ok(&["rollback", "--to", "R1"]).text();
    text.push_str(&lab.unship(&["verify"]).text());
    text.push_str(&lab.unship(&["plan", "--to", "R1"]).text());
    golden("dropped_by_others", &text);
    assert_eq!(release(&lab), "1");
    assert_eq!(sql(&lab, "lab.duckdb", &["select x from theirs"]), "1");
}

#[test]
fn dbt_is_found_wherever_it_is_started() {
    let Some(tools) = tools() else { return };
    let mut tiny = tiny(&tools);
    let database = tiny.path("tiny.duckdb");
    let place = database.display().to_string();
    tiny.set("TINY_DB", &database);
    let profiles = tiny.path("profiles").display().to_string();
    let ask = |tiny: &Scratch| sql(tiny, &place, &["select release from b"]);

    // From above, with both directories named.
    tiny.ok(&[
        "run",
        "--",
        "dbt",
        "--quiet",
        "build",
        "--project-dir",
        "p",
        "--profiles-dir",
        "profiles",
    ]);
    assert_eq!(ask(&tiny), "1");
    assert!(tiny.path("p/unship.toml").exists(), "set up on the way");
    // From inside of the project, through a variable and a Python module.
    let top = tiny.cwd.clone();
    tiny.set("DBT_PROFILES_DIR", &profiles);
    tiny.cwd = top.join("p/models");
    tiny.ok(&[
        "run",
        "--",
        "python",
        "-m",
        "dbt.cli.main",
        "--quiet",
        "run",
        "--project-dir",
        "..",
        "--vars",
        "n: 2",
    ]);
    tiny.cwd = top.clone();
    assert_eq!(ask(&tiny), "2");
    // A script that starts dbt.
    tiny.cwd = top.join("p");
    tiny.write(
        "nightly.sh",
        "#!/bin/sh\nexec dbt --quiet run --vars 'n: 3' --select a+\n",
    );
    tiny.ok(&["run", "--aside", "--", "sh", "nightly.sh"]);
    tiny.cwd = top.clone();
    assert_eq!(ask(&tiny), "3");
    tiny.cwd = top.join("p");
    tiny.ok(&["rollback", "--select", "a"]);
    tiny.cwd = top;
    assert_eq!(ask(&tiny), "2");
}

#[test]
fn targets_that_cannot_be_guarded_are_refused_by_name() {
    let Some(tools) = tools() else { return };
    let mut tiny = tiny(&tools);
    tiny.cwd = tiny.path("p");
    let dbt = |more: &[&'static str]| {
        let mut args = vec!["run", "--", "dbt", "build", "--profiles-dir", "../profiles"];
        args.extend(more);
        args
    };
    let mut text = tiny.unship(&dbt(&[])).text();
    tiny.set("TINY_DB", "tiny.duckdb");
    for target in ["memory", "duck", "nowhere", "absent"] {
        let refused = tiny.unship(&dbt(&["--target", target]));
        assert_eq!(refused.code, 2, "{refused:?}");
        text.push_str(&refused.text());
    }
    tiny.ok(&["--env", "prod", "init", "--database", "tiny.duckdb"]);
    text.push_str(&tiny.unship(&dbt(&["--target", "other"])).text());
    text.push_str(&tiny.unship(&["run", "--", "dbt", "build"]).text());
    text.push_str(
        &tiny
            .unship(&["run", "--", "dbt", "build", "--project-dir", "../nowhere"])
            .text(),
    );
    golden("targets_refused", &text);
    assert!(!tiny.path("tiny.duckdb").exists(), "no job was run");
}

#[test]
fn two_files_are_released_and_rolled_back_together() {
    let Some(tools) = tools() else { return };
    let tiny = tiny(&tools);
    tiny.write(
        "profiles/profiles.yml",
        "tiny:\n  target: prod\n  outputs:\n    prod:\n      type: duckdb\n      path: ../one.duckdb\n      attach: [{path: ../second.duckdb, alias: two}]\n",
    );
    tiny.write(
        "p/models/b.sql",
        "{{ config(materialized='table', database='two') }} select * from {{ ref('a') }}",
    );
    tiny.write(
        "p/models/out.sql",
        "{{ config(materialized='external', location='out.parquet') }} select 1 as x",
    );
    let mut p = tiny;
    p.cwd = p.path("p");
    for n in ["n: 1", "n: 2"] {
        p.ok(&[
            "run",
            "--",
            "dbt",
            "--quiet",
            "run",
            "--profiles-dir",
            "../profiles",
            "--vars",
            n,
        ]);
    }
    let both = |p: &Scratch| {
        [("../one.duckdb", "a"), ("../second.duckdb", "b")]
            .map(|(file, table)| sql(p, file, &[&format!("select release from {table}")]))
    };
    assert_eq!(both(&p), ["2", "2"]);
    let mut text = p.ok(&["plan"]).text();
    p.ok(&["rollback"]);
    assert_eq!(both(&p), ["1", "1"]);
    p.ok(&["redo"]);
    assert_eq!(both(&p), ["2", "2"]);
    p.ok(&["rollback", "--select", "b"]);
    assert_eq!(both(&p), ["2", "1"]);
    text.push_str(&p.ok(&["verify"]).text());
    fs::remove_file(p.path("unship.toml")).unwrap();
    p.set("DBT_PROFILES_DIR", "../profiles");
    text.push_str(&p.ok(&["init"]).text());
    golden(
        "two_files",
        &text.replace(
            &p.path("..").canonicalize().unwrap().display().to_string(),
            "[top]",
        ),
    );
}

/// Builds, and writes to production meanwhile, as a loader would.
const WITH_A_LOADER: &str = "import duckdb, os, sys\n\
    built = duckdb.connect(os.environ['UNSHIP_DATABASE'])\n\
    built.execute(sys.argv[1])\n\
    built.close()\n\
    live = duckdb.connect('lab.duckdb')\n\
    live.execute(sys.argv[2])\n\
    live.close()\n";

#[test]
fn what_others_write_during_a_build_is_carried_over_or_stops_the_publish() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let config = fs::read_to_string(lab.path("unship.toml")).unwrap();
    let path = "path = \"lab.duckdb\"";
    assert!(config.contains(path), "{config}");
    lab.write(
        "unship.toml",
        config.replace(path, &format!("{path}\nfreeze_writers = false")),
    );
    lab.write("with_a_loader.py", WITH_A_LOADER);
    let with = |built: &str, written: &str| {
        let job = ["run", "--aside", "--", "python", "with_a_loader.py"];
        lab.unship(&[&job[..], &[built, written]].concat())
    };

    with(
        "update mart set release = 2",
        "insert into raw values (700)",
    )
    .says(0, &["published"]);
    assert_eq!(release(&lab), "2");
    assert_eq!(sql(&lab, "lab.duckdb", &["select max(id) from raw"]), "700");

    let both = with(
        "update mart set release = 3",
        "update mart set release = 30",
    );
    both.says(
        73,
        &["others wrote to lab.main.mart", "R3", "freeze_writers"],
    );
    assert_eq!(release(&lab), "30", "what they wrote stays");
    let kept = sql(
        &lab,
        ".unship/points/R3/lab.duckdb",
        &["select release from mart"],
    );
    assert_eq!(kept, "3", "and so does what was built");
}
