//! A target as dbt resolves it, and the DuckDB databases behind it.

use super::connection::PostgresTarget;
use super::snowflake::SnowflakeTarget;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Where a dbt invocation builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbtTarget {
    /// The profile's name.
    pub profile: String,
    /// The target's name within the profile.
    pub target: String,
    /// The adapter's type, such as `duckdb`.
    pub adapter: String,
    /// The target's schema, before the project's macros have their say.
    pub schema: Option<String>,
    /// The target's database.
    pub database: Option<String>,
    /// The databases, where the adapter is dbt-duckdb.
    pub duckdb: Option<DuckDbTarget>,
    /// The connection, where the adapter is dbt-postgres.
    pub postgres: Option<PostgresTarget>,
    /// The connection, where the adapter is dbt-snowflake.
    pub snowflake: Option<SnowflakeTarget>,
}

/// The databases of a dbt-duckdb target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuckDbTarget {
    /// Where the main database is.
    pub location: Location,
    /// Its name in DuckDB's catalog, which is the beginning of its file name.
    pub database: String,
    /// Further databases, in the profile's order.
    pub attach: Vec<Attachment>,
    /// Where external models leave their files unless they say otherwise.
    pub external_root: PathBuf,
}

/// A further database of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Where it is.
    pub location: Location,
    /// Its name in DuckDB's catalog.
    pub database: String,
    /// Whether the job can write to it.
    pub read_only: bool,
}

/// Where a database is, as far as unship is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A DuckDB file; the path is absolute.
    File(PathBuf),
    /// Memory: gone when the job ends.
    Memory,
    /// MotherDuck's service.
    MotherDuck,
    /// A DuckLake: a catalog, and data files elsewhere.
    DuckLake,
    /// A server, an object store, or another system's database, by its kind.
    Other(String),
}

/// A database that unship cannot guard as a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unprotected {
    /// Nothing is left to protect.
    #[error(
        "the target's database is in memory and is gone when the job ends; \
         give the target a `path` to a file"
    )]
    Memory,
    /// Not a file here.
    #[error(
        "the target's database is on MotherDuck, and unship guards DuckDB files; \
         choose a target whose `path` is a file"
    )]
    MotherDuck,
    /// More than a file.
    #[error(
        "the target's database is a DuckLake, whose rows are not in the catalog's file; \
         choose a target whose `path` is a DuckDB file"
    )]
    DuckLake,
    /// Not a DuckDB file.
    #[error(
        "the target's database is {kind}, and unship guards DuckDB files; \
         choose a target whose `path` is a file on this machine"
    )]
    Other {
        /// What it is.
        kind: String,
    },
}

/// A database file that a job may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFile {
    /// The file's absolute path.
    pub path: PathBuf,
    /// Its name in DuckDB's catalog.
    pub database: String,
}

impl DuckDbTarget {
    /// The files that the job may write: the main database first, then the writable attached ones.
    ///
    /// # Errors
    /// When the main database is not a file.
    pub fn files(&self) -> Result<Vec<DatabaseFile>, Unprotected> {
        let main = match &self.location {
            Location::File(path) => DatabaseFile {
                path: path.clone(),
                database: self.database.clone(),
            },
            Location::Memory => return Err(Unprotected::Memory),
            Location::MotherDuck => return Err(Unprotected::MotherDuck),
            Location::DuckLake => return Err(Unprotected::DuckLake),
            Location::Other(kind) => return Err(Unprotected::Other { kind: kind.clone() }),
        };
        let attached = self.attach.iter().filter(|one| !one.read_only);
        Ok(std::iter::once(main)
            .chain(attached.filter_map(|one| match &one.location {
                Location::File(path) => Some(DatabaseFile {
                    path: path.clone(),
                    database: one.database.clone(),
                }),
                _ => None,
            }))
            .collect())
    }

    /// Attached databases that the job may write and that are not files: `init` and `doctor` name
    /// them as not protected.
    pub fn unprotected(&self) -> impl Iterator<Item = &Attachment> {
        self.attach
            .iter()
            .filter(|one| !one.read_only && !matches!(one.location, Location::File(_)))
    }

