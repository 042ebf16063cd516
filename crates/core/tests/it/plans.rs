//! What is planned for a wish: cases as data, and what a person would be shown, as golden files
//! beside them.

use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use unship_core::engine::{Proving, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::{Column, RelationKind, RelationState};
use unship_core::release::{Operation, Version, VersionId};
use unship_core::restore::{Map, Wish};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    operation: Operation,
    only: Option<BTreeSet<RelationName>>,
    #[serde(default)]
    stay: BTreeSet<RelationName>,
    live: BTreeMap<RelationName, Relation>,
    target: BTreeMap<RelationName, Relation>,
}

/// A version, as short as it can be written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relation {
    id: String,
    #[serde(default)]
    owned: bool,
    #[serde(default)]
    gone: bool,
    rows: Option<u64>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    read_by: Vec<RelationName>,
    kind: Option<RelationKind>,
}

impl Relation {
    fn version(self) -> Version {
        let (release, drift) = self.id.split_once('+').unwrap_or((&self.id, "0"));
        let columns = self.columns.iter().map(|column| {
            let (name, data_type) = column.split_once(' ').unwrap();
            Column {
                name: name.to_owned(),
                data_type: data_type.to_owned(),
                nullable: true,
            }
        });
        let state = RelationState {
            kind: self.kind.unwrap_or(RelationKind::Table),
            columns: columns.collect(),
            definition: String::new(),
            dependents: self.read_by.clone(),
            rows: self.rows,
            fingerprint: None,
            storage: None,
        };
        Version {
            id: VersionId {
                release: release.parse().unwrap(),
                drift: drift.parse().unwrap(),
            },
            owned: self.owned,
            state: (!self.gone).then_some(state),
        }
    }
}

fn map(relations: BTreeMap<RelationName, Relation>) -> Map {
    relations
        .into_iter()
        .map(|(name, relation)| (name, relation.version()))
        .collect()
}

/// What is planned, as a person would read it.
fn planned(case: Case) -> String {
    let about = case.about;
    let wish = Wish {
        env: "prod".to_owned(),
        release: ReleaseId(3),
        operation: case.operation,
        live: ReleaseId(2),
        live_map: map(case.live),
        target_map: map(case.target),
        stay: case.stay,
        only: case.only,
        points: Vec::new(),
        pinned: Default::default(),
        proving: Proving::Nowhere,
    };
    let request = match wish.request() {
        Ok(request) => request,
        Err(error) => return format!("{about}\n\nrefused: {error}\n"),
    };
    let plan = wish.plan(&request, &BTreeMap::new(), Steps::default());
    assert_eq!(
        plan,
        wish.plan(&request, &BTreeMap::new(), Steps::default())
    );
    let names = |map: &Map| -> BTreeMap<String, String> {
        map.iter()
            .map(|(name, version)| {
                let there = match version.state {
                    Some(_) => "",
                    None => ", not there",
                };
                let owner = if version.owned { "" } else { ", of others" };
                (name.to_string(), format!("{}{owner}{there}", version.id))
            })
            .collect()
    };
    let plain = |names: &mut dyn Iterator<Item = &RelationName>| -> Vec<String> {
        names.map(ToString::to_string).collect()
    };
    let impact = &plan.impact;
    let changes: BTreeMap<_, _> = impact
        .changes
        .iter()
        .map(|(name, change)| (name.to_string(), change))
        .collect();
    let words = |map: &BTreeMap<RelationName, String>| -> BTreeMap<String, String> {
        map.iter()
            .map(|(name, what)| (name.to_string(), what.clone()))
            .collect()
    };
    let shown = json!({
        "bring": names(&request.bring),
        "remove": plain(&mut request.remove.iter()),
        "changes": changes,
        "untouched": impact.untouched,
        "kept": words(&impact.kept),
        "set_aside": words(&impact.set_aside),
        "stale": plain(&mut impact.stale.iter()),
        "result": names(&plan.result),
    });
    let shown = serde_json::to_string_pretty(&shown).unwrap();
    format!("{about}\n\n{shown}\n")
}

#[test]
fn every_case_is_planned_as_it_was() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&dir);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut cases = 0;
    for file in std::fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let case: Case = serde_json::from_slice(&std::fs::read(&path).unwrap())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        settings.bind(|| insta::assert_snapshot!(name, planned(case)));
        cases += 1;
    }
    assert!(cases >= 12, "only {cases} cases were found");
}
