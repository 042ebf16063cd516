//! Any YAML that dbt reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship::pipeline::dbt::yaml;

fuzz_target!(|bytes: &[u8]| yaml::fuzz(bytes));