    /// Reads a rendered target.
    ///
    /// # Errors
    /// The key that dbt-duckdb would refuse, and what it should hold.
    pub(super) fn read(
        output: &Map<String, Value>,
        directory: &Path,
        home: Option<&Path>,
    ) -> Result<Self, (String, &'static str)> {
        let path = match output.get("path") {
            None => ":memory:",
            Some(Value::String(path)) => path,
            Some(_) => return Err(("path".to_owned(), "text")),
        };
        let location = if output.get("remote").is_some_and(|remote| !remote.is_null()) {
            Location::Other("a remote server".to_owned())
        } else if output.get("is_ducklake").and_then(Value::as_bool) == Some(true) {
            Location::DuckLake
        } else {
            locate(path, directory, home)
        };
        let attach = match output.get("attach") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(many)) => many
                .iter()
                .enumerate()
                .map(|(i, one)| attachment(i, one, directory, home))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(("attach".to_owned(), "a list of databases")),
        };
        let external_root = output.get("external_root").and_then(Value::as_str);
        Ok(Self {
            location,
            database: catalog_name(path),
            attach,
            external_root: directory.join(external_root.unwrap_or(".")),
        })
    }
}

fn attachment(
    i: usize,
    value: &Value,
    directory: &Path,
    home: Option<&Path>,
) -> Result<Attachment, (String, &'static str)> {
    let key = |name: &str| format!("attach[{i}].{name}");
    let Some(path) = value.get("path").and_then(Value::as_str) else {
        return Err((key("path"), "text"));
    };
    // An option stands in its own key or among the options, which DuckDB reads in any case.
    let option = |name: &str| {
        let among = || {
            let options = value.get("options")?.as_object()?;
            let mut entries = options.iter();
            entries
                .find(|(k, _)| k.eq_ignore_ascii_case(name))
                .map(|(_, v)| v)
        };
        value.get(name).filter(|v| !v.is_null()).or_else(among)
    };
    let read_only = match option("read_only") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(read_only)) => *read_only,
        Some(_) => return Err((key("read_only"), "true or false")),
    };
    let kind = match option("type") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) => Some(kind.to_lowercase()),
        Some(_) => return Err((key("type"), "text")),
    };
    let ducklake = value.get("is_ducklake").and_then(Value::as_bool) == Some(true);
    Ok(Attachment {
        location: match kind.as_deref() {
            _ if ducklake => Location::DuckLake,
            Some("ducklake") => Location::DuckLake,
            None | Some("duckdb") => locate(path, directory, home),
            Some(kind) => Location::Other(format!("a {kind} database")),
        },
        database: match value.get("alias").and_then(Value::as_str) {
            Some(alias) => alias.to_owned(),
            None => catalog_name(path),
        },
        read_only,
    })
}

/// What DuckDB makes of a path: relative ones start at the job's directory (not at the project:
/// dbt does not change directory), `~` is the home directory, a scheme is another system.
fn locate(path: &str, directory: &Path, home: Option<&Path>) -> Location {
    let scheme = path
        .split_once(':')
        .map(|(scheme, _)| scheme.to_ascii_lowercase())
        .filter(|scheme| {
            scheme.len() > 1
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_')
        });
    match scheme.as_deref() {
        // `file:w.db` without slashes is no file to DuckDB.
        Some("file") if path.get(5..7) == Some("//") => {
            let rest = path.get(7..).unwrap_or_default();
            let local = rest.strip_prefix("localhost").unwrap_or(rest);
            Location::File(directory.join(local))
        }
        Some("md" | "motherduck") => Location::MotherDuck,
        Some("ducklake") => Location::DuckLake,
        Some(scheme) => Location::Other(format!("at a `{scheme}:` address")),
        None if path == ":memory:" || path.starts_with(":memory:") || path.is_empty() => {
            Location::Memory
        }
        None => match (path.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => Location::File(home.join(rest)),
            _ => Location::File(directory.join(path)),
        },
    }
}

