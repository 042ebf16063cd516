//! Who is told next, until somebody acknowledges.

use super::compose::Story;
use super::config::{Escalation, Route};
use super::outbox;
use crate::error::{CliError, CliResult};
use jiff::Timestamp;
use serde::Serialize;
use unship_core::log::Ledger;
use unship_core::notice::Occasion;

/// A level that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The incident.
    pub incident: unship_core::incident::IncidentId,
    /// The level, from 1.
    pub level: usize,
    /// Who is asked.
    pub contact: String,
    /// The routes over which that is told now.
    pub routes: Vec<String>,
}

/// Writes down what the levels that are due by now have to be told, once each. An incident that
/// somebody sees to, that is closed, or that is not bad enough does not escalate.
pub fn pass(
    ledger: &mut Ledger,
    routes: &[Route],
    escalation: &Escalation,
    project: &str,
    story: &Story<'_>,
    now: Timestamp,
) -> CliResult<Vec<Step>> {
    let incident = story.incident;
    let quiet = incident.acknowledged.is_some()
        || incident.closed.is_some()
        || incident.opening.severity < escalation.min_severity;
    if quiet {
        return Ok(Vec::new());
    }
    let open_for = now.duration_since(incident.opened.at);
    let mut steps = Vec::new();
    for (index, level) in escalation.levels.iter().enumerate() {
        if level.wait().map_err(CliError::usage)? > open_for {
            continue;
        }
        let turn = format!("level-{}", index + 1);
        let mut events = Vec::new();
        let mut told = Vec::new();
        for name in &level.routes {
            let route = super::config::route(routes, name)?;
            let key = outbox::key(project, incident, Occasion::Escalated, &turn, name);
            if let Some(event) = outbox::notice(ledger, route, story, Occasion::Escalated, key)? {
                events.push(event);
                told.push(name.clone());
            }
        }
        if !events.is_empty() {
            ledger.append(&events)?;
            steps.push(Step {
                incident: incident.id,
                level: index + 1,
                contact: level.contact.clone(),
                routes: told,
            });
        }
    }
    Ok(steps)
}
