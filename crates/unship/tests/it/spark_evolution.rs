//! Everything that one bad release can do to a lake, taken back and forth, and seen by two programs
//! that know nothing of unship: pyiceberg and Spark.

use super::spark::{Seen, Spark, in_order};
use super::support::Output;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What Spark builds first.
const FIRST: &[&str] = &[
    // Columns, also inside of one.
    "create table columns (id int not null, price decimal(9,2), ratio float, note string,
     inside struct<a: int, b: string>, no_more string) tblproperties ('note' = 'one', 'old' = 'x')",
    "insert into columns values
     (1, 1.50, cast(0.5 as float), 'one', named_struct('a', 1, 'b', 'x'), 'y'),
     (2, 2.50, cast(1.5 as float), 'two', named_struct('a', 2, 'b', 'y'), 'z')",
    "create table parts (id bigint, at timestamp, word string)
     partitioned by (bucket(2, id), days(at))",
    "insert into parts values (1, timestamp '2026-01-01 10:00:00', 'a'),
     (2, timestamp '2026-01-02 10:00:00', 'b'), (3, timestamp '2026-02-02 10:00:00', 'c')",
    "create table sorted (id bigint, word string)",
    "alter table sorted write ordered by id desc nulls last",
    "insert into sorted values (1, 'a'), (2, 'b')",
    // Rows that are deleted by files that name them, in both ways.
    "create table marked (id bigint, word string) tblproperties
     ('write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read')",
    "insert into marked select id, concat('w', id) from range(1, 20)",
    "create table vectors (id bigint, word string) tblproperties ('format-version' = '3',
     'write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read')",
    "insert into vectors select id, concat('v', id) from range(1, 20)",
    // Names.
    "create table dropped as select 7 as id",
    "create table made_anew as select 'old' as word",
    "create table replaced as select 1 as id",
    "create table renamed as select 1 as id",
    "create table this_side as select 'this' as side",
    "create table that_side as select 'that' as side, 2 as number",
    // Rows or none.
    "create table emptied as select 1 as id",
    "create table filled (id bigint)",
    // Views.
    "create view changed as select id from parts where id > 1",
    "create view of_a_view as select count(*) as n from changed",
    "create view view_dropped (one comment 'the one') comment 'a view'
     tblproperties ('p' = 'q') as select 1 as one",
    "create view view_anew as select 1 as one",
    "create view view_renamed as select 3 as three",
    "create view properties_only tblproperties ('p' = 'q') as select 4 as four",
    "create view becomes_table as select 2 as id",
    "create table becomes_view as select 2 as id",
];

/// What it does to all of that.
const SECOND: &[&str] = &[
    "alter table columns add columns (region string comment 'where' after id, seen timestamp)",
    "alter table columns rename column note to remark",
    "alter table columns drop column no_more",
    "alter table columns alter column ratio first",
    "alter table columns alter column id type bigint",
    "alter table columns alter column id drop not null",
    "alter table columns alter column price type decimal(18,2)",
    "alter table columns alter column ratio type double",
    "alter table columns alter column price comment 'with tax'",
    "alter table columns add column inside.c string",
    "alter table columns rename column inside.a to first",
    "alter table columns set tblproperties ('note' = 'two', 'new' = 'x')",
    "alter table columns unset tblproperties ('old')",
    "insert into columns (ratio, id, region, price, remark, inside, seen) values (2.5, 9000000000,
     'eu', 12345678901.25, 'big', named_struct('first', 3, 'b', 'z', 'c', 'new'),
     timestamp '2026-03-01 00:00:00')",
    "update columns set price = price * 2 where id = 1",
    "alter table parts drop partition field bucket(2, id)",
    "alter table parts replace partition field days(at) with months(at)",
    "alter table parts add partition field truncate(1, word)",
    "insert into parts values (4, timestamp '2026-03-03 10:00:00', 'd')",
    "delete from parts where id = 1",
    "alter table sorted write ordered by word asc nulls first, id",
    "insert into sorted values (3, 'c')",
    "delete from marked where id % 3 = 0",
    "update marked set word = 'changed' where id = 4",
    "delete from vectors where id % 3 = 0",
    "update vectors set word = 'changed' where id = 4",
    "drop table dropped",
    "drop table made_anew",
    "create table made_anew (id bigint, day date) partitioned by (day)",
    "insert into made_anew values (1, date '2026-01-01')",
    "create or replace table replaced partitioned by (word) as select 'one' as word, 2.5 as price",
    "alter table renamed rename to renamed_since",
    "insert into renamed_since values (2)",
    "alter table this_side rename to between",
    "alter table that_side rename to this_side",
    "alter table between rename to that_side",
    "truncate table emptied",
    "insert into filled values (1), (2)",
    "create table new_one as select 8 as id",
    "create or replace view changed (number comment 'of a part') as
     select id * 10 as number from parts",
    "drop view view_dropped",
    "drop view view_anew",
    "create view view_anew as select 2 as two",
    "alter view view_renamed rename to view_renamed_since",
    "alter view properties_only set tblproperties ('p' = 'r', 'more' = 'x')",
    "create view new_view as select id from new_one",
    "drop view becomes_table",
    "create table becomes_table as select 'a table' as word",
    "drop table becomes_view",
    "create view becomes_view as select 'a view' as word",
];

