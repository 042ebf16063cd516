//! Database files that are in use, damaged, unusual or not what they seem.

use crate::support::lab::{self, Held, job, sql};
use crate::support::oracle::State;
use crate::support::{Scratch, golden, python2, tools};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn state(lab: &Scratch, name: &str) -> State {
    State::of(lab, &lab.path("lab.duckdb"), name)
}

const SECOND: &str = "update mart set release = 2";

#[test]
fn a_writer_is_named_and_nothing_is_changed() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, SECOND);
    let before = state(&lab, "before");
    let writer = Held::open(&lab, "python", "lab.duckdb", &[]);
    let pid = format!("process {} (", writer.pid());
    let mut text = String::new();
    for args in [
        &["run", "--aside", "--", "python", "job.py", SECOND][..],
        &["run", "--in-place", "--", "python", "job.py", SECOND],
        &["rollback"],
        &["undo"],
    ] {
        let refused = lab.unship(args);
        refused.says(71, &[&pid]);
        text.push_str(&refused.text());
    }
    // Looking is no matter of locks.
    lab.ok(&["status"]);
    lab.ok(&["log"]);
    lab.ok(&["doctor"]).says(0, &[&pid]);
    drop(writer);
    assert_eq!(
        before.differences(&lab, &state(&lab, "after"), &[]),
        [""; 0]
    );
    lab.ok(&["rollback"]);
    golden("a_writer_is_open", &text);
}

#[test]
fn rows_that_only_a_write_ahead_log_has_are_not_lost() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, SECOND);
    drop(Held::open(
        &lab,
        "python",
        "lab.duckdb",
        &["insert into raw values (4711)"],
    ));
    assert!(
        lab.path("lab.duckdb.wal").exists(),
        "the killed writer left its log"
    );
    lab.ok(&["rollback"]);
    assert_eq!(sql(&lab, "lab.duckdb", &["select release from mart"]), "1");
    assert_eq!(
        sql(&lab, "lab.duckdb", &["select max(id) from raw"]),
        "4711"
    );
    drop(Held::open(
        &lab,
        "python",
        "lab.duckdb",
        &["insert into raw values (4712)"],
    ));
    job(&lab, SECOND);
    assert_eq!(
        sql(&lab, "lab.duckdb", &["select max(id) from raw"]),
        "4712"
    );
    lab.ok(&["undo"]);
    assert_eq!(
        sql(&lab, "lab.duckdb", &["select max(id) from raw"]),
        "4712"
    );
}

#[test]
fn a_file_of_a_newer_duckdb_goes_back_as_a_whole() {
    let (Some(tools), Some(python2)) = (tools(), python2()) else {
        return;
    };
    let lab = lab::empty(&tools);
    let python2 = python2.to_str().unwrap();
    lab.write(
        "job.py",
        "import duckdb, sys\nduckdb.connect('lab.duckdb').execute(sys.argv[1])\n",
    );
    for statement in ["create table mart as select 1 as release", SECOND] {
        // The Python of the tests cannot read what the job's DuckDB writes.
        lab.ok(&[
            "--python",
            "python",
            "run",
            "--in-place",
            "--",
            python2,
            "job.py",
            statement,
        ]);
    }
    let mut text = lab.unship(&["--python", "python", "diff"]).text();
    text.push_str(
        &lab.unship(&["--python", "python", "rollback", "--select", "mart"])
            .text(),
    );
    let back = lab.ok(&["--python", "python", "rollback"]);
    text.push_str(&back.text());
    golden("a_newer_file", &text);
    let ask = "import duckdb; print(duckdb.connect('lab.duckdb').execute('select release from mart').fetchone()[0])";
    assert_eq!(lab.sh(python2, &["-c", ask]).trim(), "1");
    // With the right DuckDB everything else works too.
    lab.ok(&["--python", python2, "undo"]);
    assert_eq!(lab.sh(python2, &["-c", ask]).trim(), "2");
}

