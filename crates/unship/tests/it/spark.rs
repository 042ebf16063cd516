//! Apache Spark as the job, as the others who write, and as the reader of Iceberg tables.
//! `scripts/rest-catalog run scripts/spark run` starts both; `make test-all` does so.

use super::lake::{Lake, Running};
use super::meanwhile::{Lakeside, play};
use super::support::{Output, Scratch, repository};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use unship_core::testing::skipped;

/// What a reader of a catalog sees.
#[derive(Debug, PartialEq)]
pub(super) struct Shown(pub(super) Value);

/// What two programs see that know nothing of each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) pyiceberg: Value,
    pub(super) spark: Value,
}

pub(super) struct Spark {
    pub(super) lake: Lake,
    pub(super) python: String,
    socket: String,
    pub(super) driver: String,
}

impl Spark {
    /// A namespace of its own in the catalog that the tests share.
    pub(super) fn new(namespace: &str) -> Option<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                skipped(&format!("{name} is not set: scripts/spark run sets it"));
            }
            value
        };
        let socket = variable("UNSHIP_TEST_SPARK")?;
        let python = variable("UNSHIP_TEST_SPARK_PYTHON")?;
        let conf = variable("UNSHIP_TEST_SPARK_CONF")?;
        let mut lake = Lake::new(namespace)?;
        lake.scratch.set("UNSHIP_TEST_SPARK", &socket);
        lake.scratch.set("SPARK_CONF_DIR", conf);
        for name in ["JAVA_HOME", "SPARK_LOCAL_IP"] {
            if let Ok(value) = std::env::var(name) {
                lake.scratch.set(name, value);
            }
        }
        let driver = repository().join("scripts/spark_driver.py");
        let spark = Self {
            driver: driver.display().to_string(),
            lake,
            socket,
            python,
        };
        let create = format!("create namespace lake.{}", spark.lake.namespace);
        spark.request(&json!({"sql": [create]})).unwrap();
        Some(spark)
    }

    /// The rows of each statement, or what Spark says against it. A session that has a name remembers
    /// what it knows of tables; without one it is new.
    pub(super) fn ask(
        &self,
        session: Option<&str>,
        statements: &[&str],
    ) -> Result<Vec<Value>, String> {
        let mut all = vec![format!("use lake.{}", self.lake.namespace)];
        all.extend(statements.iter().map(|text| (*text).to_owned()));
        let rows = self.request(&json!({"sql": all, "session": session}))?;
        Ok(rows[1..].to_vec())
    }

    pub(super) fn request(&self, request: &Value) -> Result<Vec<Value>, String> {
        asked(&self.socket, request)
    }

    /// Another application, with a session of its own, and where it is asked.
    fn another(&self) -> (Running, String) {
        let socket = self.lake.scratch.path("another").display().to_string();
        let mut command = self.lake.scratch.command(&self.python);
        command.args([&self.driver, "serve", &socket]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = Running(Some(command.spawn().unwrap()));
        for _ in 0..1200 {
            if std::path::Path::new(&socket).exists() {
                return (child, socket);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the other session did not start within two minutes");
    }

    /// What somebody does who knows nothing of unship; the rows of the last statement.
    #[track_caller]
    pub(super) fn sql(&self, statements: &[&str]) -> Value {
        let mut rows = self.ask(None, statements).unwrap();
        rows.pop().unwrap()
    }

    /// What a guarded job does.
    pub(super) fn run(&self, statements: &[&str]) -> Output {
        let mut args = vec!["run", "--", &*self.python, &*self.driver, "sql"];
        let namespace = format!("use lake.{}", self.lake.namespace);
        args.push(&namespace);
        args.extend(statements);
        self.lake.scratch.unship(&args)
    }

    /// What a guarded job does that builds aside. Spark runs elsewhere, and is told of the branch.
    fn aside(&self, statements: &[&str]) -> Output {
        let script =
            "exec \"$0\" \"$1\" sql \"set spark.wap.branch = $UNSHIP_ICEBERG_BRANCH\" \"${@:2}\"";
        let mut args = vec!["run", "--aside", "--", "bash", "-c", script];
        let namespace = format!("use lake.{}", self.lake.namespace);
        args.extend([&*self.python, &*self.driver, &namespace]);
        args.extend(statements);
        self.lake.scratch.unship(&args)
    }

    /// Every table and view, as a program sees it that has just been started: rows, columns,
    /// partitioning, sort order and properties; definitions, and what they give.
    pub(super) fn show(&self) -> Shown {
        let (mut tables, mut views) = (json!({}), json!({}));
        for table in self.sql(&["show tables"]).as_array().unwrap() {
            let name = table[1].as_str().unwrap();
            let asked = self.ask(
                None,
                &[
                    &format!("describe extended {name}"),
                    &format!("select * from {name}"),
                ],
            );
            let [described, rows] = asked.unwrap().try_into().unwrap();
            tables[name] = json!({"is": described_as(&described), "rows": in_order(&rows)});
        }
        for view in self.sql(&["show views"]).as_array().unwrap() {
            let name = view[1].as_str().unwrap();
            let asked = self.ask(
                None,
                &[
                    &format!("show create table {name}"),
                    &format!("select * from {name}"),
                ],
            );
            let [says, rows] = asked.unwrap().try_into().unwrap();
            let says = says[0][0].as_str().unwrap().lines();
            // Where its metadata lies is no part of it.
            let says: Vec<_> = says
                .filter(|l| !l.trim_start().starts_with("'location' ="))
                .collect();
            views[name] = json!({"says": says, "rows": in_order(&rows)});
        }
        Shown(json!({"tables": tables, "views": views}))
    }
}

impl Spark {
    /// What both see that have just been started.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            pyiceberg: self.lake.show(),
            spark: self.show().0,
        }
    }
}

