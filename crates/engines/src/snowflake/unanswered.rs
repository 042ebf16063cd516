//! Statements whose answer never came. Snowflake goes on with what it accepted, whoever went away;
//! its history says what still runs.

use super::session::Session;
use super::sql;
use std::time::Instant;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::operate::count;

/// Waits until none of the statements runs any more whose tags begin so. Says whether one did.
///
/// # Errors
/// [`ErrorKind::InDoubt`], if they do not end in time or nobody can be asked.
pub fn wait_for(session: &Session, tag: &str) -> Result<bool, EngineError> {
    let pace = *session.client().pace();
    let (began, mut wait, mut ran) = (Instant::now(), pace.first, false);
    loop {
        let asked = sql::running(session.database(), tag);
        let rows = session
            .rows(&asked, "ask what became of a statement")
            .map_err(|error| in_doubt(error.message))?;
        if rows.is_empty() {
            return Ok(ran);
        }
        ran = true;
        if began.elapsed() + wait > pace.patience {
            let running = count(rows.len(), "statement");
            return Err(in_doubt(format!(
                "Snowflake still has {running} of {}",
                tag.trim_end()
            )));
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(pace.most);
    }
}

fn in_doubt(why: String) -> EngineError {
    EngineError::new(
        ErrorKind::InDoubt,
        format!("it is not known what became of a statement whose answer was lost: {why}"),
    )
    .hint("`unship resume` looks again; Snowflake's QUERY_HISTORY has its tag")
}
