//! What PostgreSQL's errors mean to unship, and what to do about them.

use postgres::error::SqlState;
use unship_core::engine::{EngineError, ErrorKind};

/// Says what was being done when PostgreSQL reported an error.
pub trait Doing<T> {
    /// `what` completes "could not …".
    fn doing(self, what: &str) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, postgres::Error> {
    fn doing(self, what: &str) -> Result<T, EngineError> {
        self.map_err(|error| engine_error(&error, what))
    }
}

/// The engine's error for a driver's: `what` completes "could not …".
pub fn engine_error(error: &postgres::Error, what: &str) -> EngineError {
    said(error, &format!("could not {what}"))
}

/// What PostgreSQL said, after words that say who or what this is about. The driver's own value is
/// not kept as the source: its text would be said twice.
pub fn said(error: &postgres::Error, about: &str) -> EngineError {
    let mut message = format!("{about}: {}", words(error));
    if let Some(detail) = error.as_db_error().and_then(|db| db.detail()) {
        message = format!("{message} ({})", detail.replace('\n', "; "));
    }
    let out = EngineError::new(kind(error), message);
    let own = error.as_db_error().and_then(|db| db.hint());
    match hint(error).map(str::to_owned).or(own.map(str::to_owned)) {
        Some(hint) => out.hint(hint),
        None => out,
    }
}

/// The server's message, or the driver's with its causes.
fn words(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => unship_core::execute::chain(error),
    }
}

fn kind(error: &postgres::Error) -> ErrorKind {
    let Some(state) = error.code() else {
        return ErrorKind::Io;
    };
    let busy = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::OBJECT_IN_USE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    let missing = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::INVALID_CATALOG_NAME,
    ];
    if busy.contains(state) {
        return ErrorKind::Busy;
    }
    if missing.contains(state) {
        return ErrorKind::Missing;
    }
    match state.code() {
        "42501" | "28000" | "28P01" => ErrorKind::Permission,
        "53100" => ErrorKind::DiskFull,
        "2BP01" | super::undo::REFUSED => ErrorKind::Refused,
        "0A000" => ErrorKind::Unsupported,
        "XX001" | "XX002" => ErrorKind::Corrupt,
        "57014" => ErrorKind::Interrupted,
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("58") => {
            ErrorKind::Io
        }
        _ => ErrorKind::Query,
    }
}

fn hint(error: &postgres::Error) -> Option<&'static str> {
    match error.code().map(SqlState::code) {
        Some("42501") => Some("`unship doctor` prints the GRANTs that are missing"),
        Some("28P01" | "28000") => Some(
            "check the user and where its password comes from: the address, PGPASSWORD or the \
             password file",
        ),
        Some("53200") if words(error).contains("shared memory") => {
            Some("the lock table is full: raise max_locks_per_transaction and restart the server")
        }
        Some("53100") => Some("free some disk; `unship gc` drops versions that nobody keeps"),
        Some("55P03") => Some("somebody holds a lock on it: try again when they are done"),
        Some("3D000") => Some("check the database's name in the address"),
        Some("25006") => Some("this server is a read-only standby: connect to the primary"),
        None if error.is_closed() => {
            Some("the connection was lost; `unship resume` finds out what was done")
        }
        _ => None,
    }
}
