//! Large values, stored once.

use super::{
    super::{
        error::LedgerError,
        hash::Hash,
        packed::{Packed, check_size, pack, unpack},
    },
    Durable, SqliteLedger,
};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn put(ledger: &SqliteLedger, bytes: &[u8], kind: &str) -> Result<Hash, LedgerError> {
    check_size(bytes)?;
    let hash = Hash::of(bytes);
    if is_stored(&ledger.conn, &hash).map_err(|e| ledger.error(e))? {
        return Ok(hash);
    }
    // Compressing takes longer than a write may keep others waiting, so it comes first. A base
    // never goes away, and a second process that puts the same bytes does no harm.
    let newest = "id = (SELECT max(id) FROM blobs WHERE kind = ?1 AND base IS NULL)";
    let newest = find(&ledger.conn, newest, kind).map_err(|e| ledger.error(e))?;
    let (base, data) = pack(bytes, newest.as_ref()).map_err(|source| LedgerError::Io {
        place: ledger.place(),
        source,
    })?;
    let tx = ledger.write(Durable::WithNext)?;
    tx.execute(
        "INSERT INTO blobs (hash, kind, size, base, data) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (hash) DO NOTHING",
        params![
            hash.as_bytes(),
            kind,
            super::sql_int(bytes.len() as u64),
            base,
            data
        ],
    )
    .map_err(|e| ledger.error(e))?;
    tx.commit().map_err(|e| ledger.error(e))?;
    Ok(hash)
}

pub(super) fn get(ledger: &SqliteLedger, hash: &Hash) -> Result<Vec<u8>, LedgerError> {
    let packed = find(&ledger.conn, "hash = ?1", hash.as_bytes())
        .map_err(|e| ledger.error(e))?
        .ok_or(LedgerError::BlobMissing { hash: *hash })?;
    let base = match packed.base {
        None => None,
        Some(id) => find(&ledger.conn, "id = ?1", id).map_err(|e| ledger.error(e))?,
    };
    unpack(hash, &packed, base.as_ref())
}

fn is_stored(conn: &Connection, hash: &Hash) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM blobs WHERE hash = ?1")?
        .exists([hash.as_bytes()])
}

fn find(
    conn: &Connection,
    which: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<Option<Packed>> {
    conn.prepare_cached(&format!(
        "SELECT id, hash, size, base, data FROM blobs WHERE {which}"
    ))?
    .query_row([value], |row| {
        Ok(Packed {
            id: row.get(0)?,
            hash: row.get(1)?,
            size: row.get::<_, i64>(2)?.unsigned_abs(),
            base: row.get(3)?,
            data: row.get(4)?,
        })
    })
    .optional()
}
