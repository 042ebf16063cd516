//! The table of restore points that the dbt package keeps.

use super::quote;
use std::time::Duration;
use unship_core::engine::ReleaseRecord;

/// Adds a release to it.
pub fn release(schema: &str, record: &ReleaseRecord) -> String {
    // By the server's clock, which wrote the other rows.
    let ago = |ago: Duration| {
        let seconds = ago.as_secs_f64();
        format!("(current_timestamp - interval '{seconds:.3} s') AT TIME ZONE 'UTC'")
    };
    format!(
        "INSERT INTO {} (restore_point, recorded_by, target, job, code, schemas, started_at, ended_at, \
         outcome) VALUES ({}, 'unship', {}, {}, {}, {}, {}, {}, 'good')",
        quote::relation(schema, "unship_restore_points"),
        quote::text(&record.id),
        quote::text(&record.env),
        quote::text(&record.job),
        record
            .commit
            .as_deref()
            .map_or("NULL".to_owned(), quote::text),
        quote::text(&record.schemas),
        ago(record.began),
        ago(record.ended),
    )
}
