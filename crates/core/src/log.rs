//! The ledger as the rest of unship uses it: typed events in, views out.

use crate::event::Event;
use crate::execute::{RecordError, Recorder};
use crate::fault::boundary;
use crate::history::{self, History, Pair, Shelf, ShelfError, ShelfMut};
use crate::ledger::{
    Backend, Draft, Entry, Fence, Hash, Head, LedgerError, Seal, Sealed, Store, View,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// A ledger, in one environment, written to by one person or program.
pub struct Ledger {
    store: Store,
    env: String,
    actor: String,
    fence: Option<Fence>,
}

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The ledger itself.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Its views.
    #[error(transparent)]
    Views(#[from] ShelfError),
    /// An event that this version cannot read.
    #[error("entry {seq} of the ledger cannot be read here")]
    Unreadable {
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Ledger {
    /// The views that a store must have been opened with.
    pub fn views() -> Vec<Box<dyn View>> {
        vec![Box::new(HistoryView)]
    }

    /// Uses an opened store.
    pub fn new(store: impl Into<Store>, env: impl Into<String>, actor: impl Into<String>) -> Self {
        Self {
            store: store.into(),
            env: env.into(),
            actor: actor.into(),
            fence: None,
        }
    }

    /// In whose name entries are written.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The environment.
    pub fn env(&self) -> &str {
        &self.env
    }

    /// The store under it, for leases, proofs and repairs.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// From now on, appends are refused once the lease is lost.
    pub fn fenced(&mut self, fence: Fence) {
        self.fence = Some(fence);
    }

    /// Appends events, all or none, durably, and says where the last one stands.
    pub fn append(&mut self, events: &[Event]) -> Result<u64, LogError> {
        self.append_with(Backend::append, events)
    }

    /// Appends events that need not be durable before the next that is: see
    /// [`Backend::append_soon`].
    pub fn append_soon(&mut self, events: &[Event]) -> Result<u64, LogError> {
        self.append_with(Backend::append_soon, events)
    }

    fn append_with(&mut self, append: Append, events: &[Event]) -> Result<u64, LogError> {
        let drafts = self.drafts(events)?;
        boundary("before the ledger");
        loop {
            let head = self.store.head()?;
            match append(&mut self.store, &head, &drafts, self.fence.as_ref()) {
                // Somebody else's entry came between, as an approval or another environment's may;
                // whoever must be alone holds the lease, and its fence is checked each time.
                Err(LedgerError::HeadMoved { .. }) => {}
                Ok(entries) => {
                    boundary(recorded(events));
                    return Ok(entries.last().map_or(head.seq, |e| e.seq));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drafts(&self, events: &[Event]) -> Result<Vec<Draft>, LogError> {
        let at = Timestamp::now();
        let draft = |event| {
            Ok(Draft {
                at,
                actor: self.actor.clone(),
                env: self.env.clone(),
                event: serde_json::to_value(event)
                    .map_err(|source| LogError::Unreadable { seq: 0, source })?,
            })
        };
        events.iter().map(draft).collect()
    }

    /// Asks the views.
    pub fn history<T>(
        &self,
        ask: impl FnOnce(&History<'_>) -> Result<T, ShelfError>,
    ) -> Result<T, LogError> {
        let mut answer = None;
        self.store.query(|conn| {
            answer = Some(ask(&History(&SqlShelf(conn))));
            Ok(())
        })?;
        let missing = || ShelfError::Damaged {
            what: "no answer".to_owned(),
        };
        Ok(answer.ok_or_else(missing)??)
    }

    /// The events from a place on, of every environment, with their entries.
    pub fn events_from(
        &self,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<(Entry, Option<Event>)>, LogError> {
        self.store
            .read(seq, limit)?
            .into_iter()
            .map(|entry| {
                let event = event_of(&entry).map_err(|source| LogError::Unreadable {
                    seq: entry.seq,
                    source,
                })?;
                Ok((entry, event))
            })
            .collect()
    }

    /// The events at these places, in this order. Places that follow each other are read at once.
    pub fn events_at(&self, places: &[u64]) -> Result<Vec<(Entry, Option<Event>)>, LogError> {
        let mut out = Vec::with_capacity(places.len());
        for run in places.chunk_by(|a, b| a + 1 == *b) {
            if let Some(first) = run.first() {
                out.extend(self.events_from(*first, run.len())?);
            }
        }
        Ok(out)
    }

    /// Keeps bytes.
    pub fn put_blob(&mut self, bytes: &[u8], kind: &str) -> Result<Hash, LogError> {
        let hash = self.store.put_blob(bytes, kind)?;
        boundary("blob kept");
        Ok(hash)
    }

    /// The bytes with this hash.
    pub fn get_blob(&self, hash: &Hash) -> Result<Vec<u8>, LogError> {
        Ok(self.store.get_blob(hash)?)
    }
}

/// [`Backend::append`] or [`Backend::append_soon`].
type Append = fn(&mut Store, &Head, &[Draft], Option<&Fence>) -> Result<Vec<Entry>, LedgerError>;

impl Recorder for Ledger {
    fn record(&mut self, event: Event) -> Result<(), RecordError> {
        let appended = match event {
            // Nothing follows from it but what is announced durably itself. If it is lost, the step
            // is in doubt, and looking at the world says again that it happened.
            Event::StepSucceeded(_) => self.append_soon(&[event]),
            _ => self.append(&[event]),
        };
        appended.map(drop).map_err(|e| RecordError(Box::new(e)))
    }

    fn seal(&mut self, events: Vec<Event>) -> Result<Option<Seal>, RecordError> {
        let drafts = self.drafts(&events).map_err(|e| RecordError(Box::new(e)))?;
        self.store
            .seal(&drafts, self.fence.as_ref())
            .map_err(|e| RecordError(Box::new(e)))
    }

    fn sealed(&mut self, seal: &Seal) -> Result<Sealed, RecordError> {
        self.store
            .sealed(seal)
            .map_err(|e| RecordError(Box::new(e)))
    }
}

/// What a trace of crash points calls an append.
fn recorded(events: &[Event]) -> &'static str {
    match events.first() {
        Some(Event::ReleaseOpened { .. }) => "release opened",
        Some(Event::DriftSeen { .. }) => "drift recorded",
        Some(Event::ReleaseSettled { .. }) => "release settled",
        Some(Event::PointTaken { .. }) => "point recorded",
        Some(Event::JobEnded { .. }) => "job recorded",
        Some(Event::Checked { .. }) => "checks recorded",
        Some(Event::PlanMade { .. }) => "plan recorded",
        Some(Event::StepStarted(_)) => "step started",
        Some(Event::StepSucceeded(_)) => "step recorded",
        Some(Event::StepFailed { .. }) => "failure recorded",
        Some(Event::UndoStarted(_)) => "undo started",
        Some(Event::UndoFinished(_)) => "undo recorded",
        Some(Event::ReleasePublished { .. }) => "release published",
        Some(Event::ReleaseAbandoned { .. }) => "release abandoned",
        Some(Event::HousekeepingDone { .. }) => "housekeeping recorded",
        Some(Event::StatementsCounted { .. }) => "statements counted",
        _ => "entry recorded",
    }
}

/// `None` for a type of event that only a newer unship knows.
fn event_of(entry: &Entry) -> Result<Option<Event>, serde_json::Error> {
    match serde_json::from_value(entry.event.clone()) {
        Ok(event) => Ok(Some(event)),
        Err(e) if e.to_string().starts_with("unknown variant") => Ok(None),
        Err(e) => Err(e),
    }
}

/// Keeps [`history::fold`] in the ledger's own file.
struct HistoryView;

impl View for HistoryView {
    fn name(&self) -> &'static str {
        "history"
    }

    fn version(&self) -> u32 {
        history::VERSION
    }

    fn tables(&self) -> &'static [&'static str] {
        &["history"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE history (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"
    }

    fn apply(&self, tx: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
        let refuse = |e: Box<dyn std::error::Error + Send + Sync>| {
            rusqlite::Error::ToSqlConversionFailure(e)
        };
        let Some(event) = event_of(entry).map_err(|e| refuse(Box::new(e)))? else {
            return Ok(());
        };
        history::fold(
            &mut SqlShelf(tx),
            entry.seq,
            entry.at,
            &entry.actor,
            &entry.env,
            &event,
        )
        .map_err(|e| refuse(Box::new(e)))
    }
}

struct SqlShelf<'a>(&'a Connection);

impl SqlShelf<'_> {
    fn pairs(&self, sql: &str, a: &[u8], b: &[u8], limit: usize) -> Result<Vec<Pair>, ShelfError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.0.prepare_cached(sql).map_err(store)?;
        let rows = statement
            .query_map(params![a, b, limit], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(store)?;
        rows.collect::<Result<_, _>>().map_err(store)
    }
}

fn store(error: rusqlite::Error) -> ShelfError {
    ShelfError::Store(Box::new(error))
}

/// The first key after all that begin with `prefix`. Tables are single bytes below 0xff, so that
/// there always is one.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![0xff]
}

impl Shelf for SqlShelf<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        self.0
            .prepare_cached("SELECT value FROM history WHERE key = ?1")
            .and_then(|mut s| s.query_row([key], |row| row.get(0)).optional())
            .map_err(store)
    }

    fn last_below(&self, prefix: &[u8], below: &[u8]) -> Result<Option<Pair>, ShelfError> {
        Ok(self.scan_back(prefix, below, 1)?.pop())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, ShelfError> {
        let sql =
            "SELECT key, value FROM history WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3";
        self.pairs(sql, from.max(prefix), &end_of(prefix), limit)
    }

    fn scan_back(
        &self,
        prefix: &[u8],
        below: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, ShelfError> {
        let sql = "SELECT key, value FROM history WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT ?3";
        let end = end_of(prefix);
        self.pairs(sql, prefix, below.min(&end), limit)
    }
}

impl ShelfMut for SqlShelf<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), ShelfError> {
        self.0
            .prepare_cached("INSERT INTO history (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .and_then(|mut s| s.execute(params![key, value]))
            .map_err(store)
            .map(drop)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), ShelfError> {
        self.0
            .prepare_cached("DELETE FROM history WHERE key = ?1")
            .and_then(|mut s| s.execute([key]))
            .map_err(store)
            .map(drop)
    }
}
