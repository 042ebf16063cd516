//! What follows from what the ledger says: incidents are opened, people are told, levels escalate.
//!
//! It is a consumer of the log and no part of any operation: it looks at what the newest entries
//! say, so that it comes to the same whether it runs right after them or, because unship was
//! killed, with the next command. Nothing here can fail or hold up what was done.

use crate::cli::Global;
use crate::context::Context;
use crate::error::{CliResult, exit};
use crate::notify::compose::Story;
use crate::notify::escalate::{self, Step};
use crate::notify::outbox::{self, Sent};
use crate::scope;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use unship_core::check::Finding;
use unship_core::event::Event;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::incident::{Incident, Trigger, opened_by};
use unship_core::ledger::{Backend, BlobRef};
use unship_core::lineage::Lineage;
use unship_core::log::Ledger;
use unship_core::notice::Occasion;
use unship_core::release::{Operation, Release, Stage, Verdict};

/// What is older is history: nobody is woken by what was over before anybody could be told.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// So many releases are looked at. More do not end within one command and the next.
const NEWEST: usize = 10;

/// What follows from a command that may have changed something. It never fails, and says on standard
/// error whom it could not tell.
pub fn of_command(global: &Global) {
    let Ok(mut context) = Context::find(global) else {
        return;
    };
    after(&context);
    // A dbt job may have meant another environment than the one that is named; where that has its
    // ledger in a file, looking is cheap.
    let in_files: Vec<_> = context
        .config
        .envs
        .iter()
        .filter(|(name, env)| **name != context.env && env.has_ledger_file())
        .map(|(name, _)| name.clone())
        .collect();
    for env in in_files {
        if context.switch(&env).is_ok() {
            after(&context);
        }
    }
}

/// Opens, tells and sends. It never fails.
pub fn after(context: &Context) {
    if let Err(error) = settle(context)
        && error.code != exit::NOTHING
        && !context.config.notify.is_empty()
        && !context.json()
    {
        crate::say_aside!("unship: nobody was told: {}", error.message);
    }
}

/// The same, with what it came to.
pub fn settle(context: &Context) -> CliResult<(Vec<Step>, Sent)> {
    let mut ledger = context.read()?;
    open(&mut ledger, &context.env)?;
    let steps = match context.config.notify.is_empty() {
        true => Vec::new(),
        false => tell(context, &mut ledger)?,
    };
    let sent = outbox::deliver(context, &mut ledger)?;
    if !context.json() {
        for (key, why) in sent.failed.iter().chain(&sent.given_up) {
            crate::say_aside!("unship: could not tell {key}: {why}");
        }
    }
    Ok((steps, sent))
}

/// Opens the incidents that the newest releases give reason for.
pub fn open(ledger: &mut Ledger, env: &str) -> CliResult<()> {
    let now = Timestamp::now();
    let recent = |r: &Release| r.closed.is_some_and(|at| now.duration_since(at) < RECENT);
    let mut newest = ledger.history(|h| h.releases(env, None, NEWEST))?;
    newest.reverse();
    for release in newest.iter().filter(|r| recent(r)) {
        if release.operation.stage().is_some_and(|s| s.is_between()) {
            // What a rollback in stages leaves is left with its last stage.
            continue;
        }
        let taken = match (&release.operation, release.stage) {
            (Operation::Rollback { .. }, Stage::Published) => {
                ledger.history(|h| h.left_by(release))?
            }
            _ => None,
        };
        let about = match taken {
            Some(id) => ledger.history(|h| h.release(id))?,
            None => Some(release.clone()),
        };
        let Some(about) = about else { continue };
        // One that began earlier in what is taken away is what this rollback answers.
        let known = match taken {
            Some(_) => answered_by(ledger, env, release)?,
            None => ledger.history(|h| h.incident_of(about.id))?,
        };
        if known.is_some() || (taken.is_none() && about.verdict == Verdict::Good) {
            continue;
        }
        let (kept, findings) = findings_of(ledger, about.id)?;
        let trigger = Trigger {
            release: &about,
            rollback: taken.is_some().then_some(release),
            findings: &findings,
            kept,
        };
        if let Some(event) = opened_by(known.as_ref(), trigger) {
            ledger.append(&[event])?;
        }
    }
    for release in newest.iter().filter(|r| recent(r)) {
        ask_for_reviews(ledger, env, release)?;
    }
    Ok(())
}

