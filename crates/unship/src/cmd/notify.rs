//! `unship notify`

use crate::aftermath;
use crate::cli::{Global, Notify, NotifyTest};
use crate::context::Context;
use crate::error::{CliError, CliResult, exit};
use crate::notify::config::{Route, route};
use crate::notify::{compose, send};
use crate::render::json;
use crate::render::text::{self, BAD, BOLD, GOOD, WARN, paint};
use jiff::Timestamp;
use serde::Serialize;
use unship_core::check::Severity;
use unship_core::notice::{Delivery, Notice, Occasion, Outgoing};

#[derive(Serialize)]
struct Outbox<'a> {
    env: &'a str,
    notices: &'a [Outgoing],
}

#[derive(Serialize)]
struct Trial {
    route: String,
    kind: &'static str,
    error: Option<String>,
}

/// Carries one of them out.
pub fn run(global: &Global, command: &Notify) -> CliResult {
    let context = Context::find(global)?;
    match command {
        Notify::List => list(&context),
        Notify::Test(args) => test(&context, args),
        Notify::Escalate => escalate(&context),
    }
}

fn list(context: &Context) -> CliResult {
    let ledger = context.read()?;
    let mut notices = ledger.history(|h| h.notices(&context.env))?;
    notices.sort_by_key(|o| std::cmp::Reverse(o.queued));
    if context.json() {
        let outbox = Outbox {
            env: &context.env,
            notices: &notices,
        };
        json("unship.outbox/1", &outbox)?;
        return Ok(exit::OK);
    }
    if notices.is_empty() {
        crate::say!("nobody was to be told anything in {}", context.env);
        return Ok(exit::OK);
    }
    let mut table = text::table([
        "queued", "route", "about", "what", "state", "tries", "error",
    ]);
    for outgoing in &notices {
        let notice = &outgoing.notice;
        let word = outgoing.delivery.words();
        table.add_row([
            text::moment(outgoing.queued),
            paint(BOLD, &notice.route),
            notice.incident.map_or_else(String::new, |i| i.to_string()),
            notice.occasion.word().to_owned(),
            match outgoing.delivery {
                Delivery::Sent => paint(GOOD, word),
                Delivery::GivenUp => paint(BAD, word),
                Delivery::Queued => word.to_owned(),
                Delivery::Sending | Delivery::Failed => paint(WARN, word),
            },
            outgoing.attempts.to_string(),
            match outgoing.delivery {
                Delivery::Sent => String::new(),
                _ => outgoing.error.clone().unwrap_or_default(),
            },
        ]);
    }
    text::print_table(&table);
    Ok(exit::OK)
}

/// A trial is not written down: it is about nothing that happened.
fn test(context: &Context, args: &NotifyTest) -> CliResult {
    let all = &context.config.notify;
    let routes: Vec<&Route> = match args.route.is_empty() {
        true => all.iter().collect(),
        false => args
            .route
            .iter()
            .map(|name| route(all, name))
            .collect::<CliResult<_>>()?,
    };
    if routes.is_empty() {
        return Err(
            CliError::new(exit::NOTHING, "unship.toml has no [[notify]]")
                .hint("the book has one of each kind, under Notices"),
        );
    }
    let now = Timestamp::now();
    let mut trials = Vec::new();
    for route in routes {
        let notice = Notice {
            key: format!("test/{}/{}/{now}", context.env, route.name),
            route: route.name.clone(),
            audience: route.audience,
            occasion: Occasion::Test,
            severity: Severity::Low,
            env: context.env.clone(),
            incident: None,
            release: None,
            message: compose::trial(&context.env, &route.name),
        };
        let error = send(route, &notice, &context.root).err().map(|e| e.text);
        if !context.json() {
            match &error {
                None => crate::say!("{} {} ({})", paint(GOOD, "sent:"), route.name, route.kind()),
                Some(error) => crate::say!(
                    "{} {} ({}): {error}",
                    paint(BAD, "failed:"),
                    route.name,
                    route.kind()
                ),
            }
        }
        trials.push(Trial {
            route: route.name.clone(),
            kind: route.kind(),
            error,
        });
    }
    let failed = trials.iter().filter(|t| t.error.is_some()).count();
    if context.json() {
        json(
            "unship.notify_test/1",
            &serde_json::json!({ "routes": trials }),
        )?;
    }
    Ok(match failed {
        0 => exit::OK,
        _ => exit::FAILED,
    })
}

fn escalate(context: &Context) -> CliResult {
    let (steps, sent) = aftermath::settle(context)?;
    if context.json() {
        json(
            "unship.escalation/1",
            &serde_json::json!({ "steps": steps, "sent": sent }),
        )?;
        return Ok(exit::OK);
    }
    for step in &steps {
        crate::say!(
            "{}: level {}, {} is asked over {}",
            step.incident,
            step.level,
            step.contact,
            step.routes.join(", ")
        );
    }
    if steps.is_empty() {
        crate::say!("nobody has to be asked now");
    }
    Ok(exit::OK)
}
