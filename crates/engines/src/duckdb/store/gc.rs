//! Forgetting points, and giving the space of chunks back that no point needs.

use super::{
    Progress,
    codec::Decompressor,
    durable::{UNFINISHED, remove_file, sync_dir},
    error::{Result, StoreError, io_error},
    index::{Index, Place, list},
    open::StoreWriter,
    packer::{Packer, pack_path},
    parallel::in_order,
    point::{Key, Point},
};
use std::{collections::HashSet, fs, path::PathBuf};
use unship_core::fault::boundary;

/// What a collection did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct GcReport {
    /// Bytes given back to the disk.
    pub bytes_freed: u64,
    /// Packs removed because no point needed any of their chunks.
    pub packs_removed: u64,
    /// Packs written anew without their garbage, because that was more than half of them.
    pub packs_rewritten: u64,
    /// Packs left as they are because they are damaged and a point may need them.
    pub packs_damaged: u64,
    /// Unfinished files that crashes had left behind.
    pub leftovers: u64,
}

impl StoreWriter {
    /// Forgets one file of a point, a damaged one too. The space comes back with
    /// [`StoreWriter::gc`]. It is no error that there is none, so that a forgetting that was cut off
    /// can simply be repeated.
    ///
    /// Only this file: others that lie in the same folder, perhaps of a project that counts its
    /// releases for itself, are packed in the same store under the same names of points.
    ///
    /// # Errors
    /// When the names are none, or the disk fails.
    pub fn forget(&mut self, point: &str, label: &str) -> Result<()> {
        remove_file(&Key::new(point, label)?.path(&self.store.points))?;
        sync_dir(&self.store.points)
    }

    /// Removes what no point needs: leftovers of crashes, packs without a needed chunk; and writes
    /// packs anew that are more than half garbage.
    ///
    /// Safe at any moment: a new pack is durable before an old one goes, and the worst that a crash
    /// leaves is a chunk in two packs. Readers that are in the middle of a pack finish it.
    ///
    /// # Errors
    /// When a point cannot be read (forget it first, or bring its file back): what it needs cannot
    /// then be told, and nothing has been removed but leftovers. Or when the disk fails.
    pub fn gc(&mut self, progress: &dyn Fn(Progress)) -> Result<GcReport> {
        let before = self.store.size()?.stored;
        let mut report = GcReport::default();
        for dir in [&self.store.packs, &self.store.points] {
            for path in list(dir, UNFINISHED)? {
                remove_file(&path)?;
                report.leftovers += 1;
            }
        }
        self.store.forget_index();
        let index = self.store.index()?;
        let (needed, missing) = self.mark(&index)?;

        let mut packs: Vec<Needed> = index.packs.iter().map(|_| Needed::default()).collect();
        for (place, _) in index
            .places()
            .iter()
            .zip(&needed)
            .filter(|(_, needed)| **needed)
        {
            let pack = &mut packs[place.pack as usize];
            pack.bytes += u64::from(place.entry.stored);
            pack.places.push(*place);
        }
        let all = || index.packs.iter().zip(&packs);
        for (pack, _) in all().filter(|(_, needed)| needed.bytes == 0) {
            remove_file(&pack_path(&self.store.packs, &pack.name))?;
            boundary("pack removed");
            report.packs_removed += 1;
        }
        for path in self.hopeless(&index, missing, &mut report)? {
            remove_file(&path)?;
            report.packs_removed += 1;
        }
        let sparse: Vec<_> = all()
            .filter(|(pack, needed)| needed.bytes > 0 && needed.bytes < pack.body.div_ceil(2))
            .map(|(_, needed)| needed)
            .collect();
        self.rewrite(&index, &sparse, &mut report, progress)?;
        sync_dir(&self.store.packs)?;
        self.store.forget_index();
        report.bytes_freed = before.saturating_sub(self.store.size()?.stored);
        Ok(report)
    }

    /// Which chunks the points need, by number in the index, and whether any is missing.
    fn mark(&self, index: &Index) -> Result<(Vec<bool>, bool)> {
        let points = self.store.points()?;
        if let Some(e) = points.damaged.into_iter().next() {
            return Err(e);
        }
        let mut needed = vec![false; index.places().len()];
        let mut missing = false;
        for info in &points.points {
            for id in Point::read(&self.store.points, &info.key())?.chunks {
                match index.number(&id) {
                    Some(number) => needed[number] = true,
                    None => missing = true,
                }
            }
        }
        Ok((needed, missing))
    }

    /// Damaged packs whose chunks nobody misses. Any other unreadable pack stays: it may be of a
    /// newer format, or readable again, or be all that is left of a point.
    fn hopeless(
        &self,
        index: &Index,
        missing: bool,
        report: &mut GcReport,
    ) -> Result<Vec<PathBuf>> {
        let (hopeless, kept): (Vec<_>, Vec<_>) = index
            .unreadable
            .iter()
            .partition(|(_, e)| !missing && matches!(e, StoreError::Damaged { .. }));
        report.packs_damaged += kept.len() as u64;
        Ok(hopeless.into_iter().map(|(path, _)| path.clone()).collect())
    }

    /// Writes the needed chunks of some packs into new ones and removes the old.
    fn rewrite(
        &self,
        index: &Index,
        sparse: &[&Needed],
        report: &mut GcReport,
        progress: &dyn Fn(Progress),
    ) -> Result<()> {
        let total: u64 = sparse.iter().map(|needed| needed.bytes).sum();
        let mut done = 0;
        let mut packer = Packer::new(self.store.packs.clone(), self.pack_target);
        let mut old = Vec::new();
        for needed in sparse {
            let Some(pack) = needed.places.first().map(|place| place.pack) else {
                continue;
            };
            let name = &index.packs[pack as usize].name;
            match self.proved(name, &needed.places) {
                Ok(chunks) => {
                    for (place, stored) in chunks {
                        let entry = place.entry;
                        packer.add(entry.id, entry.raw, &stored, entry.compressed)?;
                    }
                    old.push(name.clone());
                }
                // Moving half of a damaged pack would hide what it was.
                Err(StoreError::Damaged { .. }) => report.packs_damaged += 1,
                Err(e) => return Err(e),
            }
            done += needed.bytes;
            progress(Progress {
                doing: "writing",
                done,
                total,
            });
        }
        packer.finish()?;
        let new: HashSet<_> = packer.keep().into_iter().map(|pack| pack.name).collect();
        // Packs are named by their content, so a new one can be an old one's equal.
        for name in old.iter().filter(|name| !new.contains(*name)) {
            remove_file(&pack_path(&self.store.packs, name))?;
        }
        report.packs_rewritten += old.len() as u64;
        Ok(())
    }

    /// The stored bytes of some chunks of one pack, each proved. At most half a pack.
    fn proved(&self, name: &str, places: &[Place]) -> Result<Vec<(Place, Vec<u8>)>> {
        let path = pack_path(&self.store.packs, name);
        let file = fs::File::open(&path).map_err(io_error("open", &path))?;
        let mut places = places.to_vec();
        places.sort_unstable_by_key(|place| place.entry.offset);
        let stored = in_order(
            places.len() as u64,
            || Decompressor::new(&path),
            |unpack, number| {
                let entry = &places[number as usize].entry;
                Ok(unpack.read(&file, &path, entry)?.stored.to_vec())
            },
            &|_| {},
        )?;
        Ok(places.into_iter().zip(stored).collect())
    }
}

/// What points need of one pack.
#[derive(Default)]
struct Needed {
    bytes: u64,
    places: Vec<Place>,
}
