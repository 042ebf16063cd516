//! A machine without any DuckDB: what works on the file as a whole goes on.

use crate::support::lab;
use crate::support::{Scratch, golden, tools};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A directory with these programs and no others.
fn only(lab: &mut Scratch, programs: &[&str]) {
    let bin = lab.path("../bin").display().to_string();
    fs::create_dir_all(&bin).unwrap();
    for program in programs {
        let found = ["/usr/bin", "/bin"].map(|dir| format!("{dir}/{program}"));
        let found = found
            .iter()
            .find(|file| fs::metadata(file).is_ok())
            .unwrap();
        symlink(found, format!("{bin}/{program}")).unwrap();
    }
    lab.only_path(bin.as_ref());
}

#[test]
fn whole_files_are_guarded_without_any_duckdb() {
    let Some(tools) = tools() else { return };
    let mut lab = Scratch::new(&tools);
    for n in ["1", "2", "3"] {
        let create = format!("create table mart as select {n} as release");
        lab::sql(&lab, &format!("made{n}.duckdb"), &[&create]);
    }
    let python = tools.python.display().to_string();
    only(&mut lab, &["sh", "cp"]);
    let mut text = lab.ok(&["init", "--database", "lab.duckdb"]).text();
    for n in ["1", "2", "3"] {
        let copy = format!("cp made{n}.duckdb \"$UNSHIP_DATABASE\"");
        text.push_str(&lab.ok(&["run", "--aside", "--", "sh", "-c", &copy]).text());
    }
    let live = |lab: &Scratch| {
        let script = "import duckdb; print(duckdb.connect('lab.duckdb', read_only=True).execute('select release from mart').fetchone()[0])";
        lab.sh(&python, &["-c", script]).trim().to_owned()
    };
    assert_eq!(live(&lab), "3");
    for args in [
        &["status"][..],
        &["plan"],
        &["rollback"],
        &["log"],
        &["rollback", "--select", "mart"],
        &["diff", "R1", "R2", "mart"],
    ] {
        text.push_str(&lab.unship(args).text());
    }
    assert_eq!(live(&lab), "2");
    lab.ok(&["rollback", "--to", "R1"]);
    assert_eq!(live(&lab), "1");
    lab.ok(&["undo"]);
    assert_eq!(live(&lab), "2");
    lab.ok(&["fsck"]);
    golden("no_duckdb", &text);
}

/// The history was made with DuckDB at hand, and it is gone when it is needed.
#[test]
fn a_release_that_was_recorded_with_duckdb_goes_back_without() {
    let Some(tools) = tools() else { return };
    let python = tools.python.display().to_string();
    let mut lab = lab::new(&tools);
    // The job's program leads to its Python, so it is one that can go away.
    let jobs_python = lab.path("../python3");
    let script = format!("#!/bin/sh\nexec {python} \"$@\"\n");
    fs::write(&jobs_python, script).unwrap();
    fs::set_permissions(&jobs_python, fs::Permissions::from_mode(0o755)).unwrap();
    let program = jobs_python.to_str().unwrap();
    for release in ["2", "3"] {
        let statement = format!("update mart set release = {release}");
        lab.ok(&["run", "--aside", "--", program, "job.py", &statement]);
    }
    fs::remove_file(&jobs_python).unwrap();
    only(&mut lab, &["sh", "cp"]);
    let back = lab.unship(&["rollback"]);
    let ask = "import duckdb; print(duckdb.connect('lab.duckdb', read_only=True).execute('select release from mart').fetchone()[0])";
    assert_eq!(lab.sh(&python, &["-c", ask]).trim(), "2", "{back:?}");
    let mut text = back.text();
    for args in [&["verify"][..], &["status"], &["undo"], &["log"]] {
        text.push_str(&lab.unship(args).text());
    }
    assert_eq!(lab.sh(&python, &["-c", ask]).trim(), "3");
    golden("duckdb_is_gone", &text);
}
