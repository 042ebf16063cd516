//! dbt's `sources.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_core::pipeline::dbt::sources;

fuzz_target!(|bytes: &[u8]| sources::fuzz(bytes));
