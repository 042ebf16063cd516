//! What the policy does by itself: a release that checks found something in is decided on, and taken
//! back without being asked where the policy says so.
//!
//! Each part is in the log before the next begins, so that whoever comes after a killed process goes
//! on where it stopped: what was checked and not decided is decided, what was decided and not done is
//! done, and a rollback that had begun is finished.

use crate::cmd::verify;
use crate::context::{Context, Workbench};
use crate::deciding;
use crate::error::{CliError, CliResult};
use crate::loader;
use crate::notify::live;
use crate::render::text::{self, BAD, BOLD, GOOD, paint};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use unship_core::check::{Finding, gate};
use unship_core::decide::{Action, Decision};
use unship_core::event::Event;
use unship_core::execute::{Notice, Watch};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::log::Ledger;
use unship_core::operate::{Ask, Checks, Proof, count};
use unship_core::plan::Plan;
use unship_core::release::{Operation, Release, Verdict};

/// What was decided about a release, and done.
#[derive(Debug, Serialize)]
pub struct Acted {
    /// The release.
    pub release: ReleaseId,
    /// What was decided.
    pub decision: Decision,
    /// The rollback, if there was one.
    pub returned: Option<Returned>,
}

/// A rollback that nobody asked for but the policy.
#[derive(Debug, Serialize)]
pub struct Returned {
    /// The release that it made.
    pub release: ReleaseId,
    /// Whose state it brought back.
    pub to: ReleaseId,
    /// How long it took until it was production.
    pub milliseconds: u64,
    /// What others wrote to what was replaced, and is only in the retained version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_aside: BTreeMap<RelationName, String>,
    /// How many relations were proved equal, row by row, to what was recorded of them.
    pub proved: usize,
}

/// Decides about a release that is production, by what checks found, and does what is to be done now.
/// `None`: nothing failed, and there is nothing to decide.
///
/// # Errors
/// When a rollback that the policy calls for fails; the error says what production is.
pub fn on(
    context: &Context,
    bench: &mut Workbench,
    release: ReleaseId,
    findings: &[Finding],
) -> CliResult<Option<Acted>> {
    if gate::failed(findings).next().is_none() {
        return Ok(None);
    }
    let head = known(&bench.ledger, release)?;
    let decision = deciding::decide_on(context, bench, &head, findings)?;
    if decision.action.is_automatic() && head.verdict == Verdict::Good {
        // What is taken back without being asked is bad until a person says otherwise.
        let reason = decision.because.first().cloned().unwrap_or_default();
        bench.ledger.append(&[marked(release, reason)])?;
    }
    let returned = match decision.action {
        Action::RollBackNow => Some(go_back(context, bench, release, &decision)?),
        _ => None,
    };
    Ok(Some(Acted {
        release,
        decision,
        returned,
    }))
}

/// Something that an earlier process left undone, or that the passing of time calls for.
#[derive(Debug)]
pub enum Due {
    /// It was interrupted: a run whose checks had begun, or a rollback that the policy began.
    Finish(ReleaseId),
    /// Checks failed in the run itself, and nothing was decided.
    Decide(ReleaseId, Vec<Finding>),
    /// It was decided to roll back, and it was not done or could not be done before.
    Return(ReleaseId, Vec<Finding>),
}

/// What is due now, if anything. Only the ledger is read.
///
/// # Errors
/// The ledger's.
pub fn next(ledger: &Ledger, now: Timestamp) -> CliResult<Option<Due>> {
    let env = ledger.env();
    if let Some(open) = ledger.history(|h| h.open(env))? {
        let head = known(ledger, open.release)?;
        // What else was interrupted is for a person to finish.
        let ours = match (&head.operation, head.parent) {
            (Operation::Run { aside, .. }, _) => {
                let worked = !aside && head.end.is_some();
                worked || ledger.history(|h| h.checked(head.id))?.is_some()
            }
            (Operation::Rollback { .. }, Some(from)) => begun_by_policy(ledger, from, head.id)?,
            _ => false,
        };
        return Ok(ours.then_some(Due::Finish(open.release)));
    }
    let Some(live) = ledger.history(|h| h.live(env))? else {
        return Ok(None);
    };
    let head = known(ledger, live.release)?;
    let Some(findings) = deciding::findings_of(ledger, head.id)? else {
        return Ok(None);
    };
    let bad = match head.verdict {
        Verdict::Bad => true,
        // It failed checks that hold nothing, in the run that made it, and the process died before
        // it could be decided. What a later look finds is for the person who looked; and where there
        // is a reason, somebody has judged it since.
        Verdict::Good => {
            let checked = ledger.history(|h| h.checked(head.id))?;
            let by_its_run = checked.zip(head.closed).is_some_and(|(c, at)| c.at <= at);
            by_its_run && head.reason.is_none()
        }
    };
    if !bad || gate::failed(&findings).next().is_none() {
        return Ok(None);
    }
    let Some(before) = ledger.history(|h| h.decided(head.id))? else {
        return Ok(Some(Due::Decide(head.id, findings)));
    };
    let before = before.decision;
    let is_due = match before.action {
        Action::RollBackNow => true,
        Action::RollBackWithin => before.deadline.is_some_and(|deadline| deadline <= now),
        Action::Nothing | Action::Watch | Action::Propose => false,
    };
    Ok(is_due.then_some(Due::Return(head.id, findings)))
}