fn asked(socket: &str, request: &Value) -> Result<Vec<Value>, String> {
    let mut stream = UnixStream::connect(socket).unwrap();
    writeln!(stream, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["rows"].as_array().unwrap().clone()),
    }
}

/// Tells those who work beside the test that it is over, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Rows, in the one order that they are compared in.
pub(super) fn in_order(rows: &Value) -> Vec<Value> {
    let mut rows = rows.as_array().unwrap().clone();
    rows.sort_by_key(Value::to_string);
    rows
}

/// What Spark says of a table, less what is no part of it: metadata columns, where its files are, and
/// the property with which unship knows its own commit again.
fn described_as(described: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut hidden = false;
    for line in described.as_array().unwrap() {
        let [name, what] = [0, 1].map(|n| line[n].as_str().unwrap());
        match name {
            "# Metadata Columns" => hidden = true,
            "" => hidden = false,
            "Table Properties" => {
                let list = what.trim_matches(['[', ']']).split(',');
                let own = |text: &&str| !text.starts_with("unship.");
                out.extend(list.filter(own).map(str::to_owned));
            }
            _ if hidden => {}
            _ => out.push(format!("{name}: {what}")),
        }
    }
    out
}

/// The first release of the tests.
const FIRST: &[&str] = &[
    "create table orders (id bigint, amount bigint) partitioned by (bucket(2, id))
     tblproperties ('note' = 'one')",
    "insert into orders values (1, 10), (2, 20)",
    "create table customers (id bigint, name string) partitioned by (name)",
    "insert into customers values (1, 'anna'), (2, 'bert')",
    "create table replaced as select 1 as id",
    "create table gone as select 7 as id",
    "create view large as select id from orders where amount > 15",
];

