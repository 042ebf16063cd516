//! Which key each view has on the shelf, and how its value is written.

use super::{ShelfError, ShelfMut};
use crate::ident::{RelationName, ReleaseId};
use serde::{Serialize, de::DeserializeOwned};

pub(super) const RELEASE: u8 = b'r';
pub(super) const MOMENTS: u8 = b't';
pub(super) const BY_ENV: u8 = b'e';
pub(super) const LIVE: u8 = b'l';
pub(super) const OPEN: u8 = b'o';
pub(super) const STACK: u8 = b's';
pub(super) const NAMES: u8 = b'n';
pub(super) const MAP: u8 = b'm';
pub(super) const KEPT: u8 = b'k';
pub(super) const PINS: u8 = b'p';
pub(super) const CHECKED: u8 = b'c';
pub(super) const PROFILES: u8 = b'f';
pub(super) const DECISION: u8 = b'd';
pub(super) const BREAKER: u8 = b'b';
pub(super) const REQUEST: u8 = b'q';
pub(super) const REQUESTS: u8 = b'Q';
pub(super) const APPROVALS: u8 = b'a';
pub(super) const PATHS: u8 = b'w';
pub(super) const QUARANTINE: u8 = b'z';
pub(super) const ROLLBACKS: u8 = b'u';
pub(super) const JOBS: u8 = b'j';
pub(super) const GLASS: u8 = b'g';
pub(super) const INCIDENT: u8 = b'I';
pub(super) const INCIDENTS: u8 = b'J';
pub(super) const INCIDENTS_OPEN: u8 = b'K';
pub(super) const INCIDENT_OF: u8 = b'L';
pub(super) const STORY: u8 = b'S';
pub(super) const INCIDENT_STORY: u8 = b'T';
pub(super) const NOTICE: u8 = b'N';
pub(super) const NOTICES_OPEN: u8 = b'O';
pub(super) const STAGING: u8 = b'G';
pub(super) const STAGED: u8 = b'H';

pub(super) fn key(table: u8, env: &str) -> Vec<u8> {
    let mut key = vec![table];
    key.extend_from_slice(env.as_bytes());
    key.push(0);
    key
}

/// A key of two parts.
pub(super) fn keyed(table: u8, env: &str, part: &str) -> Vec<u8> {
    let mut key = key(table, env);
    key.extend_from_slice(part.as_bytes());
    key.push(0);
    key
}

pub(super) fn numbered(mut key: Vec<u8>, n: u64) -> Vec<u8> {
    key.extend_from_slice(&n.to_be_bytes());
    key
}

pub(super) fn release_key(table: u8, id: ReleaseId) -> Vec<u8> {
    numbered(vec![table], id.0)
}

pub(super) fn relation_key(table: u8, env: &str, name: &RelationName) -> Vec<u8> {
    let mut key = key(table, env);
    for part in [&name.database, &name.schema, &name.name] {
        // No catalog allows NUL in a name, and hostile JSON may hold one: lengths keep keys apart.
        key.extend_from_slice(&(part.len() as u32).to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key
}

pub(super) fn number_at_end(key: &[u8]) -> Option<u64> {
    let tail = key.len().checked_sub(8).and_then(|at| key.get(at..))?;
    Some(u64::from_be_bytes(tail.try_into().ok()?))
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ShelfError> {
    serde_json::from_slice(bytes).map_err(|_| ShelfError::Damaged {
        what: what.to_owned(),
    })
}

pub(super) fn write<T: Serialize>(
    shelf: &mut dyn ShelfMut,
    key: &[u8],
    value: &T,
) -> Result<(), ShelfError> {
    let bytes = serde_json::to_vec(value).map_err(|e| ShelfError::Store(Box::new(e)))?;
    shelf.put(key, &bytes)
}
