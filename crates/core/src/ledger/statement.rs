//! The log's head as text that can be signed and kept elsewhere.
//!
//! The chain proves that nothing within the log was changed. A statement that lies outside of it,
//! signed with any tool (`ssh-keygen -Y sign`, `minisign`, `gpg`), proves that nothing was cut off
//! its end and that it was not made anew.

use super::{
    backend::Backend,
    entry::Head,
    error::LedgerError,
    hash::Hash,
    verify::{Blobs, ChainReport, verify_chain},
};
use jiff::Timestamp;
use std::{fmt, str::FromStr};

const TITLE: &str = "unship ledger head v1";

/// That a project's log ended so, at a time.
///
/// Its text is five lines, each ended by a line feed, always the same bytes for the same statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadStatement {
    project: String,
    head: Head,
    at: Timestamp,
}

/// Text that is not a head statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a ledger head as `unship audit` writes it: {0}")]
pub struct NotAStatement(&'static str);

impl HeadStatement {
    /// States that `project`'s log ended at `head`, at the time `at`.
    ///
    /// # Errors
    /// [`LedgerError::BadProject`] for a name that could pretend to be another line.
    pub fn new(project: impl Into<String>, head: Head, at: Timestamp) -> Result<Self, LedgerError> {
        let project = project.into();
        if project.chars().any(char::is_control) {
            return Err(LedgerError::BadProject { name: project });
        }
        Ok(Self { project, head, at })
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// When it was stated.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Proves that the log still holds what was stated, from its first entry to this head.
    ///
    /// # Errors
    /// As for [`verify_chain`]; what is wrong with the log is in the report.
    pub fn verify(&self, backend: &dyn Backend, blobs: Blobs) -> Result<ChainReport, LedgerError> {
        let mut report = verify_chain(backend, &Head::genesis(), Some(self.head.seq), blobs)?;
        if report.broken.is_none() && report.good.hash != self.head.hash {
            report.broken = Some(super::verify::Break {
                seq: self.head.seq,
                how: super::verify::Tampering::Replaced,
            });
        }
        Ok(report)
    }
}

impl fmt::Display for HeadStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}")?;
        writeln!(f, "project: {}", self.project)?;
        writeln!(f, "seq: {}", self.head.seq)?;
        writeln!(f, "hash: {}", self.head.hash)?;
        writeln!(f, "at: {}", self.at)
    }
}

impl FromStr for HeadStatement {
    type Err = NotAStatement;

    /// Reads the canonical text and nothing else, so that one signature never fits two readings.
    fn from_str(text: &str) -> Result<Self, NotAStatement> {
        let mut lines = text.split('\n');
        if lines.next() != Some(TITLE) {
            return Err(NotAStatement("its first line is another"));
        }
        let mut field = |name: &str| {
            let line = lines.next()?.strip_prefix(name)?;
            line.strip_prefix(": ")
        };
        let project = field("project").ok_or(NotAStatement("it names no project"))?;
        let seq = field("seq").and_then(|s| s.parse().ok());
        let hash: Option<Hash> = field("hash").and_then(|s| s.parse().ok());
        let at = field("at").and_then(|s| s.parse().ok());
        let statement = Self::new(
            project,
            Head {
                seq: seq.ok_or(NotAStatement("it has no entry number"))?,
                hash: hash.ok_or(NotAStatement("it has no hash"))?,
            },
            at.ok_or(NotAStatement("it has no time"))?,
        )
        .map_err(|_| NotAStatement("its project's name has control characters in it"))?;
        if statement.to_string() == text {
            Ok(statement)
        } else {
            Err(NotAStatement("it was changed after it was written"))
        }
    }
}