/// What somebody did without what the policy asks for is to be looked at before the incident that it
/// belongs to is closed.
fn ask_for_reviews(ledger: &mut Ledger, env: &str, release: &Release) -> CliResult<()> {
    let Some(glass) = ledger.history(|h| h.broken_glass(release.id))? else {
        return Ok(());
    };
    let Some(incident) = answered_by(ledger, env, release)?.filter(|i| i.closed.is_none()) else {
        return Ok(());
    };
    let because = format!(
        "{} was made without what the policy asks for: {}",
        release.id, glass.reason
    );
    if incident
        .reviews
        .iter()
        .all(|review| review.because != because)
    {
        ledger.append(&[Event::ReviewAsked {
            incident: incident.id,
            because,
        }])?;
    }
    Ok(())
}

/// The incident that a rollback answers.
fn answered_by(ledger: &Ledger, env: &str, back: &Release) -> CliResult<Option<Incident>> {
    let left = ledger.history(|h| h.left_by(back))?;
    match (back.operation.target(), left) {
        (Some(to), Some(from)) => answered(ledger, env, back.id, to, from),
        _ => Ok(None),
    }
}

/// The incident that `back` answers by going from one release to an older one: of whichever release
/// it takes away.
pub fn answered(
    ledger: &Ledger,
    env: &str,
    back: ReleaseId,
    to: ReleaseId,
    from: ReleaseId,
) -> CliResult<Option<Incident>> {
    if let Some(known) = ledger.history(|h| h.incident_of(from))? {
        return Ok(Some(known));
    }
    let all = ledger.history(|h| h.incidents(env, NEWEST))?;
    let taken = |i: &Incident| {
        let harms = i.closed.is_none() && i.opening.reached_production;
        harms && to < i.release && i.release <= from
    };
    Ok(all
        .into_iter()
        .find(|i| i.operations.contains(&back) || taken(i)))
}

/// What the newest checks of a release found, and where that is kept.
pub fn findings_of(
    ledger: &Ledger,
    release: ReleaseId,
) -> CliResult<(Option<BlobRef>, Vec<Finding>)> {
    let places = ledger.history(|h| h.story(release))?;
    let entries = ledger.events_at(&places)?;
    let checked = entries
        .iter()
        .rev()
        .find(|(entry, _)| entry.event_type() == "checked");
    let kept: Option<BlobRef> = checked
        .and_then(|(entry, _)| entry.event["findings"].as_str())
        .and_then(|text| text.parse().ok());
    let findings = match &kept {
        Some(blob) => read_findings(ledger, blob)?,
        None => Vec::new(),
    };
    Ok((kept, findings))
}

