//! A plan's document, as `unship apply FILE` reads it, and the steps in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship::cmd::plan;
use unship_core::plan::Plan;
use unship_engines::duckdb::plan::DuckAction;

fuzz_target!(|bytes: &[u8]| {
    let _ = plan::read(bytes);
    // The document carries the hash of the plan in it, which no mutation can keep up with.
    let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let inner = document.and_then(|mut d| d.get_mut("plan").map(serde_json::Value::take));
    if let Some(inner) = inner
        && let Ok(plan) = Plan::parse(inner.to_string().as_bytes())
    {
        let _ = plan.id();
        for step in &plan.steps {
            let _ = DuckAction::of(&step.action);
        }
    }
});
