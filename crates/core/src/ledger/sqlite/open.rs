//! Making and opening the file.
//!
//! Opening does no work beyond reading the header: `unship status` is a whole process in a few
//! milliseconds.

use super::{
    super::error::LedgerError,
    BUSY, Durable, SqliteLedger, View,
    errors::explain,
    schema::{APPLICATION_ID, FORMAT, OWN_TABLES, TABLES},
};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, config::DbConfig};
use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Instant,
};

/// What the header says about a file.
enum Whose {
    Ours,
    Nobodys,
}

impl SqliteLedger {
    /// Makes the ledger at `path`, or opens the one that is there. Its directory must exist.
    ///
    /// # Errors
    /// As for [`SqliteLedger::open`], and whatever keeps the file from being made.
    pub fn create(path: &Path, views: Vec<Box<dyn View>>) -> Result<Self, LedgerError> {
        let ledger = Self::connect(path, OpenFlags::SQLITE_OPEN_CREATE, views)?;
        if let Whose::Nobodys = ledger.whose()? {
            ledger.lay_out()?;
        }
        Ok(ledger)
    }

    /// Opens the ledger at `path` for reading and writing.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], [`LedgerError::NotALedger`], [`LedgerError::Newer`], or what the
    /// file system says.
    pub fn open(path: &Path, views: Vec<Box<dyn View>>) -> Result<Self, LedgerError> {
        let ledger = Self::connect(path, OpenFlags::empty(), views)?;
        ledger.must_be_ours()
    }

    /// Opens the ledger at `path` for reading, on a read-only file system or without the right to
    /// write too.
    ///
    /// # Errors
    /// As for [`SqliteLedger::open`]. [`LedgerError::ReadOnly`] if a process was killed while it
    /// wrote, and what it left can only be put in order by somebody who may write.
    pub fn open_read_only(path: &Path, views: Vec<Box<dyn View>>) -> Result<Self, LedgerError> {
        let attempt = |conn: rusqlite::Result<Connection>| -> rusqlite::Result<Connection> {
            let conn = conn?;
            settle(&conn)?;
            // The first read is what needs the write-ahead log's shared memory.
            conn.query_row("PRAGMA user_version", [], |_| Ok(()))?;
            Ok(conn)
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = match attempt(Connection::open_with_flags(path, flags)) {
            Err(e) if may_be_unwritable(&e) && path.is_file() => {
                if !is_absent_or_empty(&beside(path, "-wal")) {
                    if e.sqlite_error_code() == Some(ErrorCode::DiskFull) {
                        return Err(explain(path, e));
                    }
                    return Err(LedgerError::ReadOnly {
                        place: path.display().to_string(),
                        why: "a process that wrote to it was stopped, and its last entries wait \
                              beside the file; run any command that may write there, or copy the \
                              ledger and its `-wal` file to where you may"
                            .to_owned(),
                    });
                }
                let uri = flags | OpenFlags::SQLITE_OPEN_URI;
                attempt(Connection::open_with_flags(immutable_uri(path), uri))
            }
            other => other,
        };
        let ledger = Self {
            conn: conn.map_err(|e| explain(path, e))?,
            path: path.to_owned(),
            views,
            read_only: true,
        };
        ledger.must_be_ours()
    }

    fn connect(
        path: &Path,
        extra: OpenFlags,
        views: Vec<Box<dyn View>>,
    ) -> Result<Self, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
        let prepare = || -> rusqlite::Result<Connection> {
            let conn = Connection::open_with_flags(path, flags)?;
            settle(&conn)?;
            conn.pragma_update(None, "synchronous", "FULL")?;
            conn.pragma_update(None, "foreign_keys", true)?;
            // A large blob's write-ahead log is not kept at its size for ever.
            conn.pragma_update(None, "journal_size_limit", 8 << 20)?;
            Ok(conn)
        };
        Ok(Self {
            conn: prepare().map_err(|e| explain(path, e))?,
            path: path.to_owned(),
            views,
            read_only: false,
        })
    }

    fn must_be_ours(self) -> Result<Self, LedgerError> {
        match self.whose()? {
            Whose::Ours => Ok(self),
            Whose::Nobodys => Err(LedgerError::NotFound {
                place: self.place(),
            }),
        }
    }

    /// A creation that was killed leaves a file without a table: nobody's.
    fn whose(&self) -> Result<Whose, LedgerError> {
        whose(&self.conn).map_err(|e| self.error(e))?.map_or_else(
            |found| match found {
                Some(found) => Err(LedgerError::Newer {
                    place: self.place(),
                    found,
                    known: FORMAT,
                }),
                None => Err(LedgerError::NotALedger {
                    place: self.place(),
                }),
            },
            Ok,
        )
    }

    fn lay_out(&self) -> Result<(), LedgerError> {
        self.use_write_ahead_log().map_err(|e| self.error(e))?;
        let tx = self.write(Durable::Now)?;
        // Another process may have come first.
        if let Whose::Nobodys = self.whose()? {
            let lay_out = |tx: &Transaction<'_>| -> rusqlite::Result<()> {
                tx.execute_batch(TABLES)?;
                tx.pragma_update(None, "application_id", APPLICATION_ID)?;
                tx.pragma_update(None, "user_version", FORMAT)
            };
            lay_out(&tx).map_err(|e| self.error(e))?;
        }
        tx.commit().map_err(|e| self.error(e))?;
        self.sync_directory()
    }

    /// SQLite does not wait for a lock while it changes the journal's mode, so that two processes
    /// that make a ledger at once must try again by themselves.
    fn use_write_ahead_log(&self) -> rusqlite::Result<()> {
        let begin = Instant::now();
        loop {
            match self
                .conn
                .pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
            {
                Err(e)
                    if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && begin.elapsed() < BUSY =>
                {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    /// The file's name must survive a power loss as its contents do.
    fn sync_directory(&self) -> Result<(), LedgerError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if cfg!(unix) {
            File::open(directory)
                .and_then(|d| d.sync_all())
                .map_err(|source| LedgerError::Io {
                    place: directory.display().to_string(),
                    source,
                })?;
        }
        Ok(())
    }
}

/// `Err(Some(format))` for a newer ledger, `Err(None)` for somebody else's file.
fn whose(conn: &Connection) -> rusqlite::Result<Result<Whose, Option<i64>>> {
    // In one statement: another process may be making it at this very moment.
    let (application, format, tables): (i64, i64, i64) = conn.query_row(
        "SELECT (SELECT application_id FROM pragma_application_id),
                (SELECT user_version FROM pragma_user_version),
                (SELECT count(*) FROM sqlite_schema)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if application == APPLICATION_ID {
        return Ok(if format > FORMAT {
            Err(Some(format))
        } else {
            Ok(Whose::Ours)
        });
    }
    Ok(if application == 0 && format == 0 && tables == 0 {
        Ok(Whose::Nobodys)
    } else {
        Err(None)
    })
}

/// What SQLite answers when it cannot make or write the shared memory.
fn may_be_unwritable(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
        )
    )
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn is_absent_or_empty(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.len() == 0,
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Tells SQLite that nobody writes: true where nobody can, and where the last writer left nothing
/// behind. Should somebody with more rights begin to write at that very moment, an entry that is
/// read half-way fails its hash.
fn immutable_uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file://");
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => {
                // Writing to a string cannot fail.
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// What every connection needs.
fn settle(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    // Otherwise a statement is planned anew for each key that it is asked for.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Whether a view may have a table of this name.
pub(super) fn is_own_table(name: &str) -> bool {
    OWN_TABLES.contains(&name) || name.starts_with("sqlite_")
}
