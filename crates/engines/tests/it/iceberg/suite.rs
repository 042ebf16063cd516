//! The suite that every engine must pass, over a catalog in memory.

use super::catalog::{Catalog, Id, read};
use super::server::{Manner, Server};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tempfile::TempDir;
use unship_core::engine::{Build, Engine, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::testing::conformance::{Make, survives_crashes};
use unship_core::testing::world::Harness;
use unship_core::testing::{Contents, Table, Write};
use unship_engines::iceberg::kept::Store;
use unship_engines::iceberg::rest::{self, Login};
use unship_engines::iceberg::{Iceberg, Settings, Sql};

/// A catalog, and the directory where unship writes down what is retained.
pub struct Lake {
    pub server: Server,
    pub home: TempDir,
    pub login: Login,
    /// What exchanges rows.
    pub sql: Option<Sql>,
    /// How jobs write.
    jobs: Jobs,
}

/// How jobs write to a lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// To production itself.
    InPlace,
    /// The same, and a table that is replaced is dropped first.
    DropFirst,
    /// On branches; what a branch cannot have is made in a namespace of the release's own.
    OnBranches,
    /// All of it in such a namespace.
    MadeAside,
}

impl Lake {
    pub fn new(manner: Manner, jobs: Jobs) -> Self {
        let server = Server::start(manner);
        server.state().catalog.namespaces.insert(namespace());
        Self {
            server,
            home: TempDir::new().unwrap(),
            login: Login::None,
            sql: None,
            jobs,
        }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            rest: rest::Settings {
                uri: self.server.uri.clone(),
                warehouse: None,
                login: self.login.clone(),
            },
            catalog: "lake".to_owned(),
            namespaces: BTreeSet::new(),
            home: self.home.path().join("iceberg"),
            sql: self.sql.clone(),
        }
    }

    fn write(&self, write: &Write) -> Result<(), String> {
        let id = id(write.relation());
        let catalog = &mut self.server.state().catalog;
        match write {
            Write::Replace(_, table) => {
                if self.jobs == Jobs::DropFirst {
                    catalog.tables.remove(&id);
                }
                catalog.replace(&id, table);
            }
            Write::Insert(_, _) => {
                let now = catalog.table(&id).map(|m| read(m, None));
                let table = write.on(now.as_ref()).ok_or("no such table")?;
                catalog.write(&id, "append", &table);
            }
            Write::Drop(_) => catalog.drop_table(&id).map_err(|(.., said)| said)?,
        }
        Ok(())
    }
}

impl Lake {
    /// Writes where a build is.
    fn write_aside(&self, build: &Build, branch: &str, write: &Write) -> Result<(), String> {
        let at = id(write.relation());
        let own = build.env["UNSHIP_ICEBERG_NAMESPACE_PREFIX"].clone();
        let aside = (vec![format!("{own}{}", at.0[0])], at.1.clone());
        let catalog = &mut self.server.state().catalog;
        let made = catalog.table(&aside).map(|m| read(m, None));
        let built = catalog.table(&at).map(|m| {
            let head = m["refs"][branch]["snapshot-id"].as_i64();
            read(m, head)
        });
        let on_branch = self.jobs == Jobs::OnBranches && made.is_none();
        let now = made.or(built);
        let table = write.on(now.as_ref()).ok_or("a build drops nothing")?;
        match now {
            Some(now) if on_branch && now.columns == table.columns => {
                catalog.write_on(&at, branch, "overwrite", &table);
            }
            _ => catalog.replace(&aside, &table),
        }
        Ok(())
    }
}

fn namespace() -> Vec<String> {
    vec!["s".to_owned()]
}

pub fn id(name: &RelationName) -> Id {
    (vec![name.schema.clone()], name.name.clone())
}

pub fn name(of: &str) -> RelationName {
    RelationName::new("lake", "s", of)
}

/// What a view shows: the columns `id` and `value` of a table of its namespace.
fn shown(catalog: &Catalog, view: &Value) -> Option<Table> {
    let versions = view["versions"].as_array().unwrap();
    let version = versions
        .iter()
        .find(|v| v["version-id"] == view["current-version-id"]);
    let sql = version.unwrap()["representations"][0]["sql"]
        .as_str()
        .unwrap();
    let table = sql.strip_prefix("SELECT id, value FROM ").unwrap();
    catalog
        .table(&(namespace(), table.to_owned()))
        .map(|m| read(m, None))
}

/// What is retained of a relation.
fn retained(
    catalog: &Catalog,
    at: &RelationName,
    home: &Store,
    release: ReleaseId,
) -> Option<Table> {
    let kept = home.read(release).unwrap()?;
    let one = kept.relations.get(at)?;
    let aside = one
        .aside
        .as_ref()
        .map(|at| (at.namespace.clone(), at.name.clone()));
    if let Some(metadata) = aside.and_then(|at| catalog.table(&at)) {
        return Some(read(metadata, None));
    }
    let tagged = catalog
        .table(&id(at))
        .zip(one.tag.as_ref())
        .and_then(|(m, tag)| {
            let snapshot = m["refs"][tag]["snapshot-id"].as_i64()?;
            Some(read(m, Some(snapshot)))
        });
    tagged.or_else(|| Some(read(catalog.files.get(one.metadata.as_ref()?)?, None)))
}

