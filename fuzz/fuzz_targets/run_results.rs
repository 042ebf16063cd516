//! dbt's `run_results.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_core::pipeline::dbt::run_results;

fuzz_target!(|bytes: &[u8]| run_results::fuzz(bytes));
