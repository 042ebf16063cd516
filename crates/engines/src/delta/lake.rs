//! Where tables lie: directories below a root that hold a log, whose path is their name.

use super::dir::Dir;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::{RelationName, ReleaseId};

/// The directory of a table's log.
pub const LOG: &str = "_delta_log";

/// What the names begin with of everything that unship sets aside.
const OWN: &str = "unship_r";

/// Where production is.
#[derive(Debug, Clone)]
pub struct Lake {
    /// The directory that holds the namespaces.
    pub root: Dir,
    /// The catalog's name in relations.
    pub catalog: String,
    /// The namespaces that are looked at, with those below them; all, if it is empty.
    pub namespaces: BTreeSet<Vec<String>>,
}

fn unreadable(path: &Path, error: io::Error) -> EngineError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ => ErrorKind::Io,
    };
    EngineError::new(kind, format!("cannot look into {}", path.display())).because(error)
}

impl Lake {
    /// Where a directory below the root is.
    pub fn dir(&self, path: &str) -> Dir {
        self.root.join(path)
    }

    /// A table's directory below the root; `None` if no table can have this name.
    pub fn path(&self, name: &RelationName) -> Option<String> {
        let mut parts = crate::iceberg::namespace(&name.schema)?;
        parts.push(name.name.clone());
        let plain = |part: &String| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\0'])
        };
        (name.database == self.catalog && parts.iter().all(plain)).then(|| parts.join("/"))
    }

    /// Where a table of this directory was set aside, whatever lies there now. In an object store it
    /// stays where it is: there is no renaming.
    pub fn places(&self, path: &str) -> Result<Vec<String>, EngineError> {
        let (before, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Dir::Disk(dir) = self.dir(before) else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(unreadable(&dir, e)),
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(&dir, e))?.file_name();
            let place = entry
                .to_str()
                .filter(|place| set_aside(place) == Some(name));
            out.extend(place.map(|place| match before {
                "" => place.to_owned(),
                before => format!("{before}/{place}"),
            }));
        }
        out.sort();
        Ok(out)
    }

    /// The table of a directory below the root; `None` if it lies in no namespace.
    fn relation(&self, parts: &[String]) -> Option<RelationName> {
        let (name, namespace) = parts.split_last()?;
        (!namespace.is_empty()).then(|| {
            let schema = crate::iceberg::schema(namespace);
            RelationName::new(self.catalog.clone(), schema, name.clone())
        })
    }

    /// Every table of production, with its directory below the root. What lies inside of a table is
    /// its own, and links to directories are not followed.
    pub fn tables(&self) -> Result<BTreeMap<RelationName, String>, EngineError> {
        let starts: Vec<Vec<String>> = match self.namespaces.is_empty() {
            true => vec![Vec::new()],
            false => self.namespaces.iter().cloned().collect(),
        };
        let found = match &self.root {
            Dir::Disk(root) => on_disk(root, starts)?,
            Dir::Store(root) => root.tables(starts, |name| is_hidden(name) || is_own(name))?,
        };
        let mut out = BTreeMap::new();
        for parts in found {
            let path = parts.join("/");
            let name = self.relation(&parts).ok_or_else(|| {
                let dir = self.dir(&path);
                let text = format!("the table {dir} lies in no namespace");
                EngineError::new(ErrorKind::Unsupported, text)
                    .hint("set `root` so that one directory comes between it and every table")
            })?;
            out.insert(name, path);
        }
        Ok(out)
    }
}

/// The directories of this machine that hold a log, in these ones and below.
fn on_disk(root: &Path, starts: Vec<Vec<String>>) -> Result<Vec<Vec<String>>, EngineError> {
    let (mut open, mut out) = (starts, Vec::new());
    if !root.is_dir() {
        let text = format!("there is no directory {}", root.display());
        return Err(EngineError::new(ErrorKind::Missing, text)
            .hint("check `root` in unship.toml, and whether what it lies on is mounted"));
    }
    while let Some(parts) = open.pop() {
        let dir = root.join(parts.join("/"));
        if dir.join(LOG).is_dir() {
            out.push(parts);
            continue;
        }
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // A namespace may come later, and a directory may go meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(unreadable(&dir, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(&dir, e))?;
            let kind = entry.file_type().map_err(|e| unreadable(&dir, e))?;
            let name = entry.file_name();
            if !kind.is_dir() {
                continue;
            }
            match name.to_str() {
                Some(name) if is_hidden(name) || is_own(name) => {}
                Some(name) => {
                    let mut below = parts.clone();
                    below.push(name.to_owned());
                    open.push(below);
                }
                None => {
                    let text = format!("{} is no text", entry.path().display());
                    return Err(EngineError::new(ErrorKind::Unsupported, text)
                        .hint("name in `namespaces` what jobs build, without it"));
                }
            }
        }
    }
    Ok(out)
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

