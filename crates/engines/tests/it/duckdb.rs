//! DuckDB: real files, and a real DuckDB behind the worker.

use super::sql;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;
use unship_core::engine::{Build, Engine, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::testing::conformance::Make;
use unship_core::testing::world::Harness;
use unship_core::testing::{Contents, Table, Write};
use unship_engines::duckdb::layout::DbFile;
use unship_engines::duckdb::store::Store;
use unship_engines::duckdb::worker::{Open, Worker, find_python};
use unship_engines::duckdb::{DuckDb, Settings};

/// The interpreter whose DuckDB is used.
fn interpreter() -> PathBuf {
    std::env::var_os("UNSHIP_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// One or two files, and a DuckDB of its own that knows nothing of unship: a process, since locks
/// that this one holds would not keep itself out.
struct Files {
    dir: TempDir,
    files: Vec<DbFile>,
    stranger: Rc<RefCell<Worker>>,
}

impl Files {
    fn new(catalogs: &[&str], stranger: &Rc<RefCell<Worker>>) -> Self {
        let dir = TempDir::new().unwrap();
        let files = catalogs.iter().map(|catalog| DbFile {
            catalog: (*catalog).to_owned(),
            path: dir.path().join(format!("{catalog}.duckdb")),
        });
        let made = Self {
            files: files.collect(),
            stranger: Rc::clone(stranger),
            dir,
        };
        for file in &made.files {
            made.execute(&file.path, &["CREATE SCHEMA s".to_owned()])
                .unwrap();
        }
        made
    }

    fn file(&self, name: &RelationName) -> &DbFile {
        let file = self.files.iter().find(|f| f.catalog == name.database);
        file.unwrap()
    }

    /// Where somebody with this build writes to a relation.
    fn path(&self, build: Option<&Build>, name: &RelationName) -> PathBuf {
        let production = &self.file(name).path;
        let redirected = build.and_then(|b| b.files.iter().find(|(from, _)| from == production));
        redirected.map_or_else(|| production.clone(), |(_, to)| to.clone())
    }

    fn execute(&self, path: &Path, statements: &[String]) -> Result<(), String> {
        let mut stranger = self.stranger.borrow_mut();
        let written = stranger.open(&Open::writable(path)).and_then(|()| {
            statements
                .iter()
                .try_for_each(|sql| stranger.execute(sql, &[]))
        });
        // A file that nobody has open is the state that everything else starts from.
        let closed = stranger.close();
        written.and(closed).map_err(|e| e.to_string())
    }

    /// The file of a place, unpacked beside everything else where it is packed.
    fn at(&self, file: &DbFile, place: Place) -> Option<PathBuf> {
        let path = match place {
            Place::Live => file.path.clone(),
            Place::Build(release) => file.build(release),
            Place::Point(release) => file.point(release),
        };
        if path.exists() {
            return Some(path);
        }
        let Place::Point(release) = place else {
            return None;
        };
        let store = Store::open(&file.store()).ok()?;
        let unpacked = self.dir.path().join("unpacked").join(file.basename());
        fs::create_dir_all(unpacked.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&unpacked);
        store
            .restore(&release.to_string(), &file.label(), &unpacked, &|_| {})
            .ok()?;
        Some(unpacked)
    }

    fn read_file(&self, catalog: &str, path: &Path, into: &mut Contents) {
        let mut stranger = self.stranger.borrow_mut();
        stranger.open(&Open::read_only(path)).unwrap();
        let names = "SELECT table_schema, table_name FROM information_schema.tables";
        for row in stranger.texts(names, &[]).unwrap() {
            let [Some(schema), Some(name)] = <[_; 2]>::try_from(row).unwrap() else {
                panic!("a relation without a name");
            };
            let name = RelationName::new(catalog, schema, name);
            let select = format!("SELECT * FROM {}", sql::quoted(&name));
            let described = stranger.query(&select, &[], 0).unwrap();
            let columns: Vec<_> = described.columns.iter().map(|c| c.0.as_str()).collect();
            let text = "SELECT COLUMNS(*)::VARCHAR FROM (".to_owned() + &select + ")";
            let rows = stranger.texts(&text, &[]).unwrap();
            let rows = rows.into_iter().map(|row| {
                let cells = row.into_iter().map(|cell| cell.unwrap().parse().unwrap());
                cells.collect()
            });
            into.insert(name, Table::new(&columns, rows));
        }
        stranger.close().unwrap();
    }
}

impl Harness for Files {
    fn engine(&self) -> Box<dyn Engine> {
        Box::new(DuckDb::new(Settings {
            files: self.files.clone(),
            python: Some(interpreter()),
            freeze_writers: true,
            ..Settings::default()
        }))
    }

    fn relation(&self, database: usize, name: &str) -> RelationName {
        let file = self.files.get(database).unwrap_or(&self.files[0]);
        RelationName::new(&file.catalog, "s", name)
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        let path = self.path(Some(build), write.relation());
        self.execute(&path, &sql::statements(write))
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        let path = self.path(None, write.relation());
        self.execute(&path, &sql::statements(write))
    }

    fn make_view(
        &self,
        build: Option<&Build>,
        view: &RelationName,
        of: &RelationName,
    ) -> Result<(), String> {
        self.execute(&self.path(build, view), &[sql::view(view, of)])
    }

    fn lose_point(&self, release: ReleaseId) {
        for file in &self.files {
            fs::remove_file(file.point(release)).unwrap();
        }
    }

    fn read(&self, place: Place) -> Contents {
        let mut contents = Contents::new();
        for file in &self.files {
            if let Some(path) = self.at(file, place) {
                self.read_file(&file.catalog, &path, &mut contents);
            }
        }
        contents
    }
}

/// Somebody who knows nothing of unship.
fn stranger() -> Rc<RefCell<Worker>> {
    match find_python(None, Some(&interpreter())) {
        Ok(found) => Rc::new(RefCell::new(found.worker)),
        Err(error) => panic!("this test needs a Python with duckdb: {error}"),
    }
}

/// Ways to make warehouses of one file.
pub(super) fn one_file() -> impl Fn() -> Box<dyn Harness> {
    let stranger = stranger();
    move || Box::new(Files::new(&["shop"], &stranger))
}

/// Plays a case of the suite on one file, and on two that are released together.
fn play(case: &dyn Fn(Make<'_>)) {
    let stranger = stranger();
    for catalogs in [&["shop"][..], &["shop", "other"]] {
        println!("on {catalogs:?}");
        case(&|| Box::new(Files::new(catalogs, &stranger)));
    }
}

unship_core::conformance_tests!(play);
