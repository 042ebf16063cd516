//! Keeping a lease while a long job runs.

use crate::ledger_at::LedgerAt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;
use unship_core::ledger::Lease;

/// How long a lease lasts unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(60);

/// Renews a lease while a long job runs, over a connection of its own.
pub struct Renewal {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Lease>,
    lease: Lease,
}

impl Renewal {
    /// Begins: it is renewed at a third of its time.
    pub fn start(at: LedgerAt, lease: Lease) -> Self {
        let (stop, stopped) = mpsc::channel();
        let first = lease.clone();
        let thread = std::thread::spawn(move || {
            let mut lease = first;
            while stopped.recv_timeout(LEASE / 3) == Err(RecvTimeoutError::Timeout) {
                // A renewal that fails now may work next time. If the lease is lost, the fence
                // refuses the next append, and that is where it matters.
                if let Ok(mut log) = at.log()
                    && let Ok(renewed) = log.renew_lease(&lease, LEASE)
                {
                    lease = renewed;
                }
            }
            lease
        });
        Self {
            stop,
            thread,
            lease,
        }
    }

    /// Stops, and gives the lease as it is now.
    pub fn stop(self) -> Lease {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or(self.lease)
    }
}