/// Everything that Spark can do to a lake: each sort of commit, columns, partitioning, sort order,
/// properties, tables that come and go or are replaced, a view.
const SECOND: &[&str] = &[
    "insert into orders values (3, 30)",
    "merge into orders using (select 2 as id, 99 as amount union all select 5, 50) as new
     on orders.id = new.id
     when matched then update set amount = new.amount when not matched then insert *",
    "alter table orders add partition field truncate(10, amount)",
    "alter table orders drop partition field bucket(2, id)",
    "insert into orders values (4, 40)",
    "delete from orders where id = 1",
    "alter table orders set tblproperties ('note' = 'two', 'more' = 'x')",
    "alter table customers add column region string",
    "alter table customers rename column id to number",
    "insert overwrite customers values (8, 'carl', 'eu')",
    "alter table customers write ordered by number",
    "create or replace table replaced as select 'one' as word, 2.5 as price",
    "drop table gone",
    "create table more as select 8 as id",
    "create or replace view large as select id, amount from orders",
];

#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn what_spark_did_goes_back_and_forth() {
    let Some(spark) = Spark::new("spark_story") else {
        return;
    };
    let scratch = &spark.lake.scratch;
    spark.sql(&["create table raw as select 1 as id"]);
    spark.run(FIRST).says(0, &["R1 is production"]);
    let r1 = spark.show();
    spark.run(SECOND).says(76, &["R2 is live and marked bad"]);
    let r2 = spark.show();
    assert_ne!(r1, r2);
    // Somebody's program remembers the tables as they are now.
    let orders = "select * from orders order by id";
    let remembered = spark.ask(Some("old"), &[orders]).unwrap();

    scratch.ok(&["rollback"]);
    assert_eq!(spark.show(), r1);
    scratch.ok(&["verify"]);
    let again = ["refresh table orders", orders];
    let seen = spark.ask(Some("old"), &again).unwrap();
    assert_eq!(seen[1], json!([[1, 10], [2, 20]]));
    // What gave way can be read, with the columns that it had.
    let bad = "select * from orders version as of 'unship_r2' order by id";
    assert_eq!(spark.sql(&[bad]), remembered[0]);
    let bad = "select number, name, region from customers version as of 'unship_r2'";
    assert_eq!(spark.sql(&[bad]), json!([[8, "carl", "eu"]]));

    // What others wrote to a table of no job stays.
    spark.sql(&["insert into raw values (2)"]);
    scratch.ok(&["undo"]);
    let mut expected = r2.0;
    let raw = &mut expected["tables"]["raw"];
    *raw = spark.show().0["tables"]["raw"].take();
    assert_eq!(raw["rows"], json!([[1], [2]]));
    assert_eq!(spark.show(), Shown(expected));
    scratch.ok(&["verify"]);
    scratch.ok(&["redo"]);
    let mut expected = r1.0;
    expected["tables"]["raw"] = spark.show().0["tables"]["raw"].take();
    assert_eq!(spark.show(), Shown(expected));
    scratch.ok(&["verify"]);
    scratch.ok(&["fsck"]);
}

/// A program that still knows the bad version writes on: its rows come on top of what production is
/// now, and bring nothing of the bad version back.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn a_session_that_remembers_the_bad_version_does_not_bring_it_back() {
    let Some(spark) = Spark::new("spark_late") else {
        return;
    };
    let scratch = &spark.lake.scratch;
    spark.run(FIRST).says(0, &["R1"]);
    spark
        .run(&["insert into orders values (66, 66)"])
        .says(0, &["R2"]);
    let old = spark.ask(Some("late"), &["select count(*) from orders"]);
    assert_eq!(old.unwrap()[0], json!([[3]]));
    scratch.ok(&["rollback"]);
    let late = spark.ask(Some("late"), &["insert into orders values (3, 30)"]);
    let rows = spark.sql(&["select id from orders order by id"]);
    match late {
        Ok(_) => assert_eq!(rows, json!([[1], [2], [3]])),
        // It may as well be told that it is late.
        Err(_) => assert_eq!(rows, json!([[1], [2]])),
    }
}

