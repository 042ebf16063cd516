//! What is said, to whom: the same facts in the words of those who read them.

use crate::render::text;
use jiff::SignedDuration;
use unship_core::check::Severity;
use unship_core::incident::{FollowUp, Incident};
use unship_core::notice::{Audience, Message, Occasion};
use unship_core::operate::count;
use unship_core::release::Release;

/// So many tables are named; a chat is no catalog.
const MOST_TABLES: usize = 20;

/// What is known of an incident when something about it is told.
#[derive(Debug, Clone)]
pub struct Story<'a> {
    /// The incident.
    pub incident: &'a Incident,
    /// The release that it is about.
    pub release: &'a Release,
    /// The release whose state production has, or goes back to.
    pub good: Option<&'a Release>,
    /// The relations that the release changed, what comes first in lineage first.
    pub tables: Vec<String>,
    /// How long going back took in the median of earlier times, in milliseconds.
    pub expected: Option<u64>,
}

/// The message about an incident.
pub fn message(story: &Story<'_>, audience: Audience, occasion: Occasion) -> Message {
    let incident = story.incident;
    Message {
        title: title(story, occasion),
        happened: happened(story, audience),
        tables: tables(story),
        since: story.release.closed,
        doing: doing(story, occasion),
        expected_milliseconds: match occasion {
            Occasion::Restored | Occasion::Closed => None,
            _ if incident.restored.is_some() => None,
            _ => story.expected,
        },
        gap: gap(story),
        todo: todo(story, audience, occasion),
    }
}

fn title(story: &Story<'_>, occasion: Occasion) -> String {
    let incident = story.incident;
    let what = match occasion {
        Occasion::Opened => match incident.opening.reached_production {
            true => "bad data was published",
            false => "a release was stopped before it was published",
        },
        Occasion::Restoring => "production is being restored",
        Occasion::Restored => "production is restored",
        Occasion::Acknowledged => "somebody sees to it",
        Occasion::Escalated => "nobody sees to it yet",
        Occasion::Closed => "closed",
        Occasion::Test => "a trial",
    };
    format!(
        "[{}] {} {}: {what}",
        incident.env, incident.id, incident.opening.severity
    )
}

fn happened(story: &Story<'_>, audience: Audience) -> String {
    let summary = &story.incident.opening.summary;
    let by = match (&story.release.code, audience) {
        (Some(code), Audience::Operator | Audience::Producer) => {
            let commit = code.commit.get(..8).unwrap_or(&code.commit);
            format!(
                " Its code is {commit}, {}, by {}.",
                code.subject, code.author
            )
        }
        _ => String::new(),
    };
    format!("{summary}.{by}")
}

fn tables(story: &Story<'_>) -> Vec<String> {
    let mut tables: Vec<_> = story.tables.iter().take(MOST_TABLES).cloned().collect();
    let more = story.tables.len().saturating_sub(MOST_TABLES);
    if more > 0 {
        tables.push(format!("and {more} more"));
    }
    tables
}

fn doing(story: &Story<'_>, occasion: Occasion) -> String {
    let incident = story.incident;
    let back = story.good.map_or_else(
        || "the last good state".to_owned(),
        |good| format!("the state of {}", good.id),
    );
    match (occasion, &incident.restored, &incident.acknowledged) {
        (Occasion::Closed, ..) => "Nothing more: the incident is closed.".to_owned(),
        (Occasion::Restoring, ..) => format!("Production goes back to {back}."),
        (_, Some(_), _) if !incident.opening.reached_production => {
            "The release was held back; production stays as it was.".to_owned()
        }
        (_, Some(at), _) => format!("Production has {back} again, since {}.", moment(*at)),
        (_, None, Some(stamp)) => format!("{} sees to it, since {}.", stamp.by, moment(stamp.at)),
        (_, None, None) => "Nothing yet: nobody has acknowledged it.".to_owned(),
    }
}

