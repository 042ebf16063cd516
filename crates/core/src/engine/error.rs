//! What went wrong in an engine.

use serde::{Deserialize, Serialize};

/// Why an engine could not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Somebody else holds what is needed; waiting can help.
    Busy,
    /// Somebody else was faster, and nothing was changed: a new plan sees what they did.
    Conflict,
    /// It can be done, and must not be: something would be lost.
    Refused,
    /// This engine, version or file cannot do it.
    Unsupported,
    /// Something that must be there is not.
    Missing,
    /// Bytes are not what they were.
    Corrupt,
    /// No room.
    DiskFull,
    /// No right.
    Permission,
    /// A query failed, or what runs queries cannot be started.
    Query,
    /// It was begun, and production cannot be used until it has been finished.
    HalfWay,
    /// Whether it was done cannot be told yet.
    InDoubt,
    /// Anything else the system reported.
    Io,
    /// Stopped on request, or by an injected fault.
    Interrupted,
}

/// The hint where a disk is full. What else helps depends on whether something is unfinished, which
/// no engine knows: the command line adds it.
pub const FREE_SPACE: &str = "free some space";

/// An engine's error: what happened, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What sort.
    pub kind: ErrorKind,
    /// What happened, with names.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Underlying cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// An error without cause or hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
