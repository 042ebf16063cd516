//! The outbox: what is to be told is written down, sent, and marked.

use super::channel::{self, Again, SendError};
use super::compose::{self, Story};
use super::config::Route;
use crate::context::{Context, actor};
use crate::error::CliResult;
use jiff::Timestamp;
use std::time::{Duration, Instant};
use unship_core::event::Event;
use unship_core::incident::Incident;
use unship_core::ledger::{Backend, Holder, LedgerError};
use unship_core::log::Ledger;
use unship_core::notice::{Delivery, MOST_ATTEMPTS, Notice, Occasion, Outgoing};

/// How long one command goes on sending; the rest is for the next.
const BUDGET: Duration = Duration::from_secs(10);

/// How long it waits between the tries of one notice.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1200)];

/// How long nobody else sends, should this process die while it does.
pub const LEASE: Duration = Duration::from_secs(60);

/// What whoever sends an environment's notices holds.
pub fn lease_name(env: &str) -> String {
    format!("notices of {env}")
}

/// What became of the notices that were due.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// Taken by their receivers.
    pub sent: Vec<String>,
    /// Not taken, with the reason; they are tried again later.
    pub failed: Vec<(String, String)>,
    /// Not taken, and not tried again.
    pub given_up: Vec<(String, String)>,
}

/// Writes down what is to be told about an incident over every route that wants it, once each, and
/// says how many are new. `turn` tells repeated occasions of one incident apart.
pub fn queue(
    ledger: &mut Ledger,
    routes: &[Route],
    project: &str,
    story: &Story<'_>,
    occasion: Occasion,
    turn: &str,
) -> CliResult<usize> {
    let incident = story.incident;
    let mut events = Vec::new();
    let wanting = routes
        .iter()
        .filter(|r| r.takes(&incident.env, incident.opening.severity, occasion));
    for route in wanting {
        let key = key(project, incident, occasion, turn, &route.name);
        events.extend(notice(ledger, route, story, occasion, key)?);
    }
    if !events.is_empty() {
        ledger.append(&events)?;
    }
    Ok(events.len())
}

/// A notice's key: `project/environment/incident/occasion…/route`.
pub fn key(
    project: &str,
    incident: &Incident,
    occasion: Occasion,
    turn: &str,
    route: &str,
) -> String {
    let (env, id) = (incident.env.replace('/', "_"), incident.id);
    let turn = match turn {
        "" => String::new(),
        turn => format!("/{turn}"),
    };
    format!("{project}/{env}/{id}/{}{turn}/{route}", occasion.word())
}

/// The entry that queues a notice, unless it was queued before.
pub fn notice(
    ledger: &Ledger,
    route: &Route,
    story: &Story<'_>,
    occasion: Occasion,
    key: String,
) -> CliResult<Option<Event>> {
    let incident = story.incident;
    if ledger.history(|h| h.notice(&incident.env, &key))?.is_some() {
        return Ok(None);
    }
    Ok(Some(Event::NoticeQueued {
        notice: Box::new(Notice {
            key,
            route: route.name.clone(),
            audience: route.audience,
            occasion,
            severity: incident.opening.severity,
            env: incident.env.clone(),
            incident: Some(incident.id),
            release: Some(incident.release),
            message: compose::message(story, route.audience, occasion),
        }),
    }))
}

/// Sends what is due. Where another unship is sending, it does not: one is enough. Not before a
/// notice's sending is written down is it sent, and not before its end is written down is the next.
pub fn deliver(context: &Context, ledger: &mut Ledger) -> CliResult<Sent> {
    let mut done = Sent::default();
    let due = |ledger: &Ledger| -> CliResult<Vec<Outgoing>> {
        let now = Timestamp::now();
        let mut unsent = ledger.history(|h| h.unsent(&context.env))?;
        unsent.retain(|outgoing| outgoing.is_due(now));
        Ok(unsent)
    };
    if due(ledger)?.is_empty() {
        return Ok(done);
    }
    let holder = Holder::current(actor(), "unship notify");
    let name = lease_name(&context.env);
    let lease = match ledger.store().take_lease(&name, &holder, LEASE) {
        Err(LedgerError::Held { .. }) => return Ok(done),
        lease => lease?,
    };
    let began = Instant::now();
    let outcome = due(ledger).and_then(|all| {
        for outgoing in all {
            if began.elapsed() >= BUDGET {
                break;
            }
            one(context, ledger, &outgoing, began, &mut done)?;
        }
        Ok(())
    });
    ledger.store().release_lease(&lease)?;
    outcome.map(|()| done)
}

fn one(
    context: &Context,
    ledger: &mut Ledger,
    outgoing: &Outgoing,
    began: Instant,
    done: &mut Sent,
) -> CliResult<()> {
    let notice = &outgoing.notice;
    let key = notice.key.clone();
    let route = context
        .config
        .notify
        .iter()
        .find(|r| r.name == notice.route);
    let (attempts, result) = match route {
        None => (
            outgoing.attempts,
            Err(SendError {
                text: format!("unship.toml has no [[notify]] `{}` any more", notice.route),
                again: Again::Never,
            }),
        ),
        // It is sent once, while it is so.
        Some(_) if notice.occasion == Occasion::Restoring => (
            outgoing.attempts,
            Err(SendError {
                text: "unship ended while it was being sent, and what it says is over".to_owned(),
                again: Again::Never,
            }),
        ),
        Some(route) if outgoing.delivery == Delivery::Sending && !route.dedupes() => (
            outgoing.attempts + 1,
            Err(SendError {
                text: format!(
                    "unship ended while it was being sent, so it may have arrived; {} cannot tell \
                     a second one from the first, and nobody is told twice",
                    route.kind()
                ),
                again: Again::Never,
            }),
        ),
        Some(route) => {
            ledger.append(&[Event::NoticeSending { key: key.clone() }])?;
            tried(route, notice, context, outgoing.attempts, began)
        }
    };
    let event = match result {
        Ok(()) => {
            done.sent.push(key.clone());
            Event::NoticeSent { key, attempts }
        }
        Err(SendError { text, again }) => {
            let given_up = again == Again::Never || attempts >= MOST_ATTEMPTS;
            let list = match given_up {
                true => &mut done.given_up,
                false => &mut done.failed,
            };
            list.push((key.clone(), text.clone()));
            Event::NoticeFailed {
                key,
                attempts,
                error: text,
                given_up,
            }
        }
    };
    ledger.append(&[event])?;
    Ok(())
}

/// Tries a few times, as long as there is time.
fn tried(
    route: &Route,
    notice: &Notice,
    context: &Context,
    before: u32,
    began: Instant,
) -> (u32, Result<(), SendError>) {
    let mut attempts = before;
    let mut pauses = PAUSES.iter();
    loop {
        attempts += 1;
        let result = channel::send(route, notice, &context.root);
        let soon = matches!(&result, Err(e) if e.again == Again::Soon);
        match pauses.next() {
            Some(pause) if soon && attempts < MOST_ATTEMPTS && began.elapsed() < BUDGET => {
                std::thread::sleep(*pause);
            }
            _ => return (attempts, result),
        }
    }
}
