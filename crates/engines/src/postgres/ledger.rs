//! The ledger in PostgreSQL: schema `unship` of the warehouse's own database, so that what a release
//! changes and what the log says of it commit together.
//!
//! Every statement is a transaction of its own or part of one, and no session state is relied on:
//! a proxy that pools transactions does no harm.

use super::connect::Connector;
use super::quote;
use jiff::Timestamp;
use postgres::error::SqlState;
use postgres::types::{FromSql, ToSql};
use postgres::{Client, Row, Transaction};
use std::cell::RefCell;
use std::time::Duration;
use unship_core::engine::EngineError;
use unship_core::ledger::entry::link;
use unship_core::ledger::lease::expiry;
use unship_core::ledger::packed::{Packed, check_size, pack, unpack};
use unship_core::ledger::{
    Backend, Draft, Entry, Fence, Hash, Head, Holder, Lease, LedgerError, Seal, StoredEntry,
};

/// The format that this program writes. A reader refuses a larger one.
const FORMAT: i32 = 1;

/// What a statement of a seal raises when the lease that it needs is no longer its own.
const FENCED: &str = "US001";

/// Made in one transaction. The triggers keep a slip of the hand from changing history; against
/// intent there is the chain.
const TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS unship;
COMMENT ON SCHEMA unship IS 'The log of unship: what was released here, and rolled back.';
CREATE TABLE unship.format (version integer NOT NULL);
CREATE TABLE unship.entries (
    seq bigint PRIMARY KEY CHECK (seq > 0),
    prev bytea NOT NULL,
    hash bytea NOT NULL,
    at text NOT NULL,
    actor text NOT NULL,
    env text NOT NULL,
    event text NOT NULL
);
CREATE FUNCTION unship.only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        RAISE EXCEPTION 'the log is never changed';
    END IF;
    IF NEW.seq > 1 AND NOT EXISTS (
        SELECT FROM unship.entries WHERE seq = NEW.seq - 1 AND hash = NEW.prev) THEN
        RAISE EXCEPTION 'the log only grows at its end' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER entries_only_grow BEFORE INSERT OR UPDATE OR DELETE ON unship.entries
    FOR EACH ROW EXECUTE FUNCTION unship.only_grows();
CREATE TRIGGER entries_are_not_removed BEFORE TRUNCATE ON unship.entries
    FOR EACH STATEMENT EXECUTE FUNCTION unship.only_grows();
CREATE TABLE unship.blobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    kind text NOT NULL,
    size bigint NOT NULL CHECK (size >= 0),
    base bigint REFERENCES unship.blobs (id),
    data bytea NOT NULL
);
ALTER TABLE unship.blobs ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX full_blobs ON unship.blobs (kind, id) WHERE base IS NULL;
CREATE TABLE unship.leases (
    env text PRIMARY KEY,
    number bigint NOT NULL,
    holder text,
    expires_at text NOT NULL
);
INSERT INTO unship.format VALUES (1);
";

/// A ledger in a PostgreSQL database.
pub struct PostgresLedger {
    connector: Connector,
    client: RefCell<Client>,
}

impl PostgresLedger {
    /// Makes the ledger, or opens the one that is there.
    ///
    /// # Errors
    /// [`LedgerError::Newer`], [`LedgerError::NotALedger`] for a schema of that name that is
    /// somebody else's, or what the server says.
    pub fn create(connector: Connector) -> Result<Self, LedgerError> {
        let ledger = Self::connect(connector)?;
        if ledger.format()?.is_none() {
            ledger.lay_out()?;
        }
        Ok(ledger)
    }

    /// Opens the ledger.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], or as for [`PostgresLedger::create`].
    pub fn open(connector: Connector) -> Result<Self, LedgerError> {
        let ledger = Self::connect(connector)?;
        match ledger.format()? {
            Some(()) => Ok(ledger),
            None => Err(LedgerError::NotFound {
                place: ledger.place(),
            }),
        }
    }

    fn connect(connector: Connector) -> Result<Self, LedgerError> {
        let client = connector.connect().map_err(|e| store(&connector, e))?;
        Ok(Self {
            client: RefCell::new(client),
            connector,
        })
    }

    fn place(&self) -> String {
        format!("schema unship of {}", self.connector.address())
    }

