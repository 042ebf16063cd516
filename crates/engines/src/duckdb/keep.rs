//! Housekeeping: points that have become old are packed, those that nobody keeps are dropped, and
//! what interrupted work left behind is swept.

use super::file;
use super::layout::DbFile;
use super::retained::{pack, points_of, remove_dir};
use super::store::StoreWriter;
use std::collections::BTreeSet;
use std::fs;
use unship_core::engine::{EngineError, Housekeeping, OnProgress, Retention};
use unship_core::fault::boundary;
use unship_core::ident::ReleaseId;

/// Does it for all files. The caller holds the lease and nothing is under way.
pub(super) fn housekeep(
    files: &[DbFile],
    keep: &Retention,
    on: OnProgress<'_>,
) -> Result<Housekeeping, EngineError> {
    let mut packed = BTreeSet::new();
    let mut dropped = BTreeSet::new();
    let mut done = Housekeeping::default();
    for file in files {
        let mut forgotten = Vec::new();
        for (release, at) in points_of(file)? {
            if !keep.keep.contains(&release) {
                dropped.insert(release);
                if at.plain.is_some() {
                    done.freed += at.bytes;
                    drop_plain(file, release)?;
                }
                forgotten.push(release);
            } else if at.plain.is_some() && !keep.plain.contains(&release) {
                // With uncommitted changes beside it only DuckDB could read it whole.
                if file::has_wal(&file.point(release))? {
                    continue;
                }
                pack(file, &file.point(release), release, on)?;
                done.freed += at.bytes;
                drop_plain(file, release)?;
                packed.insert(release);
            }
        }
        for dir in ["build", "scratch"] {
            remove_dir(&file.home().join(dir))?;
        }
        if file.store().join("format").exists() {
            let mut store = StoreWriter::open(&file.store())?;
            for release in forgotten {
                let (point, label) = (release.to_string(), file.label());
                if store.store().point(&point, &label).is_ok() {
                    store.forget(&point, &label)?;
                    boundary("point forgotten");
                }
            }
            boundary("store to be collected");
            done.freed += store.gc(&|p| on(p.doing, p.done, p.total))?.bytes_freed;
        }
    }
    done.packed = packed.into_iter().collect();
    done.dropped = dropped.into_iter().collect();
    Ok(done)
}

fn drop_plain(file: &DbFile, release: ReleaseId) -> Result<(), EngineError> {
    let path = file.point(release);
    file::remove_if_there(&path)?;
    boundary("point dropped");
    for companion in super::layout::companions(&path) {
        file::remove_if_there(&companion)?;
    }
    if let Some(dir) = path.parent() {
        // Other guarded files of the same folder may still have theirs in it.
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}
