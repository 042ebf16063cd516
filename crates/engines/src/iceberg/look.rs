//! Looking at a catalog: many tables at once, as many as a catalog answers at the same time.

use super::name;
use super::rest::{
    Client, Doing, Endpoint, Identifier, LoadTable, LoadView, RestError, Snapshots, TableMetadata,
};
use super::state;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use unship_core::engine::{EngineError, ErrorKind, Observation, OnProgress};
use unship_core::ident::RelationName;
use unship_core::relation::RelationState;

/// How many requests are under way at once: what a catalog far away needs to be busy, and no
/// catalog takes for an attack.
pub const AT_ONCE: usize = 64;

/// Tables and views as they are now.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Tables, by name.
    pub tables: BTreeMap<RelationName, Arc<LoadTable>>,
    /// Views, by name.
    pub views: BTreeMap<RelationName, Arc<LoadView>>,
    /// The namespaces that were looked into, where all were.
    pub namespaces: Vec<Vec<String>>,
}

impl Seen {
    /// What the ledger remembers of each.
    pub fn states(&self) -> Result<Observation, EngineError> {
        let names = self.tables.keys().chain(self.views.keys());
        let states = names.filter_map(|name| Some((name.clone(), self.state(name).transpose()?)));
        states.map(|(name, state)| Ok((name, state?))).collect()
    }

