//! What a dbt job left, as checks read it.

use super::{OperateError, Session};
use crate::check::{Finding, dbt};
use crate::ident::{RelationName, ReleaseId};
use crate::lineage::Lineage;
use crate::pipeline::dbt::manifest::{Manifest, ResourceType};
use crate::pipeline::dbt::run_results::RunResults;
use crate::pipeline::dbt::sources::Freshness;
use crate::release::JobEnd;
use std::collections::{BTreeMap, BTreeSet};

/// The names under which a dbt job's artefacts are kept.
const MANIFEST: &str = "manifest.json";
const RUN_RESULTS: &str = "run_results.json";
const SOURCES: &str = "sources.json";

/// A dbt job's artefacts.
#[derive(Default)]
pub(super) struct Artefacts {
    pub lineage: Option<Lineage>,
    pub results: Option<RunResults>,
    pub freshness: Option<Freshness>,
}

impl Session<'_> {
    /// What a job left, as far as it can be read.
    pub(super) fn artefacts(&self, end: Option<&JobEnd>) -> Result<Artefacts, OperateError> {
        let Some(end) = end else {
            return Ok(Artefacts::default());
        };
        let read = |name: &str| -> Result<Option<Vec<u8>>, OperateError> {
            let blob = end.artefacts.get(name);
            Ok(blob.map(|blob| self.ledger.get_blob(&blob.0)).transpose()?)
        };
        let manifest = read(MANIFEST)?.and_then(|bytes| Manifest::parse(&bytes).ok());
        Ok(Artefacts {
            lineage: manifest.map(Lineage::new),
            results: read(RUN_RESULTS)?.and_then(|bytes| RunResults::parse(&bytes).ok()),
            freshness: read(SOURCES)?.and_then(|bytes| Freshness::parse(&bytes).ok()),
        })
    }
}

impl Session<'_> {
    /// What the jobs built that made the states of these releases, each after all that it reads, as
    /// far as they say it. What the first of them does not build comes after all that it does.
    pub(super) fn built_in_order(
        &self,
        releases: [ReleaseId; 2],
    ) -> Result<Vec<RelationName>, OperateError> {
        let mut out = Vec::new();
        let mut known = BTreeSet::new();
        for release in releases {
            let origin = self.known(self.known(release)?.origin)?;
            // What cannot be read any more is no reason not to go back.
            let artefacts = self.artefacts(origin.end.as_ref()).unwrap_or_default();
            let Some(lineage) = artefacts.lineage else {
                continue;
            };
            // A circle has no order.
            let ids = lineage.topological_order().unwrap_or_default();
            let nodes = ids
                .iter()
                .filter_map(|id| lineage.manifest().nodes.get(*id));
            let built = nodes.filter(|node| node.resource_type.is_built());
            out.extend(
                built
                    .filter_map(|node| node.relation.clone())
                    .filter(|name| known.insert(name.clone())),
            );
        }
        Ok(out)
    }
}

/// What the pipeline says.
pub(super) fn said(artefacts: &Artefacts) -> Vec<Finding> {
    let manifest = artefacts.lineage.as_ref().map(Lineage::manifest);
    let mut all = Vec::new();
    if let (Some(results), Some(manifest)) = (&artefacts.results, manifest) {
        all.extend(dbt::results(results, manifest));
    }
    if let Some(freshness) = &artefacts.freshness {
        all.extend(dbt::freshness(freshness, manifest));
    }
    all
}

/// How long each relation took to build.
pub(super) fn seconds(artefacts: &Artefacts) -> BTreeMap<RelationName, f64> {
    let (Some(lineage), Some(results)) = (&artefacts.lineage, &artefacts.results) else {
        return BTreeMap::new();
    };
    let nodes = &lineage.manifest().nodes;
    let timed = results.results.iter().filter_map(|result| {
        let node = nodes.get(&result.unique_id)?;
        let built = node.resource_type != ResourceType::Test;
        Some((
            node.relation.clone().filter(|_| built)?,
            result.execution_time,
        ))
    });
    timed.collect()
}
