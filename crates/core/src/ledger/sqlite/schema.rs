//! The file's tables, and the numbers that say whose file it is.

/// "UNSP": tells a ledger from any other SQLite file, for `file(1)` too.
pub(super) const APPLICATION_ID: i64 = 0x554E_5350;

/// The format that this program writes. A reader refuses a larger one.
pub(super) const FORMAT: i64 = 1;

/// The tables that are not a view's.
pub(super) const OWN_TABLES: [&str; 4] = ["entries", "blobs", "leases", "views"];

/// Made in one transaction with [`APPLICATION_ID`] and [`FORMAT`].
///
/// The triggers keep a slip of the hand in `sqlite3` from changing history; against intent there
/// is the chain. `INSERT OR REPLACE` fires no delete trigger, so that an insert, too, must be told
/// where it belongs.
pub(super) const TABLES: &str = "
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY CHECK (seq > 0),
    prev BLOB NOT NULL,
    hash BLOB NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    env TEXT NOT NULL,
    event TEXT NOT NULL
) STRICT;
CREATE TRIGGER entries_are_appended BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
BEGIN SELECT RAISE(ABORT, 'the log only grows at its end'); END;
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the log is never changed'); END;
CREATE TRIGGER entries_are_not_removed BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the log is never shortened'); END;

CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    kind TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    base INTEGER REFERENCES blobs (id),
    data BLOB NOT NULL
) STRICT;
CREATE INDEX full_blobs ON blobs (kind, id) WHERE base IS NULL;

CREATE TABLE leases (
    env TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    holder TEXT,
    expires_at TEXT NOT NULL
) STRICT;
CREATE TRIGGER lease_numbers_grow BEFORE UPDATE ON leases
WHEN NEW.number < OLD.number
BEGIN SELECT RAISE(ABORT, 'a fencing number never shrinks'); END;
CREATE TRIGGER leases_stay BEFORE DELETE ON leases
BEGIN SELECT RAISE(ABORT, 'a fencing number is never forgotten'); END;

CREATE TABLE views (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    seq INTEGER NOT NULL
) STRICT;
";
