//! Some rows back, what others wrote meanwhile, and the cursors of whoever loads.

use crate::rig::wait_for;
use crate::support::lab::{self, job, sql};
use crate::support::tiny::tiny;
use crate::support::{Scratch, tools};

const DAYS: &str = "create table days as select range as id, \
                    date '2026-11-01' + (range % 3)::int as day, range * 10 as value from range(30)";

fn ask(lab: &Scratch, statement: &str) -> String {
    sql(lab, "lab.duckdb", &[statement])
}

#[test]
fn one_day_comes_back_and_the_rest_stays() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, DAYS);
    job(&lab, "update days set value = -1");
    let good = || {
        ask(
            &lab,
            "select string_agg(id, ' ' order by id) from days where value >= 0",
        )
    };
    let day = ["--select", "days", "--where", "day = date '2026-11-02'"];

    let plan = lab.ok(&[&["plan"], &day[..]].concat());
    plan.says(
        0,
        &["where day = date '2026-11-02'", "10 out", "10 of R2 in"],
    );
    lab.ok(&[&["rollback", "-m", "a bad load"], &day[..]].concat())
        .says(0, &["10 rows out and kept, 10 rows of R2 in"]);
    assert_eq!(good(), "1 4 7 10 13 16 19 22 25 28");
    assert_eq!(ask(&lab, "select count(*) from days"), "30");
    lab.ok(&["show"]).says(
        0,
        &["where day = date '2026-11-02' come from R2", "a bad load"],
    );
    lab.ok(&["verify"]);
    let again = lab.unship(&[&["rollback", "--to", "R2"], &day[..]].concat());
    again.says(75, &["the chosen rows are the same"]);

    lab.ok(&["undo"]);
    assert_eq!(good(), "None", "no row is as it was in R2");
    let third = [
        "rollback",
        "--to",
        "R2",
        "--select",
        "days",
        "--partition",
        "day=2026-11-03",
    ];
    lab.ok(&third);
    assert_eq!(good(), "2 5 8 11 14 17 20 23 26 29");

    let evil = ["--select", "days", "--where", "true; drop table raw"];
    let refused = lab.unship(&[&["rollback", "--to", "R2"], &evil[..]].concat());
    refused.says(73, &["cannot choose rows"]);
    assert_eq!(ask(&lab, "select count(*) from raw"), "100");
}

#[test]
fn what_others_added_is_kept_or_set_aside_and_never_lost() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, DAYS);
    job(
        &lab,
        "create or replace table days as select id, day, -1 as value from days where id < 20",
    );
    ask(
        &lab,
        "insert into days select range, date '2026-11-09', 5 from range(1000, 1003)",
    );
    let theirs = "select string_agg(id, ' ' order by id) from days where id >= 1000";

    let stopped = lab.unship(&["rollback"]);
    stopped.says(73, &["3 rows added (writer unknown)", "--others keep"]);
    let kept = lab.ok(&["rollback", "--others", "keep"]);
    kept.says(0, &["3 rows put into the older version"]);
    assert_eq!(ask(&lab, theirs), "1000 1001 1002");
    assert_eq!(
        ask(&lab, "select count(*) from days where value >= 0"),
        "33"
    );
    lab.ok(&["verify"]);

    // A row that was changed cannot be told from what it was.
    ask(&lab, "update days set value = 7 where id = 3");
    let cannot = lab.unship(&["undo", "--others", "keep"]);
    cannot.says(73, &["changed or deleted", "nothing was changed"]);
    lab.ok(&["undo", "--others", "set-aside"])
        .says(0, &["set aside in R4"]);
    assert_eq!(ask(&lab, theirs), "1000 1001 1002", "as it was before");
    let aside = ".unship/points/R4/lab.duckdb";
    let changed = sql(&lab, aside, &["select value from days where id = 3"]);
    assert_eq!(changed, "7", "it stays in the retained version");
}

/// Loads ids of its own, one after the other, and writes down those that were taken. Whoever has the
/// file open at the moment is waited for.
const LOADER: &str = r#"
import duckdb, os, time
n = 1000
while not os.path.exists("stop"):
    try:
        with duckdb.connect("lab.duckdb") as con:
            con.execute("insert into days values (?, date '2026-11-09', 5)", [n])
        with open("taken", "a") as out:
            print(n, file=out)
    except duckdb.Error:
        pass
    n += 1
    time.sleep(0.02)
