//! What was seen of production last, and for how long it stands for what production is.
//!
//! A look costs a request for each table. An operation asks several times what is there: to see what
//! others wrote, to plan, to tell that nobody wrote since, to guard its first step, to record what
//! came of it, to prove it. It looks once before it changes anything and once at what it changed.
//! That is safe because nothing is changed on the strength of a look alone: a commit names the
//! table, the snapshot, the schema, the spec and the sort order that it was planned from, and the
//! catalog refuses it where one of them is another by now.

use super::look::{self, Scope, Seen};
use super::meanwhile::Expected;
use super::name;
use super::rest::{Client, Commit, Identifier, LoadTable, Snapshots};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unship_core::engine::{EngineError, ErrorKind, Observation, OnProgress};
use unship_core::ident::RelationName;

/// For how long a look stands for what is, from its end: about as long as planning takes for a
/// thousand tables, and no longer than somebody takes to read a plan.
const FRESH: Duration = Duration::from_secs(10);

/// The last look at production, as far as it may still be gone by.
#[derive(Debug, Default)]
pub struct Sight {
    look: Option<Look>,
    /// What the properties of tables that unship changed are to be.
    expected: BTreeMap<RelationName, Expected>,
    /// What a person should know of what was found.
    notes: Vec<String>,
}

/// One look, with what was looked at again since.
#[derive(Debug)]
pub struct Look {
    at: Instant,
    /// What is there.
    pub seen: Seen,
    /// The same, as the ledger remembers it.
    pub states: Observation,
    mark: String,
    /// What unship changed since, and did not look at yet.
    touched: BTreeSet<RelationName>,
    /// Whether its mark was asked for.
    called: bool,
    /// Whether it was recorded as what production is before it was called anything.
    recorded: bool,
}

impl Look {
    fn new(seen: Seen) -> Result<Self, EngineError> {
        let states = seen.states()?;
        Ok(Self {
            at: Instant::now(),
            mark: mark(&states)?,
            seen,
            states,
            touched: BTreeSet::new(),
            called: false,
            recorded: false,
        })
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }

    /// Looks at some of it again.
    fn again(
        &mut self,
        client: &Client,
        scope: &Scope<'_>,
        names: &BTreeSet<RelationName>,
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        if names.is_empty() {
            return Ok(());
        }
        let ids = names.iter().filter_map(name::identifier);
        let ids: Vec<_> = ids.filter(|id| scope.has(&id.namespace)).collect();
        let found = look::some(client, scope.catalog, &ids, Snapshots::Refs, on)?;
        self.renew(names, found)
    }

    /// Puts what was found of these relations in the place of what was known of them.
    fn renew(
        &mut self,
        names: &BTreeSet<RelationName>,
        mut found: Seen,
    ) -> Result<(), EngineError> {
        for name in names {
            self.seen.tables.remove(name);
            self.seen.views.remove(name);
            self.touched.remove(name);
        }
        self.seen.tables.append(&mut found.tables);
        self.seen.views.append(&mut found.views);
        for name in names {
            match self.seen.state(name)? {
                Some(state) => self.states.insert(name.clone(), state),
                None => self.states.remove(name),
            };
        }
        self.mark = mark(&self.states)?;
        self.called = false;
        self.recorded = false;
        Ok(())
    }
}

/// Names all that can be brought back, and nothing that unship adds itself.
fn mark(states: &Observation) -> Result<String, EngineError> {
    let mut hasher = blake3::Hasher::new();
    serde_json::to_writer(&mut hasher, states).map_err(|e| {
        EngineError::new(ErrorKind::Io, "what was seen cannot be written").because(e)
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

impl Sight {
    /// What is there: by the last look, if it may still be gone by, or a new one.
    pub fn look(
        &mut self,
        client: &Client,
        scope: &Scope<'_>,
        on: OnProgress<'_>,
    ) -> Result<&mut Look, EngineError> {
        let mut last = self.look.take().filter(Look::is_fresh);
        if let Some(look) = &mut last {
            let touched = look.touched.clone();
            look.again(client, scope, &touched, on)?;
        }
        let look = match last {
            Some(look) => look,
            None => Look::new(look::everything(client, scope, on)?)?,
        };
        self.compare(&look);
        Ok(self.look.insert(look))
    }

    /// The mark of what was recorded, if that has not been asked for yet: however long ago it was
    /// seen, for the ledger must not take for known what others wrote in between.
    pub fn recorded(&mut self) -> Option<String> {
        let look = self.look.as_mut()?;
        let recorded = mem::take(&mut look.recorded) && look.touched.is_empty();
        recorded.then(|| look.call())
    }

    /// What is known without another look, if it is all of production.
    pub fn known(&self) -> Option<&Seen> {
        let look = self.look.as_ref()?;
        (look.is_fresh() && look.touched.is_empty()).then_some(&look.seen)
    }

    /// Looks at what unship changed of these.
    pub fn settle(
        &mut self,
        client: &Client,
        scope: &Scope<'_>,
        ids: &[Identifier],
    ) -> Result<(), EngineError> {
        let Some(look) = self.look.as_mut().filter(|look| look.is_fresh()) else {
            return Ok(());
        };
        let names = ids.iter().map(|id| name::relation(scope.catalog, id));
        let touched = names.filter(|name| look.touched.contains(name)).collect();
        look.again(client, scope, &touched, &|_, _, _| ())
    }

    /// Compares what unship changed with what was found, once it was looked at.
    fn compare(&mut self, look: &Look) {
        for (name, expected) in mem::take(&mut self.expected) {
            let found = look.seen.tables.get(&name);
            let told = found.map(|table| expected.told(&name, table));
            self.notes.extend(told.into_iter().flatten());
        }
    }

    /// Remembers what a commit is to make of properties, by the last look at its tables, however
    /// long ago that was: what it was planned from is no older.
    pub fn expect(&mut self, catalog: &str, commits: &[Commit]) {
        let Some(look) = &self.look else { return };
        for commit in commits {
            let name = name::relation(catalog, &commit.identifier);
            if let Some(before) = look.seen.tables.get(&name) {
                // What unship committed since is nobody else's.
                let own = look.touched.contains(&name);
                let expected = Expected::of(before, commit, !own);
                self.expected.insert(name, expected);
            }
        }
    }

    /// What a person should know of what was found.
    pub fn notes(&mut self) -> Vec<String> {
        mem::take(&mut self.notes)
    }

    /// What is known without another look of the table of this name: `Some(None)`, it is not there.
    pub fn table(&self, scope: &Scope<'_>, id: &Identifier) -> Option<Option<Arc<LoadTable>>> {
        let look = self.look.as_ref().filter(|look| look.is_fresh())?;
        let name = name::relation(scope.catalog, id);
        let known = scope.has(&id.namespace) && !look.touched.contains(&name);
        known.then(|| look.seen.tables.get(&name).cloned())
    }

    /// Unship itself changed these.
    pub fn touch(&mut self, relations: &[RelationName]) {
        if let Some(look) = &mut self.look {
            look.touched.extend(relations.iter().cloned());
        }
    }

    /// Whatever was seen need not be so any more.
    pub fn forget(&mut self) {
        self.expected.clear();
        self.look = None;
    }
}

impl Look {
    /// What goes into the ledger.
    pub fn record(&mut self) -> Observation {
        self.recorded = !self.called;
        self.states.clone()
    }

    /// What it is called.
    pub fn call(&mut self) -> String {
        self.called = true;
        self.mark.clone()
    }
}
