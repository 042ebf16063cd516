//! Facts, by what they look at: how a plan states them, and what is true now.

use super::doctor;
use super::engine::DuckDb;
use super::file;
use super::retained;
use super::store::Store;
use std::path::{Path, PathBuf};
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::ReleaseId;
use unship_core::plan::Fact;

/// The identity of a file.
pub(super) fn file(path: &Path, is: &str) -> Fact {
    Fact::new(format!("file {}", path.display()), is)
}

/// Whether there is a file.
pub(super) fn exists(path: &Path, is: bool) -> Fact {
    Fact::new(
        format!("exists {}", path.display()),
        if is { "yes" } else { "no" },
    )
}

/// Whether a file has a write-ahead log.
pub(super) fn no_wal(path: &Path) -> Fact {
    Fact::new(format!("wal {}", path.display()), "none")
}

/// Whether a place is free: nothing there, or a second name of `live`, as a swap that was
/// interrupted, or interrupted while it was taken back, leaves it.
pub(super) fn free(place: &Path, live: &Path) -> Fact {
    let subject = serde_json::json!([place, live]);
    Fact::new(format!("place {subject}"), "free")
}

/// Whether a file is as it was, or half-way through being patched.
pub(super) fn patchable(live: &Path, identity: &str) -> Fact {
    let subject = serde_json::json!([live, identity]);
    Fact::new(format!("patchable {subject}"), "yes")
}

/// Whether a file's blocks are those of a packed point.
pub(super) fn blocks(live: &Path, point: ReleaseId) -> Fact {
    let subject = serde_json::json!([live, point]);
    Fact::new(format!("blocks {subject}"), "equal")
}

/// Whether a point of a file is in the store.
pub(super) fn packed(live: &Path, point: ReleaseId) -> Fact {
    let subject = serde_json::json!([live, point]);
    Fact::new(format!("packed {subject}"), "yes")
}

/// What is true now of a fact's subject.
pub(super) fn now(db: &DuckDb, subject: &str) -> Result<String, EngineError> {
    let unknown = || {
        EngineError::new(
            ErrorKind::Unsupported,
            format!("the plan asks for {subject:?}"),
        )
        .hint("it may come from a newer unship")
    };
    let (kind, what) = subject.split_once(' ').ok_or_else(unknown)?;
    let path = Path::new(what);
    match kind {
        "file" => file::identity(path),
        "exists" => Ok(if path.exists() { "yes" } else { "no" }.to_owned()),
        "wal" => Ok(if file::has_wal(path)? {
            "present"
        } else {
            "none"
        }
        .to_owned()),
        "place" => {
            let (place, live): (PathBuf, PathBuf) =
                serde_json::from_str(what).map_err(|_| unknown())?;
            if !place.exists() || file::same_file(&place, &live)? {
                return Ok("free".to_owned());
            }
            file::identity(&place)
        }
        "patchable" => {
            let (live, identity): (PathBuf, String) =
                serde_json::from_str(what).map_err(|_| unknown())?;
            let now = file::identity(&live)?;
            Ok(if now == identity || doctor::sealed(&live) {
                "yes".to_owned()
            } else {
                now
            })
        }
        "packed" => {
            let (live, release): (PathBuf, ReleaseId) =
                serde_json::from_str(what).map_err(|_| unknown())?;
            let there = retained::packed(db.file(&live)?)?
                .iter()
                .any(|(p, _)| *p == release.to_string());
            Ok(if there { "yes" } else { "no" }.to_owned())
        }
        "blocks" => {
            let (live, release): (PathBuf, ReleaseId) =
                serde_json::from_str(what).map_err(|_| unknown())?;
            if doctor::sealed(&live) {
                return Ok("half-way".to_owned());
            }
            let file = db.file(&live)?;
            let store = Store::open(&file.store())?;
            let equal = store.equals(&release.to_string(), &file.label(), &live, &|_| {})?;
            Ok(if equal { "equal" } else { "different" }.to_owned())
        }
        _ => Err(unknown()),
    }
}
