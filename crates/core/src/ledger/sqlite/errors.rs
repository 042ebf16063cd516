//! What SQLite's answers mean to a person.

use super::{super::error::LedgerError, BUSY};
use rusqlite::ErrorCode;
use std::path::Path;

/// Names what happened, and at which file.
pub(super) fn explain(path: &Path, source: rusqlite::Error) -> LedgerError {
    let place = path.display().to_string();
    let read_only = |why: &str| LedgerError::ReadOnly {
        place: place.clone(),
        why: why.to_owned(),
    };
    // Where the disk is full, the memory that a ledger's readers share cannot be made either.
    if source.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
        return LedgerError::DiskFull { place };
    }
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy {
            place,
            seconds: BUSY.as_secs(),
        },
        Some(ErrorCode::DiskFull) => LedgerError::DiskFull { place },
        Some(ErrorCode::ReadOnly) => read_only("the file or its directory is read-only"),
        Some(ErrorCode::PermissionDenied) => read_only("this user has no right to"),
        Some(ErrorCode::NotADatabase) => LedgerError::NotALedger { place },
        Some(ErrorCode::DatabaseCorrupt) => LedgerError::Damaged {
            place,
            what: source.to_string(),
        },
        Some(ErrorCode::CannotOpen) => cannot_open(path, source),
        _ if is_value_of_another_type(&source) => LedgerError::Damaged {
            place,
            what: source.to_string(),
        },
        _ => LedgerError::Store {
            place,
            source: Box::new(source),
        },
    }
}

/// SQLite says no more than "unable to open"; the file system says why.
fn cannot_open(path: &Path, source: rusqlite::Error) -> LedgerError {
    let place = path.display().to_string();
    match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => LedgerError::NotFound { place },
        Err(e) => LedgerError::Io { place, source: e },
        Ok(_) => LedgerError::Store {
            place,
            source: Box::new(source),
        },
    }
}

/// STRICT tables hold no other types, unless somebody changed the tables.
fn is_value_of_another_type(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
    )
}
