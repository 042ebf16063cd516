//! The ledger's head as text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_core::ledger::HeadStatement;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(statement) = text.parse::<HeadStatement>()
    {
        assert_eq!(statement.to_string(), text);
    }
});
