//! `unship.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship::config::Config;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(config) = Config::parse(text)
    {
        let _ = config.keep.parse();
        let _ = config.env(None);
    }
});