fn first_of_python() -> Value {
    json!([
        [
            "define",
            "py_columns",
            [
                ["id", "int"],
                ["price", "float"],
                ["word", "string"],
                ["no_more", "string"]
            ]
        ],
        [
            "append",
            "py_columns",
            [[1, 1.5, "a", "x"], [2, 2.5, "b", "y"]]
        ],
        ["property", "py_columns", "note", "one"],
        ["property", "py_columns", "old", "x"],
        ["define", "py_parts", [["id", "long"], ["word", "string"]]],
        ["partition by", "py_parts", "word"],
        ["order by", "py_parts", "id"],
        ["append", "py_parts", [[1, "a"], [2, "b"]]],
        ["create", "py_dropped", ["id"], [[7]]],
        ["create", "py_anew", ["id"], [[7]]],
        ["create", "py_renamed", ["id"], [[7]]],
        [
            "view",
            "py_view",
            "select id from py_parts",
            [["id", "long"]]
        ],
        [
            "view",
            "py_view_dropped",
            "select 5 as five",
            [["five", "int"]]
        ],
    ])
}

fn second_of_python() -> Value {
    json!([
        ["add column", "py_columns", "region", "string"],
        ["rename column", "py_columns", "word", "text"],
        ["drop column", "py_columns", "no_more"],
        ["move first", "py_columns", "price"],
        ["promote", "py_columns", "id", "long"],
        ["promote", "py_columns", "price", "double"],
        ["property", "py_columns", "note", "two"],
        ["property", "py_columns", "new", "x"],
        ["no property", "py_columns", "old"],
        [
            "append",
            "py_columns",
            [[3.25, 9_000_000_000_i64, "c", "eu"]]
        ],
        ["part no more by", "py_parts", "word"],
        ["order down by", "py_parts", "word"],
        ["overwrite", "py_parts", [[3, "c"]]],
        ["bucket by", "py_parts", "id", "id_bucket"],
        ["drop", "py_dropped"],
        ["drop", "py_anew"],
        ["define", "py_anew", [["word", "string"]]],
        ["append", "py_anew", [["new"]]],
        ["rename", "py_renamed", "py_renamed_since"],
        ["create", "py_new", ["id"], [[8]]],
        ["drop view", "py_view"],
        [
            "view",
            "py_view",
            "select word from py_parts",
            [["word", "string"]]
        ],
        ["drop view", "py_view_dropped"],
        ["view", "py_view_new", "select 6 as six", [["six", "int"]]],
    ])
}

/// The session that remembers what it has seen, as long as it is not told to look again.
const REMEMBERS: Option<&str> = Some("remembers");

struct Shore(Spark);

impl Shore {
    /// One job, by two programs.
    fn job(&self, python: &Value, statements: &[&str]) -> Output {
        let lake = &self.0.lake;
        let script = "set -e; \"$0\" \"$1\" do \"$2\"; exec \"$3\" \"$4\" sql \"${@:5}\"";
        let operations = python.to_string();
        let namespace = format!("use lake.{}", lake.namespace);
        let mut args = vec!["run", "--", "bash", "-c", script, &lake.python, &lake.job];
        args.extend([&*operations, &*self.0.python, &*self.0.driver, &namespace]);
        args.extend(statements);
        lake.scratch.unship(&args)
    }

