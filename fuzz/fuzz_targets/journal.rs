//! The events of a ledger, as they are stored: one JSON document on each line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unship_core::event::Event;
use unship_core::journal::Journal;
use unship_core::plan::PlanId;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|b| *b == b'\n');
    let events: Vec<Event> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    for event in &events {
        if let Event::PlanMade { plan, .. } = event {
            let _ = Journal::fold(plan, &events);
        }
    }
    let _ = Journal::fold(&PlanId("none".to_owned()), &events);
});