/// Tables of Spark's. A job's number is odd while it is at work on production itself.
struct Shore {
    spark: Spark,
    job: AtomicUsize,
}

impl Shore {
    fn texts(n: i64) -> [String; 3] {
        [
            format!("insert overwrite left_side values ({n})"),
            format!("insert overwrite right_side values ({n})"),
            format!("insert into orders values ({n})"),
        ]
    }
}

impl Lakeside for Shore {
    fn scratch(&self) -> &Scratch {
        &self.spark.lake.scratch
    }

    fn in_place(&self, n: i64) -> Output {
        self.spark
            .run(&Self::texts(n).each_ref().map(String::as_str))
    }

    fn aside(&self, n: i64) -> Output {
        let [left, right, _] = Self::texts(n);
        self.spark.aside(&[&left, &right])
    }

    fn aside_with_orders(&self, n: i64) -> Output {
        self.spark
            .aside(&Self::texts(n).each_ref().map(String::as_str))
    }

    fn pair(&self) -> [i64; 2] {
        ["left_side", "right_side"].map(|side| {
            let rows = self.spark.sql(&[&format!("select value from {side}")]);
            rows[0][0].as_i64().unwrap()
        })
    }

    fn at_work(&self, _: bool) {
        self.job.fetch_add(1, Ordering::SeqCst);
    }
}

/// Spark keeps committing while jobs publish, in place and aside, and production goes back and forth:
/// nothing that it was told is committed is lost, and nobody sees one of two tables go without the
/// other.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn nothing_that_spark_commits_meanwhile_is_lost() {
    let Some(spark) = Spark::new("spark_meanwhile") else {
        return;
    };
    let rounds = std::env::var("UNSHIP_SPARK_ROUNDS");
    let rounds: usize = rounds.map_or(5, |n| n.parse().unwrap());
    let built = "tblproperties ('write.wap.enabled' = 'true') as select";
    spark
        .run(&[
            &format!("create table left_side {built} 1 as value"),
            &format!("create table right_side {built} 1 as value"),
            &format!("create table orders {built} cast(1 as bigint) as id"),
        ])
        .says(0, &["R1"]);
    let shore = Shore {
        spark,
        job: AtomicUsize::new(0),
    };
    let spark = &shore.spark;
    // Of another application than the jobs, as its commits say.
    let (_running, stream) = spark.another();
    let orders = format!("lake.{}.orders", spark.lake.namespace);
    let over = AtomicBool::new(false);
    let read = AtomicBool::new(false);
    let (tally, committed, pairs) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut done = Vec::new();
            for id in 1_000_000_i64.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let text = format!("insert into {orders} values ({id})");
                // One session, as a stream has: it tries again by itself where it was too late.
                let insert = json!({"sql": [text], "session": "stream"});
                if asked(&stream, &insert).is_ok() {
                    done.push(id);
                }
            }
            done
        });
        let job = &shore.job;
        let reader = scope.spawn(|| {
            let mut pairs = Vec::new();
            let left = "select value from left_side";
            let at = format!(
                "select snapshot_id, (select count(*) from lake.{0}.left_side.metadata_log_entries)
                 from lake.{0}.left_side.refs where name = 'main'",
                spark.lake.namespace
            );
            let right = "select value from right_side";
            while !over.load(Ordering::SeqCst) {
                // A pair counts only where the first table stood still while the second was read, and
                // no job was at work on production itself.
                let job_before = job.load(Ordering::SeqCst);
                let before = spark.ask(None, &[&at, left, right]).unwrap();
                let after = spark.ask(None, &[&at]).unwrap();
                let quiet =
                    job_before.is_multiple_of(2) && job.load(Ordering::SeqCst) == job_before;
                if quiet && before[0] == after[0] {
                    pairs.push((before[1].clone(), before[2].clone()));
                    read.store(true, Ordering::SeqCst);
                }
            }
            pairs
        });
        let working = Over(&over);
        // What is read after the last move shows nothing.
        let tally = play(&shore, rounds, || read.load(Ordering::SeqCst));
        drop(working);
        (tally, writer.join().unwrap(), reader.join().unwrap())
    });
    let kept = spark.lake.kept("orders");
    let lost: Vec<_> = committed.iter().filter(|id| !kept.contains(id)).collect();
    println!(
        "{tally}; {} committed, {} pairs read",
        committed.len(),
        pairs.len()
    );
    assert!(!committed.is_empty() && lost.is_empty(), "lost: {lost:?}");
    let mixed: Vec<_> = pairs.iter().filter(|(left, right)| left != right).collect();
    assert!(!pairs.is_empty() && mixed.is_empty(), "mixed: {mixed:?}");
    spark.lake.scratch.ok(&["fsck"]);
}

