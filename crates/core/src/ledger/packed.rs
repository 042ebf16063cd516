//! Blobs as they are stored: compressed, as the difference from an earlier one where that is small.
//!
//! Two builds of one project leave manifests of many megabytes that differ in their times and in a
//! few nodes. A blob is therefore compressed with the newest full blob of its kind as a zstd
//! prefix, and kept that way if it comes out at less than a quarter of what it would be alone. The
//! base of a difference is always a full blob: reading never follows a chain.

use super::{error::LedgerError, hash::Hash};
use std::io::{self, Read, Write};
use zstd::zstd_safe::CParameter;

/// The largest blob in bytes: a manifest of 100,000 nodes has about a tenth of this.
pub const LARGEST_BLOB: u64 = 512 << 20;

/// zstd's default: higher levels cost a multiple and win a tenth.
const LEVEL: i32 = 3;

/// The largest window that a zstd reader accepts unasked. Base and blob must fit in it together.
const LARGEST_WINDOW_LOG: u32 = 27;

/// A blob as it is stored.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Its place in the store.
    pub id: i64,
    /// The hash of its bytes.
    pub hash: Vec<u8>,
    /// Its size in bytes, unpacked.
    pub size: u64,
    /// The place of the blob that it differs from.
    pub base: Option<i64>,
    /// What is stored.
    pub data: Vec<u8>,
}

/// Refuses what is too large to be kept.
///
/// # Errors
/// [`LedgerError::BlobTooLarge`].
pub fn check_size(bytes: &[u8]) -> Result<(), LedgerError> {
    let size = bytes.len() as u64;
    if size > LARGEST_BLOB {
        return Err(LedgerError::BlobTooLarge {
            size,
            limit: LARGEST_BLOB,
        });
    }
    Ok(())
}

/// What to store of a blob: the place of the blob that it differs from, if that is worth it, and
/// the data. `newest` is the newest full blob of its kind.
///
/// # Errors
/// Whatever zstd says.
pub fn pack(bytes: &[u8], newest: Option<&Packed>) -> io::Result<(Option<i64>, Vec<u8>)> {
    let difference = match newest {
        Some(base) => difference(bytes, base)?.map(|data| (Some(base.id), data)),
        None => None,
    };
    match difference {
        Some(packed) => Ok(packed),
        None => Ok((None, zstd::bulk::compress(bytes, LEVEL)?)),
    }
}

/// The blob as a difference, if that is worth it.
fn difference(bytes: &[u8], base: &Packed) -> io::Result<Option<Vec<u8>>> {
    let window_log = (base.size + bytes.len() as u64)
        .max(1 << 10)
        .next_power_of_two()
        .ilog2();
    // A damaged base is no base.
    let (Ok(prefix), true) = (base.unpack(&[]), window_log <= LARGEST_WINDOW_LOG) else {
        return Ok(None);
    };
    // What the blob would take alone, judged by the base: compressing it twice to know exactly
    // would double the time of every run.
    let alone = (base.data.len() as u64).saturating_mul(bytes.len() as u64) / base.size.max(1);
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), LEVEL, &prefix)?;
    encoder.set_parameter(CParameter::WindowLog(window_log))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    let data = encoder.finish()?;
    Ok(((data.len() as u64) < alone / 4).then_some(data))
}

/// The bytes of a blob, with the blob that it differs from.
///
/// # Errors
/// [`LedgerError::BlobCorrupt`].
pub fn unpack(hash: &Hash, packed: &Packed, base: Option<&Packed>) -> Result<Vec<u8>, LedgerError> {
    let corrupt = |what: String| LedgerError::BlobCorrupt { hash: *hash, what };
    let prefix = match packed.base {
        None => Vec::new(),
        Some(_) => base
            .filter(|base| base.base.is_none())
            .and_then(|base| base.unpack(&[]).ok())
            .ok_or_else(|| corrupt("the blob that it differs from is damaged".to_owned()))?,
    };
    packed.unpack(&prefix).map_err(|e| corrupt(e.to_string()))
}

impl Packed {
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
