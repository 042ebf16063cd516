//! Whether a connection is one session of the server from its first statement to its last.
//!
//! A proxy that pools transactions gives each of them whatever session is free. Settings, prepared
//! statements and locks of a session are then somebody else's, and for as long as nobody else is
//! there it looks as if all were well.

use super::connect::Connector;
use super::error::Doing;
use postgres::Client;
use postgres::error::SqlState;
use unship_core::engine::{EngineError, ErrorKind};

/// Refuses a connection that changes sessions between transactions.
pub fn own(client: &mut Client, connector: &Connector) -> Result<(), EngineError> {
    const WHAT: &str = "look whether this is a session of its own";
    // Without a statement that is prepared: through such a proxy it may be gone again.
    let session = |client: &mut Client| -> Result<Option<String>, EngineError> {
        let answer = client.simple_query("SELECT pg_backend_pid()").doing(WHAT)?;
        Ok(answer.into_iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    };
    let before = session(client)?;
    let mut other = match connector.connect() {
        Ok(other) => other,
        // The proxy would have had one: this is the server's own last.
        Err(error) if error.kind == ErrorKind::Busy => return Ok(()),
        Err(error) => return Err(error),
    };
    // The other takes the session that is free, if there is a pool, and keeps it for as long as its
    // transaction lasts; not for ever, should it be the only one.
    other
        .batch_execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '1s'; SELECT 1")
        .doing(WHAT)?;
    let after = session(client);
    match other.batch_execute("ROLLBACK") {
        Ok(()) => {}
        Err(e) if e.is_closed() => {}
        Err(e) if e.code() == Some(&SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT) => {}
        Err(e) => return Err(super::error::engine_error(&e, WHAT)),
    }
    if after? == before {
        return Ok(());
    }
    let text = format!(
        "{}: a proxy gives every transaction another session",
        connector.address()
    );
    Err(EngineError::new(ErrorKind::Unsupported, text)
        .hint("connect to the server itself, or to the proxy's session pool"))
}
