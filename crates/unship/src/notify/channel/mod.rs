//! The ways to reach people, one file each.

mod command;
mod email;
mod http;
mod pagerduty;
mod slack;
mod webhook;

use super::config::Route;
use std::path::Path;
use std::time::Duration;
use unship_core::notice::Notice;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a notice could not be sent. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    /// What happened.
    pub text: String,
    /// When to try again.
    pub again: Again,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// In a moment.
    Soon,
    /// Not now: it took long already.
    Later,
    /// Never: it will be refused again.
    Never,
}

impl SendError {
    /// Whether it would be refused again.
    pub fn is_final(&self) -> bool {
        self.again == Again::Never
    }

    fn soon(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            again: Again::Soon,
        }
    }

    fn later(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            again: Again::Later,
        }
    }

    fn never(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            again: Again::Never,
        }
    }
}

/// Sends a notice over a route, once.
///
/// # Errors
/// What keeps it from being taken.
pub fn send(route: &Route, notice: &Notice, root: &Path) -> Result<(), SendError> {
    // What is missing now may be there for the next command: another user, another shell.
    let secret = |at: &super::config::SecretRef| at.read(root).map_err(SendError::later);
    match route {
        Route {
            slack: Some(slack), ..
        } => slack::send(&secret(&slack.url)?, notice),
        Route {
            webhook: Some(webhook),
            ..
        } => webhook::send(&webhook.url, &secret(&webhook.secret)?, notice),
        Route {
            pagerduty: Some(pagerduty),
            ..
        } => pagerduty::send(
            pagerduty.url.as_deref(),
            &secret(&pagerduty.routing_key)?,
            notice,
        ),
        Route {
            email: Some(email), ..
        } => {
            let password = email.password.as_ref().map(secret).transpose()?;
            email::send(email, password.as_ref(), notice, root)
        }
        Route {
            command: Some(command),
            ..
        } => command::send(command, notice, root),
        _ => Err(SendError::never("the route names no way to send")),
    }
}
