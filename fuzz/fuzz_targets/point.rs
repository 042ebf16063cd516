//! A point of the store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_engines::duckdb::store::Point;

/// Bytes before the names; the last four of them are the names' lengths.
const FIXED: usize = 80;
const DIGEST: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    let _ = Point::parse(bytes);
    // Two digests cover all that is read: with them made good, what is behind them is reached too.
    let mut bytes = bytes.to_vec();
    let Some(lengths) = bytes.get(FIXED - 4..FIXED) else {
        return;
    };
    let word = |at: usize| usize::from(u16::from_le_bytes([lengths[at], lengths[at + 1]]));
    let head = FIXED + word(0) + word(2);
    let end = bytes.len().saturating_sub(DIGEST);
    if head + DIGEST > end {
        return;
    }
    let digest = blake3::hash(&bytes[..head]);
    bytes[head..head + DIGEST].copy_from_slice(digest.as_bytes());
    let whole = blake3::Hasher::new()
        .update(&bytes[..head])
        .update(&bytes[head + DIGEST..end])
        .finalize();
    bytes[end..].copy_from_slice(whole.as_bytes());
    let _ = Point::parse(&bytes);
});
