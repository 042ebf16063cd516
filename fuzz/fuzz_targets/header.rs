//! The first pages of a DuckDB file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_engines::duckdb::header;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = header::parse(bytes) {
        let _ = header.storage_version();
    }
    let _ = header::block_size(bytes);
});
