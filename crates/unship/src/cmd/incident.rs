//! `unship incident`

use crate::aftermath;
use crate::cli::{Global, Incident as Command, IncidentClose, IncidentList};
use crate::compare::{self, First};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit};
use crate::refs;
use crate::render::json;
use crate::render::text::{self, BAD, BOLD, DIM, GOOD, WARN, paint};
use serde::Serialize;
use std::collections::BTreeMap;
use unship_core::event::Event;
use unship_core::incident::{ActionItem, Closing, FollowUp, Incident, Line, NotClosed, timeline};
use unship_core::log::Ledger;
use unship_core::plan::{Plan, PlanId};

#[derive(Serialize)]
struct List<'a> {
    env: &'a str,
    incidents: &'a [Incident],
}

#[derive(Serialize)]
struct Shown<'a> {
    incident: &'a Incident,
    timeline: &'a [Line],
}

/// Carries one of them out.
pub fn run(global: &Global, command: &Command) -> CliResult {
    let context = Context::find(global)?;
    let mut ledger = context.read()?;
    match command {
        Command::List(args) => list(&context, &ledger, args),
        Command::Show(args) => {
            let incident = refs::incident(&ledger, args.incident.as_deref())?;
            show(&context, &ledger, &incident)
        }
        Command::Ack(args) => {
            let incident = refs::incident(&ledger, args.incident.as_deref())?;
            let id = incident.id;
            if let Some(stamp) = &incident.acknowledged {
                return Err(CliError::new(
                    exit::NOTHING,
                    format!("{id} was acknowledged by {}", stamp.by),
                ));
            }
            open(&incident)?;
            ledger.append(&[Event::IncidentAcknowledged { incident: id }])?;
            said(global, &incident, "is yours; escalation stops");
            aftermath::after(&context);
            Ok(exit::OK)
        }
        Command::Note(args) => {
            let incident = refs::incident(&ledger, Some(&args.incident))?;
            ledger.append(&[Event::IncidentNoted {
                incident: incident.id,
                note: given(&args.text, "a note")?,
            }])?;
            said(global, &incident, "has your note");
            Ok(exit::OK)
        }
        Command::Review(args) => {
            let incident = refs::incident(&ledger, Some(&args.incident))?;
            if incident.reviews.iter().all(|r| r.done.is_some()) {
                return Err(CliError::new(
                    exit::NOTHING,
                    format!("nothing of {} waits for a review", incident.id),
                ));
            }
            ledger.append(&[Event::IncidentReviewed {
                incident: incident.id,
                review: given(&args.text, "a review")?,
            }])?;
            said(global, &incident, "is reviewed");
            Ok(exit::OK)
        }
        Command::Close(args) => {
            let incident = refs::incident(&ledger, Some(&args.incident))?;
            let closing = closing(args)?;
            incident.may_close(&closing).map_err(not_closed)?;
            ledger.append(&[Event::IncidentClosed {
                incident: incident.id,
                closing: Box::new(closing),
            }])?;
            said(global, &incident, "is closed");
            aftermath::after(&context);
            Ok(exit::OK)
        }
    }
}

fn said(global: &Global, incident: &Incident, what: &str) {
    if !global.json {
        crate::say!("{} {what}", incident.id);
    }
}

fn open(incident: &Incident) -> CliResult<()> {
    match incident.closed {
        Some(_) => Err(not_closed(NotClosed::Already(incident.id))),
        None => Ok(()),
    }
}

fn given(text: &str, what: &str) -> CliResult<String> {
    match text.trim() {
        "" => Err(CliError::usage(format!("{what} needs a text"))),
        text => Ok(text.to_owned()),
    }
}

fn not_closed(error: NotClosed) -> CliError {
    let text = error.to_string();
    match error {
        NotClosed::Already(_) => CliError::new(exit::NOTHING, text),
        NotClosed::NoReview { incident, .. } => CliError::new(exit::REFUSED, text).hint(format!(
            "`unship incident review {incident} TEXT` says what a review came to"
        )),
        NotClosed::NoRootCause => {
            CliError::usage(text).hint("`--root-cause` says it in a sentence")
        }
        NotClosed::NoFollowUp | NotClosed::EmptyItem => CliError::usage(text).hint(
            "`--action OWNER:DATE:TEXT`, such as ada:2026-12-01:\"test the join\"; or \
             `--none-because TEXT`",
        ),
    }
}

