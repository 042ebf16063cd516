//! Housekeeping: points that have become old are packed, those that nobody keeps are dropped, and
//! what interrupted work left behind is swept.

use super::assemble::UNFINISHED;
use super::file;
use super::layout::{DbFile, with_suffix};
use super::retained::{clear, names_in, pack, points_of};
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
        sweep(file)?;
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

/// Removes what was being made of this file, for whatever release. The lease is one environment's,
/// and another's job may be building its own file of the same folder at this moment.
fn sweep(file: &DbFile) -> Result<(), EngineError> {
    for making in ["build", "scratch"] {
        let all = file.home().join(making);
        for name in names_in(&all)? {
            let of_release = name.strip_suffix(UNFINISHED).unwrap_or(&name);
            if of_release.parse::<ReleaseId>().is_ok() {
                clear(&all.join(&name).join(file.basename()))?;
            }
        }
        // The link under which jobs found the builds, and half of one.
        let link = all.join(file.basename());
        for link in [with_suffix(&link, ".new"), link] {
            if link.is_symlink() {
                file::remove_if_there(&link)?;
            }
        }
        // Builds of others may still be in it.
        let _ = fs::remove_dir(&all);
    }
    Ok(())
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
