//! Carrying a way back out, in one transaction with what records it.

use super::back::Statements;
use crate::postgres::error::Doing;
use crate::postgres::swap;
use postgres::error::SqlState;
use postgres::{Client, IsolationLevel};
use std::time::{Duration, Instant};
use unship_core::engine::{EngineError, ErrorKind, OnProgress};

/// How long to go on asking for locks.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is being done, for errors.
const WHAT: &str = "go back where the rows are";

/// Locks the tables, brings them back and records it. Readers are never in the way and never wait;
/// whoever writes to these tables does, for as long as it takes.
///
/// # Errors
/// An error changed nothing, unless the server does not know any more what became of it.
pub fn run(
    client: &mut Client,
    statements: &Statements,
    record: &[String],
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    client
        .batch_execute(
            "SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning",
        )
        .doing(WHAT)?;
    // From PostgreSQL 14 on, and only on Linux: the server notices that this host is gone.
    let _ = client.batch_execute("SET client_connection_check_interval = '2s'");
    let started = Instant::now();
    let mut tries: u32 = 0;
    loop {
        tries += 1;
        match attempt(client, statements, record, tries) {
            Err(error) if error.kind == ErrorKind::Busy && started.elapsed() < PATIENCE => {
                on("waiting for who writes", u64::from(tries), 0);
                std::thread::sleep(Duration::from_millis(20 + u64::from(tries.min(20)) * 10));
            }
            done => return done,
        }
    }
}

fn attempt(
    client: &mut Client,
    statements: &Statements,
    record: &[String],
    tries: u32,
) -> Result<(), EngineError> {
    // Each statement must see what was committed before the lock was had.
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .doing(WHAT)?;
    // Whoever comes to write waits behind a lock that waits.
    let patience = (20 * tries).min(500);
    let lock = format!(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{patience}ms'; {}; \
         SET LOCAL lock_timeout = '10s'",
        statements.lock
    );
    transaction.batch_execute(&lock).doing(WHAT)?;
    let row = transaction
        .query_one("SELECT pg_catalog.pg_current_xact_id()::text", &[])
        .doing(WHAT)?;
    let token: String = row.try_get(0).doing(WHAT)?;
    let all = statements.work.iter().chain(record).map(String::as_str);
    let all: Vec<&str> = all.chain(["COMMIT"]).collect();
    let sent = transaction.batch_execute(&all.join(";\n"));
    // The batch ended the transaction itself; the rollback that follows here finds nothing to do.
    drop(transaction);
    match sent {
        Err(error) if error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN) => {
            Err(EngineError::new(ErrorKind::Interrupted, token).because(error))
        }
        sent => sent.doing(WHAT),
    }
}

/// Whether the transaction that an interrupted [`run`] named was committed.
pub fn happened(client: &mut Client, interrupted: &EngineError) -> Result<bool, EngineError> {
    swap::committed(client, &interrupted.message)
}