#[test]
fn an_encrypted_file_goes_back_as_a_whole() {
    let Some(tools) = tools() else { return };
    let lab = lab::empty(&tools);
    lab.write(
        "job.py",
        "import duckdb, sys\ncon = duckdb.connect()\n\
         con.execute(\"set force_mbedtls_unsafe = true\")\n\
         con.execute(\"attach 'lab.duckdb' as lab (encryption_key 'secret')\")\n\
         for statement in sys.argv[1:]: print(con.execute(statement).fetchall())\n",
    );
    let first = "create table lab.mart as select 1 as release";
    lab.ok(&["run", "--in-place", "--", "python", "job.py", first]);
    let second = "update lab.mart set release = 2";
    lab.ok(&["run", "--in-place", "--", "python", "job.py", second]);
    let mut text = lab
        .ok(&["doctor"])
        .text()
        .lines()
        .filter(|l| l.contains("lab.duckdb"))
        .collect::<Vec<_>>()
        .join("\n");
    text.push('\n');
    text.push_str(&lab.unship(&["rollback", "--select", "mart"]).text());
    text.push_str(&lab.ok(&["rollback"]).text());
    golden("an_encrypted_file", &text);
    assert_eq!(
        lab.sh("python", &["job.py", "select release from lab.mart"])
            .trim(),
        "[(1,)]"
    );
    lab.ok(&["redo"]);
    assert_eq!(
        lab.sh("python", &["job.py", "select release from lab.mart"])
            .trim(),
        "[(2,)]"
    );
}

#[test]
fn small_blocks_and_odd_names_come_back_exactly() {
    let Some(tools) = tools() else { return };
    let lab = lab::empty(&tools);
    lab.sh(
        "python",
        &["-c", "import duckdb\nc = duckdb.connect()\nc.execute(\"attach 'lab.duckdb' (block_size 16384)\")"],
    );
    let odd = [
        r#"create schema "a.b""#,
        r#"create schema "Naïve; drop table x""#,
        r#"create table "a.b"."c""d" as select 1 as "select", 'ü''' as "x.y""#,
        r#"create table "Naïve; drop table x"."a/../b" ("from" integer primary key, t text default 'a''b')"#,
        r#"insert into "Naïve; drop table x"."a/../b" ("from") values (1), (2)"#,
        r#"create table "a.b".child (id integer references "a.b".parent(id))"#,
        r#"create view "a.b"."v w" as select * from "a.b"."c""d""#,
        r#"comment on table "a.b"."c""d" is 'it''s odd'"#,
        r#"create index "i""x" on "Naïve; drop table x"."a/../b" (t)"#,
    ];
    let mut statements = vec![
        r#"create schema if not exists "a.b""#,
        r#"create table "a.b".parent (id integer primary key)"#,
    ];
    statements.extend(odd.iter().skip(1));
    lab.write("job.py", "import duckdb, os, sys\ncon = duckdb.connect(os.environ['UNSHIP_DATABASE'])\nfor s in sys.argv[1:]: con.execute(s)\n");
    let mut args = vec!["run", "--aside", "--", "python", "job.py"];
    args.extend(&statements);
    lab.ok(&args);
    let good = state(&lab, "good");
    let damage = [
        r#"update "a.b"."c""d" set "x.y" = 'wrong'"#,
        r#"drop index "Naïve; drop table x"."i""x""#,
        r#"update "Naïve; drop table x"."a/../b" set t = 'wrong'"#,
        r#"insert into "a.b".parent values (1)"#,
        r#"insert into "a.b".child values (1)"#,
    ];
    let mut args = vec!["run", "--aside", "--", "python", "job.py"];
    args.extend(&damage);
    lab.ok(&args);
    let bad = state(&lab, "bad");
    // Somebody else's table, so that relations have to be restored and not the file.
    sql(
        &lab,
        "lab.duckdb",
        &["create table theirs as select 1 as x"],
    );
    lab.ok(&["rollback"]);
    good.differs_only_in(&lab, &state(&lab, "back"), &["main.theirs"]);
    lab.ok(&["undo"]);
    bad.differs_only_in(&lab, &state(&lab, "undone"), &["main.theirs"]);
    lab.ok(&["verify"]);
    let header = fs::read(lab.path("lab.duckdb")).unwrap();
    let size = u64::from_le_bytes(header[4096 + 40..4096 + 48].try_into().unwrap());
    assert_eq!(
        size, 16_384,
        "the block size is a property of the file and stays"
    );
}

