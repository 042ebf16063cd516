//! One environment of three engines: a lake that pyiceberg writes, PostgreSQL marts that are made from
//! it, and a DuckDB extract of those. One job writes all, one command takes all back; whatever is
//! killed, cut or written meanwhile, nobody ever sees a consumer ahead of its source.
//! `scripts/rest-catalog run scripts/postgres run` starts the servers; `make test-all` does so.

mod world;

use crate::rig::line::Lost;
use crate::rig::rounds;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use world::{Served, Shown, Three, Walk};

/// Holds the extract open for writing, as somebody's session does.
const HOLD_EXTRACT: &str = r#"
import duckdb, sys
file = duckdb.connect("extract.duckdb")
print("held", flush=True)
sys.stdin.read()
"#;

/// One bad night, one rollback, and back and forth, while others write beside it and somebody looks.
#[test]
#[ignore = "needs a REST catalog and PostgreSQL: scripts/rest-catalog run scripts/postgres run"]
fn one_bad_night_goes_back_in_three_engines() {
    let Some(three) = Three::new("night") else {
        return;
    };
    let scratch = &three.at.scratch;
    three.two_nights();
    let looking = Arc::new(AtomicBool::new(true));
    let reader = {
        let (mut eyes, looking) = (three.eyes(), Arc::clone(&looking));
        thread::spawn(move || {
            let mut looks = 0_u32;
            while looking.load(Ordering::Relaxed) {
                eyes.look_amidst();
                looks += 1;
            }
            looks
        })
    };
    let mut eyes = three.eyes();
    assert_eq!(eyes.look(), Shown::all(2));
    three
        .run(66)
        .says(0, &["R3 is production: 4 relations changed"]);
    assert_eq!(eyes.look(), Shown::all(66));

    scratch.ok(&["plan"]).says(
        0,
        &[
            "they go back one after the other, extract, then marts, then lake",
            "look at 3 members once more",
            "marts reads lake (`reads`), extract reads marts (`reads`)",
        ],
    );
    // Others write to what no job owns.
    three.others(&json!([["append", "raw", [[2, 2]]]]));
    three.at.sql("INSERT INTO raw.clicks VALUES (7)");
    scratch.ok(&["rollback"]).says(0, &["4 relations changed"]);
    assert_eq!(eyes.look(), Shown::all(2));
    scratch.ok(&["verify"]);
    scratch.ok(&["undo"]);
    assert_eq!(eyes.look(), Shown::all(66));
    scratch.ok(&["redo"]);
    assert_eq!(eyes.look(), Shown::all(2));
    scratch.ok(&["verify"]);

    // And to what jobs own: it is said, and set aside only by a person's word.
    three.others(&json!([["append", "orders", [[77, 2]]]]));
    scratch
        .unship(&["rollback", "--to", "R1"])
        .says(73, &["others wrote to 1 relation", "orders"]);
    assert_eq!(eyes.look(), Shown::all(2));
    scratch.ok(&["rollback", "--to", "R1", "--others", "set-aside"]);
    assert_eq!(eyes.look(), Shown::all(1));
    let kept = [three.lake_py.as_str(), "kept", "orders"];
    let kept: Vec<i64> = serde_json::from_str(&scratch.sh(&three.lake_python, &kept)).unwrap();
    assert!(kept.contains(&77), "{kept:?}");
    let show = [three.lake_py.as_str(), "show"];
    let show: serde_json::Value =
        serde_json::from_str(&scratch.sh(&three.lake_python, &show)).unwrap();
    assert_eq!(show["raw"]["rows"], json!([[1, 1], [2, 2]]));
    assert_eq!(three.at.ask("SELECT n FROM raw.clicks"), "7");

    scratch.ok(&["gc"]);
    scratch.ok(&["fsck"]);
    scratch.ok(&["audit", "verify"]);
    scratch.unship(&["doctor"]).says(
        0,
        &["order of members: forward lake, then marts, then extract; back the other way"],
    );
    looking.store(false, Ordering::Relaxed);
    let looks = reader.join().expect("the reader saw what must not be");
    println!("{looks} looks");
    assert!(looks > 10);
}

