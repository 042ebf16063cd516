//! A table that somebody gave another name. Registering it again from its metadata would leave two
//! tables in the catalog with the same files, and whoever expires the snapshots of one, deletes the
//! files of the other. So the one that is there gets its old name back.

use super::super::commit::Moved;
use super::super::rest::{Identifier, LoadTable};
use super::super::state::TableState;
use super::{Intent, Return};
use std::sync::Arc;
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;
use unship_core::relation::RelationState;

/// A table that gets a name back.
pub(super) struct Renamed {
    /// The name that it has.
    pub(super) from: RelationName,
    /// The name that it gets, and how it then becomes what it was.
    pub(super) to: RelationName,
    pub(super) moved: Moved,
}

impl Intent<'_> {
    /// The table that is wanted, under a name that this plan takes from it. `None` as well if the
    /// snapshot that is wanted cannot be seen in it.
    pub(super) fn under_another_name(
        &self,
        table: &TableState,
    ) -> Option<(RelationName, Arc<LoadTable>)> {
        let is = |there: &LoadTable| there.metadata.table_uuid == table.uuid;
        let has = |there: &LoadTable| {
            let listed = |id: i64| there.metadata.snapshots.iter().any(|s| s.snapshot_id == id);
            table.snapshot.is_none_or(listed)
        };
        let mut found = self.survey.tables.iter();
        let (other, there) = found.find(|(other, there)| is(there) && self.leaves(other, table))?;
        has(there).then(|| (other.clone(), Arc::clone(there)))
    }

    /// Whether this plan takes a name from this table.
    fn leaves(&self, name: &RelationName, table: &TableState) -> bool {
        let wanted = |state: &RelationState| TableState::read(state).map(|wanted| wanted.uuid);
        self.request.remove.contains(name)
            || self.request.bring.get(name).is_some_and(|version| {
                version.state.as_ref().and_then(wanted).as_ref() != Some(&table.uuid)
            })
    }

    /// It gets its name back, and becomes what it was.
    pub(super) fn gets_its_name_back(
        &mut self,
        name: &RelationName,
        id: &Identifier,
        (from, now): (RelationName, Arc<LoadTable>),
        table: &TableState,
        wanted: &RelationState,
    ) -> Result<(), EngineError> {
        let moved = self.moving(name, id, &now, table, wanted)?;
        let to = name.clone();
        self.renamed.push(Renamed { from, to, moved });
        Ok(())
    }

    /// Once every name is taken that this plan takes: the table goes on to its old name, and what it
    /// is now stays retained there, under the tag of the commit.
    pub(super) fn name_back(&mut self) -> Result<(), EngineError> {
        for Renamed { from, to, moved } in std::mem::take(&mut self.renamed) {
            let leaving = self.leave.iter().enumerate();
            let mut leaving = leaving.filter(|(_, (leaves, ..))| *leaves == from);
            let Some((at, (_, home, aside, uuid))) = leaving.next() else {
                continue;
            };
            let (home, aside, uuid) = (home.clone(), aside.clone(), uuid.clone());
            // Where nobody wants the one name and nobody has the other, it need not go aside first.
            let (tables, views) = (&self.survey.tables, &self.survey.views);
            let free = !tables.contains_key(&to) && !views.contains_key(&to);
            let way = match free && self.request.remove.contains(&from) {
                true => {
                    self.leave.remove(at);
                    home
                }
                false => aside,
            };
            let way = Return::Renamed(way);
            self.come.push((to.clone(), Self::id(&to)?, way, uuid));
            if let Some(kept) = self.kept.relations.get_mut(&from) {
                kept.aside = None;
                kept.tag.clone_from(&moved.tag);
            }
            self.moved.push((to, moved));
        }
        let asides = self.leave.iter().map(|(.., to, _)| to.namespace.clone());
        self.namespaces = asides.collect();
        Ok(())
    }
}
