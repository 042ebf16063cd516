//! Random histories.

use super::*;

#[derive(Debug, Clone, Copy)]
enum Sort {
    Keyed,
    /// With nothing that cannot be given a value in a row that stays.
    Plain,
    Keyless,
    Partitioned,
}

impl Sort {
    fn make(self) -> String {
        let key = match self {
            Self::Keyless => "",
            Self::Keyed | Self::Plain => ", PRIMARY KEY (id)",
            Self::Partitioned => ", PRIMARY KEY (id, grp)",
        };
        let partitions = match self {
            Self::Partitioned => {
                "PARTITION BY LIST (grp);
                 CREATE TABLE s.t_0 (js json, id int NOT NULL, gone int, grp int NOT NULL, txt varchar(9), num numeric,
                    arr text[], dom s.small, en s.mood, nt bigint GENERATED ALWAYS AS IDENTITY,
                    twice int GENERATED ALWAYS AS (grp * 2) STORED);
                 ALTER TABLE s.t_0 DROP COLUMN gone, ALTER COLUMN nt DROP IDENTITY;
                 ALTER TABLE s.t ATTACH PARTITION s.t_0 FOR VALUES IN (0);
                 CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES IN (1);
                 CREATE TABLE s.t_2 PARTITION OF s.t DEFAULT PARTITION BY HASH (id);
                 CREATE TABLE s.t_2_0 PARTITION OF s.t_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE s.t_2_1 PARTITION OF s.t_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
            }
            _ => "",
        };
        // A sequence's numbers are of no partition before version 17.
        let numbers = match self {
            Self::Partitioned | Self::Plain => "nt bigint",
            _ => "nt bigint GENERATED ALWAYS AS IDENTITY",
        };
        let partitions = partitions
            .replace("nt bigint GENERATED ALWAYS AS IDENTITY", "nt bigint")
            .replace(", ALTER COLUMN nt DROP IDENTITY", "");
        format!(
            "CREATE DOMAIN s.small AS int CHECK (VALUE < 1000);
             CREATE TYPE s.mood AS ENUM ('good', 'bad');
             CREATE TABLE s.t (id int NOT NULL, grp int NOT NULL, txt varchar(9), num numeric, js json,
                arr text[], dom s.small, en s.mood, {numbers},
                twice int GENERATED ALWAYS AS (grp * 2) STORED{key}) {partitions}"
        )
    }

    /// What a statement may be directed at.
    fn part(self, n: u8) -> &'static str {
        match (self, n % 4) {
            (Self::Partitioned, 0) => "s.t_0",
            (Self::Partitioned, 1) => "s.t_2",
            _ => "s.t",
        }
    }
}

/// One thing that a session does.
#[derive(Debug, Clone)]
enum Op {
    Begin(bool),
    Insert { at: u8, id: u8, n: u8 },
    Copy { id: u8, n: u8 },
    Update { at: u8, grp: u8, what: u8 },
    Move { grp: u8 },
    Delete { at: u8, grp: u8 },
    Merge { id: u8 },
    Upsert { id: u8 },
    Truncate { at: u8 },
    Savepoint,
    RollbackTo,
    Commit,
    Abort,
    Alter { n: u8 },
    FullRefresh,
    Look,
}

fn op(ddl: bool) -> impl Strategy<Value = Op> {
    let small = 0..4_u8;
    let id = 0..30_u8;
    // Of what alters the table there is little: it ends what can be gone back to.
    let altering = (0..4_u8).prop_map(|n| match n {
        3 => Op::FullRefresh,
        n => Op::Alter { n },
    });
    let altering = match ddl {
        true => altering.boxed(),
        false => Just(Op::Look).boxed(),
    };
    prop_oneof![
        3 => any::<bool>().prop_map(Op::Begin),
        5 => (any::<u8>(), id.clone(), 1..6_u8).prop_map(|(at, id, n)| Op::Insert { at, id, n }),
        2 => (id.clone(), 1..6_u8).prop_map(|(id, n)| Op::Copy { id, n }),
        4 => (any::<u8>(), small.clone(), 0..5_u8).prop_map(|(at, grp, what)| Op::Update { at, grp, what }),
        1 => small.clone().prop_map(|grp| Op::Move { grp }),
        3 => (any::<u8>(), small).prop_map(|(at, grp)| Op::Delete { at, grp }),
        2 => id.clone().prop_map(|id| Op::Merge { id }),
        2 => id.prop_map(|id| Op::Upsert { id }),
        1 => any::<u8>().prop_map(|at| Op::Truncate { at }),
        2 => Just(Op::Savepoint),
        2 => Just(Op::RollbackTo),
        3 => Just(Op::Commit),
        1 => Just(Op::Abort),
        2 => altering,
        5 => Just(Op::Look),
    ]
}

