//! What others add to a table stays in production when a release goes back: Spark brings it over, and
//! Spark and pyiceberg find all of it, once.

use super::spark::Spark;
use serde_json::{Value, json};

const FIRST: &[&str] = &[
    "create table orders (id bigint, value bigint) partitioned by (id)",
    "insert into orders values (1, 10), (2, 20)",
    // Rows without an order, which Spark cannot compare.
    "create table wide (id bigint not null, tags map<string, int>) partitioned by (truncate(10, id))",
    "insert into wide values (1, map('a', 1))",
    // Rows are deleted by files beside them.
    "create table deleting (id bigint, value bigint)
     tblproperties ('write.delete.mode' = 'merge-on-read', 'write.distribution-mode' = 'none')",
    "insert into deleting select /*+ coalesce(1) */ id, id from range(4)",
];

const SECOND: &[&str] = &[
    "insert into orders values (66, 66)",
    "update orders set value = 99 where id = 1",
    "insert into wide values (66, null)",
    "delete from deleting where id = 1",
];

/// All rows of all three tables, as a program sees them that was just started.
fn seen(spark: &Spark) -> Value {
    let rows = |of: &str| spark.sql(&[&format!("select * from {of} order by 1, 2")]);
    json!([
        rows("orders"),
        spark.sql(&["select id, tags['a'] from wide order by 1"]),
        rows("deleting")
    ])
}

#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn what_others_added_stays_in_production() {
    let Some(spark) = Spark::new("spark_keep") else {
        return;
    };
    let (lake, scratch) = (&spark.lake, &spark.lake.scratch);
    spark.run(FIRST).says(0, &["R1 is production"]);
    spark.run(SECOND).says(0, &["R2 is production"]);

    // Others append by two engines, alike rows among them, and somebody compacts in between.
    spark.sql(&["insert into orders values (7, 70), (7, 70)"]);
    lake.others(&json!([["append", "orders", [[8, 80]]]]));
    let orders = format!("{}.orders", lake.namespace);
    spark.sql(&[&format!(
        "call lake.system.rewrite_data_files(table => '{orders}', options => map('rewrite-all', 'true'))"
    )]);
    lake.others(&json!([
        ["append", "orders", [[9, 90]]],
        ["append", "deleting", [[100, 100]]]
    ]));
    spark.sql(&["insert into wide values (7, map('a', 7)), (7, map('a', 7))"]);
    let bad = seen(&spark);

    let keep = ["rollback", "--others", "keep"];
    scratch.unship(&keep).says(
        73,
        &[
            "an engine that writes",
            "`sql = [",
            "cherrypick_snapshot",
            "nothing was changed",
        ],
    );
    let config = scratch.read("unship.toml");
    let sql =
        |command: &[&str]| scratch.write("unship.toml", format!("{config}sql = {command:?}\n"));
    sql(&["false"]);
    scratch
        .unship(&keep)
        .says(70, &["false did not bring over what others wrote"]);
    assert_eq!(seen(&spark), bad);

    sql(&[&spark.python, &spark.driver, "sql"]);
    scratch.ok(&keep);
    let good = json!([
        [[1, 10], [2, 20], [7, 70], [7, 70], [8, 80], [9, 90]],
        [[1, 1], [7, 7], [7, 7]],
        [[0, 0], [1, 1], [2, 2], [3, 3], [100, 100]]
    ]);
    assert_eq!(seen(&spark), good);
    let shown = lake.show();
    assert_eq!(shown["orders"]["rows"], good[0], "pyiceberg reads the same");
    assert_eq!(shown["deleting"]["rows"].as_array().unwrap().len(), 5);
    scratch.ok(&["verify"]);
    for table in ["orders", "wide", "deleting"] {
        let refs = format!("select name from lake.{}.{table}.refs", lake.namespace);
        let refs = spark.sql(&[&refs]).to_string();
        assert!(!refs.contains("rows"), "{refs}");
    }

    scratch.ok(&["undo"]);
    assert_eq!(
        seen(&spark),
        bad,
        "the bad release is back, with others' rows"
    );
    scratch.ok(&["verify"]);
    lake.others(&json!([["append", "orders", [[10, 100]]]]));
    scratch.ok(&["redo", "--others", "keep"]);
    let mut later = good;
    later[0].as_array_mut().unwrap().push(json!([10, 100]));
    assert_eq!(seen(&spark), later, "none is there twice");
    scratch.ok(&["verify"]);
    scratch.ok(&["fsck"]);
}