    /// Works with a connection: the one there is, or a new one where the server or the way to it
    /// was interrupted in between.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>,
    ) -> Result<T, LedgerError> {
        let mut client = self.client.borrow_mut();
        if client.is_closed() {
            *client = self
                .connector
                .connect()
                .map_err(|e| store(&self.connector, e))?;
        }
        work(&mut client).map_err(|e| self.error(e))
    }

    /// `None` if there is no ledger here.
    fn format(&self) -> Result<Option<()>, LedgerError> {
        let there = self.with(|client| {
            client.query_opt(
                "SELECT to_regclass('unship.format') IS NOT NULL,
                        to_regclass('unship.entries') IS NOT NULL",
                &[],
            )
        })?;
        let there = there.map(|row| Ok((self.cell(&row, 0)?, self.cell(&row, 1)?)));
        match there.transpose()? {
            Some((true, true)) => {}
            Some((false, false)) | None => return Ok(None),
            Some(_) => {
                return Err(LedgerError::NotALedger {
                    place: self.place(),
                });
            }
        }
        let row = self.with(|c| c.query_opt("SELECT version FROM unship.format", &[]))?;
        match row.map(|row| self.cell::<i32>(&row, 0)).transpose()? {
            Some(found) if found > FORMAT => Err(LedgerError::Newer {
                place: self.place(),
                found: found.into(),
                known: FORMAT.into(),
            }),
            Some(_) => Ok(Some(())),
            None => Err(self.damaged("its format is not to be found")),
        }
    }

    fn lay_out(&self) -> Result<(), LedgerError> {
        self.with(|client| {
            let mut tx = client.transaction()?;
            // Another process may be making it too.
            tx.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('unship.ledger', 0))",
                &[],
            )?;
            let made = tx.query_one("SELECT to_regclass('unship.format') IS NOT NULL", &[])?;
            if !made.try_get::<_, bool>(0)? {
                tx.batch_execute(TABLES)?;
            }
            tx.commit()
        })
    }

    fn damaged(&self, what: &str) -> LedgerError {
        LedgerError::Damaged {
            place: self.place(),
            what: what.to_owned(),
        }
    }

    fn error(&self, error: postgres::Error) -> LedgerError {
        let place = self.place();
        match error.code() {
            Some(&SqlState::DISK_FULL) => LedgerError::DiskFull { place },
            Some(&SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::READ_ONLY_SQL_TRANSACTION) => {
                let words = error.as_db_error().map(|db| db.message().to_owned());
                LedgerError::ReadOnly {
                    place,
                    why: words.unwrap_or_default(),
                }
            }
            Some(&SqlState::LOCK_NOT_AVAILABLE) => LedgerError::Busy { place, seconds: 15 },
            _ => store(
                &self.connector,
                super::error::engine_error(&error, "use the ledger"),
            ),
        }
    }

    fn find(&self, which: &str, value: &(dyn ToSql + Sync)) -> Result<Option<Packed>, LedgerError> {
        let sql = format!("SELECT id, hash, size, base, data FROM unship.blobs WHERE {which}");
        let Some(row) = self.with(|client| client.query_opt(&sql, &[value]))? else {
            return Ok(None);
        };
        Ok(Some(Packed {
            id: self.cell(&row, 0)?,
            hash: self.cell(&row, 1)?,
            size: self.cell::<i64>(&row, 2)?.unsigned_abs(),
            base: self.cell(&row, 3)?,
            data: self.cell(&row, 4)?,
        }))
    }

    /// A value of a row. What is of another type than unship made it, or missing where it never is,
    /// was altered by somebody.
    fn cell<'a, T: FromSql<'a>>(&self, row: &'a Row, column: usize) -> Result<T, LedgerError> {
        row.try_get(column)
            .map_err(|e| self.damaged(&unship_core::execute::chain(&e)))
    }

    fn head_of(&self, row: Option<&Row>) -> Result<Head, LedgerError> {
        let Some(row) = row else {
            return Ok(Head::genesis());
        };
        let hash: Vec<u8> = self.cell(row, 1)?;
        let hash = hash.try_into();
        match (u64::try_from(self.cell::<i64>(row, 0)?), hash) {
            (Ok(seq), Ok(hash)) => Ok(Head {
                seq,
                hash: Hash::from_bytes(hash),
            }),
            _ => Err(self.damaged("its last entry has no hash")),
        }
    }

    /// The lease from its row.
    fn lease_of(&self, env: &str, row: Option<&Row>) -> Result<Option<Lease>, LedgerError> {
        let Some(row) = row else { return Ok(None) };
        let number: i64 = self.cell(row, 0)?;
        let Some(holder) = self.cell::<Option<String>>(row, 1)? else {
            return Ok(None);
        };
        let expires_at: String = self.cell(row, 2)?;
        let unreadable = || self.damaged(&format!("the lease on `{env}` cannot be read"));
        Ok(Some(Lease {
            env: env.to_owned(),
            number: u64::try_from(number).map_err(|_| unreadable())?,
            holder: serde_json::from_str(&holder).map_err(|_| unreadable())?,
            expires_at: expires_at.parse().map_err(|_| unreadable())?,
        }))
    }
}

const LEASE: &str = "SELECT number, holder, expires_at FROM unship.leases WHERE env = $1";

