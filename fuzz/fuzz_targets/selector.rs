//! A selection, as text on the command line or out of a project without a manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use unship_core::ident::RelationName;
use unship_core::lineage::{select_relations, selector};

fuzz_target!(|bytes: &[u8]| {
    selector::fuzz(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let relations = BTreeSet::from([
            RelationName::new("shop", "marts", "fct_orders"),
            RelationName::new("shop", "marts", "dim_customers"),
        ]);
        let _ = select_relations(&[text], &[], &relations);
    }
});
