//! What the API answers when it does not do what it was asked, and what that means to unship.

use unship_core::engine::{EngineError, ErrorKind};

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Snowflake refused it, or it failed.
    #[error("{message}")]
    Refused {
        /// Snowflake's own number, of six digits.
        code: String,
        /// Snowflake's message.
        message: String,
    },
    /// Nobody took the user for who he says he is.
    #[error("Snowflake does not accept the login: {message}")]
    Login {
        /// Snowflake's message.
        message: String,
    },
    /// It took longer than it may, and was cancelled.
    #[error("the statement took longer than {0} seconds and was cancelled")]
    TimedOut(u64),
    /// No answer came however often it was asked for. Whether the statement ran is not known.
    #[error(
        "no answer came from Snowflake ({cause}), so that it is not known whether the statement \
         ran; its request is {request}"
    )]
    NoAnswer {
        /// The request's id, by which Snowflake knows it.
        request: String,
        /// What happened last.
        cause: String,
    },
    /// The address does not lead to Snowflake.
    #[error("{host} is not reached: {cause}")]
    Unreachable {
        /// The host, without anything that may be secret.
        host: String,
        /// What happened.
        cause: String,
    },
    /// An answer that is not one of this API.
    #[error("Snowflake's answer is not understood: {0}")]
    Answer(String),
}

impl ClientError {
    /// The same of a statement that arrived, or may have: only what Snowflake itself says of it tells
    /// that it ended.
    pub(super) fn of_one_that_may_run(self, request: &str) -> Self {
        let cause = match self {
            Self::Login { .. } | Self::Unreachable { .. } | Self::Answer(_) => self.to_string(),
            Self::Refused { .. } | Self::TimedOut(_) | Self::NoAnswer { .. } => return self,
        };
        Self::NoAnswer {
            request: request.to_owned(),
            cause,
        }
    }

    /// What it means, and what to do: `what` completes "could not …".
    pub fn doing(self, what: &str) -> EngineError {
        let message = format!("could not {what}: {self}");
        let (kind, hint) = match &self {
            Self::Refused { code, message } => meaning(code, message),
            Self::Login { .. } => (
                ErrorKind::Permission,
                Some(
                    "check the user, and its key (`DESCRIBE USER` shows the fingerprint of the \
                     one that Snowflake knows) or token",
                ),
            ),
            Self::TimedOut(_) => (ErrorKind::Interrupted, None),
            Self::NoAnswer { .. } => (
                ErrorKind::Interrupted,
                Some("`unship resume` finds out what was done"),
            ),
            Self::Unreachable { .. } => (
                ErrorKind::Io,
                Some("check the account's identifier, and that this machine reaches it"),
            ),
            Self::Answer(_) => (ErrorKind::Io, None),
        };
        let error = EngineError::new(kind, message);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// What Snowflake's numbers mean. They are not all documented; what is not known is a failed query.
fn meaning(code: &str, message: &str) -> (ErrorKind, Option<&'static str>) {
    let not_seen = "it is not there, or the role may not see it: `unship doctor` names the GRANTs";
    match code {
        "003001" | "003540" => (
            ErrorKind::Permission,
            Some("`unship doctor` names the GRANTs that are missing"),
        ),
        "002003" | "002043" | "002140" => (ErrorKind::Missing, Some(not_seen)),
        "000606" | "000607" => (
            ErrorKind::Missing,
            Some("name a warehouse that the role may use"),
        ),
        "000625" | "000650" => (
            ErrorKind::Busy,
            Some("another transaction holds a lock on it: try again when it is done"),
        ),
        "000604" | "000630" => (ErrorKind::Interrupted, None),
        "000002" => (ErrorKind::Unsupported, None),
        "002002" => (
            ErrorKind::Refused,
            Some("something of that name is there already"),
        ),
        _ if message.contains("Insufficient privileges") => (
            ErrorKind::Permission,
            Some("`unship doctor` names the GRANTs that are missing"),
        ),
        _ if message.contains("does not exist") => (ErrorKind::Missing, Some(not_seen)),
        _ => (ErrorKind::Query, None),
    }
}