/// Findings as they are kept. What a newer unship wrote otherwise is none here, and no reason to
/// stop.
pub fn read_findings(ledger: &Ledger, blob: &BlobRef) -> CliResult<Vec<Finding>> {
    let bytes = ledger.get_blob(&blob.0)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Writes down what is to be told about every incident that is open or was closed lately, and what
/// escalates by now.
fn tell(context: &Context, ledger: &mut Ledger) -> CliResult<Vec<Step>> {
    let now = Timestamp::now();
    let env = &context.env;
    let routes = &context.config.notify;
    let project = project(ledger)?;
    let mut steps = Vec::new();
    let mut incidents = ledger.history(|h| h.open_incidents(env))?;
    let newest = ledger.history(|h| h.incidents(env, NEWEST))?;
    incidents.extend(newest.into_iter().filter(|i| i.closed.is_some()));
    incidents.reverse();
    for incident in &incidents {
        let recent = |at: Timestamp| now.duration_since(at) < RECENT;
        let occasions = occasions(incident, recent);
        let escalates = context.config.escalation.is_some() && incident.closed.is_none();
        if occasions.is_empty() && !escalates {
            continue;
        }
        let Some(facts) = Facts::of(ledger, incident)? else {
            continue;
        };
        let story = facts.story(incident);
        for (occasion, turn) in occasions {
            outbox::queue(ledger, routes, &project, &story, occasion, &turn)?;
        }
        if let Some(escalation) = context.config.escalation.as_ref().filter(|_| escalates) {
            let new = escalate::pass(ledger, routes, escalation, &project, &story, now)?;
            steps.extend(new);
        }
    }
    Ok(steps)
}

/// What there is to be told about an incident by what it is now.
fn occasions(incident: &Incident, recent: impl Fn(Timestamp) -> bool) -> Vec<(Occasion, String)> {
    let mut out = Vec::new();
    if recent(incident.opened.at) {
        out.push((Occasion::Opened, String::new()));
    }
    if incident.acknowledged.as_ref().is_some_and(|s| recent(s.at)) {
        out.push((Occasion::Acknowledged, String::new()));
    }
    // It may be left, come back and be left again: each is told.
    if let (Some(at), true, Some(by)) = (
        incident.restored,
        incident.opening.reached_production,
        incident.operations.last(),
    ) && recent(at)
    {
        out.push((Occasion::Restored, by.to_string()));
    }
    if incident.closed.as_ref().is_some_and(|s| recent(s.at)) {
        out.push((Occasion::Closed, String::new()));
    }
    out
}

/// What tells this project's notices from another's: the beginning of its log.
pub fn project(ledger: &mut Ledger) -> CliResult<String> {
    let first = ledger.store().read_stored(1, 1)?;
    let hash = first.first().map(|e| e.check()).transpose()?;
    Ok(hash.map_or_else(
        || "empty".to_owned(),
        |entry| entry.hash.to_string().chars().take(12).collect(),
    ))
}

/// What a message about an incident is made of.
pub struct Facts {
    release: Release,
    good: Option<Release>,
    tables: Vec<String>,
    expected: Option<u64>,
}

impl Facts {
    /// Reads them; `None` where the release is not there.
    pub fn of(ledger: &Ledger, incident: &Incident) -> CliResult<Option<Self>> {
        let Some(release) = ledger.history(|h| h.release(incident.release))? else {
            return Ok(None);
        };
        let good = match good_of(ledger, incident, &release)? {
            Some(id) => ledger.history(|h| h.release(id))?,
            None => None,
        };
        let changed = changed_by(ledger, &release)?;
        let tables = in_lineage_order(ledger, release.id, &changed)?
            .iter()
            .map(|name| format!("{}.{}", name.schema, name.name))
            .collect();
        Ok(Some(Self {
            good,
            tables,
            expected: usual_restore(ledger, &release.env)?,
            release,
        }))
    }

    /// The same, with the incident that it is about.
    pub fn story<'a>(&'a self, incident: &'a Incident) -> Story<'a> {
        Story {
            incident,
            release: &self.release,
            good: self.good.as_ref(),
            tables: self.tables.clone(),
            expected: self.expected,
        }
    }
}

/// The release whose state production has instead of the bad one, or had before it.
pub fn good_of(
    ledger: &Ledger,
    incident: &Incident,
    release: &Release,
) -> CliResult<Option<ReleaseId>> {
    for id in incident.operations.iter().rev() {
        let back = ledger.history(|h| h.release(*id))?;
        if let Some(to) = back
            .and_then(|r| r.operation.target())
            .filter(|to| *to < release.id)
        {
            return Ok(Some(to));
        }
    }
    Ok(release.parent)
}

/// The relations whose version a release made.
pub fn changed_by(ledger: &Ledger, release: &Release) -> CliResult<BTreeSet<RelationName>> {
    let published = ledger.history(|h| h.published_map(release.id))?;
    let map = match published {
        Some(map) => map,
        None => ledger.history(|h| h.map(release.id))?.unwrap_or_default(),
    };
    Ok(map
        .into_iter()
        .filter(|(_, v)| v.id.release == release.id && v.id.drift == 0)
        .map(|(name, _)| name)
        .collect())
}

/// Relations in the order in which they are built, where a manifest says it; others come after.
pub fn in_lineage_order(
    ledger: &Ledger,
    release: ReleaseId,
    relations: &BTreeSet<RelationName>,
) -> CliResult<Vec<RelationName>> {
    let mut out: Vec<RelationName> = Vec::new();
    if let Some(manifest) = scope::manifest(ledger, release)? {
        let lineage = Lineage::new(manifest);
        let order = lineage.topological_order().unwrap_or_default();
        for id in order {
            let node = lineage.manifest().nodes.get(id);
            if let Some(name) = node.and_then(|n| n.relation.as_ref())
                && relations.contains(name)
                && !out.contains(name)
            {
                out.push(name.clone());
            }
        }
    }
    for name in relations {
        if !out.contains(name) {
            out.push(name.clone());
        }
    }
    Ok(out)
}

/// How long going back took in the median of the newest rollbacks, in milliseconds.
pub fn usual_restore(ledger: &Ledger, env: &str) -> CliResult<Option<u64>> {
    const SOME: usize = 200;
    let mut took: Vec<u64> = ledger
        .history(|h| h.releases(env, None, SOME))?
        .iter()
        .filter(|r| {
            matches!(
                r.operation,
                Operation::Rollback { .. } | Operation::Moment { .. }
            )
        })
        .filter(|r| r.stage == Stage::Published && r.operation.stage().is_none())
        .filter_map(|r| Some(r.closed?.duration_since(r.opened)))
        .filter_map(|took| u64::try_from(took.as_millis()).ok())
        .collect();
    took.sort_unstable();
    Ok(took.get(took.len() / 2).copied())
}