"#;

/// A loader goes on while its table goes back: each row that DuckDB took from it is in production, or
/// in what is retained.
#[test]
fn not_one_row_of_a_loader_is_lost() {
    let Some(tools) = tools() else { return };
    for others in ["keep", "set-aside"] {
        let lab = lab::new(&tools);
        job(&lab, DAYS);
        job(
            &lab,
            "create or replace table days as select id, day, -1 as value from days where id < 20",
        );
        lab.write("loader.py", LOADER);
        lab.write("taken", "");
        let mut loader = lab.command("python").arg("loader.py").spawn().unwrap();
        let taken = || {
            lab.read("taken")
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        wait_for("rows of the loader", || taken().len() >= 5);
        let mut said = Vec::new();
        for _ in 0..60 {
            let ran = lab.unship(&["rollback", "--to", "R2", "--others", others]);
            said.push(ran.code);
            match ran.code {
                0 => break,
                // The loader has the file, or came after the plan: nothing else is a reason.
                71 | 73 => {}
                _ => panic!("{ran:?}"),
            }
        }
        assert_eq!(said.last(), Some(&0), "{said:?}");
        let then = taken().len();
        wait_for("more of them", || taken().len() >= then + 5);
        lab.write("stop", "");
        assert!(loader.wait().unwrap().success());
        let theirs = "select string_agg(id, ' ' order by id) from days where id >= 1000";
        let mut found = ask(&lab, theirs);
        if others == "set-aside" {
            let aside = sql(&lab, ".unship/points/R3/lab.duckdb", &[theirs]);
            found = format!("{aside} {found}");
        }
        assert_eq!(found, taken().join(" "), "{others}: each of them, once");
        let good = "select count(*) from days where value >= 0 and id < 1000";
        assert_eq!(ask(&lab, good), "30", "the older rows are back");
    }
}

/// A model that loads what is new, by a table in which a hook remembers how far it came.
const LOADS: &str = "{{ config(materialized='incremental', \
    pre_hook='create table if not exists marks (upto int)', \
    post_hook=\"insert into marks values ({{ var('n') }})\") }} \
    select range as id, {{ var('wrong', 0) }} as wrong from range({{ var('n') }}) \
    where range >= (select coalesce(max(upto), 0) from marks)";

/// dbt, in an environment where the bad run is taken back with the cursor, gives what it would have
/// given had the bad run never been.
#[test]
fn the_next_load_goes_on_where_it_would_have_without_the_bad_one() {
    let Some(tools) = tools() else { return };
    let mut p = tiny(&tools);
    p.set("TINY_DB", p.path("tiny.duckdb"));
    p.set("DBT_PROFILES_DIR", p.path("profiles"));
    p.cwd = p.path("p");
    p.write("models/a.sql", LOADS);
    let run = |vars: &str| {
        p.ok(&["run", "--", "dbt", "--quiet", "build", "--vars", vars]);
    };
    let rows = || {
        let sum = "select count(*) || ' rows, ' || count(distinct id) || ' ids, ' || sum(wrong) \
                   || ' wrong, marks ' || (select string_agg(upto, ' ' order by upto) from marks) \
                   from a";
        sql(&p, "../tiny.duckdb", &[sum])
    };
    run("{n: 10}");
    run("{n: 20, wrong: 1}");
    assert_eq!(rows(), "20 rows, 20 ids, 10 wrong, marks 10 20");

    // Nobody told unship what the table is: it stays, and the next load would leave out ten rows.
    let config = p.read("unship.toml");
    let declared = "\n[[state]]\nrelation = \"main.marks\"\ndescribes = [\"a\"]\n";
    p.write("unship.toml", format!("{config}{declared}"));
    let some = ["plan", "--select", "a", "--where", "wrong = 1"];
    p.ok(&some).says(
        0,
        &[
            "tiny.main.marks (declared in unship.toml)",
            "the next load leaves out",
        ],
    );
    let plan = p.ok(&["plan", "--select", "a"]);
    plan.says(0, &["tiny.main.marks"]);
    p.ok(&["rollback", "--select", "a"]);
    assert_eq!(rows(), "10 rows, 10 ids, 0 wrong, marks 10");
    p.write("models/more.sql", "select 1 as fixed");
    run("{n: 30}");
    assert_eq!(rows(), "30 rows, 30 ids, 0 wrong, marks 10 30");
}