/// The name that DuckDB's catalog gives to a file: its name up to the first dot that is not at its
/// beginning.
pub(super) fn catalog_name(path: &str) -> String {
    if path == ":memory:" || path.is_empty() {
        return "memory".to_owned();
    }
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let file = path.rsplit('/').next().unwrap_or(path);
    let file = file.trim_start_matches('.');
    let stem = file.split('.').next().unwrap_or(file);
    match stem.rsplit_once(':') {
        Some((_, name)) => name.to_owned(),
        None => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(output: Value) -> Result<DuckDbTarget, (String, &'static str)> {
        let map = output.as_object().unwrap();
        DuckDbTarget::read(map, Path::new("/job"), Some(Path::new("/home/ana")))
    }

    #[test]
    fn paths_are_where_duckdb_looks_for_them() {
        let file = |path: &str| Location::File(path.into());
        for (path, location, database) in [
            ("data/w.duckdb", file("/job/data/w.duckdb"), "w"),
            ("/abs/my.db.duckdb", file("/abs/my.db.duckdb"), "my"),
            (
                "~/.hidden.duckdb",
                file("/home/ana/.hidden.duckdb"),
                "hidden",
            ),
            ("file:///abs/w.db", file("/abs/w.db"), "w"),
            (":memory:", Location::Memory, "memory"),
            ("md:prod?x=y", Location::MotherDuck, "prod"),
            ("MotherDuck:prod", Location::MotherDuck, "prod"),
            ("ducklake:meta.ducklake", Location::DuckLake, "meta"),
            (
                "file:w.db",
                Location::Other("at a `file:` address".into()),
                "w",
            ),
            (
                "s3://b/w.duckdb",
                Location::Other("at a `s3:` address".into()),
                "w",
            ),
        ] {
            let target = read(json!({"path": path})).unwrap();
            assert_eq!(target.location, location, "{path}");
            assert_eq!(target.database, database, "{path}");
        }
        assert_eq!(read(json!({})).unwrap().files(), Err(Unprotected::Memory));
        assert_eq!(
            read(json!({"path": "w.db", "is_ducklake": true}))
                .unwrap()
                .files(),
            Err(Unprotected::DuckLake)
        );
        let remote = read(json!({"path": "w.db", "remote": {"host": "h"}})).unwrap();
        assert!(
            remote
                .files()
                .unwrap_err()
                .to_string()
                .contains("a remote server")
        );
    }

    #[test]
    fn writable_files_are_guarded_and_the_rest_is_named() {
        let target = read(json!({"path": "w.db", "attach": [
            {"path": "a.db", "alias": "other"},
            {"path": "b.v1.db"},
            {"path": "r.db", "read_only": true},
            {"path": "r2.db", "options": {"READ_ONLY": true}},
            {"path": "crm.sqlite", "type": "SQLite"},
            {"path": "lake.db", "is_ducklake": true},
            {"path": "postgres:host=x", "alias": "pg", "read_only": true},
        ]}))
        .unwrap();
        let files: Vec<_> = target
            .files()
            .unwrap()
            .into_iter()
            .map(|f| (f.path, f.database))
            .collect();
        let file = |path: &str, name: &str| (PathBuf::from(path), name.to_owned());
        assert_eq!(
            files,
            [
                file("/job/w.db", "w"),
                file("/job/a.db", "other"),
                file("/job/b.v1.db", "b")
            ]
        );
        let unprotected: Vec<_> = target.unprotected().map(|a| a.database.as_str()).collect();
        assert_eq!(unprotected, ["crm", "lake"]);
    }

    #[test]
    fn what_dbt_refuses_is_refused() {
        for (output, key) in [
            (json!({"path": 3}), "path"),
            (
                json!({"path": "w.db", "attach": {"path": "a.db"}}),
                "attach",
            ),
            (
                json!({"path": "w.db", "attach": ["a.db"]}),
                "attach[0].path",
            ),
            (
                json!({"path": "w.db", "attach": [{"path": "a", "read_only": "yes"}]}),
                "attach[0].read_only",
            ),
        ] {
            assert_eq!(read(output).unwrap_err().0, key);
        }
    }
}
