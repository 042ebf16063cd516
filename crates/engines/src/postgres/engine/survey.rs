//! What planning needs to know of some relations.

use super::Postgres;
use crate::postgres::catalog;
use crate::postgres::plan::{Held, Survey};
use crate::postgres::swap::{self, Name, Scope};
use crate::postgres::{granted, layout, retained, rows, undo};
use std::collections::BTreeSet;
use unship_core::engine::EngineError;
use unship_core::ident::{RelationName, ReleaseId};

impl Postgres {
    /// Everything about these relations, for a plan of this release.
    pub(super) fn survey_of(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<Survey, EngineError> {
        let wanted: BTreeSet<_> = relations
            .iter()
            .map(|n| Name::new(&*n.schema, &*n.name))
            .collect();
        let client = self.client()?;
        let retained: Vec<Held> = retained::list(client)?
            .iter()
            .filter_map(Held::of)
            .filter(|held| wanted.contains(&held.name))
            .collect();
        let mut scope = Scope::default();
        for name in &wanted {
            scope.relations.insert(name.clone());
            let staged = Name::new(layout::build(&name.schema)?, &*name.name);
            scope.relations.insert(staged);
        }
        for held in &retained {
            let schema = layout::retained(held.version.release, &held.name.schema)?;
            scope.relations.insert(Name::new(schema, &*held.name.name));
        }
        for namespace in catalog::namespaces(client)? {
            let of = layout::parse_retained(&namespace.name).map(|(_, schema)| schema);
            let of = of
                .or_else(|| layout::parse_build(&namespace.name))
                .unwrap_or(&namespace.name);
            if wanted.iter().any(|name| name.schema == of) {
                scope.schemas.insert(namespace.name.clone());
            }
        }
        let swap = swap::survey(client, &scope)?;
        let all: Vec<u32> = swap.relations.keys().copied().collect();
        let mut kept = Vec::new();
        for one in rows::list(client)? {
            let name = Name::new(&*one.schema, &*one.name);
            let there = |r: &swap::Relation| {
                let at = (&r.schema, &r.name);
                r.oid == one.relation && at == (&name.schema, &name.name)
            };
            if one.whole && wanted.contains(&name) && swap.relations.values().any(there) {
                kept.push(rows::put_back(client, &one, release, kept.len())?);
            }
        }
        Ok(Survey {
            undo: undo::known(client, &wanted)?,
            granted: granted::read(client, &all)?,
            swap,
            retained,
            kept,
        })
    }
}
