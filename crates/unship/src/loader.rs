//! Where loaders and packages remember how far they came. A table that goes back without its cursor
//! loses rows at the next load, and a cursor that goes back without its table brings rows twice; the
//! next load reports neither.

use crate::config::Config;
use crate::error::CliResult;
use crate::scope;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::ident::RelationName;
use unship_core::log::Ledger;
use unship_core::plan::Plan;
use unship_core::release::{Operation, Version};
use unship_core::restore::{Map, present};

/// A state table that the configuration declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// The table, as `schema.name`.
    pub relation: String,
    /// What it remembers the state of, each in dbt's selector syntax.
    pub describes: Vec<String>,
}

/// A table in which somebody remembers how far they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The table.
    pub relation: RelationName,
    /// Whose it is.
    pub of: String,
    /// The relations that it is about.
    pub describes: BTreeSet<RelationName>,
}

/// The state tables that production has: declared, or known by name.
pub fn states(config: &Config, ledger: &Ledger, live: &Map) -> CliResult<Vec<State>> {
    let mut out = Vec::new();
    let release = ledger.history(|h| h.live(ledger.env()))?;
    for declared in &config.states {
        let named = |name: &&RelationName| {
            let full = format!("{}.{}", name.schema, name.name);
            full == declared.relation || name.to_string() == declared.relation
        };
        let (Some(relation), Some(release)) = (live.keys().find(named), &release) else {
            continue;
        };
        // What selects nothing yet, or no more, is no reason not to roll back.
        let found = scope::relations(ledger, release.release, &declared.describes, &[]);
        let describes = found.map(|(_, picked)| picked).unwrap_or_default();
        out.push(State {
            relation: relation.clone(),
            of: "declared in unship.toml".to_owned(),
            describes,
        });
    }
    for (name, version) in live {
        let declared = out.iter().any(|state| state.relation == *name);
        if let Some((of, tells)) = known(name, version).filter(|_| !declared) {
            let about = live.iter().filter(|(other, version)| {
                let itself = known(other, version).is_some();
                !itself && present(Some(version)).is_some() && tells(name, other, version)
            });
            out.push(State {
                relation: name.clone(),
                of: of.to_owned(),
                describes: about.map(|(other, _)| other.clone()).collect(),
            });
        }
    }
    Ok(out)
}

/// Where dlt keeps the cursors of its pipelines.
const DLT_STATE: &str = "_dlt_pipeline_state";

/// Whether a state table (the first) is about a relation.
type Tells = fn(&RelationName, &RelationName, &Version) -> bool;

/// Whose state a table holds, by its name and columns.
fn known(name: &RelationName, version: &Version) -> Option<(&'static str, Tells)> {
    let of = version.state.as_ref()?;
    let has = |column: &str| of.columns.iter().any(|c| c.name == column);
    match name.name.as_str() {
        DLT_STATE | "_dlt_loads" | "_dlt_version" => Some(("dlt's", |state, other, _| {
            (&state.database, &state.schema) == (&other.database, &other.schema)
        })),
        "_airbyte_destination_state" | "_airbyte_state" => Some(("Airbyte's", |_, _, version| {
            columns(version).any(|c| c == "_airbyte_raw_id" || c == "_airbyte_ab_id")
        })),
        "singer_state" => Some(("Singer's", singer)),
        "state" if has("partial_state") && has("completed_state") => Some(("Meltano's", singer)),
        name if name.starts_with("snowplow_") && name.ends_with("_incremental_manifest") => {
            Some(("a Snowplow package's", |state, other, _| {
                state.database == other.database && other.name.starts_with("snowplow_")
            }))
        }
        _ => None,
    }
}

fn singer(_: &RelationName, _: &RelationName, version: &Version) -> bool {
    columns(version).any(|c| c.starts_with("_sdc_"))
}

fn columns(version: &Version) -> impl Iterator<Item = &str> {
    let columns = version.state.iter().flat_map(|state| &state.columns);
    columns.map(|column| column.name.as_str())
}

/// The state tables that go back with what is selected.
pub fn along(states: &[State], selected: &BTreeSet<RelationName>) -> BTreeSet<RelationName> {
    let about = states
        .iter()
        .filter(|state| !state.describes.is_disjoint(selected));
    about.map(|state| state.relation.clone()).collect()
}