fn store(connector: &Connector, error: EngineError) -> LedgerError {
    let place = format!("schema unship of {}", connector.address());
    LedgerError::Store {
        place,
        source: Box::new(error),
    }
}

const HEAD: &str = "SELECT seq, hash FROM unship.entries ORDER BY seq DESC LIMIT 1";

fn insert(tx: &mut Transaction<'_>, entries: &[StoredEntry]) -> Result<(), postgres::Error> {
    let statement = tx.prepare("INSERT INTO unship.entries VALUES ($1, $2, $3, $4, $5, $6, $7)")?;
    for entry in entries {
        tx.execute(
            &statement,
            &[
                &sql_int(entry.seq),
                &entry.prev,
                &entry.hash,
                &entry.at,
                &entry.actor,
                &entry.env,
                &entry.event,
            ],
        )?;
    }
    Ok(())
}

/// No log gets that long.
fn sql_int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A seal as statements for the transaction that changes production: they fail, and the whole
/// transaction with them, if the lease is lost or other entries were appended first.
pub fn seal_statements(seal: &Seal) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(fence) = &seal.fence {
        let body = format!(
            "BEGIN
                PERFORM FROM unship.leases
                  WHERE env = {} AND number = {} AND holder IS NOT NULL FOR SHARE;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'the lease was lost' USING ERRCODE = '{FENCED}';
                END IF;
            END",
            quote::text(&fence.env),
            fence.number,
        );
        out.push(format!("DO {}", quote::text(&body)));
    }
    for entry in &seal.entries {
        out.push(format!(
            "INSERT INTO unship.entries VALUES ({}, {}, {}, {}, {}, {}, {})",
            entry.seq,
            bytes(&entry.prev),
            bytes(&entry.hash),
            quote::text(&entry.at),
            quote::text(&entry.actor),
            quote::text(&entry.env),
            quote::text(&entry.event),
        ));
    }
    out
}

fn bytes(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    format!("pg_catalog.decode('{hex}', 'hex')")
}

/// Why nothing was appended.
enum Refusal {
    /// What the lease's row says now.
    Fenced(Option<Row>),
    Moved,
}

impl Backend for PostgresLedger {
    fn head(&self) -> Result<Head, LedgerError> {
        let row = self.with(|client| client.query_opt(HEAD, &[]))?;
        self.head_of(row.as_ref())
    }

    fn append(
        &mut self,
        expected: &Head,
        drafts: &[Draft],
        fence: Option<&Fence>,
    ) -> Result<Vec<Entry>, LedgerError> {
        let linked = link(expected, drafts)?;
        let answer = self.with(|client| {
            let mut tx = client.transaction()?;
            if let Some(fence) = fence {
                let row = tx.query_opt(&format!("{LEASE} FOR SHARE"), &[&fence.env])?;
                let lease = self.lease_of(&fence.env, row.as_ref());
                let number = lease.ok().flatten().map(|lease| lease.number);
                if number != Some(fence.number) {
                    return Ok(Err(Refusal::Fenced(row)));
                }
            }
            let head = self.head_of(tx.query_opt(HEAD, &[])?.as_ref());
            if head.ok() != Some(*expected) {
                return Ok(Err(Refusal::Moved));
            }
            match insert(&mut tx, &linked) {
                Ok(()) => tx.commit().map(Ok),
                // Somebody else appended at this very moment.
                Err(e) if e.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(Err(Refusal::Moved)),
                Err(e) => Err(e),
            }
        })?;
        match answer {
            Ok(()) => linked.iter().map(StoredEntry::check).collect(),
            Err(Refusal::Fenced(row)) => {
                let env = fence.map(|f| f.env.clone()).unwrap_or_default();
                let by = self.lease_of(&env, row.as_ref())?.map(Box::new);
                Err(LedgerError::Fenced { env, by })
            }
            Err(Refusal::Moved) => Err(LedgerError::HeadMoved {
                expected: expected.seq,
                actual: self.head()?.seq,
            }),
        }
    }