#[test]
fn a_foreign_key_from_a_strangers_table_is_named() {
    let Some(tools) = tools() else { return };
    let lab = lab::empty(&tools);
    lab.write("job.py", "import duckdb, os, sys\ncon = duckdb.connect(os.environ['UNSHIP_DATABASE'])\nfor s in sys.argv[1:]: con.execute(s)\n");
    lab.ok(&[
        "run",
        "--aside",
        "--",
        "python",
        "job.py",
        "create table dim (id integer primary key)",
        "insert into dim values (1)",
    ]);
    lab.ok(&[
        "run",
        "--aside",
        "--",
        "python",
        "job.py",
        "insert into dim values (2)",
    ]);
    sql(
        &lab,
        "lab.duckdb",
        &[
            "create table theirs (id integer references dim(id))",
            "insert into theirs values (2)",
        ],
    );
    let before = state(&lab, "before");
    let refused = lab.unship(&["rollback"]);
    refused.says(70, &["theirs", "production: as it was before"]);
    golden("a_foreign_key_of_others", &refused.text());
    assert_eq!(
        before.differences(&lab, &state(&lab, "after"), &[]),
        [""; 0]
    );
    lab.ok(&["status"]);
}

#[test]
fn a_link_to_the_database_stays_a_link() {
    let Some(tools) = tools() else { return };
    let lab = Scratch::new(&tools);
    fs::create_dir(lab.path("disk")).unwrap();
    sql(
        &lab,
        "disk/lab.duckdb",
        &["create table raw as select 1 as id"],
    );
    symlink("disk/lab.duckdb", lab.path("link.duckdb")).unwrap();
    lab.ok(&["init", "--database", "link.duckdb"]);
    lab.write("job.py", "import duckdb, os, sys\nduckdb.connect(os.environ['UNSHIP_DATABASE']).execute(sys.argv[1])\n");
    lab.ok(&[
        "run",
        "--aside",
        "--",
        "python",
        "job.py",
        "create table mart as select 1 as release",
    ]);
    job(&lab, SECOND);
    lab.ok(&["rollback"]);
    assert!(lab.path("link.duckdb").is_symlink());
    assert_eq!(sql(&lab, "link.duckdb", &["select release from mart"]), "1");
    assert!(
        lab.path("disk/.unship").is_dir(),
        "points lie on the file's own file system"
    );
}

