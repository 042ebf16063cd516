//! What a release holds in figures, and how those were in good releases before it.

use super::artefacts::{Artefacts, seconds};
use super::check::{GOOD, Subject, unknown, unreadable};
use super::look::progress;
use super::{OperateError, Session};
use crate::check::automatic::Past;
use crate::check::{Detail, Finding, RelationProfile, access};
use crate::engine::EngineError;
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::Hash;
use crate::lineage::Lineage;
use crate::pipeline::dbt::manifest::ResourceType;
use crate::relation::RelationKind;
use petgraph::Direction;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// The profiles of a release's relations, and those of several releases.
type Blob = BTreeMap<RelationName, RelationProfile>;
type Blobs = BTreeMap<Hash, Blob>;

impl Session<'_> {
    /// What is measured: what has rows and changed. A view has none of its own; it is measured
    /// where no table of the project shows what is in it.
    pub(super) fn wanted(
        &self,
        of: &Subject<'_>,
        lineage: Option<&Lineage>,
    ) -> BTreeSet<RelationName> {
        let is_test = |name: &RelationName| {
            lineage.is_some_and(|lineage| {
                let mut nodes = lineage.nodes_of(name).peekable();
                nodes.peek().is_some() && nodes.all(|n| n.resource_type == ResourceType::Test)
            })
        };
        let unread = |name: &RelationName| {
            lineage.is_some_and(|lineage| {
                lineage
                    .dependents(name)
                    .into_iter()
                    .all(|reader| is_test(&reader))
            })
        };
        let names: BTreeSet<&RelationName> = of.changes.keys().chain(of.built).collect();
        names
            .into_iter()
            .filter(|name| {
                let changed = of.changes.get(*name);
                let version = changed.or_else(|| of.before.get(*name));
                let kind = version.and_then(|v| v.state.as_ref()).map(|s| s.kind);
                match kind {
                    Some(RelationKind::Table | RelationKind::MaterializedView) => {
                        changed.is_some() && !is_test(name)
                    }
                    Some(RelationKind::View) => unread(name) && !is_test(name),
                    _ => false,
                }
            })
            .cloned()
            .collect()
    }

    /// What each relation is made from that no job of the project builds.
    fn inputs(
        &self,
        of: &Subject<'_>,
        lineage: Option<&Lineage>,
        name: &RelationName,
    ) -> BTreeSet<RelationName> {
        let Some(lineage) = lineage else {
            // Without lineage, whatever stands beside what jobs build.
            let all = of.before.iter().chain(of.changes);
            return all
                .filter(|(_, v)| !v.owned)
                .filter(|(_, v)| {
                    v.state
                        .as_ref()
                        .is_some_and(|s| s.kind == RelationKind::Table)
                })
                .map(|(name, _)| name.clone())
                .collect();
        };
        let ids: Vec<String> = lineage
            .nodes_of(name)
            .map(|n| n.unique_id.clone())
            .collect();
        let upstream = lineage.closure(ids.iter().map(String::as_str), Direction::Incoming);
        let nodes = upstream
            .iter()
            .filter_map(|id| lineage.manifest().nodes.get(id));
        nodes
            // A seed is a reference table: that it has a line less explains nothing.
            .filter(|n| n.resource_type == ResourceType::Source)
            .filter_map(|n| n.relation.clone())
            .filter(|input| input != name)
            .collect()
    }

    pub(super) fn measure(
        &mut self,
        of: &Subject<'_>,
        wanted: &BTreeSet<RelationName>,
        artefacts: &Artefacts,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        let lineage = artefacts.lineage.as_ref();
        let inputs: BTreeMap<&RelationName, BTreeSet<RelationName>> = wanted
            .iter()
            .map(|name| (name, self.inputs(of, lineage, name)))
            .collect();
        let mut asked: BTreeMap<RelationName, Detail> = inputs
            .values()
            .flatten()
            .map(|input| (input.clone(), Detail::Rows))
            .collect();
        asked.extend(wanted.iter().map(|name| (name.clone(), Detail::Columns)));
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let on = progress(self.watch);
        let all = self.engine.profile(of.place, &asked, &on)?;
        let seconds = seconds(artefacts);
        let mut measured = BTreeMap::new();
        for (name, from) in inputs {
            let Some(profile) = all.get(name) else {
                continue;
            };
            let counts = from
                .into_iter()
                .filter_map(|input| Some((input.clone(), all.get(&input)?.rows)));
            let profile = RelationProfile {
                inputs: counts.collect(),
                seconds: seconds.get(name).copied(),
                ..profile.clone()
            };
            measured.insert(name.clone(), profile);
        }
        Ok(measured)
    }

    /// The profiles that were kept of a release, read once.
    fn profiles<'b>(&self, blobs: &'b mut Blobs, hash: Hash) -> Result<&'b Blob, OperateError> {
        Ok(match blobs.entry(hash) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let bytes = self.ledger.get_blob(&hash)?;
                unread.insert(serde_json::from_slice(&bytes).map_err(unreadable)?)
            }
        })
    }

    /// Whom production's relations do not let in any more. What is built aside takes production's
    /// access over when it is published, and the publish refuses to lose any.
    pub(super) fn access_lost(
        &mut self,
        of: &Subject<'_>,
        measured: &BTreeMap<RelationName, RelationProfile>,
        changed: &BTreeSet<RelationName>,
    ) -> Result<Vec<Finding>, OperateError> {
        // A release that is looked at again is compared with what was noted when it was made.
        let below = match of.fresh {
            true => of.release,
            false => ReleaseId(of.release.0.saturating_add(1)),
        };
        let env = self.ledger.env().to_owned();
        let mut found = Vec::new();
        let mut blobs = Blobs::new();
        let mut roles = None;
        for name in changed {
            let Some(now) = measured.get(name).and_then(|m| m.access.as_ref()) else {
                continue;
            };
            let last = self
                .ledger
                .history(|h| h.good_profiles(&env, name, below, 1))?;
            let Some(last) = last.first() else { continue };
            let blob = self.profiles(&mut blobs, last.profiles.0)?;
            let Some(before) = blob.get(name).and_then(|m| m.access.clone()) else {
                continue;
            };
            let known = match &roles {
                Some(known) => known,
                None => match self.engine.roles() {
                    Ok(all) => roles.insert(all),
                    Err(error) => {
                        found.push(unknown("access", None, &error));
                        return Ok(found);
                    }
                },
            };
            found.extend(access::findings(name, &before, now, known));
        }
        Ok(found)
    }

    /// How the measured relations were in good releases, the newest first. What was built again with
    /// the very same rows is taken for measured: it is as it was, and may have had to go on.
    pub(super) fn past(
        &mut self,
        of: &Subject<'_>,
        measured: &mut BTreeMap<RelationName, RelationProfile>,
        artefacts: &Artefacts,
    ) -> Result<BTreeMap<RelationName, Vec<Past>>, OperateError> {
        let env = self.ledger.env().to_owned();
        let mut blobs = Blobs::new();
        let mut out = BTreeMap::new();
        let names: BTreeSet<RelationName> = measured.keys().chain(of.built).cloned().collect();
        let seconds = seconds(artefacts);
        for name in names {
            let good = self
                .ledger
                .history(|h| h.good_profiles(&env, &name, of.release, GOOD))?;
            let mut past = Vec::new();
            for one in good {
                let blob = self.profiles(&mut blobs, one.profiles.0)?;
                if let Some(profile) = blob.get(&name) {
                    past.push(Past {
                        release: one.release,
                        at: one.at,
                        profile: profile.clone(),
                    });
                }
            }
            if let (Some(last), false) = (past.first(), measured.contains_key(&name))
                && !of.changes.contains_key(&name)
            {
                let profile = RelationProfile {
                    seconds: seconds.get(&name).copied(),
                    ..last.profile.clone()
                };
                measured.insert(name.clone(), profile);
            }
            out.insert(name, past);
        }
        Ok(out)
    }
}