/// One day of two tables comes back, by Spark on a branch; the other days, and who wrote them since,
/// stay.
#[test]
#[ignore = "needs Spark and a REST catalog: scripts/rest-catalog run scripts/spark run"]
fn a_partition_comes_back_and_the_rest_stays() {
    let Some(spark) = Spark::new("spark_rows") else {
        return;
    };
    let scratch = &spark.lake.scratch;
    let rows = "select * from facts order by 1, 2";
    let other = "select * from `odd-name` order by 1, 2";
    spark
        .run(&[
            "create table facts (day date, amount bigint) partitioned by (day)",
            "insert into facts values (date '2026-01-01', 1), (date '2026-01-02', 2),
             (date '2026-01-02', 3)",
            "create table `odd-name` (amount bigint, day date)
             tblproperties ('write.delete.mode' = 'merge-on-read')",
            "insert into `odd-name` values (1, date '2026-01-01'), (2, date '2026-01-02')",
        ])
        .says(0, &["R1"]);
    spark
        .run(&[
            "delete from facts where day = date '2026-01-02'",
            "insert into facts values (date '2026-01-02', 99), (date '2026-01-03', 3)",
            "update `odd-name` set amount = 10 * amount",
        ])
        .says(0, &["R2"]);
    let bad = (spark.sql(&[rows]), spark.sql(&[other]));
    let day = [
        "--select",
        "facts",
        "odd-name",
        "--partition",
        "day=2026-01-02",
    ];
    let rollback = [&["rollback", "--to", "R1"][..], &day].concat();
    scratch
        .unship(&rollback)
        .says(70, &["none is configured", "sql = [\"spark-sql\""]);

    let config = scratch.read("unship.toml");
    let sql =
        |command: &[&str]| scratch.write("unship.toml", format!("{config}sql = {command:?}\n"));
    sql(&["false"]);
    scratch
        .unship(&rollback)
        .says(70, &["false did not exchange the rows"]);
    assert_eq!(spark.sql(&[rows]), bad.0);

    sql(&[&spark.python, &spark.driver, "sql"]);
    scratch.ok(&rollback);
    assert_eq!(
        spark.sql(&[rows]),
        json!([
            ["2026-01-01", 1],
            ["2026-01-02", 2],
            ["2026-01-02", 3],
            ["2026-01-03", 3]
        ])
    );
    assert_eq!(
        spark.sql(&[other]),
        json!([[2, "2026-01-02"], [10, "2026-01-01"]])
    );
    scratch.ok(&["verify"]);
    for table in ["facts", "`odd-name`"] {
        let refs = format!(
            "select name from lake.{}.{table}.refs",
            spark.lake.namespace
        );
        let refs = spark.sql(&[&refs]).to_string();
        assert!(!refs.contains("rows"), "{refs}");
    }
    scratch.ok(&["undo"]);
    assert_eq!((spark.sql(&[rows]), spark.sql(&[other])), bad);
    scratch.ok(&["verify"]);
    scratch.ok(&["fsck"]);
}
