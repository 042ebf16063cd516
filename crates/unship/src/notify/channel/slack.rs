//! Slack's incoming webhooks.

use super::super::compose;
use super::{SendError, http};
use crate::pipeline::dbt::connection::Secret;
use serde_json::{Value, json};
use unship_core::notice::Notice;

/// Slack refuses a text of more than 3000 characters in a section.
const LONGEST: usize = 2900;

pub fn send(url: &Secret, notice: &Notice) -> Result<(), SendError> {
    http::post(url.reveal(), &[], body(notice).to_string().as_bytes())
}

/// The message: a text for notifications, and the same in sections.
pub fn body(notice: &Notice) -> Value {
    let section = |text: &str| {
        let text: String = text.chars().take(LONGEST).collect();
        json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    };
    let title = escaped(&notice.message.title);
    let mut blocks = vec![section(&format!("*{title}*"))];
    for (label, text) in compose::parts(&notice.message) {
        blocks.push(section(&format!("*{label}:* {}", escaped(&text))));
    }
    json!({ "text": title, "blocks": blocks })
}

/// Slack's three characters; anything else, `@channel` included, is plain text without them.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
