//! A program that plays Spark on the catalog in memory: it carries out what brings others' rows over,
//! and nothing else, well or badly.

use super::catalog::{Catalog, Id, read};
use super::server::Server;
use super::suite::Lake;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use unship_core::testing::{Row, Table};
use unship_engines::iceberg::Sql;

/// How it carries statements out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    Well,
    /// Each row comes twice.
    TooMany,
    /// One row does not come.
    TooFew,
    /// It ends after the first commit.
    DiesHalfWay,
    /// It says that it is done, and did nothing.
    Nothing,
    /// It commits once more.
    OnceMore,
    /// Its branch is gone afterwards.
    LosesItsBranch,
    /// Others append this row to production while it works.
    OthersAppend(i64),
}

/// What is shared with the one that plays.
#[derive(Debug)]
pub struct Stage {
    pub play: Play,
    /// What it was told, each time.
    pub told: Vec<String>,
}

/// A session that is there as long as the test.
#[derive(Debug, Clone)]
pub struct Spark(Arc<Mutex<Stage>>);

/// It passes on what it reads, and waits for what became of it.
const PROGRAM: &str = "cat > asked.new && mv asked.new asked; while [ ! -e answer ]; do sleep 0.01; \
                       done; code=$(cat answer); rm answer; [ $code = 0 ] || echo the session died >&2; \
                       exit $code";

impl Spark {
    /// Configures it in a lake.
    pub fn of(lake: &mut Lake) -> Self {
        let at = lake.home.path().join("spark");
        fs::create_dir(&at).unwrap();
        lake.sql = Some(Sql {
            command: ["sh", "-c", PROGRAM].map(str::to_owned).to_vec(),
            directory: at.clone(),
        });
        let play = Play::Well;
        let told = Vec::new();
        let spark = Self(Arc::new(Mutex::new(Stage { play, told })));
        let (server, stage) = (lake.server.clone(), spark.clone());
        // It ends with the test.
        thread::spawn(move || listen(&at, &server, &stage));
        spark
    }

    pub fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap()
    }

    /// How it plays from now on.
    pub fn plays(&self, play: Play) {
        self.stage().play = play;
    }
}

fn listen(at: &Path, server: &Server, spark: &Spark) {
    let file = |name: &str| -> PathBuf { at.join(name) };
    while at.is_dir() {
        let Ok(text) = fs::read_to_string(file("asked")) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        fs::remove_file(file("asked")).unwrap();
        spark.stage().told.push(text.clone());
        let play = spark.stage().play;
        let code = carry_out(&mut server.state().catalog, play, &text);
        fs::write(file("answer.new"), code.to_string()).unwrap();
        fs::rename(file("answer.new"), file("answer")).unwrap();
    }
}

/// What stands between the next two of these marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

fn rows(catalog: &Catalog, id: &Id, snapshot: i64) -> Vec<Row> {
    read(catalog.table(id).unwrap(), Some(snapshot)).rows
}

/// The rows of one snapshot that are not in another.
fn added(catalog: &Catalog, id: &Id, from: i64, to: i64) -> Vec<Row> {
    let mut rest = rows(catalog, id, to);
    for row in rows(catalog, id, from) {
        let at = rest.iter().position(|r| *r == row).unwrap();
        rest.remove(at);
    }
    rest
}

fn carry_out(catalog: &mut Catalog, play: Play, text: &str) -> i32 {
    let mut views = BTreeMap::new();
    let (mut last, mut commits) = (None, 0);
    if play == Play::Nothing {
        return 0;
    }
    for statement in text.split(";\n").filter(|s| !s.is_empty()) {
        if statement.starts_with("CALL `lake`.system.create_changelog_view(") {
            let number = |key: &str| -> i64 {
                let key = format!("'{key}', '");
                between(statement, &key, "'").unwrap().parse().unwrap()
            };
            let view = between(statement, "changelog_view => '", "'").unwrap();
            let ends = (number("start-snapshot-id"), number("end-snapshot-id"));
            views.insert(view.to_owned(), ends);
            continue;
        }
        if statement.starts_with("REFRESH TABLE `lake`.`s`.`") {
            continue;
        }
        let into = between(
            statement,
            "INSERT INTO `lake`.`s`.`",
            "` SELECT `id`, `value` FROM ",
        );
        let (table, branch) = into.unwrap().split_once("`.`branch_").unwrap();
        let id = (vec!["s".to_owned()], table.to_owned());
        let source = statement.split_once(" FROM ").unwrap().1;
        let mut new = match between(source, "`", "` WHERE _change_type = 'INSERT'") {
            Some(view) => {
                let (from, to) = views[view];
                added(catalog, &id, from, to)
            }
            None => {
                let commits = between(source, "snapshot_id IN (", ")").unwrap();
                let mut new = Vec::new();
                for commit in commits.split(", ").map(|id| id.parse::<i64>().unwrap()) {
                    let parent = catalog.parent(&id, commit);
                    new.extend(added(catalog, &id, parent, commit));
                }
                new
            }
        };
        match play {
            Play::TooMany => new.extend(new.clone()),
            Play::TooFew => drop(new.pop()),
            Play::DiesHalfWay if commits > 0 => return 1,
            _ => {}
        }
        let head = catalog.table(&id).unwrap()["refs"][branch]["snapshot-id"].as_i64();
        let mut all = rows(catalog, &id, head.expect("a branch to write to"));
        all.extend(new);
        let columns = read(catalog.table(&id).unwrap(), None).columns;
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let all = Table::new(&columns, all);
        catalog.write_on(&id, branch, "append", &all);
        commits += 1;
        last = Some((id, branch.to_owned(), all));
    }
    let Some((id, branch, mut all)) = last else {
        return 0;
    };
    match play {
        Play::DiesHalfWay => return 1,
        Play::OnceMore => catalog.write_on(&id, &branch, "append", &all),
        Play::LosesItsBranch => catalog.edit(&id, |m| {
            m["refs"].as_object_mut().unwrap().remove(&branch);
        }),
        Play::OthersAppend(number) => {
            all = read(catalog.table(&id).unwrap(), None);
            all.rows.push(vec![number, number]);
            catalog.write(&id, "append", &all);
        }
        _ => {}
    }
    0
}