/// Killed at each boundary: at every one what is seen is lawful, and `resume` finishes it.
#[test]
#[ignore = "needs a REST catalog and PostgreSQL: scripts/rest-catalog run scripts/postgres run"]
fn killed_anywhere_three_engines_end_in_one_state() {
    let Some(three) = Three::new("killed") else {
        return;
    };
    let scratch = &three.at.scratch;
    three.two_nights();
    let mut eyes = three.eyes();
    let stride = usize::try_from(rounds("UNSHIP_CRASH_STRIDE", 6).max(1)).unwrap();
    let to_1 = ["rollback", "--to", "R1"];
    for walk in [
        Walk {
            words: &to_1,
            old: 2,
            new: 1,
            restore: &["undo"],
        },
        Walk {
            words: &["run", "--aside", "--", "sh", "job.sh", "3"],
            old: 2,
            new: 3,
            restore: &["rollback", "--to", "R2"],
        },
    ] {
        let mut seen = BTreeSet::new();
        let mut at = 1;
        loop {
            let (ran, died, names) = three.dying_at(walk.words, at);
            if !died {
                assert_eq!(ran.code, 0, "{ran:?}");
                println!("{} boundaries: {}", names.len(), names.join(", "));
                assert!(names.len() < at, "it died at none");
                break;
            }
            let here = format!("{at} {:?}", names.last());
            let shown = eyes.look();
            shown.is_lawful(&here);
            seen.insert(shown);
            let status = scratch.unship(&["status"]);
            assert!([0, 72].contains(&status.code), "{here}: {status:?}");
            let resumed = scratch.unship(&["resume"]);
            // Nothing was begun yet, it was finished, or all of it was taken back.
            assert!([0, 70, 75].contains(&resumed.code), "{here}: {resumed:?}");
            let ends = eyes.look();
            let [old, new] = [walk.old, walk.new].map(Shown::all);
            assert!(ends == old || ends == new, "{here}: {ends:?} {resumed:?}");
            assert!(status.code == 72 || shown == ends, "{here}: {shown:?}");
            if ends == new {
                scratch.ok(walk.restore);
                assert_eq!(eyes.look(), old, "{here}");
            }
            at += stride;
        }
        println!("{:?}: {seen:?}", walk.words);
        if stride == 1 {
            assert_eq!(seen.len(), 4, "before, twice in between, and after");
        }
        scratch.ok(walk.restore);
    }
    scratch.ok(&["fsck"]);
    scratch.ok(&["audit", "verify"]);
}

/// The catalog or PostgreSQL goes away after so many messages, with one or with its answer: whatever
/// it was asked for at that moment, what is seen is lawful, it is said which member is gone, and when
/// it is back `resume` finishes what was begun.
#[test]
#[ignore = "needs a REST catalog and PostgreSQL: scripts/rest-catalog run scripts/postgres run"]
fn a_member_that_goes_away_at_any_moment_stops_all_lawfully() {
    let Some(three) = Three::new("gone") else {
        return;
    };
    let scratch = &three.at.scratch;
    three.two_nights();
    let mut eyes = three.eyes();
    let stride = rounds("UNSHIP_CRASH_STRIDE", 7).max(1);
    for (line, name) in [(&three.lake, "lake: "), (&three.marts, "marts: ")] {
        for (lost, first) in [(Lost::Message, 0), (Lost::Answer, stride / 2)] {
            let mut seen = BTreeSet::new();
            for messages in (first..).step_by(usize::try_from(stride).unwrap()) {
                line.cut_after(messages, lost);
                let ran = scratch.unship(&["rollback", "--to", "R1"]);
                let cut = line.is_cut();
                let here = format!("{name}{lost:?} {messages}");
                let shown = eyes.look();
                shown.is_lawful(&here);
                seen.insert(shown);
                if cut {
                    let status = scratch.unship(&["status"]);
                    // Where the ledger knows that it has to be looked at, nobody is asked.
                    assert!([0, 70, 72].contains(&status.code), "{here}: {status:?}");
                    if status.code != 0 {
                        status.says(status.code, &[name]);
                    }
                    if ran.code != 0 {
                        ran.says(ran.code, &["production:"]);
                    }
                }
                line.mend();
                let status = scratch.unship(&["status"]);
                if status.code == 72 {
                    ran.says(ran.code, &[name]);
                    let resumed = scratch.unship(&["resume"]);
                    assert!([0, 70].contains(&resumed.code), "{here}: {resumed:?}");
                }
                let ends = eyes.look();
                assert!(
                    [Shown::all(1), Shown::all(2)].contains(&ends),
                    "{here}: {ends:?} {ran:?}"
                );
                if ends == Shown::all(1) {
                    scratch.ok(&["undo"]);
                    assert_eq!(eyes.look(), Shown::all(2), "{here}");
                }
                if !cut {
                    assert_eq!(ran.code, 0, "{here}: {ran:?}");
                    break;
                }
            }
            println!("{name}{lost:?}: {seen:?}");
        }
    }
    scratch.ok(&["fsck"]);
    scratch.ok(&["audit", "verify"]);
}

