//! Asking another environment: what its live release answers to a query.

use super::duration;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use unship_core::check::declared::{Elsewhere, Told, placed};
use unship_core::engine::{EngineError, ErrorKind, Place};

/// Another environment of the project. It is opened when it is asked, and not before.
pub fn at(context: &Context, env: &str) -> CliResult<Elsewhere> {
    let there = context.elsewhere(env)?;
    let timeout = duration("checks.timeout", &context.config.checks.timeout)?;
    Ok(Elsewhere::new(env, move |sql| {
        let mut bench = there.look().map_err(unanswered(&there))?;
        let live = bench.ledger.history(|h| h.live(&there.env));
        let live = live.map_err(CliError::from).map_err(unanswered(&there))?;
        let Some(live) = live else {
            let text = format!("`{}` has no live release", there.env);
            return Err(EngineError::new(ErrorKind::Missing, text));
        };
        let map = bench.ledger.history(|h| h.map(live.release));
        let map = map.map_err(CliError::from).map_err(unanswered(&there))?;
        let names = map.unwrap_or_default().into_keys().collect();
        let engine = &mut *bench.engine;
        let sql = placed(engine, Place::Live, &names, sql)?;
        Ok(Told {
            answer: engine.query(Place::Live, &sql, 1, timeout)?,
            by: format!("{} of {}", live.release, there.env),
        })
    }))
}

fn unanswered(there: &Context) -> impl Fn(CliError) -> EngineError {
    |error| {
        let text = format!("`{}` cannot be asked: {}", there.env, error.message);
        EngineError::new(ErrorKind::Query, text)
    }
}
