//! Large values, stored once, and as the difference from an earlier one where that is small.
//!
//! Two builds of one project leave manifests of many megabytes that differ in their times and in a
//! few nodes. A blob is therefore compressed with the newest full blob of its kind as a zstd
//! prefix, and kept that way if it comes out at less than a quarter of what it would be alone. The
//! base of a difference is always a full blob: reading never follows a chain.

use super::{
    super::{error::LedgerError, hash::Hash},
    SqliteLedger,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::io::{self, Read, Write};
use zstd::zstd_safe::CParameter;

/// The largest blob in bytes: a manifest of 100,000 nodes has about a tenth of this.
pub const LARGEST_BLOB: u64 = 512 << 20;

/// zstd's default: higher levels cost a multiple and win a tenth.
const LEVEL: i32 = 3;

/// The largest window that a zstd reader accepts unasked. Base and blob must fit in it together.
const LARGEST_WINDOW_LOG: u32 = 27;

/// A blob as it is stored.
struct Stored {
    id: i64,
    hash: Vec<u8>,
    size: u64,
    base: Option<i64>,
    data: Vec<u8>,
}

pub(super) fn put(ledger: &SqliteLedger, bytes: &[u8], kind: &str) -> Result<Hash, LedgerError> {
    let size = bytes.len() as u64;
    if size > LARGEST_BLOB {
        return Err(LedgerError::BlobTooLarge {
            size,
            limit: LARGEST_BLOB,
        });
    }
    let hash = Hash::of(bytes);
    if is_stored(&ledger.conn, &hash).map_err(|e| ledger.error(e))? {
        return Ok(hash);
    }
    // Compressing takes longer than a write may keep others waiting, so it comes first. A base
    // never goes away, and a second process that puts the same bytes does no harm.
    let failed = |source| LedgerError::Io {
        place: ledger.place(),
        source,
    };
    let (base, data) = match difference(ledger, bytes, kind)? {
        Some((base, data)) => (Some(base), data),
        None => (None, zstd::bulk::compress(bytes, LEVEL).map_err(failed)?),
    };
    let tx = ledger.write()?;
    tx.execute(
        "INSERT INTO blobs (hash, kind, size, base, data) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (hash) DO NOTHING",
        params![hash.as_bytes(), kind, super::sql_int(size), base, data],
    )
    .map_err(|e| ledger.error(e))?;
    tx.commit().map_err(|e| ledger.error(e))?;
    Ok(hash)
}

pub(super) fn get(ledger: &SqliteLedger, hash: &Hash) -> Result<Vec<u8>, LedgerError> {
    let stored = find(&ledger.conn, "hash = ?1", hash.as_bytes())
        .map_err(|e| ledger.error(e))?
        .ok_or(LedgerError::BlobMissing { hash: *hash })?;
    let corrupt = |what: String| LedgerError::BlobCorrupt { hash: *hash, what };
    let base = match stored.base {
        None => Vec::new(),
        Some(id) => find(&ledger.conn, "id = ?1", id)
            .map_err(|e| ledger.error(e))?
            .filter(|base| base.base.is_none())
            .and_then(|base| base.full().ok())
            .ok_or_else(|| corrupt("the blob that it differs from is damaged".to_owned()))?,
    };
    stored.unpack(&base).map_err(|e| corrupt(e.to_string()))
}

/// The blob as a difference, if that is worth it.
fn difference(
    ledger: &SqliteLedger,
    bytes: &[u8],
    kind: &str,
) -> Result<Option<(i64, Vec<u8>)>, LedgerError> {
    let newest = "id = (SELECT max(id) FROM blobs WHERE kind = ?1 AND base IS NULL)";
    let Some(base) = find(&ledger.conn, newest, kind).map_err(|e| ledger.error(e))? else {
        return Ok(None);
    };
    let window_log = (base.size + bytes.len() as u64)
        .max(1 << 10)
        .next_power_of_two()
        .ilog2();
    // A damaged base is no base.
    let (Ok(prefix), true) = (base.full(), window_log <= LARGEST_WINDOW_LOG) else {
        return Ok(None);
    };
    // What the blob would take alone, judged by the base: compressing it twice to know exactly
    // would double the time of every run.
    let alone = (base.data.len() as u64).saturating_mul(bytes.len() as u64) / base.size.max(1);
    let data = pack(bytes, &prefix, window_log).map_err(|source| LedgerError::Io {
        place: ledger.place(),
        source,
    })?;
    Ok(((data.len() as u64) < alone / 4).then_some((base.id, data)))
}

fn pack(bytes: &[u8], prefix: &[u8], window_log: u32) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), LEVEL, prefix)?;
    encoder.set_parameter(CParameter::WindowLog(window_log))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

impl Stored {
    /// The bytes of a blob that needs no base.
    fn full(&self) -> io::Result<Vec<u8>> {
        self.unpack(&[])
    }

    fn unpack(&self, prefix: &[u8]) -> io::Result<Vec<u8>> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut bytes = Vec::new();
        // Whatever the data turn out to be, no more memory is used than the blob may have.
        zstd::stream::read::Decoder::with_ref_prefix(self.data.as_slice(), prefix)?
            .take(self.size.min(LARGEST_BLOB) + 1)
            .read_to_end(&mut bytes)?;
        if Hash::of(&bytes).as_bytes().as_slice() != self.hash {
            return Err(damaged("its contents do not have its hash"));
        }
        Ok(bytes)
    }
}

fn is_stored(conn: &Connection, hash: &Hash) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM blobs WHERE hash = ?1")?
        .exists([hash.as_bytes()])
}

fn find(
    conn: &Connection,
    which: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<Option<Stored>> {
    conn.prepare_cached(&format!(
        "SELECT id, hash, size, base, data FROM blobs WHERE {which}"
    ))?
    .query_row([value], |row| {
        Ok(Stored {
            id: row.get(0)?,
            hash: row.get(1)?,
            size: row.get::<_, i64>(2)?.unsigned_abs(),
            base: row.get(3)?,
            data: row.get(4)?,
        })
    })
    .optional()
}
