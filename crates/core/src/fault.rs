//! Boundaries at which a crash is tested.
//!
//! In a normal build [`boundary`] does nothing. With the feature `faults`, `UNSHIP_FAULT_AT=n` aborts
//! the process, without unwinding, when the n-th boundary is reached, so that a test can walk
//! through all of them by counting up until the command survives. `UNSHIP_FAULT_TRACE=file` appends
//! the names passed.

/// Marks a place where the process may die. `name` is for the trace.
#[cfg(not(feature = "faults"))]
#[inline]
pub fn boundary(_name: &str) {}

/// Marks a place where the process may die. `name` is for the trace.
#[cfg(feature = "faults")]
pub fn boundary(name: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let n = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(path) = std::env::var_os("UNSHIP_FAULT_TRACE")
        && let Ok(mut file) = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
    {
        // A trace that cannot be written fails the test that reads it.
        let _ = writeln!(file, "{n} {name}");
    }
    if std::env::var("UNSHIP_FAULT_AT").is_ok_and(|at| at == n.to_string()) {
        std::process::abort();
    }
}