    /// What the ledger remembers of one; `None` where it is not there.
    pub fn state(&self, name: &RelationName) -> Result<Option<RelationState>, EngineError> {
        match (self.tables.get(name), self.views.get(name)) {
            // A name that a table took from a view, or the other way round, while it was looked at.
            (_, Some(view)) => match state::of_view(&view.metadata) {
                Ok(state) => Ok(Some(state)),
                Err(error) => Err(broken(name, error)),
            },
            (Some(table), None) => table_state(name, table).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// What the ledger remembers of a table.
pub fn table_state(name: &RelationName, table: &LoadTable) -> Result<RelationState, EngineError> {
    state::of_table(&table.metadata).map_err(|e| broken(name, e))
}

fn broken(name: &RelationName, error: state::Broken) -> EngineError {
    EngineError::new(ErrorKind::Corrupt, format!("{name} cannot be read")).because(error)
}

/// Proves that a table's snapshot can be read, as far as that can be seen from here: its list of
/// manifests is there. What lies in object storage needs rights that only readers have.
///
/// # Errors
/// [`ErrorKind::Missing`] where it is not.
pub fn readable(what: &str, metadata: &TableMetadata) -> Result<(), EngineError> {
    match state::current(metadata) {
        Some(snapshot) => snapshot_readable(what, metadata, snapshot),
        None => Ok(()),
    }
}

/// The same, of one snapshot.
pub fn snapshot_readable(what: &str, metadata: &TableMetadata, id: i64) -> Result<(), EngineError> {
    let missing = |text: String| {
        EngineError::new(ErrorKind::Missing, text).hint(
            "somebody removed files or expired snapshots: look for jobs that clean up orphan files",
        )
    };
    let snapshot = metadata.snapshots.iter().find(|s| s.snapshot_id == id);
    let snapshot = snapshot.ok_or_else(|| missing(format!("{what} lost its snapshot {id}")))?;
    let list = snapshot.manifest_list.as_deref().and_then(local);
    match list.filter(|path| !path.is_file()) {
        Some(path) => Err(missing(format!(
            "{what} lost the files of its snapshot {id}: {} is not there",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// The path of what lies on this machine.
pub fn local(location: &str) -> Option<PathBuf> {
    let path = match location.split_once("://") {
        None => location.strip_prefix("file:").unwrap_or(location),
        Some(("file", path)) => path,
        Some(_) => return None,
    };
    let path = PathBuf::from(path);
    path.is_absolute().then_some(path)
}

/// Does one thing for each, several at once, and gives the answers in order. The first failure
/// stops it.
pub fn each<T: Sync, R: Send>(
    all: &[T],
    what: &str,
    on: OnProgress<'_>,
    one: impl Fn(&T) -> Result<R, RestError> + Sync,
) -> Result<Vec<R>, RestError> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let failed = Mutex::new(None);
    let answers = Mutex::new(Vec::with_capacity(all.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = all.get(at) else { return };
            match one(item) {
                Ok(answer) => {
                    let lock = answers.lock();
                    lock.unwrap_or_else(PoisonError::into_inner)
                        .push((at, answer));
                    let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
                    on(what, u64::try_from(so_far).unwrap_or(total), total);
                }
                Err(error) => {
                    // Nobody takes up another one.
                    next.store(all.len(), Ordering::Relaxed);
                    let lock = failed.lock();
                    lock.unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(all.len()) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, _)| *at);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Where production is.
pub struct Scope<'a> {
    /// The catalog's name in relations.
    pub catalog: &'a str,
    /// The namespaces that are looked at, with those below them; all, if it is empty.
    pub namespaces: &'a BTreeSet<Vec<String>>,
}

impl Scope<'_> {
    /// The names of what is there, level by level: what lies below a namespace and what lies in it
    /// is asked for at the same time.
    fn there(&self, client: &Client, on: OnProgress<'_>) -> Result<Names, RestError> {
        let mut level: Vec<_> = match self.namespaces.is_empty() {
            true => client.namespaces(None)?,
            false => self.namespaces.iter().cloned().collect(),
        };
        let mut all = BTreeSet::new();
        let mut names = Names::default();
        while !level.is_empty() {
            level.retain(|namespace| self.has(namespace) && all.insert(namespace.clone()));
            let questions: Vec<_> = level
                .iter()
                .flat_map(|namespace| [Ask::Below, Ask::Tables, Ask::Views].map(|a| (a, namespace)))
                .collect();
            let answers = each(&questions, "namespaces", on, |(ask, namespace)| {
                Ok(match ask {
                    Ask::Below => Listed::Below(client.below(namespace)?),
                    Ask::Tables => Listed::Tables(client.tables(namespace)?),
                    Ask::Views => Listed::Views(client.views(namespace)?),
                })
            })?;
            let mut below = Vec::new();
            for ((_, asked), answer) in questions.iter().zip(answers) {
                match answer {
                    Listed::Below(mut more) => below.append(&mut more),
                    Listed::Tables(mut more) => {
                        lie_in(&more, asked)?;
                        names.tables.append(&mut more);
                    }
                    Listed::Views(mut more) => {
                        lie_in(&more, asked)?;
                        names.views.append(&mut more);
                    }
                }
            }
            level = below;
        }
        names.namespaces = all.into_iter().collect();
        Ok(names)
    }

    /// Whether a namespace is one of these.
    pub fn has(&self, namespace: &[String]) -> bool {
        let below = |guarded: &Vec<String>| namespace.starts_with(guarded);
        !name::is_own(namespace)
            && (self.namespaces.is_empty() || self.namespaces.iter().any(below))
    }
}

/// A catalog that does not tell capitals from small letters finds a namespace under a name that is
/// not its own. What lies there would then be taken for what lies nowhere.
fn lie_in(all: &[Identifier], asked: &[String]) -> Result<(), RestError> {
    match all.iter().find(|id| id.namespace != asked) {
        None => Ok(()),
        Some(other) => Err(RestError::Nonsense(format!(
            "asked for what lies in {}, it gives what lies in {}: write `namespaces` in unship.toml \
             as the catalog does",
            name::schema(asked),
            name::schema(&other.namespace)
        ))),
    }
}

/// What is asked of a namespace.
enum Ask {
    Below,
    Tables,
    Views,
}

/// What it answers.
enum Listed {
    Below(Vec<Vec<String>>),
    Tables(Vec<Identifier>),
    Views(Vec<Identifier>),
}

/// The names of everything.
#[derive(Default)]
struct Names {
    namespaces: Vec<Vec<String>>,
    tables: Vec<Identifier>,
    views: Vec<Identifier>,
}

/// Everything in production.
pub fn everything(
    client: &Client,
    scope: &Scope<'_>,
    on: OnProgress<'_>,
) -> Result<Seen, EngineError> {
    let look = || -> Result<Seen, RestError> {
        let names = scope.there(client, on)?;
        let seen = load(
            client,
            scope.catalog,
            &names.tables,
            &names.views,
            Snapshots::Refs,
            on,
        )?;
        let namespaces = names.namespaces;
        Ok(Seen { namespaces, ..seen })
    };
    look().doing("look at the catalog")
}

/// These relations, as far as they are there.
pub fn some(
    client: &Client,
    catalog: &str,
    wanted: &[Identifier],
    snapshots: Snapshots,
    on: OnProgress<'_>,
) -> Result<Seen, EngineError> {
    let look = || {
        let mut seen = load(client, catalog, wanted, &[], snapshots, on)?;
        if client.offers(Endpoint::Views) {
            // What is a table is no view.
            let table = |id: &&Identifier| seen.tables.contains_key(&name::relation(catalog, id));
            let rest: Vec<_> = wanted.iter().filter(|id| !table(id)).cloned().collect();
            seen.views = load(client, catalog, &[], &rest, snapshots, on)?.views;
        }
        Ok(seen)
    };
    look().doing("look at the catalog")
}

fn load(
    client: &Client,
    catalog: &str,
    tables: &[Identifier],
    views: &[Identifier],
    snapshots: Snapshots,
    on: OnProgress<'_>,
) -> Result<Seen, RestError> {
    let mut seen = Seen::default();
    let loaded = each(tables, "tables", on, |id| match snapshots {
        Snapshots::Refs => light(client, id),
        Snapshots::All => client.table(id, snapshots),
    })?;
    for (id, table) in tables.iter().zip(loaded) {
        // One that was dropped since it was listed is not there.
        seen.tables
            .extend(table.map(|table| (name::relation(catalog, id), table)));
    }
    let loaded = each(views, "views", on, |id| client.view(id))?;
    for (id, view) in views.iter().zip(loaded) {
        seen.views
            .extend(view.map(|view| (name::relation(catalog, id), Arc::new(view))));
    }
    Ok(seen)
}

/// A table without its history, unless it takes that to tell compaction from a change of rows: then
/// with as much of it.
pub fn light(client: &Client, id: &Identifier) -> Result<Option<Arc<LoadTable>>, RestError> {
    let Some(table) = client.table(id, Snapshots::Refs)? else {
        return Ok(None);
    };
    if state::tells_content(&table.metadata) {
        return Ok(Some(table));
    }
    let whole = client.table(id, Snapshots::All)?;
    Ok(whole.map(|whole| {
        let mut whole = Arc::unwrap_or_clone(whole);
        state::forget_history(&mut whole.metadata);
        Arc::new(whole)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_and_a_failure_stops_it() {
        let all: Vec<u64> = (0..100).collect();
        let doubled = each(&all, "x", &|_, _, _| (), |n| Ok(n * 2)).unwrap();
        assert_eq!(doubled, all.iter().map(|n| n * 2).collect::<Vec<_>>());
        let failed = each(&all, "x", &|_, _, _| (), |n| match n {
            3 => Err(RestError::Missing("3".to_owned())),
            _ => Ok(()),
        });
        assert_eq!(failed.unwrap_err(), RestError::Missing("3".to_owned()));
        let none: [u64; 0] = [];
        let nothing = each(&none, "x", &|_, _, _| (), |n| Ok(*n)).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn what_unship_set_aside_is_no_production() {
        let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let guarded = BTreeSet::from([parts("sales")]);
        let scope = Scope {
            catalog: "lake",
            namespaces: &guarded,
        };
        assert!(scope.has(&parts("sales")) && scope.has(&parts("sales.eu")));
        assert!(!scope.has(&parts("raw")) && !scope.has(&parts("sales.unship_r3_eu")));
        let all = BTreeSet::new();
        let scope = Scope {
            catalog: "lake",
            namespaces: &all,
        };
        assert!(scope.has(&parts("raw")) && !scope.has(&parts("unship_r3_raw")));
    }
}
