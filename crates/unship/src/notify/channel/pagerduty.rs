//! PagerDuty's Events API v2.

use super::super::compose;
use super::{SendError, http};
use crate::pipeline::dbt::connection::Secret;
use serde_json::{Map, Value, json};
use unship_core::check::Severity;
use unship_core::notice::{Notice, Occasion};

const URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// PagerDuty cuts a longer summary off.
const LONGEST_SUMMARY: usize = 1024;

/// PagerDuty refuses a longer key.
const LONGEST_KEY: usize = 255;

pub fn send(url: Option<&str>, key: &Secret, notice: &Notice) -> Result<(), SendError> {
    let body = body(key.reveal(), notice);
    http::post(url.unwrap_or(URL), &[], body.to_string().as_bytes())
}

/// The event. All of one incident have one `dedup_key`: the alert is opened, acknowledged and closed
/// by it, and a second sending changes nothing.
pub fn body(routing_key: &str, notice: &Notice) -> Value {
    let action = match notice.occasion {
        Occasion::Acknowledged => "acknowledge",
        Occasion::Closed => "resolve",
        _ => "trigger",
    };
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key(&notice.key),
    });
    if action == "trigger" {
        let message = &notice.message;
        let severity = match notice.severity {
            Severity::Critical => "critical",
            Severity::High => "error",
            Severity::Medium => "warning",
            Severity::Low => "info",
        };
        let mut details = Map::new();
        for (label, text) in compose::parts(message) {
            details.insert(label.to_lowercase(), text.into());
        }
        let mut payload = json!({
            "summary": message.title.chars().take(LONGEST_SUMMARY).collect::<String>(),
            "source": format!("unship/{}", notice.env),
            "severity": severity,
            "component": notice.env,
            "class": notice.occasion.word(),
            "custom_details": details,
        });
        if let Some(since) = message.since {
            payload["timestamp"] = since.to_string().into();
        }
        event["client"] = "unship".into();
        event["payload"] = payload;
    }
    event
}

/// What all notices of one incident begin with: `project/environment/incident`.
fn dedup_key(key: &str) -> String {
    let parts: Vec<_> = key.splitn(4, '/').take(3).collect();
    let whole = parts.join("/");
    match whole.len() <= LONGEST_KEY {
        true => whole,
        false => blake3::hash(whole.as_bytes()).to_hex().to_string(),
    }
}
