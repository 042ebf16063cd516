//! A pack of the store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_engines::duckdb::store::parse_pack;

const HEADER: usize = 16;
const FOOTER: usize = 88;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_pack(bytes);
    // A digest covers all that is read: with it made good, what is behind it is reached too.
    let mut bytes = bytes.to_vec();
    let Some(footer) = bytes.len().checked_sub(FOOTER).filter(|at| *at >= HEADER) else {
        return;
    };
    let body = u64::from_le_bytes(bytes[footer..footer + 8].try_into().unwrap());
    let from = usize::try_from(body)
        .ok()
        .and_then(|body| body.checked_add(HEADER));
    let Some(signed) = from.and_then(|from| bytes.get(from..footer + 48)) else {
        return;
    };
    let digest = blake3::Hasher::new()
        .update(&bytes[..HEADER])
        .update(signed)
        .finalize();
    bytes[footer + 48..footer + 80].copy_from_slice(digest.as_bytes());
    let _ = parse_pack(&bytes);
});