fn gap(story: &Story<'_>) -> Option<String> {
    let incident = story.incident;
    let as_of = story.good.map_or_else(
        || "as they were before".to_owned(),
        |good| {
            let when = good.closed.unwrap_or(good.opened);
            format!("as {} left them at {}", good.id, moment(when))
        },
    );
    Some(
        match (incident.opening.reached_production, incident.restored) {
            (true, None) => format!(
                "The tables have been wrong since {}.",
                moment(story.release.closed.unwrap_or(story.release.opened))
            ),
            (true, Some(at)) => format!(
                "The tables were wrong from {} to {}, and are {as_of}: what is newer is missing until \
             the next good release.",
                moment(story.release.closed.unwrap_or(story.release.opened)),
                moment(at)
            ),
            (false, _) => format!(
                "The tables are {as_of}: what is newer is missing until the next good release."
            ),
        },
    )
}

fn todo(story: &Story<'_>, audience: Audience, occasion: Occasion) -> String {
    let incident = story.incident;
    let id = incident.id;
    if occasion == Occasion::Closed {
        return match incident
            .closing
            .as_ref()
            .map(|c| (&c.root_cause, &c.follow_up))
        {
            Some((cause, FollowUp::Items(items))) => {
                format!("{cause}. {} follow.", count(items.len(), "action item"))
            }
            Some((cause, FollowUp::NoneBecause(why))) => {
                format!("{cause}. Nothing follows, because {why}.")
            }
            None => String::new(),
        };
    }
    let harm = incident.restored.is_none();
    match (audience, harm) {
        (Audience::Operator, true) => format!(
            "`unship incident ack {id}` says that you see to it; `unship plan` shows the way back \
             and `unship rollback` takes it."
        ),
        (Audience::Operator, false) => format!(
            "`unship incident show {id}` tells the whole story; `unship incident close {id}` ends \
             it with its root cause."
        ),
        (Audience::Producer, _) => format!(
            "Find out what was wrong with {}: `unship report {id}` shows what changed, and the \
             commands that reproduce it on a copy. Do not run the same code again.",
            story.release.id
        ),
        (Audience::Consumer, true) => {
            "Do not use these tables until you are told that they are restored.".to_owned()
        }
        (Audience::Consumer, false) if incident.opening.reached_production => {
            "Read these tables again: what you took from them in that time is wrong.".to_owned()
        }
        (Audience::Consumer | Audience::Stakeholder, false) => {
            "Nothing. The tables are right, and older than usual.".to_owned()
        }
        (Audience::Stakeholder, true) => match incident.opening.severity {
            Severity::Critical | Severity::High => {
                "Do not decide by these numbers until you are told that they are restored."
            }
            Severity::Medium | Severity::Low => "Nothing now; you are told when it is over.",
        }
        .to_owned(),
    }
}

/// A moment that readers in several time zones agree on.
fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A message's parts with their labels, without those that are empty.
pub fn parts(message: &Message) -> Vec<(&'static str, String)> {
    let expected = message
        .expected_milliseconds
        .map_or_else(String::new, |ms| {
            let ms = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
            format!("about {}, by earlier ones", text::span(ms))
        });
    [
        ("What happened", message.happened.clone()),
        ("Tables", message.tables.join(", ")),
        ("Since", message.since.map_or_else(String::new, moment)),
        ("What is being done", message.doing.clone()),
        ("Expected time", expected),
        ("Data", message.gap.clone().unwrap_or_default()),
        ("What to do", message.todo.clone()),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .collect()
}

/// A message as plain text.
pub fn text(message: &Message) -> String {
    let mut out = format!("{}\n", message.title);
    for (label, text) in parts(message) {
        out.push_str(&format!("\n{label}: {text}\n"));
    }
    out
}

/// The message of a trial.
pub fn trial(env: &str, route: &str) -> Message {
    Message {
        title: format!("[{env}] a trial of unship's notices"),
        happened: format!("Somebody ran `unship notify test`, and this came over `{route}`."),
        tables: Vec::new(),
        since: None,
        doing: "Nothing: nothing is wrong.".to_owned(),
        expected_milliseconds: None,
        gap: None,
        todo: "Nothing.".to_owned(),
    }
}