const VALUES: &str = "SELECT i % 30, i % 4, nullif('v' || i % 3, 'v2'), CASE i % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 END,
    CASE i % 2 WHEN 0 THEN '{\"a\": 1}'::json WHEN 1 THEN '{\"a\":1}' END, CASE i % 3 WHEN 0 THEN ARRAY['x', NULL] WHEN 1 THEN '{}' END,
    i % 5, CASE i % 3 WHEN 0 THEN 'good'::s.mood WHEN 1 THEN 'bad' END";
const COLUMNS: &str = "(id, grp, txt, num, js, arr, dom, en)";

fn sql(op: &Op, sort: Sort, version: i32) -> String {
    match op {
        Op::Begin(false) => "BEGIN".to_owned(),
        Op::Begin(true) => "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned(),
        Op::Insert { at, id, n } => {
            // Only what belongs there, where it is a partition.
            let only = match sort.part(*at) {
                "s.t_0" => "WHERE i % 4 = 0",
                "s.t_2" => "WHERE i % 4 > 1",
                _ => "",
            };
            let at = sort.part(*at);
            format!("INSERT INTO {at} {COLUMNS} {VALUES} FROM generate_series({id}, {id} + {n}) i {only}")
        }
        Op::Copy { .. } => String::new(),
        Op::Update { at, grp, what } => {
            let set = match what {
                0 => "txt = nullif(txt || 'x', txt)",
                1 => "num = num * 1.0",
                2 => "js = '{\"b\": 2}', arr = arr || 'y'",
                3 => "dom = dom + 1, en = 'bad'",
                // As it was.
                _ => "txt = txt",
            };
            format!("UPDATE {} SET {set} WHERE grp = {grp}", sort.part(*at))
        }
        Op::Move { grp } => format!("UPDATE s.t SET grp = (grp + 1) % 4, id = id + 1 WHERE grp = {grp}"),
        Op::Delete { at, grp } => format!("DELETE FROM {} WHERE grp = {grp}", sort.part(*at)),
        Op::Merge { id } if version >= 150_000 => format!(
            "MERGE INTO s.t USING (SELECT i, i % 4 AS grp FROM generate_series({id}, {id} + 3) i) n
                 ON t.id = n.i AND t.grp = n.grp
             WHEN MATCHED AND t.id % 3 = 0 THEN DELETE
             WHEN MATCHED THEN UPDATE SET txt = 'merged'
             WHEN NOT MATCHED THEN INSERT (id, grp, txt) VALUES (n.i, n.grp, 'new')"
        ),
        Op::Merge { id } => format!("DELETE FROM s.t WHERE id = {id}"),
        Op::Upsert { id } => match sort {
            Sort::Keyless => format!("INSERT INTO s.t {COLUMNS} SELECT {COLUMNS_PLAIN} FROM s.t WHERE id > {id}"),
            _ => format!(
                "INSERT INTO s.t {COLUMNS} {VALUES} FROM generate_series({id}, {id} + 4) i
                 ON CONFLICT {} DO UPDATE SET txt = 'again'",
                if matches!(sort, Sort::Keyed | Sort::Plain) { "(id)" } else { "(id, grp)" }
            ),
        },
        Op::Truncate { at } => format!("TRUNCATE {}", sort.part(*at)),
        Op::Savepoint => "SAVEPOINT here".to_owned(),
        Op::RollbackTo => "ROLLBACK TO SAVEPOINT here".to_owned(),
        Op::Commit => "COMMIT".to_owned(),
        Op::Abort => "ROLLBACK".to_owned(),
        Op::Alter { n: 0 } => "ALTER TABLE s.t ADD COLUMN more int DEFAULT 7".to_owned(),
        Op::Alter { n: 1 } => "ALTER TABLE s.t ALTER COLUMN num TYPE numeric USING num * 2".to_owned(),
        Op::Alter { .. } => "ALTER TABLE s.t DROP COLUMN txt; ALTER TABLE s.t ADD COLUMN txt varchar(9)".to_owned(),
        Op::FullRefresh => match sort {
            Sort::Partitioned => String::new(),
            _ => "CREATE TABLE s.new (LIKE s.t INCLUDING ALL); INSERT INTO s.new (id, grp) SELECT id, grp FROM s.t;
                  DROP TABLE s.t; ALTER TABLE s.new RENAME TO t"
                .to_owned(),
        },
        Op::Look => String::new(),
    }
}

const COLUMNS_PLAIN: &str = "id, grp, txt, num, js, arr, dom, en";

/// A session, which may be in a transaction that failed.
struct Session<'a> {
    database: &'a Database,
    number: usize,
    client: Client,
    open: bool,
}

impl<'a> Session<'a> {
    fn new(database: &'a Database, number: usize) -> Self {
        let mut client = database.client();
        let setup = format!("SET lock_timeout = '20ms'; SET application_name = 'loader {number}'");
        client.batch_execute(&setup).unwrap();
        Self {
            database,
            number,
            client,
            open: false,
        }
    }

