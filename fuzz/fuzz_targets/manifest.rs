//! dbt's `manifest.json`, and the lineage that is made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_core::lineage::{Lineage, Selector};
use unship_core::pipeline::dbt::manifest::{self, Manifest};

fuzz_target!(|bytes: &[u8]| {
    manifest::fuzz(bytes);
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    let ids: Vec<String> = manifest.nodes.keys().cloned().collect();
    let lineage = Lineage::new(manifest);
    let _ = lineage.topological_order();
    let _ = lineage.built_relations(&ids);
    for text in ["@tag:nightly", "2+*+1,path:models", "state:modified"] {
        if let Ok(selector) = Selector::parse(&[text], &[]) {
            let _ = lineage.select(&selector);
        }
    }
});