fn closing(args: &IncidentClose) -> CliResult<Closing> {
    let follow_up = match &args.none_because {
        Some(why) => FollowUp::NoneBecause(why.clone()),
        None => FollowUp::Items(
            args.action
                .iter()
                .map(|t| item(t))
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(Closing {
        root_cause: args.root_cause.clone(),
        prevention: args.prevention.clone(),
        follow_up,
    })
}

fn item(text: &str) -> CliResult<ActionItem> {
    let mut parts = text.splitn(3, ':');
    let wrong = |why: &str| {
        CliError::usage(format!("--action {text:?} {why}"))
            .hint("write it like ada:2026-12-01:\"test the join\"")
    };
    let (Some(owner), Some(due), Some(what)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong("is not OWNER:DATE:TEXT"));
    };
    Ok(ActionItem {
        owner: owner.trim().to_owned(),
        due: due
            .trim()
            .parse()
            .map_err(|_| wrong("has a date that is none"))?,
        what: what.trim().to_owned(),
    })
}

fn list(context: &Context, ledger: &Ledger, args: &IncidentList) -> CliResult {
    let env = &context.env;
    let incidents = match args.all {
        true => ledger.history(|h| h.incidents(env, usize::MAX))?,
        false => ledger.history(|h| h.open_incidents(env))?,
    };
    if context.json() {
        let list = List {
            env,
            incidents: &incidents,
        };
        json("unship.incidents/1", &list)?;
        return Ok(exit::OK);
    }
    if incidents.is_empty() {
        crate::say!("no incident is open in {env}");
        return Ok(exit::OK);
    }
    let mut table = text::table(["incident", "opened", "severity", "state", "release", "what"]);
    for incident in &incidents {
        table.add_row([
            paint(BOLD, incident.id),
            text::moment(incident.opened.at),
            incident.opening.severity.to_string(),
            state(incident),
            incident.release.to_string(),
            incident.opening.summary.clone(),
        ]);
    }
    text::print_table(&table);
    Ok(exit::OK)
}

fn state(incident: &Incident) -> String {
    let word = incident.state();
    match word {
        "open" => paint(BAD, word),
        "acknowledged" => paint(WARN, word),
        "restored" => paint(GOOD, word),
        _ => word.to_owned(),
    }
}

/// An incident's timeline: the entries of its release, of the operations that answered it, and its
/// own.
pub fn lines(ledger: &Ledger, incident: &Incident) -> CliResult<Vec<Line>> {
    let mut places = ledger.history(|h| h.incident_story(incident.id))?;
    for release in std::iter::once(&incident.release).chain(&incident.operations) {
        places.extend(ledger.history(|h| h.story(*release))?);
    }
    places.sort_unstable();
    places.dedup();
    let entries = ledger.events_at(&places)?;
    let mut plans: BTreeMap<PlanId, Plan> = BTreeMap::new();
    for (_, event) in &entries {
        if let Some(Event::PlanMade { plan, blob, .. }) = event
            && let Ok(parsed) = Plan::parse(&ledger.get_blob(&blob.0)?)
        {
            plans.insert(plan.clone(), parsed);
        }
    }
    Ok(timeline(&entries, &plans))
}

fn show(context: &Context, ledger: &Ledger, incident: &Incident) -> CliResult {
    let lines = lines(ledger, incident)?;
    if context.json() {
        let shown = Shown {
            incident,
            timeline: &lines,
        };
        json("unship.incident/1", &shown)?;
        return Ok(exit::OK);
    }
    let opening = &incident.opening;
    crate::say!("{} {}", paint(BOLD, incident.id), state(incident));
    line("what", &opening.summary);
    line("severity", opening.severity);
    line("cause", opening.cause.words());
    line("opened", stamp(&incident.opened));
    if let Some(acknowledged) = &incident.acknowledged {
        line("seen to", stamp(acknowledged));
    }
    if let (Some(at), true) = (incident.restored, opening.reached_production) {
        line("restored", text::moment(at));
    }
    for review in &incident.reviews {
        match &review.came_to {
            Some(text) => line("reviewed", text),
            None => line("review", format!("needed: {}", review.because)),
        }
    }
    if let (Some(closed), Some(closing)) = (&incident.closed, &incident.closing) {
        line("closed", stamp(closed));
        line("root", &closing.root_cause);
        if let Some(prevention) = &closing.prevention {
            line("prevent", prevention);
        }
        match &closing.follow_up {
            FollowUp::Items(items) => {
                for item in items {
                    line(
                        "todo",
                        format!("{} ({}, {})", item.what, item.owner, item.due),
                    );
                }
            }
            FollowUp::NoneBecause(why) => line("todo", format!("nothing, because {why}")),
        }
    }
    if let Some(first) = began(context, ledger, incident)? {
        line(
            "began in",
            format!("{} (probably: {})", first.relation, first.because),
        );
    }
    crate::say!("\n{}", paint(BOLD, "Timeline"));
    for entry in &lines {
        let took = entry.milliseconds.map_or_else(String::new, |ms| {
            let took = jiff::SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
            paint(DIM, format!(" ({})", text::span(took)))
        });
        crate::say!(
            "  {}  {}{took}",
            paint(DIM, text::moment(entry.at)),
            one_line(&entry.what)
        );
    }
    if incident.closed.is_none() {
        crate::say!(
            "\n`unship report {}` has what differed, the rows, and how to reproduce it.",
            incident.id
        );
    }
    Ok(exit::OK)
}

/// Where it probably began, by what the ledger knows.
fn began(context: &Context, ledger: &Ledger, incident: &Incident) -> CliResult<Option<First>> {
    let Some(bad) = ledger.history(|h| h.release(incident.release))? else {
        return Ok(None);
    };
    let good = match aftermath::good_of(ledger, incident, &bad)? {
        Some(id) => ledger.history(|h| h.release(id))?,
        None => None,
    };
    let Some(good) = good else { return Ok(None) };
    let (_, findings) = aftermath::findings_of(ledger, bad.id)?;
    let (comparison, _) = compare::releases(context, ledger, &good, &bad, &findings)?;
    Ok(comparison.first)
}

/// What somebody else wrote stays in its line, and moves no cursor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn stamp(stamp: &unship_core::incident::Stamp) -> String {
    format!("{} by {}", text::moment(stamp.at), stamp.by)
}

fn line(label: &str, text: impl std::fmt::Display) {
    crate::say!("  {label:<10}{}", one_line(&text.to_string()));
}
