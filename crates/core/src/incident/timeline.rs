//! A timeline that writes itself: what entries of the log say, as lines for a person.

use crate::event::{Event, StepRef};
use crate::incident::FollowUp;
use crate::ledger::Entry;
use crate::operate::count;
use crate::plan::{Plan, PlanId};
use crate::release::Verdict;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where in the log it stands.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What happened, a sentence without its full stop.
    pub what: String,
    /// How long it took, in milliseconds, where the log says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
}

/// The lines that entries make. `plans` are the plans whose steps are among them, so that a step
/// is told by what it does and not by its number.
pub fn timeline(entries: &[(Entry, Option<Event>)], plans: &BTreeMap<PlanId, Plan>) -> Vec<Line> {
    let mut started = BTreeMap::new();
    let mut lines = Vec::new();
    for (entry, event) in entries {
        let mut took = None;
        if let Some(Event::StepStarted(step)) = event {
            started.insert((step.plan.clone(), step.step), entry.at);
        }
        if let Some(Event::StepSucceeded(step)) = event {
            took = started
                .get(&(step.plan.clone(), step.step))
                .map(|at| milliseconds(entry.at.duration_since(*at)));
        }
        if let Some(Event::JobEnded { end, .. }) = event {
            took = Some(end.milliseconds);
        }
        let what = match event {
            Some(event) => known(event, plans).or_else(|| by_its_fields(entry)),
            None => by_its_fields(entry),
        };
        if let Some(what) = what {
            lines.push(Line {
                seq: entry.seq,
                at: entry.at,
                actor: entry.actor.clone(),
                what,
                milliseconds: took,
            });
        }
    }
    lines
}

fn milliseconds(took: SignedDuration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(0)
}

fn known(event: &Event, plans: &BTreeMap<PlanId, Plan>) -> Option<String> {
    let step = |step: &StepRef| {
        plans
            .get(&step.plan)
            .and_then(|plan| plan.steps.iter().find(|s| s.id == step.step))
            .map_or_else(|| format!("step {}", step.step), |s| s.explain.clone())
    };
    Some(match event {
        Event::ReleaseOpened {
            release,
            operation,
            code,
            ..
        } => {
            let to = operation
                .target()
                .map_or_else(String::new, |to| format!(" to {to}"));
            let code = code.as_ref().map_or_else(String::new, |code| {
                let commit = code.commit.get(..8).unwrap_or(&code.commit);
                format!(" of commit {commit} ({})", code.subject)
            });
            let stage = operation
                .stage()
                .map_or_else(String::new, |stage| format!(", {stage}"));
            format!("{release} begins: {}{to}{stage}{code}", operation.word())
        }
        Event::PointTaken { release, .. } => {
            format!("a restore point of {release} was taken and proved readable")
        }
        Event::JobEnded { release, end } => match (end.exit_code, end.signal) {
            (Some(0), _) => format!("the job of {release} succeeded"),
            (Some(code), _) => format!("the job of {release} failed with exit code {code}"),
            (None, Some(signal)) => format!("the job of {release} was ended by signal {signal}"),
            (None, None) => format!("the job of {release} ended"),
        },
        Event::PlanMade { release, plan, .. } => {
            format!("plan {} was made for {release}", plan.short())
        }
        Event::StepSucceeded(done) => format!("done: {}", step(done)),
        Event::StepFailed { step: which, error } => format!("failed: {}: {error}", step(which)),
        Event::UndoFinished(done) => format!("taken back: {}", step(done)),
        Event::UndoFailed { step: which, error } => {
            format!("could not be taken back: {}: {error}", step(which))
        }
        Event::ReleasePublished {
            release, changes, ..
        } => format!(
            "{release} became production; {} changed",
            count(changes.len(), "relation")
        ),
        Event::ReleaseAbandoned {
            release, reason, ..
        } => format!("{release} was not published: {reason}"),
        Event::ReleaseMarked {
            release,
            verdict,
            reason,
        } => {
            let word = match verdict {
                Verdict::Good => "good",
                Verdict::Bad => "bad",
            };
            format!("{release} is thought {word}: {reason}")
        }
        Event::Verified {
            release,
            relations,
            differences,
        } if differences.is_empty() => format!(
            "{} compared with {release} row by row: equal",
            count(*relations, "relation")
        ),
        Event::Verified {
            release,
            differences,
            ..
        } => format!(
            "compared with {release} row by row: {} not equal",
            count(differences.len(), "relation")
        ),
        Event::StageChecked {
            number,
            release: Some(release),
            surprises,
        } => match surprises.as_slice() {
            [] => format!("stage {number}, {release}, is as it should be"),
            some => format!("held at stage {number}, {release}: {}", some.join("; ")),
        },
        Event::IncidentOpened { opening, .. } => format!(
            "an incident was opened ({}): {}",
            opening.severity, opening.summary
        ),
        Event::IncidentNoted { note, .. } => format!("noted: {note}"),
        Event::IncidentAcknowledged { .. } => "acknowledged: somebody sees to it".to_owned(),
        Event::ReviewAsked { because, .. } => format!("a review is needed: {because}"),
        Event::IncidentReviewed { review, .. } => format!("reviewed: {review}"),
        Event::IncidentClosed { closing, .. } => {
            let follows = match &closing.follow_up {
                FollowUp::Items(items) => count(items.len(), "action item"),
                FollowUp::NoneBecause(why) => format!("no action item, because {why}"),
            };
            format!("closed: {}; {follows}", closing.root_cause)
        }
        Event::NoticeQueued { notice } => format!(
            "to be told over `{}`: {}",
            notice.route, notice.message.title
        ),
        Event::NoticeSent { key, .. } => format!("told: {key}"),
        Event::NoticeFailed { key, error, .. } => format!("could not be told: {key}: {error}"),
        _ => return None,
    })
}

/// Entries of checks and decisions, by what is in them: they are told here by a sentence that they
/// carry.
fn by_its_fields(entry: &Entry) -> Option<String> {
    let event = &entry.event;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let release = text(&event["release"]).unwrap_or_default();
    Some(match entry.event_type() {
        "checked" => {
            let tally = &event["tally"];
            let n = |value: &Value| value.as_u64().unwrap_or(0);
            let failed: u64 = tally["failed"]
                .as_object()
                .map_or(0, |by| by.values().map(n).sum());
            format!(
                "checks looked at {release}: {failed} failed, {} passed, {} could not tell",
                n(&tally["passed"]),
                n(&tally["unknown"])
            )
        }
        "decided" => {
            let because = event["decision"]["because"].as_array();
            let why = because.and_then(|all| all.first()).and_then(text)?;
            format!("decided about {release}: {why}")
        }
        "rolled_back_by_policy" => format!(
            "{release} is rolled back by the rule `{}`",
            text(&event["rule"])?
        ),
        "approval_asked" => format!("approval asked for plan {}", short(&text(&event["plan"])?)),
        "approved" => {
            let statement = &event["statement"];
            let what = text(&statement["subject"]["plan"]).map_or_else(
                || "a path".to_owned(),
                |plan| format!("plan {}", short(&plan)),
            );
            format!("{} approved {what}", text(&statement["signer"])?)
        }
        "break_glass" => format!("went on without approval: {}", text(&event["reason"])?),
        "quarantined" => format!(
            "commit {} must not run again as it is",
            short(&text(&event["commit"])?)
        ),
        "quarantine_lifted" => format!(
            "commit {} may run again: {}",
            short(&text(&event["commit"])?),
            text(&event["reason"])?
        ),
        _ => return None,
    })
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
