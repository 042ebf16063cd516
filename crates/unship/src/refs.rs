//! What people write for a release: `R12`, `12`, `@` for the live one, `@-` for the one that was
//! live before it, `@--` for the one before that.

use crate::error::{CliError, CliResult, exit};
use unship_core::ident::ReleaseId;
use unship_core::incident::{Incident, IncidentId};
use unship_core::log::Ledger;
use unship_core::release::Release;

/// The release that is meant, in the ledger's environment.
pub fn release(ledger: &Ledger, text: &str) -> CliResult<Release> {
    let id = match text.strip_prefix('@') {
        Some(dashes) if dashes.chars().all(|c| c == '-') => back(ledger, dashes.len())?,
        _ => text.parse::<ReleaseId>().map_err(|e| {
            CliError::usage(e.to_string()).hint("`@` is the live release, `@-` the one before it")
        })?,
    };
    ledger
        .history(|h| h.release(id))?
        .filter(|r| r.env == ledger.env())
        .ok_or_else(|| {
            CliError::usage(format!("there is no {id} in `{}`", ledger.env()))
                .hint("`unship log` lists the releases")
        })
}

/// The incident that is meant: `I3`, a release that has one, or, where nothing is said, the newest
/// that is not closed.
pub fn incident(ledger: &Ledger, text: Option<&str>) -> CliResult<Incident> {
    let env = ledger.env();
    let none = |what: String| CliError::usage(what).hint("`unship incident list --all` lists them");
    let Some(text) = text else {
        let open = ledger.history(|h| h.open_incidents(env))?;
        return open.into_iter().next().ok_or_else(|| {
            CliError::new(exit::NOTHING, format!("no incident is open in `{env}`"))
                .hint("`unship incident list --all` lists those that are closed")
        });
    };
    let found = match text.parse::<IncidentId>() {
        Ok(id) => ledger.history(|h| h.incident(id))?,
        Err(_) => {
            let release = release(ledger, text)?.id;
            let all = ledger.history(|h| h.incidents(env, usize::MAX))?;
            // A rollback's own incident is the one that it answers.
            let answers = |i: &Incident| i.release == release || i.operations.contains(&release);
            all.into_iter().find(answers)
        }
    };
    found
        .filter(|i| i.env == env)
        .ok_or_else(|| none(format!("`{text}` has no incident in `{env}`")))
}

fn back(ledger: &Ledger, steps: usize) -> CliResult<ReleaseId> {
    let live = ledger.history(|h| h.live(ledger.env()))?;
    let mut id = live
        .ok_or_else(|| {
            let text = format!("nothing is live in `{}` yet", ledger.env());
            CliError::new(exit::NOTHING, text)
        })?
        .release;
    for _ in 0..steps {
        let release = ledger.history(|h| h.release(id))?;
        id = release
            .and_then(|r| r.parent)
            .ok_or_else(|| CliError::usage(format!("nothing was live before {id}")))?;
    }
    Ok(id)
}
