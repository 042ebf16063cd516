//! Telling people while production is being restored.
//!
//! What is told is written down before the first step; it is sent beside the steps, by threads that
//! know neither the ledger nor the warehouse, and what came of it is written down after the last
//! one. No step waits for a mail server, and none fails because of one.

use super::channel::{self, SendError};
use super::outbox;
use crate::aftermath::{self, Facts};
use crate::context::{Context, Workbench, actor};
use crate::error::CliResult;
use crate::renewal::Renewal;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use unship_core::event::Event;
use unship_core::ledger::{Backend, Holder};
use unship_core::log::Ledger;
use unship_core::notice::{Notice, Occasion};
use unship_core::plan::Plan;

/// How long a command that has done its work waits for what is still being sent.
const GRACE: Duration = Duration::from_secs(5);

/// What is being told meanwhile.
pub struct Telling {
    /// Those whose end is not known yet.
    waiting: Vec<(String, Occasion)>,
    ended: Receiver<(String, Result<(), SendError>)>,
    lease: Renewal,
}

/// Begins to tell that production is being restored, where the plan answers an incident. Whatever
/// keeps it from that is no reason not to restore: the next command tells what is left.
pub fn begin(context: &Context, bench: &mut Workbench, plan: &Plan) -> Option<Telling> {
    match context.config.notify.is_empty() {
        true => None,
        false => try_begin(context, &mut bench.ledger, plan).unwrap_or_default(),
    }
}

fn try_begin(context: &Context, ledger: &mut Ledger, plan: &Plan) -> CliResult<Option<Telling>> {
    aftermath::open(ledger, &context.env)?;
    let Some(to) = plan.operation.target() else {
        return Ok(None);
    };
    let incident = aftermath::answered(ledger, &context.env, plan.release, to, plan.from)?;
    let harms = |i: &unship_core::incident::Incident| {
        i.closed.is_none() && i.restored.is_none() && i.opening.reached_production
    };
    let Some(incident) = incident.filter(harms) else {
        return Ok(None);
    };
    let Some(facts) = Facts::of(ledger, &incident)? else {
        return Ok(None);
    };
    let project = aftermath::project(ledger)?;
    let mut story = facts.story(&incident);
    story.expected = u64::try_from(plan.expected().as_millis()).ok();
    let restored_to = ledger.history(|h| h.release(to))?;
    story.good = restored_to.as_ref().or(story.good);

    // An attempt that is made again, because the first was cut short, is no other occasion.
    let turn = plan.from.to_string();
    let mut batches: Vec<Vec<Notice>> = Vec::new();
    let mut events = Vec::new();
    for route in &context.config.notify {
        let mut batch = Vec::new();
        // That it began is told first, even if nobody came to tell it before.
        for (occasion, turn) in [(Occasion::Opened, ""), (Occasion::Restoring, &*turn)] {
            if !route.takes(&incident.env, incident.opening.severity, occasion) {
                continue;
            }
            let key = outbox::key(&project, &incident, occasion, turn, &route.name);
            if let Some(Event::NoticeQueued { notice }) =
                outbox::notice(ledger, route, &story, occasion, key)?
            {
                batch.push((*notice).clone());
                let key = notice.key.clone();
                events.push(Event::NoticeQueued { notice });
                events.push(Event::NoticeSending { key });
            }
        }
        batches.push(batch);
    }
    if events.is_empty() {
        return Ok(None);
    }
    // Whoever sends alone need not ask what became of what another one sends.
    let holder = Holder::current(actor(), "unship notify");
    let name = outbox::lease_name(&context.env);
    let lease = ledger.store().take_lease(&name, &holder, outbox::LEASE)?;
    let lease = context.renewing(lease)?;
    ledger.append(&events)?;

    let (end, ended) = mpsc::channel();
    let mut waiting = Vec::new();
    for (route, batch) in context.config.notify.iter().zip(batches) {
        if batch.is_empty() {
            continue;
        }
        waiting.extend(batch.iter().map(|n| (n.key.clone(), n.occasion)));
        let (route, root, end) = (route.clone(), context.root.clone(), end.clone());
        std::thread::spawn(move || {
            for notice in batch {
                let result = channel::send(&route, &notice, &root);
                // Whoever waited may have gone.
                let _ = end.send((notice.key, result));
            }
        });
    }
    Ok(Some(Telling {
        waiting,
        ended,
        lease,
    }))
}

impl Telling {
    /// Writes down what came of it. What has no end by now is in doubt, and the next command's.
    pub fn end(mut self, ledger: &mut Ledger) {
        let until = Instant::now() + GRACE;
        let mut events = Vec::new();
        while !self.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((key, result)) = self.ended.recv_timeout(left) else {
                break;
            };
            let Some(at) = self.waiting.iter().position(|(known, _)| *known == key) else {
                continue;
            };
            let (_, occasion) = self.waiting.swap_remove(at);
            events.push(match result {
                Ok(()) => Event::NoticeSent { key, attempts: 1 },
                // By the time of another try it is no longer so.
                Err(error) => Event::NoticeFailed {
                    key,
                    attempts: 1,
                    given_up: occasion == Occasion::Restoring || error.is_final(),
                    error: error.text,
                },
            });
        }
        let lease = self.lease.stop();
        // What is not written down is in doubt for whoever sends next, and told by no second one
        // that cannot tell it from the first.
        if !events.is_empty() {
            let _ = ledger.append(&events);
        }
        let _ = ledger.store().release_lease(&lease);
    }
}