    /// Whether it was done.
    fn play(&mut self, op: &Op, sort: Sort, version: i32) -> bool {
        match op {
            Op::Begin(_) if self.open => return false,
            Op::Savepoint | Op::RollbackTo | Op::Commit | Op::Abort if !self.open => return false,
            // Whoever alters the table would wait for the others.
            _ => {}
        }
        if let Op::Copy { id, n } = op {
            let done = self.copy(*id, *n).is_ok();
            if !done {
                // The driver does not find its way back from that.
                *self = Self::new(self.database, self.number);
            }
            return done;
        }
        let done = self.client.batch_execute(&sql(op, sort, version));
        match op {
            Op::Begin(_) => self.open = true,
            Op::Commit | Op::Abort => self.open = false,
            _ => {}
        }
        if done.is_err() && self.open {
            let back = matches!(op, Op::RollbackTo)
                || self
                    .client
                    .batch_execute("ROLLBACK TO SAVEPOINT here")
                    .is_err();
            if back {
                self.client.batch_execute("ROLLBACK").unwrap();
                self.open = false;
            }
        }
        done.is_ok()
    }

    fn copy(&mut self, id: u8, n: u8) -> Result<(), postgres::Error> {
        use std::io::Write;
        let mut writer = self
            .client
            .copy_in("COPY s.t (id, grp, txt, js) FROM STDIN")?;
        for i in 0..n {
            let line = format!(
                "{}\t{}\t\\N\t[{i}]\n",
                u32::from(id) + 40 + u32::from(i % 3),
                i % 4
            );
            writer.write_all(line.as_bytes()).unwrap();
        }
        writer.finish().map(drop)
    }
}

/// Plays a history, and goes to each moment of it that a copy was taken of, in the given order.
fn history(
    server: &str,
    sort: Sort,
    ops: &[(usize, Op)],
    order: &[usize],
) -> Result<(), TestCaseError> {
    let mut logged = Logged::new(server, "t", &sort.make());
    let version: String = {
        let row = logged
            .database
            .client()
            .query_one("SHOW server_version_num", &[]);
        row.unwrap().get(0)
    };
    let version = version.parse().unwrap();
    let database = Database {
        server: server.to_owned(),
        name: logged.database.name.clone(),
    };
    let database = std::mem::ManuallyDrop::new(database);
    let mut sessions: Vec<_> = (0..3).map(|n| Session::new(&database, n)).collect();
    // Each with how often the table had been altered.
    let mut copies: Vec<(usize, Copy)> = vec![(0, logged.copy())];
    let mut altered = 0;
    for (who, op) in ops {
        match op {
            Op::Look => {
                copies.extend(logged.try_copy().map(|copy| (altered, copy)));
            }
            Op::Alter { .. } | Op::FullRefresh => {
                if sessions.iter().any(|s| s.open) {
                    continue;
                }
                if sessions[*who].play(op, sort, version) && !sql(op, sort, version).is_empty() {
                    altered += 1;
                    logged.ensure();
                    copies.push((altered, logged.copy()));
                }
            }
            op => {
                sessions[*who].play(op, sort, version);
            }
        }
    }
    for session in &mut sessions {
        if session.open {
            session.client.batch_execute("COMMIT").unwrap();
        }
    }
    logged.ensure();
    for n in order {
        let (then, copy) = &copies[n % copies.len()];
        let why = logged.known().out_of_reach(&copy.position);
        if then < &altered {
            prop_assert!(why.is_some(), "a table that was altered since went back");
            continue;
        }
        // Only an emptying that did not see everything keeps it from going back.
        if let Some(why) = why {
            prop_assert!(why.contains("could not see all of its rows"), "{}", why);
            continue;
        }
        let done = logged.back(&copy.position, Scope::default());
        prop_assert!(done.is_ok(), "{:?}", done);
        let now = logged.copy();
        prop_assert_eq!(&now.rows, &copy.rows);
        prop_assert_eq!(&now.position, &copy.position);
    }
    Ok(())
}

fn histories(cases: u32) {
    let Some(server) = server() else { return };
    let sort = prop_oneof![
        Just(Sort::Keyed),
        Just(Sort::Plain),
        Just(Sort::Keyless),
        Just(Sort::Partitioned)
    ];
    let any_op = any::<prop::sample::Index>().prop_map(|n| n.index(5) == 0);
    let ops = any_op.prop_flat_map(|ddl| prop::collection::vec((0..3_usize, op(ddl)), 10..50));
    let order = prop::collection::vec(0..100_usize, 5);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&(sort, ops, order), |(sort, ops, order)| {
            history(&server, sort, &ops, &order)
        })
        .unwrap();
}

#[test]
fn a_table_goes_back_to_any_moment() {
    histories(20);
}

/// The long form.
#[test]
#[ignore = "minutes long"]
fn a_table_goes_back_to_any_moment_of_five_hundred_histories() {
    histories(500);
}
