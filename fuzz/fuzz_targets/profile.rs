//! A project, its profiles and its `--vars`, templates rendered, and the generated profile.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship::pipeline::dbt::profile;

fuzz_target!(|bytes: &[u8]| profile::fuzz(bytes));