    fn read_stored(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, LedgerError> {
        let rows = self.with(|client| {
            client.query(
                "SELECT seq, prev, hash, at, actor, env, event FROM unship.entries
                  WHERE seq >= $1 ORDER BY seq LIMIT $2",
                &[
                    &sql_int(from.max(1)),
                    &i64::try_from(limit).unwrap_or(i64::MAX),
                ],
            )
        })?;
        let stored = |row: &Row| {
            Ok(StoredEntry {
                seq: u64::try_from(self.cell::<i64>(row, 0)?).unwrap_or(0),
                prev: self.cell(row, 1)?,
                hash: self.cell(row, 2)?,
                at: self.cell(row, 3)?,
                actor: self.cell(row, 4)?,
                env: self.cell(row, 5)?,
                event: self.cell(row, 6)?,
            })
        };
        rows.iter().map(stored).collect()
    }

    fn put_blob(&mut self, bytes: &[u8], kind: &str) -> Result<Hash, LedgerError> {
        check_size(bytes)?;
        let hash = Hash::of(bytes);
        let key = hash.as_bytes().to_vec();
        let there = self
            .with(|client| client.query_opt("SELECT FROM unship.blobs WHERE hash = $1", &[&key]))?;
        if there.is_some() {
            return Ok(hash);
        }
        let newest = "id = (SELECT max(id) FROM unship.blobs WHERE kind = $1 AND base IS NULL)";
        let newest = self.find(newest, &kind)?;
        let (base, data) = pack(bytes, newest.as_ref()).map_err(|source| LedgerError::Io {
            place: self.place(),
            source,
        })?;
        let size = sql_int(bytes.len() as u64);
        self.with(|client| {
            client.execute(
                "INSERT INTO unship.blobs (hash, kind, size, base, data)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO NOTHING",
                &[&key, &kind, &size, &base, &data],
            )
        })?;
        Ok(hash)
    }

    fn get_blob(&self, hash: &Hash) -> Result<Vec<u8>, LedgerError> {
        let packed = self
            .find("hash = $1", &hash.as_bytes().to_vec())?
            .ok_or(LedgerError::BlobMissing { hash: *hash })?;
        let base = match packed.base {
            None => None,
            Some(id) => self.find("id = $1", &id)?,
        };
        unpack(hash, &packed, base.as_ref())
    }

    fn take_lease(
        &mut self,
        env: &str,
        holder: &Holder,
        ttl: Duration,
    ) -> Result<Lease, LedgerError> {
        let json = serde_json::to_string(holder).map_err(|source| LedgerError::Store {
            place: self.place(),
            source: Box::new(source),
        })?;
        let now = Timestamp::now();
        let expires_at = expiry(now, ttl);
        let answer = self.with(|client| {
            let mut tx = client.transaction()?;
            tx.execute(
                "INSERT INTO unship.leases VALUES ($1, 0, NULL, '') ON CONFLICT DO NOTHING",
                &[&env],
            )?;
            let row = tx.query_one(&format!("{LEASE} FOR UPDATE"), &[&env])?;
            if !self.may_be_taken(env, &row, now) {
                return Ok(Err(row));
            }
            let number: i64 = tx
                .query_one(
                    "UPDATE unship.leases SET number = number + 1, holder = $2, expires_at = $3
                      WHERE env = $1 RETURNING number",
                    &[&env, &json, &expires_at.to_string()],
                )?
                .try_get(0)?;
            tx.commit()?;
            Ok(Ok(number))
        })?;
        match answer {
            Ok(number) => Ok(Lease {
                env: env.to_owned(),
                number: number.unsigned_abs(),
                holder: holder.clone(),
                expires_at,
            }),
            Err(row) => match self.lease_of(env, Some(&row))? {
                Some(lease) => Err(LedgerError::Held(Box::new(lease))),
                None => Err(self.damaged("a lease cannot be read")),
            },
        }
    }

    fn renew_lease(&mut self, lease: &Lease, ttl: Duration) -> Result<Lease, LedgerError> {
        let expires_at = expiry(Timestamp::now(), ttl);
        let renewed = self.with(|client| {
            client.execute(
                "UPDATE unship.leases SET expires_at = $3
                  WHERE env = $1 AND number = $2 AND holder IS NOT NULL",
                &[&lease.env, &sql_int(lease.number), &expires_at.to_string()],
            )
        })?;
        if renewed == 0 {
            return Err(LedgerError::Fenced {
                env: lease.env.clone(),
                by: self.lease(&lease.env)?.map(Box::new),
            });
        }
        Ok(Lease {
            expires_at,
            ..lease.clone()
        })
    }

    fn release_lease(&mut self, lease: &Lease) -> Result<(), LedgerError> {
        self.with(|client| {
            client.execute(
                "UPDATE unship.leases SET holder = NULL WHERE env = $1 AND number = $2",
                &[&lease.env, &sql_int(lease.number)],
            )
        })?;
        Ok(())
    }

    fn lease(&self, env: &str) -> Result<Option<Lease>, LedgerError> {
        let row = self.with(|client| client.query_opt(LEASE, &[&env]))?;
        self.lease_of(env, row.as_ref())
    }
}

impl PostgresLedger {
    /// Whether nobody stands in the way. One that cannot be read stands in the way.
    fn may_be_taken(&self, env: &str, row: &Row, now: Timestamp) -> bool {
        match self.lease_of(env, Some(row)) {
            Ok(Some(lease)) => lease.state(now).is_free(),
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
