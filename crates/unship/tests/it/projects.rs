//! What real dbt projects left behind, as database files of DuckDB 2: damaged and brought back.

use crate::support::oracle::State;
use crate::support::{Scratch, Tools, python2, repository, tools};
use std::path::PathBuf;
use unship_core::testing::skipped;

/// Spoils tables in several ways, and removes and adds relations.
const DAMAGE: &str = r#"
import duckdb, os
con = duckdb.connect(os.environ["UNSHIP_DATABASE"])
quoted = lambda *names: ".".join('"' + n.replace('"', '""') + '"' for n in names)
tables = con.execute("""select schema_name, table_name from duckdb_tables()
    where not internal and database_name = current_database() order by all""").fetchall()
views = con.execute("""select schema_name, view_name from duckdb_views()
    where not internal and database_name = current_database() order by all""").fetchall()
done = 0
for n, name in enumerate(tables):
    try:
        if n % 3 == 0:
            con.execute(f"delete from {quoted(*name)} where random() < 0.5 or rowid = 0")
        elif n % 3 == 1:
            con.execute(f"insert into {quoted(*name)} select * from {quoted(*name)}")
        else:
            con.execute(f"alter table {quoted(*name)} add column unship_damage integer default 1")
        done += 1
    except duckdb.Error as error:
        print(f"{name}: {error}")
for name in views[:1]:
    con.execute(f"create or replace view {quoted(*name)} as select 1 as damaged")
con.execute("create table unship_added as select 1 as x")
print(f"{done} of {len(tables)} tables damaged")
"#;

fn inputs() -> Option<PathBuf> {
    let beside = repository().join("../shared/inputs");
    let dir = std::env::var_os("UNSHIP_TEST_INPUTS").map_or(beside, PathBuf::from);
    if !dir.is_dir() {
        skipped("no inputs; set UNSHIP_TEST_INPUTS to the directory that holds states/");
        return None;
    }
    Some(dir)
}

fn damaged_and_brought_back(name: &str) {
    let (Some(tools), Some(python2), Some(inputs)) = (tools(), python2(), inputs()) else {
        return;
    };
    let tools = Tools {
        python: python2.clone(),
        dbt: tools.dbt,
    };
    let project = Scratch::new(&tools);
    let packed =
        std::fs::File::open(inputs.join("states").join(name).join("duckdb.db.zst")).unwrap();
    let mut file = std::fs::File::create(project.path("project.duckdb")).unwrap();
    zstd::stream::copy_decode(packed, &mut file).unwrap();
    drop(file);
    let state = |name: &str| State::by(&python2, &project, &project.path("project.duckdb"), name);

    project.ok(&["init", "--database", "project.duckdb"]);
    let good = state("good");
    project.write("damage.py", DAMAGE);
    project.ok(&["run", "--aside", "--", "python", "damage.py"]);
    let bad = state("bad");
    assert!(!good.differences(&project, &bad, &[]).is_empty());

    // The file as a whole, then relation by relation beside what a stranger wrote.
    project.ok(&["rollback"]);
    assert_eq!(good.differences(&project, &state("whole"), &[]), [""; 0]);
    project.ok(&["redo"]);
    assert_eq!(bad.differences(&project, &state("again"), &[]), [""; 0]);
    project.ok(&["undo"]);
    assert_eq!(good.differences(&project, &state("undone"), &[]), [""; 0]);
    // The bad data stays readable, by the name of the release that built it.
    project
        .ok(&["show", "R3"])
        .says(0, &[".unship/points/R3/project.duckdb"]);
    let kept = State::by(
        &python2,
        &project,
        &project.path(".unship/points/R3/project.duckdb"),
        "kept",
    );
    assert_eq!(bad.differences(&project, &kept, &[]), [""; 0]);
    project.ok(&["redo"]);
    project.sh(
        "python",
        &["-c", "import duckdb; duckdb.connect('project.duckdb').execute('create table theirs as select 1 as x')"],
    );
    project.ok(&["rollback", "--to", "R0"]);
    good.differs_only_in(&project, &state("relations"), &["main.theirs"]);
    project.ok(&["verify"]);
    project.ok(&["fsck"]);
}

#[test]
fn dataops() {
    damaged_and_brought_back("dataops");
}

#[test]
fn adventureworks() {
    damaged_and_brought_back("adventureworks-dbt");
}

#[test]
fn jaffle_shop() {
    damaged_and_brought_back("jaffle_shop_duckdb");
}
