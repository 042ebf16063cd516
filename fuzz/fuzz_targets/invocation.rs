//! A command line that may be dbt.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship::pipeline::dbt::invocation;

fuzz_target!(|bytes: &[u8]| invocation::fuzz(bytes));