/// What the name was of that which unship set aside under this one.
fn set_aside(name: &str) -> Option<&str> {
    let (number, of) = name.strip_prefix(OWN)?.split_once('_')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (digits && !of.is_empty()).then_some(of)
}

/// Whether unship set aside what has this name.
fn is_own(name: &str) -> bool {
    set_aside(name).is_some()
}

/// Where a table is set aside that was part of a release: beside itself, so that no file is copied.
pub fn aside(release: ReleaseId, path: &str) -> String {
    let (before, name) = path.rsplit_once('/').unwrap_or(("", path));
    let own = format!("{OWN}{}_{name}", release.0);
    match before {
        "" => own,
        before => format!("{before}/{own}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lake(root: &Path, namespaces: &[&str]) -> Lake {
        let parts = namespaces.iter().map(|n| vec![(*n).to_owned()]);
        Lake {
            root: Dir::Disk(root.to_owned()),
            catalog: "lake".to_owned(),
            namespaces: parts.collect(),
        }
    }

    #[test]
    fn tables_are_found_by_their_logs_and_named_by_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        for table in [
            "sales/orders",
            "sales/eu.west/orders",
            "raw/events",
            "sales/orders/p=1/odd",
            "sales/unship_r3_gone",
            "sales/.trash/old",
        ] {
            fs::create_dir_all(dir.path().join(table).join(LOG)).unwrap();
        }
        fs::create_dir_all(dir.path().join("sales/empty")).unwrap();
        let all = lake(dir.path(), &[]);
        assert_eq!(all.places("sales/gone").unwrap(), ["sales/unship_r3_gone"]);
        assert!(all.places("nowhere/gone").unwrap().is_empty());
        let found = all.tables().unwrap();
        let names: Vec<_> = found.keys().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "lake.raw.events",
                "lake.sales.orders",
                "lake.\"sales.\"\"eu.west\"\"\".orders"
            ]
        );
        for (name, path) in &found {
            assert_eq!(all.path(name).as_ref(), Some(path));
        }
        let some = lake(dir.path(), &["raw", "later"]);
        assert_eq!(some.tables().unwrap().len(), 1);
        let none = lake(&dir.path().join("nowhere"), &[]).tables().unwrap_err();
        assert_eq!(none.kind, ErrorKind::Missing);
    }

    #[test]
    fn a_table_without_a_namespace_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("orders").join(LOG)).unwrap();
        let error = lake(dir.path(), &[]).tables().unwrap_err();
        assert!(error.message.ends_with("orders lies in no namespace"));
    }

    #[test]
    fn no_name_leads_out_of_the_root() {
        let lake = lake(Path::new("/lake"), &[]);
        let path = |schema: &str, name: &str| lake.path(&RelationName::new("lake", schema, name));
        assert_eq!(path("a.b", "c").as_deref(), Some("a/b/c"));
        for (schema, name) in [("\"..\"", "c"), ("a", ".."), ("\"a/b\"", "c"), ("a", "")] {
            assert_eq!(path(schema, name), None, "{schema} {name}");
        }
        assert_eq!(lake.path(&RelationName::new("other", "a", "c")), None);
    }

    #[test]
    fn what_is_set_aside_lies_beside_and_is_told_by_its_name() {
        let path = aside(ReleaseId(12), "sales/eu/orders");
        assert_eq!(path, "sales/eu/unship_r12_orders");
        assert!(is_own("unship_r12_orders"));
        for other in [
            "orders",
            "unship_r_x",
            "unship_rx_x",
            "unship_r12_",
            "unship_r12",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
