//! What planning needs to know: the state of the disk, as plain data.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use unship_core::ident::ReleaseId;

/// What planning needs to know of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The guarded files.
    pub files: Vec<FileSurvey>,
}

/// What planning needs to know of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSurvey {
    /// The catalog's name.
    pub catalog: String,
    /// The production file.
    pub path: PathBuf,
    /// Its identity, or `ABSENT`.
    pub identity: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The identity of the release's build, or `ABSENT`.
    pub build: String,
    /// Free bytes on its file system, for this user.
    pub free: u64,
    /// Whether cloning shares blocks.
    pub reflink: bool,
    /// Whether nobody has the file open, as far as locks tell.
    pub idle: bool,
    /// The retained states of this file.
    pub points: BTreeMap<ReleaseId, PointSurvey>,
}

/// What planning needs to know of a retained state of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSurvey {
    /// Identity of the unpacked file, if it is unpacked.
    pub plain: Option<String>,
    /// Size when unpacked, in bytes.
    pub bytes: u64,
}