/// A file that somebody has open, at plan time and after a crash between two members.
#[test]
#[ignore = "needs a REST catalog and PostgreSQL: scripts/rest-catalog run scripts/postgres run"]
fn a_file_that_somebody_holds_is_waited_for() {
    let Some(three) = Three::new("held") else {
        return;
    };
    let scratch = &three.at.scratch;
    three.two_nights();
    let hold = || {
        let mut command = scratch.command(&three.tools.python);
        command.args(["-c", HOLD_EXTRACT]);
        let mut held = Served::new(command);
        assert_eq!(held.answer(), "held");
        held
    };
    let held = hold();
    scratch
        .unship(&["rollback", "--to", "R1"])
        .says(71, &["extract: ", "production: R2 is live"]);
    drop(held);
    let mut eyes = three.eyes();
    assert_eq!(eyes.look(), Shown::all(2));

    // Of a job that was killed before the last member, which is the file.
    let walk = Walk {
        words: &["run", "--aside", "--", "sh", "job.sh", "3"],
        old: 2,
        new: 3,
        restore: &["rollback", "--to", "R2"],
    };
    let between = Shown {
        extract: 2,
        ..Shown::all(3)
    };
    three.dies_at(&walk, between, &mut eyes);
    let held = hold();
    scratch
        .unship(&["resume"])
        .says(71, &["extract: ", "production: between R"]);
    // It was killed when the last change was announced, and not yet carried out.
    scratch.unship(&["status"]).says(
        72,
        &["done: lake: ", "done: marts: ", "in doubt: extract: "],
    );
    drop(held);
    scratch.ok(&["resume"]);
    assert_eq!(eyes.look(), Shown::all(3));
}

/// Somebody commits to the lake after the marts went back: there is no way on and none back. It ends
/// there, and a new plan has the rest.
#[test]
#[ignore = "needs a REST catalog and PostgreSQL: scripts/rest-catalog run scripts/postgres run"]
fn a_commit_between_two_members_ends_the_release_there() {
    let Some(three) = Three::new("between") else {
        return;
    };
    let scratch = &three.at.scratch;
    three.two_nights();
    let mut eyes = three.eyes();
    let between = Shown {
        lake: (2, 2),
        marts: 1,
        extract: 1,
    };
    let walk = Walk {
        words: &["rollback", "--to", "R1"],
        old: 2,
        new: 1,
        restore: &["undo"],
    };
    three.dies_at(&walk, between, &mut eyes);
    three.others(&json!([["append", "orders", [[77, 2]]]]));
    scratch.unship(&["resume"]).says(
        70,
        &[
            "ended between two members",
            "is live, in part: 2 relations stayed as they were",
            "unship rollback --to R1",
        ],
    );
    assert_eq!(eyes.look(), between);
    scratch.unship(&["status"]).says(0, &["is bad"]);
    // What others wrote is told, and only that.
    scratch
        .unship(&["verify"])
        .says(74, &["orders has 3 rows, recorded were 2"]);
    scratch
        .unship(&["rollback", "--to", "R1"])
        .says(73, &["others wrote to 1 relation"]);
    scratch.ok(&["rollback", "--to", "R1", "--others", "set-aside"]);
    assert_eq!(eyes.look(), Shown::all(1));
    scratch.ok(&["verify"]);
    three
        .run(3)
        .says(0, &["is production: 4 relations changed"]);
    assert_eq!(eyes.look(), Shown::all(3));
    scratch.ok(&["fsck"]);
}