#[test]
fn damage_is_named_and_nothing_is_made_worse() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, SECOND);
    job(&lab, "update mart set release = 3");
    let good = fs::read(lab.path("lab.duckdb")).unwrap();
    let mut text = String::new();
    let mut tell = |what: &str, args: &[&str]| {
        let output = lab.unship(args);
        text.push_str(&format!("# {what}\n{}\n", output.text()));
        output
    };

    // Production itself.
    for (what, bytes) in [
        ("production is empty", Vec::new()),
        ("production is text", b"select 1;\n".repeat(4000)),
        ("production is cut off", good[..good.len() / 2].to_vec()),
        ("both headers are zero", {
            let mut b = good.clone();
            b[4096..12288].fill(0);
            b
        }),
    ] {
        fs::write(lab.path("lab.duckdb"), bytes).unwrap();
        for args in [
            &["doctor"][..],
            &["fsck"],
            &["rollback", "--to", "R2"],
            &["verify"],
        ] {
            let output = tell(what, args);
            assert_ne!(output.code, 0, "{what}: {output:?}");
        }
        lab.unship(&["status"]).says(0, &["somebody wrote to it"]);
    }
    fs::write(lab.path("lab.duckdb"), &good).unwrap();

    // A retained point that is cut off.
    let point = lab.path(".unship/points/R2/lab.duckdb");
    let whole = fs::read(&point).unwrap();
    fs::set_permissions(&point, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&point, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(tell("a point is cut off", &["fsck"]).code, 74);
    let refused = tell("a point is cut off", &["rollback", "--to", "R2"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(sql(&lab, "lab.duckdb", &["select release from mart"]), "3");
    fs::write(&point, &whole).unwrap();

    // A packed one with one bit turned.
    let packs = lab.path(".unship/store/packs");
    let pack = fs::read_dir(&packs)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&pack, &bytes).unwrap();
    assert_eq!(tell("a pack has a wrong bit", &["fsck"]).code, 74);
    let refused = tell("a pack has a wrong bit", &["rollback", "--to", "R0"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(sql(&lab, "lab.duckdb", &["select release from mart"]), "3");

    // What the hint says brings production back.
    fs::copy(
        lab.path(".unship/points/R2/lab.duckdb"),
        lab.path("lab.duckdb"),
    )
    .unwrap();
    let writable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(lab.path("lab.duckdb"), writable).unwrap();
    tell(
        "a copy is in its place",
        &["rollback", "--to", "R2", "--others", "set-aside"],
    )
    .says(0, &[]);
    lab.ok(&["verify"]);
    assert_eq!(sql(&lab, "lab.duckdb", &["select release from mart"]), "2");
    fs::remove_file(lab.path("lab.duckdb")).unwrap();
    tell("production is gone", &["rollback", "--to", "R2"]);
    golden("damage", &text);
}

#[test]
fn a_damaged_ledger_is_not_believed() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    job(&lab, SECOND);
    let path = lab.path(".unship/ledger.sqlite");
    let good = fs::read(&path).unwrap();
    let mut text = String::new();
    let tamper = |change: &str| {
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
        lab.sh("python", &["-c", script, path.to_str().unwrap(), change]);
    };
    let table = lab.sh(
        "python",
        &["-c", "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(\"select group_concat(name) from sqlite_master where type = 'table'\").fetchone()[0])", path.to_str().unwrap()],
    );
    assert!(
        table.contains("entries") || table.contains("log"),
        "{table}"
    );
    for (what, bytes) in [
        ("it is cut off", good[..good.len() / 2].to_vec()),
        ("it is text", b"hello".repeat(2000)),
        ("it is empty", Vec::new()),
    ] {
        for beside in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{beside}", path.display()));
        }
        fs::write(&path, bytes).unwrap();
        for args in [&["status"][..], &["audit", "verify"], &["rollback"]] {
            let output = lab.unship(args);
            assert!(!output.stderr.contains("panicked"), "{output:?}");
            assert_ne!(output.code, 0, "{what}: {output:?}");
            text.push_str(&format!("# {what}\n{}\n", output.text()));
        }
    }
    // A new history must not begin beside the restore points of the lost one.
    fs::remove_file(&path).unwrap();
    let points = fs::read_dir(lab.path(".unship/points")).unwrap().count();
    let run = lab.unship(&["run", "--aside", "--", "python", "job.py", SECOND]);
    run.says(73, &["there are restore points of R0 to R1", "not touched"]);
    text.push_str(&format!("# it is gone\n{}\n", run.text()));
    assert_eq!(
        fs::read_dir(lab.path(".unship/points")).unwrap().count(),
        points
    );
    for beside in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{beside}", path.display()));
    }
    fs::write(&path, &good).unwrap();
    lab.ok(&["audit", "verify"]);
    tamper("pragma user_version = 99");
    text.push_str(&format!(
        "# of a newer unship\n{}",
        lab.unship(&["status"]).text()
    ));
    golden("a_damaged_ledger", &text);
}

#[test]
fn a_directory_that_cannot_be_written_to() {
    let Some(tools) = tools() else { return };
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        println!("skipped: root may write everywhere");
        return;
    }
    let lab = lab::new(&tools);
    fs::set_permissions(&lab.cwd, fs::Permissions::from_mode(0o555)).unwrap();
    let refused = lab.unship(&["run", "--aside", "--", "python", "job.py", SECOND]);
    fs::set_permissions(&lab.cwd, fs::Permissions::from_mode(0o755)).unwrap();
    refused.says(70, &["cannot"]);
    assert_eq!(sql(&lab, "lab.duckdb", &["select release from mart"]), "1");
}

/// What must be asked for by name says what to do, and what production is.
#[test]
fn what_cannot_be_checked_is_told_with_what_production_is() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    lab.write("plan.json", "{}");
    lab.unship(&["apply", "plan.json"])
        .says(2, &["hint: `unship plan --output FILE` writes one"]);
    lab.write(".unship/store/format", "of somebody else");
    let told = [
        "R1 is live; nothing is unfinished",
        "hint: put the file `format`",
    ];
    lab.unship(&["fsck"]).says(70, &told);
}
