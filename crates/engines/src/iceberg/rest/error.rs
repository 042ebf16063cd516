//! What a catalog's answers mean.

use unship_core::engine::{EngineError, ErrorKind};

/// Why a request did not do what was asked. No text holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// No request reached the catalog, or none was answered; nothing depends on it.
    #[error("{0}")]
    NotReached(String),
    /// The catalog takes no more requests now.
    #[error("the catalog is overloaded: {0}")]
    Overloaded(String),
    /// Who asks is not known.
    #[error("the catalog does not accept the login: {0}")]
    Login(String),
    /// Who asks has no right to it.
    #[error("the catalog does not allow it: {0}")]
    Forbidden(String),
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// A requirement does not hold any more, or a name is taken. Nothing was changed.
    #[error("{0}")]
    Conflict(String),
    /// A request that changes something was sent, and nobody can tell from the answer whether it
    /// did.
    #[error("nobody can tell whether the catalog did it: {0}")]
    Unknown(String),
    /// The catalog cannot do it.
    #[error("the catalog cannot do it: {0}")]
    Unsupported(String),
    /// The catalog refused it. Nothing was changed.
    #[error("the catalog refused it ({status}): {said}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// The answer is not what the protocol prescribes.
    #[error("the answer is not what an Iceberg REST catalog says: {0}")]
    Nonsense(String),
}

impl RestError {
    /// Whether it is certain that nothing was changed by the request.
    pub fn certain(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReached(_) | Self::Nonsense(_) => ErrorKind::Io,
            Self::Overloaded(_) => ErrorKind::Busy,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Login(_) | Self::Forbidden(_) => ErrorKind::Permission,
            Self::Missing(_) => ErrorKind::Missing,
            Self::Unknown(_) => ErrorKind::Interrupted,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Refused { .. } => ErrorKind::Refused,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotReached(_) => {
                "check `uri` in unship.toml, and that the catalog runs: `unship doctor` asks it"
            }
            Self::Overloaded(_) => "try again later",
            Self::Login(_) => {
                "check what `token` or `credential` in unship.toml point to: the variable or file \
                 may be out of date"
            }
            Self::Forbidden(_) => {
                "who releases needs the right to read, write and rename tables, and to make \
                 namespaces"
            }
            Self::Conflict(_) => "others changed it meanwhile: make the plan again",
            Self::Unknown(_) => "`unship resume` asks the catalog again what is true",
            Self::Nonsense(_) => {
                "check `uri` in unship.toml: it is the part before `/v1`; something between here \
                 and the catalog may have answered instead"
            }
            Self::Missing(_) | Self::Unsupported(_) | Self::Refused { .. } => return None,
        })
    }
}

/// Says what was being done when the catalog reported an error.
pub trait Doing<T> {
    /// `what` completes "could not …".
    fn doing(self, what: &str) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, RestError> {
    fn doing(self, what: &str) -> Result<T, EngineError> {
        self.map_err(|error| {
            let out = EngineError::new(error.kind(), format!("could not {what}: {error}"));
            match error.hint() {
                Some(hint) => out.hint(hint),
                None => out,
            }
        })
    }
}