/// Does all that is due.
///
/// # Errors
/// As for [`on`].
pub fn do_due(
    context: &Context,
    bench: &mut Workbench,
    checks: &Checks,
) -> CliResult<Option<Acted>> {
    let mut last = None;
    while let Some(due) = next(&bench.ledger, Timestamp::now())? {
        match due {
            Due::Finish(release) => {
                let text = format!("finishing {release}, which was interrupted");
                bench.terminal.notice(Notice::Note(&text));
                bench.session().resume(None, Some(checks))?;
            }
            Due::Decide(release, findings) => last = on(context, bench, release, &findings)?,
            Due::Return(release, findings) => {
                // The brakes of now count, not those of then.
                let head = known(&bench.ledger, release)?;
                let decision = deciding::decide_on(context, bench, &head, &findings)?;
                let returned = match decision.action.is_automatic() {
                    true => Some(go_back(context, bench, release, &decision)?),
                    false => None,
                };
                last = Some(Acted {
                    release,
                    decision,
                    returned,
                });
            }
        }
    }
    Ok(last)
}

/// Whether an unfinished rollback is the one that the policy began: the first after it said that it
/// takes the release back.
fn begun_by_policy(ledger: &Ledger, release: ReleaseId, unfinished: ReleaseId) -> CliResult<bool> {
    let story = ledger.history(|h| h.story(release))?;
    let said = ledger.events_at(&story)?;
    let said = said
        .iter()
        .rev()
        .find(|(_, event)| matches!(event, Some(Event::RolledBackByPolicy { .. })));
    let Some(mut from) = said.map(|(entry, _)| entry.seq) else {
        return Ok(false);
    };
    loop {
        let page = ledger.events_from(from, 100)?;
        let Some((last, _)) = page.last() else {
            return Ok(false);
        };
        from = last.seq + 1;
        let opened = page.into_iter().find_map(|(entry, event)| match event {
            Some(Event::ReleaseOpened {
                release,
                operation: Operation::Rollback { .. },
                ..
            }) if entry.env == ledger.env() => Some(release),
            _ => None,
        });
        if let Some(opened) = opened {
            return Ok(opened == unfinished);
        }
    }
}

fn go_back(
    context: &Context,
    bench: &mut Workbench,
    release: ReleaseId,
    decision: &Decision,
) -> CliResult<Returned> {
    let rule = decision.rule.clone().unwrap_or_default();
    let text = format!("the rule `{rule}` takes {release} back");
    bench.terminal.notice(Notice::Note(&text));
    let mut session = bench.session();
    session.engine.freeze().map_err(CliError::from)?;
    let ask = Ask::Rollback {
        to: decision.back_to,
        select: None,
    };
    let mut plan = session.plan(&ask)?;
    let known = plan.notes.len();
    loader::tell(&context.config, session.ledger, &mut plan)?;
    for note in plan.notes.iter().skip(known) {
        session.watch.notice(Notice::Note(note));
    }
    let to = plan.operation.target().unwrap_or(plan.from);
    session
        .ledger
        .append(&[Event::RolledBackByPolicy { release, rule }])?;
    let telling = live::begin(context, bench, &plan);
    let returned = carry_out(context, bench, plan, to);
    if let Some(telling) = telling {
        telling.end(&mut bench.ledger);
    }
    returned
}

fn carry_out(
    context: &Context,
    bench: &mut Workbench,
    plan: Plan,
    to: ReleaseId,
) -> CliResult<Returned> {
    let started = Instant::now();
    // Nobody is there to be asked: what others wrote stays in the retained version, and is named.
    let set_aside = plan.impact.set_aside.clone();
    for (name, what) in &set_aside {
        let text = format!("{name}, set aside in {}: {what}", plan.from);
        bench.terminal.notice(Notice::Note(&text));
    }
    let made = bench.session().apply(plan, true)?.release;
    let took = started.elapsed();
    let proof: Proof = verify::prove(bench, made)?;
    verify::report(&proof, true).map_err(|e| context.told(e))?;
    Ok(Returned {
        release: made,
        to,
        milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        set_aside,
        proved: proof.equal,
    })
}

/// What was decided and done, in words.
pub fn tell(acted: &Acted) {
    let decision = &acted.decision;
    match &acted.returned {
        Some(returned) => {
            let took = i64::try_from(returned.milliseconds).unwrap_or(i64::MAX);
            crate::say!(
                "{} {} brings back {} in {}: {} equal to what was recorded, row by row",
                paint(GOOD, "rolled back:"),
                paint(BOLD, returned.release),
                returned.to,
                text::span(SignedDuration::from_millis(took)),
                count(returned.proved, "relation"),
            );
        }
        None => {
            let word = paint(BAD, "decided:");
            crate::say!("{word} {}", decision.action.words());
            if let Some(deadline) = decision.deadline {
                crate::say!(
                    "  at {}, by `unship policy act` or the next `unship run`; `unship policy keep` \
                     keeps {}",
                    text::moment(deadline),
                    acted.release,
                );
            }
        }
    }
    for line in &decision.because {
        crate::say!("  {line}");
    }
    crate::say!(
        "  `unship policy explain {}` compares what can be done",
        acted.release
    );
}

fn known(ledger: &Ledger, release: ReleaseId) -> CliResult<Release> {
    let head = ledger.history(|h| h.release(release))?;
    head.ok_or_else(|| CliError::failed(format!("the ledger has no {release}")))
}

fn marked(release: ReleaseId, reason: String) -> Event {
    Event::ReleaseMarked {
        release,
        verdict: Verdict::Bad,
        reason,
    }
}