impl Harness for Lake {
    fn engine(&self) -> Box<dyn Engine> {
        Box::new(Iceberg::new(self.settings()))
    }

    fn relation(&self, _database: usize, of: &str) -> RelationName {
        name(of)
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        match build.env.get("UNSHIP_ICEBERG_BRANCH") {
            Some(branch) => self.write_aside(build, branch, write),
            None => self.write(write),
        }
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        self.write(write)
    }

    fn make_view(
        &self,
        _build: Option<&Build>,
        view: &RelationName,
        of: &RelationName,
    ) -> Result<(), String> {
        let catalog = &mut self.server.state().catalog;
        let number = catalog.views.len() + 10;
        let body = json!({
            "schema": {"type": "struct", "fields": []},
            "view-version": {
                "version-id": number, "schema-id": 0, "timestamp-ms": 1, "summary": {},
                "default-namespace": ["s"],
                "representations": [{
                    "type": "sql", "dialect": "spark",
                    "sql": format!("SELECT id, value FROM {}", of.name),
                }],
            },
            "properties": {},
        });
        catalog.views.remove(&id(view));
        catalog
            .create_view(&id(view), &body)
            .map_err(|(.., said)| said)
    }

    fn lose_point(&self, release: ReleaseId) {
        Store::new(self.settings().home).remove(release).unwrap();
        let catalog = &mut self.server.state().catalog;
        let ids: Vec<_> = catalog.tables.keys().cloned().collect();
        for id in ids {
            catalog.edit(&id, |m| {
                let main = m["refs"]["main"].clone();
                let current = main["snapshot-id"].clone();
                m["refs"] = json!({"main": main});
                let all = m["snapshots"].as_array_mut().unwrap();
                all.retain(|s| s["snapshot-id"] == current);
            });
        }
    }

    fn read(&self, place: Place) -> Contents {
        let home = Store::new(self.settings().home);
        let catalog = &self.server.state().catalog;
        let mut out = Contents::new();
        match place {
            Place::Live => {
                let production = catalog.tables.keys().filter(|id| id.0 == namespace());
                for id in production {
                    out.insert(name(&id.1), read(catalog.table(id).unwrap(), None));
                }
                for (id, view) in &catalog.views {
                    let shown = shown(catalog, view).unwrap();
                    out.insert(name(&id.1), shown);
                }
            }
            Place::Point(release) => {
                let kept = home.read(release).unwrap().map(|kept| kept.relations);
                for at in kept.into_iter().flatten().map(|(name, _)| name) {
                    let table = retained(catalog, &at, &home, release);
                    out.extend(table.map(|table| (at, table)));
                }
            }
            Place::Build(_) => {}
        }
        out
    }

    fn whole(&self) -> bool {
        false
    }

    fn aside(&self) -> bool {
        matches!(self.jobs, Jobs::OnBranches | Jobs::MadeAside)
    }

    fn without(&self) -> &'static [(&'static str, &'static str)] {
        match self.aside() {
            true => &WITHOUT[IN_PLACE..],
            false => &WITHOUT[..WITHOUT.len() - 1],
        }
    }
}

/// How many of the cases are left out only where jobs work in place.
const IN_PLACE: usize = 2;

/// What a lake answers otherwise; the last only where jobs work aside.
const WITHOUT: &[(&str, &str)] = &[
    ("a failed job leaves production", "nothing is built aside"),
    (
        "only what was planned is published",
        "nothing is built aside",
    ),
    (
        "rows of an older version come back",
        "an engine that reads and writes files is needed for that",
    ),
    (
        "writers are frozen during a run",
        "nobody can keep writers of a lake out",
    ),
    (
        "what lies packed comes back",
        "what no tag keeps can be had until somebody expires it",
    ),
    ("versions are compared row by row", "no row is read"),
    ("relations are measured where they lie", "no row is read"),
    ("a query reads a place and writes nothing", "no row is read"),
    (
        "views show what is live",
        "a view that is made aside would go on reading what lies there",
    ),
];

/// Plays a case where jobs replace a table in place, where they drop it first, where each table is
/// committed by itself, where names come in pages behind a prefix, and where jobs build aside.
fn play(case: &dyn Fn(Make<'_>)) {
    let plain = Manner::default();
    let alone = Manner {
        lacks: vec!["transactions/commit"],
        ..Manner::default()
    };
    let pages = Manner {
        page: 1,
        prefix: "/a/b",
        lists: false,
        ..Manner::default()
    };
    for (what, manner, jobs) in [
        ("in place", &plain, Jobs::InPlace),
        ("dropped first", &plain, Jobs::DropFirst),
        ("one by one", &alone, Jobs::InPlace),
        ("in pages", &pages, Jobs::InPlace),
        ("on branches", &plain, Jobs::OnBranches),
        ("on branches, one by one", &alone, Jobs::OnBranches),
        ("made aside", &plain, Jobs::MadeAside),
    ] {
        println!("on a catalog: {what}");
        case(&|| Box::new(Lake::new(manner.clone(), jobs)));
    }
}

unship_core::conformance_tests!(play);

/// A session here is short: more crashes than elsewhere can be played each time.
#[test]
fn a_crash_at_many_boundaries_is_resumed() {
    for (jobs, every) in [(Jobs::DropFirst, 11), (Jobs::OnBranches, 13)] {
        survives_crashes(&|| Box::new(Lake::new(Manner::default(), jobs)), every);
    }
}