    /// The rows of everything that is there, in a session that remembers tables until it is told to
    /// look again.
    fn remembered(&self, look_again: bool, names: &BTreeSet<String>) -> Value {
        let mut all = json!({});
        for name in names {
            if look_again {
                // What is not there any more is forgotten, too.
                let _ = self.0.ask(REMEMBERS, &[&format!("refresh table {name}")]);
            }
            if let Ok(rows) = self.0.ask(REMEMBERS, &[&format!("select * from {name}")]) {
                all[name] = json!(in_order(&rows[0]));
            }
        }
        all
    }

    /// Everybody sees what was there then.
    #[track_caller]
    fn is(&self, when: &str, expected: &Seen, names: &BTreeSet<String>) {
        let scratch = &self.0.lake.scratch;
        scratch.ok(&["verify"]);
        let now = self.0.seen();
        for (by, now, expected) in [
            ("pyiceberg", &now.pyiceberg, &expected.pyiceberg),
            (
                "Spark, tables",
                &now.spark["tables"],
                &expected.spark["tables"],
            ),
            (
                "Spark, views",
                &now.spark["views"],
                &expected.spark["views"],
            ),
        ] {
            for name in names {
                assert_eq!(now[name], expected[name], "{when}: {name}, seen by {by}");
            }
            assert_eq!(keys(now), keys(expected), "{when}: seen by {by}");
        }
        assert_eq!(
            self.remembered(true, names),
            rows(&now.spark),
            "{when}: told to look again"
        );
    }
}

fn keys(of: &Value) -> BTreeSet<String> {
    of.as_object().unwrap().keys().cloned().collect()
}

/// The rows of tables and views, as Spark gives them.
fn rows(spark: &Value) -> Value {
    let mut all = json!({});
    for (name, one) in ["tables", "views"]
        .into_iter()
        .flat_map(|sort| spark[sort].as_object().unwrap())
    {
        all[name] = one["rows"].clone();
    }
    all
}

/// Columns come, go, change their names, their order and their types; partitions, sort orders and
/// properties change; tables and views come and go, get other names, change them with each other, and
/// change into each other. All of it goes back, forth, back, forth and back again.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn all_that_a_release_can_do_goes_back_and_forth() {
    let Some(spark) = Spark::new("spark_evolution") else {
        return;
    };
    let shore = Shore(spark);
    let scratch = &shore.0.lake.scratch;
    scratch.only_tell();
    let forever = "set `spark.sql.catalog.lake.cache.expiration-interval-ms` = `-1`";
    let hello = json!({"sql": [forever], "session": REMEMBERS});
    shore.0.request(&hello).unwrap();

    shore
        .job(&first_of_python(), FIRST)
        .says(0, &["R1 is production"]);
    let before = shore.0.seen();
    shore
        .job(&second_of_python(), SECOND)
        .says(0, &["R2 is production"]);
    let after = shore.0.seen();
    let names: BTreeSet<_> = [&before, &after]
        .into_iter()
        .flat_map(|seen| keys(&seen.pyiceberg))
        .collect();
    for name in &names {
        // It goes on saying the same of what changed.
        let (one, other) = match &**name {
            "of_a_view" => {
                let rows = |seen: &Seen| seen.spark["views"][name].clone();
                (rows(&before), rows(&after))
            }
            _ => (
                before.pyiceberg[name].clone(),
                after.pyiceberg[name].clone(),
            ),
        };
        assert_ne!(one, other, "{name} did not change");
    }
    let views = keys(&before.spark["views"]);
    assert!(views.contains("py_view") && views.len() > 5, "{views:?}");
    let bad = shore.remembered(false, &names);
    assert_eq!(bad, rows(&after.spark));

    scratch.ok(&["rollback"]);
    // Nobody told it yet.
    let stale = shore.remembered(false, &names);
    assert_eq!(stale["columns"], bad["columns"]);
    shore.is("back", &before, &names);
    scratch.ok(&["undo"]);
    shore.is("forth", &after, &names);
    scratch.ok(&["redo"]);
    shore.is("back by redo", &before, &names);
    scratch.ok(&["undo"]);
    shore.is("forth again", &after, &names);
    scratch.ok(&["rollback", "--to", "R1"]);
    shore.is("back again", &before, &names);
    scratch.ok(&["fsck"]);
    scratch.ok(&["doctor"]);
}