/// Says in a plan which tables part from their state.
pub fn tell(config: &Config, ledger: &Ledger, plan: &mut Plan) -> CliResult<()> {
    let live = ledger.history(|h| h.map(plan.from))?.unwrap_or_default();
    let target = match plan.operation.target() {
        Some(target) => ledger.history(|h| h.map(target))?.unwrap_or_default(),
        None => return Ok(()),
    };
    let rows = matches!(plan.operation, Operation::Rollback { rows: Some(_), .. });
    for state in states(config, ledger, &live)? {
        let back: Vec<&RelationName> = state
            .describes
            .iter()
            .filter(|name| plan.result.contains_key(*name))
            .collect();
        let id = |map: &Map| present(map.get(&state.relation)).map(|v| v.id);
        let as_then = id(&live) == id(&target);
        let (table, of) = (&state.relation, &state.of);
        if table.name == DLT_STATE && plan.result.contains_key(table) && !rows {
            plan.notes.push(format!(
                "dlt keeps a copy of its state where it runs, and goes on from that where it is newer \
                 than {table}: remove the pipeline's working directory before its next load, or it \
                 leaves out what goes back"
            ));
        }
        let note = match (back.as_slice(), plan.result.contains_key(table)) {
            ([], true) => format!(
                "{table} ({of}) goes back, and nothing that it describes does: the next load may \
                 bring rows twice"
            ),
            ([], false) => continue,
            ([first, ..], false) if !as_then || rows => format!(
                "{table} ({of}) says where the next load goes on, and stays as it is while {first}{} \
                 goes back: the next load leaves out what is missing then. Set its cursor back, or \
                 load again from before that",
                match back.len() {
                    1 => String::new(),
                    n => format!(" with {} more", n - 1),
                }
            ),
            _ => continue,
        };
        plan.notes.push(note);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use unship_core::ident::ReleaseId;
    use unship_core::relation::{Column, RelationKind, RelationState};
    use unship_core::release::VersionId;

    fn table(columns: &[&str]) -> Version {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            data_type: "text".to_owned(),
            nullable: true,
        };
        Version {
            id: VersionId {
                release: ReleaseId(1),
                drift: 0,
            },
            owned: true,
            state: Some(RelationState {
                kind: RelationKind::Table,
                columns: columns.iter().map(column).collect(),
                definition: String::new(),
                dependents: Vec::new(),
                rows: None,
                fingerprint: None,
                storage: None,
            }),
        }
    }

    #[test]
    fn loaders_are_known_by_their_tables_and_what_they_load_by_its_columns() {
        let name = |schema: &str, name: &str| RelationName::new("d", schema, name);
        let live = Map::from([
            (name("raw", "_dlt_pipeline_state"), table(&["version_hash"])),
            (name("raw", "_dlt_loads"), table(&["load_id"])),
            (name("raw", "orders"), table(&["id", "_dlt_load_id"])),
            (name("other", "orders"), table(&["id"])),
            (
                name("airbyte_internal", "_airbyte_destination_state"),
                table(&["name"]),
            ),
            (name("ab", "users"), table(&["id", "_airbyte_raw_id"])),
            (
                name("meltano", "state"),
                table(&["state_id", "partial_state", "completed_state"]),
            ),
            (name("tap", "items"), table(&["id", "_sdc_batched_at"])),
            (name("shop", "state"), table(&["code", "name"])),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let store = unship_core::ledger::SqliteLedger::create(
            &dir.path().join("ledger.db"),
            Ledger::views(),
        );
        let ledger = Ledger::new(store.unwrap(), "prod", "ana");
        let config = "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"duckdb\"\n\
                      path = \"d.duckdb\"\n";
        let config = Config::parse(config).unwrap();
        let found = states(&config, &ledger, &live).unwrap();
        let about: Vec<(String, String, Vec<String>)> = found
            .iter()
            .map(|s| {
                let describes = s.describes.iter().map(ToString::to_string);
                (s.relation.to_string(), s.of.clone(), describes.collect())
            })
            .collect();
        let one = |relation: &str, of: &str, about: &str| {
            (relation.to_owned(), of.to_owned(), vec![about.to_owned()])
        };
        assert_eq!(
            about,
            [
                one(
                    "d.airbyte_internal._airbyte_destination_state",
                    "Airbyte's",
                    "d.ab.users"
                ),
                one("d.meltano.state", "Meltano's", "d.tap.items"),
                one("d.raw._dlt_loads", "dlt's", "d.raw.orders"),
                one("d.raw._dlt_pipeline_state", "dlt's", "d.raw.orders"),
            ]
        );
        let selected = BTreeSet::from([name("ab", "users")]);
        let along: Vec<_> = along(&found, &selected).into_iter().collect();
        assert_eq!(
            along,
            [name("airbyte_internal", "_airbyte_destination_state")]
        );
    }
}
